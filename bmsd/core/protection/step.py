"""The row engine: debounce, hysteresis, latches and resets of all protections of one scope.

Theory of operation. A row has one value per subject. It is *beyond* while the value is past `trip` (and the
gate is open). The first beyond sample starts the debounce; `samples` new samples and `delay_s` later the row
is *raised*. A good sample in between restarts it. A raised row clears after `clear_s` on the good side of
`clear`; a latched one only when somebody with the right role asks for it as well. Unknown holds everything.

An acknowledged row that may reclose stays raised, but lets its string close. Its debounce starts anew then:
when it passes again, the acknowledgement is used up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bmsd.core.protection.evidence import Reading
from bmsd.model.request import Reset, may_reset
from bmsd.model.row import Latch, Row
from bmsd.model.snapshot import Bools, Floats, Ints

HOUR_S = 3600.0


@dataclass(frozen=True)
class Rows:
    """The rows of one scope as columns (rows, 1)."""

    table: tuple[Row, ...]
    sign: Floats
    trip: Floats
    clear: Floats
    samples: Ints
    delay_s: Floats
    clear_s: Floats
    latching: Bools
    most_per_hour: Ints
    unknown_trips: Bools
    recloses: Bools

    @classmethod
    def of(cls, table: Sequence[Row], thresholds: Mapping[str, float]) -> Rows:
        """Columns of these rows, thresholds looked up by name."""

        def number(value: float | str) -> float:
            return float(thresholds[value]) if isinstance(value, str) else float(value)

        def floats(values: Iterable[float]) -> Floats:
            return np.array(list(values), dtype=np.float64).reshape(-1, 1)

        def ints(values: Iterable[int]) -> Ints:
            return np.array(list(values), dtype=np.int64).reshape(-1, 1)

        def bools(values: Iterable[bool]) -> Bools:
            return np.array(list(values), dtype=np.bool_).reshape(-1, 1)

        sign = floats(-1.0 if row.below else 1.0 for row in table)
        never = int(np.iinfo(np.int64).max)
        return cls(
            table=tuple(table),
            sign=sign,
            trip=floats(number(row.trip) for row in table) * sign,
            clear=floats(number(row.clear) for row in table) * sign,
            samples=ints(row.samples for row in table),
            delay_s=floats(row.delay_s for row in table),
            clear_s=floats(row.clear_s for row in table),
            latching=bools(row.latch is not Latch.AUTO for row in table),
            most_per_hour=ints(never if row.auto_per_hour is None else row.auto_per_hour for row in table),
            unknown_trips=bools(row.unknown_trips for row in table),
            recloses=bools(row.reclose_on_ack for row in table),
        )


@dataclass(frozen=True)
class FaultState:
    """Debounce, latches and counters of one scope, arrays (rows, subjects).

    `bad_s` is the time since the first beyond sample, -1 when the last known one was good; `raised_s` the
    time since the row was raised (or its acknowledgement used up), `good_s` the time on the good side while
    raised, -1 when it is not there. `hour_s`, `raises`: time since and number of raises within the running hour.
    """

    samples: Ints
    bad_s: Floats
    good_s: Floats
    raised: Bools
    raised_s: Floats
    latched: Bools
    acknowledged: Bools
    raises: Ints
    hour_s: Floats
    beyond: Bools
    value: Floats

    @classmethod
    def start(cls, rows: int, subjects: int) -> FaultState:
        """Nothing raised, nothing known."""
        shape = (rows, subjects)
        return cls(
            samples=np.zeros(shape, dtype=np.int64),
            bad_s=np.full(shape, -1.0),
            good_s=np.full(shape, -1.0),
            raised=np.zeros(shape, dtype=bool),
            raised_s=np.zeros(shape),
            latched=np.zeros(shape, dtype=bool),
            acknowledged=np.zeros(shape, dtype=bool),
            raises=np.zeros(shape, dtype=np.int64),
            hour_s=np.zeros(shape),
            beyond=np.zeros(shape, dtype=bool),
            value=np.full(shape, np.nan),
        )


def step(
    rows: Rows, was: FaultState, readings: Sequence[Reading], dt_s: float, resets: Sequence[Reset] = ()
) -> FaultState:
    """Return the state of all protections of one scope after these readings.

    Arrays are (rows, subjects): a debounce belongs to a cell, not to the maximum over cells. An unknown
    reading holds the state: it neither raises nor clears, unless the row itself guards against not knowing.
    """
    value, gate = _values(readings, was.value.shape)
    known = ~np.isnan(value)
    beyond = _beyond(rows, value, known, gate)
    if not (beyond.any() or was.beyond.any() or was.raised.any()):
        return _calm(was, value, dt_s)
    new, delay_s = _pace(rows, readings, was.value.shape)
    good_side = _good(rows, value, known)
    hold = ~known & ~rows.unknown_trips
    samples, bad_s = _counted(was, beyond, hold, new, dt_s)
    due = beyond & (samples >= rows.samples) & (bad_s >= delay_s - 1e-9)
    raises, hour_s = _raises(was, due & ~was.raised, dt_s)

    raised = was.raised | due
    raised_s = np.where(was.raised, was.raised_s + dt_s, 0.0)
    better_s = np.where(was.raised & (was.good_s >= 0.0), was.good_s + dt_s, 0.0)
    good_s = np.where(hold, was.good_s, np.where(raised & good_side, better_s, -1.0))
    latched = raised & (was.latched | (due & (rows.latching | (raises > rows.most_per_hour))))

    asked = _asked(rows, resets)
    used_up = was.acknowledged & due
    grants = asked & was.raised & rows.recloses
    acknowledged = (was.acknowledged & ~used_up) | grants
    gone = raised & good_side & (good_s >= rows.clear_s - 1e-9)
    clears = gone & (~latched | asked | acknowledged)
    clears |= raised & good_side & latched & asked
    raised = raised & ~clears
    return FaultState(
        samples=np.where(clears | grants, 0, samples),
        bad_s=np.where(grants & beyond, 0.0, bad_s),
        good_s=np.where(raised, good_s, -1.0),
        raised=raised,
        raised_s=np.where(raised & ~used_up, raised_s, 0.0),
        latched=latched & raised,
        acknowledged=acknowledged & raised,
        raises=raises,
        hour_s=hour_s,
        beyond=np.where(hold, was.beyond, beyond),
        value=value,
    )


def _calm(was: FaultState, value: Floats, dt_s: float) -> FaultState:
    """What follows while nothing is beyond or raised, as nearly always: only the hours run on."""
    raises, hour_s = _raises(was, np.zeros_like(was.raised), dt_s)
    return replace(FaultState.start(*value.shape), raises=raises, hour_s=hour_s, value=value)


def _beyond(rows: Rows, value: Floats, known: Bools, gate: Bools) -> Bools:
    """Which values are beyond; an unknown one is where the row says so."""
    with np.errstate(invalid="ignore"):
        past = value * rows.sign > rows.trip
    return (past & gate) | (~known & rows.unknown_trips)


def _good(rows: Rows, value: Floats, known: Bools) -> Bools:
    """Which values are on the good side."""
    signed = value * rows.sign
    with np.errstate(invalid="ignore"):
        # a row whose clear equals its trip (an age, a flag) is good when it is not past
        good: Bools = (signed < rows.clear) | (known & (rows.clear == rows.trip) & (signed <= rows.trip))
    return good


def _counted(was: FaultState, beyond: Bools, hold: Bools, new: Bools, dt_s: float) -> tuple[Ints, Floats]:
    """Samples and time of the debounce: what is unknown counts no sample, and its time goes on."""
    begun = was.bad_s >= 0.0
    bad_s = np.where(beyond | hold, np.where(begun, was.bad_s + dt_s, np.where(beyond, 0.0, -1.0)), -1.0)
    return np.where(hold, was.samples, np.where(beyond, was.samples + new, 0)), bad_s


def _raises(was: FaultState, starts: Bools, dt_s: float) -> tuple[Ints, Floats]:
    """Number of raises within the running hour, and the time of that hour, which the first of them begins."""
    hour_s = was.hour_s + dt_s
    fresh_hour = hour_s >= HOUR_S
    raises = np.where(fresh_hour, 0, was.raises) + starts
    return raises, np.where(fresh_hour | (starts & (raises == 1)), 0.0, hour_s)


def _values(readings: Sequence[Reading], shape: tuple[int, ...]) -> tuple[Floats, Bools]:
    """Value and gate of all rows, (rows, subjects)."""
    value, gate = np.empty(shape), np.ones(shape, dtype=bool)
    for index, reading in enumerate(readings):
        value[index] = reading.value
        if reading.gate is not None:
            gate[index] = reading.gate
    return value, gate


def _pace(rows: Rows, readings: Sequence[Reading], shape: tuple[int, ...]) -> tuple[Bools, Floats]:
    """Which values are new, and the delay of each, (rows, subjects)."""
    new, delay_s = np.ones(shape, dtype=bool), np.broadcast_to(rows.delay_s, shape).copy()
    for index, reading in enumerate(readings):
        if reading.new is not None:
            new[index] = reading.new
        if reading.delay_s is not None:
            delay_s[index] = reading.delay_s
    return new, delay_s


def _asked(rows: Rows, resets: Sequence[Reset]) -> Bools:
    """Which rows somebody with the right role asks to reset, (rows, 1)."""

    def asks(row: Row, reset: Reset) -> bool:
        if not reset.code or reset.code not in (row.code, row.reset_group, "all"):
            return False
        return may_reset(row, reset.role, reset.reason)

    if not resets:
        return np.zeros((len(rows.table), 1), dtype=bool)
    return np.array([[any(asks(row, reset) for reset in resets)] for row in rows.table], dtype=bool)
