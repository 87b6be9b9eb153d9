"""How the processes before this one ended, and how often: told in elapsed time, never by the wall clock.

Theory of operation. The state file says whether its process had left in order, in which start of the computer it was
written and where the monotonic clock stood. Within one start of the computer that clock runs on, and ages are exact.
Across two starts nobody knows the time in between, only how long the computer is up by now. The least that may have
passed is what counts: a loop is rather seen too early than missed.
"""

from __future__ import annotations

from dataclasses import dataclass

from bmsd.model.durable import Durable
from bmsd.model.host import PreviousEnd

HOUR_S = 3600.0
MOST_KEPT = 32
DISORDER = (PreviousEnd.PROCESS, PreviousEnd.WATCHDOG, PreviousEnd.COMPUTER, PreviousEnd.UNCLEAN)


@dataclass(frozen=True, slots=True)
class Began:
    """This start: of the computer (empty: not known), monotonic time, whether a watchdog has reset the computer."""

    boot_id: str
    now_s: float
    by_watchdog: bool = False


@dataclass(frozen=True, slots=True)
class Starts:
    """`at_s`: monotonic instants of the starts that followed an end out of order, this one (`began_s`) included."""

    boot_id: str = ""
    began_s: float = 0.0
    previous: PreviousEnd = PreviousEnd.NONE
    at_s: tuple[float, ...] = ()

    def within(self, seconds: float, now_s: float) -> int:
        """How many of them were at most so long ago."""
        return sum(now_s - at_s <= seconds for at_s in self.at_s)

    def ages_s(self, now_s: float) -> tuple[float, ...]:
        """How long ago those of the last hour were, s."""
        return tuple(now_s - at_s for at_s in self.at_s if now_s - at_s <= HOUR_S)[-MOST_KEPT:]


NO_STARTS = Starts()


def starts(saved: Durable | None, began: Began) -> Starts:
    """Return what the state that was found says of the starts before this one; None: there was none."""
    if saved is None:
        return Starts(began.boot_id, began.now_s)
    previous = _previous_end(saved, began)
    since_s = began.now_s - _away_s(saved, began)
    at_s = tuple(since_s - age_s for age_s in saved.starts_s)
    return Starts(began.boot_id, began.now_s, previous, at_s + ((began.now_s,) if previous in DISORDER else ()))


def _previous_end(saved: Durable, began: Began) -> PreviousEnd:
    if not saved.running:
        return PreviousEnd.IN_ORDER
    if not (saved.boot_id and began.boot_id):
        return PreviousEnd.UNCLEAN
    if saved.boot_id == began.boot_id:
        return PreviousEnd.PROCESS
    return PreviousEnd.WATCHDOG if began.by_watchdog else PreviousEnd.COMPUTER


def _away_s(saved: Durable, began: Began) -> float:
    """The least time that has passed since the state was saved, s."""
    up_s = max(began.now_s, 0.0)
    if saved.now_s is None or not saved.now_s <= began.now_s:
        return up_s
    same = saved.boot_id == began.boot_id or not (saved.boot_id and began.boot_id)
    return began.now_s - saved.now_s if same else up_s
