"""Configurations of the cluster's programs, and the parsing of what the machine says."""

import io
import ipaddress
import json
import tarfile
import tomllib
from pathlib import Path

import pytest
import yaml

from slipway_dev import (
    audit,
    baseimage,
    cgroups,
    containerd,
    debian,
    images,
    kubeconfig,
    kubelet,
    kubeproxy,
    kwok,
    mounts,
    network,
)
from slipway_dev.pki import Authority
from slipway_dev.state import Size, State


@pytest.fixture
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("SLIPWAY_STATE", str(tmp_path))
    ports = ["kubelet", "kubelet-health", "kube-proxy-health", "kube-proxy-metrics"]
    return State("x", Size.NODE, {name: 20000 + i for i, name in enumerate(ports)})


def test_containerd_keeps_all_it_has_below_the_clusters_folder():
    text = containerd.configuration(Path("/state/x"), Path("/state/x/cni"))
    config = tomllib.loads(text)
    cri = config["plugins"]["io.containerd.grpc.v1.cri"]

    for place in (config["root"], config["state"], config["grpc"]["address"]):
        assert place.startswith("/state/x/")
    assert cri["cni"]["conf_dir"] == "/state/x/cni"
    assert cri["restrict_oom_score_adj"]
    assert cri["netns_mounts_under_state_dir"]
    assert cri["sandbox_image"] == containerd.PAUSE_IMAGE


def test_the_pause_image_is_an_archive_that_containerd_can_import(tmp_path):
    program = tmp_path / "pause"
    program.write_bytes(b"static program")

    with tarfile.open(fileobj=io.BytesIO(containerd.pause_archive(program))) as archive:
        files = {entry.name: io.BytesIO(archive.extractfile(entry).read()) for entry in archive}
    [manifest] = json.load(files["manifest.json"])
    with tarfile.open(fileobj=files[manifest["Layers"][0]]) as layer:
        mode = layer.getmember("pause").mode

    assert manifest["RepoTags"] == [containerd.PAUSE_IMAGE]
    assert mode == 0o755
    assert json.load(files[manifest["Config"]])["rootfs"]["diff_ids"][0].startswith("sha256:")


def test_the_kubelet_never_collects_images_and_stays_in_its_control_group(state):
    config = kubelet.configuration(state)

    assert config["imageGCHighThresholdPercent"] == 100
    assert config["cgroupRoot"] == f"/{cgroups.ROOT}"
    assert config["containerRuntimeEndpoint"] == f"unix://{containerd.socket(state)}"
    assert config["failCgroupV1"] is False


def test_kube_proxy_leaves_the_machines_own_limits_alone(state):
    config = kubeproxy.configuration(state)

    assert config["mode"] == "nftables"
    assert config["conntrack"] == {"maxPerCore": 0, "min": 0}


def test_pods_have_addresses_of_the_pod_network_and_no_way_out(tmp_path):
    [bridge] = network.cni_configuration(tmp_path)["plugins"]

    assert bridge["ipam"]["routes"] == [{"dst": str(network.SERVICE_NETWORK)}]
    assert ipaddress.ip_address(network.NODE_ADDRESS) in network.POD_NETWORK
    assert not network.POD_NETWORK.overlaps(network.SERVICE_NETWORK)
    assert "ipMasq" not in bridge


def test_free_ports_are_distinct_and_below_node_ports():
    ports = network.free_ports(["a", "b", "c"])

    assert len(set(ports.values())) == 3
    assert all(20000 <= port < 30000 for port in ports.values())


def test_a_kubeconfig_holds_the_certificates_itself(tmp_path):
    authority = Authority(tmp_path)
    client = authority.issue("admin", "admin", ["system:masters"])

    config = yaml.safe_load(
        kubeconfig.render("x", "https://127.0.0.1:1", authority.files.certificate, client)
    )

    assert config["current-context"] == "x"
    assert set(config["users"][0]["user"]) == {"client-certificate-data", "client-key-data"}
    assert client.key.stat().st_mode & 0o777 == 0o600


def test_the_audit_policy_counts_every_write():
    for rule in audit.policy()["rules"]:
        if rule["level"] == "None":
            reads_only = set(rule.get("verbs", ())) <= {"get", "list", "watch"}
            assert "nonResourceURLs" in rule or (rule.get("verbs") and reads_only)


def test_audit_events_come_in_order_over_rotated_files_without_a_half_line(tmp_path):
    (tmp_path / "audit-2026-11-21T08-00-00.000.log").write_text('{"n": 1}\n{"n": 2}\n')
    (tmp_path / "audit-2026-11-21T09-00-00.000.log").write_text('{"n": 3}\n')
    (tmp_path / "audit.log").write_text('{"n": 4}\n{"n": ')

    assert [event["n"] for event in audit.events(tmp_path / "audit.log")] == [1, 2, 3, 4]


def test_simulated_nodes_are_of_the_cpu_pool():
    manifest = json.loads(kwok.nodes())

    assert len(manifest["items"]) == kwok.NODES
    assert {node["metadata"]["labels"]["slipway.dev/pool"] for node in manifest["items"]} == {"cpu"}


def test_the_state_of_a_cluster_survives_being_written(state):
    from slipway_dev import state as states  # noqa: PLC0415

    state.save()

    assert states.load("x") == state
    assert states.load("y") is None
    assert states.all_clusters() == [state]


@pytest.mark.parametrize(
    ("targets", "mirror"),
    [
        ("http://a.example/debian/|Debian|Debian|main\n", "http://a.example/debian"),
        (
            (
                "http://s.example/debian-security/|Debian|Debian-Security|main\n"
                "http://a.example/debian/|Debian|Debian|contrib\n"
                "http://b.example/debian/|Debian|Debian|main\n"
            ),
            "http://b.example/debian",
        ),
        ("https://apt.example/|Vendor|Vendor|main\n", None),
        ("", None),
    ],
    ids=["the main archive", "not security nor other components", "no Debian", "nothing"],
)
def test_the_mirror_is_that_of_the_main_archive(targets, mirror):
    assert debian.parse_mirror(targets) == mirror


def test_hierarchies_of_both_versions_of_control_groups_are_found():
    mixed = (
        "tmpfs /sys/fs/cgroup tmpfs rw 0 0\n"
        "cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n"
        "cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n"
    )
    unified = "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\n"

    assert cgroups.hierarchies(mixed) == [
        Path("/sys/fs/cgroup/cpu"),
        Path("/sys/fs/cgroup/unified"),
    ]
    assert cgroups.hierarchies(unified) == [Path("/sys/fs/cgroup")]


def test_mounts_below_a_folder_come_innermost_first_and_unescaped():
    table = (
        "22 1 254:0 / / rw - ext4 /dev/vda rw\n"
        "30 22 0:5 / /state/x/kubelet rw shared:1 - ext4 /dev/vda rw\n"
        "31 30 0:6 / /state/x/kubelet/pods/a\\040b rw - tmpfs tmpfs rw\n"
        "32 22 0:7 / /state/xy rw - tmpfs tmpfs rw\n"
    )

    assert mounts.below(Path("/state/x"), table) == [
        Path("/state/x/kubelet/pods/a b"),
        Path("/state/x/kubelet"),
    ]


def test_slimming_leaves_licences_and_removes_documentation(tmp_path):
    for path in (
        "usr/share/doc/bash/copyright",
        "usr/share/doc/bash/README",
        "usr/share/man/man1/bash.1.gz",
        "var/lib/apt/lists/index",
        "var/cache/apt/archives/bash.deb",
        "var/log/bootstrap.log",
        "tmp/left",
        "etc/dpkg/dpkg.cfg.d/keep",
        "etc/apt/apt.conf.d/keep",
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()

    baseimage.slim(tmp_path)

    left = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert left == {
        "usr/share/doc/bash/copyright",
        "etc/dpkg/dpkg.cfg.d/keep",
        "etc/dpkg/dpkg.cfg.d/slim",
        "etc/apt/apt.conf.d/keep",
        "etc/apt/apt.conf.d/slim",
    }


def test_the_bundle_of_authorities_is_a_build_secret_only_where_one_is_set(tmp_path, monkeypatch):
    for variable in ("PIP_CERT", "SSL_CERT_FILE"):
        monkeypatch.delenv(variable, raising=False)
    assert images.ca_secret() == {}

    bundle = tmp_path / "ca.pem"
    bundle.touch()
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    assert images.ca_secret() == {"ca": bundle}

    monkeypatch.setenv("PIP_CERT", str(tmp_path / "gone.pem"))
    assert images.ca_secret() == {"ca": bundle}


def test_where_no_image_was_built_none_has_a_size_and_no_daemon_is_started(tmp_path, monkeypatch):
    monkeypatch.setenv("SLIPWAY_CACHE", str(tmp_path))
    monkeypatch.setattr(images.os, "geteuid", lambda: 0)
    monkeypatch.delattr(images.docker.Daemon, "__enter__")
    assert images.built() == {}
