"""The HorizontalPodAutoscaler on the model's Deployment."""

from slipway_operator.api.model_deployment import Json, ModelDeployment
from slipway_operator.api.spec import Autoscaling
from slipway_operator.build.labels import child_metadata


def horizontal_pod_autoscaler(model: ModelDeployment) -> Json | None:
    """The autoscaler; None when none was asked for, KEDA makes it by triggers, or the model is
    scaled to zero by hand.
    """
    autoscaling = model.spec.autoscaling
    if autoscaling is None or autoscaling.triggers or model.spec.replicas == 0:
        return None
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": child_metadata(model),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": model.name},
            "minReplicas": autoscaling.min_replicas,
            "maxReplicas": autoscaling.max_replicas,
            "metrics": _metrics(autoscaling),
        },
    }


def _metrics(autoscaling: Autoscaling) -> list[Json]:
    targets = {
        "cpu": autoscaling.target_cpu_utilization,
        "memory": autoscaling.target_memory_utilization,
    }
    resources: list[Json] = [
        {
            "type": "Resource",
            "resource": {
                "name": name,
                "target": {"type": "Utilization", "averageUtilization": target},
            },
        }
        for name, target in targets.items()
        if target
    ]
    pods: list[Json] = [
        {
            "type": "Pods",
            "pods": {
                "metric": {"name": metric.name},
                "target": {"type": "AverageValue", "averageValue": metric.average_value},
            },
        }
        for metric in autoscaling.pod_metrics or ()
    ]
    return [*resources, *pods]
