"""The Service in front of a model's pods."""

from slipway_operator.api.model_deployment import Json, ModelDeployment
from slipway_operator.build.environment import GRPC_PORT
from slipway_operator.build.labels import child_metadata, selector

SERVICE_PORT = 80


def service(model: ModelDeployment) -> Json:
    """A ClusterIP Service on port 80, and on that of gRPC where it is asked for."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": child_metadata(model),
        "spec": {
            "type": "ClusterIP",
            "selector": selector(model.name),
            "ports": _ports(model),
        },
    }


def _ports(model: ModelDeployment) -> list[Json]:
    ports: list[Json] = [
        {"name": "http", "port": SERVICE_PORT, "targetPort": "http", "protocol": "TCP"}
    ]
    if model.spec.runtime.grpc:
        ports.append(
            {
                "name": "grpc",
                "port": GRPC_PORT,
                "targetPort": "grpc",
                "protocol": "TCP",
                # HTTP/2 without TLS: gateways and meshes ask for it by this name.
                "appProtocol": "kubernetes.io/h2c",
            }
        )
    return ports


def url(model: ModelDeployment) -> str:
    """Where the model answers inside the cluster."""
    return f"http://{model.name}.{model.namespace}.svc"
