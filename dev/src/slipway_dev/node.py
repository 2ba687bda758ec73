"""The one real node: containerd, the kubelet and kube-proxy, and no trace of them afterwards.

The bridge, the nftables tables and the control group are global to the machine, so there is one
node at a time.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from slipway_dev import cgroups, containerd, debian, docker, kubelet, kubeproxy, mounts, network
from slipway_dev import state as states
from slipway_dev.component import Component
from slipway_dev.console import step
from slipway_dev.controlplane import write_kubeconfig
from slipway_dev.errors import DevError
from slipway_dev.kubelet import NODE_NAME
from slipway_dev.network import LOOPBACK, NODE_ADDRESS
from slipway_dev.pki import Authority
from slipway_dev.process import kill, running_with_argument
from slipway_dev.state import Size, State
from slipway_dev.wait import Probe

BINARIES = ("kubelet", "kube-proxy", "pause")
PORTS = ("kubelet", "kubelet-health", "kube-proxy-health", "kube-proxy-metrics")

_CNI_RESULTS = Path("/var/lib/cni/results")
_CONTAINER_LOGS = Path("/var/log/containers")
_FIXED_PLACES = (
    Path("/run/containerd"),
    Path("/var/lib/cni"),
    Path("/var/lib/kubelet"),
    _CONTAINER_LOGS,
)


def check_machine() -> None:
    """Make sure that this machine can run a node, installing what is missing."""
    if os.geteuid() != 0:
        raise DevError(
            "A node needs root: it makes mounts, network interfaces and control groups.",
            "Run it as root, or take --size control-plane, which needs no rights.",
        )
    debian.ensure(debian.NODE_PACKAGES)
    network.check_routes()


def check_only_one(name: str) -> None:
    """Refuse a second node under another name."""
    for other in states.all_clusters():
        if other.size is Size.NODE and other.name != name and not other.failed:
            raise DevError(
                f"Cluster {other.name} has the node of this machine: there can be only one.",
                f"dev/cluster down --name {other.name} removes it.",
            )
    if network.bridge_exists():
        raise DevError(
            f"The bridge {network.BRIDGE} exists, and no known cluster made it.",
            "Was it one with another SLIPWAY_STATE? Take that one down, "
            f"or remove what is left of it: ip link delete {network.BRIDGE}",
        )


def prepare(state: State, authority: Authority) -> None:
    """Set up the machine and write the node's certificates and configurations."""
    authority.issue(
        "kubelet",
        f"system:node:{NODE_NAME}",
        ["system:nodes"],
        hosts=[NODE_NAME, NODE_ADDRESS, LOOPBACK],
    )
    authority.issue("kube-proxy", "system:kube-proxy")
    for client in ("kubelet", "kube-proxy"):
        write_kubeconfig(state, client)
    network.create_bridge()
    network.set_forwarding(True)
    cgroups.create()
    containerd.prepare(state, network.cni_configuration(state.folder / "cni-addresses"))
    kubelet.prepare(state)
    kubeproxy.prepare(state)


def components(state: State, binaries: Mapping[str, Path], node_is_ready: Probe) -> list[Component]:
    """Return the parts of the node."""
    return [
        containerd.component(state, binaries["pause"]),
        kubelet.component(state, binaries, node_is_ready),
        kubeproxy.component(state, binaries),
    ]


def load_images(state: State, images: Sequence[str]) -> None:
    """Bring images from our Docker daemon to the node, where it does not have them already."""
    with docker.Daemon() as daemon:
        for image in images:
            identity = daemon.identity(image)
            # The node never drops an image, so what was loaded once is there.
            loaded = state.folder / "images" / quote(image, safe="")
            if loaded.exists() and loaded.read_text() == identity:
                continue
            with step(f"Load {image}"), daemon.save(image) as archive:
                containerd.import_image(state, archive)
            loaded.parent.mkdir(exist_ok=True)
            loaded.write_text(identity)


def tag_image(state: State, image: str, name: str) -> None:
    """Give an image that the node has another name, by which pods may then ask for it."""
    containerd.tag_image(state, image, name)


def remove_traces(state: State) -> None:
    """Remove all that a node leaves behind once its programs are stopped, however they ended."""
    for shim in running_with_argument(str(containerd.socket(state))):
        kill(shim)
    cgroups.remove()
    mounts.unmount_below(state.folder)
    network.remove_proxy_rules()
    network.remove_bridge()
    network.set_forwarding(state.forwarded)
    containerd.remove_sockets(state)
    _remove_from_fixed_places(state)


def absent_places() -> tuple[str, ...]:
    """Return which of the places that no option can move are not on this machine yet."""
    return tuple(str(place) for place in _FIXED_PLACES if not place.exists())


def _remove_from_fixed_places(state: State) -> None:
    for place in state.absent:
        shutil.rmtree(place, ignore_errors=True)
    for result in _CNI_RESULTS.glob(f"{network.CNI_NAME}-*"):
        container = result.name.removeprefix(f"{network.CNI_NAME}-").partition("-")[0]
        for related in _CNI_RESULTS.glob(f"*-{container}-*"):
            related.unlink()
    for link in _CONTAINER_LOGS.glob("*.log"):
        if link.is_symlink() and link.readlink().is_relative_to(state.folder):
            link.unlink()
