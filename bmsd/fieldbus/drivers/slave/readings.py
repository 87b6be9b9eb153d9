"""The newest measurement of every node with its age: held for a while, then unknown.

A measurement is published whole: all cells of a board from one SYNC, or none. Arrays that went into a snapshot
are never written again; a new measurement makes new ones.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from bmsd.fieldbus.drivers.slave import words as meaning
from bmsd.fieldbus.drivers.slave.words import BoardState, NodeStatus, Poll
from bmsd.model.layout import Layout
from bmsd.model.plant import Timing
from bmsd.model.snapshot import Bools, Feedback, Floats, Input, Ints, Modules, Reading, Units

_SLACK_S = 1e-6
_CHARGE_SLACK_S = 1.0
"""A charge counter that moved further than full-scale current for this much longer than the time passed restarted."""

T = TypeVar("T", bound=np.generic)
Who = NDArray[np.bool_] | None
"""Which nodes (along the first axes) a measurement is of; None: all."""


def merged(old: NDArray[Any], new: NDArray[Any], who: Who) -> NDArray[Any]:
    """Return the new array, or the old one with the nodes of `who` replaced."""
    if who is None:
        return new
    result = old.copy()
    result[who] = new[who]
    return result


def _known(values: NDArray[Any], known: Bools, unknown: float) -> NDArray[Any]:
    """Return the values with those of nodes that are not known replaced; `known` covers the first axes."""
    result = values.copy()
    result[~known] = unknown
    return result


class Stamps:
    """When each kind of measurement of each node was latched, and by which SYNC: one list for all kinds.

    What was silent for longer than its values are held is believed again from its second answer on: the first one
    may have waited in a queue that could not be emptied, from a SYNC whose number looks like that of now.

    Kinds that come together lie together: `with_temperatures` and `plain` are the stamps of whole polls.
    """

    def __init__(self, layout: Layout, timing: Timing) -> None:
        boards, units = layout.strings * layout.modules, layout.strings
        self._board_shape = (4, *layout.module_shape)
        kinds = (
            ("board_state", boards, timing.slow_hold_s),
            ("board_status", boards, timing.slow_hold_s),
            ("temperatures", boards, timing.slow_hold_s),
            ("cells", boards, timing.hold_s),
            ("voltages", units, timing.hold_s),
            ("unit_state", units, timing.hold_s),
            ("currents", units, timing.hold_s),
            ("unit_status", units, timing.slow_hold_s),
        )
        ends = np.cumsum([count for _, count, _ in kinds]).tolist()
        parts = {name: slice(end - count, end) for (name, count, _), end in zip(kinds, ends, strict=True)}
        self.temperatures, self.cells = parts["temperatures"], parts["cells"]
        self.voltages, self.unit_state, self.currents = parts["voltages"], parts["unit_state"], parts["currents"]
        self.board_state, self.board_status = parts["board_state"], parts["board_status"]
        self.unit_status = parts["unit_status"]
        self.with_temperatures = slice(self.temperatures.start, self.currents.stop)
        self.plain = slice(self.cells.start, self.currents.stop)
        self._hold_s = np.repeat([hold_s for _, _, hold_s in kinds], [count for _, count, _ in kinds])
        self.at_s: Floats = np.full(ends[-1], -math.inf)
        self.sync: Ints = np.full(ends[-1], -1, dtype=np.int64)
        self._doubted_s: Floats = np.full(ends[-1], -math.inf)
        """When each last answered without being believed."""
        self._most_s = timing.hold_s + _SLACK_S, timing.slow_hold_s + _SLACK_S
        self._oldest_s: tuple[float, float] | None = None
        """Oldest stamps of `plain` and of `temperatures`; None: to be looked up."""
        self._now_s: float | None = None
        self.age_s: Floats = np.full(ends[-1], math.inf)
        self.known: Bools = np.zeros(ends[-1], dtype=bool)
        self.all_known = False

    def all_steady(self, at_s: float, *, temperatures: bool) -> bool:
        """Whether nothing of `plain`, or of `with_temperatures`, was silent for long before `at_s`."""
        if self._oldest_s is None:
            plain, warm = self.at_s[self.plain], self.at_s[self.temperatures]
            self._oldest_s = float(plain.min()), float(warm.min(initial=math.inf))
        plain_s, warm_s = self._oldest_s
        return at_s - plain_s <= self._most_s[0] and not (temperatures and at_s - warm_s > self._most_s[1])

    def believed(self, part: slice, answered: Bools, at_s: float) -> Bools:
        """Return which of the nodes that `answered` a SYNC (any shape) are believed; the others are on probation.

        The first answer of all is believed: limits are zero then, and stay so for longer than a poll.
        """
        heard_s = np.maximum(self.at_s[part], self._doubted_s[part])
        steady = np.isinf(heard_s) | (at_s - heard_s <= self._hold_s[part] + _SLACK_S)
        flat = answered.reshape(-1)
        self._doubted_s[part][flat & ~steady] = at_s
        return np.asarray(answered & steady.reshape(answered.shape))

    def stamp(self, part: slice, who: Who, at_s: float, sync: int) -> None:
        """Note a measurement of the nodes `who` (any shape) of a kind."""
        published = self.sync.copy()
        if who is None:
            self.at_s[part] = at_s
            published[part] = sync
        else:
            self.at_s[part][who.reshape(-1)] = at_s
            published[part][who.reshape(-1)] = sync
        self.sync = published
        self._now_s = self._oldest_s = None

    def stamp_poll(self, at_s: float, sync: int, *, temperatures: bool) -> None:
        """Note a whole poll of all nodes."""
        before_s = self._oldest_s
        self.stamp(self.with_temperatures if temperatures else self.plain, None, at_s, sync)
        if temperatures:
            self._oldest_s = at_s, at_s
        elif before_s is not None:
            self._oldest_s = at_s, before_s[1]

    def of_boards(self, values: NDArray[T]) -> NDArray[T]:
        """Return the part of a list that is of boards: state, status, temperatures, cells (4, strings, modules)."""
        return values[: self.cells.stop].reshape(self._board_shape)

    def read(self, now_s: float) -> None:
        """Set `age_s`, and `known`: which measurements are still held."""
        if now_s != self._now_s:
            self.age_s = now_s - self.at_s
            self.known = self.age_s <= self._hold_s
            self.all_known = np.count_nonzero(self.known) == len(self.known)
            self._now_s = now_s


class BoardReadings:
    """What the module boards measured last; arrays as in `Modules`."""

    def __init__(self, layout: Layout, stamps: Stamps) -> None:
        self._layout, self._stamps = layout, stamps
        self._shape = shape = layout.module_shape
        self._cell_v: Floats = np.full(layout.cell_shape, np.nan)
        self._cell_reading: Ints = np.full(layout.cell_shape, int(Reading.MISSING), dtype=np.int64)
        self._temperature_degc: Floats = np.full(layout.sensor_shape, np.nan)
        self._temperature_reading: Ints = np.full(layout.sensor_shape, int(Reading.MISSING), dtype=np.int64)
        self._module_v: Floats = np.full(shape, np.nan)
        self._balancing: Bools = np.zeros(layout.cell_shape, dtype=bool)
        self._board_degc: Floats = np.full(shape, np.nan)
        self._self_test: Ints = np.full(shape, -1, dtype=np.int64)
        self._boot_mode: Bools = np.zeros(shape, dtype=bool)
        self._booting = False
        self.cell_count: Ints = np.full(shape, -1, dtype=np.int64)
        self.trip_active: Bools = np.zeros(shape, dtype=bool)
        self.trip_code: Ints = np.zeros(shape, dtype=np.int64)
        self._heartbeat_lost: Bools = np.zeros(shape, dtype=bool)

    def take_cells(self, poll: Poll, who: Who) -> None:
        """Publish the cells of boards."""
        self._cell_v = merged(self._cell_v, poll.cell_v, who)
        self._cell_reading = merged(self._cell_reading, poll.cell_reading, who)

    def take_temperatures(self, poll: Poll, who: Who) -> None:
        """Publish the cell temperatures of boards."""
        self._temperature_degc = merged(self._temperature_degc, poll.temperature_degc, who)
        self._temperature_reading = merged(self._temperature_reading, poll.temperature_reading, who)

    def take_trips(self, tripped: Bools, codes: Ints) -> None:
        """Note trip frames; arrays (boards,), `codes`: what each board's newest said, -1 for one never heard."""
        self.trip_active = self.trip_active | tripped.reshape(self._shape)
        self.trip_code = np.where(self.trip_active, codes.reshape(self._shape), 0)

    def take_state(self, state: BoardState, who: Who, tripped: Bools, codes: Ints) -> None:
        """Publish the states of boards (arrays (boards,)); `tripped` by a trip frame newer than the state."""
        shape = self._shape
        balancing = state.balancing.reshape(*shape, -1)[:, :, : self._layout.cells]
        self._module_v = merged(self._module_v, state.module_v.reshape(shape), who)
        self._balancing = merged(self._balancing, balancing, who)
        self.cell_count = merged(self.cell_count, state.cell_count.reshape(shape), who)
        self.trip_active = merged(self.trip_active, (state.trip_active | tripped).reshape(shape), who)
        self.take_trips(np.zeros_like(tripped), codes)
        self._heartbeat_lost = merged(self._heartbeat_lost, state.heartbeat_lost.reshape(shape), who)

    def take_status(self, status: NodeStatus, who: Who) -> None:
        """Publish self-tests and board temperatures (arrays (boards,))."""
        shape = self._shape
        self._self_test = merged(self._self_test, status.self_test.reshape(shape), who)
        self._board_degc = merged(self._board_degc, status.board_degc.reshape(shape), who)
        self._boot_mode = merged(self._boot_mode, status.boot_mode.reshape(shape), who)
        self._booting = bool(self._boot_mode.any())

    def modules(self, now_s: float, identity: BoardIdentity, counts: BoardCounts) -> Modules:
        """Return the measurements as known now.

        A board in its bootloader measures nothing.
        """
        stamps, shape = self._stamps, self._shape
        stamps.read(now_s)
        cell_v, cell_reading = self._cell_v, self._cell_reading
        temperature_degc, temperature_reading = self._temperature_degc, self._temperature_reading
        module_v, board_degc, self_test = self._module_v, self._board_degc, self._self_test
        if self._booting or not stamps.all_known:
            runs = ~self._boot_mode
            fresh = stamps.known[stamps.cells].reshape(shape) & runs
            cell_v = _known(cell_v, fresh, np.nan)
            cell_reading = _known(cell_reading, fresh, int(Reading.MISSING))
            warm = stamps.known[stamps.temperatures].reshape(shape) & runs
            temperature_degc = _known(temperature_degc, warm, np.nan)
            temperature_reading = _known(temperature_reading, warm, int(Reading.MISSING))
            module_v = _known(module_v, stamps.known[stamps.board_state].reshape(shape) & runs, np.nan)
            status = stamps.known[stamps.board_status].reshape(shape)
            board_degc = _known(board_degc, status, np.nan)
            self_test = _known(self_test, status, -1)
        age_s, sync = stamps.of_boards(stamps.age_s), stamps.of_boards(stamps.sync)
        return Modules(
            cell_v, cell_reading, age_s[3], sync[3],
            temperature_degc, temperature_reading, age_s[2], sync[2],
            module_v, self._balancing, age_s[0], board_degc, self_test,
            self.trip_active, self.trip_code, self._heartbeat_lost, *identity, *counts,
        )  # fmt: skip


class BoardIdentity(NamedTuple):
    """Who the module boards say they are, arrays as in `Modules`."""

    identified: Bools
    cell_count: Ints
    uid: Ints
    board_type: Ints
    chemistry: Ints


class BoardCounts(NamedTuple):
    """What was counted of the module boards, arrays as in `Modules`."""

    frames: Ints
    crc_errors: Ints
    counter_errors: Ints
    duplicates: Ints


class UnitReadings:
    """What the contactor units measured last; arrays as in `Units`, kept with the strings last."""

    def __init__(self, layout: Layout, stamps: Stamps) -> None:
        count = layout.strings
        self._stamps = stamps
        self._current_a: Floats = np.full(count, np.nan)
        self._volts: Floats = np.full((3, count), np.nan)
        self._counter_as: Floats = np.zeros(count)
        self._base_as: Floats = np.zeros(count)
        """What makes the charge since bmsd's start of what the counter says."""
        self._charge_started: Bools = np.zeros(count, dtype=bool)
        self._all_started = False
        self._charge_as: Floats = np.full(count, np.nan)
        self._states: Ints = np.zeros((meaning.UNIT_INPUTS.stop, count), dtype=np.int64)
        self._states[meaning.MINUS : meaning.PRECHARGE + 1] = int(Feedback.UNKNOWN)
        self._states[[meaning.TRIP_CODE, meaning.OPEN_REASON]] = -1
        self._states[meaning.UNIT_INPUTS] = int(Input.UNKNOWN)
        self._flags: Bools = self._states[meaning.FLAGS] != 0
        self.trip_code: Ints = self._states[meaning.TRIP_CODE]
        self.self_test: Ints = np.full(count, -1, dtype=np.int64)
        self.charge_restarts: Ints = np.zeros(count, dtype=np.int64)
        """Times that a charge counter jumped further than any current: its unit was started anew."""

    def take_currents(self, poll: Poll, who: Who, at_s: float) -> None:
        """Publish currents and charge counters; where the current is invalid, the charge is unknown too."""
        current_a, counter_as = poll.unit_values[meaning.CURRENT_A], poll.unit_values[meaning.CHARGE_AS]
        moved_as = counter_as - self._counter_as
        if poll.unit_unknown:
            # a unit that has just started says so by an invalid current: its counter began anew
            self._charge_started = self._charge_started & np.isfinite(current_a)
            self._all_started = False
        if not self._all_started or np.count_nonzero(np.abs(moved_as) > meaning.FULL_SCALE_A):
            self._rebase(moved_as, at_s, who)
        self._counter_as = merged(self._counter_as, counter_as, who)
        self._current_a = merged(self._current_a, current_a, who)
        self._charge_as = self._counter_as + self._base_as
        if poll.unit_unknown or who is not None:
            self._charge_as[np.isnan(self._current_a) | ~self._charge_started] = np.nan

    def _rebase(self, moved_as: Floats, at_s: float, who: Who) -> None:
        """Keep the charge without a step where a counter ran over its end, or started anew with its unit."""
        answered = np.ones(len(moved_as), dtype=bool) if who is None else who
        reach_as = (at_s - self._stamps.at_s[self._stamps.currents] + _CHARGE_SLACK_S) * meaning.FULL_SCALE_A
        half_as = meaning.CHARGE_WRAP_AS / 2
        wrapped_as = np.where(moved_as < -half_as, meaning.CHARGE_WRAP_AS, 0.0)
        wrapped_as = np.where(moved_as > half_as, -meaning.CHARGE_WRAP_AS, wrapped_as)
        restarted = ~(np.abs(moved_as + wrapped_as) <= reach_as) & self._charge_started
        step_as = np.where(restarted | ~self._charge_started, -moved_as, wrapped_as)
        self._base_as = np.where(answered, self._base_as + step_as, self._base_as)
        self.charge_restarts = self.charge_restarts + (restarted & answered)
        self._charge_started = self._charge_started | answered
        self._all_started = bool(self._charge_started.all())

    def take_voltages(self, poll: Poll, who: Who) -> None:
        """Publish bus, string and coil voltages."""
        volts = poll.unit_values[meaning.VOLTAGES]
        self._volts = volts if who is None else merged(self._volts.T, volts.T, who).T

    def take_state(self, poll: Poll, who: Who, trip: tuple[Bools, Ints] | None) -> None:
        """Publish contactors, inputs and trips; `trip`: which units sent a newer trip frame, and its code."""
        states = poll.unit_states
        self._states = states if who is None else merged(self._states.T, states.T, who).T
        self._flags = self._states[meaning.FLAGS] != 0
        trip_code = states[meaning.TRIP_CODE]
        if trip is not None:
            trip_code = np.where(trip[0], trip[1], trip_code)
        self.trip_code = merged(self.trip_code, trip_code, who)

    def take_status(self, status: NodeStatus, who: Who) -> None:
        """Publish self-tests."""
        self.self_test = merged(self.self_test, status.self_test, who)

    def units(self, now_s: float, identified: Bools, crc_errors: Ints) -> Units:
        """Return the measurements as known now."""
        stamps = self._stamps
        stamps.read(now_s)
        current_a, charge_as, volts, states = self._current_a, self._charge_as, self._volts, self._states
        self_test = self.self_test
        if not stamps.all_known:
            self_test = _known(self_test, stamps.known[stamps.unit_status], -1)
            current_a = _known(current_a, stamps.known[stamps.currents], np.nan)
            charge_as = _known(charge_as, stamps.known[stamps.currents], np.nan)
            volts = _known(volts.T, stamps.known[stamps.voltages], np.nan).T
            unknown = ~stamps.known[stamps.unit_state]
            states = states.copy()
            states[meaning.MINUS : meaning.PRECHARGE + 1, unknown] = int(Feedback.UNKNOWN)
            states[meaning.UNIT_INPUTS, unknown] = int(Input.UNKNOWN)
        flags, age_s, sync = self._flags, stamps.age_s, stamps.sync
        return Units(
            current_a, charge_as, age_s[stamps.currents], sync[stamps.currents],
            volts[0], volts[1], volts[2], age_s[stamps.voltages],
            states[meaning.MINUS], states[meaning.PLUS], states[meaning.PRECHARGE],
            flags[0], flags[1], flags[2], flags[3], states[meaning.UNIT_INPUTS].T, flags[4],
            self.trip_code, states[meaning.OPEN_REASON], age_s[stamps.unit_state], sync[stamps.unit_state],
            identified, crc_errors, self_test,
        )  # fmt: skip
