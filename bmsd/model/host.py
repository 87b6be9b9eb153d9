"""The control process and the computer that it runs on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

NAN = math.nan


class ClockQuality(StrEnum):
    """Whether wall time may be believed. Unset: the clock has never been set since power came."""

    SYNCHRONISED = "synchronised"
    UNSYNCHRONISED = "unsynchronised"
    UNSET = "unset"
    UNKNOWN = "unknown"


class PreviousEnd(StrEnum):
    """How the process before this one ended. Process: it was killed, crashed or hung while the computer ran on.

    Watchdog: the computer's own watchdog reset it. Computer: the computer went down under it. Unclean: one of these.
    """

    NONE = "none"
    IN_ORDER = "in order"
    PROCESS = "process"
    WATCHDOG = "watchdog"
    COMPUTER = "computer"
    UNCLEAN = "unclean"


@dataclass(frozen=True, slots=True)
class Computer:
    """What the computer said when it was asked last; NaN: it does not say so. Shares are 0..1.

    `reading` counts how often it was asked since start, `age_s` is the time since then.
    """

    reading: int = 0
    age_s: float = math.inf
    cpu_degc: float = NAN
    resident_mib: float = NAN
    """Memory of this process."""
    memory_available: float = NAN
    files_used: float = NAN
    """Open files or threads of this process, as a share of what it may have; the larger one."""
    disk_free: float = NAN
    """Of the disk with the state directory."""
    disk_read_only: float = NAN
    """1 when that disk takes no writes, else 0."""
    storage_wear: float = NAN
    """Share of its life that it has used up, in steps of 0.1."""
    power_low: float = NAN
    """1 while the computer's supply is too low or it slows itself down, else 0."""


@dataclass(frozen=True, slots=True)
class Saving:
    """How the state file fares. `took_s` is how long the last write took, or takes by now; NaN before the first."""

    refused: bool = False
    full: bool = False
    """It was refused because there is no room."""
    took_s: float = NAN


@dataclass(frozen=True, slots=True)
class Host:
    """Time since the last tick in s, frames that the transmit gate blocked since start, and the computer."""

    period_s: float
    blocked_frames: int
    computer: Computer = Computer()
    saving: Saving = Saving()
    clock_step_s: float = 0.0
    """By how much the wall clock was set since the last tick."""
    heartbeat_path: float = NAN
    """1: the safety relay does not follow the heartbeat output; 0: nothing is known against it; NaN: there is none."""
