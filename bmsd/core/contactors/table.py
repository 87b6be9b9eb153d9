"""States of a string and the transitions between them; the order of a state's rows is their priority."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum


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
    UNFIT = "may not be closed any more"
    MAY_JOIN = "minus closed, and the live bus is within reach"
    MINUS_ON_DEAD_BUS = "minus closed and no other string feeds the bus"
    PRECHARGED = "bus within reach of the string"
    PLUS_CLOSED = "minus and plus closed"
    FELL_OPEN = "the unit opened by itself"
    CONTACT_OPEN = "a contact is open although its coil is driven"
    BUS_MOVED = "the bus has left the reach of the string"
    TIME_OUT = "took too long"
    PAUSE_OVER = "pause over"
    ALWAYS = "always"


class Failure(StrEnum):
    """What a try to close ended in: a row of the catalogue counts them, pauses and latches."""

    CLOSE = "a contactor did not close"
    PRECHARGE = "the bus was not charged in time"


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
        (E.UNFIT, S.WAITING),
        (E.MAY_JOIN, S.CLOSING_PLUS),
        (E.MINUS_ON_DEAD_BUS, S.PRECHARGE),
        (E.BUS_MOVED, S.WAITING),
        (E.TIME_OUT, S.OPEN),
    ),
    S.PRECHARGE: (
        (E.OPEN_NOW, S.OPEN),
        (E.STOP, S.OPEN),
        (E.UNFIT, S.WAITING),
        (E.PRECHARGED, S.CLOSING_PLUS),
        (E.TIME_OUT, S.OPEN),
    ),
    S.CLOSING_PLUS: (
        (E.OPEN_NOW, S.OPEN),
        (E.STOP, S.OPEN),
        (E.UNFIT, S.WAITING),
        (E.PLUS_CLOSED, S.CLOSED),
        (E.TIME_OUT, S.OPEN),
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

MOVING = (S.CLOSING_MINUS, S.PRECHARGE, S.CLOSING_PLUS, S.OPENING)
LIVE = (S.CLOSED, S.OPENING)
"""A string in these feeds the bus."""
TOLD_OPEN = (S.OPEN, S.WAITING, S.LOCKED)
"""All coils of a string in these are told to be off."""


@dataclass(frozen=True, slots=True)
class StringState:
    """State of one string: time in it, s, and why it is not closed.

    `failed`: the try that ended with this tick. `precharge_j`: energy in the resistor in this precharge, J.
    `equalising`: current predicted for joining the bus as share of what is allowed, while that alone is in the way;
    0: it is not.
    """

    state: State = State.UNKNOWN
    since_s: float = 0.0
    reason: str = ""
    failed: Failure | None = None
    precharge_j: float = 0.0
    equalising: float = 0.0


def move(was: StringState, events: set[Event], reason: str, dt_s: float, opened_by: str) -> StringState:
    """Take the first row of the state's table whose event is present. `opened_by`: why the unit opened last."""
    event, to = next((row for row in TRANSITIONS[was.state] if row[0] in events), (E.ALWAYS, was.state))
    if to is was.state:
        kept = was.reason if to in (S.LOCKED, S.WAITING) else reason
        return replace(was, since_s=was.since_s + dt_s, reason=kept, failed=None)
    if event is E.TIME_OUT:
        failed = Failure.PRECHARGE if was.state is S.PRECHARGE else Failure.CLOSE
        return StringState(to, reason=f"{was.state.value.replace('_', ' ')} {event.value}", failed=failed)
    if to is S.CLOSED:
        return StringState(to)
    if event is E.FELL_OPEN:
        return StringState(to, reason=f"{event.value}: {opened_by}")
    return StringState(to, reason=event.value if event in (E.CONTACT_OPEN, E.LEFT_OPEN) else reason)
