"""``spec.rollout``: how one revision replaces another."""

from enum import StrEnum

from pydantic import Field

from slipway_operator.api.schema import Schema
from slipway_operator.api.spec.values import IntOrPercent


class OnFailure(StrEnum):
    """What to do when a rollout has failed."""

    ROLLBACK = "Rollback"
    HOLD = "Hold"


class Rollout(Schema):
    """How one revision replaces another. What is absent comes from the pool."""

    max_surge: IntOrPercent | None = Field(
        default=None, description="Pods above the wanted number during a rollout."
    )
    max_unavailable: IntOrPercent | None = Field(
        default=None, description="Pods that may be missing during a rollout."
    )
    min_ready_seconds: int | None = Field(
        default=None, ge=0, description="How long a pod must be ready before it counts."
    )
    progress_deadline_seconds: int | None = Field(
        default=None, ge=1, description="A rollout without progress for this long has failed."
    )
    on_failure: OnFailure = Field(
        default=OnFailure.ROLLBACK,
        description="Rollback: return to the last good revision. Hold: leave everything as it is.",
    )
