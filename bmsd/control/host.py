"""The edge to the computer: read in a thread of its own, so that a read that blocks never holds a tick."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from bmsd.control.computer import computer
from bmsd.model.host import Computer

READ_EVERY_S = 5.0
STALE_S = 30.0
"""An older reading is not believed: what the computer said then is unknown now."""

Read = Callable[[Path, int], Computer]


class ComputerReader:
    """Asks the computer every few seconds, from `start` to `close`; `now` is the newest answer with its age."""

    def __init__(
        self, directory: Path, read: Read = computer, every_s: float = READ_EVERY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._directory, self._read, self._every_s, self._clock = directory, read, every_s, clock
        self._newest = (-math.inf, Computer())
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="computer", daemon=True)

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def now(self, now_s: float) -> Computer:
        """Return the newest answer as of now; all but its age is unknown when it is too old."""
        at_s, newest = self._newest
        age_s = now_s - at_s
        if not age_s <= STALE_S:
            return Computer(reading=newest.reading, age_s=age_s)
        return replace(newest, age_s=max(age_s, 0.0))

    def close(self) -> None:
        """Ask no more; a read that blocks is left to itself."""
        self._ended.set()

    def _run(self) -> None:
        reading = 0
        while not self._ended.is_set():
            reading += 1
            at_s = self._clock()
            self._newest = (at_s, self._read(self._directory, reading))
            self._ended.wait(self._every_s)
