"""A profile of what ONNX Runtime does, on demand: `POST /debug/profile?seconds=5`.

ONNX Runtime can only profile a session from its beginning, so a second one is opened for the time.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs

from slipway_runtime.errors import BadRequest, Failure, InferenceFailed, NotSupported, QueueFull
from slipway_runtime.inference.model import Model
from slipway_runtime.server.http import Exchange, Response

_DEFAULT_SECONDS: Final = 5.0
_MAX_SECONDS: Final = 60.0

logger = logging.getLogger(__name__)


class Profiling:
    """Profiles one model, one profile at a time."""

    def __init__(self, model: Model, *, allowed: bool) -> None:
        self._model = model
        self._allowed = allowed
        self._lock = asyncio.Lock()

    async def answer(self, exchange: Exchange) -> Response:
        """Profile for the seconds of the query and answer the profile, as Chrome and Perfetto
        read it.
        """
        if not self._allowed:
            raise NotSupported(
                "profiles are off: SLIPWAY_PROFILING=true (in a cluster:"
                " spec.runtime.profiling) allows them"
            )
        seconds = _seconds(exchange.query)
        if self._lock.locked():
            raise QueueFull("another profile is being taken: try again later")
        async with self._lock:
            logger.info("profiling for %g s", seconds)
            with tempfile.TemporaryDirectory() as folder:
                # In a task, which is cancelled in good order when the process is to end.
                profile = asyncio.create_task(self._profile(Path(folder) / "profile", seconds))
                return Response(200, await profile)

    async def _profile(self, prefix: Path, seconds: float) -> bytes:
        try:
            end = await asyncio.to_thread(self._model.profile, prefix)
        except Failure as failure:
            raise InferenceFailed(f"no profile can be taken: {failure.message}") from failure
        try:
            await asyncio.sleep(seconds)
        finally:
            path = await asyncio.to_thread(end)
        return await asyncio.to_thread(path.read_bytes)


def _seconds(query: bytes) -> float:
    given = parse_qs(query.decode("latin-1")).get("seconds")
    try:
        seconds = float(given[0]) if given else _DEFAULT_SECONDS
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= _MAX_SECONDS:
        raise BadRequest(f"seconds must be a number above 0 and at most {_MAX_SECONDS:g}")
    return seconds
