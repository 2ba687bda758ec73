"""Why the process cannot start."""


class CannotStartError(Exception):
    """Something around the process must be changed first; the message says what."""
