"""SIGTERM drains; SIGINT, or a second signal, drains without the delay."""

from __future__ import annotations

import asyncio
import signal


class Signals:
    """Two events of the running loop: ``stop``, and ``hurry`` for a drain without its delay."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.hurry = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._terminate)
        loop.add_signal_handler(signal.SIGINT, self._interrupt)

    def _terminate(self) -> None:
        if self.stop.is_set():
            self.hurry.set()
        self.stop.set()

    def _interrupt(self) -> None:
        self.hurry.set()
        self.stop.set()
