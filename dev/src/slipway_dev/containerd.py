"""A containerd of our own: own root, own socket, own configuration, beside any other."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import tarfile
from pathlib import Path
from typing import IO

from slipway_dev.component import Component, Stage
from slipway_dev.errors import DevError
from slipway_dev.state import State

CNI_PLUGINS = Path("/usr/lib/cni")
PAUSE_IMAGE = "slipway.dev/pause:dev"
_PROGRAM = Path("/usr/bin/containerd")
_NAMESPACE = "k8s.io"
# An image that was not loaded is refused at once, and no registry of the world is ever asked.
_NO_REGISTRY: dict[str, str] = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:1")


def socket(state: State) -> Path:
    """Return the socket of the cluster's containerd."""
    return _folder(state) / "containerd.sock"


def component(state: State, pause: Path) -> Component:
    """Return containerd as a part of the cluster; `pause` is the program of pod sandboxes."""
    return Component(
        "containerd",
        Stage.STORES,
        [_PROGRAM, f"--config={_folder(state) / 'config.toml'}"],
        lambda: _state_of_server(state),
        env=_NO_REGISTRY,
        afterwards=lambda: import_image(state, pause_archive(pause)),
    )


def prepare(state: State, cni: dict[str, object]) -> None:
    """Write the configuration of containerd and of the pod network."""
    networks = _folder(state) / "cni"
    networks.mkdir(parents=True)
    (networks / "10-slipway.conflist").write_text(json.dumps(cni, indent=2))
    (_folder(state) / "config.toml").write_text(configuration(_folder(state), networks))


def configuration(folder: Path, networks: Path) -> str:
    """Render containerd's own configuration (version 2, as containerd 1.6 reads it)."""
    return f"""\
version = 2
root = "{folder}/root"
state = "{folder}/state"
disabled_plugins = ["io.containerd.internal.v1.restart", "io.containerd.tracing.processor.v1.otlp"]

[grpc]
  address = "{folder}/containerd.sock"

[plugins."io.containerd.internal.v1.opt"]
  path = "{folder}/opt"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  # Without CAP_SYS_RESOURCE (as root in a container) a lower oom_score_adj is refused, and with it
  # every pod sandbox.
  restrict_oom_score_adj = true
  # Else network namespaces are mounted where other container engines keep theirs.
  netns_mounts_under_state_dir = true

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{CNI_PLUGINS}"
    conf_dir = "{networks}"

  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    discard_unpacked_layers = true

    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"

      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
        Root = "{folder}/runc"
"""


def import_image(state: State, archive: IO[bytes] | bytes) -> None:
    """Import a docker-archive under the names that the kubelet asks for."""
    command = [*_ctr(state), "images", "import", "-"]
    if isinstance(archive, bytes):
        done = subprocess.run(command, input=archive, capture_output=True, check=False)
    else:
        done = subprocess.run(command, stdin=archive, capture_output=True, check=False)
    if done.returncode != 0:
        raise DevError(f"containerd does not import the image: {done.stderr.decode().strip()}")


def tag_image(state: State, image: str, name: str) -> None:
    """Give an image another name. Both are as pods write them, without a registry."""
    full = [f"docker.io/{short}" for short in (image, name)]
    command = [*_ctr(state), "images", "tag", *full]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise DevError(f"containerd does not tag the image {image}: {done.stderr.strip()}")


def pause_archive(program: Path) -> bytes:
    """Return the pod sandbox image as a docker-archive: one static program and nothing else."""
    layer = _tar({"pause": (program.read_bytes(), 0o755)})
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Entrypoint": ["/pause"], "User": "65535:65535"},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{_sha256(layer)}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [PAUSE_IMAGE], "Layers": ["layer.tar"]}]
    return _tar(
        {
            "layer.tar": (layer, 0o644),
            "config.json": (json.dumps(config).encode(), 0o644),
            "manifest.json": (json.dumps(manifest).encode(), 0o644),
        }
    )


def remove_sockets(state: State) -> None:
    """Remove the sockets of killed shims: they lie where those of every containerd do."""
    tasks = _folder(state) / "state" / "io.containerd.runtime.v2.task" / _NAMESPACE
    for address in tasks.glob("*/address"):
        Path(address.read_text().removeprefix("unix://")).unlink(missing_ok=True)


def _folder(state: State) -> Path:
    return state.folder / "containerd"


def _ctr(state: State) -> list[str]:
    return ["ctr", f"--address={socket(state)}", f"--namespace={_NAMESPACE}"]


def _state_of_server(state: State) -> str | None:
    done = subprocess.run(
        [*_ctr(state), "plugins", "list", "id==cri"], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        return done.stderr.strip()
    return None if done.stdout.rstrip().endswith("ok") else f"its CRI plugin: {done.stdout}"


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _tar(files: dict[str, tuple[bytes, int]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, (content, mode) in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
