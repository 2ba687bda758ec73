"""One line for each request, written many at a time.

The logging module takes longer for a line than a small model for its answer, and each line would be
a write of its own. Lines look like those of `logs` and lie in memory for a tenth of a second at
most; what is left when the process ends is written then. Workers share a pipe: what is written at
once is whole lines, and so little that the kernel keeps it in one piece.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import select
import sys
import time
from collections.abc import Mapping
from typing import Final, Literal

import orjson

from slipway_runtime import logs

_LOGGER: Final = "slipway_runtime.access"
_DELAY_SECONDS: Final = 0.1
_MOST_LINES: Final = 512
_SHOWN: Final = ("time", "level", "logger", "message")


class AccessLog:
    """The lines of all requests, on standard error. For the event loop's thread alone."""

    def __init__(self, digest: str, log_format: Literal["json", "text"]) -> None:
        self._digest = digest
        self._encode = _json_line if log_format == "json" else _text_line
        self._lines: list[bytes] = []
        self._second = (0, "")
        atexit.register(self.flush)

    @classmethod
    def enabled(cls) -> bool:
        """Whether the log level lets these lines through."""
        return logging.getLogger(_LOGGER).isEnabledFor(logging.INFO)

    def note(
        self, what: str, request_id: str, size: int, seconds: float, more: Mapping[str, str]
    ) -> None:
        """Take in a request that was answered with so many bytes in so many seconds.

        ``what`` is method, path and status; ``more`` goes into the line as it is.
        """
        now = time.time()
        if int(now) != self._second[0]:
            self._second = (int(now), time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)))
        line: dict[str, object] = {
            "time": f"{self._second[1]}.{int(now % 1 * 1000):03d}Z",
            "level": "info",
            "logger": _LOGGER,
            "message": what,
            "request_id": request_id,
            "digest": self._digest,
            "milliseconds": round(seconds * 1000, 3),
            "bytes": size,
            **more,
            **logs.told_always,
        }
        self._lines.append(self._encode(line))
        if len(self._lines) == 1:
            asyncio.get_running_loop().call_later(_DELAY_SECONDS, self.flush)
        elif len(self._lines) >= _MOST_LINES:
            self.flush()

    def flush(self) -> None:
        """Write what lies in memory."""
        lines, self._lines = self._lines, []
        while lines:
            size = count = 0
            for line in lines:
                size += len(line)
                if count and size > select.PIPE_BUF:
                    break
                count += 1
            sys.stderr.buffer.write(b"".join(lines[:count]))
            sys.stderr.buffer.flush()
            del lines[:count]


def _json_line(line: dict[str, object]) -> bytes:
    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)


def _text_line(line: dict[str, object]) -> bytes:
    clock, message = str(line["time"])[11:19], line["message"]
    extras = " ".join(f"{name}={value}" for name, value in line.items() if name not in _SHOWN)
    return logs.printable(f"{clock} INFO    {message}  ({extras})").encode() + b"\n"
