"""Log lines: one JSON object each, on standard error, with whatever `extra` carries."""

from __future__ import annotations

import json
import logging
import sys
import time

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_QUIET = ("botocore", "boto3", "s3transfer", "urllib3", "asyncio")


def _extras(record: logging.LogRecord) -> dict[str, object]:
    return {key: value for key, value in vars(record).items() if key not in _STANDARD}


def printable(text: str) -> str:
    """Return the text with what is not printable escaped.

    A client's text, such as a path, must not make lines of its own, nor command a terminal.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


class JsonFormatter(logging.Formatter):
    """Format a record as one JSON object: time (UTC), level, logger, message, extras."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line without its newline."""
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, object] = {
            "time": f"{seconds}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_extras(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """Format a record for reading at a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line without its newline."""
        extras = " ".join(f"{key}={value}" for key, value in _extras(record).items())
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        line = f"{clock} {record.levelname:<7} {record.getMessage()}"
        if extras:
            line = f"{line}  ({printable(extras)})"
        if record.exc_info:
            line = f"{line}\n{self.formatException(record.exc_info)}"
        return line


# Members of every line.
told_always: dict[str, object] = {}


def tell_always(**extras: object) -> None:
    """Add members to every line from now on."""
    told_always.update(extras)

    def add(record: logging.LogRecord) -> bool:
        vars(record).update(extras)
        return True

    for handler in logging.getLogger().handlers:
        handler.addFilter(add)


def configure(log_format: str, level: str) -> None:
    """Send all logs to standard error; libraries speak from WARNING up only."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(TextFormatter() if log_format == "text" else JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
