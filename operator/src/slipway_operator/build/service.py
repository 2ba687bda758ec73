"""The Service in front of a model's pods."""

from slipway_operator.api.model_deployment import Json, ModelDeployment
from slipway_operator.build.labels import child_metadata, selector

SERVICE_PORT = 80


def service(model: ModelDeployment) -> Json:
    """A ClusterIP Service on port 80."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": child_metadata(model),
        "spec": {
            "type": "ClusterIP",
            "selector": selector(model.name),
            "ports": [
                {"name": "http", "port": SERVICE_PORT, "targetPort": "http", "protocol": "TCP"}
            ],
        },
    }


def url(model: ModelDeployment) -> str:
    """Where the model answers inside the cluster."""
    return f"http://{model.name}.{model.namespace}.svc"
