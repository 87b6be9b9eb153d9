"""Why a string may not close, in words for the technician."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bmsd.core.contactors import connecting
from bmsd.core.contactors.connecting import Bus
from bmsd.model.plant import Plant
from bmsd.model.snapshot import INPUTS, TRIP_CODES, Bools, Input, Snapshot, named

SUM_SHARE = 0.05
"""A string that differs by more from the sum of its cells is not measured well enough to be closed."""


@dataclass(frozen=True, slots=True)
class Orders:
    """What protections and people ask of the strings, arrays (strings,).

    `opens`: without current, at the latest after the time for it; `opens_now`: without waiting any longer;
    `opens_still`: only without current, for another string does not open and would carry all of it. `why`: the fault
    behind it, empty: none. `barred`: it may stay closed, but must not be closed. Not `wanted`: all are opened in
    order, because bmsd is `stopping` or somebody asked. Not `started`: none closes, but what is closed stays so.
    `interrupted`: the process before this one did not leave in order. `unread`: what it saved could not be read.
    """

    opens: Bools
    opens_now: Bools
    opens_still: Bools
    why: tuple[str, ...]
    barred: Bools
    wanted: bool = True
    stopping: bool = False
    started: bool = True
    interrupted: bool = False
    unread: bool = False

    @classmethod
    def none(cls, strings: int) -> Orders:
        """Nothing is asked: the strings may close."""
        no = np.zeros(strings, dtype=bool)
        return cls(no, no, no, ("",) * strings, no)


@dataclass(frozen=True, slots=True)
class Others:
    """What the other strings are at: those that feed the bus, whether one moves, or is in the circuit unasked.

    `current_a`: of those on the bus, asked or not, A, positive charges (NaN: unknown).
    """

    bus: Bus
    current_a: float
    move: bool
    not_open: bool

    @property
    def live(self) -> bool:
        return self.bus.strings > 0


def unfit(plant: Plant, snapshot: Snapshot, string: int, orders: Orders, others: Others) -> str:
    """Return why this string may not close, wherever the bus is; empty when it may."""
    return next(_unfit(plant, snapshot, string, orders, others), "")


def _unfit(plant: Plant, snapshot: Snapshot, string: int, orders: Orders, others: Others) -> Iterator[str]:
    if not orders.wanted:
        yield "bmsd is stopping" if orders.stopping else "opened on request"
    yield from _nodes_say(snapshot, string)
    if orders.opens[string] or orders.opens_still[string]:
        yield orders.why[string]
    if not orders.started:
        yield "the rack has not been measured completely yet"
    yield from _not_measured(plant, snapshot, string)
    if orders.barred[string]:
        yield "a fault bars it from closing"
    if others.move:
        yield "another string is closing or opening"
    if others.not_open:
        yield "another string is not open, or nothing shows that it is"


def _not_measured(plant: Plant, snapshot: Snapshot, string: int) -> Iterator[str]:
    units, modules = snapshot.units, snapshot.modules
    if not units.state_age_s[string] <= plant.timing.hold_s:
        yield "its contactor unit does not answer"
    if np.isnan(modules.cell_v[string]).any():
        yield "not all of its cells are known"
    if np.isnan(modules.temperature_degc[string]).all(axis=1).any():
        yield "a module's temperature is unknown"
    counts = modules.cell_count[string]
    if ((counts >= 0) & (counts != modules.cell_v.shape[2])).any():
        yield "a module has another number of cells"
    if not np.isfinite(units.current_a[string]):
        yield "its current is unknown"
    sum_v, string_v = float(modules.cell_v[string].sum()), float(units.string_v[string])
    if not np.isfinite(string_v + units.bus_v[string]):
        yield "a voltage of its unit is unknown"
    if not abs(string_v - sum_v) <= SUM_SHARE * sum_v:
        yield "its voltage is not the sum of its cells"
    unheard = _inputs(snapshot, string, Input.UNKNOWN)
    if unheard:
        yield f"input not reported: {unheard}"


def _inputs(snapshot: Snapshot, string: int, state: Input) -> str:
    code = int(state)  # NumPy asks an enum for many things before it compares
    values = zip(INPUTS, snapshot.units.inputs[string].tolist(), strict=True)
    return ", ".join(name for name, value in values if value == code)


def _nodes_say(snapshot: Snapshot, string: int) -> Iterator[str]:
    units = snapshot.units
    trip = int(units.trip_code[string])
    if trip > 0:
        yield f"its contactor unit has a trip latched: {named(trip, TRIP_CODES)}; bmsd reset trip"
    if snapshot.modules.trip_active[string].any():
        yield "a module board has a trip latched; bmsd reset trip"
    active = _inputs(snapshot, string, Input.ACTIVE)
    if active:
        yield f"input active: {active}"


def bus_not_agreed(snapshot: Snapshot, string: int) -> str:
    """Return that another unit measures another voltage on the same bus, which may be live; empty when none does."""
    units = snapshot.units
    with np.errstate(invalid="ignore"):
        apart_v = np.abs(units.bus_v - units.bus_v[string])
        other = np.flatnonzero(apart_v > SUM_SHARE * units.string_v[string])
    if not other.size:
        return ""
    return (
        f"its unit measures {units.bus_v[string]:.1f} V on the bus, string {other[0] + 1} {units.bus_v[other[0]]:.1f} V"
    )


def out_of_reach(plant: Plant, snapshot: Snapshot, string: int, others: Others) -> tuple[str, float]:
    """Return why this string may not join a live bus, and the predicted current as share of the allowed one."""
    string_v, bus_v = float(snapshot.units.string_v[string]), float(snapshot.units.bus_v[string])
    text = connecting.too_far(plant, string_v, bus_v, others.bus)
    if text:
        return text, connecting.share_of_allowed(plant, string_v - bus_v, others.bus)
    return connecting.too_much_current(plant, others.bus), 0.0
