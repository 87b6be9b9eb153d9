"""CAN buses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bmsd.core.protection.evidence import Evidence, Reading, detector, remembering
from bmsd.core.protection.window import Window, lately
from bmsd.model.snapshot import Controller, Floats, Ints

MOST_ERRORS = 100
WARNED_S = 60.0
"""A controller that warns for so long has too many errors, also where single ones are not reported."""
MOST_UNACKNOWLEDGED = 50
"""In 10 s. Who is alone on a bus repeats its frame without end, thousands of times a second."""


@remembering
def bus_off(evidence: Evidence, was: Ints | None) -> tuple[Reading, Ints]:
    """1 where the controller has left the bus, if only between two ticks."""
    buses = evidence.snapshot.buses
    left = buses.bus_off if was is None else buses.bus_off | (buses.bus_offs > was)
    return Reading(left.astype(np.float64)), buses.bus_offs


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
    return _grown(evidence.snapshot.buses.foreign_frames, was)


@detector
def error_passive(evidence: Evidence) -> Reading:
    """1 where the controller is error-passive or worse. Of one that reports nothing, nothing bad is known."""
    return Reading((evidence.snapshot.buses.controller >= Controller.PASSIVE).astype(np.float64))


@dataclass(frozen=True, slots=True)
class Disturbed:
    """Errors lately, and for how long each controller has been warning."""

    window: Window | None
    warned_s: Floats


@remembering
def bus_errors(evidence: Evidence, was: Disturbed | None) -> tuple[Reading, Disturbed]:
    """1 where a bus had more than 100 errors in 10 s, or its controller warns for 60 s."""
    buses = evidence.snapshot.buses
    was = was or Disturbed(None, np.zeros(len(buses.names)))
    errors, window = lately(buses.bus_errors, evidence.snapshot.now_s, was.window)
    warned_s = np.where(buses.controller >= Controller.WARNING, was.warned_s + evidence.dt_s, 0.0)
    disturbed = (errors > MOST_ERRORS) | (warned_s > WARNED_S)
    return Reading(disturbed.astype(np.float64)), Disturbed(window, warned_s)


@remembering
def lost_frames(evidence: Evidence, was: Ints | None) -> tuple[Reading, Ints]:
    """Frames since the last tick for which there was no room, of each bus."""
    return _grown(evidence.snapshot.buses.lost_frames, was)


def _grown(total: Ints, was: Ints | None) -> tuple[Reading, Ints]:
    return Reading((total if was is None else total - was).astype(np.float64)), total


@remembering
def malformed_frames(evidence: Evidence, was: Window | None) -> tuple[Reading, Window]:
    """Frames of the last 10 s with an identifier of ours and a kind or length that it never has, of each bus."""
    grown, window = lately(evidence.snapshot.buses.malformed_frames, evidence.snapshot.now_s, was)
    return Reading(grown.astype(np.float64)), window


@remembering
def nobody_answers(evidence: Evidence, was: Window | None) -> tuple[Reading, Window]:
    """1 where nobody acknowledges on the field bus, or nothing was heard there since it was opened.

    On the other one nobody must answer: an inverter may be off, or get its supply from the rack only.
    """
    buses = evidence.snapshot.buses
    missing, window = lately(buses.no_ack, evidence.snapshot.now_s, was)
    alone = (missing > MOST_UNACKNOWLEDGED) | (buses.unheard_s > 0.0)
    return Reading((alone & buses.are_field).astype(np.float64)), window
