"""etcd, the API server, the controller manager and the scheduler.

The controller manager must find the API server ready: started earlier it dies on the RBAC rules
that the API server is still making.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from slipway_dev import audit, kubeconfig
from slipway_dev.component import Component, Stage
from slipway_dev.network import (
    API_SERVICE_ADDRESS,
    LOOPBACK,
    NODE_ADDRESS,
    POD_NETWORK,
    SERVICE_NETWORK,
)
from slipway_dev.pki import Authority
from slipway_dev.probes import https_probe
from slipway_dev.state import Size, State

BINARIES = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")
PORTS = ("etcd", "etcd-peer", "apiserver", "controller-manager", "scheduler")
ADMIN = "slipway-admin"
_ADMINS = "system:masters"


def prepare(state: State, authority: Authority) -> None:
    """Write the certificates, kubeconfigs and the audit policy of a new cluster."""
    services = [f"kubernetes{suffix}" for suffix in ("", ".default", ".default.svc")]
    here = [LOOPBACK, "localhost"]
    authority.issue("etcd", "etcd", hosts=here)
    authority.issue(
        "apiserver", "kube-apiserver", hosts=[*here, NODE_ADDRESS, API_SERVICE_ADDRESS, *services]
    )
    authority.issue("apiserver-kubelet-client", "kube-apiserver-kubelet-client", [_ADMINS])
    authority.signing_key("service-account")
    for name in ("controller-manager", "scheduler"):
        authority.issue(name, f"system:kube-{name}", hosts=here)
        write_kubeconfig(state, name)
    authority.issue("admin", ADMIN, [_ADMINS])
    kubeconfig.write(state.kubeconfig, _kubeconfig(state, "admin"))
    state.audit_log.parent.mkdir()
    _audit_policy(state).write_text(json.dumps(audit.policy()))


def write_kubeconfig(state: State, client: str) -> Path:
    """Write the kubeconfig of a component that has a certificate of this name."""
    path = component_kubeconfig(state, client)
    path.parent.mkdir(exist_ok=True)
    kubeconfig.write(path, _kubeconfig(state, client))
    return path


def component_kubeconfig(state: State, client: str) -> Path:
    """Return the path of a component's kubeconfig."""
    return state.folder / "kubeconfigs" / client


def components(state: State, binaries: Mapping[str, Path]) -> list[Component]:
    """Return the parts of the control plane."""
    return [
        _etcd(state, binaries),
        _apiserver(state, binaries),
        _controller_manager(state, binaries),
        _scheduler(state, binaries),
    ]


def _etcd(state: State, binaries: Mapping[str, Path]) -> Component:
    server = state.certificate("etcd")
    client, peer = _url(state, "etcd"), f"http://{LOOPBACK}:{state.ports['etcd-peer']}"
    return Component(
        "etcd",
        Stage.STORES,
        [
            binaries["etcd"],
            f"--name={state.name}",
            f"--data-dir={state.folder / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster={state.name}={peer}",
            f"--cert-file={server.certificate}",
            f"--key-file={server.key}",
            f"--trusted-ca-file={state.authority}",
            "--client-cert-auth",
            "--unsafe-no-fsync",  # the data is gone with the machine's power anyway
            "--log-level=warn",
        ],
        https_probe(f"{client}/health", state.authority, server),
    )


def _apiserver(state: State, binaries: Mapping[str, Path]) -> Component:
    server, kubelet = state.certificate("apiserver"), state.certificate("apiserver-kubelet-client")
    signing_key = state.certificate("service-account").key
    # Pods reach it at the bridge; without pods nobody but this machine needs to.
    bind = "0.0.0.0" if state.size is Size.NODE else LOOPBACK
    address = NODE_ADDRESS if state.size is Size.NODE else LOOPBACK
    reconciler = "lease" if state.size is Size.NODE else "none"  # it refuses loopback
    return Component(
        "apiserver",
        Stage.API,
        [
            binaries["kube-apiserver"],
            f"--bind-address={bind}",
            f"--advertise-address={address}",
            f"--endpoint-reconciler-type={reconciler}",
            f"--secure-port={state.ports['apiserver']}",
            f"--etcd-servers={_url(state, 'etcd')}",
            f"--etcd-cafile={state.authority}",
            f"--etcd-certfile={state.certificate('etcd').certificate}",
            f"--etcd-keyfile={state.certificate('etcd').key}",
            f"--tls-cert-file={server.certificate}",
            f"--tls-private-key-file={server.key}",
            f"--client-ca-file={state.authority}",
            f"--kubelet-certificate-authority={state.authority}",
            f"--kubelet-client-certificate={kubelet.certificate}",
            f"--kubelet-client-key={kubelet.key}",
            "--kubelet-preferred-address-types=InternalIP",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={signing_key}",
            f"--service-account-signing-key-file={signing_key}",
            f"--service-cluster-ip-range={SERVICE_NETWORK}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged=true",
            f"--audit-policy-file={_audit_policy(state)}",
            f"--audit-log-path={state.audit_log}",
            *audit.FLAGS,
        ],
        https_probe(
            f"{_url(state, 'apiserver')}/readyz?verbose",
            state.authority,
            state.certificate("admin"),
        ),
        timeout=60,
    )


def _controller_manager(state: State, binaries: Mapping[str, Path]) -> Component:
    own = component_kubeconfig(state, "controller-manager")
    server = state.certificate("controller-manager")
    return Component(
        "controller-manager",
        Stage.CLIENTS,
        [
            binaries["kube-controller-manager"],
            f"--kubeconfig={own}",
            f"--bind-address={LOOPBACK}",
            f"--secure-port={state.ports['controller-manager']}",
            f"--tls-cert-file={server.certificate}",
            f"--tls-private-key-file={server.key}",
            f"--root-ca-file={state.authority}",
            f"--service-account-private-key-file={state.certificate('service-account').key}",
            "--use-service-account-credentials=true",
            f"--cluster-cidr={POD_NETWORK}",
            "--leader-elect=false",
            "--kube-api-qps=200",
            "--kube-api-burst=400",
            *_for_simulated_nodes(state),
            *_for_tests_of_autoscaling(state),
        ],
        https_probe(f"{_url(state, 'controller-manager')}/healthz", state.authority),
    )


def _for_simulated_nodes(state: State) -> list[str]:
    """kwok never makes a pod ready again once its node was late, as on a busy machine."""
    return ["--node-monitor-grace-period=24h"] if state.size is Size.KWOK else []


def _for_tests_of_autoscaling(state: State) -> list[str]:
    """By default autoscalers look every 15 s, and take pods away 300 s after the load has gone."""
    if state.size is not Size.CONTROL_PLANE:
        return []
    return [
        "--horizontal-pod-autoscaler-sync-period=2s",
        "--horizontal-pod-autoscaler-downscale-stabilization=4s",
    ]


def _scheduler(state: State, binaries: Mapping[str, Path]) -> Component:
    own = component_kubeconfig(state, "scheduler")
    server = state.certificate("scheduler")
    return Component(
        "scheduler",
        Stage.CLIENTS,
        [
            binaries["kube-scheduler"],
            f"--kubeconfig={own}",
            f"--authentication-kubeconfig={own}",
            f"--authorization-kubeconfig={own}",
            f"--bind-address={LOOPBACK}",
            f"--secure-port={state.ports['scheduler']}",
            f"--tls-cert-file={server.certificate}",
            f"--tls-private-key-file={server.key}",
            "--leader-elect=false",
        ],
        https_probe(f"{_url(state, 'scheduler')}/healthz", state.authority),
    )


def _kubeconfig(state: State, client: str) -> str:
    return kubeconfig.render(
        f"slipway-{state.name}",
        _url(state, "apiserver"),
        state.authority,
        state.certificate(client),
    )


def _url(state: State, component: str) -> str:
    return f"https://{LOOPBACK}:{state.ports[component]}"


def _audit_policy(state: State) -> Path:
    return state.audit_log.parent / "policy.json"
