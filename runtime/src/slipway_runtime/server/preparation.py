"""From a verified artifact to a warm model with its routes.

The loader imports it once the server answers: NumPy and ONNX Runtime take 0.4 s.
"""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Callable, Mapping

from slipway_runtime.artifact.digest import Digest
from slipway_runtime.artifact.manifest import Tolerance
from slipway_runtime.artifact.stored import Artifact
from slipway_runtime.inference import golden
from slipway_runtime.inference import model as models
from slipway_runtime.inference.engine_cache import Engines, engines
from slipway_runtime.inference.executor import Executor
from slipway_runtime.inference.model import Model
from slipway_runtime.inference.operators import depends_on_shapes_alone, mixing_rows
from slipway_runtime.inference.providers import Providers
from slipway_runtime.inference.session import Tuning, available_providers
from slipway_runtime.inference.tensors import Array
from slipway_runtime.inference.threads import available_cpus
from slipway_runtime.inference.timing import Predictor, rehearse
from slipway_runtime.inference.trial import limits_for
from slipway_runtime.metrics import Metrics
from slipway_runtime.server.lifecycle import Phase
from slipway_runtime.server.routes import ModelRoutes
from slipway_runtime.server.service import Service
from slipway_runtime.settings import ServeSettings

_TIMED_RUNS = 7
_TIMING_SECONDS = 0.2

logger = logging.getLogger(__name__)


def prepare(
    name: str,
    digest: Digest,
    artifact: Artifact,
    settings: ServeSettings,
    metrics: Metrics,
    enter: Callable[[Phase], None],
    unready: Callable[[], str | None],
) -> ModelRoutes:
    """Return the routes of a warm model; see `loader.load`."""
    options, preferred = settings.provider_options, settings.preferred_providers
    wanted = Providers(settings.providers, preferred, available_providers())
    compilers = [*wanted.candidates, *wanted.required]
    with engines(settings.engine_cache_dir, digest, compilers, options) as kept:
        identity = models.ModelIdentity(name, digest, tuple(settings.aliases))
        model = _loaded(identity, artifact, settings, kept)
        enter(Phase.WARMING)
        pinned = _pinned(model, artifact, settings)
        # The package's samples are typical requests, or else those of the setting.
        samples = pinned[0].samples if pinned else []
        sample = samples[0].inputs if samples else None
        warm = model.warm_up(sample)
        for group in pinned:
            golden.check(model, group.samples, group.tolerance)
        logger.info(
            "the model is warm",
            extra={
                "digest": str(digest),
                "providers": model.providers,
                "passed_over": list(model.passed_over),
            },
        )
        executor = _executor(model, artifact, settings, pinned, warm)
        # What one has begun that was passed over then is of no use.
        if kept.provider in model.providers:
            kept.keep()
    service = Service(model, executor, metrics, settings)
    routes = ModelRoutes(service, settings, unready, warm if model.typical else sample)
    if settings.workers == "auto":
        routes.run_seconds = _timed(lambda: model.warm_up(warm))
    return routes


def _loaded(
    identity: models.ModelIdentity, artifact: Artifact, settings: ServeSettings, kept: Engines
) -> Model:
    intra_op_threads = settings.intra_op_threads or available_cpus()
    inter_op_threads = settings.inter_op_threads or available_cpus()
    logger.info(
        "loading the model",
        extra={"intra_op_threads": intra_op_threads, "inter_op_threads": inter_op_threads},
    )
    return models.load(
        identity,
        artifact.model,
        settings.providers,
        preferred=settings.preferred_providers,
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


def _pinned(model: Model, artifact: Artifact, settings: ServeSettings) -> list[golden.Pinned]:
    """Return the golden samples of the package, and behind them those of the setting."""
    packed = [sample for path in artifact.golden for sample in golden.read(path, model)]
    pinned = [golden.Pinned(packed, _tolerance(artifact))] if packed else []
    if settings.golden is not None:
        pinned.append(golden.parse(settings.golden, model))
    return pinned


def _tolerance(artifact: Artifact) -> Tolerance:
    told = None if artifact.manifest is None else artifact.manifest.golden
    return told or golden.DEFAULT_TOLERANCE


def _executor(
    model: Model,
    artifact: Artifact,
    settings: ServeSettings,
    pinned: list[golden.Pinned],
    warm: Mapping[str, Array],
) -> Executor:
    """Return what runs a warm model: where its runs belong, and how many rows share one."""
    typical = pinned[0] if pinned else golden.Pinned([], _tolerance(artifact))
    inline = settings.inline_microseconds / 1e6
    if not depends_on_shapes_alone(artifact.model):
        inline = 0.0
    predictor = Predictor()
    if inline > 0:
        rehearse(model, predictor, [sample.inputs for sample in typical.samples] or [warm])
    hint = None if artifact.manifest is None else artifact.manifest.serving.max_batch_size
    limits = limits_for(
        model,
        settings.max_batch_size,
        settings.max_batch_delay_ms / 1000,
        hint=hint,
        typical=golden.rows(model, typical.samples),
        tolerance=typical.tolerance,
        predictor=predictor,
        mixing=mixing_rows(artifact.model),
    )
    return Executor(
        model,
        threads=settings.executor_threads,
        max_queue=settings.max_queue,
        limits=limits,
        inline_seconds=inline,
        predictor=predictor,
    )


def _timed(run: Callable[[], object]) -> float:
    """Return the median seconds of a few runs, or of those that a moment allows."""
    took: list[float] = []
    while len(took) < _TIMED_RUNS and sum(took) < _TIMING_SECONDS:
        began = time.perf_counter()
        run()
        took.append(time.perf_counter() - began)
    return statistics.median(took)
