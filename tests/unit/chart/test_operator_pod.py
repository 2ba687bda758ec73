"""The operator's Deployment: restricted, probed, and restarted when its configuration changes."""

import pytest

DIGEST = "sha256:" + "a" * 64


@pytest.fixture
def template(render, pick):
    return lambda values=None, ci=None: pick(render(values, ci), "Deployment")["spec"]["template"]


def test_the_pod_satisfies_the_restricted_pod_security_standard(template):
    pod = template()["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 65532
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_a_change_of_the_configuration_starts_the_operator_anew(template):
    def checksum(values=None):
        return template(values)["metadata"]["annotations"]["checksum/config"]

    assert checksum() == checksum({"replicas": 2})
    assert checksum() != checksum({"controller": {"workers": 9}})
    assert checksum() != checksum({"pools": {"cpu": {"cacheSize": "3Gi"}}})


def test_probes_use_the_http_port(template):
    (container,) = template({"httpPort": 9000})["spec"]["containers"]
    assert container["ports"] == [{"name": "http", "containerPort": 9000, "protocol": "TCP"}]
    probes = ("startupProbe", "livenessProbe", "readinessProbe")
    assert {container[probe]["httpGet"]["port"] for probe in probes} == {"http"}


def test_the_operator_learns_its_name_and_namespace(template):
    (container,) = template()["spec"]["containers"]
    fields = {item["name"]: item["valueFrom"]["fieldRef"]["fieldPath"] for item in container["env"]}
    assert fields == {"POD_NAME": "metadata.name", "POD_NAMESPACE": "metadata.namespace"}


@pytest.mark.parametrize(
    ("values", "image"),
    [
        ({}, "slipway-operator:0.1.0"),
        ({"image": {"tag": "v9"}}, "slipway-operator:v9"),
        ({"image": {"tag": "v9", "digest": DIGEST}}, f"slipway-operator@{DIGEST}"),
        ({"registry": "r.example.com/ml/"}, "r.example.com/ml/slipway-operator:0.1.0"),
    ],
)
def test_the_image_is_named_by_registry_repository_and_digest_before_tag(template, values, image):
    assert template(values)["spec"]["containers"][0]["image"] == image


def test_what_users_add_reaches_the_pod(template):
    pod = template(ci="ha")
    assert pod["metadata"]["labels"]["team"] == "platform"
    assert pod["metadata"]["annotations"]["example.com/owner"] == "platform"
    assert pod["spec"]["imagePullSecrets"] == [{"name": "registry"}]
    assert pod["spec"]["priorityClassName"] == "system-cluster-critical"
    assert pod["spec"]["containers"][0]["env"][-1]["name"] == "HTTPS_PROXY"


def test_the_selector_picks_the_pods_labels_and_nothing_that_a_new_version_changes(render, pick):
    spec = pick(render(), "Deployment")["spec"]
    selector = spec["selector"]["matchLabels"]
    assert selector.items() <= spec["template"]["metadata"]["labels"].items()
    assert not {"helm.sh/chart", "app.kubernetes.io/version"} & set(selector)
