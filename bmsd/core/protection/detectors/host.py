"""The process itself: is it on time, how did those before it end, is its heartbeat obeyed?"""

from __future__ import annotations

import numpy as np

from bmsd.core.protection.evidence import Evidence, Reading, detector, of_rack, remembering
from bmsd.model.host import PreviousEnd

TOLD_S = 60.0
"""What happened before the start is told for so long."""
LOOP_S = 300.0


@detector
def loop_lateness(evidence: Evidence) -> Reading:
    """Time since the last tick in nominal periods."""
    return of_rack(evidence.snapshot.host.period_s / evidence.plant.timing.tick_s)


@remembering
def gate_blocked(evidence: Evidence, was: int | None) -> tuple[Reading, int]:
    """Frames that the transmit gate blocked since the last tick."""
    total = evidence.snapshot.host.blocked_frames
    return of_rack(total - (was or 0)), total


@detector
def ended_out_of_order(evidence: Evidence) -> Reading:
    """1 in the first minute after the process was killed, crashed or hung, or a watchdog reset the computer."""
    return _told(evidence, (PreviousEnd.PROCESS, PreviousEnd.WATCHDOG))


@detector
def computer_went_down(evidence: Evidence) -> Reading:
    """1 in the first minute after the computer went down under the process, or it ended in a way nobody knows."""
    return _told(evidence, (PreviousEnd.COMPUTER, PreviousEnd.UNCLEAN))


@detector
def restarts(evidence: Evidence) -> Reading:
    """How many starts within 5 min followed an end out of order."""
    return of_rack(evidence.starts.within(LOOP_S, evidence.snapshot.now_s))


@detector
def heartbeat_path(evidence: Evidence) -> Reading:
    """1 when the safety relay does not follow the heartbeat output. Where there is none, none fails: the latch of one
    that was taken out can be reset."""
    return of_rack(np.nan_to_num(evidence.snapshot.host.heartbeat_path))


def _told(evidence: Evidence, ends: tuple[PreviousEnd, ...]) -> Reading:
    recent = evidence.snapshot.now_s - evidence.starts.began_s <= TOLD_S
    return of_rack(recent and evidence.starts.previous in ends)
