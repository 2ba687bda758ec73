"""One supervisor for several workers: it accepts, counts, restarts nothing, and ends them together.

    listening socket -> supervisor -> the worker with the fewest connections

The model is ready when every worker is warm. The pod ends when one worker does: what is in flight
elsewhere is finished, and Kubernetes sees the exit code, as it would of a single process.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from slipway_runtime.artifact.digest import Digest
from slipway_runtime.errors import Failure, InternalError, failure_of
from slipway_runtime.server import totals
from slipway_runtime.server.channel import (
    GRPC,
    NUMBER_BYTES,
    PLAIN,
    SECURE,
    Channel,
    Kind,
    pair,
)
from slipway_runtime.server.crew import Crew, after_trial, variables_of
from slipway_runtime.server.drain import serve_on
from slipway_runtime.server.listener import GRPC_VARIABLES, Acceptor, listen
from slipway_runtime.server.signals import Signals
from slipway_runtime.settings import ServeSettings

_MOMENT_SECONDS: Final = 0.25
_BEAT_SECONDS: Final = 5.0
_MISSED_BEATS: Final = 6
_GATHER_SECONDS: Final = 1.0
_END_SECONDS: Final = 3.5
_METRICS: Final = "metrics"
_SIGNALLED: Final = 128

logger = logging.getLogger(__name__)


class WorkerEndedError(Exception):
    """A worker has ended by itself and left no reason; ``exit_code`` is for the whole."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(f"a worker has ended: {exit_code}")
        self.exit_code = exit_code


@dataclass(eq=False)
class _Worker:
    number: int
    process: asyncio.subprocess.Process
    channel: Channel = field(init=False)
    up: bool = False
    warm: dict[str, Any] | None = None
    connections: int = 0
    missed: int = 0
    dismissed: bool = False
    failure: Failure | None = None
    told: dict[str, bytes] = field(default_factory=dict[str, bytes])
    watch: asyncio.Task[None] = field(init=False)
    silent: asyncio.Event = field(default_factory=asyncio.Event)


def supervise(name: str, digest: Digest, settings: ServeSettings, crew: Crew, cpus: int) -> None:
    """Serve with several workers until SIGTERM or SIGINT has drained them.

    Raises:
        Failure: the model cannot be served, or a worker hangs.
        WorkerEndedError: a worker has crashed.
    """
    listener = listen(settings.host, settings.port)
    asyncio.run(_Supervisor(name, digest, settings, crew, cpus).run(listener))


class _Supervisor:
    def __init__(
        self, name: str, digest: Digest, settings: ServeSettings, crew: Crew, cpus: int
    ) -> None:
        self._name = name
        self._digest = digest
        self._settings = settings
        self._crew = crew
        self._cpus = cpus
        self._workers: list[_Worker] = []
        self._started: list[_Worker] = []
        self._numbers = itertools.count()
        self._turn = itertools.count()
        self._asked: dict[bytes, str] = {}
        self._answered = asyncio.Event()
        self._changed = asyncio.Event()
        self._ended: list[_Worker] = []
        self._acceptors: list[Acceptor] = []
        self._listeners: list[tuple[socket.socket, bytes]] = []
        self._tasks = set[asyncio.Task[None]]()
        self._latest_connection = 0.0

    async def run(self, listener: socket.socket) -> None:
        signals = Signals()
        self._listeners.append((listener, PLAIN))
        settings = self._settings
        if settings.tls_certificate is not None:
            secured = listen(settings.host, settings.tls_port)
            self._listeners.append((secured, SECURE))
            logger.info("TLS is at port %d", secured.getsockname()[1])
        if settings.grpc_port is not None:
            called = listen(settings.host, settings.grpc_port, GRPC_VARIABLES)
            self._listeners.append((called, GRPC))
            logger.info("gRPC listening on port %d", called.getsockname()[1])
        logger.info("listening on port %d", listener.getsockname()[1])
        try:
            await self._run(signals)
        finally:
            self._kill(self._started)

    async def _run(self, signals: Signals) -> None:
        stopping = asyncio.create_task(signals.stop.wait())
        if not await self._until_ready(stopping):
            logger.info("asked to stop before the model was ready")
            return
        beating = asyncio.create_task(self._beat())
        ending = asyncio.create_task(self._until(lambda: bool(self._ended)))
        await asyncio.wait({stopping, ending}, return_when=asyncio.FIRST_COMPLETED)
        beating.cancel()
        await self._drain(signals.hurry)
        self._raise_for_the_ended()

    async def _until_ready(self, stopping: asyncio.Task[bool]) -> bool:
        """Start the workers, and return whether all of them are ready; else it is time to stop."""
        await self._start(1 if self._crew.on_trial else self._crew.workers)
        while True:
            warm = asyncio.create_task(
                self._until(lambda: bool(self._ended) or all(one.warm for one in self._workers))
            )
            await asyncio.wait({stopping, warm}, return_when=asyncio.FIRST_COMPLETED)
            self._raise_for_the_ended()
            if stopping.done():
                return False
            if not self._crew.on_trial:
                break
            await self._decide()
        for worker in self._workers:
            worker.channel.send(Kind.READY)
        logger.info(
            "ready with %d workers", self._crew.workers, extra={"threads": self._crew.threads}
        )
        return True

    async def _decide(self) -> None:
        """Go on after the trial: with more workers, or with one that has all threads."""
        (first,) = self._workers
        assert first.warm is not None
        seconds = float(first.warm["run_seconds"])
        trial, self._crew = self._crew, after_trial(self._crew, self._settings, self._cpus, seconds)
        logger.info(
            "a run takes %.3f ms on %d threads: %d workers",
            seconds * 1000,
            trial.threads,
            self._crew.workers,
        )
        if self._crew.workers > 1:
            await self._start(self._crew.workers - 1)
            return
        await self._start(1)
        heir = self._workers[-1]
        await self._until(lambda: heir.up or bool(self._ended))
        # It still answers what it was asked meanwhile.
        _dismiss(first, self._settings.drain_timeout)
        self._workers.remove(first)

    async def _start(self, count: int) -> None:
        for _ in range(count):
            await self._start_one()

    async def _start_one(self) -> None:
        ours, theirs = pair()
        number = len(self._started)
        share = variables_of(self._crew, self._settings)
        command = (
            *(sys.executable, "-P", "-m", "slipway_runtime", "worker"),
            *("--digest", str(self._digest), "--name", self._name),
            *("--channel", str(theirs.fileno()), "--number", str(number)),
        )
        # A worker reports to the supervisor why it fails, and the supervisor to Kubernetes.
        of_its_own = {"SLIPWAY_TERMINATION_LOG": os.devnull, **share}
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *command, env=os.environ | of_its_own, pass_fds=(theirs.fileno(),)
            )
        worker = _Worker(number, process)

        def received(kind: Kind, content: bytes, _connection: socket.socket | None) -> None:
            self._received(worker, kind, content)

        def lost() -> None:
            worker.up = False
            worker.silent.set()

        worker.channel = Channel(ours, received, lost)
        worker.watch = asyncio.create_task(self._watch(worker))
        self._workers.append(worker)
        self._started.append(worker)

    async def _watch(self, worker: _Worker) -> None:
        """Note the end of a worker, after all that it has told."""
        code = await worker.process.wait()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(worker.silent.wait(), _END_SECONDS)
        worker.channel.close()
        if worker.dismissed:
            return
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        logger.error("worker %d has ended: %s", worker.number, how)
        self._ended.append(worker)
        self._changed.set()

    def _raise_for_the_ended(self) -> None:
        for worker in self._ended:
            if worker.failure is not None:
                raise worker.failure
        for worker in self._ended:
            code = worker.process.returncode or 0
            if code == 0:
                raise InternalError(f"worker {worker.number} ended without being asked to")
            raise WorkerEndedError(code if code > 0 else _SIGNALLED - code)

    def _received(self, worker: _Worker, kind: Kind, content: bytes) -> None:
        match kind:
            case Kind.UP:
                worker.up = True
                self._changed.set()
                if not self._acceptors:
                    self._acceptors = [
                        Acceptor(listener, self._hand_over(port))
                        for listener, port in self._listeners
                    ]
            case Kind.WARM:
                worker.warm = json.loads(content)
                self._changed.set()
            case Kind.FAILED:
                worker.failure = failure_of(json.loads(content))
            case Kind.CLOSED:
                worker.connections -= 1
            case Kind.ANSWER:
                worker.missed = 0
                what = self._asked.pop(content[:NUMBER_BYTES], None)
                if what is not None:
                    worker.told[what] = content[NUMBER_BYTES:]
                    self._answered.set()
            case Kind.GATHER:
                task = asyncio.create_task(self._gather(worker, content))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            case _:
                logger.warning("a message that is not for the supervisor: %s", kind.name)

    def _hand_over(self, port: bytes) -> Callable[[socket.socket], None]:
        """Return what gives each connection to the worker that has the fewest."""

        def give(connection: socket.socket) -> None:
            self._latest_connection = time.monotonic()
            turn = next(self._turn)  # Equals take turns.
            able = sorted(
                (one for one in self._workers if one.up),
                key=lambda one: (
                    one.channel.congested,
                    one.connections,
                    (one.number - turn) % len(self._workers),
                ),
            )
            for worker in able:
                if worker.channel.send(Kind.CONNECTION, port, connection):
                    worker.connections += 1
                    return
            connection.close()

        return give

    def _ask(self, what: str) -> set[bytes]:
        numbers = set[bytes]()
        for worker in self._workers:
            if worker.up:
                number = (next(self._numbers) % (1 << 32)).to_bytes(NUMBER_BYTES, "big")
                self._asked[number] = what
                numbers.add(number)
                worker.channel.send(Kind.ASK, number + what.encode())
        return numbers

    async def _gather(self, worker: _Worker, content: bytes) -> None:
        """Answer a worker with the sum of what all tell; one that is silent counts as before."""
        what = content[NUMBER_BYTES:].decode()
        numbers = self._ask(what)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_GATHER_SECONDS):
                while numbers & self._asked.keys():
                    self._answered.clear()
                    await self._answered.wait()
        for number in numbers:
            self._asked.pop(number, None)
        told = [one.told[what] for one in self._workers if one.told.get(what)]
        if what == _METRICS:
            total = totals.of_pages(told)
        else:
            total = json.dumps(totals.of_statistics([json.loads(one) for one in told])).encode()
        worker.channel.send(Kind.TOTAL, content[:NUMBER_BYTES] + total)

    async def _beat(self) -> None:
        """End a worker that no longer answers.

        Beats are counted, not seconds: after a pause of the whole container nobody is to blame.
        """
        while True:
            await asyncio.sleep(_BEAT_SECONDS)
            for worker in self._workers:
                worker.missed += 1
                if worker.missed > _MISSED_BEATS and worker.failure is None:
                    seconds = _BEAT_SECONDS * _MISSED_BEATS
                    worker.failure = InternalError(
                        f"worker {worker.number} has not answered for {seconds:g} s"
                    )
                    self._kill([worker])
            self._ask(_METRICS)

    async def _drain(self, hurry: asyncio.Event) -> None:
        for worker in self._workers:
            worker.channel.send(Kind.DRAIN)
        seconds = await serve_on(self._settings, hurry, lambda: self._latest_connection)
        await asyncio.gather(*(acceptor.stop(_MOMENT_SECONDS) for acceptor in self._acceptors))
        for worker in self._workers:
            _dismiss(worker, seconds)
        await asyncio.wait(
            [worker.watch for worker in self._workers],
            timeout=seconds + _END_SECONDS,
        )
        late = [worker for worker in self._workers if worker.process.returncode is None]
        if late:
            logger.warning("%d workers did not end in time", len(late))
        for worker in self._workers:
            if worker.process.returncode and worker not in self._ended:
                logger.error("worker %d has ended while draining", worker.number)
                self._ended.append(worker)
        logger.info("drained")

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    def _kill(self, workers: list[_Worker]) -> None:
        for worker in workers:
            if worker.process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    worker.process.kill()


def _dismiss(worker: _Worker, seconds: float) -> None:
    """Let a worker finish what is in flight, for so many seconds, and end."""
    worker.dismissed = True
    worker.channel.send(Kind.STOP, json.dumps(seconds).encode())
