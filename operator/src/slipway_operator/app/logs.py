"""Structured logs: one JSON object a line, with the fields given as ``extra``."""

import json
import logging
import re
import sys
from datetime import UTC, datetime

from slipway_operator.reconcile import log_context

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
# kopf hangs whole objects and its settings on its records.
_KOPF = frozenset({"settings", "k8s_skip", "k8s_ref"})
_UNCLOSED = "an error occurred during closing of asynchronous generator"
_TRIED_AGAIN = re.compile(r"Request attempt #(\d+)\b.* will retry: ", re.DOTALL)
_TOLD_AT_FIRST = 8
_TOLD_EVERY = 50


def _extras(record: logging.LogRecord) -> dict[str, object]:
    """What the reconcile is about, and what the line itself adds."""
    own = {k: v for k, v in record.__dict__.items() if k not in _STANDARD and k not in _KOPF}
    return {**log_context.fields(), **own}


class TextFormatter(logging.Formatter):
    """For humans: the extra fields in brackets at the end of the message."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """One line."""
        extras = " ".join(f"{key}={value}" for key, value in _extras(record).items())
        return super().formatMessage(record) + (f"  ({extras})" if extras else "")


class JsonFormatter(logging.Formatter):
    """Renders a record with its level, logger, message and extra fields."""

    def format(self, record: logging.LogRecord) -> str:
        """One line of JSON."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_extras(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def without_unclosed_generators(record: logging.LogRecord) -> bool:
    """Return whether a record of asyncio's is worth a line.

    When the process ends, or has lost its Lease, kopf's watches are nested generators that are
    still running. Not all can be closed in order, and asyncio logs each with its stack.
    """
    return not record.getMessage().startswith(_UNCLOSED)


def without_endless_tries(record: logging.LogRecord) -> bool:
    """Return whether a record of kopf's is worth a line.

    It logs each attempt of a refused watch, several times a minute for each kind: the first few are
    kept, and then one every so often.
    """
    tried = _TRIED_AGAIN.match(record.getMessage())
    return not tried or (number := int(tried[1])) <= _TOLD_AT_FIRST or number % _TOLD_EVERY == 0


def configure(log_format: str) -> None:
    """Send everything to standard error in the given format, ``json`` or ``text``."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        JsonFormatter()
        if log_format == "json"
        else TextFormatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    )
    handler.addFilter(without_endless_tries)
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    # kopf logs each event of each object at INFO and DEBUG; its warnings are worth reading.
    logging.getLogger("kopf").setLevel(logging.WARNING)
    logging.getLogger("aiohttp").setLevel(logging.WARNING)
    logging.getLogger("asyncio").addFilter(without_unclosed_generators)
