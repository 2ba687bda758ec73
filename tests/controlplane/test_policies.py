"""NetworkPolicy, spread and template keys, as the API server takes them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from operator_kit.api import ApiError
from operator_kit.audit import AuditLog
from operator_kit.operator_process import OperatorProcess
from operator_kit.space import MODEL, Space

Launch = Callable[..., OperatorProcess]


def _policy(space: Space) -> dict | None:
    return space.api.get("networkpolicies", space.namespace, MODEL)


def test_a_network_policy_comes_with_a_model_is_healed_and_goes_when_switched_off(
    operator: OperatorProcess, space: Space
) -> None:
    space.settle()
    policy = _policy(space)
    assert policy is not None
    assert policy["spec"]["ingress"] == [{"ports": [{"port": 8080, "protocol": "TCP"}]}]

    space.api.patch("networkpolicies", space.namespace, MODEL, {"spec": {"ingress": []}})

    def healed() -> None:
        now = _policy(space)
        assert now is not None
        assert now["spec"]["ingress"] == policy["spec"]["ingress"]

    space.eventually(healed)

    space.apply(networkPolicy={"egressCidrs": ["10.0.0.0/8", "fd00::/8"]})

    def limited() -> None:
        now = _policy(space)
        assert now is not None
        assert now["spec"]["policyTypes"] == ["Ingress", "Egress"]

    space.eventually(limited)

    space.apply(networkPolicy={"enabled": False})

    def gone() -> None:
        assert _policy(space) is None

    space.eventually(gone)
    # None of it is a matter of the pods.
    assert len(space.revisions()) == 1


def test_with_policies_and_spread_nothing_is_written_at_rest(
    operator: OperatorProcess, space: Space, audit: AuditLog
) -> None:
    spread = [
        {
            "maxSkew": 1,
            "topologyKey": "rack",
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": {"slipway.dev/model": MODEL}},
        }
    ]
    space.settle(networkPolicy={"egressCidrs": ["10.0.0.0/8"]})
    space.settle("other", template={"topologySpreadConstraints": spread})
    mark = audit.mark()
    for name in (MODEL, "other"):
        # Makes the operator look at everything again.
        patch = {"metadata": {"annotations": {"tests": "look"}}}
        space.api.patch("modeldeployments", space.namespace, name, patch)
        space.api.patch("deployments", space.namespace, name, patch)
    space.until("is served", lambda m: m.settled)

    def looked() -> None:
        reads = [r for r in audit.since(mark) if r.namespace == space.namespace]
        assert reads

    space.eventually(looked)
    written = [w for w in audit.writes(mark, operator.credential) if w.namespace == space.namespace]
    assert not written


@pytest.mark.parametrize(
    ("template", "told"),
    [
        ({"labels": {"slipway.dev/model": "other"}}, "labels beginning with slipway.dev/"),
        ({"labels": {"app.kubernetes.io/managed-by": "me"}}, "choose other names"),
        ({"annotations": {"slipway.dev/digest": "x"}}, "annotations beginning with slipway.dev/"),
        ({"annotations": {"eks.amazonaws.com/skip-containers": "x"}}, "choose other names"),
    ],
    ids=["model label", "managed-by", "digest annotation", "skip-containers"],
)
def test_keys_that_the_operator_sets_are_refused_in_the_template(
    template: dict, told: str, operator: OperatorProcess, space: Space
) -> None:
    with pytest.raises(ApiError, match=told):
        space.apply(template=template)


def test_a_network_that_is_none_is_refused(operator: OperatorProcess, space: Space) -> None:
    with pytest.raises(ApiError, match="egressCidrs"):
        space.apply(networkPolicy={"egressCidrs": ["s3.example.com"]})
