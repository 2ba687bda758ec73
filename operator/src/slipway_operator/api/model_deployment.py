"""A ModelDeployment as the API server gives it, read into the typed spec."""

from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from slipway_operator.api.names import API_VERSION, KIND
from slipway_operator.api.spec import ModelDeploymentSpec

Json = dict[str, Any]

_MISTAKES_TOLD = 5


@dataclass(frozen=True)
class ModelDeployment:
    """Identity, spec and last reported status of one ModelDeployment.

    Attributes:
        unreadable: why the stored spec does not fit the models, as when the CRD of another version
            is installed; ``spec`` then means nothing.
    """

    namespace: str
    name: str
    uid: str
    generation: int
    spec: ModelDeploymentSpec
    annotations: dict[str, str] = field(default_factory=dict[str, str])
    status: Json = field(default_factory=dict[str, Any])
    deleting: bool = False
    unreadable: str | None = None
    resource_version: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name: the key of the work queue."""
        return (self.namespace, self.name)

    def owner_reference(self) -> Json:
        """The controller reference that every child carries."""
        return {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "name": self.name,
            "uid": self.uid,
            "controller": True,
            "blockOwnerDeletion": True,
        }

    @classmethod
    def parse(cls, obj: Json) -> "ModelDeployment":
        """Read an object of the API server."""
        metadata: Json = obj["metadata"]
        unreadable: str | None = None
        try:
            spec = ModelDeploymentSpec.model_validate(obj.get("spec", {}))
        except ValidationError as error:
            spec, unreadable = ModelDeploymentSpec.model_construct(), _told(error)
        return cls(
            namespace=metadata["namespace"],
            name=metadata["name"],
            uid=metadata["uid"],
            generation=metadata.get("generation", 0),
            spec=spec,
            annotations=metadata.get("annotations") or {},
            status=obj.get("status") or {},
            deleting="deletionTimestamp" in metadata,
            unreadable=unreadable,
            resource_version=metadata.get("resourceVersion", ""),
        )


def _told(error: ValidationError) -> str:
    """The first few mistakes with their places; never a value, which may be long."""
    mistakes = error.errors(include_url=False, include_input=False)
    told = "; ".join(
        f"{'.'.join(('spec', *map(str, item['loc'])))}: {item['msg']}"
        for item in mistakes[:_MISTAKES_TOLD]
    )
    more = len(mistakes) - _MISTAKES_TOLD
    return (
        f"this operator cannot read the spec: {told}{f'; and {more} more' if more > 0 else ''}; "
        "fix the spec, or install the CustomResourceDefinition that belongs to this operator"
    )
