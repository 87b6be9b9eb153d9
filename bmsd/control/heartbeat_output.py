"""The heartbeat as a line that finished ticks toggle, for a safety relay that drops out when it stands still.

Theory of operation. The relay's driver (a charge pump, a watchdog relay) holds it as long as the line moves. A feedback
contact says whether it is in. While the line moves the relay must be in; while it stands still, out, `drop_s` after the
last beat at the latest. That it can drop out is proved before the first beat, and again after a day as soon as no
string is closed: only then may the line stand still on purpose. Whatever contradicts this is a failed path; the row's
delay gives the relay time to pull in. Without a feedback only a line that cannot be set is one.
"""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bmsd.config.schema import HeartbeatOutput
from bmsd.control.gpio import Line
from bmsd.errors import BusError

DAY_S = 86400.0
RETRY_S = 1.0


@dataclass(frozen=True, slots=True)
class Beat:
    """What is carried from tick to tick: level of the line, whether it moves, since when, when it last dropped out."""

    level: bool = False
    moving: bool = False
    since_s: float = -math.inf
    dropped_s: float = -math.inf
    failed: float = math.nan


def step(was: Beat, now_s: float, *, wanted: bool, idle: bool, relay_in: bool | None, drop_s: float) -> Beat:
    """Return the next beat. `wanted`: a tick was finished and sent; `idle`: no string is closed or closing.

    `relay_in` None: nobody says whether the relay is in.
    """
    proves = relay_in is not None and idle and now_s - was.dropped_s > DAY_S
    moving = wanted and not proves
    since_s = was.since_s if moving == was.moving and was.since_s > -math.inf else now_s
    dropped_s = now_s if relay_in is False and not was.moving else was.dropped_s
    return Beat(was.level ^ moving, moving, since_s, dropped_s, _failed(was, now_s, relay_in, drop_s))


def _failed(was: Beat, now_s: float, relay_in: bool | None, drop_s: float) -> float:
    """1 when the relay is not where the line should have brought it, 0 when it is, or nobody says."""
    if relay_in is None:
        return 0.0
    if was.moving:
        return float(not relay_in)
    may_fall = was.dropped_s > -math.inf and now_s - was.since_s <= drop_s
    return float(relay_in and not may_fall)


class Output:
    """The lines of one relay. A chip that is not there is tried again; until then the path has failed."""

    def __init__(self, settings: HeartbeatOutput) -> None:
        self._settings = settings
        self._line: Line | None = None
        self._feedback: Line | None = None
        self._beat = Beat()
        self._due_s = -math.inf
        self.error = ""
        """Why the lines cannot be used, empty: they can."""

    @property
    def failed(self) -> float:
        """1: the relay does not follow, or the lines cannot be used; 0: nothing is known against it; NaN: not begun."""
        return 1.0 if self.error else self._beat.failed

    def tick(self, now_s: float, *, wanted: bool, idle: bool) -> None:
        """Beat if it is `wanted`: once for every tick that was finished and sent, and never otherwise."""
        if self._line is None and not self._opened(now_s):
            return
        assert self._line is not None
        try:
            relay_in = None if self._feedback is None else self._feedback.get()
            beat = step(
                self._beat, now_s, wanted=wanted, idle=idle, relay_in=relay_in, drop_s=self._settings.drop_s
            )  # fmt: skip
            if beat.level != self._beat.level:
                self._line.set(beat.level)
            self._beat = beat
        except OSError as error:
            self._lost(f"{self._settings.chip}: {error.strerror}", now_s)

    def close(self) -> None:
        """Leave the line still and inactive."""
        if self._line is not None:
            with suppress(OSError):
                self._line.set(False)
        self._release()

    def _opened(self, now_s: float) -> bool:
        if now_s < self._due_s:
            return False
        chip, settings = Path(self._settings.chip), self._settings
        try:
            self._line = Line(chip, settings.line, output=True)
            if settings.feedback_line >= 0:
                low = settings.feedback_active_low
                self._feedback = Line(chip, settings.feedback_line, output=False, active_low=low)
        except BusError as error:
            self._lost(str(error), now_s)
            return False
        self.error = ""
        self._beat = Beat(dropped_s=self._beat.dropped_s)
        return True

    def _lost(self, why: str, now_s: float) -> None:
        self._release()
        self.error, self._due_s = why, now_s + RETRY_S

    def _release(self) -> None:
        for line in (self._line, self._feedback):
            if line is not None:
                line.close()
        self._line = self._feedback = None
