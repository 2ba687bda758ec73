"""The wall clock of one process, which a test can set; its monotonic clock goes on as it does."""

from __future__ import annotations

from pathlib import Path

_PLACES = ("usr/lib*/*/faketime", "usr/lib*/faketime")


class WallClock:
    """By libfaketime, which the process must be started with."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "wall-clock"
        self.set("+0")

    def set(self, offset: str) -> None:
        """Set it, as ``+1h`` from the true time. Takes effect at once."""
        # Replaced as a whole: the process reads it whenever it asks for the time.
        new = self._file.with_suffix(".new")
        new.write_text(f"{offset}\n")
        new.replace(self._file)

    def environment(self) -> dict[str, str]:
        """What the process must be started with."""
        return {
            "LD_PRELOAD": str(_library()),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }


def _library() -> Path:
    for place in _PLACES:
        for found in Path("/").glob(f"{place}/libfaketimeMT.so.1"):
            return found
    raise AssertionError("libfaketime is missing: apt-get install libfaketime")
