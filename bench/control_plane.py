"""What the operator costs and how fast it is, on a real control plane with a played kubelet.

    uv run --frozen python bench/control_plane.py [--quiet-minutes 10]

Measured from outside: a create's latency by a watch of this program, memory and processor time from
/proc, API calls from the API server's audit log by the operator's own token. Writes
``control_plane.json`` and ``control_plane.md`` into the results folder.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from slipway_dev import binaries, paths
from slipway_dev import state as states
from slipway_dev.cluster import Cluster
from slipway_dev.console import say, step

sys.path.insert(0, str(paths.repository() / "tests" / "support"))

from operator_kit.api import Api, Unreachable
from operator_kit.audit import AuditLog
from operator_kit.fake_kubelet import FakeKubelet
from operator_kit.installation import Installation
from operator_kit.operator_process import OperatorProcess
from operator_kit.space import Space

_CLUSTER = "bench-controlplane"
_WARM_UP = 5
_SETTLING_SECONDS = 15.0

Json = dict[str, Any]


class Watcher:
    """Notes when objects of one kind are first seen, or first seen as wanted."""

    def __init__(self, space: Space, resource: str, wanted: Any = lambda _: True) -> None:
        self._space = space
        self._resource = resource
        self._wanted = wanted
        self._seen: dict[str, float] = {}
        self._changed = threading.Condition()
        self._version = space.api.listing(resource, space.namespace)["metadata"]["resourceVersion"]
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        try:
            watch = self._space.api.watch(self._resource, self._space.namespace, self._version)
            for kind, obj in watch:
                if kind in ("ADDED", "MODIFIED") and self._wanted(obj):
                    with self._changed:
                        self._seen.setdefault(obj["metadata"]["name"], time.perf_counter())
                        self._changed.notify_all()
        except Unreachable:
            return

    def when(self, name: str) -> float:
        """The moment at which it was seen; waits for it."""
        with self._changed:
            if not self._changed.wait_for(lambda: name in self._seen, timeout=30):
                raise TimeoutError(f"{self._resource} {name} was never seen as wanted")
            return self._seen[name]


def _is_ready(model: Json) -> bool:
    conditions = model.get("status", {}).get("conditions") or []
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def summary(seconds: Sequence[float]) -> dict[str, float]:
    """Median, 90th percentile and spread, in milliseconds."""
    times = sorted(1000 * value for value in seconds)
    tenths = statistics.quantiles(times, n=10, method="inclusive")
    return {
        "count": len(times),
        "p50_ms": round(statistics.median(times), 1),
        "p90_ms": round(tenths[8], 1),
        "min_ms": round(times[0], 1),
        "max_ms": round(times[-1], 1),
        "stdev_ms": round(statistics.stdev(times), 1),
    }


def create_latency(space: Space, creates: int) -> Json:
    """From before the POST of a ModelDeployment until a watch shows its Deployment, one by one."""
    deployments = Watcher(space, "deployments")
    models = Watcher(space, "modeldeployments", _is_ready)
    posted, seen, ready = [], [], []
    with step(f"{creates} creates, one after the other") as detail:
        for number in range(_WARM_UP + creates):
            name = f"m{number}"
            manifest = space.manifest(name, name)
            began = time.perf_counter()
            space.api.create("modeldeployments", manifest, space.namespace)
            returned = time.perf_counter() - began
            deployment = deployments.when(name) - began
            # The next begins when this one has come to rest.
            served = models.when(name) - began
            detail(f"{number}: {1000 * deployment:.0f} ms")
            if number >= _WARM_UP:
                posted.append(returned)
                seen.append(deployment)
                ready.append(served)
    return {
        "post_returned": summary(posted),
        "deployment_seen": summary(seen),
        "ready_seen": summary(ready),
    }


def at_rest(space: Space, operator: OperatorProcess, models: int) -> Json:
    """Memory with so many ModelDeployments, a while after the last change."""
    with step(f"Come to rest with {models} models"):
        for model in space.api.list("modeldeployments", space.namespace):
            space.delete(model["metadata"]["name"])

        def gone() -> None:
            assert not space.api.list("pods", space.namespace), "pods are still there"

        space.eventually(gone, within=120)
        for number in range(models):
            space.apply(f"steady-{number}", f"steady-{number}", replicas=1 + number % 2)
        for number in range(models):
            space.until("is served", lambda m: m.settled, f"steady-{number}", within=60)
        time.sleep(_SETTLING_SECONDS)
    return {
        "models": models,
        "pods": len(space.api.list("pods", space.namespace)),
        "rss_mib": round(operator.resident_bytes() / 2**20, 1),
    }


def quiet(audit: AuditLog, operator: OperatorProcess, minutes: float) -> Json:
    """What the operator asks of the API server, and of the processor, while nothing changes."""
    mark, cpu, began = audit.mark(), operator.cpu_seconds(), time.monotonic()
    with step(f"{minutes:g} quiet minutes") as detail:
        while (elapsed := time.monotonic() - began) < 60 * minutes:
            detail(f"{elapsed:.0f} s")
            time.sleep(1)
    asked = audit.since(mark, operator.credential)
    writes = audit.writes(mark, operator.credential)
    leases = [r for r in asked if r.resource == "leases" and r.verb == "update"]
    return {
        "minutes": minutes,
        "writes": len(writes),
        "writes_by_kind": dict(Counter(f"{r.verb} {r.resource}" for r in writes)),
        "lease_renewals": len(leases),
        "reads_by_verb": dict(Counter(r.verb for r in asked if r.verb in ("get", "list", "watch"))),
        "cpu_seconds": round(operator.cpu_seconds() - cpu, 2),
        "cpu_millicores": round(1000 * (operator.cpu_seconds() - cpu) / (60 * minutes), 1),
        "rss_mib": round(operator.resident_bytes() / 2**20, 1),
    }


def environment() -> Json:
    """What the figures were measured on."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=paths.repository(),
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    return {
        "date": time.strftime("%Y-%m-%d"),
        "commit": commit,
        "cores": os.cpu_count(),
        "load_1m": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "kubernetes": binaries.KUBERNETES_VERSION,
    }


def table(results: Json) -> str:
    """The results for people."""
    where = results["environment"]
    lines = [
        "# The operator on a control plane",
        "",
        f"{where['date']}, commit {where['commit']}: {where['cores']} cores shared with the whole",
        f"control plane (1-minute load {where['load_1m']} at the start), Kubernetes",
        f"{where['kubernetes']}, Python {where['python']}. `bench/control_plane.py` says how.",
        "",
    ]
    if "create" in results:
        lines += [
            "| from before the POST until … | p50 | p90 | min | max | standard deviation | n |",
            "|---|---|---|---|---|---|---|",
        ]
        names = {
            "post_returned": "the POST returned",
            "deployment_seen": "a watch shows the Deployment",
            "ready_seen": "a watch shows Ready (pods are played, and ready at once)",
        }
        for key, name in names.items():
            row = results["create"][key]
            cells = (row[part] for part in ("p50_ms", "p90_ms", "min_ms", "max_ms", "stdev_ms"))
            lines.append(f"| {name} | {' | '.join(f'{c} ms' for c in cells)} | {row['count']} |")
        lines.append("")
    rest = results["at_rest"]
    lines += [
        "| at rest | |",
        "|---|---|",
        f"| ModelDeployments, pods | {rest['models']}, {rest['pods']} |",
        f"| resident memory of the operator | {rest['rss_mib']} MiB |",
    ]
    if "quiet" in results:
        calm = results["quiet"]
        reads = ", ".join(f"{n} {verb}" for verb, n in sorted(calm["reads_by_verb"].items()))
        lines += [
            f"| API writes in {calm['minutes']:g} quiet minutes, Leases aside | {calm['writes']} |",
            f"| Lease renewals in that time | {calm['lease_renewals']} |",
            f"| API reads in that time | {reads or 0} |",
            f"| processor time in that time | {calm['cpu_seconds']} s |",
            f"| that is | {calm['cpu_millicores']} millicores |",
            f"| resident memory after it | {calm['rss_mib']} MiB |",
        ]
    return "\n".join([*lines, ""])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure the operator on a control plane.")
    parser.add_argument("--creates", type=int, default=50, help="0 leaves the latency out")
    parser.add_argument("--models", type=int, default=20, help="models at rest")
    parser.add_argument("--quiet-minutes", type=float, default=10.0, help="0 leaves them out")
    parser.add_argument("--output", type=Path, default=paths.repository() / "bench" / "results")
    return parser.parse_args()


def measure(arguments: argparse.Namespace, cluster: Cluster) -> Json:
    """Everything that was asked for."""
    api = Api.of_cluster(cluster.name)
    installation = Installation(cluster, api)
    installation.install()
    kubelet = FakeKubelet(api)
    kubelet.start()
    state = states.load(cluster.name)
    assert state is not None
    audit = AuditLog(state.audit_log)
    results: Json = {"environment": environment()}
    with tempfile.TemporaryDirectory() as folder:
        operator = OperatorProcess(installation, Path(folder), "operator").start().until_leading()
        try:
            space = Space(api, kubelet, "bench").create()
            if arguments.creates:
                results["create"] = create_latency(space, arguments.creates)
            results["at_rest"] = at_rest(space, operator, arguments.models)
            if arguments.quiet_minutes:
                results["quiet"] = quiet(audit, operator, arguments.quiet_minutes)
        except BaseException:
            say(operator.tail())
            raise
        finally:
            operator.kill()
            kubelet.stop()
    return results


def main() -> None:
    """Measure, write the results, print the table."""
    arguments = _arguments()
    with Cluster(_CLUSTER, "control-plane") as cluster:
        results = measure(arguments, cluster)
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "control_plane.json").write_text(json.dumps(results, indent=2) + "\n")
    text = table(results)
    (arguments.output / "control_plane.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
