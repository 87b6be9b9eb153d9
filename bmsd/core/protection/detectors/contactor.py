"""Contactors: do they close, do they open, does the bus charge, may a string join it?

A report counts against a command only when it was measured after the contacts had time to move.
"""

from __future__ import annotations

import numpy as np

from bmsd.core.contactors.circuit import in_doubt, not_open, told_open_s
from bmsd.core.contactors.sequence import FEEDBACK_S
from bmsd.core.contactors.table import Failure, State
from bmsd.core.protection.evidence import Evidence, Reading, detector
from bmsd.model.snapshot import Bools, Feedback, Floats

MOVES_S = 0.1
"""By then a unit has obeyed, 10 ms, and its contacts have moved."""
OPENS_S = FEEDBACK_S
STILL_A, STILL_SHARE = 2.0, 0.01
"""More than this, or than this share of the fuse's rating, is a current."""
REPORTED_S = 2.0 * FEEDBACK_S
CURVE_SHARE = 0.5
SPARE_ENERGY = 2.0
"""Without a rating the resistor may take this many times what charging the bus alone takes."""


def _flags(which: Bools) -> Floats:
    return np.asarray(which, dtype=np.float64)


def _since(evidence: Evidence, age_s: Floats) -> Floats:
    """(strings,): how long after the command to open a string was measured, s; negative: not yet, or not told."""
    told_s = told_open_s(evidence.plant, evidence.contactors)
    return np.where(told_s >= 0.0, told_s + evidence.dt_s - age_s, -1.0)


def _told(evidence: Evidence) -> Bools:
    """(strings,): strings that somebody was told to open."""
    return (told_open_s(evidence.plant, evidence.contactors) >= 0.0) & evidence.plant.switches


def _seen_closed(evidence: Evidence) -> Bools:
    units = evidence.snapshot.units
    closed = [contact == Feedback.CLOSED for contact in (units.minus, units.plus, units.precharge)]
    return np.asarray(np.logical_or.reduce(closed), dtype=bool)


@detector
def string_not_open(evidence: Evidence) -> Reading:
    """1 where a string is told to be open and is in the circuit, 0 where it is not; NaN: no report to tell."""
    units, plant = evidence.snapshot.units, evidence.plant
    told = _told(evidence)
    reported = units.state_age_s <= plant.timing.hold_s
    moved = (_since(evidence, units.state_age_s) >= MOVES_S) | ~reported
    closed = not_open(plant, evidence.contactors, evidence.snapshot) & told
    unknown = told & ~closed & ~reported
    return Reading(np.where(unknown, np.nan, _flags(closed)), gate=moved)


@detector
def contact_not_open(evidence: Evidence) -> Reading:
    """1 where an auxiliary contact is closed 0.5 s after its string was told to open, 0 where none is; NaN: unknown."""
    units = evidence.snapshot.units
    reported = units.state_age_s <= evidence.plant.timing.hold_s
    due = _since(evidence, units.state_age_s) >= OPENS_S
    told = _told(evidence)
    return Reading(np.where(told & ~reported, np.nan, _flags(told & _seen_closed(evidence))), gate=due)


@detector
def string_in_doubt(evidence: Evidence) -> Reading:
    """1 where a string may be closed unseen and others would join it, 0 where it is known.

    Boards that obey nobody may switch at any time: who does not say where its contactors are is in doubt.
    """
    states, plant = evidence.contactors, evidence.plant
    doubt = in_doubt(states)
    if not plant.switches:
        isolated = np.array([string.isolated for string in states])
        doubt |= ~(evidence.snapshot.units.state_age_s <= plant.timing.hold_s) & ~isolated
    return Reading(_flags(doubt), gate=np.full(len(states), len(states) > 1))


@detector
def open_string_current(evidence: Evidence) -> Reading:
    """Current of a string that is told, or said by its boards, to be open, beyond what a sensor shows without one, A.

    What boards say is held for a while, and may be old when they close: it takes that time more.
    """
    units, plant = evidence.snapshot.units, evidence.plant
    least_a = max(STILL_A, STILL_SHARE * plant.ratings.fuse_a)
    told = told_open_s(evidence.plant, evidence.contactors) >= 0.0
    value = np.where(told, np.abs(units.current_a), 0.0) - least_a
    gate = _since(evidence, units.current_age_s) >= MOVES_S
    delay_s = None if plant.switches else np.full(len(value), plant.timing.hold_s + FEEDBACK_S)
    return Reading(value, gate=gate, new=evidence.new_currents, delay_s=delay_s)


@detector
def close_failed(evidence: Evidence) -> Reading:
    """1 where a try to close has just ended because a contactor did not close."""
    return Reading(_flags(np.array([s.failed is Failure.CLOSE for s in evidence.contactors])))


@detector
def contact_lost(evidence: Evidence) -> Reading:
    """1 where a string has just left the circuit because a contact opened although its coil was driven."""
    return Reading(_flags(np.array([s.failed is Failure.CONTACT for s in evidence.contactors])))


@detector
def precharge_failed(evidence: Evidence) -> Reading:
    """1 where a try to close has just ended because the bus was not charged in time."""
    return Reading(_flags(np.array([s.failed is Failure.PRECHARGE for s in evidence.contactors])))


@detector
def precharge_load(evidence: Evidence) -> Reading:
    """1 where the bus is far below its curve after a time constant, or the resistor has taken too much energy.

    A discharged capacitor looks like a short only at the start: after one time constant the bus has 63 % of the
    string's voltage, and half of that is a load. Relay and report take up to `REPORTED_S`: the check waits for them,
    and what the resistor would take meanwhile from a bus that is long charged is no energy.
    """
    units, ratings = evidence.snapshot.units, evidence.plant.ratings
    states = evidence.contactors
    charging = np.array([s.state is State.PRECHARGE for s in states])
    since_s = np.array([s.since_s for s in states]) + evidence.dt_s
    energy_j = np.array([s.precharge_j for s in states])
    due_s = ratings.precharge_ohm * ratings.bus_capacitance_f + REPORTED_S
    low = (since_s >= due_s) & (units.bus_v < CURVE_SHARE * (1.0 - np.exp(-1.0)) * units.string_v)
    full_v = evidence.plant.cell.max_v * evidence.plant.layout.cells_in_series
    most_j = ratings.precharge_energy_j or SPARE_ENERGY * 0.5 * ratings.bus_capacitance_f * full_v**2
    most_j += REPORTED_S * full_v**2 / ratings.precharge_ohm
    return Reading(_flags(charging & (low | (energy_j > most_j))))


@detector
def equalising_current(evidence: Evidence) -> Reading:
    """Current that joining the bus would drive, as share of the allowed one, where that alone is in the way."""
    return Reading(np.array([s.equalising for s in evidence.contactors]))
