"""How long it takes until another operator leads, and that nothing is done twice on the way.

    make bench-leadership

Leaders are killed, stopped and continued, or asked to end, in random order and at random moments of
rollouts of a dozen models, a third of which fail. Times and the proof come from the API server's
audit log. Writes ``leadership.json`` and ``leadership.md`` into the results folder; with ``--add``
to what they say already, so that a long run can be made in parts with seeds of their own.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from environment import environment, publish
from operator_kit.api import Api
from operator_kit.audit import AuditLog
from operator_kit.fake_kubelet import FakeKubelet
from operator_kit.installation import Installation
from operator_kit.operator_process import OperatorProcess
from operator_kit.space import Space
from operator_kit.takeovers import Takeover, Takeovers, Way

from slipway_dev import paths
from slipway_dev import state as states
from slipway_dev.cluster import Cluster
from slipway_dev.console import say, step

_CLUSTER = os.environ.get("SLIPWAY_TEST_CLUSTER", "bench-leadership")
_MODELS = 12
_SHARES = {Way.KILLED: 0.4, Way.STOPPED: 0.3, Way.ASKED: 0.3}

_ADDED_UP = ("takeovers", "rollouts", "requests", "double_actions", "loads_1m")

Json = dict[str, Any]


def plan(takeovers: int, seed: int) -> list[Way]:
    """Which way each time, in random order."""
    ways = [way for way, share in _SHARES.items() for _ in range(round(share * takeovers))]
    random.Random(seed).shuffle(ways)
    return ways


def summary(seconds: Sequence[float]) -> Json:
    """Median, 90th percentile, least and most, in seconds."""
    times = sorted(seconds)
    tenths = statistics.quantiles(times, n=10, method="inclusive")
    return {
        "count": len(times),
        "p50": round(statistics.median(times), 2),
        "p90": round(tenths[8], 2),
        "min": round(times[0], 2),
        "max": round(times[-1], 2),
    }


def measure(arguments: argparse.Namespace, cluster: Cluster, folder: Path) -> Json:
    """All takeovers, and the proof."""
    api = Api.of_cluster(cluster.name)
    installation = Installation(cluster, api)
    installation.install()
    kubelet = FakeKubelet(api)
    kubelet.start()
    state = states.load(cluster.name)
    assert state is not None
    audit = AuditLog(state.audit_log)
    started: list[OperatorProcess] = []
    numbers = count(1)

    def launch(name: str) -> OperatorProcess:
        process = OperatorProcess(installation, folder, f"{name}-{next(numbers)}")
        started.append(process)
        return process.start()

    try:
        return _forced(arguments, launch, Space(api, kubelet, "bench").create(), audit)
    except BaseException:
        for process in started[-2:]:
            say(process.tail())
        raise
    finally:
        for process in started:
            process.kill()
        kubelet.stop()


def _forced(
    arguments: argparse.Namespace,
    launch: Callable[[str], OperatorProcess],
    space: Space,
    audit: AuditLog,
) -> Json:
    results: Json = {"environment": environment(), "models": _MODELS}
    takeovers = Takeovers(launch, space, audit, _MODELS, arguments.seed)
    takeovers.prepare()
    ways = plan(arguments.takeovers, arguments.seed)
    seen: list[Takeover] = []
    loads: list[float] = []
    with step(f"{len(ways)} takeovers") as detail:
        for number, way in enumerate(ways):
            loads.append(os.getloadavg()[0])
            takeover = takeovers.force(way)
            seen.append(takeover)
            detail(f"{number + 1}: {way}, {takeover.leads:.1f} s")
    requests = audit.of({operator.credential for operator in takeovers.operators})
    results["loads_1m"] = [round(load, 2) for load in loads]
    results["takeovers"] = {
        way: {
            "leads": [round(t.leads, 3) for t in seen if t.way is way],
            "writes": [round(t.writes, 3) for t in seen if t.way is way],
        }
        for way in Way
    }
    results["rollouts"] = {"good": takeovers.good.total(), "failed": takeovers.bad.total()}
    results["requests"] = len(requests)
    results["double_actions"] = takeovers.double_actions(requests)
    return results


def _joined(one: Any, other: Any) -> Any:
    """What two runs found as if it were one: lists are joined, numbers added."""
    if isinstance(other, dict):
        return {key: _joined(one[key], value) for key, value in other.items()}
    return one + other


_UNTIL = {"leads": "the Lease is another's", "writes": "that one's first write"}


def table(results: Json) -> str:
    """The results for people."""
    where, rollouts = results["environment"], results["rollouts"]
    load = summary(results["loads_1m"])
    doubles = results["double_actions"]
    total = sum(len(row["leads"]) for row in results["takeovers"].values())
    rows = [
        _row(way, until, summary(row[what]))
        for way, row in results["takeovers"].items()
        for what, until in _UNTIL.items()
    ]
    return f"""\
# Takeovers of the leadership

{where["date"]}, commit {where["commit"]}: {where["cores"]} cores shared with the control plane
and with other work (1-minute load {load["p50"]} in the median, {load["min"]} to {load["max"]}),
Kubernetes {where["kubernetes"]}, Python {where["python"]}. `bench/leadership.py` says how.

Seconds from the signal:

| the leader was | until | median | p90 | min | max | n |
|---|---|---|---|---|---|---|
{"".join(rows)}
In {total} takeovers with {rollouts["good"] + rollouts["failed"]:,} rollouts under way, of which
{rollouts["failed"]:,} were to a wrong artifact, and {results["requests"]:,} requests of the
operators: **{len(doubles)} double actions**. Looked for: a write of one process that the API
server received after another had taken the Lease, whatever it did; an object created twice, a
revision judged twice, a template changed other than once for each version and once more for each
rollback, and a rollback told twice.
{"".join(f"- {double}{chr(10)}" for double in doubles)}"""


def _row(way: str, until: str, times: Json) -> str:
    cells = " | ".join(f"{times[part]:.2f} s" for part in ("p50", "p90", "min", "max"))
    return f"| {way} | {until} | {cells} | {times['count']} |\n"


def main() -> int:
    """Measure, write the results, print the table; 1 when anything was done twice."""
    parser = argparse.ArgumentParser(description="Force leaders out while rollouts are under way.")
    parser.add_argument("--takeovers", type=int, default=100)
    parser.add_argument("--seed", type=int, default=20261121)
    parser.add_argument("--add", action="store_true", help="to the results that are there")
    parser.add_argument("--output", type=Path, default=paths.repository() / "bench" / "results")
    arguments = parser.parse_args()
    with Cluster(_CLUSTER, "control-plane") as cluster, tempfile.TemporaryDirectory() as folder:
        results = measure(arguments, cluster, Path(folder))
    known = arguments.output / "leadership.json"
    if arguments.add and known.exists():
        before = json.loads(known.read_text())
        results |= {key: _joined(before[key], results[key]) for key in _ADDED_UP}
    publish(arguments.output, "leadership", results, table(results))
    return 1 if results["double_actions"] else 0


if __name__ == "__main__":
    sys.exit(main())
