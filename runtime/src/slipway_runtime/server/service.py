"""One inference, whichever protocol it came by: decode, wait, run, encode, count."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, TypeAlias, TypeVar

from slipway_runtime.errors import AbandonedError, DeadlineExceeded, InferenceFailed
from slipway_runtime.inference.executor import Execution, Executor
from slipway_runtime.inference.json_values import NonFinite
from slipway_runtime.inference.model import Model
from slipway_runtime.metrics import Metrics
from slipway_runtime.protocol import v2_info
from slipway_runtime.protocol.request import Call
from slipway_runtime.server.codec_pool import WORTH_A_THREAD, CodecPool
from slipway_runtime.server.phases import Phases
from slipway_runtime.settings import ServeSettings

A = TypeVar("A")

WhenLost: TypeAlias = Callable[[Callable[[], None]], None]

_MICROSECONDS: Final = 1e6

logger = logging.getLogger(__name__)


class Service:
    """Answers inference requests with one model.

    ``gather`` asks all workers for their part of something, where there are several.
    """

    def __init__(
        self, model: Model, executor: Executor, metrics: Metrics, settings: ServeSettings
    ) -> None:
        self.model = model
        self.metrics = metrics
        self._executor = executor
        self._codec = CodecPool()
        self._non_finite: NonFinite = settings.non_finite
        self._request_timeout = settings.request_timeout or None
        self.gather: Callable[[str], Awaitable[bytes]] | None = None
        metrics.pending = lambda: executor.pending
        executor.on_run = lambda rows, times: metrics.executed(
            rows,
            times.inferred * _MICROSECONDS,
            times.joined * _MICROSECONDS,
            times.cut * _MICROSECONDS,
        )

    @property
    def max_batch_size(self) -> int:
        """The largest batch, or 0 where requests are not batched."""
        rows = self._executor.limits.max_rows
        return rows if rows > 1 else 0

    @property
    def in_flight(self) -> int:
        """How many requests wait for the model or a codec, or run."""
        return self._executor.submitted + self._codec.jobs

    async def statistics(self) -> dict[str, object]:
        """Return Triton's statistics, of all workers."""
        if self.gather is None:
            return self.own_statistics()
        return json.loads(await self.gather("statistics"))

    def own_statistics(self) -> dict[str, object]:
        """Return Triton's statistics of this process."""
        return v2_info.statistics(self.model, self.metrics)

    def failed(self, started: float) -> None:
        """Count a request that is answered with an error."""
        self.metrics.request_failure += 1
        self.metrics.failure_us += (time.perf_counter() - started) * _MICROSECONDS

    async def answer(
        self,
        decode: Callable[[Model], Call[A]],
        started: float,
        when_lost: WhenLost | None = None,
        phases: Phases | None = None,
        size: int = 0,
        waited: float = 0.0,
    ) -> A:
        """Return the answer of a request of ``size`` bytes that began at ``started``.

        It had waited for so many seconds by then, which count as a part of its time in the queue.
        ``when_lost`` takes what is to be called once the client has closed the connection;
        ``phases`` are filled in.

        Raises:
            RequestError: what decoding, running and encoding raise.
            AbandonedError: the client has gone.
        """
        try:
            # Before decoding, which would be in vain: the cheaper a refusal, the more is answered.
            self._executor.make_room()
            large = size >= WORTH_A_THREAD
            if large:
                call = await self._codec.call(partial(decode, self.model))
            else:
                call = decode(self.model)
            del decode  # It may hold the request, which may be large.
            decoded = time.perf_counter()
            spent = waited + (decoded - started if large else 0.0)
            execution = await self._execute(call, when_lost, spent)
            executed = time.perf_counter()
            outputs = execution.outputs
            if sum([output.nbytes for output in outputs.values()]) < WORTH_A_THREAD:
                answer = call.encode(outputs, self._non_finite)
            else:
                answer = await self._codec.call(partial(call.encode, outputs, self._non_finite))
        except AbandonedError:
            raise
        except Exception as error:
            self.failed(started)
            if isinstance(error, InferenceFailed):
                logger.error("a request failed: %s", error.message)
            raise
        ended = time.perf_counter()
        metrics = self.metrics
        metrics.request_success += 1
        metrics.request_us += (waited + ended - started) * _MICROSECONDS
        metrics.input_us += (decoded - started) * _MICROSECONDS
        metrics.queue_us += (waited + execution.queued) * _MICROSECONDS
        metrics.infer_us += execution.ran * _MICROSECONDS
        metrics.output_us += (ended - executed) * _MICROSECONDS
        metrics.duration.observe(waited + ended - started)
        if phases is not None:
            phases.received, phases.decoded = started, decoded
            phases.queued, phases.ran = execution.queued, execution.ran
            phases.executed, phases.ended = executed, ended
        return answer

    async def _execute(self, call: Call[A], when_lost: WhenLost | None, spent: float) -> Execution:
        timeout = self._timeout(call)
        if timeout is not None and spent >= timeout:
            raise DeadlineExceeded(f"the deadline of {timeout:g} s passed while waiting")
        ticket = self._executor.submit(call.inputs, call.outputs, timeout, spent)
        if ticket.future.done():
            return ticket.future.result()
        if when_lost is not None:
            when_lost(partial(self._executor.abandon, ticket, AbandonedError()))
        try:
            return await ticket.future
        except asyncio.CancelledError:
            self._executor.abandon(ticket, AbandonedError())
            raise

    def _timeout(self, call: Call[A]) -> float | None:
        """Return the seconds that a request may take: the client's, the setting's, the lesser."""
        if call.timeout is None or self._request_timeout is None:
            return call.timeout or self._request_timeout
        return min(call.timeout, self._request_timeout)
