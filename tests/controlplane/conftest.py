"""One control plane for the session, with the CRD and the chart's rights in it, and a fake node.

Most tests share the operator of their module; those that start, kill or freeze operators launch
their own. Either way the process has the ServiceAccount and the ClusterRole of the Helm chart, so
that every test also shows that these rights suffice.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from operator_kit.api import Api
from operator_kit.api_proxy import ApiProxy
from operator_kit.audit import AuditLog
from operator_kit.fake_kubelet import FakeKubelet
from operator_kit.installation import NAMESPACE, RELEASE, Installation
from operator_kit.operator_process import OperatorProcess
from operator_kit.space import Space

from slipway_dev import binaries
from slipway_dev import state as states
from slipway_dev.cluster import Cluster

# A second run at the same time on one machine needs a cluster of its own, and so does each worker
# of one run: operators that serve a whole cluster, and tests that stop parts of it, share none.
CLUSTER = "-".join(
    part
    for part in (
        os.environ.get("SLIPWAY_TEST_CLUSTER", "controlplane"),
        os.environ.get("PYTEST_XDIST_WORKER"),
    )
    if part
)
# For tests of anything but leadership: a machine that is slow for seconds ends no leader.
PATIENT = {"namespace": NAMESPACE, "name": RELEASE, "durationSeconds": 60,
           "renewDeadlineSeconds": 50, "retryPeriodSeconds": 0.5}  # fmt: skip
_TERMINATING = "because it is being terminated"
_numbers = count(1)

Launch = Callable[..., OperatorProcess]
RecordFault = Callable[..., None]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.controlplane)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    binaries.ensure(["kstatus", "helm"])
    with Cluster(CLUSTER, "control-plane") as running:
        yield running


@pytest.fixture(scope="session")
def api(cluster: Cluster) -> Api:
    return Api.of_cluster(cluster.name)


@pytest.fixture(scope="session")
def audit(cluster: Cluster) -> AuditLog:
    state = states.load(cluster.name)
    assert state is not None
    return AuditLog(state.audit_log)


@pytest.fixture(scope="session")
def installation(cluster: Cluster, api: Api) -> Installation:
    chart = Installation(cluster, api)
    chart.install()
    return chart


@pytest.fixture(scope="session")
def kubelet(api: Api) -> Iterator[FakeKubelet]:
    fake = FakeKubelet(api)
    fake.start()
    yield fake
    fake.stop()


@pytest.fixture(scope="session")
def pools(installation: Installation) -> dict[str, Any]:
    """The chart's pools, and one that no node belongs to."""
    pools = installation.configuration()["pools"]
    return {**pools, "nowhere": {**pools["cpu"], "nodeSelector": {"slipway.dev/pool": "none"}}}


def _launcher(
    installation: Installation,
    pools: dict[str, Any],
    folder: Path,
    started: list[OperatorProcess],
) -> Launch:
    def launch(
        name: str = "operator",
        server: str | None = None,
        environment: dict[str, str] | None = None,
        **changes: Any,
    ) -> OperatorProcess:
        settings = {"pools": pools, **changes}
        numbered = f"{name}-{next(_numbers)}"
        process = OperatorProcess(installation, folder, numbered, settings, server, environment)
        started.append(process)
        return process.start()

    return launch


@contextmanager
def _ended(api: Api) -> Iterator[list[OperatorProcess]]:
    """Leave neither a process nor a lease that the next one would have to wait for."""
    started: list[OperatorProcess] = []
    try:
        yield started
    finally:
        for process in started:
            process.kill()
        api.delete("leases", NAMESPACE, RELEASE)


@pytest.fixture
def proxy(cluster: Cluster) -> Iterator[ApiProxy]:
    """A way to the API server that a test can disturb: ``launch(server=proxy.url)``."""
    made = ApiProxy(cluster.name).start()
    yield made
    made.stop()


@pytest.fixture
def launch(
    api: Api,
    installation: Installation,
    pools: dict[str, Any],
    kubelet: FakeKubelet,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Launch]:
    """Starts operators that end with the test."""
    with _ended(api) as started:
        yield _launcher(installation, pools, tmp_path_factory.mktemp("operators"), started)


@pytest.fixture(scope="module")
def operator(
    api: Api,
    audit: AuditLog,
    installation: Installation,
    pools: dict[str, Any],
    kubelet: FakeKubelet,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[OperatorProcess]:
    """The operator that the tests of a module share; at the end it was refused nothing."""
    mark = audit.mark()
    with _ended(api) as started:
        launch = _launcher(installation, pools, tmp_path_factory.mktemp("operators"), started)
        shared = launch("shared", leaderElection=PATIENT).until_leading()
        yield shared
    refused = [
        f"{request}: {request.message}"
        for request in audit.since(mark, shared.credential)
        if request.code == 403 and _TERMINATING not in request.message
    ]
    assert not refused, "the chart's rights lack something"


@pytest.fixture
def space(api: Api, kubelet: FakeKubelet, request: pytest.FixtureRequest) -> Iterator[Space]:
    """A namespace of the test's own."""
    words = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower().removeprefix("test_"))
    made = Space(api, kubelet, f"{words[:40].strip('-')}-{next(_numbers)}").create()
    yield made
    made.clear()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Put the end of the log of each operator that ran into the report of a failure."""
    report = yield
    factory = getattr(item, "funcargs", {}).get("tmp_path_factory")
    if report.failed and factory is not None:
        for log in sorted(factory.getbasetemp().glob("operators*/*.log")):
            if log.stat().st_mtime >= call.start:
                lines = log.read_text(errors="replace").splitlines()[-60:]
                report.sections.append((f"log of {log.stem}", "\n".join(lines)))
    return report
