"""The operator with thousands of ModelDeployments; `make bench-scale`.

    PYTHONPATH=tests/support uv run --frozen python bench/scale.py [--sizes 1000 5000]

A real control plane whose nodes and pods are simulated by kwok. At each size: how long creates take
against the empty cluster, the operator's memory, how soon a newly started one leads and has looked
at everything; and at the first size what a change of all digests at once costs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from environment import environment, on_what
from latency import is_ready, one_by_one
from operator_kit.operator_process import OperatorProcess
from operator_kit.space import Space
from rest import fill, memory, until_ready
from testbed import Testbed, testbed

from slipway_dev import paths
from slipway_dev.console import step

Json = dict[str, Any]

_CPU_SAMPLE_SECONDS = 1.0
_CHANGERS = 8
_LOOK_SECONDS = 0.2


class Load:
    """Samples the processor time of a process every second."""

    def __init__(self, operator: OperatorProcess) -> None:
        self._operator = operator
        self._over = threading.Event()
        self._cores: list[float] = []
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._began = time.perf_counter()
        self._before = operator.cpu_seconds()
        self._thread.start()

    def _sample(self) -> None:
        at, spent = time.perf_counter(), self._operator.cpu_seconds()
        while not self._over.wait(_CPU_SAMPLE_SECONDS):
            now, cpu = time.perf_counter(), self._operator.cpu_seconds()
            self._cores.append((cpu - spent) / (now - at))
            at, spent = now, cpu

    def end(self) -> Json:
        """Cores used: at most in a second, and on average."""
        self._over.set()
        self._thread.join()
        seconds = time.perf_counter() - self._began
        spent = self._operator.cpu_seconds() - self._before
        return {
            "seconds": round(seconds, 1),
            "cpu_seconds": round(spent, 1),
            "cores_average": round(spent / seconds, 2),
            "cores_most": round(max(self._cores, default=0), 2),
        }


def reconciles(operator: OperatorProcess) -> int:
    """How many reconciles it has ended."""
    return sum(
        int(float(line.split()[-1]))
        for line in operator.get("/metrics").splitlines()
        if line.startswith("slipway_operator_reconcile_seconds_count")
    )


def start_of_a_leader(bed: Testbed, models: int) -> tuple[OperatorProcess, Json]:
    """From the start of a process to its first reconcile, and until it has looked at everything.

    The Lease was given back before: what waiting for one costs is another question.
    """
    operator = bed.operator()
    began = time.perf_counter()
    load: Load | None = None
    moments: dict[str, float] = {}
    with step(f"A new leader of {models}") as detail:
        operator.start()
        load = Load(operator)
        while len(moments) < 3:
            time.sleep(_LOOK_SECONDS)
            now = time.perf_counter() - began
            detail(f"{now:.0f} s")
            assert operator.running(), operator.tail()
            assert now < 300, operator.tail()
            try:
                if operator.leads():
                    moments.setdefault("leading_s", round(now, 2))
                done = reconciles(operator)
            except AssertionError:
                continue  # it does not listen yet
            if done:
                moments.setdefault("first_reconcile_s", round(now, 2))
            if done >= models:
                moments.setdefault("all_reconciled_s", round(now, 2))
        used = load.end()
    return operator, {**moments, "cpu_seconds": used["cpu_seconds"]}


def change_all(bed: Testbed, space: Space, operator: OperatorProcess) -> Json:
    """Every digest changes at once: until all new versions are served."""
    names = [m["metadata"]["name"] for m in space.api.list("modeldeployments", space.namespace)]
    mark, before = bed.audit.mark(), reconciles(operator)
    load = Load(operator)

    def change(name: str) -> None:
        patch = {"spec": {"model": {"digest": space.digest(f"{name}-2")}}}
        space.api.patch("modeldeployments", space.namespace, name, patch)

    with step(f"A new digest for {len(names)}") as detail:
        with ThreadPoolExecutor(_CHANGERS) as changers:
            for _ in changers.map(change, names):
                pass
        until_ready(space, operator, set(names), 1800, detail)
    used, looked = load.end(), reconciles(operator) - before
    asked = Counter(
        f"{r.verb} {r.resource}"
        for r in bed.audit.since(mark, operator.credential)
        if r.resource != "leases" and r.verb != "watch"
    )
    served = {
        m["status"]["serving"]["digest"]
        for m in space.api.list("modeldeployments", space.namespace)
        if is_ready(m)
    }
    assert served == {space.digest(f"{name}-2") for name in names}, "other digests are served"
    return {
        **used,
        "models": len(names),
        "reconciles": looked,
        "requests": sum(asked.values()),
        "requests_per_model": round(sum(asked.values()) / len(names), 1),
        "requests_per_reconcile": round(sum(asked.values()) / max(1, looked), 2),
        "requests_by_kind": dict(asked.most_common()),
    }


def measure(bed: Testbed, arguments: argparse.Namespace, size: int) -> Json:
    """One size, in a cluster of its own."""
    operator = bed.operator(patient=True).start().until_leading(120)
    space = bed.space("fleet")
    load = Load(operator)
    fill(space, operator, "m", size, within=3600)
    found: Json = {"models": size, "fill": load.end()}
    operator.stop()
    if arguments.measure_at:
        _wait_until(arguments.measure_at)
    found["environment"] = environment() | {"python": bed.image.python}
    found["starts"] = []
    for number in range(arguments.starts):
        operator, start = start_of_a_leader(bed, size)
        found["starts"].append(start)
        if number + 1 < arguments.starts:
            operator.stop()
    found["memory"] = memory(space, operator)
    found["latency"] = one_by_one(bed.space("probe"), "probe", arguments.creates)
    if size <= arguments.change_up_to:
        found["change_all"] = change_all(bed, space, operator)
        found["memory_after_the_change"] = memory(space, operator)
    found["load_at_the_end"] = environment()["load_1m"]
    return found


def _wait_until(moment: str) -> None:
    """Wait for a time of this day, as 13:02, when the machine has nothing else to do."""
    hours, minutes = moment.split(":")
    with step(f"Wait until {moment}"):
        while time.localtime()[3:5] < (int(hours), int(minutes)):
            time.sleep(1)


def table(results: Json) -> str:
    """The results for people."""
    sizes = results["sizes"]
    lines = [
        "# The operator with thousands of models",
        "",
        *on_what(sizes[0]),
        "Each size has a cluster of its own, filled before. `bench/scale.py` says how.",
        "",
        f"| ModelDeployments | {' | '.join(str(size['models']) for size in sizes)} |",
        "|---|" + "---|" * len(sizes),
    ]
    for part in ("p50_ms", "p90_ms"):
        cells = (f"{size['latency']['deployment_seen'][part]} ms" for size in sizes)
        name = f"create until its Deployment is seen, {part.removesuffix('_ms')}"
        lines.append(f"| {name} | {' | '.join(cells)} |")
    rows: dict[str, Callable[[Json], str]] = {
        "commit": lambda s: s["environment"]["commit"],
        "memory": lambda s: f"{s['memory']['rss_mib']} MiB",
        "memory after a new digest for all": lambda s: (
            f"{s['memory_after_the_change']['rss_mib']} MiB" if "change_all" in s else ""
        ),
        "start of a process until it leads": lambda s: _starts(s, "leading_s"),
        "… until its first reconcile": lambda s: _starts(s, "first_reconcile_s"),
        "… until it has looked at all": lambda s: _starts(s, "all_reconciled_s"),
        "processor time of that": lambda s: _starts(s, "cpu_seconds"),
        "1-minute load when measured, start and end": lambda s: (
            f"{s['environment']['load_1m']}, {s['load_at_the_end']}"
        ),
    }
    for name, tell in rows.items():
        lines.append(f"| {name} | {' | '.join(tell(size) for size in sizes)} |")
    for size in sizes:
        if "change_all" in size:
            lines += ["", *_of_the_change(size["change_all"])]
    return "\n".join([*lines, ""])


def _starts(size: Json, part: str) -> str:
    found = [start[part] for start in size["starts"]]
    return f"{statistics.median(found)} s ({min(found)} to {max(found)})"


def _of_the_change(change: Json) -> list[str]:
    rows = {
        "until all are served": f"{change['seconds']} s",
        "the operator's cores, average and most in a second": (
            f"{change['cores_average']}, {change['cores_most']}"
        ),
        "reconciles": change["reconciles"],
        "API requests for each model, and for each reconcile": (
            f"{change['requests_per_model']}, {change['requests_per_reconcile']}"
        ),
        "which": ", ".join(f"{n} {kind}" for kind, n in change["requests_by_kind"].items()),
    }
    head = f"| A new digest for all {change['models']} at once | |"
    return [head, "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure the operator with thousands of models.")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 5000])
    parser.add_argument("--creates", type=int, default=50)
    parser.add_argument("--starts", type=int, default=3)
    parser.add_argument("--change-up-to", type=int, default=1000, help="the largest to change")
    parser.add_argument("--measure-at", default="", help="as 13:02: once filled, wait until then")
    parser.add_argument("--cluster", default="bench-scale")
    parser.add_argument("--output", type=Path, default=paths.repository() / "bench" / "results")
    return parser.parse_args()


def main() -> None:
    """Measure size after size, write the results beside those of other sizes, print the table."""
    arguments = _arguments()
    arguments.output.mkdir(parents=True, exist_ok=True)
    file = arguments.output / "scale.json"
    for size in arguments.sizes:
        with testbed(arguments.cluster) as bed:
            found = measure(bed, arguments, size)
        known = json.loads(file.read_text())["sizes"] if file.exists() else []
        sizes = [one for one in known if one["models"] != size]
        results = {"sizes": sorted([*sizes, found], key=lambda one: one["models"])}
        file.write_text(json.dumps(results, indent=2) + "\n")
        (arguments.output / "scale.md").write_text(table(results))
    print((arguments.output / "scale.md").read_text())


if __name__ == "__main__":
    main()
