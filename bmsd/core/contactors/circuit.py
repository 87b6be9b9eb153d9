"""What the units are told, and which strings are part of the circuit: both follow from the states."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bmsd.core.contactors.table import LIVE, TOLD_OPEN, State, StringState
from bmsd.model.plant import Plant
from bmsd.model.snapshot import Bools, Feedback, Floats, Snapshot

UNIT_OPENS_S = 6.0
"""A unit that gets no command opens by itself, 5.0 s after the last one at the latest; the rest is margin."""


@dataclass(frozen=True, slots=True)
class Outputs:
    """What the units are told, arrays (strings,), and which strings carry current."""

    close_minus: Bools
    close_precharge: Bools
    close_plus: Bools
    commanded: Bools
    connected: Bools
    leaving: Bools
    """A string is about to open: limits must be zero."""

    @property
    def in_circuit(self) -> Bools:
        """(strings,): strings whose current is part of the rack's."""
        return np.asarray(self.connected | self.leaving, dtype=bool)


def where(states: tuple[StringState, ...], *which: State) -> Bools:
    """(strings,): strings in one of these states."""
    return np.array([string.state in which for string in states], dtype=bool)


def outputs(states: tuple[StringState, ...]) -> Outputs:
    """What follows from the states alone."""
    closing = (State.CLOSING_MINUS, State.PRECHARGE, State.CLOSING_PLUS)
    return Outputs(
        close_minus=where(states, *closing, *LIVE),
        close_precharge=where(states, State.PRECHARGE, State.CLOSING_PLUS),
        close_plus=where(states, State.CLOSING_PLUS, *LIVE),
        commanded=~where(states, State.UNKNOWN),
        connected=where(states, State.CLOSED),
        leaving=where(states, State.OPENING),
    )


def told_open_s(plant: Plant, states: tuple[StringState, ...]) -> Floats:
    """(strings,): for how long a string must have been open by now, s; negative: it need not be.

    One whose contactors are not known must be once its unit, which gets no command, has had its time. Where nobody
    switches, one must be open whose boards say so.
    """

    def since(string: StringState) -> float:
        if string.state is State.UNKNOWN:
            return string.since_s - UNIT_OPENS_S if plant.switches else -1.0
        return string.since_s if string.state in TOLD_OPEN else -1.0

    return np.array([since(string) for string in states])


def not_open(plant: Plant, states: tuple[StringState, ...], snapshot: Snapshot) -> Bools:
    """(strings,): strings that are told to be open, or not yet known, and yet are or may be part of the circuit.

    No contact is seen open, and their unit drives both or reports both closed, or they carry more than the floor of
    the current checks: welded contacts, a unit that does not obey. One that is not known may be closed until its
    unit, which is sent no command, has had the time to open by itself.
    """
    units = snapshot.units
    unknown, told_s = where(states, State.UNKNOWN), told_open_s(plant, states)
    told = (told_s >= 0.0) | unknown
    driven = units.minus_output & units.plus_output
    welded = (units.minus == Feedback.CLOSED) & (units.plus == Feedback.CLOSED)
    fresh = units.state_age_s <= plant.timing.hold_s
    seen_open = fresh & ((units.minus == Feedback.OPEN) | (units.plus == Feedback.OPEN))
    with np.errstate(invalid="ignore"):
        carries = np.abs(units.current_a) > plant.thresholds["over_current_floor_c"] * plant.cell.capacity_ah
    in_circuit = (((fresh & (driven | welded)) | carries) & ~seen_open) | (unknown & (told_s < 0.0))
    return np.asarray(told & in_circuit, dtype=bool)
