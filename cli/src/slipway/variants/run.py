"""Making variants in a folder of their own, measuring them, and keeping the best that holds."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import onnx

from slipway import files, terminal
from slipway.errors import InvalidModel
from slipway.model import graph as graphs
from slipway.model import ort
from slipway.model.signature import inputs_of
from slipway.variants import data, measure, methods, processor, verdict
from slipway.variants.data import Data
from slipway.variants.measure import Accuracy, Agreement, Latency, SpeedUp
from slipway.variants.processor import Processor
from slipway.variants.verdict import Bounds, Measured

_LOADS = 3


@dataclass(frozen=True)
class Plan:
    """What is made, and how it is measured; ``threads`` are ONNX Runtime's for one run."""

    methods: Sequence[str]
    wishes: methods.Wishes
    bounds: Bounds
    compared_on: Data
    calibrated_on: Data | None = None
    batch_size: int = 1
    rounds: int = 40
    threads: int = 1


@dataclass(frozen=True)
class Candidate:
    """A file and what was measured of it; ``size`` in bytes with its external data."""

    method: str
    digest: str
    size: int
    load_ms: float
    latency: Latency
    accuracy: Accuracy | None


@dataclass(frozen=True)
class Variant:
    """A candidate beside the original; ``failures`` are the bounds that it misses."""

    candidate: Candidate
    speed_up: SpeedUp
    agreements: Sequence[Agreement]
    failures: Sequence[str]
    slower: bool


@dataclass(frozen=True)
class Outcome:
    """Everything that was found; ``kept`` is the fastest variant that holds all bounds."""

    model: Path
    plan: Plan
    processor: Processor
    original: Candidate
    variants: Sequence[Variant]
    kept: Variant | None = None
    refused: Mapping[str, str] = field(default_factory=dict[str, str])


def run(model: Path, target: Path, plan: Plan) -> Outcome:
    """Make and measure all variants, and move the best that holds to ``target``.

    Raises:
        InvalidArguments, InvalidModel: a method cannot be applied, and it was the only one.
    """
    refused: dict[str, str] = {}
    with tempfile.TemporaryDirectory(dir=target.resolve().parent, prefix=".slipway-") as folder:
        made: dict[str, Path] = {}
        for method in plan.methods:
            path = Path(folder) / method / target.name
            path.parent.mkdir()
            try:
                with terminal.working(f"making {method}"):
                    methods.make(method, model, path, plan.wishes)
                    _sign(path, model, method, plan)
            except InvalidModel as error:
                if len(plan.methods) == 1:
                    raise
                refused[method] = error.message
                continue
            made[method] = path
        outcome = _measured(model, made, plan, refused)
        if outcome.kept is not None:
            best = made[outcome.kept.candidate.method]
            files.place(best, target, graphs.files_beside(target))
        return outcome


def _measured(
    model: Path, made: Mapping[str, Path], plan: Plan, refused: Mapping[str, str]
) -> Outcome:
    paths = {"original": model, **made}
    sessions = {name: ort.Session(path, threads=plan.threads) for name, path in paths.items()}
    feeds = data.first_rows(plan.compared_on, inputs_of(graphs.read(model).graph), plan.batch_size)
    with terminal.working("timing them side by side"):
        times = measure.latencies(
            [_once(session, feeds) for session in sessions.values()], plan.rounds
        )
    with terminal.working("comparing what they compute"):
        candidates = {
            name: _candidate(name, path, sessions[name], latency, plan)
            for (name, path), latency in zip(paths.items(), times, strict=True)
        }
        original = candidates.pop("original")
        found = [
            _compared(original, candidate, sessions, plan) for candidate in candidates.values()
        ]
    holding = [variant for variant in found if not variant.failures]
    kept = max(holding, key=lambda variant: variant.speed_up.median, default=None)
    return Outcome(model, plan, processor.here(), original, found, kept, refused)


def _once(session: ort.Session, feeds: Mapping[str, object]) -> Callable[[], object]:
    return lambda: session.run(feeds)  # pyright: ignore[reportArgumentType]


def _candidate(
    method: str, path: Path, session: ort.Session, latency: Latency, plan: Plan
) -> Candidate:
    labels = plan.compared_on.labels
    accuracy = None
    if labels is not None:
        accuracy = measure.accuracy(session.run_tensors, plan.compared_on.batches, labels)
    beside = [path.parent / name for name in graphs.external_files(graphs.read(path))]
    size = path.stat().st_size + sum(file.stat().st_size for file in beside)
    load = _load_ms(path, plan.threads)
    return Candidate(method, files.digest(path), size, load, latency, accuracy)


def _compared(
    original: Candidate, candidate: Candidate, sessions: Mapping[str, ort.Session], plan: Plan
) -> Variant:
    agreements = measure.agreements(
        sessions["original"].run_tensors,
        sessions[candidate.method].run_tensors,
        plan.compared_on.batches,
    )
    measured = Measured(
        candidate.size,
        original.size,
        measure.speed_up(original.latency, candidate.latency),
        agreements,
        candidate.accuracy,
        original.accuracy,
    )
    return Variant(
        candidate,
        measured.speed_up,
        agreements,
        verdict.failures(measured, plan.bounds),
        verdict.slower(measured),
    )


def _load_ms(path: Path, threads: int) -> float:
    times: list[float] = []
    for _ in range(_LOADS):
        begun = time.perf_counter()
        ort.Session(path, threads=threads)
        times.append(1000 * (time.perf_counter() - begun))
    return sorted(times)[_LOADS // 2]


def _sign(path: Path, source: Path, method: str, plan: Plan) -> None:
    """Write into the variant what it is a variant of, beside all that the original says."""
    told = {entry.key: entry.value for entry in graphs.read(source).metadata_props}
    told |= {"variant": method, "variant_of": files.digest(source)}
    if method == methods.STATIC and plan.calibrated_on is not None:
        told["calibration"] = plan.calibrated_on.origin or "random"
    model = graphs.read(path)
    del model.metadata_props[:]
    for key, value in sorted(told.items()):
        model.metadata_props.append(onnx.StringStringEntryProto(key=key, value=value))
    path.write_bytes(model.SerializeToString())
