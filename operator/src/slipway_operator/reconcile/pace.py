"""Holds back a status that differs in progress alone, so that it is written only every so often.

A rollout moves in many small steps, and each would be a write. What a program acts on, such as
status and reason of a condition, is never held back.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace

from slipway_operator.api.model_deployment import Json
from slipway_operator.reconcile.observation import Observation
from slipway_operator.reconcile.plan import Plan

_SECONDS = 5.0
_MOST_REMEMBERED = 4096


class StatusPace:
    """Remembers when each ModelDeployment's status was written last."""

    def __init__(
        self, seconds: float = _SECONDS, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._seconds = seconds
        self._monotonic = monotonic
        self._written: OrderedDict[str, float] = OrderedDict()

    def paced(self, plan: Plan, obs: Observation) -> Plan:
        """The plan, or the same without its status and requeued for when the status is due."""
        before = obs.model.status
        if plan.status is None or plan.status == before:
            return plan
        now = self._monotonic()
        left = self._written.get(obs.model.uid, float("-inf")) + self._seconds - now
        if left > 0 and _essence(plan.status) == _essence(before):
            due = left if plan.requeue_after is None else min(left, plan.requeue_after)
            return replace(plan, status=None, requeue_after=due)
        self._written[obs.model.uid] = now
        self._written.move_to_end(obs.model.uid)
        while len(self._written) > _MOST_REMEMBERED:
            self._written.popitem(last=False)
        return plan


def _essence(status: Json) -> Json:
    """The status without the counts of progress and without the sentences that repeat them."""
    return {
        **{key: value for key, value in status.items() if key != "progress"},
        "conditions": [
            {key: value for key, value in condition.items() if key != "message"}
            for condition in status.get("conditions") or ()
        ],
    }
