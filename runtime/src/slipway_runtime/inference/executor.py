"""Where the model runs: a small fixed pool of threads behind a bounded queue.

One thread by default, since ONNX Runtime uses the cores of one run itself. The event loop never
runs the model, so the probes answer while it does.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from slipway_runtime.errors import QueueFull
from slipway_runtime.inference.model import Model
from slipway_runtime.inference.tensors import Array


@dataclass(frozen=True)
class Execution:
    """Outputs of one run and where its time went, in seconds."""

    outputs: dict[str, Array]
    queued: float
    ran: float


class Executor:
    """Runs one model. All methods but those of the pool are for the event loop's thread."""

    def __init__(self, model: Model, *, threads: int, max_queue: int) -> None:
        self._model = model
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="inference")
        self._threads = threads
        self._max_queue = max_queue
        self._submitted = 0

    @property
    def pending(self) -> int:
        """How many requests wait and do not run yet."""
        return max(0, self._submitted - self._threads)

    @property
    def submitted(self) -> int:
        """How many requests wait or run."""
        return self._submitted

    async def infer(self, inputs: Mapping[str, Array], outputs: Sequence[str] | None) -> Execution:
        """Run the model once, when its turn comes. See `Model.infer`.

        Raises:
            QueueFull: too many requests wait already.
        """
        if self.pending >= self._max_queue:
            raise QueueFull(
                f"{self.pending} requests wait already, which is the limit: try again later"
            )
        self._submitted += 1
        future = asyncio.get_running_loop().run_in_executor(
            self._pool, self._run, inputs, outputs, time.perf_counter()
        )
        future.add_done_callback(self._done)
        return await future

    def _done(self, _future: asyncio.Future[Execution]) -> None:
        self._submitted -= 1

    def _run(
        self, inputs: Mapping[str, Array], outputs: Sequence[str] | None, submitted: float
    ) -> Execution:
        started = time.perf_counter()
        result = self._model.infer(inputs, outputs)
        return Execution(result, started - submitted, time.perf_counter() - started)
