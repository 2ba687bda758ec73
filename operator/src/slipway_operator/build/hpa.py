"""The HorizontalPodAutoscaler on the model's Deployment."""

from slipway_operator.api.model_deployment import Json, ModelDeployment
from slipway_operator.build.labels import child_metadata


def horizontal_pod_autoscaler(model: ModelDeployment) -> Json | None:
    """The autoscaler, or None when none was asked for or the model is scaled to zero by hand."""
    autoscaling = model.spec.autoscaling
    if autoscaling is None or model.spec.replicas == 0:
        return None
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": child_metadata(model),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": model.name},
            "minReplicas": autoscaling.min_replicas,
            "maxReplicas": autoscaling.max_replicas,
            "metrics": [
                {
                    "type": "Resource",
                    "resource": {
                        "name": "cpu",
                        "target": {
                            "type": "Utilization",
                            "averageUtilization": autoscaling.target_cpu_utilization,
                        },
                    },
                }
            ],
        },
    }
