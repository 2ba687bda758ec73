"""What goes wrong in the cluster around a rollout, one row a fault; more are in tests/e2e.

Each row breaks something, asks for a new version, and mends it again. The fault is named within ten
seconds in its own words, the old version never has fewer pods than it should, nothing counts as
failed, and the rollout completes by itself when the cause is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from operator_kit.api import Api, ApiError
from operator_kit.operator_process import OperatorProcess
from operator_kit.space import Space
from operator_kit.watchman import Watchman

Json = dict[str, Any]

_ADMISSION = "/apis/admissionregistration.k8s.io/v1"
_POD_RULE = {
    "apiGroups": [""],
    "apiVersions": ["v1"],
    "operations": ["CREATE"],
    "resources": ["pods"],
}


def _only_in(space: Space) -> Json:
    return {"matchLabels": {"kubernetes.io/metadata.name": space.namespace}}


def _until_pods_are_refused(space: Space) -> None:
    """Admission by configuration takes effect a little after it was written."""
    container = {"name": "probe", "image": "probe", "resources": {"requests": {"cpu": "100m"}}}
    probe = {"metadata": {"generateName": "probe-"}, "spec": {"containers": [container]}}

    def refused() -> None:
        where = f"/api/v1/namespaces/{space.namespace}/pods"
        try:
            space.api.request("POST", where, {"dryRun": "All"}, probe)
        except ApiError:
            return
        raise AssertionError("pods are still admitted")

    space.eventually(refused, within=40)


# ---- the ways to break and to mend ----


def _limit_range(space: Space) -> None:
    least = {"limits": [{"type": "Container", "min": {"cpu": "4"}}]}
    obj = {"metadata": {"name": "at-least-four"}, "spec": least}
    space.api.create("limitranges", obj, space.namespace)
    _until_pods_are_refused(space)


def _no_limit_range(space: Space) -> None:
    space.api.delete("limitranges", space.namespace, "at-least-four")


def _nothing(space: Space) -> None:
    pass


def _priority_class(space: Space) -> None:
    obj = {"metadata": {"name": f"high-{space.namespace}"}, "value": 7}
    space.api.request("POST", "/apis/scheduling.k8s.io/v1/priorityclasses", body=obj)


def _webhook(space: Space) -> None:
    """An admission webhook whose server does not answer."""
    hook = {
        "metadata": {"name": space.namespace},
        "webhooks": [
            {
                "name": "sign.example.com",
                "clientConfig": {"url": "https://127.0.0.1:1/check"},
                "rules": [_POD_RULE],
                "namespaceSelector": _only_in(space),
                "failurePolicy": "Fail",
                "timeoutSeconds": 1,
                "sideEffects": "None",
                "admissionReviewVersions": ["v1"],
            }
        ],
    }
    space.api.request("POST", f"{_ADMISSION}/validatingwebhookconfigurations", body=hook)
    _until_pods_are_refused(space)


def _no_webhook(space: Space) -> None:
    where = f"{_ADMISSION}/validatingwebhookconfigurations/{space.namespace}"
    space.api.request("DELETE", where)


def _admission_policy(space: Space) -> None:
    policy = {
        "metadata": {"name": space.namespace},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {
                "namespaceSelector": _only_in(space),
                "resourceRules": [_POD_RULE],
            },
            "validations": [{"expression": "false", "message": "images must be signed"}],
        },
    }
    binding = {
        "metadata": {"name": space.namespace},
        "spec": {"policyName": space.namespace, "validationActions": ["Deny"]},
    }
    space.api.request("POST", f"{_ADMISSION}/validatingadmissionpolicies", body=policy)
    space.api.request("POST", f"{_ADMISSION}/validatingadmissionpolicybindings", body=binding)
    _until_pods_are_refused(space)


def _no_admission_policy(space: Space) -> None:
    for resource in ("validatingadmissionpolicybindings", "validatingadmissionpolicies"):
        space.api.request("DELETE", f"{_ADMISSION}/{resource}/{space.namespace}")


# ---- the table ----


@dataclass(frozen=True)
class Fault:
    """One row: what is wrong, how it is told, and what the new version's spec adds to it."""

    name: str
    breaks: Callable[[Space], None]
    reason: str
    words: str
    mends: Callable[[Space], None]
    spec: Callable[[Space], Json] = field(default=lambda space: {})


_DENIED = "PodCreationDenied"

FAULTS = [
    Fault("limit range", _limit_range, _DENIED, "minimum cpu usage per Container", _no_limit_range),
    Fault("webhook that is down", _webhook, _DENIED, "failed calling webhook", _no_webhook),
    Fault(
        "admission policy", _admission_policy, _DENIED, "images must be signed",
        _no_admission_policy,
    ),
    Fault(
        "missing PriorityClass", _nothing, _DENIED, "no PriorityClass with name", _priority_class,
        lambda space: {"template": {"priorityClassName": f"high-{space.namespace}"}},
    ),
]  # fmt: skip


@pytest.fixture
def tidy(api: Api, space: Space) -> Iterator[None]:
    """What a row leaves behind for the whole cluster would be in the way of the next."""
    yield
    for where in (
        f"{_ADMISSION}/validatingwebhookconfigurations/{space.namespace}",
        f"{_ADMISSION}/validatingadmissionpolicybindings/{space.namespace}",
        f"{_ADMISSION}/validatingadmissionpolicies/{space.namespace}",
        f"/apis/scheduling.k8s.io/v1/priorityclasses/high-{space.namespace}",
    ):
        try:
            api.request("DELETE", where)
        except ApiError as error:
            if error.status != 404:
                raise


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_is_named_harms_nothing_and_heals(
    fault: Fault, operator: OperatorProcess, space: Space, tidy: None
) -> None:
    space.settle()
    fault.breaks(space)
    with Watchman(space) as watchman:
        space.apply(version="v2", **fault.spec(space))
        view = space.until("names it", lambda m: m.current and m.reason == fault.reason, within=10)
        assert fault.words in view.message
        assert view.row == ("Unknown", "True", "-", "True")
        assert view.serving == space.digest("v1")
        assert "lastFailure" not in view.status
        fault.mends(space)
        # The ReplicaSet controller tries again after longer and longer.
        space.until("serves v2", lambda m: m.settled and m.serving == space.digest("v2"), within=90)
    assert watchman.looks
    assert watchman.fewest >= 1, "the old version answered throughout"
    assert any(fault.words in event["message"] for event in space.events())
