"""Objects to start from. Each function gives a new one, changed as its arguments say."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from slipway_operator.api.model_deployment import Json, ModelDeployment
from slipway_operator.api.settings import Settings
from slipway_operator.api.spec import ModelDeploymentSpec

NAMESPACE = "payments"
NAME = "fraud"
NOON = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)


def digest(letter: str) -> str:
    """A digest that is easy to tell from others: 'a' gives sha256:aaaa..."""
    return "sha256:" + letter * 64


A, B, C, D = (digest(letter) for letter in "abcd")


def settings(**changes: Any) -> Settings:
    """Two pools: cpu, which lets a pod surge, and gpu, which does not."""
    plain: dict[str, Any] = {
        "pools": {
            "cpu": {"image": "registry.example/slipway-runtime:1.0"},
            "gpu": {
                "image": "registry.example/slipway-runtime-gpu:1.0",
                "providers": ["CUDAExecutionProvider"],
                "resources": {"limits": {"nvidia.com/gpu": 1}},
                "nodeSelector": {"slipway.dev/pool": "gpu"},
                "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
                "rollout": {"maxSurge": 0, "maxUnavailable": 1},
            },
        }
    }
    return Settings.model_validate({**plain, **changes})


def changed_pool(**changes: Any) -> Settings:
    """As ``settings``, with another cpu pool."""
    plain = settings().model_dump(mode="json", by_alias=True)
    plain["pools"]["cpu"] |= changes
    return Settings.model_validate(plain)


def spec(model_digest: str = A, **changes: Any) -> Json:
    """A minimal spec as the API server stores it."""
    return {
        "model": {"uri": "s3://models/fraud.onnx", "digest": model_digest},
        "pool": "cpu",
        "replicas": 1,
        **changes,
    }


def parsed_spec(model_digest: str = A, **changes: Any) -> ModelDeploymentSpec:
    return ModelDeploymentSpec.model_validate(spec(model_digest, **changes))


def model_object(
    model_digest: str = A, annotations: dict[str, str] | None = None, **changes: Any
) -> Json:
    """A ModelDeployment as a user sends it."""
    return {
        "apiVersion": "slipway.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": NAME, "namespace": NAMESPACE, "annotations": annotations or {}},
        "spec": spec(model_digest, **changes),
    }


def model(
    model_digest: str = A,
    *,
    generation: int = 1,
    annotations: dict[str, str] | None = None,
    status: Json | None = None,
    name: str = NAME,
    **changes: Any,
) -> ModelDeployment:
    return ModelDeployment(
        namespace=NAMESPACE,
        name=name,
        uid="uid-of-fraud",
        generation=generation,
        spec=parsed_spec(model_digest, **changes),
        annotations=annotations or {},
        status=status or {},
    )
