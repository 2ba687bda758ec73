"""How many workers serve a model, and what each may use. Decisions only; no I/O.

A worker is a process with the model loaded. Several pay where the work around a run (HTTP, JSON),
which one process does on one core, is what takes the time. Where the run takes it, ONNX Runtime's
threads use the cores better: with one queue, and the model in memory once.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Final

from slipway_runtime.settings import MIN_CONNECTIONS, ServeSettings

# What a request costs around its run, generously; docs/performance.md has what was measured.
AROUND_A_RUN_SECONDS: Final = 0.00025
LARGE_BYTES: Final = 128 * 1024 * 1024


@dataclass(frozen=True)
class Crew:
    """So many workers with so many threads for one run each.

    With ``on_trial`` the first of them is to measure a run before it is known whether more follow.
    """

    workers: int
    threads: int
    on_trial: bool = False


def crew_of(settings: ServeSettings, cpus: int, model_bytes: int) -> Crew:
    """Return the crew for a model of that size and so many CPUs.

    Threads times workers are never more than the CPUs; a single worker has the threads that the
    settings say, whatever the CPUs.
    """
    alone = Crew(1, settings.intra_op_threads or cpus)
    if settings.workers == 1:
        return alone
    if settings.workers == "auto":
        threads = settings.intra_op_threads or 1
        most = cpus // threads
        return alone if most < 2 or model_bytes > LARGE_BYTES else Crew(most, threads, True)  # noqa: PLR2004
    threads = min(settings.intra_op_threads or max(1, cpus // settings.workers), cpus)
    workers = min(settings.workers, cpus // threads)
    return Crew(workers, threads) if workers > 1 else alone


def after_trial(crew: Crew, settings: ServeSettings, cpus: int, run_seconds: float) -> Crew:
    """Return the crew once the time of a run on one worker's threads is known.

    One worker is enough where a run that all CPUs shared evenly would still take longer than the
    work around it.
    """
    if run_seconds * crew.threads / cpus > AROUND_A_RUN_SECONDS:
        return Crew(1, settings.intra_op_threads or cpus)
    return Crew(crew.workers, crew.threads)


def variables_of(crew: Crew, settings: ServeSettings) -> dict[str, str]:
    """Return the variables that give a worker its share of what the settings allow."""
    return {
        "SLIPWAY_INTRA_OP_THREADS": str(crew.threads),
        "SLIPWAY_MAX_QUEUE": str(ceil(settings.max_queue / crew.workers)),
        "SLIPWAY_MAX_BODIES_BYTES": str(ceil(settings.intake_bytes / crew.workers)),
        "SLIPWAY_MAX_CONNECTIONS": str(
            max(MIN_CONNECTIONS, ceil(settings.max_connections / crew.workers))
        ),
    }
