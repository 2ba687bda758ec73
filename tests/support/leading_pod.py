"""Which of the operator's pods leads."""

from __future__ import annotations

from slipway_dev.testbed import OPERATOR_NAMESPACE, Testbed
from slipway_dev.wait import wait_until

OPERATORS = ("-n", OPERATOR_NAMESPACE, "-l", "app.kubernetes.io/name=slipway")


def holder(testbed: Testbed) -> str:
    """The name of the leader's pod; empty while there is none."""
    (lease,) = testbed.cluster.get("lease", "-n", OPERATOR_NAMESPACE)["items"]
    return str(lease["spec"].get("holderIdentity") or "").rsplit("_", 1)[0]


def wait_for_a_leader(testbed: Testbed, *others: str) -> str:
    """Wait until a pod leads that is there to stay, and none of ``others``; returns its name."""

    def missing() -> str | None:
        listed = testbed.cluster.get("pods", *OPERATORS)["items"]
        staying = {
            pod["metadata"]["name"] for pod in listed if "deletionTimestamp" not in pod["metadata"]
        }
        leader = holder(testbed)
        return None if leader in staying.difference(others) else f"{leader!r} leads of {staying}"

    wait_until("another pod leads" if others else "a pod leads", missing, 30)
    return holder(testbed)
