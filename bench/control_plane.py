"""What the operator costs and how fast it is, on a real control plane with simulated nodes.

    PYTHONPATH=tests/support uv run --frozen python bench/control_plane.py [--quiet-minutes 10]

The operator is the one of its image, as pods run it. Measured from outside: latencies by a watch of
this program, memory and processor time from /proc, API calls from the API server's audit log by the
operator's own token. Writes ``control_plane.json`` and ``control_plane.md`` into the results
folder; with ``--add`` what this run leaves out stays there as it is, so that a long run can be made
in parts.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from environment import environment, on_what, publish
from latency import burst, one_by_one, over_rounds
from operator_kit.space import Space
from rest import fill, memory, quiet
from testbed import Testbed, testbed

from slipway_dev import paths
from slipway_dev.console import step

Json = dict[str, Any]

_LATENCIES = {
    "post_returned": "the POST returned",
    "deployment_seen": "a watch shows the Deployment",
    "ready_seen": "a watch shows Ready (pods are simulated, and ready at once)",
}


def clear(space: Space) -> None:
    """Delete all models and wait until their pods are gone."""
    with step("Clear"):
        for model in space.api.list("modeldeployments", space.namespace):
            space.delete(model["metadata"]["name"])

        def gone() -> None:
            assert not space.api.list("pods", space.namespace), "pods are still there"

        space.eventually(gone, within=300)


def latencies(bed: Testbed, rounds: int, creates: int, at_once: int) -> Json:
    """Interleaved rounds: so many one by one, then so many at once, then all deleted."""
    sequences: list[Json] = []
    bursts: list[Json] = []
    for number in range(rounds):
        space = bed.space(f"round-{number}")
        sequences.append(one_by_one(space, "m", creates))
        if at_once:
            bursts.append(burst(space, "b", at_once))
        clear(space)
    found: Json = {"rounds": sequences, "creates": creates, "load_1m": environment()["load_1m"]}
    for key in _LATENCIES:
        found[key] = {
            part: over_rounds(s[key][part] for s in sequences)
            for part in ("p50_ms", "p90_ms", "min_ms", "max_ms")
        }
    if bursts:
        found["burst"] = {"creates": at_once} | {
            part: over_rounds(b[part] for b in bursts) for part in bursts[0]
        }
    return found


def measure(bed: Testbed, arguments: argparse.Namespace) -> Json:
    """Everything that was asked for."""
    results: Json = {"environment": environment() | {"python": bed.image.python}}
    operator = bed.operator().start().until_leading()
    if arguments.rounds:
        results["create"] = latencies(bed, arguments.rounds, arguments.creates, arguments.burst)
        operator.stop()
        operator = bed.operator().start().until_leading()
    if not arguments.models:
        return results
    space = bed.space("rest")
    time.sleep(5)
    results["empty_rss_mib"] = round(operator.resident_bytes() / 2**20, 1)
    fill(space, operator, "steady", arguments.models)
    results["at_rest"] = memory(space, operator)
    results["at_rest"]["kib_per_model"] = round(
        1024 * (results["at_rest"]["rss_mib"] - results["empty_rss_mib"]) / arguments.models, 1
    )
    if arguments.quiet_minutes:
        results["quiet"] = quiet(bed.audit, operator, arguments.quiet_minutes)
    return results


def table(results: Json) -> str:
    """The results for people."""
    lines = ["# The operator on a control plane", "", *on_what(results)]
    lines += ["`bench/control_plane.py` says how.", ""]
    if "create" in results:
        lines += _of_creates(results["create"])
    if "at_rest" not in results:
        return "\n".join(lines)
    rest = results["at_rest"]
    lines += [
        "| at rest | |",
        "|---|---|",
        f"| ModelDeployments, pods | {rest['models']}, {rest['pods']} |",
        f"| resident memory of the operator | {rest['rss_mib']} MiB |",
        f"| without any ModelDeployment | {results['empty_rss_mib']} MiB |",
        f"| so for each, with its pods | {rest['kib_per_model']} KiB |",
    ]
    if "quiet" in results:
        lines += _of_quiet(results["quiet"])
    return "\n".join([*lines, ""])


def _of_creates(create: Json) -> list[str]:
    rounds = len(create["rounds"])
    lines = [
        f"{create['creates']} creates, one by one, in each round ({rounds}): median (range).",
        f"1-minute load at the end of it: {create['load_1m']}.",
        "",
        "| from before the POST until … | p50 | p90 | slowest |",
        "|---|---|---|---|",
    ]
    for key, name in _LATENCIES.items():
        cells = (_spread(create[key][part], "ms") for part in ("p50_ms", "p90_ms", "max_ms"))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    if "burst" in create:
        many = create["burst"]
        lines += [
            "",
            f"| {many['creates']} at once, from the first POST until … | |",
            "|---|---|",
            f"| the last POST returned | {_spread(many['posted_s'], 's')} |",
            f"| all Deployments are seen | {_spread(many['deployments_s'], 's')} |",
            f"| all are Ready | {_spread(many['ready_s'], 's')} |",
        ]
    return [*lines, ""]


def _of_quiet(calm: Json) -> list[str]:
    reads = ", ".join(f"{n} {verb}" for verb, n in sorted(calm["reads_by_verb"].items()))
    lines = [
        f"| API writes in {calm['minutes']:g} quiet minutes, Leases aside | {calm['writes']} |",
        f"| Lease renewals in that time | {calm['lease_renewals']} |",
        f"| API reads in that time | {reads or 0} |",
        f"| processor time in that time | {calm['cpu_seconds']} s |",
    ]
    if calm["cpu_seconds_in_45_s"]:
        lines.append(
            f"| processor time in 45 s, median and range | "
            f"{_spread(calm['cpu_seconds_in_45_s'], 's')} |"
        )
    return [*lines, f"| resident memory after it | {calm['rss_mib']} MiB |"]


def _spread(found: Json, unit: str) -> str:
    return f"{found['median']} {unit} ({found['min']} to {found['max']})"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure the operator on a control plane.")
    parser.add_argument("--rounds", type=int, default=3, help="0 leaves the latencies out")
    parser.add_argument("--creates", type=int, default=50, help="one by one, in each round")
    parser.add_argument("--burst", type=int, default=300, help="at once; 0 leaves it out")
    parser.add_argument("--models", type=int, default=350, help="models at rest; 0: none")
    parser.add_argument("--quiet-minutes", type=float, default=10.0, help="0 leaves them out")
    parser.add_argument("--add", action="store_true", help="to the results that are there")
    parser.add_argument("--cluster", default="bench-controlplane")
    parser.add_argument("--output", type=Path, default=paths.repository() / "bench" / "results")
    return parser.parse_args()


def main() -> None:
    """Measure, write the results, print the table."""
    arguments = _arguments()
    with testbed(arguments.cluster) as bed:
        results = measure(bed, arguments)
    known = arguments.output / "control_plane.json"
    if arguments.add and known.exists():
        results = {**json.loads(known.read_text()), **results}
    publish(arguments.output, "control_plane", results, table(results))


if __name__ == "__main__":
    main()
