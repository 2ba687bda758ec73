"""The kubelet of the one real node."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from slipway_dev import cgroups, containerd
from slipway_dev.component import Component, Stage
from slipway_dev.controlplane import component_kubeconfig
from slipway_dev.network import LOOPBACK, NODE_ADDRESS
from slipway_dev.state import State
from slipway_dev.wait import Probe

NODE_NAME = "slipway-node"
LABELS = {"slipway.dev/pool": "cpu"}


def component(state: State, binaries: Mapping[str, Path], probe: Probe) -> Component:
    """Return the kubelet as a part of the cluster."""
    labels = ",".join(f"{key}={value}" for key, value in LABELS.items())
    return Component(
        "kubelet",
        Stage.CLIENTS,
        [
            binaries["kubelet"],
            f"--config={_configuration_file(state)}",
            f"--kubeconfig={component_kubeconfig(state, 'kubelet')}",
            f"--root-dir={state.folder / 'kubelet'}",
            f"--hostname-override={NODE_NAME}",
            f"--node-ip={NODE_ADDRESS}",
            f"--node-labels={labels}",
        ],
        probe,
        timeout=60,
    )


def empty_dir(state: State, pod_uid: str, volume: str) -> Path:
    """Return where an emptyDir volume of a pod lies."""
    volumes = state.folder / "kubelet" / "pods" / pod_uid / "volumes"
    return volumes / "kubernetes.io~empty-dir" / volume


def prepare(state: State) -> None:
    """Write the configuration of the kubelet."""
    folder = state.folder / "kubelet"
    folder.mkdir()
    _configuration_file(state).write_text(json.dumps(configuration(state), indent=2))


def configuration(state: State) -> dict[str, object]:
    """Render the KubeletConfiguration."""
    server = state.certificate("kubelet")
    folder = state.folder / "kubelet"
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": NODE_ADDRESS,
        "port": state.ports["kubelet"],
        "healthzBindAddress": LOOPBACK,
        "healthzPort": state.ports["kubelet-health"],
        "tlsCertFile": str(server.certificate),
        "tlsPrivateKeyFile": str(server.key),
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(state.authority)},
        },
        "authorization": {"mode": "Webhook"},
        "containerRuntimeEndpoint": f"unix://{containerd.socket(state)}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{cgroups.ROOT}",
        "failCgroupV1": False,
        "failSwapOn": False,
        # The disk is the developer's own: how full it is says nothing about the cluster. The limits
        # of volumes hold, and what the pods have written is looked at often.
        "evictionHard": {},
        "volumeStatsAggPeriod": "5s",
        # Images come from no registry, so one that is collected cannot come back.
        "imageGCHighThresholdPercent": 100,
        # Nothing answers DNS there, which a pod learns at once instead of by a time-out.
        "clusterDNS": [NODE_ADDRESS],
        "clusterDomain": "cluster.local",
        "resolvConf": "",
        "podLogsDir": str(folder / "pod-logs"),
        "volumePluginDir": str(folder / "volume-plugins"),
        "makeIPTablesUtilChains": False,
    }


def _configuration_file(state: State) -> Path:
    return state.folder / "kubelet" / "config.json"
