"""An hour of random life with faults, judged from outside; `make soak`.

    PYTHONPATH=tests/support uv run --frozen python bench/soak.py [--minutes 60] [--seed 1]

Two operators with leader election keep a hundred ModelDeployments on a control plane with a played
kubelet. Users create, change, break, mend and delete; children are deleted and edited by hand,
statuses wiped; operators are killed, stopped and frozen, the API server and etcd killed and frozen.
In the second half nothing ends the leader, so that its memory can be followed. At every checkpoint
and at the end each object must be where its spec says and its status true, by a judge that looks at
the API's objects and at what users asked for, and at nothing of the operator's.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from environment import environment, publish
from operator_kit.api import Api
from operator_kit.audit import AuditLog
from operator_kit.fake_kubelet import FakeKubelet
from operator_kit.installation import Installation
from operator_kit.space import Space
from soak_kit.replicas import Replicas, Sample
from soak_kit.soak import Pace, Soak

from slipway_dev import paths
from slipway_dev import state as states
from slipway_dev.cluster import Cluster
from slipway_dev.console import say

Json = dict[str, Any]

_SETTINGS = {"resyncSeconds": 20.0, "conflictBackoffSeconds": 10.0}
"""Sooner than by default, so that a checkpoint needs no quarter of an hour."""


def memory(samples: list[Sample], since: float) -> Json:
    """The memory of the process that led last, over the time since half-time.

    The slope is that of the least squares, in MiB an hour.
    """
    leaders = Counter(sample.pid for sample in samples if sample.leads and sample.at >= since)
    if not leaders:
        return {}
    (pid, _), *_ = leaders.most_common(1)
    points = [
        ((s.at - since) / 3600, s.resident_bytes / 2**20)
        for s in samples
        if s.pid == pid and s.at >= since
    ]
    hours, mib = zip(*points, strict=True)
    slope = statistics.linear_regression(hours, mib).slope if len(points) > 2 else 0.0
    quarter = max(1, len(mib) // 4)
    return {
        "minutes": round(60 * (hours[-1] - hours[0]), 1),
        "samples": len(points),
        "first_quarter_mib": round(statistics.median(mib[:quarter]), 1),
        "last_quarter_mib": round(statistics.median(mib[-quarter:]), 1),
        "max_mib": round(max(mib), 1),
        "slope_mib_per_hour": round(slope, 2),
    }


def table(results: Json) -> str:
    """The results for people."""
    where, run = results["environment"], results["run"]
    head = (
        f"{where['date']}, commit {where['commit']}: {run['minutes']:g} minutes with up to "
        f"{run['models']} ModelDeployments, seed {run['seed']}, on {where['cores']} cores shared "
        f"with the whole control plane and other work (1-minute load {where['load_1m']} at the "
        f"start, {run['load_at_the_end']} at the end). `bench/soak.py` says how."
    )
    rows = {
        "things that users did": sum(results["actions"].values()),
        "faults": sum(results["faults"].values()),
        "checkpoints passed": len(results["checkpoints_s"]),
        "seconds until all was in order, median and worst of the checkpoints": _median_and_worst(
            results["checkpoints_s"]
        ),
        "1-minute load at the checkpoints, median and worst": _median_and_worst(results["loads"]),
        "violations": len(results["violations"]),
        "operators that ended, by exit code (-9: killed)": _counts(results["exits"]),
        "writes of the operators": results["writes"],
    }
    if found := results["memory"]:
        quarters = f"{found['first_quarter_mib']} MiB, {found['last_quarter_mib']} MiB"
        rows[f"memory of the leader, first and last quarter of {found['minutes']:g} min"] = quarters
        rows["its slope"] = f"{found['slope_mib_per_hour']} MiB an hour"
    lines = ["# Soak", "", head, "", "| | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in rows.items()]
    for title, key in (("What users did", "actions"), ("Faults", "faults")):
        lines += ["", f"| {title} | times |", "|---|---|"]
        lines += [f"| {name} | {count} |" for name, count in sorted(results[key].items())]
    lines += ["", "| Judged at the checkpoints as | times |", "|---|---|"]
    lines += [f"| {name} | {n} |" for name, n in sorted(results["expectations"].items())]
    if results["violations"]:
        lines += ["", "## Violations", ""]
        lines += [f"```\n{violation}\n```" for violation in results["violations"]]
    return "\n".join([*lines, ""])


def _median_and_worst(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.1f}, {max(seconds):.1f}" if seconds else "none"


def _counts(exits: list[int]) -> str:
    return ", ".join(f"{n} with {code}" for code, n in sorted(Counter(exits).items())) or "none"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Random life with faults, judged from outside.")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--models", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cluster", default="soak")
    parser.add_argument("--output", type=Path, default=paths.repository() / "bench" / "results")
    return parser.parse_args()


def measure(arguments: argparse.Namespace, cluster: Cluster, folder: Path) -> Json:
    """One soak."""
    api = Api.of_cluster(cluster.name)
    installation = Installation(cluster, api)
    installation.install()
    kubelet = FakeKubelet(api)
    kubelet.start()
    state = states.load(cluster.name)
    assert state is not None
    audit = AuditLog(state.audit_log)
    results: Json = {"environment": environment()}
    space = Space(api, kubelet, "soak").create()
    replicas = Replicas(installation, folder, 2, _SETTINGS).start()
    try:
        pace = Pace(60 * arguments.minutes, arguments.models)
        soak = Soak(cluster, space, replicas, pace, arguments.seed, tell=_say)
        outcome = soak.run()
    finally:
        replicas.stop()
        kubelet.stop()
    writes = sum(len(audit.writes(0, p.credential)) for p in replicas.processes)
    return {
        **results,
        "run": {
            "minutes": arguments.minutes,
            "models": arguments.models,
            "seed": arguments.seed,
            "load_at_the_end": environment()["load_1m"],
        },
        "actions": soak.users.actions,
        "faults": soak.saboteur.faults,
        "checkpoints_s": outcome.checkpoints,
        "loads": outcome.loads,
        "expectations": outcome.expectations,
        "violations": outcome.violations,
        "exits": replicas.exits,
        "writes": writes,
        "memory": memory(replicas.samples, soak.half_time),
    }


def _say(text: str) -> None:
    say(f"{time.strftime('%H:%M:%S')} {text}")


def main() -> None:
    """Soak, write the results; exit code 1 if anything was not in order."""
    arguments = _arguments()
    with tempfile.TemporaryDirectory() as folder, Cluster(arguments.cluster) as cluster:
        results = measure(arguments, cluster, Path(folder))
    publish(arguments.output, "soak", results, table(results))
    sys.exit(1 if results["violations"] else 0)


if __name__ == "__main__":
    main()
