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
    LOCKED_CLOSED = "found closed although it was to stay open: opened, ask to connect"
    LEFT_OPEN = "found open after bmsd was interrupted or lost its state: ask to connect"
    OPEN_NOW = "must open at once"
    STOP = "is asked to open"
    MAY_OPEN = "the current is gone, or the time for it"
    MAY_CLOSE = "may close"
    UNFIT = "may not be closed any more"
    LOADED = "must not go on closing, and may carry current already"
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
    """What a try to be closed ended in: a row of the catalogue counts them, pauses and latches."""

    CLOSE = "a contactor did not close"
    PRECHARGE = "the bus was not charged in time"
    CONTACT = "a contact opened although its coil was driven"


S, E = State, Event
TRANSITIONS: Mapping[State, tuple[tuple[Event, State], ...]] = {
    S.UNKNOWN: (
        (E.LOCKED_CLOSED, S.OPENING),
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
        (E.LOADED, S.OPENING),
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

    `then`: where `OPENING` ends; `LOCKED` of one that is `UNKNOWN`: it was to stay open. `failed`: what ended with
    this tick. `precharge_j`: energy in the resistor in this precharge, J. `equalising`: current predicted for joining
    the bus as share of what is allowed, while that alone is in the way; 0: it is not.

    `shown_open`: its unit, or a dead bus, has shown it open since it was last told to close. `isolated`: service has
    said so, until its unit is heard. `dead_s`: time since the bus is dead, as others measure it.
    """

    state: State = State.UNKNOWN
    since_s: float = 0.0
    reason: str = ""
    failed: Failure | None = None
    precharge_j: float = 0.0
    equalising: float = 0.0
    then: State = State.OPEN
    shown_open: bool = False
    isolated: bool = False
    dead_s: float = 0.0


def move(was: StringState, events: set[Event], reason: str, dt_s: float, opened_by: str) -> StringState:
    """Take the first row of the state's table whose event is present. `opened_by`: why the unit opened last."""
    event, to = next((row for row in TRANSITIONS[was.state] if row[0] in events), (E.ALWAYS, was.state))
    stays = was.then is not S.OPEN or to in (S.LOCKED, S.WAITING)
    if to is was.state:
        return replace(was, since_s=was.since_s + dt_s, reason=was.reason if stays else reason, failed=None)
    if was.state is S.OPENING:
        why = f"{event.value}: {opened_by}" if event is E.FELL_OPEN else reason
        return StringState(was.then, reason=was.reason if stays else why)
    if event in (E.TIME_OUT, E.LOADED):
        return _given_up(was.state, to, events, reason)
    if to is S.CLOSED:
        return StringState(to)
    if event is E.FELL_OPEN:
        return StringState(to, reason=f"{event.value}: {opened_by}")
    if event is E.LOCKED_CLOSED:
        return StringState(to, reason=event.value, then=S.LOCKED)
    if event is E.CONTACT_OPEN:
        return StringState(to, reason=event.value, failed=Failure.CONTACT)
    return StringState(to, reason=event.value if event is E.LEFT_OPEN else reason)


def _given_up(was: State, to: State, events: set[Event], reason: str) -> StringState:
    """A try to close that ends: asked to, not fit any more, or out of time."""
    if events & {E.OPEN_NOW, E.STOP}:
        return StringState(to, reason=reason)
    if E.UNFIT in events:
        return StringState(to, reason=reason, then=S.WAITING)
    failed = Failure.PRECHARGE if was is S.PRECHARGE else Failure.CLOSE
    return StringState(to, reason=f"{was.value.replace('_', ' ')} {E.TIME_OUT.value}", failed=failed)
