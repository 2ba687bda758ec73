"""From the cached artifact to a warm model: re-verify, load, warm up."""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from slipway_runtime.artifact import record
from slipway_runtime.artifact.cache import Cache
from slipway_runtime.artifact.digest import Digest
from slipway_runtime.artifact.stored import find
from slipway_runtime.metrics import Metrics
from slipway_runtime.server.lifecycle import Phase
from slipway_runtime.settings import ServeSettings

if TYPE_CHECKING:
    from slipway_runtime.server.routes import ModelRoutes

_TIMED_RUNS = 7
_TIMING_SECONDS = 0.2

logger = logging.getLogger(__name__)


def load(
    name: str,
    digest: Digest,
    settings: ServeSettings,
    metrics: Metrics,
    enter: Callable[[Phase], None],
    unready: Callable[[], str | None],
) -> ModelRoutes:
    """Return the routes of a warm model; ``enter`` hears of each phase as it begins,
    and ``unready`` tells why no traffic should come, None where it should.

    Raises:
        ArtifactNotFound: the cache has no such artifact.
        DigestMismatch: the cached bytes have changed.
        Failure: what loading and warming up raise.
    """
    enter(Phase.VERIFYING)
    artifact = find(Cache(settings.cache_dir), digest)
    if (fetched := record.read(settings.cache_dir, digest)) is not None:
        metrics.fetched(fetched.size, fetched.seconds)

    enter(Phase.LOADING)
    # Imported here, in the loader's thread: NumPy and ONNX Runtime take 0.4 s, in which the
    # server already answers.
    from slipway_runtime.inference import golden  # noqa: PLC0415
    from slipway_runtime.inference import model as models  # noqa: PLC0415
    from slipway_runtime.inference.engine_cache import engines  # noqa: PLC0415
    from slipway_runtime.inference.executor import Executor  # noqa: PLC0415
    from slipway_runtime.inference.providers import Providers  # noqa: PLC0415
    from slipway_runtime.inference.session import Tuning, available_providers  # noqa: PLC0415
    from slipway_runtime.inference.threads import available_cpus  # noqa: PLC0415
    from slipway_runtime.inference.timing import (  # noqa: PLC0415
        Predictor,
        depends_on_shapes_alone,
        rehearse,
    )
    from slipway_runtime.inference.trial import limits_for  # noqa: PLC0415
    from slipway_runtime.server.routes import ModelRoutes  # noqa: PLC0415
    from slipway_runtime.server.service import Service  # noqa: PLC0415

    intra_op_threads = settings.intra_op_threads or available_cpus()
    inter_op_threads = settings.inter_op_threads or available_cpus()
    options, preferred = settings.provider_options, settings.preferred_providers
    wanted = Providers(settings.providers, preferred, available_providers())
    compilers = [*wanted.candidates, *wanted.required]
    with engines(settings.engine_cache_dir, digest, compilers, options) as kept:
        model = models.load(
            models.ModelIdentity(name, digest, tuple(settings.aliases)),
            artifact.model,
            settings.providers,
            preferred=preferred,
            intra_op_threads=intra_op_threads,
            inter_op_threads=inter_op_threads,
            provider_options=kept.options,
            tuning=Tuning(
                graph_optimization=settings.graph_optimization,
                entries=settings.session_options,
                cpu_arena=settings.cpu_arena,
                cpu_arena_limit=settings.cpu_arena_limit,
                custom_op_libraries=settings.custom_op_libraries,
            ),
            manifest=artifact.manifest,
        )

        enter(Phase.WARMING)
        tolerance = golden.DEFAULT_TOLERANCE
        hint = None
        if artifact.manifest is not None:
            tolerance = artifact.manifest.golden or tolerance
            hint = artifact.manifest.serving.max_batch_size
        packed = [sample for path in artifact.golden for sample in golden.read(path, model)]
        pinned = [golden.Pinned(packed, tolerance)] if packed else []
        if settings.golden is not None:
            pinned.append(golden.parse(settings.golden, model))
        # What is typical is told by the package, or else by the setting, with its own tolerance.
        typical = pinned[0] if pinned else golden.Pinned([], tolerance)
        samples = typical.samples
        inputs = samples[0].inputs if samples else None
        warm = model.warm_up(inputs)
        for group in pinned:
            golden.check(model, group.samples, group.tolerance)
        logger.info(
            "the model is warm",
            extra={
                "digest": str(digest),
                "providers": model.providers,
                "passed_over": list(model.passed_over),
                "intra_op_threads": intra_op_threads,
                "inter_op_threads": inter_op_threads,
            },
        )
        inline = settings.inline_microseconds / 1e6
        if not depends_on_shapes_alone(artifact.model):
            inline = 0.0
        predictor = Predictor()
        if inline > 0:
            rehearse(model, predictor, [sample.inputs for sample in samples] or [warm])
        limits = limits_for(
            model,
            settings.max_batch_size,
            settings.max_batch_delay_ms / 1000,
            hint=hint,
            typical=golden.rows(model, samples),
            tolerance=typical.tolerance,
            predictor=predictor,
        )
        # What one has begun that was passed over then is of no use.
        if kept.provider in model.providers:
            kept.keep()
    executor = Executor(
        model,
        threads=settings.executor_threads,
        max_queue=settings.max_queue,
        limits=limits,
        inline_seconds=inline,
        predictor=predictor,
    )
    service = Service(model, executor, metrics, settings)
    routes = ModelRoutes(service, settings, unready, inputs)
    if settings.workers == "auto":
        routes.run_seconds = _timed(lambda: model.warm_up(warm))
    return routes


def _timed(run: Callable[[], object]) -> float:
    """Return the median seconds of a few runs, or of those that a moment allows."""
    took: list[float] = []
    while len(took) < _TIMED_RUNS and sum(took) < _TIMING_SECONDS:
        began = time.perf_counter()
        run()
        took.append(time.perf_counter() - began)
    return statistics.median(took)
