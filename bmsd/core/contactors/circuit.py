"""What the units are told, and which strings are part of the circuit: both follow from the states."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bmsd.core.contactors.table import LIVE, MOVING, TOLD_OPEN, State, StringState
from bmsd.model.plant import Plant
from bmsd.model.snapshot import Bools, Feedback, Floats, Snapshot

UNIT_OPENS_S = 6.0
"""A unit that gets no command opens by itself, 5.0 s after the last one at the latest; the rest is margin."""
OPEN, CLOSED = int(Feedback.OPEN), int(Feedback.CLOSED)
"""As arrays hold them: NumPy asks a member of an enumeration for 30 attributes at each comparison."""
DEAD_S = 1.0
"""For so long a bus must be seen dead before that shows a silent string open."""


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
    """(strings,): strings that are told to be open, or not yet known, and yet are seen to be part of the circuit.

    No contact is seen open, and their unit drives both or reports both closed, or they carry more than the floor of
    the current checks: welded contacts, a unit that does not obey.
    """
    units = snapshot.units
    told = where(states, State.UNKNOWN, *TOLD_OPEN)
    driven = units.minus_output & units.plus_output
    welded = (units.minus == CLOSED) & (units.plus == CLOSED)
    fresh = units.state_age_s <= plant.timing.hold_s
    seen_open = fresh & ((units.minus == OPEN) | (units.plus == OPEN))
    with np.errstate(invalid="ignore"):
        carries = np.abs(units.current_a) > plant.current_floor_a
    return np.asarray(told & ((fresh & (driven | welded)) | carries) & ~seen_open, dtype=bool)


def in_doubt(states: tuple[StringState, ...]) -> Bools:
    """(strings,): strings that should be open or are not known, and that nothing has shown open: they may be closed."""
    told = (State.UNKNOWN, *TOLD_OPEN)
    return np.array([s.state in told and not (s.shown_open or s.isolated) for s in states], dtype=bool)


def shown(
    plant: Plant, was: tuple[StringState, ...], states: list[StringState], snapshot: Snapshot, dt_s: float
) -> tuple[StringState, ...]:
    """Return these states with what is known by now of the strings that should be open, or are not known.

    A report counts that was measured after the string was told to open, or before it was told anything. A string that
    is silent is open when the bus is dead although no other feeds it, and its unit has had its time. Service's word
    holds until the unit is heard.
    """
    units = snapshot.units
    fresh = units.state_age_s <= plant.timing.hold_s
    drives = units.minus_output | units.plus_output | units.precharge_output
    drives |= (units.minus == CLOSED) & (units.plus == CLOSED)
    dead = _dead_bus(plant, states, snapshot)

    def known(i: int) -> StringState:
        last, now = was[i], states[i]
        if now.state not in (State.UNKNOWN, *TOLD_OPEN):
            return now
        after = last.state is State.UNKNOWN or units.state_age_s[i] <= now.since_s
        dead_s = last.dead_s + dt_s if dead and not fresh[i] else 0.0
        had_time = now.state is not State.UNKNOWN or now.since_s >= UNIT_OPENS_S
        reported = bool(fresh[i] and after and not drives[i])
        still = last.shown_open and last.state in (State.UNKNOWN, *TOLD_OPEN) and not (fresh[i] and drives[i])
        return replace(
            now,
            shown_open=reported or still or (had_time and dead_s >= DEAD_S),
            isolated=last.isolated and not fresh[i],
            dead_s=dead_s,
        )

    return tuple(known(i) for i in range(len(states)))


def _dead_bus(plant: Plant, states: list[StringState], snapshot: Snapshot) -> bool:
    """Whether every unit that measures the bus finds less there than any cells could give, and no string feeds it."""
    if any(string.state in (*LIVE, *MOVING) for string in states):
        return False
    bus_v = snapshot.units.bus_v[np.isfinite(snapshot.units.bus_v)]
    least_v = plant.thresholds["cell_plausible_min_v"] * plant.layout.cells_in_series
    return bool(bus_v.size and (np.abs(bus_v) < least_v).all())
