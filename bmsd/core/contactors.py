"""Contactors of each string: close in order through precharge, open in order, never close by accident.

Theory of operation. Each string is a small state machine; its transitions are the table below, and their
order is their priority. Every tick the facts of a string are gathered into a set of events, the first row of
its state whose event is present decides. What the unit is told follows from the state alone. A restarted
process adopts what the unit reports: a closed string stays closed, a half closed one is opened. Until a unit
has reported, its string is UNKNOWN: it must not be sent a command, which could only be one to open. After a
process that did not leave in order an open string stays open until somebody asks to connect, unless its unit
has just been powered on: that is a start of the rack, not of the process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from bmsd.model.plant import Plant
from bmsd.model.request import Connect, Request, Reset
from bmsd.model.snapshot import INPUTS, OPEN_REASONS, TRIP_CODES, Bools, Feedback, Input, Snapshot, named

STILL_A = 2.0
"""Below this current contacts part without an arc worth counting."""
FEEDBACK_S = 0.5
RETRY_PAUSE_S = 30.0
TOLD_OPEN_S = 0.25
"""A unit obeys a command to close only after one to open: it gets that for so long, should a frame be lost."""
MOST_TRIES = 3
OPENED_BY_POWER_ON = OPEN_REASONS.index("power on")
"""Value of the unit's open reason: it has just been switched on."""
OPEN_LATEST_S = 5.0
FUSE_WAIT_S = 3.0
LONGEST_PRECHARGE_S = 15.0
EQUAL_V_PER_CELL = 0.020
SUM_SHARE = 0.05
"""A string that differs by more from the sum of its cells is not measured well enough to be closed."""


LOCK_CODE = "contactors"
"""What to reset so that a locked string may try again; also how a lock is saved."""


class State(StrEnum):
    """Where a string is."""

    UNKNOWN = "unknown"
    OPEN = "open"
    WAITING = "waiting"
    CLOSING_MINUS = "closing_minus"
    PRECHARGE = "precharge"
    CLOSING_PLUS = "closing_plus"
    CLOSED = "closed"
    OPENING = "opening"
    LOCKED = "locked"


class Event(StrEnum):
    """What is true of a string now."""

    REPORTS_CLOSED = "the unit reports closed contactors"
    REPORTS_OPEN = "the unit reports open contactors"
    REPORTS_PART = "the unit reports half closed contactors"
    LEFT_OPEN = "found open after bmsd was interrupted: ask to connect"
    OPEN_NOW = "must open at once"
    STOP = "is asked to open"
    MAY_OPEN = "the current is gone, or the time for it"
    MAY_CLOSE = "may close"
    LIVE_AND_EQUAL = "the bus is live and the voltages are equal"
    MINUS_ON_DEAD_BUS = "minus closed and no other string feeds the bus"
    PRECHARGED = "bus within reach of the string"
    PLUS_CLOSED = "minus and plus closed"
    FELL_OPEN = "the unit opened by itself"
    CONTACT_OPEN = "a contact is open although its coil is driven"
    TIME_OUT = "took too long"
    PAUSE_OVER = "pause over"
    ALWAYS = "always"


S, E = State, Event
TRANSITIONS: Mapping[State, tuple[tuple[Event, State], ...]] = {
    S.UNKNOWN: (
        (E.REPORTS_CLOSED, S.CLOSED),
        (E.LEFT_OPEN, S.LOCKED),
        (E.REPORTS_PART, S.OPEN),
        (E.REPORTS_OPEN, S.OPEN),
    ),
    S.OPEN: ((E.OPEN_NOW, S.OPEN), (E.STOP, S.OPEN), (E.MAY_CLOSE, S.CLOSING_MINUS)),
    S.WAITING: ((E.PAUSE_OVER, S.OPEN),),
    S.CLOSING_MINUS: (
        (E.OPEN_NOW, S.OPEN),
        (E.STOP, S.OPEN),
        (E.TIME_OUT, S.WAITING),
        (E.LIVE_AND_EQUAL, S.CLOSING_PLUS),
        (E.MINUS_ON_DEAD_BUS, S.PRECHARGE),
    ),
    S.PRECHARGE: (
        (E.OPEN_NOW, S.OPEN),
        (E.STOP, S.OPEN),
        (E.PRECHARGED, S.CLOSING_PLUS),
        (E.TIME_OUT, S.WAITING),
    ),
    S.CLOSING_PLUS: (
        (E.OPEN_NOW, S.OPEN),
        (E.STOP, S.OPEN),
        (E.PLUS_CLOSED, S.CLOSED),
        (E.TIME_OUT, S.WAITING),
    ),
    S.CLOSED: (
        (E.FELL_OPEN, S.WAITING),
        (E.OPEN_NOW, S.OPENING),
        (E.STOP, S.OPENING),
        (E.CONTACT_OPEN, S.OPENING),
    ),
    S.OPENING: ((E.FELL_OPEN, S.OPEN), (E.MAY_OPEN, S.OPEN)),
    S.LOCKED: (),
}


@dataclass(frozen=True, slots=True)
class StringState:
    """State of one string: time in it, s; failed tries in a row; why it is not closed."""

    state: State = State.UNKNOWN
    since_s: float = 0.0
    tries: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Outputs:
    """What the units are told, arrays (strings,), and which strings carry current."""

    close_minus: Bools
    close_precharge: Bools
    close_plus: Bools
    connected: Bools
    leaving: Bools
    """A string is about to open: limits must be zero."""

    @property
    def in_circuit(self) -> Bools:
        """(strings,): strings whose current is part of the rack's."""
        return np.asarray(self.connected | self.leaving, dtype=bool)


def start(plant: Plant) -> tuple[StringState, ...]:
    """Nothing known of the contactors."""
    return tuple(StringState() for _ in range(plant.layout.strings))


def step(
    plant: Plant,
    was: tuple[StringState, ...],
    snapshot: Snapshot,
    opens: Bools,
    opens_now: Bools,
    wanted: bool,
    dt_s: float,
    *,
    started: bool = True,
    interrupted: bool = False,
) -> tuple[StringState, ...]:
    """Return the states of all strings. `opens`, `opens_now` (strings,) come from raised faults.

    Not `wanted`: all are opened in order. Not `started`: none closes, but what is closed stays so.
    `interrupted`: the process before this one did not leave in order.
    """
    states = list(was)
    for string, state in enumerate(was):
        others = [s.state for i, s in enumerate(states) if i != string]
        asked = _Asked(
            stop=bool(opens[string]),
            stop_now=bool(opens_now[string]),
            wanted=wanted,
            started=started,
            interrupted=interrupted,
            others_live=S.CLOSED in others or S.OPENING in others,
            others_move=any(other in _MOVING for other in others),
        )
        events, reason = _events(plant, state, snapshot, string, asked, dt_s)
        opened_by = named(int(snapshot.units.open_reason[string]), OPEN_REASONS)
        moved = _move(state, events, reason, dt_s, opened_by)
        # before the start no command is sent: the unit has not been told to open yet
        states[string] = replace(moved, since_s=0.0) if moved.state is S.OPEN and not started else moved
    return tuple(states)


_MOVING = (S.CLOSING_MINUS, S.PRECHARGE, S.CLOSING_PLUS, S.OPENING)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is asked of one string, and what the others are at: feeding the bus, or closing or opening."""

    stop: bool
    stop_now: bool
    wanted: bool
    started: bool
    interrupted: bool
    others_live: bool
    others_move: bool


def released(states: tuple[StringState, ...], requests: Sequence[Request]) -> tuple[StringState, ...]:
    """Locked strings may try again after a reset of "contactors", or of "all" by service; one left open also when
    asked to connect.
    """
    reset = any(isinstance(r, Reset) and (r.code == LOCK_CODE or r.everything) for r in requests)
    connect = any(isinstance(r, Connect) and r.closed for r in requests)

    def free(string: StringState) -> bool:
        return string.state is State.LOCKED and (reset or (connect and string.reason == E.LEFT_OPEN.value))

    return tuple(StringState(State.OPEN) if free(string) else string for string in states)


def outputs(states: tuple[StringState, ...]) -> Outputs:
    """What follows from the states alone."""

    def where(*which: State) -> Bools:
        return np.array([s.state in which for s in states], dtype=bool)

    return Outputs(
        close_minus=where(S.CLOSING_MINUS, S.PRECHARGE, S.CLOSING_PLUS, S.CLOSED, S.OPENING),
        close_precharge=where(S.PRECHARGE, S.CLOSING_PLUS),
        close_plus=where(S.CLOSING_PLUS, S.CLOSED, S.OPENING),
        connected=where(S.CLOSED),
        leaving=where(S.OPENING),
    )


def not_open(plant: Plant, states: tuple[StringState, ...], snapshot: Snapshot) -> Bools:
    """(strings,): strings that are told to be open, or not yet known, and yet are part of the circuit.

    Their unit reports them closed, or they carry more than the floor of the current checks and no contact is seen
    open: welded contacts, a unit that does not obey. With report and current unknown the unit's own time-out acts.
    """
    units = snapshot.units
    told = np.array([s.state in (S.UNKNOWN, S.OPEN, S.WAITING, S.LOCKED) for s in states], dtype=bool)
    driven = units.minus_output & units.plus_output
    welded = (units.minus == Feedback.CLOSED) & (units.plus == Feedback.CLOSED)
    fresh = units.state_age_s <= plant.timing.hold_s
    seen_open = fresh & ((units.minus == Feedback.OPEN) | (units.plus == Feedback.OPEN))
    with np.errstate(invalid="ignore"):
        carries = np.abs(units.current_a) > plant.thresholds["over_current_floor_c"] * plant.cell.capacity_ah
    return np.asarray(told & ((fresh & (driven | welded)) | (carries & ~seen_open)), dtype=bool)


def _move(state: StringState, events: set[Event], reason: str, dt_s: float, opened_by: str) -> StringState:
    """Take the first row of the state's table whose event is present. `opened_by`: why the unit opened last."""
    event, to = next((row for row in TRANSITIONS[state.state] if row[0] in events), (E.ALWAYS, state.state))
    if to is state.state:
        kept = state.reason if state.state in (State.LOCKED, State.WAITING) else reason
        return replace(state, since_s=state.since_s + dt_s, reason=kept)
    tries = state.tries
    if event is Event.TIME_OUT:
        tries += 1
        reason = f"{state.state.value.replace('_', ' ')} {event.value}, try {tries} of {MOST_TRIES}"
        to = to if tries < MOST_TRIES else State.LOCKED
    elif to is State.CLOSED:
        tries, reason = 0, ""
    elif event is Event.FELL_OPEN:
        reason = f"{event.value}: {opened_by}"
    elif event in (Event.CONTACT_OPEN, Event.LEFT_OPEN):
        reason = event.value
    return StringState(to, 0.0, tries, reason)


def _events(
    plant: Plant,
    state: StringState,
    snapshot: Snapshot,
    string: int,
    asked: _Asked,
    dt_s: float,
) -> tuple[set[Event], str]:
    """Gather what is true of this string, and why it may not close."""
    units = snapshot.units
    since_s = state.since_s + dt_s
    difference_v = abs(float(units.string_v[string] - units.bus_v[string]))
    equal = difference_v <= EQUAL_V_PER_CELL * plant.layout.cells_in_series
    events: set[Event] = set()
    reported = bool(np.isfinite(units.state_age_s[string]) and units.state_age_s[string] <= plant.timing.hold_s)
    if reported:
        outs = [bool(o[string]) for o in (units.minus_output, units.plus_output, units.precharge_output)]
        events.add(E.REPORTS_CLOSED if outs[0] and outs[1] else E.REPORTS_PART if any(outs) else E.REPORTS_OPEN)
        if not (outs[0] and outs[1]):
            events.add(E.FELL_OPEN)
            if asked.interrupted and units.open_reason[string] != OPENED_BY_POWER_ON:
                events.add(E.LEFT_OPEN)
        if Feedback.OPEN in (units.minus[string], units.plus[string]) and since_s > FEEDBACK_S:
            events.add(E.CONTACT_OPEN)
        minus_closed = _is_closed(int(units.minus[string]), outs[0])
        if minus_closed and not asked.others_live:
            events.add(E.MINUS_ON_DEAD_BUS)
        if minus_closed and asked.others_live and equal:
            events.add(E.LIVE_AND_EQUAL)
        if outs[0] and outs[1] and minus_closed and _is_closed(int(units.plus[string]), outs[1]):
            events.add(E.PLUS_CLOSED)
    if difference_v <= max(1.0, 0.02 * float(units.string_v[string])):
        events.add(E.PRECHARGED)
    if asked.stop_now:
        events.add(E.OPEN_NOW)
    if asked.stop or not asked.wanted:
        events.add(E.STOP)
    if since_s >= _time_out_s(plant, state.state):
        events.add(E.TIME_OUT)
    if since_s >= RETRY_PAUSE_S:
        events.add(E.PAUSE_OVER)
    if _may_open(plant, float(units.current_a[string]), asked.stop_now, since_s):
        events.add(E.MAY_OPEN)
    reason = _why_not(snapshot, string, asked, reported, equal)
    if not reason and since_s >= TOLD_OPEN_S:
        events.add(E.MAY_CLOSE)
    return events, reason


def _is_closed(feedback: int, output: bool) -> bool:
    """Whether a contactor is closed; without an auxiliary contact its output must do."""
    if feedback == Feedback.NOT_FITTED:
        return output
    return feedback == Feedback.CLOSED


def _time_out_s(plant: Plant, state: State) -> float:
    if state is State.PRECHARGE:
        # five time constants, and the time in which the relay acts and the voltage is reported
        constant_s = plant.ratings.precharge_ohm * plant.ratings.bus_capacitance_f
        return min(5.0 * constant_s + 2.0 * FEEDBACK_S, LONGEST_PRECHARGE_S)
    return 2.0 * FEEDBACK_S


def _may_open(plant: Plant, current_a: float, now: bool, since_s: float) -> bool:
    """Whether the contacts may part: without current; else after the time for it, or for the fuse."""
    if abs(current_a) < STILL_A:
        return True
    if abs(current_a) > plant.ratings.contactor_break_a:
        return since_s >= FUSE_WAIT_S
    return now or since_s >= OPEN_LATEST_S


def _why_not(snapshot: Snapshot, string: int, asked: _Asked, reported: bool, equal: bool) -> str:
    """Return why this string may not close, empty when it may."""
    units, modules = snapshot.units, snapshot.modules
    active = [n for n, v in zip(INPUTS, units.inputs[string], strict=True) if v in (Input.ACTIVE, Input.UNKNOWN)]
    trip, counts = int(units.trip_code[string]), modules.cell_count[string]
    sum_v, string_v = float(modules.cell_v[string].sum()), float(units.string_v[string])
    checks = (
        (not asked.wanted, "opened on request"),
        (asked.stop, "a fault keeps it open"),
        (not asked.started, "the rack has not been measured completely yet"),
        (not reported, "its contactor unit does not answer"),
        (bool(np.isnan(modules.cell_v[string]).any()), "not all of its cells are known"),
        (bool(np.isnan(modules.temperature_degc[string]).all(axis=1).any()), "a module's temperature is unknown"),
        (bool(((counts >= 0) & (counts != modules.cell_v.shape[2])).any()), "a module has another number of cells"),
        (not np.isfinite(units.current_a[string]), "its current is unknown"),
        (not np.isfinite(units.string_v[string] + units.bus_v[string]), "a voltage of its unit is unknown"),
        (not abs(string_v - sum_v) <= SUM_SHARE * sum_v, "its voltage is not the sum of its cells"),
        (trip != 0, f"its contactor unit has a trip latched: {named(trip, TRIP_CODES)}; bmsd reset trip"),
        (bool(modules.trip_active[string].any()), "a module board has a trip latched; bmsd reset trip"),
        (bool(active), "input active or unknown: " + ", ".join(active)),
        (asked.others_move, "another string is closing or opening"),
        (asked.others_live and not equal, "its voltage differs from the bus by more than 20 mV per cell"),
    )
    return next((text for present, text in checks if present), "")
