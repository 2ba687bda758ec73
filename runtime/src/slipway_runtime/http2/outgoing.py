"""What a connection sends, as far as the client's windows and the network admit (RFC 9113, 5.2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from slipway_runtime.http2 import frames

if TYPE_CHECKING:
    from slipway_runtime.http2.stream import Stream

# Answers that have not left yet, before no more of them are made.
_CROWDED_BYTES: Final = 16 * 1024 * 1024
# RFC 7541, 6.3: an update of the dynamic table's size, to 0.
_NO_TABLE: Final = b"\x20"


class Outgoing:
    """Frames to be sent, and the streams that hold some back.

    ``wake`` is called when there is something to send, unless ``gathering``: then the owner is
    about to `take` it anyway. While ``choked`` the network takes nothing more. ``window`` and
    ``frame_size`` are the client's, for the connection; ``held`` counts the bytes held back.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self.gathering = False
        self.choked = False
        self.window = frames.DEFAULT_WINDOW
        self.frame_size = frames.LEAST_FRAME_SIZE
        self.held = 0
        self._wake = wake
        self._parts: list[bytes | memoryview] = []
        self._blocked: dict[Stream, None] = {}
        self._crowd: dict[Stream, Callable[[], None]] = {}
        self._admitting = False
        self._first = True

    def send(self, *parts: bytes | memoryview) -> None:
        """Send frames."""
        self._parts += parts
        if not self.gathering:
            self._wake()

    def take(self) -> list[bytes | memoryview]:
        """Return what is to be sent, once."""
        parts, self._parts = self._parts, []
        return parts

    def first_block(self, block: bytes) -> bytes:
        """Return a header block as it has to be sent: the first one renounces the dynamic table."""
        if self._first:
            self._first = False
            return _NO_TABLE + block
        return block

    # What is held back.

    def admits(self, size: int) -> bool:
        """Return whether so much data can leave at once, in one frame."""
        return size <= self.window and size <= self.frame_size and not self.choked

    def hold(self, stream: Stream) -> None:
        """Let a stream send on when there is room, which may be now."""
        self._blocked[stream] = None
        self.pump()

    def release(self, stream: Stream) -> None:
        """A stream has nothing more to send."""
        self._blocked.pop(stream, None)

    def pump(self) -> None:
        """Send what was held back, as far as the windows and the network admit, by turns."""
        progress = True
        while progress and not self.choked:
            progress = False
            for stream in list(self._blocked):
                if self.window <= 0:
                    break
                progress |= stream.open and stream.pump()
        self._admit_crowd()

    # Answers that are not made yet.

    @property
    def crowded(self) -> bool:
        """Whether so much is held back that new answers should wait."""
        return self.held > _CROWDED_BYTES

    def when_room(self, stream: Stream, callback: Callable[[], None]) -> None:
        """Call back when the connection is no longer crowded; never if the stream ends before.

        Streams have their turns in the order of asking.
        """
        self._crowd[stream] = callback

    def _admit_crowd(self) -> None:
        """Let those go on that wait until less is held back."""
        if self._admitting:
            return  # Called from below: the loop goes on.
        self._admitting = True
        while self._crowd and not self.crowded:
            self._crowd.pop(next(iter(self._crowd)))()
        self._admitting = False

    # Streams that end.

    def ended(self, stream: Stream) -> None:
        """A stream has sent all that it will."""
        self._crowd.pop(stream, None)

    def forget(self, stream: Stream) -> None:
        """What a stream holds back will not be sent."""
        self._blocked.pop(stream, None)
        self._crowd.pop(stream, None)
        self.held -= stream.forget()
        self._admit_crowd()

    def lose(self) -> None:
        """Nothing that is held back will be sent."""
        self._blocked.clear()
        self._crowd.clear()
        self.held = 0
