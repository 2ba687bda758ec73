"""One call: from the request's head to the status that ends it.

A unary call is answered in the turn of the event loop in which its message is complete, with no
task of its own; a stream of messages has a task.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final, NamedTuple, Protocol

from slipway_runtime.errors import (
    AbandonedError,
    BadRequest,
    NotReady,
    QueueFull,
    RequestError,
)
from slipway_runtime.http2.headers import Request, encode
from slipway_runtime.http2.stream import Stream
from slipway_runtime.server import eager
from slipway_runtime.server.grpc import status
from slipway_runtime.server.grpc.messages import ENCODINGS, Assembler, Packed, pack, parse
from slipway_runtime.server.grpc.status import Code, Fields
from slipway_runtime.server.intake import SMALL_BYTES, Intake

CONTENT_TYPE: Final = b"application/grpc"

# 0x88 is `:status: 200` (RFC 7541, appendix A).
HEAD: Final = b"\x88" + encode(((b"content-type", CONTENT_TYPE),))
ACCEPTED: Final = ((b"grpc-accept-encoding", b",".join(ENCODINGS)),)
_DEFECT: Final = "a defect of the runtime; its log has more"

logger = logging.getLogger(__name__)


class Method(NamedTuple):
    """What a path leads to. A ``handler`` of one message takes it with the call, and returns the
    answer; that of a stream takes the call.
    """

    name: str
    handler: Callable[..., Awaitable[Any]]
    request: Any
    streams: bool = False


class Terms(Protocol):
    """What holds for all calls of a server."""

    told_always: Fields
    """Trailers of every call."""

    trailers_ok: bytes
    """The header block that ends a call that went well."""

    @property
    def intake(self) -> Intake:
        """What counts the messages of all calls."""
        ...

    def limit(self, method: Method) -> int:
        """Return the largest message that a method takes, in bytes."""
        ...

    def admit(self, call: Call) -> None:
        """Check that the caller is authorized.

        Raises:
            Unauthorized: not so.
        """
        ...

    def note(self, call: Call, request_id: str, answer: Any, seconds: float, code: Code) -> None:
        """Log how a request ended, after so many seconds; its message may have had an id."""
        ...


class Call:
    """What both kinds have in common; a `Receiver` of its stream."""

    __slots__ = (
        "_assembler",
        "_begun",
        "_held",
        "_on_loss",
        "_request_id",
        "_stream",
        "_terms",
        "_timer",
        "_working",
        "ended",
        "message_bytes",
        "metadata",
        "method",
        "started",
        "trace_id",
        "waited",
        "waits",
    )

    def __init__(
        self, method: Method, stream: Stream, request: Request, terms: Terms, waited: float
    ) -> None:
        self.method = method
        self.metadata = request.fields
        self.started = time.perf_counter() - waited
        self.waited = waited
        self.trace_id = ""
        self.message_bytes = 0  # of the latest message, inflated
        self.ended = False
        # What the client keeps waiting for, and since when (loop time, in seconds).
        self.waits: tuple[str, object, float] | None = None
        self._begun = False
        self._held = 0  # of the intake
        self._working = False  # what has come is still needed
        self._request_id = ""
        self._stream = stream
        self._terms = terms
        self._on_loss: Callable[[], None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        encoding = self.metadata.get(b"grpc-encoding", b"identity")
        self._assembler = Assembler(encoding, terms.limit(method))
        timeout = self.metadata.get(b"grpc-timeout")
        if timeout is not None:
            loop, seconds = asyncio.get_running_loop(), status.timeout_of(timeout)
            self._timer = loop.call_later(max(seconds - waited, 0.0), self._expire)

    @property
    def busy(self) -> bool:
        """Whether something is being done for the call, and the client is not what it waits for."""
        raise NotImplementedError

    def awaited(self) -> tuple[str, object] | None:
        """Return what the client must send, and what changes when it gets on."""
        raise NotImplementedError

    def when_lost(self, callback: Callable[[], None]) -> None:
        """Call back once nobody waits for the answer any longer."""
        self._on_loss = callback
        if self.ended:
            callback()

    def metadatum(self, name: bytes) -> str | None:
        """Return a value of the metadata; ``name`` in lower case."""
        value = self.metadata.get(name)
        return None if value is None else value.decode("latin-1")

    def fail(self, code: Code, message: str, retry_after: int | None = None) -> None:
        """End the call with an error, and whatever is being done for it."""
        if self.ended:
            return
        more = self._terms.told_always
        if code is Code.UNIMPLEMENTED:
            more += ACCEPTED
        self._end(b"", status.trailers(code, message, more, retry_after), code)
        self._let_go()

    # For the stream.

    def received(self, data: bytes, *, complete: bool) -> None:
        """Take a part of the messages."""
        raise NotImplementedError

    def lost(self) -> None:
        """Note that nobody waits for the answer any longer."""
        if not self.ended:
            self._finish(Code.CANCELLED)
            self._let_go()

    def drained(self) -> None:
        """Know that what was sent has left."""

    def finish(self) -> None:
        """Know that the server is about to stop."""

    # For those below.

    def _expire(self) -> None:
        self.fail(Code.DEADLINE_EXCEEDED, "the call's deadline has passed")

    def _send(self, message: Any) -> None:
        head = None if self._begun else HEAD
        self._begun = True
        self._stream.send(head, pack(message.SerializeToString()), None)

    def _end(self, data: bytes, trailers: bytes, code: Code, answer: Any = None) -> None:
        """Send what is left, and the status; an error before all data is a head and trailers."""
        if data:
            head = None if self._begun else HEAD
            self._stream.send(head, data, trailers)
        else:
            self._stream.send(None, b"", trailers if self._begun else HEAD + trailers)
        self._finish(code, answer)

    def _finish(self, code: Code, answer: Any = None) -> None:
        self.ended = True
        if self._timer is not None:
            self._timer.cancel()
        if not self._working:
            self._release()
        self._note(code, answer)

    def _hold(self, size: int) -> bool:
        """Count what has come and is needed; if that is too much beside others, end the call."""
        if size <= SMALL_BYTES and not self._held:
            return True
        try:
            self._held = self._terms.intake.hold(self._held, size)
        except QueueFull as error:
            self.fail(status.code_of(error), error.message, error.retry_after)
        return not self.ended

    async def _parsed(self, message: Packed) -> Any:
        """Return the request that a message holds; inflated, it counts with all that it takes.

        Raises:
            BadRequest: it is none.
            BodyTooLarge, ProtocolViolation: it cannot be inflated.
            QueueFull: the messages of all calls together take too much.
        """
        data = await self._assembler.inflated(message)
        self.message_bytes = len(data)
        if message.compressed:
            size = self._assembler.pending + len(data)
            self._held = self._terms.intake.hold(self._held, size)
        return parse(self.method.request, data)

    def _release(self) -> None:
        if self._held:
            self._terms.intake.release(self._held)
            self._held = 0

    def _note(self, code: Code, answer: Any) -> None:
        seconds = time.perf_counter() - self.started
        self._terms.note(self, self._request_id, answer, seconds, code)

    def _let_go(self) -> None:
        callback, self._on_loss = self._on_loss, None
        if callback is not None:
            callback()


class UnaryCall(Call):
    """One message, one answer."""

    __slots__ = ("_message", "_size")

    def __init__(
        self, method: Method, stream: Stream, request: Request, terms: Terms, waited: float
    ) -> None:
        super().__init__(method, stream, request, terms, waited)
        self._message: Packed | None = None
        self._size = 0

    @property
    def busy(self) -> bool:
        """Whether the request is complete."""
        return self._stream.complete

    def awaited(self) -> tuple[str, object] | None:
        """Return that the request must come, all of it in the time that is allowed."""
        return None if self._stream.complete else ("body", None)

    def received(self, data: bytes, *, complete: bool) -> None:
        """Take a part of the message, and answer it once it is complete."""
        if self.ended:
            return
        assembler = self._assembler
        if data:
            self._size += len(data)
            if not self._hold(self._size):
                return
            assembler.add(data)
            try:
                self._message = self._message or assembler.take()
            except RequestError as error:
                self.fail(status.code_of(error), error.message)
                return
            if self._message is not None and not assembler.empty:
                self.fail(Code.INTERNAL, "more than one message in a call that takes one")
                return
            self._stream.welcome(len(data))
        if not complete:
            return
        if self._message is None:
            what = "no message" if assembler.empty else "a message cut short"
            self.fail(Code.INTERNAL, f"{what} in a call that takes one")
        elif self._stream.crowded:
            self._stream.when_room(self._begin)
        else:
            self._begin()

    def _begin(self) -> None:
        message, self._message = self._message, None
        if message is not None and not self.ended:
            self._working = True
            eager.run(self._answer(message))

    async def _answer(self, message: Packed) -> None:
        method = self.method
        try:
            request = await self._parsed(message)
            self._request_id = getattr(request, "id", "")
            answering = method.handler(request, self)
            # Only what the handler keeps of them is held while it waits; they may be large.
            del message, request
            answer = await answering
            data = pack(answer.SerializeToString())
        except RequestError as error:
            self.fail(status.code_of(error), error.message, error.retry_after)
        except AbandonedError:
            return
        except Exception:
            logger.exception("a defect in the answer to a call")
            self.fail(Code.INTERNAL, _DEFECT)
        else:
            if not self.ended:
                self._on_loss = None
                self._end(data, self._terms.trailers_ok, Code.OK, answer)
        finally:
            self._working = False
            self._release()


class StreamCall(Call):
    """A stream of messages, answered by another."""

    __slots__ = ("_finishing", "_idle", "_owed", "_taken", "_task", "_wake")

    def __init__(
        self, method: Method, stream: Stream, request: Request, terms: Terms, waited: float
    ) -> None:
        super().__init__(method, stream, request, terms, waited)
        self._taken = 0
        self._owed = 0
        self._idle = True
        self._finishing = False
        self._wake: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def busy(self) -> bool:
        """Whether there is something to answer."""
        return not self._idle or self._assembler.ready

    def awaited(self) -> tuple[str, object] | None:
        """Return that a message must be completed, and the first one come."""
        if self._task is None or not (self._assembler.empty or self.busy):
            return "body", self._taken
        return None

    def received(self, data: bytes, *, complete: bool) -> None:  # noqa: ARG002
        """Take a part of the messages; the first ones begin the answer."""
        if self.ended:
            return
        self._assembler.add(data)
        if not self._hold(self._assembler.pending + self.message_bytes):
            return
        self._owed += len(data)
        self._welcome()
        self._wake_up()
        if self._task is None:
            self._idle = False
            self._task = asyncio.get_running_loop().create_task(self._run())

    def drained(self) -> None:
        """Know that what was sent has left."""
        self._wake_up()

    def finish(self) -> None:
        """Answer what has arrived, and then end."""
        self._finishing = True
        if not self.busy:
            error = _stopping()
            self.fail(status.code_of(error), error.message)

    def _let_go(self) -> None:
        super()._let_go()
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()

    # For handlers.

    async def messages(self) -> AsyncIterator[Any]:
        """Yield the messages of the client as they come.

        Raises:
            BadRequest: one is malformed, or the last was cut short.
            BodyTooLarge: one is larger than the limit.
            NotReady: the server is stopping.
        """
        assembler = self._assembler
        while True:
            # It was about the message before, which may be large.
            self._on_loss = None
            message = assembler.take()
            self._welcome()
            if message is not None:
                self._taken += 1
                yield await self._parsed(message)
            elif not self._stream.complete:
                self.message_bytes = 0
                self._hold(self._assembler.pending)
                await self.idle()
            elif assembler.empty:
                return
            else:
                raise BadRequest("a message cut short")

    async def idle(self, until: asyncio.Future[None] | None = None) -> None:
        """Wait for the client, or for a future.

        Raises:
            NotReady: the server is stopping, and does not wait for this.
        """
        if self._finishing:
            raise _stopping()
        self._idle = True
        try:
            await (self._wait() if until is None else until)
        finally:
            self._idle = False

    async def send(self, message: Any) -> None:
        """Send a message; returns when the client, and the network, admit another."""
        self._send(message)
        while self._stream.blocked and not self.ended:
            await self._wait()

    async def _run(self) -> None:
        code, text, retry = Code.OK, "", None
        self._working = True
        try:
            await self.method.handler(self)
        except RequestError as error:
            code, text, retry = status.code_of(error), error.message, error.retry_after
        except asyncio.CancelledError:
            return
        except Exception:
            logger.exception("a defect in the answer to a call")
            code, text = Code.INTERNAL, _DEFECT
        finally:
            self._working = False
            self._release()
        if code is not Code.OK:
            self.fail(code, text, retry)
        elif not self.ended:
            self._end(b"", self._terms.trailers_ok, Code.OK)

    def _note(self, code: Code, answer: Any) -> None:
        """Each message has a line of its own in the log, so only what broke the stream off has."""
        if code is not Code.OK:
            super()._note(code, answer)

    async def _wait(self) -> None:
        self._wake = asyncio.get_running_loop().create_future()
        await self._wake

    def _wake_up(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def _welcome(self) -> None:
        """Let the client send on, unless a message waits: they may be large."""
        if not self._assembler.ready:
            owed, self._owed = self._owed, 0
            self._stream.welcome(owed)


def _stopping() -> NotReady:
    return NotReady("the server is stopping")
