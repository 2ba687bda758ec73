"""A ModelDeployment as the API server gives it, read into the typed spec."""

from dataclasses import dataclass, field
from typing import Any

from slipway_operator.api.names import API_VERSION, KIND
from slipway_operator.api.spec import ModelDeploymentSpec

Json = dict[str, Any]


@dataclass(frozen=True)
class ModelDeployment:
    """Identity, spec and last reported status of one ModelDeployment."""

    namespace: str
    name: str
    uid: str
    generation: int
    spec: ModelDeploymentSpec
    annotations: dict[str, str] = field(default_factory=dict[str, str])
    status: Json = field(default_factory=dict[str, Any])
    deleting: bool = False

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
        """Read an object of the API server.

        Raises:
            pydantic.ValidationError: the stored spec does not fit the models, as when the CRD of
                another version is installed.
        """
        metadata: Json = obj["metadata"]
        return cls(
            namespace=metadata["namespace"],
            name=metadata["name"],
            uid=metadata["uid"],
            generation=metadata.get("generation", 0),
            spec=ModelDeploymentSpec.model_validate(obj.get("spec", {})),
            annotations=metadata.get("annotations") or {},
            status=obj.get("status") or {},
            deleting="deletionTimestamp" in metadata,
        )
