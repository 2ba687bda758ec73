"""Simulated nodes, for scale: objects without a machine, whose pods become ready at once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from slipway_dev import binaries
from slipway_dev.component import Component, Stage
from slipway_dev.controlplane import component_kubeconfig, write_kubeconfig
from slipway_dev.network import LOOPBACK, POD_NETWORK
from slipway_dev.pki import Authority
from slipway_dev.probes import http_probe
from slipway_dev.state import State

BINARIES = ("kwok",)
PORTS = ("kwok",)
NODES = 10
_NAME = "kwok"
_STAGES = ("node/fast", "node/heartbeat-with-lease", "pod/fast")


def prepare(state: State, authority: Authority) -> None:
    """Write the certificate and the kubeconfig of kwok, which plays every kubelet."""
    authority.issue(_NAME, "slipway-kwok", ["system:masters"])
    write_kubeconfig(state, _NAME)


def component(state: State, programs: Mapping[str, Path]) -> Component:
    """Return kwok as a part of the cluster."""
    server = f"{LOOPBACK}:{state.ports[_NAME]}"
    return Component(
        _NAME,
        Stage.CLIENTS,
        [
            programs["kwok"],
            f"--kubeconfig={component_kubeconfig(state, _NAME)}",
            "--manage-all-nodes",
            *(f"--config={file}" for file in _stages()),
            f"--cidr={POD_NETWORK}",
            f"--server-address={server}",
        ],
        http_probe(f"http://{server}/healthz"),
    )


def nodes() -> str:
    """Render the node objects as a manifest."""
    return json.dumps(
        {"apiVersion": "v1", "kind": "List", "items": [_node(number) for number in range(NODES)]}
    )


def _stages() -> list[Path]:
    # How nodes and pods come to life is data that kwok's sources have beside the program.
    folder = binaries.source(_NAME, "sigs.k8s.io/kwok") / "kustomize" / "stage"
    files = (file for part in _STAGES for file in sorted((folder / part).glob("*.yaml")))
    return [file for file in files if file.name != "kustomization.yaml"]


def _node(number: int) -> dict[str, object]:
    name = f"kwok-{number}"
    room = {"cpu": "1k", "memory": "4Ti", "pods": "2k"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {"slipway.dev/pool": "cpu", "kubernetes.io/hostname": name},
        },
        "status": {"capacity": room, "allocatable": room},
    }
