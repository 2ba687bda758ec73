"""The Service in front of a model's pods."""

from slipway_operator.api.model_deployment import Json, ModelDeployment
from slipway_operator.build.environment import GRPC_PORT
from slipway_operator.build.labels import child_metadata, selector
from slipway_operator.build.pod import HTTPS_NAME

SERVICE_PORT = 80
ENCRYPTED_PORT = 443


def service(model: ModelDeployment, *, encrypted: bool) -> Json:
    """A ClusterIP Service on port 80, and on those of TLS and gRPC where they are asked for.

    ``encrypted``: the pods that answer now take requests over TLS alone. Port 80 leads to them too,
    where they answer 403: it is the way to those before them while they are replaced.
    """
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": child_metadata(model),
        "spec": {
            "type": "ClusterIP",
            "selector": selector(model.name),
            "ports": _ports(model, encrypted),
        },
    }


def _ports(model: ModelDeployment, encrypted: bool) -> list[Json]:
    ports: list[Json] = [
        {"name": "http", "port": SERVICE_PORT, "targetPort": "http", "protocol": "TCP"}
    ]
    if encrypted or model.spec.runtime.tls:
        ports.append(
            {
                "name": HTTPS_NAME,
                "port": ENCRYPTED_PORT,
                "targetPort": HTTPS_NAME,
                "protocol": "TCP",
                "appProtocol": "https",
            }
        )
    if model.spec.runtime.grpc:
        grpc: Json = {"name": "grpc", "port": GRPC_PORT, "targetPort": "grpc", "protocol": "TCP"}
        if not encrypted:
            # HTTP/2 without TLS: gateways and meshes ask for it by this name.
            grpc["appProtocol"] = "kubernetes.io/h2c"
        ports.append(grpc)
    return ports


def url(model: ModelDeployment, *, encrypted: bool) -> str:
    """Where the model answers inside the cluster."""
    return f"{'https' if encrypted else 'http'}://{model.name}.{model.namespace}.svc"
