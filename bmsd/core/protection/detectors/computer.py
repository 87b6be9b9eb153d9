"""The computer that the process runs on: what it does not say is unknown, and no fault."""

from __future__ import annotations

import numpy as np

from bmsd.core.protection.evidence import Evidence, Reading, detector, of_rack, remembering
from bmsd.model.host import ClockQuality

MOST_RESIDENT_MIB = 150.0
LEAST_AVAILABLE = 0.1
UNSET_DELAY_S = 3600.0
"""A clock that was never set is told after an hour: until then a time server may still be found."""


@detector
def cpu_temperature(evidence: Evidence) -> Reading:
    """Temperature of the processor, degC."""
    return of_rack(evidence.snapshot.host.computer.cpu_degc)


@detector
def memory_short(evidence: Evidence) -> Reading:
    """What the process takes, or the computer has left, as a multiple of what is tolerable."""
    computer = evidence.snapshot.host.computer
    parts = [computer.resident_mib / MOST_RESIDENT_MIB, LEAST_AVAILABLE / max(computer.memory_available, 1e-3)]
    known = [part for part in parts if np.isfinite(part)]
    return of_rack(max(known, default=np.nan))


@detector
def files_used(evidence: Evidence) -> Reading:
    """Open files or threads as a share of what the process may have."""
    return of_rack(evidence.snapshot.host.computer.files_used)


@detector
def disk_free(evidence: Evidence) -> Reading:
    """Free share of the state directory's disk; 0 when the state found no room there."""
    host = evidence.snapshot.host
    return of_rack(0.0 if host.saving.full else host.computer.disk_free)


@detector
def storage_refuses(evidence: Evidence) -> Reading:
    """1 when the state could not be written for another reason than room, or the disk takes no writes."""
    host = evidence.snapshot.host
    refuses = host.saving.refused and not host.saving.full
    return of_rack(max(float(refuses), np.nan_to_num(host.computer.disk_read_only)))


@detector
def storage_wear(evidence: Evidence) -> Reading:
    """Share of the storage's life that is used up."""
    return of_rack(evidence.snapshot.host.computer.storage_wear)


@detector
def save_time(evidence: Evidence) -> Reading:
    """How long the last write of the state took, or the present one takes, s."""
    return of_rack(evidence.snapshot.host.saving.took_s)


@detector
def clock_step(evidence: Evidence) -> Reading:
    """By how much the wall clock was set since the last tick, either way, s."""
    return of_rack(abs(evidence.snapshot.host.clock_step_s))


@detector
def clock_adrift(evidence: Evidence) -> Reading:
    """1 while nothing keeps the wall clock right."""
    quality = evidence.snapshot.utc_quality
    known = quality is not ClockQuality.UNKNOWN
    value = float(quality is not ClockQuality.SYNCHRONISED) if known else np.nan
    delay_s = np.array([UNSET_DELAY_S]) if quality is ClockQuality.UNSET else None
    return Reading(np.array([value]), delay_s=delay_s)


@remembering
def power_low(evidence: Evidence, was: int | None) -> tuple[Reading, int]:
    """1 while the supply is too low; each reading of the computer is one sample, however many ticks see it."""
    computer = evidence.snapshot.host.computer
    new = np.array([computer.reading != was])
    return Reading(np.array([computer.power_low]), new=new), computer.reading
