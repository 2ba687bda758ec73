"""The ScaledObject: KEDA scales the model's Deployment by triggers, by an autoscaler of its own."""

from slipway_operator.api.model_deployment import Json, ModelDeployment
from slipway_operator.api.spec import Autoscaling, Trigger
from slipway_operator.build.labels import child_metadata
from slipway_operator.build.whole import Whole


def scaled_object(model: ModelDeployment) -> Json | None:
    """The ScaledObject, or None without triggers or for a model that is scaled to zero by hand."""
    autoscaling = model.spec.autoscaling
    if autoscaling is None or not autoscaling.triggers or model.spec.replicas == 0:
        return None
    spec: Json = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": model.name},
        "minReplicaCount": autoscaling.min_replicas,
        "maxReplicaCount": autoscaling.max_replicas,
        "triggers": [
            *_resources(autoscaling),
            *(_trigger(trigger) for trigger in autoscaling.triggers),
        ],
    }
    times = {
        "pollingInterval": autoscaling.polling_interval_seconds,
        "cooldownPeriod": autoscaling.cooldown_seconds,
    }
    spec.update({field: seconds for field, seconds in times.items() if seconds is not None})
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": child_metadata(model),
        "spec": spec,
    }


def _resources(autoscaling: Autoscaling) -> list[Json]:
    targets = {
        "cpu": autoscaling.target_cpu_utilization,
        "memory": autoscaling.target_memory_utilization,
    }
    return [
        {"type": name, "metricType": "Utilization", "metadata": {"value": str(target)}}
        for name, target in targets.items()
        if target
    ]


def _trigger(trigger: Trigger) -> Json:
    told = trigger.model_dump(mode="json", by_alias=True, exclude_none=True)
    return Whole(told, metadata=Whole(told["metadata"]))
