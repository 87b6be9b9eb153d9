"""How much time this computer took away from everybody in it: what a deadline may be late by, measured beside it.

python -m tests.vcan.stall FILE     (a line per stall: when it began, how long; wall clock, s)
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

STEP_S = 0.005
LEAST_S = 0.015
"""A sleep that ends later than this is a stall; less is a kernel's timer and the next one's turn."""


def watch(file: Path) -> None:
    """Sleep again and again, and write down each sleep that lasted too long, until the process is ended."""
    with file.open("a", buffering=1) as written:
        before_s, wall_s = time.monotonic(), time.time()
        while True:
            time.sleep(STEP_S)
            now_s = time.monotonic()
            late_s = now_s - before_s - STEP_S
            if late_s > LEAST_S:
                written.write(f"{wall_s:.4f} {late_s:.4f}\n")
            before_s, wall_s = now_s, time.time()


class StallMeter:
    """A process that sleeps, and what it noted. Without it running nothing was ever lost: each bound is itself."""

    def __init__(self, noted: Path | None = None) -> None:
        """`noted` is the file of a meter that runs elsewhere."""
        self._file = noted
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, file: Path, priority: int = 0) -> None:
        """Note stalls in this file; with a real-time `priority` those only that even such a process suffers."""
        file.touch()
        self._file = file
        before_others = ["chrt", "-f", str(priority)] if priority else []
        self._process = subprocess.Popen([*before_others, sys.executable, "-m", "tests.vcan.stall", str(file)])

    def stop(self) -> None:
        """End the process; what it noted stays."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._process = None

    def stalls(self, since_s: float, until_s: float) -> list[tuple[float, float]]:
        """Return (begin, length) of the stalls that touch this span of the wall clock, s."""
        if self._file is None or not self._file.exists():
            return []
        lines = self._file.read_text().splitlines(keepends=True)
        noted = [tuple(map(float, line.split())) for line in lines if line.endswith("\n")]
        return [(at_s, lost_s) for at_s, lost_s in noted if at_s < until_s and at_s + STEP_S + lost_s > since_s]

    def lost_s(self, since_s: float, until_s: float | None = None) -> float:
        """Return the time lost between two moments of the wall clock (default: to now), s."""
        return sum(lost_s for _, lost_s in self.stalls(since_s, time.time() if until_s is None else until_s))

    def rest(self, span_s: float) -> None:
        """Sleep until others had this much time, not counting what was lost meanwhile."""
        began_s = time.time()
        time.sleep(span_s)
        time.sleep(self.lost_s(began_s))


METER = StallMeter()
"""The one of this run; tests/vcan/conftest.py starts it where the interfaces are."""


if __name__ == "__main__":
    watch(Path(sys.argv[1]))
