"""The newest measurement of every node with its age: held for a while, then unknown.

A measurement is published whole: all cells of a board from one SYNC, or none. Arrays that went into a snapshot
are never written again; a new measurement makes new ones.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bmsd.fieldbus.drivers.slave import words as meaning
from bmsd.fieldbus.drivers.slave.words import Words
from bmsd.model.layout import Layout
from bmsd.model.plant import Timing
from bmsd.model.snapshot import Bools, Feedback, Floats, Input, Ints, Modules, Reading, Units

NODE_ROWS = 4
_HALF_COUNTER = 1 << 31
_CHARGE_SLACK_S = 1.0
"""A charge counter that moved further than full-scale current for this much longer than the time passed restarted."""

Who = NDArray[np.bool_] | None
"""Which nodes a measurement is of; None: all."""


def merged(old: NDArray[Any], new: NDArray[Any], who: Who) -> NDArray[Any]:
    """Return the new array, or the old one with the nodes of `who` (along the first axes) replaced."""
    if who is None:
        return new
    result = old.copy()
    result[who] = new[who]
    return result


class BoardReadings:
    """What the module boards measured last; arrays as in `Modules`."""

    CELLS, TEMPERATURES, STATE, STATUS = range(NODE_ROWS)

    def __init__(self, layout: Layout, timing: Timing) -> None:
        shape = layout.module_shape
        self._layout = layout
        self.at_s: Floats = np.full((NODE_ROWS, *shape), -math.inf)
        self.sync: Ints = np.full((NODE_ROWS, *shape), -1, dtype=np.int64)
        hold_s = (timing.hold_s, timing.slow_hold_s, timing.slow_hold_s, timing.slow_hold_s)
        self._hold_s = np.array(hold_s).reshape(NODE_ROWS, 1, 1)
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
        self.heartbeat_lost: Bools = np.zeros(shape, dtype=bool)

    def _stamp(self, row: int, who: Who, at_s: float, sync: int) -> None:
        chosen = slice(None) if who is None else who
        self.at_s[row][chosen] = at_s
        published = self.sync.copy()
        published[row][chosen] = sync
        self.sync = published

    def _shaped(self, flat: NDArray[Any], per_board: int) -> NDArray[Any]:
        strings, modules = self._layout.module_shape
        return flat.reshape(strings, modules, -1)[:, :, :per_board]

    def take_cells(self, words: Words, who: Who, at_s: float, sync: int) -> None:
        """Publish the cells of boards from their words (boards * frames,)."""
        volts, readings = meaning.cells(words)
        self._cell_v = merged(self._cell_v, self._shaped(volts, self._layout.cells), who)
        self._cell_reading = merged(self._cell_reading, self._shaped(readings, self._layout.cells), who)
        self._stamp(self.CELLS, who, at_s, sync)

    def take_temperatures(self, words: Words, who: Who, at_s: float, sync: int) -> None:
        """Publish the cell temperatures of boards from their words (boards * frames,)."""
        degc, readings = meaning.temperatures(words)
        self._temperature_degc = merged(self._temperature_degc, self._shaped(degc, self._layout.sensors), who)
        self._temperature_reading = merged(self._temperature_reading, self._shaped(readings, self._layout.sensors), who)
        self._stamp(self.TEMPERATURES, who, at_s, sync)

    def take_state(self, words: Words, who: Who, at_s: float, sync: int, tripped_s: Floats) -> None:
        """Publish the states of boards; a trip heard after the SYNC (`tripped_s`, flat) stands above its bit."""
        state = meaning.board_state(words)
        shape = self._layout.module_shape
        self._module_v = merged(self._module_v, state.module_v.reshape(shape), who)
        self._balancing = merged(self._balancing, self._shaped(state.balancing, self._layout.cells), who)
        self.cell_count = merged(self.cell_count, state.cell_count.reshape(shape), who)
        tripped = (state.trip_active | (tripped_s >= at_s)).reshape(shape)
        self.trip_active = merged(self.trip_active, tripped, who)
        self.heartbeat_lost = merged(self.heartbeat_lost, state.heartbeat_lost.reshape(shape), who)
        self._stamp(self.STATE, who, at_s, sync)

    def take_status(self, words: Words, who: Who, at_s: float, sync: int) -> None:
        """Publish self-tests and board temperatures."""
        status = meaning.node_status(words)
        shape = self._layout.module_shape
        self._self_test = merged(self._self_test, status.self_test.reshape(shape), who)
        self._board_degc = merged(self._board_degc, status.board_degc.reshape(shape), who)
        self._boot_mode = merged(self._boot_mode, status.boot_mode.reshape(shape), who)
        self._booting = bool(self._boot_mode.any())
        self._stamp(self.STATUS, who, at_s, sync)

    def modules(self, now_s: float, identified: Bools, cell_count: Ints, counts: tuple[Ints, Ints, Ints]) -> Modules:
        """Return the measurements as known now; `counts`: frames, CRC errors, counter errors (strings, modules)."""
        age_s = now_s - self.at_s
        known = age_s <= self._hold_s
        cell_v, cell_reading = self._cell_v, self._cell_reading
        temperature_degc, temperature_reading = self._temperature_degc, self._temperature_reading
        module_v, board_degc, self_test = self._module_v, self._board_degc, self._self_test
        if self._booting or np.count_nonzero(known) != known.size:
            sound = known & ~self._boot_mode
            cell_v = _known(cell_v, sound[self.CELLS], np.nan)
            cell_reading = _known(cell_reading, sound[self.CELLS], int(Reading.MISSING))
            temperature_degc = _known(temperature_degc, sound[self.TEMPERATURES], np.nan)
            temperature_reading = _known(temperature_reading, sound[self.TEMPERATURES], int(Reading.MISSING))
            module_v = _known(module_v, sound[self.STATE], np.nan)
            board_degc = _known(board_degc, known[self.STATUS], np.nan)
            self_test = _known(self_test, known[self.STATUS], -1)
        return Modules(
            cell_v, cell_reading, age_s[self.CELLS], self.sync[self.CELLS],
            temperature_degc, temperature_reading, age_s[self.TEMPERATURES], self.sync[self.TEMPERATURES],
            module_v, self._balancing, age_s[self.STATE], board_degc, self_test,
            self.trip_active, self.heartbeat_lost, identified, cell_count, *counts,
        )  # fmt: skip


def _known(values: NDArray[Any], known: Bools, unknown: float) -> NDArray[Any]:
    """Return the values with those of nodes that are not known replaced; `known` covers the first axes."""
    result = values.copy()
    result[~known] = unknown
    return result


class UnitReadings:
    """What the contactor units measured last; arrays as in `Units`."""

    CURRENT, VOLTAGES, STATE, STATUS = range(NODE_ROWS)

    def __init__(self, layout: Layout, timing: Timing) -> None:
        count = layout.strings
        self.at_s: Floats = np.full((NODE_ROWS, count), -math.inf)
        self.sync: Ints = np.full((NODE_ROWS, count), -1, dtype=np.int64)
        self._hold_s = np.array([timing.hold_s] * 3 + [timing.slow_hold_s]).reshape(NODE_ROWS, 1)
        self._current_a: Floats = np.full(count, np.nan)
        self._volts: Floats = np.full((count, 4), np.nan)
        self._charge_raw: Ints = np.zeros(count, dtype=np.int64)
        self._charge_counts: Ints = np.zeros(count, dtype=np.int64)
        self._charge_as: Floats = np.full(count, np.nan)
        self._raw: Ints = np.zeros((count, meaning.UNIT_INPUTS.stop), dtype=np.int64)
        self._raw[:, meaning.MINUS : meaning.PRECHARGE + 1] = int(Feedback.UNKNOWN)
        self._raw[:, [meaning.TRIP_CODE, meaning.OPEN_REASON]] = -1
        self._raw[:, meaning.UNIT_INPUTS] = int(Input.UNKNOWN)
        self._flags: Bools = self._raw[:, meaning.FLAGS] != 0
        self.trip_code: Ints = self._raw[:, meaning.TRIP_CODE]
        self.self_test: Ints = np.full(count, -1, dtype=np.int64)
        self.charge_restarts: Ints = np.zeros(count, dtype=np.int64)
        """Times that a charge counter jumped further than any current: its unit was started anew."""

    def _stamp(self, rows: slice, who: Who, at_s: float, sync: int) -> None:
        chosen = slice(None) if who is None else who
        self.at_s[rows, chosen] = at_s
        published = self.sync.copy()
        published[rows, chosen] = sync
        self.sync = published

    def take_currents(self, raw: Ints, physical: Floats, who: Who, at_s: float, sync: int) -> None:
        """Publish currents and charge counters from raw and physical values of all units."""
        current_a = physical[:, meaning.CURRENT_A]
        charge_raw = raw[:, meaning.CHARGE]
        moved = charge_raw - self._charge_raw
        moved += _HALF_COUNTER
        moved &= 2 * _HALF_COUNTER - 1
        moved -= _HALF_COUNTER
        reach = (at_s - self.at_s[self.CURRENT] + _CHARGE_SLACK_S) * (meaning.FULL_SCALE_A / meaning.CHARGE_AS)
        jumped = np.abs(moved) > reach
        first = self.sync[self.CURRENT] < 0
        if np.count_nonzero(jumped) or np.count_nonzero(first):
            chosen = jumped & ~first if who is None else jumped & ~first & who
            self.charge_restarts = self.charge_restarts + chosen
            moved[jumped | first] = 0
        charge_counts = self._charge_counts + moved
        self._current_a = merged(self._current_a, current_a, who)
        self._charge_raw = merged(self._charge_raw, charge_raw, who)
        self._charge_counts = merged(self._charge_counts, charge_counts, who)
        self._charge_as = np.multiply(self._charge_counts, meaning.CHARGE_AS, dtype=np.float64)
        if np.count_nonzero(np.isnan(self._current_a)):
            self._charge_as[np.isnan(self._current_a)] = np.nan
        self._stamp(slice(0, 1), who, at_s, sync)

    def take_voltages(self, physical: Floats, who: Who, at_s: float, sync: int) -> None:
        """Publish bus, string and coil voltages."""
        self._volts = merged(self._volts, physical, who)
        self._stamp(slice(1, 2), who, at_s, sync)

    def take_state(self, raw: Ints, who: Who, at_s: float, sync: int, trip: tuple[Floats, Ints]) -> None:
        """Publish contactors, inputs and trips; a trip heard after the SYNC (`trip`: time, code) stands above."""
        self._raw = merged(self._raw, raw, who)
        self._flags = self._raw[:, meaning.FLAGS] != 0
        tripped_s, code = trip
        later = tripped_s >= at_s
        trip_code = raw[:, meaning.TRIP_CODE]
        if np.count_nonzero(later):
            trip_code = np.where(later, code, trip_code)
        self.trip_code = merged(self.trip_code, trip_code, who)
        self._stamp(slice(2, 3), who, at_s, sync)

    def take_status(self, words: Words, who: Who, at_s: float, sync: int) -> None:
        """Publish self-tests."""
        self.self_test = merged(self.self_test, meaning.node_status(words).self_test, who)
        self._stamp(slice(3, 4), who, at_s, sync)

    def units(self, now_s: float, identified: Bools, crc_errors: Ints) -> Units:
        """Return the measurements as known now."""
        age_s = now_s - self.at_s
        known = age_s <= self._hold_s
        current_a, charge_as, volts, raw = self._current_a, self._charge_as, self._volts, self._raw
        if np.count_nonzero(known) != known.size:
            current_a = _known(current_a, known[self.CURRENT], np.nan)
            charge_as = _known(charge_as, known[self.CURRENT], np.nan)
            volts = _known(volts, known[self.VOLTAGES], np.nan)
            unknown = ~known[self.STATE]
            raw = raw.copy()
            raw[unknown, meaning.MINUS : meaning.PRECHARGE + 1] = int(Feedback.UNKNOWN)
            raw[unknown, meaning.UNIT_INPUTS] = int(Input.UNKNOWN)
        flags = self._flags
        return Units(
            current_a, charge_as, age_s[self.CURRENT], self.sync[self.CURRENT],
            volts[:, meaning.BUS_V], volts[:, meaning.STRING_V], volts[:, meaning.COIL_V], age_s[self.VOLTAGES],
            raw[:, meaning.MINUS], raw[:, meaning.PLUS], raw[:, meaning.PRECHARGE],
            flags[:, 0], flags[:, 1], flags[:, 2], flags[:, 3], raw[:, meaning.UNIT_INPUTS], flags[:, 4],
            self.trip_code, raw[:, meaning.OPEN_REASON], age_s[self.STATE], self.sync[self.STATE],
            identified, crc_errors,
        )  # fmt: skip
