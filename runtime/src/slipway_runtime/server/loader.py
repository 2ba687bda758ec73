"""From the cached file to a warm model: re-verify, load, warm up."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from slipway_runtime.artifact.cache import Cache
from slipway_runtime.artifact.digest import Digest, digest_of_file, mismatch
from slipway_runtime.errors import ArtifactNotFound
from slipway_runtime.metrics import Metrics
from slipway_runtime.server.lifecycle import Phase
from slipway_runtime.settings import ServeSettings

if TYPE_CHECKING:
    from slipway_runtime.server.routes import ModelRoutes

logger = logging.getLogger(__name__)


def load(
    name: str,
    digest: Digest,
    settings: ServeSettings,
    metrics: Metrics,
    enter: Callable[[Phase], None],
    ready: Callable[[], bool],
) -> ModelRoutes:
    """Return the routes of a warm model; ``enter`` hears of each phase as it begins,
    and ``ready`` tells whether traffic should come.

    Raises:
        ArtifactNotFound: the cache has no such artifact.
        DigestMismatch: the cached bytes have changed.
        Failure: what loading and warming up raise.
    """
    enter(Phase.VERIFYING)
    path = Cache(settings.cache_dir).model_path(digest)
    try:
        size = path.stat().st_size
        actual = digest_of_file(path)
    except OSError as error:
        raise ArtifactNotFound(
            f"the cache has no readable {path} ({error.strerror}): `slipway-runtime fetch` must"
            " run first, with the same digest and SLIPWAY_CACHE_DIR"
        ) from error
    if actual != digest:
        raise mismatch(
            digest, actual, size, str(path), "the cache was changed after it was written"
        )

    enter(Phase.LOADING)
    # Imported here, in the loader's thread: NumPy and ONNX Runtime take 0.4 s, in which the
    # server already answers.
    from slipway_runtime.inference import model as models  # noqa: PLC0415
    from slipway_runtime.inference.batching import limits_for  # noqa: PLC0415
    from slipway_runtime.inference.executor import Executor  # noqa: PLC0415
    from slipway_runtime.inference.threads import available_cpus  # noqa: PLC0415
    from slipway_runtime.inference.timing import depends_on_shapes_alone  # noqa: PLC0415
    from slipway_runtime.server.routes import ModelRoutes  # noqa: PLC0415
    from slipway_runtime.server.service import Service  # noqa: PLC0415

    intra_op_threads = settings.intra_op_threads or available_cpus()
    inter_op_threads = settings.inter_op_threads or available_cpus()
    model = models.load(
        models.ModelIdentity(name, digest, tuple(settings.aliases)),
        path,
        settings.providers,
        intra_op_threads=intra_op_threads,
        inter_op_threads=inter_op_threads,
        provider_options=settings.provider_options,
    )

    enter(Phase.WARMING)
    model.warm_up()
    logger.info(
        "the model is warm",
        extra={
            "digest": str(digest),
            "providers": model.providers,
            "intra_op_threads": intra_op_threads,
            "inter_op_threads": inter_op_threads,
        },
    )
    limits = limits_for(model, settings.max_batch_size, settings.max_batch_delay_ms / 1000)
    steady = depends_on_shapes_alone(path)
    executor = Executor(
        model,
        threads=settings.executor_threads,
        max_queue=settings.max_queue,
        limits=limits,
        inline_seconds=settings.inline_microseconds / 1e6 if steady else 0.0,
    )
    return ModelRoutes(Service(model, executor, metrics, settings), settings, ready)
