"""The base of every model of the resource, and the OpenAPI hints that pydantic lacks."""

from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class Schema(BaseModel):
    """A part of the resource: camelCase in Kubernetes, snake_case in Python, immutable.

    Unknown fields are ignored, since a newer CRD may serve an older operator.
    """

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore"
    )


def cel(rule: str, message: str, **more: str) -> dict[str, str]:
    """One CEL validation; the message tells the user how to fix the value."""
    return {"rule": rule, "message": message, **more}


def validated(*rules: dict[str, str]) -> dict[str, Any]:
    """The ``json_schema_extra`` that puts CEL validations on an object."""
    return {"x-kubernetes-validations": list(rules)}


# Kubernetes' own types are passed through to the pod: the API server validates them there, and
# repeating their schema would make the CRD large and tie it to one Kubernetes release.
OPAQUE_OBJECT: dict[str, Any] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
INT_OR_STRING: dict[str, Any] = {"x-kubernetes-int-or-string": True}
