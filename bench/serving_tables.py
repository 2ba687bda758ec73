"""The pages that tell of bench/serving.py's results."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from typing import Any

from peers import OURS

AT_RATE, AT_TWICE = "at a fixed rate", "at twice its best"

Json = dict[str, Any]


def page(result: Json) -> str:
    """The MLP, with all that is measured."""
    lines = [
        "# Serving an MLP, one row a request",
        "",
        _conditions(result),
        "",
        *_ratios(result),
        *_loads(result, "##"),
        *_overload(result),
        *_costs(result, "##"),
        *_sizes(result),
        *_footnotes(result),
    ]
    return "\n".join(lines) + "\n"


def models_page(results: dict[str, Json]) -> str:
    """Other models, each with a section of its own."""
    lines = [
        "# Serving larger models, one row a request",
        "",
        "The servers of [serving.md](serving.md) with other models. The peers read JSON, as they",
        "commonly do, and that weighs most where an input is large.",
    ]
    for result in results.values():
        about = result["model"]
        lines += [
            "",
            f"## {about[0].upper()}{about[1:]}",
            "",
            _conditions(result),
            "",
            *_ratios(result),
            *_loads(result, "###"),
            *_costs(result, "###"),
            *_footnotes(result),
        ]
    return "\n".join(lines) + "\n"


def _conditions(result: Json) -> str:
    load, where = result["load_average_at_the_end"][0], result["environment"]
    return (
        f"Taken {result['taken']}, commit {where['commit']}, on {result['machine']}, Linux"
        f" {result['kernel']}. Load average at the end {load:.1f}: above 2, other work ran beside"
        f" it. Server on one core, load on another; {result['rounds']} interleaved rounds of"
        f" {result['seconds']} s; medians, and the range of the rounds. `session.run` alone, on an"
        f" unpinned thread: {result['session_run_per_second']:,.0f}/s."
    )


def _valid(runs: Sequence[Json]) -> list[Json]:
    return [run for run in runs if "void" not in run]


def _middle(runs: Sequence[Json], key: str) -> float:
    return statistics.median(run[key] for run in runs)


def _ratios(result: Json) -> Iterator[str]:
    """How many times as many requests our JSON gets as each peer, round by round."""
    runs, connections = result["runs"], [str(number) for number in result["connections"]]
    if OURS not in runs:
        return
    yield f"How many times the requests/s of a peer `{OURS}` answers: median and range of the"
    yield "rounds, each against the same round of the peer."
    yield ""
    yield f"| peer, at so many connections | {' | '.join(connections)} |"
    yield f"|---|{'---:|' * len(connections)}"
    for name, of_peer in runs.items():
        if name.startswith("slipway"):
            continue
        cells = [_ratio(runs[OURS][number], of_peer[number]) for number in connections]
        yield f"| {name} | {' | '.join(cells)} |"


def _ratio(ours: list[Json], theirs: list[Json]) -> str:
    times = sorted(
        one["rate"] / other["rate"]
        for one, other in zip(ours, theirs, strict=True)
        if "void" not in one and "void" not in other
    )
    if not times:
        return "void"
    return f"**{statistics.median(times):.1f}** ({times[0]:.1f}-{times[-1]:.1f})"


def _loads(result: Json, level: str) -> Iterator[str]:
    for number in map(str, result["connections"]):
        yield ""
        yield f"{level} {number} connection{'s' if number != '1' else ''}"
        yield ""
        yield "| server | requests/s | range | p50 µs | p99 µs | CPU s / 1,000 requests |"
        yield "|---|---:|---:|---:|---:|---:|"
        for name, of_peer in result["runs"].items():
            if not (runs := _valid(of_peer[number])):
                yield f"| {name} | void | | | | |"
                continue
            rates = [run["rate"] for run in runs]
            yield (
                f"| {name} | {_middle(runs, 'rate'):,.0f} | {min(rates):,.0f}-{max(rates):,.0f} |"
                f" {_middle(runs, 'p50'):,.0f} | {_middle(runs, 'p99'):,.0f} |"
                f" {_middle(runs, 'cpu'):.3f} |"
            )
    yield ""
    yield f"{level} {result['rate']} requests/s, whether or not the server keeps up"
    yield ""
    yield "| server | p50 µs | p99 µs |"
    yield "|---|---:|---:|"
    for name, of_peer in result["runs"].items():
        runs = _valid(of_peer[AT_RATE])
        cells = [f"{_middle(runs, key):,.0f}" if runs else "void" for key in ("p50", "p99")]
        yield f"| {name} | {' | '.join(cells)} |"


def _overload(result: Json) -> Iterator[str]:
    deadline = result["deadline_seconds"]
    yield ""
    yield "## Twice as many requests as the server answers at its best"
    yield ""
    within = f"{deadline * 1e3:g} ms"
    yield "The best is what wrk got at most in the same round. Answered is what got 2xx, at any"
    yield f"age, and in time what got it within {within} after it was due. The others were refused"
    yield "(another status, such as 429), or never sent, since no connection was free within"
    yield f"{within}, or failed (the connection was closed, or no answer came)."
    yield "There are so many connections that no server answers in time what is under way on all."
    yield "A probe asks whether the server is ready, ten times a second, on a new connection."
    yield ""
    yield (
        "| server | best/s | asked/s | answered, of best | median age | in time, of best |"
        " probe, median | slowest |"
    )
    yield "|---|---:|---:|---:|---:|---:|---:|---:|"
    for name, of_peer in result["runs"].items():
        if not (runs := _valid(of_peer.get(AT_TWICE, ()))):
            yield f"| {name} | void | | | | | | |"
            continue
        answered = statistics.median((run["good"] + run["late"]) / run["peak"] for run in runs)
        yield (
            f"| {name} | {_middle(runs, 'peak'):,.0f} | {_middle(runs, 'due'):,.0f} |"
            f" {answered:.0%} | {_middle(runs, 'age') * 1e3:,.0f} ms |"
            f" {_middle(runs, 'of_peak'):.0%} | {_middle(runs, 'probe') * 1e3:,.0f} ms |"
            f" {max(run['probe_slowest'] for run in runs) * 1e3:,.0f} ms |"
        )
    yield ""
    yield "| server | refused/s | never sent/s | failed/s |"
    yield "|---|---:|---:|---:|"
    for name, of_peer in result["runs"].items():
        if runs := _valid(of_peer.get(AT_TWICE, ())):
            yield (
                f"| {name} | {_middle(runs, 'refused'):,.0f} |"
                f" {_middle(runs, 'given up'):,.0f} | {_middle(runs, 'failed'):,.0f} |"
            )


def _costs(result: Json, level: str) -> Iterator[str]:
    yield ""
    yield f"{level} What a server costs"
    yield ""
    starts = max((len(cost["start_seconds"]) for cost in result["costs"].values()), default=0)
    if starts > 1:
        yield f"| server | start to ready, median of {starts} | resident memory at the end |"
        yield "|---|---:|---:|"
    else:
        yield "| server | resident memory at the end |"
        yield "|---|---:|"
    for name, cost in result["costs"].items():
        start = f" {statistics.median(cost['start_seconds']):.2f} s |" if starts > 1 else ""
        yield f"| {name} |{start} {cost['mebibytes']:,.0f} MiB |"


def _sizes(result: Json) -> Iterator[str]:
    yield ""
    yield "## Size"
    yield ""
    yield "An image holds all that runs: the system, Python, the packages and their bytecode."
    yield "Packages alone are site-packages on disk, without bytecode: peers have no image here."
    yield ""
    yield "| | size on disk |"
    yield "|---|---:|"
    if not result["bytes"]["images"]:
        yield "| image of Slipway | not built here |"
    for name, size in result["bytes"]["images"].items():
        yield f"| image {name} | {size / 1e6:,.0f} MB |"
    for name, size in result["bytes"]["packages"].items():
        yield f"| packages of {name} | {size / 1e6:,.0f} MB |"


def _footnotes(result: Json) -> Iterator[str]:
    told = [
        f"{product} ({', '.join(f'{name} {version}' for name, version in found.items())})"
        for product, found in result["versions"].items()
    ]
    yield ""
    yield f"Versions: {'; '.join(told)}."
    for name, reason in result["left_out"].items():
        yield ""
        yield f"Left out: {name} ({' '.join(reason.split())})"
    for name, of_peer in result["runs"].items():
        for load, runs in of_peer.items():
            void = [run["void"] for run in runs if "void" in run]
            if void:
                what = f"{load} connections" if load.isdigit() else load
                yield ""
                yield f"Void: {len(void)} of {len(runs)} runs of {name}, {what} ({void[0]})"
