"""What befalls the operator, or what it stands on, is nothing that a model's clients notice."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fault_record import RecordFault
from leading_pod import OPERATORS, holder, wait_for_a_leader
from operator_kit.outage import Etcd, Outage
from steady_checks import assert_nothing_failed, wait_for_more_answers

from slipway_dev.testbed import OPERATOR_NAMESPACE, Artifact, Testbed, condition, is_ready
from slipway_dev.traffic import SteadyTraffic, Tally
from slipway_dev.wait import wait_until

NAME = "linear"
NEXT_IMAGE = "next"


class Loaded:
    """A model of two pods under steady load, whose first version serves."""

    def __init__(
        self,
        testbed: Testbed,
        namespace: str,
        versions: tuple[Artifact, Artifact],
        traffic: SteadyTraffic,
        request: pytest.FixtureRequest,
    ) -> None:
        self.testbed = testbed
        self.namespace = namespace
        self.old, self.new = versions
        self.traffic = traffic
        self._request = request

    def apply(self, artifact: Artifact) -> None:
        self.testbed.apply(self.testbed.model(self.namespace, NAME, artifact, replicas=2))

    def begin_rollout(self) -> None:
        """Ask for the new version, and return once the operator has begun to roll it out."""
        self.apply(self.new)
        self.testbed.wait_for(
            self.namespace,
            NAME,
            "rolling",
            lambda m: condition(m, "Reconciling").get("status") == "True",
        )

    def wait_until_rolled_out(self) -> None:
        def holds(model: dict[str, Any]) -> bool:
            return is_ready(model) and model["status"]["serving"]["digest"] == self.new.digest

        self.testbed.wait_for(self.namespace, NAME, "rolled out", holds, timeout=120)
        wait_for_more_answers(self.traffic, self.new)

    def judged(self) -> Tally:
        """Return the tally, in which nothing may have failed."""
        tally = self.traffic.tally
        assert_nothing_failed(tally, self._request)
        return tally

    def pod_uids(self) -> set[str]:
        listed = self.testbed.cluster.get("pods", "-n", self.namespace)["items"]
        return {pod["metadata"]["uid"] for pod in listed}


@pytest.fixture
def loaded(
    testbed: Testbed,
    namespace: str,
    versions: tuple[Artifact, Artifact],
    traffic: SteadyTraffic,
    request: pytest.FixtureRequest,
) -> Loaded:
    return Loaded(testbed, namespace, versions, traffic, request)


@pytest.fixture
def reinstalled(testbed: Testbed) -> Iterator[None]:
    """The operator is as it was before, afterwards."""
    yield
    testbed.install_operator()


@pytest.fixture
def outage(testbed: Testbed) -> Iterator[Outage]:
    """The API server is there again afterwards, whatever happens."""
    made = Outage(testbed.cluster)
    yield made
    made.end()


def kill_operator(testbed: Testbed) -> None:
    testbed.cluster.kubectl("delete", "pod", *OPERATORS, "--grace-period=0", "--force")


def operators_processes(pod_uid: str) -> list[int]:
    """The processes of the operator's container in a pod of this machine."""
    found = list[int]()
    for group in Path("/proc").glob("[0-9]*/cgroup"):
        with contextlib.suppress(OSError):
            if pod_uid in group.read_text().replace("_", "-"):
                command = (group.parent / "cmdline").read_bytes()
                if b"slipway" in command:
                    found.append(int(group.parent.name))
    return found


@pytest.mark.fault("Operator", "under load: killed in the middle of a rollout")
def test_a_killed_operator_finishes_the_rollout_when_it_is_back(
    testbed: Testbed, loaded: Loaded, record_fault: RecordFault
) -> None:
    loaded.begin_rollout()
    kill_operator(testbed)

    loaded.wait_until_rolled_out()
    tally = loaded.judged()
    record_fault(
        reason="RollingOut",
        seen="Kubernetes goes on with the rollout that was begun; pods answer as before",
        sent=tally.sent,
        failed=tally.failed,
        healed="the next operator completed the rollout",
    )


@pytest.mark.fault("Operator", "under load: killed in a rollout that fails")
def test_a_killed_operator_takes_a_failed_rollout_back_when_it_is_back(
    testbed: Testbed, loaded: Loaded, record_fault: RecordFault
) -> None:
    before = loaded.pod_uids()
    loaded.apply(Artifact(loaded.old.uri, "sha256:" + "0" * 64))
    wait_until(
        "a pod of the wrong version",
        lambda: None if loaded.pod_uids() > before else "none",
        30,
    )
    kill_operator(testbed)

    model = testbed.wait_for(
        loaded.namespace,
        NAME,
        "rolled back",
        lambda m: condition(m, "Stalled").get("reason") == "RolledBack",
        timeout=120,
    )
    wait_for_more_answers(loaded.traffic, loaded.old)
    tally = loaded.judged()
    assert model["status"]["lastFailure"]["reason"] == "DigestMismatch"
    outcomes = [entry["outcome"] for entry in model["status"]["history"]]
    assert outcomes.count("Failed") == 1
    assert set(tally.by_digest) == {loaded.old.digest}
    assert before <= loaded.pod_uids()
    record_fault(
        reason="DigestMismatch",
        seen="judged once, by the next operator; the old version's pods are the very same",
        sent=tally.sent,
        failed=tally.failed,
        healed="the next operator went back",
    )


@pytest.mark.fault("Operator", "under load: API server restarted in a rollout, a child deleted")
def test_an_api_server_that_goes_and_comes_costs_no_request(
    testbed: Testbed, loaded: Loaded, outage: Outage, record_fault: RecordFault
) -> None:
    def budget() -> str:
        which = ("pdb", NAME, "-n", loaded.namespace, "--ignore-not-found", "-o", "name")
        return testbed.cluster.kubectl("get", *which).stdout.strip()

    wait_until("the budget is there", lambda: None if budget() else "none", 30)
    loaded.begin_rollout()
    outage.begin()
    etcd = Etcd(testbed.cluster)
    etcd.delete(f"/registry/poddisruptionbudgets/{loaded.namespace}/{NAME}")
    outage.end()

    loaded.wait_until_rolled_out()
    wait_until("the budget is there again", lambda: None if budget() else "none", 60)
    tally = loaded.judged()
    record_fault(
        reason="RollingOut",
        seen="pods answer as before; the budget that vanished meanwhile is made again",
        sent=tally.sent,
        failed=tally.failed,
        healed="by itself: the rollout completed",
    )


@pytest.mark.fault("Operator", "under load: etcd answers nothing for ten seconds in a rollout")
def test_an_etcd_that_hangs_costs_no_request(
    testbed: Testbed, loaded: Loaded, record_fault: RecordFault
) -> None:
    loaded.begin_rollout()
    testbed.cluster.pause("etcd")
    try:
        # Ten seconds' worth of requests: what is measured is that they go on.
        before = loaded.traffic.tally.sent
        wait_until(
            "a thousand requests",
            lambda: None if loaded.traffic.tally.sent >= before + 1000 else "fewer",
            60,
        )
    finally:
        testbed.cluster.resume("etcd")

    loaded.wait_until_rolled_out()
    tally = loaded.judged()
    record_fault(
        reason="RollingOut",
        seen="pods answer as before, and nothing is judged meanwhile",
        sent=tally.sent,
        failed=tally.failed,
        healed="by itself: the rollout completed",
    )


@pytest.mark.fault("Operator", "under load: leader stopped past its Lease, then continued")
@pytest.mark.usefixtures("reinstalled")
def test_two_leaders_cost_no_request(
    testbed: Testbed, loaded: Loaded, record_fault: RecordFault
) -> None:
    testbed.install_operator({"replicas": 2})
    first = wait_for_a_leader(testbed)
    pod = testbed.cluster.get("pod", first, "-n", OPERATOR_NAMESPACE)
    stopped = operators_processes(pod["metadata"]["uid"])
    assert stopped
    loaded.begin_rollout()
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        second = wait_for_a_leader(testbed, first)
        loaded.wait_until_rolled_out()
    finally:
        for pid in stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
    # The one that slept ends, and its container is started again.
    wait_until("the first has ended", lambda: restarts(testbed, first), 60)
    assert holder(testbed) == second
    tally = loaded.judged()
    record_fault(
        reason="RollingOut",
        seen="another leads and completes the rollout; the one that slept ends when it wakes up",
        sent=tally.sent,
        failed=tally.failed,
        healed="by itself",
    )


def restarts(testbed: Testbed, pod: str) -> str | None:
    """None once the container of a pod was started again, or the pod is gone."""
    listed = testbed.cluster.get("pods", *OPERATORS)["items"]
    for one in listed:
        if one["metadata"]["name"] == pod:
            (status,) = one["status"]["containerStatuses"]
            return None if status["restartCount"] else str(status["state"])
    return None


@pytest.mark.fault("Operator", "under load: upgraded with another default image")
@pytest.mark.usefixtures("reinstalled")
def test_an_upgrade_with_another_image_costs_no_request(
    testbed: Testbed, loaded: Loaded, record_fault: RecordFault
) -> None:
    testbed.cluster.tag_image("slipway/runtime:dev", f"slipway/runtime:{NEXT_IMAGE}")
    before = loaded.pod_uids()

    testbed.install_operator({"runtime": {"image": {"tag": NEXT_IMAGE}}})
    model = testbed.wait_for(
        loaded.namespace, NAME, "called outdated", lambda m: m["status"].get("outdated") is True
    )
    assert is_ready(model)
    assert loaded.pod_uids() == before
    loaded.apply(loaded.new)
    loaded.wait_until_rolled_out()

    deployment = testbed.cluster.get("deployment", NAME, "-n", loaded.namespace)
    (serve,) = deployment["spec"]["template"]["spec"]["containers"]
    assert serve["image"].endswith(f":{NEXT_IMAGE}")
    tally = loaded.judged()
    record_fault(
        reason="Serving",
        seen="no pod is restarted; status says outdated: true",
        sent=tally.sent,
        failed=tally.failed,
        healed="the next version of the model takes the new image",
    )
