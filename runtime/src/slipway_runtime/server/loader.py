"""From the cached artifact to a warm model: re-verify, load, warm up."""

from __future__ import annotations

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
    from slipway_runtime.server.preparation import prepare  # noqa: PLC0415 - see there

    return prepare(name, digest, artifact, settings, metrics, enter, unready)
