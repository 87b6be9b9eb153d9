"""Wall time, and whether it may be believed: a computer without network and battery may have started in 1970.

It is for records only: nothing that decides asks for it.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from typing import Any

from bmsd.model.host import ClockQuality

EARLIEST_UTC_S = 1_767_225_600.0
"""2026-01-01: this bmsd is younger; a clock that shows less was never set."""
TIME_ERROR = 5
"""What adjtimex(2) returns while nothing disciplines the clock."""
TIMEX_BYTES = 512
"""More than struct timex has on any architecture; zeroed, it asks and sets nothing."""
TIMESYNC = "/run/systemd/timesync"
"""systemd-timesyncd keeps a file `synchronized` there; asked where a sandbox does not let us ask the kernel."""
LARGEST_GAP_S = 0.1
"""Both clocks are read this close to one another, or the reading does not count."""


def utc(wall: Callable[[], float] = time.time) -> tuple[float | None, ClockQuality]:
    """Return seconds since 1970 UTC, None when the clock was never set, and whether they may be believed."""
    utc_s = wall()
    if not utc_s >= EARLIEST_UTC_S:
        return None, ClockQuality.UNSET
    return utc_s, disciplined()


def disciplined() -> ClockQuality:
    """Whether something keeps the clock right, as the kernel says, else systemd-timesyncd; unknown: nobody says."""
    try:
        state = _libc().adjtimex(ctypes.create_string_buffer(TIMEX_BYTES))
    except (AttributeError, OSError):
        state = -1
    if state < 0:
        return _timesync()
    return ClockQuality.UNSYNCHRONISED if state == TIME_ERROR else ClockQuality.SYNCHRONISED


def _timesync() -> ClockQuality:
    if os.path.exists(f"{TIMESYNC}/synchronized"):
        return ClockQuality.SYNCHRONISED
    return ClockQuality.UNSYNCHRONISED if os.path.isdir(TIMESYNC) else ClockQuality.UNKNOWN


@cache
def _libc() -> Any:
    return ctypes.CDLL(None)


def step_text(step_s: float, wall: Callable[[], float] = time.time) -> str:
    """Return a sentence on a step of the wall clock that was just found."""
    new_s = wall()
    return f"the wall clock was set from {iso(new_s - step_s)} to {iso(new_s)}, by {step_s:+.1f} s"


def iso(utc_s: float) -> str:
    """Return seconds since 1970 as ISO 8601 in UTC."""
    return datetime.fromtimestamp(utc_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Steps:
    """Finds out when the wall clock was set: then it moves against the monotonic clock."""

    def __init__(self, wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._wall, self._monotonic = wall, monotonic
        self._offset_s: float | None = None

    def step_s(self) -> float:
        """Return by how much the wall clock was set since the last call; what disciplines it moves it very little."""
        before_s, wall_s, after_s = self._monotonic(), self._wall(), self._monotonic()
        if not after_s - before_s <= LARGEST_GAP_S:
            return 0.0  # we were stopped between the two: that is no step of the clock
        offset_s = wall_s - after_s
        last_s, self._offset_s = self._offset_s, offset_s
        return 0.0 if last_s is None else offset_s - last_s
