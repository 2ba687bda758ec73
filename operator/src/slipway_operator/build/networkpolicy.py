"""The NetworkPolicy: the model's ports are open to everybody, and nothing else of the pod is."""

from slipway_operator.api.model_deployment import Json, ModelDeployment
from slipway_operator.api.settings import Settings
from slipway_operator.build.environment import GRPC_PORT, HTTP_PORT, HTTPS_PORT
from slipway_operator.build.labels import child_metadata, selector

_DNS_PORT = 53


def network_policy(model: ModelDeployment, settings: Settings) -> Json | None:
    """The policy, or None where the configuration or the spec has switched it off."""
    own, default = model.spec.network_policy, settings.model_network_policy
    if not (default.enabled if own.enabled is None else own.enabled):
        return None
    cidrs = default.egress_cidrs if own.egress_cidrs is None else own.egress_cidrs
    runtime, ports = model.spec.runtime, [HTTP_PORT]
    if runtime.tls:
        ports.append(HTTPS_PORT)
    if runtime.grpc:
        ports.append(GRPC_PORT)
    spec: Json = {
        "podSelector": {"matchLabels": selector(model.name)},
        "policyTypes": ["Ingress", *(["Egress"] if cidrs else [])],
        # Probes and metrics come in on the first; requests too, unless they are encrypted.
        "ingress": [{"ports": [{"port": port, "protocol": "TCP"} for port in ports]}],
    }
    if cidrs:
        spec["egress"] = [
            {"to": [{"ipBlock": {"cidr": cidr}} for cidr in cidrs]},
            # The storage is found by its name.
            {"ports": [{"port": _DNS_PORT, "protocol": name} for name in ("UDP", "TCP")]},
        ]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": child_metadata(model),
        "spec": spec,
    }
