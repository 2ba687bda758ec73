"""kube-proxy of the one real node: Services as nftables rules."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from slipway_dev.component import Component, Stage
from slipway_dev.controlplane import component_kubeconfig
from slipway_dev.kubelet import NODE_NAME
from slipway_dev.network import LOOPBACK, POD_NETWORK
from slipway_dev.probes import http_probe
from slipway_dev.state import State


def component(state: State, binaries: Mapping[str, Path]) -> Component:
    """Return kube-proxy as a part of the cluster."""
    return Component(
        "kube-proxy",
        Stage.CLIENTS,
        [binaries["kube-proxy"], f"--config={_configuration_file(state)}"],
        http_probe(f"http://{LOOPBACK}:{state.ports['kube-proxy-health']}/livez"),
    )


def prepare(state: State) -> None:
    """Write the configuration of kube-proxy."""
    _configuration_file(state).write_text(json.dumps(configuration(state), indent=2))


def configuration(state: State) -> dict[str, object]:
    """Render the KubeProxyConfiguration."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "hostnameOverride": NODE_NAME,
        "clusterCIDR": str(POD_NETWORK),
        "clientConnection": {"kubeconfig": str(component_kubeconfig(state, "kube-proxy"))},
        # Pods of one bridge answer each other directly, past the translation of the Service's
        # address, unless the request seems to come from the node.
        "nftables": {"masqueradeAll": True, "minSyncPeriod": "100ms"},
        "conntrack": {"maxPerCore": 0, "min": 0},  # the machine's own limits are not ours
        "healthzBindAddress": f"{LOOPBACK}:{state.ports['kube-proxy-health']}",
        "metricsBindAddress": f"{LOOPBACK}:{state.ports['kube-proxy-metrics']}",
    }


def _configuration_file(state: State) -> Path:
    return state.folder / "kube-proxy.json"
