"""The one error that these tools raise for what can be expected to go wrong."""

from __future__ import annotations


class DevError(Exception):
    """An expected failure: what is wrong, and how to mend it.

    The command prints both without a stack trace; a test sees them in one message.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(f"{message}\n{hint}" if hint else message)
        self.message = message
        self.hint = hint
