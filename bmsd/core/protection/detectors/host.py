"""The process itself and its computer."""

from __future__ import annotations

import numpy as np

from bmsd.core.protection.evidence import Evidence, Reading, detector, remembering


@detector
def loop_lateness(evidence: Evidence) -> Reading:
    """Time since the last tick in nominal periods."""
    return Reading(np.array([evidence.snapshot.host.period_s / evidence.plant.timing.tick_s]))


@remembering
def gate_blocked(evidence: Evidence, was: int | None) -> tuple[Reading, int]:
    """Frames that the transmit gate blocked since the last tick."""
    total = evidence.snapshot.host.blocked_frames
    return Reading(np.array([float(total - (was or 0))])), total
