"""Where and when the model runs: a bounded queue, batches, a small fixed pool of threads.

Work-conserving: whenever a thread is free and something waits, it runs; requests that have come
together meanwhile share the run. A run that is predicted to be shorter than a hop to a thread
happens on the event loop. Each run takes the oldest request along, so a request waits for at most
as many runs as there were requests before it. All methods but those of the pool are for the event
loop's thread.

    submit -> queue -> (at the end of this turn of the loop, or when a run ends)
           -> the oldest request, and others that may share its run
           -> on the loop, or on a thread -> each request's own rows
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import operator
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from slipway_runtime.errors import BadRequest, DeadlineExceeded, InferenceFailed, QueueFull
from slipway_runtime.inference.batching import (
    BatchLimits,
    BatchMismatchError,
    Key,
    cut,
    key_of,
    merge,
)
from slipway_runtime.inference.model import Model
from slipway_runtime.inference.pool import Pool
from slipway_runtime.inference.tensors import Array
from slipway_runtime.inference.timing import Predictor, work_clock

_INLINE_TURN_SECONDS: Final = 0.001
# How many shapes with outputs that cannot be split by rows turn batching off altogether.
_MOST_APART: Final = 64

logger = logging.getLogger(__name__)


class Execution(NamedTuple):
    """Outputs of one request and where its time went, in seconds; ``ran`` is the batch's."""

    outputs: dict[str, Array]
    queued: float
    ran: float


class RunTimes(NamedTuple):
    """Seconds of one run: joining the requests, the model itself, cutting the outputs apart."""

    joined: float
    inferred: float
    cut: float


class Ticket:
    """One request on its way through the executor."""

    __slots__ = ("future", "inputs", "key", "outputs", "rows", "run", "submitted", "timer")

    def __init__(
        self,
        inputs: Mapping[str, Array],
        outputs: Sequence[str] | None,
        key: Key,
        rows: int | None,
        future: asyncio.Future[Execution],
    ) -> None:
        self.inputs = inputs
        self.outputs = outputs
        self.key = key
        self.rows = rows
        self.future = future
        self.submitted = time.perf_counter()
        self.timer: asyncio.TimerHandle | None = None
        self.run: _Run | None = None


class _Run:
    """One execution of the model for one ticket or several; times are in seconds.

    ``seconds`` is what it took, ``worked`` how much of it was work; ``joined`` and ``cut`` are the
    parts of it before and after the model, where requests shared it.
    """

    __slots__ = ("cut", "joined", "options", "rows", "seconds", "started", "tickets", "worked")

    def __init__(self, tickets: list[Ticket]) -> None:
        self.tickets = tickets
        self.rows = sum([ticket.rows or 1 for ticket in tickets])
        self.started = 0.0
        self.seconds = 0.0
        self.worked = 0.0
        self.joined = 0.0
        self.cut = 0.0
        self.options: Any = None

    @property
    def times(self) -> RunTimes:
        """Where its time went."""
        return RunTimes(self.joined, self.seconds - self.joined - self.cut, self.cut)

    def stop_if_nobody_waits(self) -> None:
        """Let ONNX Runtime stop soon if nobody waits for any request of this run."""
        if self.options is not None and all(ticket.future.done() for ticket in self.tickets):
            self.options.terminate = True


_Result = list[dict[str, Array] | Exception]


class Executor:
    """Runs one model. ``on_run`` hears of every execution: its rows, and its times."""

    def __init__(
        self,
        model: Model,
        *,
        threads: int = 1,
        max_queue: int = 256,
        limits: BatchLimits | None = None,
        inline_seconds: float = 0.0,
        predictor: Predictor | None = None,
    ) -> None:
        self._model = model
        self._pool = Pool(threads, self._execute_in_pool, self._executed)
        self._threads = threads
        self._max_queue = max_queue
        self.limits = limits or BatchLimits()
        self._inline_seconds = inline_seconds
        self._predictor = predictor or Predictor()
        self._clock = work_clock(model)
        self._queue: deque[Ticket] = deque()
        self._running = 0
        self._in_runs = 0
        self._turn = 0
        self._crowded = True
        self._delay: asyncio.TimerHandle | None = None
        self._apart = set[Key]()
        self.on_run: Callable[[int, RunTimes], None] = lambda _rows, _times: None

    @property
    def pending(self) -> int:
        """How many requests wait and do not run yet."""
        return len(self._queue)

    @property
    def submitted(self) -> int:
        """How many requests wait or run."""
        return len(self._queue) + self._in_runs

    def make_room(self) -> None:
        """Start requests that need not wait any longer, so that another may wait.

        Raises:
            QueueFull: too many requests wait already.
        """
        if self._running and len(self._queue) >= self.limits.max_rows:
            self._pool.collect()
        if len(self._queue) >= self._max_queue:
            self._flush()
            if len(self._queue) >= self._max_queue:
                raise QueueFull(
                    f"{len(self._queue)} requests wait already, which is the limit: try again later"
                )

    def submit(
        self,
        inputs: Mapping[str, Array],
        outputs: Sequence[str] | None = None,
        timeout: float | None = None,
        spent: float = 0.0,
    ) -> Ticket:
        """Take a request in; its future gets the Execution. See `Model.infer`.

        After ``timeout`` seconds, of which some may be ``spent`` already, the future fails with
        DeadlineExceeded.

        Raises:
            QueueFull: too many requests wait already.
        """
        loop = asyncio.get_running_loop()
        self.make_room()
        key, rows = key_of(self._model.signature, inputs, outputs)
        ticket = Ticket(inputs, outputs, key, rows, loop.create_future())
        self._queue.append(ticket)
        if not self._joins_others(loop):
            self._flush()
        if timeout is not None and not ticket.future.done():
            ticket.timer = loop.call_later(timeout - spent, self._expire, ticket, timeout)
        return ticket

    def _joins_others(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Return whether a request waits for those that come in the same turn of the loop.

        They share a run. To wait costs some µs, so one does not if the last one came alone.
        """
        if self.limits.max_rows <= 1:
            return False
        self._turn += 1
        if self._turn == 1:
            loop.call_soon(self._end_turn)
        return self._crowded

    def _end_turn(self) -> None:
        self._crowded = self._turn > 1
        self._turn = 0
        self._flush()

    def abandon(self, ticket: Ticket, error: Exception) -> None:
        """Abandon a request: nobody waits for it any longer, or its future was cancelled."""
        if not ticket.future.done():
            ticket.future.set_exception(error)
        elif not ticket.future.cancelled():
            return
        if ticket.timer is not None:
            ticket.timer.cancel()
        if ticket.run is not None:
            ticket.run.stop_if_nobody_waits()
        elif ticket in self._queue:
            self._queue.remove(ticket)

    def _expire(self, ticket: Ticket, timeout: float) -> None:
        where = "waiting" if ticket.run is None else "running"
        self.abandon(
            ticket, DeadlineExceeded(f"the deadline of {timeout:g} s passed while {where}")
        )

    def _flush(self) -> None:
        """Run what waits, as far as threads are free and the loop may be kept busy."""
        inline_spent = 0.0
        while self._queue:
            inline = self._may_run_inline(self._queue[0])
            if not inline and self._running >= self._threads:
                return
            tickets = self._next_batch()
            if not tickets:
                return
            run = _Run(tickets)
            if inline and (len(tickets) == 1 or self._short(tickets[0].key, run.rows)):
                inline_spent += self._run_inline(run)
                if inline_spent > _INLINE_TURN_SECONDS and self._queue:
                    asyncio.get_running_loop().call_soon(self._flush)
                    return
            elif self._running < self._threads:
                self._run_in_pool(run)
            else:
                return

    def _may_run_inline(self, ticket: Ticket) -> bool:
        return self._inline_seconds > 0 and self._short(ticket.key, ticket.rows or 1)

    def _short(self, key: Key, rows: int) -> bool:
        seconds = self._predictor.predict(key, rows)
        return seconds is not None and seconds <= self._inline_seconds

    def _next_batch(self) -> list[Ticket]:
        """Return the oldest request and, in order, those that may share its run.

        While the oldest may still wait for company, the first batch that is full goes instead, if
        there is one. Nobody leaves the queue before the run begins, so nobody changes place in it.
        """
        head = self._queue[0]
        if self.limits.max_rows <= 1 or self._is_apart(head):
            return [head]
        if self.limits.max_delay <= 0:
            return self._batch_of(head)
        left = head.submitted + self.limits.max_delay - time.perf_counter()
        if left <= 0 or len(self._queue) >= self._max_queue:
            return self._batch_of(head)
        batch = self._full_batch()
        if not batch:
            if self._delay is not None:
                self._delay.cancel()
            self._delay = asyncio.get_running_loop().call_later(left, self._flush)
        return batch

    def _batch_of(self, head: Ticket) -> list[Ticket]:
        tickets = [head]
        if len(self._queue) == 1:
            return tickets
        room = self._room_beside(head)
        for ticket in itertools.islice(self._queue, 1, None):
            if room <= 0:
                break
            if ticket.key == head.key:
                # The first request that does not fit closes the batch: none of the same shape
                # overtakes it.
                room -= ticket.rows or 1
                if room >= 0:
                    tickets.append(ticket)
        return tickets

    def _full_batch(self) -> list[Ticket]:
        """Return requests of one shape that leave no room for another, if there are such."""
        batches: dict[Key, list[Ticket]] = {}
        rooms: dict[Key, int] = {}
        for ticket in self._queue:
            key = ticket.key
            if key not in batches:
                batches[key] = [ticket]
                rooms[key] = 0 if self._is_apart(ticket) else self._room_beside(ticket)
            else:
                rooms[key] -= ticket.rows or 1
                if rooms[key] >= 0:
                    batches[key].append(ticket)
            if rooms[key] <= 0:
                return batches[key]
        return []

    def _room_beside(self, ticket: Ticket) -> int:
        """How many rows may run together with a request."""
        return self.limits.max_rows - (ticket.rows or self.limits.max_rows)

    def _is_apart(self, ticket: Ticket) -> bool:
        return bool(self._apart) and ticket.key in self._apart

    def _take(self, tickets: list[Ticket]) -> None:
        if all(map(operator.is_, self._queue, tickets)):
            for _ in tickets:
                self._queue.popleft()
        else:
            chosen = set(map(id, tickets))
            self._queue = deque(ticket for ticket in self._queue if id(ticket) not in chosen)

    def _run_inline(self, run: _Run) -> float:
        self._begin(run)
        try:
            result = self._execute(run)
        except Exception as error:  # noqa: BLE001 - such as too little memory to join a batch
            result = self._blamed(run, error)
        run.worked = run.seconds
        self._end(run, result)
        return run.seconds

    def _run_in_pool(self, run: _Run) -> None:
        self._running += 1
        run.options = self._model.run_options()
        self._begin(run)
        self._pool.submit(run)

    def _executed(self, run: _Run, result: _Result | Exception) -> None:
        self._running -= 1
        self._end(run, self._blamed(run, result) if isinstance(result, Exception) else result)
        self._flush()

    @staticmethod
    def _blamed(run: _Run, error: Exception) -> _Result:
        logger.error("a defect in a run", exc_info=error)
        defect = InferenceFailed(f"a defect of the runtime: {type(error).__name__}")
        return [defect] * len(run.tickets)

    def _begin(self, run: _Run) -> None:
        self._take(run.tickets)
        self._in_runs += len(run.tickets)
        for ticket in run.tickets:
            ticket.run = run

    def _end(self, run: _Run, result: _Result) -> None:
        self._in_runs -= len(run.tickets)
        failed = False
        for ticket, outcome in zip(run.tickets, result, strict=True):
            # Each holds the other: the memory of a request would be freed only by the garbage
            # collector, and the next one would start with memory that is in no cache.
            ticket.run = None
            if ticket.timer is not None:
                ticket.timer.cancel()
            if isinstance(outcome, Exception):
                failed = True
                if not ticket.future.done():
                    ticket.future.set_exception(outcome)
            elif not ticket.future.done():
                queued = run.started - ticket.submitted
                ticket.future.set_result(Execution(outcome, queued, run.seconds))
        if not failed:
            self._predictor.observe(run.tickets[0].key, run.rows, run.worked)
            self.on_run(run.rows, run.times)

    def _execute_in_pool(self, run: _Run) -> _Result:
        # When it is done, this thread waits for the interpreter's lock for as long as the loop is
        # busy, which is no work.
        begun = self._clock()
        result = self._execute(run)
        run.worked = self._clock() - begun
        return result

    def _execute(self, run: _Run) -> _Result:
        """Run the model; on a thread of the pool, or on the loop's."""
        run.started = time.perf_counter()
        try:
            return self._together(run) if len(run.tickets) > 1 else [self._alone(run, 0)]
        finally:
            run.seconds = time.perf_counter() - run.started

    def _together(self, run: _Run) -> _Result:
        clock = time.perf_counter
        try:
            inputs = merge([ticket.inputs for ticket in run.tickets])
            run.joined = clock() - run.started
            outputs = self._model.infer(inputs, run.tickets[0].outputs, run.options)
            done = clock()
            apart: _Result = [*cut(outputs, [ticket.rows or 1 for ticket in run.tickets])]
            run.cut = clock() - done
            return apart
        except BatchMismatchError as error:
            self._keep_apart(run.tickets[0].key, error)
        except (BadRequest, InferenceFailed, MemoryError):
            pass  # One request of the batch is at fault, or all are too much: each runs alone.
        return [self._alone(run, number) for number in range(len(run.tickets))]

    def _keep_apart(self, key: Key, error: BatchMismatchError) -> None:
        """Stop batching these shapes, which proved unfit; after many such cases, all shapes."""
        self._apart.add(key)
        if len(self._apart) <= _MOST_APART:
            logger.warning("requests of these shapes are no longer batched: %s", error)
        else:
            logger.warning("requests are no longer batched: %s", error)
            self.limits = BatchLimits()

    def _alone(self, run: _Run, number: int) -> dict[str, Array] | Exception:
        ticket = run.tickets[number]
        if ticket.future.done():
            return InferenceFailed("nobody waits for this request any longer")
        try:
            return self._model.infer(ticket.inputs, ticket.outputs, run.options)
        except Exception as error:  # noqa: BLE001 - it belongs to the request, not to the thread
            return error
