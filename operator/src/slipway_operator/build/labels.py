"""Labels of the children: two fixed ones select the pods, the rest are for people."""

from slipway_operator.api import names
from slipway_operator.api.model_deployment import ModelDeployment


def selector(name: str) -> dict[str, str]:
    """The immutable selector of a model's pods."""
    return {names.LABEL_MANAGED_BY: names.MANAGED_BY, names.LABEL_MODEL: name}


def selector_text(name: str) -> str:
    """The same as a label selector string."""
    return ",".join(f"{key}={value}" for key, value in selector(name).items())


def child_metadata(model: ModelDeployment) -> dict[str, object]:
    """Metadata of a child that bears the ModelDeployment's own name."""
    return {
        "name": model.name,
        "namespace": model.namespace,
        "labels": selector(model.name),
        "ownerReferences": [model.owner_reference()],
    }
