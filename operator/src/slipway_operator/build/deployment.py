"""The Deployment that runs one revision."""

from slipway_operator.api.model_deployment import Json, ModelDeployment
from slipway_operator.build.labels import child_metadata, selector
from slipway_operator.build.resolve import ResolvedRollout


def deployment(
    model: ModelDeployment, template: Json, rollout: ResolvedRollout, replicas: int | None
) -> Json:
    """The Deployment with a revision's stored template, verbatim.

    Args:
        model: the owner.
        template: the pod template of the revision to run.
        rollout: how it replaces the one before.
        replicas: the wanted number, or None when another field manager owns it.
    """
    spec: Json = {
        "selector": {"matchLabels": selector(model.name)},
        "template": template,
        "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {
                "maxSurge": rollout.max_surge,
                "maxUnavailable": rollout.max_unavailable,
            },
        },
        "minReadySeconds": rollout.min_ready_seconds,
        "progressDeadlineSeconds": rollout.progress_deadline_seconds,
        "revisionHistoryLimit": 10,
        # Owned, so that a paused rollout heals.
        "paused": False,
    }
    if replicas is not None:
        spec["replicas"] = replicas
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": child_metadata(model),
        "spec": spec,
    }
