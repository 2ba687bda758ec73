"""The PodDisruptionBudget: from two pods on, one at a time may be taken away."""

from slipway_operator.api.model_deployment import Json, ModelDeployment
from slipway_operator.build.labels import child_metadata, selector


def pod_disruption_budget(model: ModelDeployment) -> Json | None:
    """The budget, or None for a model with one pod: there it would only block node drains."""
    spec = model.spec
    least = spec.autoscaling.min_replicas if spec.autoscaling else spec.replicas
    if least < 2:  # noqa: PLR2004 - "from two pods on"
        return None
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": child_metadata(model),
        "spec": {
            "maxUnavailable": 1,
            "selector": {"matchLabels": selector(model.name)},
            # A pod that never became ready protects nobody.
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }
