"""Strings whose contactors belong to boards that obey nobody here: their states are what the boards report."""

from __future__ import annotations

from bmsd.core.contactors.reasons import Orders
from bmsd.core.contactors.table import LIVE, State, StringState
from bmsd.model.plant import Plant
from bmsd.model.snapshot import Feedback, Snapshot


def followed(
    plant: Plant, was: tuple[StringState, ...], snapshot: Snapshot, orders: Orders, dt_s: float
) -> tuple[StringState, ...]:
    """Return the states of all strings. Nothing closes, locks or is tried.

    One that should open and is closed stays `OPENING` until it need not open any more, or its boards open it: limits
    are zero, and its current is still part of the rack's.
    """
    states = []
    for string, last in enumerate(was):
        state, reason = _state(plant, last, snapshot, string, _should_open(orders, string))
        since_s = last.since_s + dt_s if state is last.state else 0.0
        isolated = last.isolated and state is State.UNKNOWN
        states.append(StringState(state, since_s, reason, shown_open=state is State.OPEN, isolated=isolated))
    return tuple(states)


def _should_open(orders: Orders, string: int) -> str:
    """Return why a string should open; empty when it need not."""
    if orders.opens[string] or orders.opens_now[string] or orders.opens_still[string]:
        return orders.why[string] or "a fault"
    return "" if orders.wanted else "asked to open"


def _state(plant: Plant, was: StringState, snapshot: Snapshot, string: int, should_open: str) -> tuple[State, str]:
    units = snapshot.units
    fresh = units.state_age_s[string] <= plant.timing.hold_s
    if not fresh or units.minus[string] == units.plus[string] == Feedback.UNKNOWN:
        if was.isolated:
            return State.UNKNOWN, "isolated, as service says: its boards do not say where its contactors are"
        # closed is assumed to stay so: its limits are zero while nobody says it
        stays = was.state if was.state in LIVE else State.UNKNOWN
        return stays, "its boards do not say where its contactors are"
    if not (units.minus_output[string] and units.plus_output[string]):
        return State.OPEN, "opened by its own boards"
    if should_open:
        return State.OPENING, f"{should_open}: only its own boards can open it"
    return State.CLOSED, ""
