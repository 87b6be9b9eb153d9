"""CAN buses."""

from __future__ import annotations

import numpy as np

from bmsd.core.protection.evidence import Evidence, Reading, detector, remembering
from bmsd.model.snapshot import Ints


@detector
def bus_off(evidence: Evidence) -> Reading:
    """1 where the controller has left the bus."""
    return Reading(evidence.snapshot.buses.bus_off.astype(np.float64))


@detector
def bus_down(evidence: Evidence) -> Reading:
    """1 where the interface is down or missing."""
    return Reading((~evidence.snapshot.buses.up).astype(np.float64))


@detector
def send_stalled(evidence: Evidence) -> Reading:
    """Time since which nothing could be sent, s."""
    return Reading(evidence.snapshot.buses.send_stalled_s)


@remembering
def foreign_frames(evidence: Evidence, was: Ints | None) -> tuple[Reading, Ints]:
    """Frames since the last tick that only bmsd may send, of each bus."""
    total = evidence.snapshot.buses.foreign_frames
    return Reading((total if was is None else total - was).astype(np.float64)), total
