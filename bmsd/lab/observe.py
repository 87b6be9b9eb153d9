"""What the core would be told of the twin: one snapshot a tick, measured when the field bus would have measured it.

Boards are measured once in every poll, temperatures in every fifth, units at every tick. Between two polls the last
values stay with their age, and those of a board that is silent grow old, as on a real bus. With a tick that is longer
than the poll, the poll of the tick is the only one that the core sees. The process itself is never late on simulated
time: its period is told as the configured one.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bmsd.core.tick import Outcome
from bmsd.model.plant import Plant
from bmsd.model.snapshot import (
    CHEMISTRIES,
    INPUTS,
    MODULE_BOARD,
    Buses,
    Feedback,
    Floats,
    Host,
    Input,
    Ints,
    Modules,
    Reading,
    Snapshot,
    Units,
)
from bmsd.sim.packing import CELL_OPEN_WIRE, SENSOR_OPEN, SENSOR_SHORT
from bmsd.sim.rack import MINUS, PLUS, PRECHARGE
from bmsd.sim.twin import Orders, Twin

AGE_S = 0.02
"""From the SYNC to the tick that uses its values."""
_CELL_CODES = {CELL_OPEN_WIRE: Reading.OPEN}
_SENSOR_CODES = {SENSOR_OPEN: Reading.OPEN, SENSOR_SHORT: Reading.SHORT}
_COIL_V = 24.0


def calm(plant: Plant, cell_v: Floats) -> Snapshot:
    """Return a snapshot in which nothing is wrong and no current flows; all else is to be replaced."""
    modules, units = _calm_modules(plant, cell_v), _calm_units(plant, cell_v.sum(axis=(1, 2)))
    return Snapshot(0.0, modules, units, Buses.well("field", "inverter"), Host(plant.timing.tick_s, 0), 0.0)


def _calm_modules(plant: Plant, cell_v: Floats) -> Modules:
    layout = plant.layout
    zero, off = np.zeros(layout.module_shape, dtype=np.int64), np.zeros(layout.module_shape, dtype=np.bool_)
    age_s = np.full(layout.module_shape, AGE_S)
    return Modules(
        cell_v=cell_v,
        cell_reading=np.zeros(layout.cell_shape, dtype=np.int64),
        cell_age_s=age_s,
        cell_sync=zero - 1,
        temperature_degc=np.full(layout.sensor_shape, 25.0),
        temperature_reading=np.zeros(layout.sensor_shape, dtype=np.int64),
        temperature_age_s=age_s,
        temperature_sync=zero - 1,
        module_v=cell_v.sum(axis=2),
        balancing=np.zeros(layout.cell_shape, dtype=np.bool_),
        state_age_s=age_s,
        board_degc=np.full(layout.module_shape, 25.0),
        self_test=zero,
        trip_active=off,
        trip_code=zero,
        heartbeat_lost=off,
        identified=~off,
        cell_count=zero + layout.cells,
        uid=1 + np.arange(zero.size).reshape(layout.module_shape),
        board_type=zero + MODULE_BOARD,
        chemistry=zero + CHEMISTRIES.index(plant.cell.chemistry),
        frames=zero,
        crc_errors=zero,
        counter_errors=zero,
        duplicates=zero,
    )


def _calm_units(plant: Plant, string_v: Floats) -> Units:
    strings = plant.layout.strings
    zero, off, age_s = np.zeros(strings, dtype=np.int64), np.zeros(strings, dtype=np.bool_), np.full(strings, AGE_S)
    return Units(
        current_a=np.zeros(strings),
        charge_as=np.zeros(strings),
        current_age_s=age_s,
        current_sync=zero - 1,
        bus_v=string_v,
        string_v=string_v,
        coil_v=np.full(strings, _COIL_V),
        voltage_age_s=age_s,
        minus=zero,
        plus=zero,
        precharge=zero,
        minus_output=off,
        plus_output=off,
        precharge_output=off,
        enable_output=off,
        inputs=np.full((strings, len(INPUTS)), int(Input.OK)),
        heartbeat_lost=off,
        trip_code=zero,
        open_reason=zero,
        state_age_s=age_s,
        state_sync=zero - 1,
        identified=~off,
        crc_errors=zero,
        self_test=zero,
    )


class Observer:
    """Watches one twin for one core."""

    def __init__(self, plant: Plant, twin: Twin) -> None:
        layout = plant.layout
        self._plant, self._twin = plant, twin
        self._measured = twin.measure()
        self._calm = calm(plant, self._measured.cell_v)
        self._poll = self._slow = -1
        self._sensor_degc, self._sensor_code = self._measured.sensor_degc, self._measured.sensor_code
        self._cell_s = np.full(layout.module_shape, -np.inf)
        self._degc_s = np.full(layout.module_shape, -np.inf)
        self._cell_sync = self._degc_sync = self._calm.modules.cell_sync
        self._frames = self._calm.modules.frames
        self._unit_s = np.full(layout.strings, -np.inf)
        self._unit_sync = self._calm.units.state_sync
        self._current_a, self._charge_as = twin.current_a, twin.charge_as
        self._bleeding = twin.bleeding
        self._board_degc = twin.balancers.board_degc

    @property
    def uid(self) -> Ints:
        """Unique numbers of the boards, shape (strings, modules)."""
        return self._calm.modules.uid

    def snapshot(self, now_s: float) -> Snapshot:
        """Return what is known at this time of the twin's clock."""
        poll = int(now_s / self._plant.timing.poll_s + 1e-6)
        if poll != self._poll:
            self._poll = poll
            self._measure(now_s, poll)
        twin, heard = self._twin, ~self._twin.silent_units
        self._current_a = np.where(heard, twin.current_a, self._current_a)
        self._charge_as = np.where(heard, twin.charge_as, self._charge_as)
        self._unit_s = np.where(heard, now_s - AGE_S, self._unit_s)
        self._unit_sync = np.where(heard, self._unit_sync + 1, self._unit_sync)
        return replace(self._calm, now_s=now_s, modules=self._modules(now_s), units=self._units(now_s))

    def _measure(self, now_s: float, poll: int) -> None:
        """One poll: what silent boards had said stays."""
        twin, silent = self._twin, self._twin.silent
        heard, was = twin.measure(), self._measured
        slow = poll // self._plant.timing.slow_groups
        if silent.any():
            lost = silent[:, :, None]
            heard.cell_v = np.where(lost, was.cell_v, heard.cell_v)
            heard.cell_code = np.where(lost, was.cell_code, heard.cell_code)
            heard.module_v = np.where(silent, was.module_v, heard.module_v)
        self._measured = heard
        self._bleeding, self._board_degc = twin.bleeding, twin.balancers.board_degc
        self._cell_s = np.where(silent, self._cell_s, now_s - AGE_S)
        self._cell_sync = np.where(silent, self._cell_sync, poll)
        self._frames = self._frames + ~silent
        if slow != self._slow:
            self._slow = slow
            lost = silent[:, :, None]
            self._sensor_degc = np.where(lost, self._sensor_degc, heard.sensor_degc)
            self._sensor_code = np.where(lost, self._sensor_code, heard.sensor_code)
            self._degc_s = np.where(silent, self._degc_s, now_s - AGE_S)
            self._degc_sync = np.where(silent, self._degc_sync, poll)

    def _modules(self, now_s: float) -> Modules:
        seen, own = self._measured, self._twin.own
        cell_age_s = now_s - self._cell_s
        return replace(
            self._calm.modules,
            cell_v=seen.cell_v,
            cell_reading=_readings(seen.cell_code, _CELL_CODES),
            cell_age_s=cell_age_s,
            cell_sync=self._cell_sync,
            temperature_degc=self._sensor_degc,
            temperature_reading=_readings(self._sensor_code, _SENSOR_CODES),
            temperature_age_s=now_s - self._degc_s,
            temperature_sync=self._degc_sync,
            module_v=seen.module_v,
            balancing=self._bleeding,
            state_age_s=cell_age_s,
            board_degc=self._board_degc,
            trip_active=own.module_code != 0,
            trip_code=own.module_code.copy(),
            frames=self._frames,
        )

    def _units(self, now_s: float) -> Units:
        twin, seen, plant = self._twin, self._measured, self._twin.mishap
        contacts, coil = twin.rack.contactors.closed, twin.outputs
        feedback = np.where(plant.feedback_lost, int(Feedback.UNKNOWN), contacts.astype(np.int64))
        inputs = self._calm.units.inputs.copy()
        inputs[plant.interlock, INPUTS.index("interlock")] = int(Input.ACTIVE)
        inputs[plant.emergency_stop, INPUTS.index("emergency_stop")] = int(Input.ACTIVE)
        age_s = now_s - self._unit_s
        return replace(
            self._calm.units,
            current_a=self._current_a,
            charge_as=self._charge_as,
            current_age_s=age_s,
            current_sync=self._unit_sync,
            bus_v=seen.bus_v,
            string_v=seen.string_v,
            coil_v=np.where(plant.coil_lost, 0.0, _COIL_V),
            voltage_age_s=age_s,
            minus=feedback[:, MINUS],
            plus=feedback[:, PLUS],
            precharge=feedback[:, PRECHARGE],
            minus_output=coil[:, MINUS].copy(),
            plus_output=coil[:, PLUS].copy(),
            precharge_output=coil[:, PRECHARGE].copy(),
            enable_output=twin.orders.enable,
            inputs=inputs,
            trip_code=twin.own.unit_code.copy(),
            open_reason=twin.own.open_reason.copy(),
            state_age_s=age_s,
            state_sync=self._unit_sync,
        )


def _readings(codes: Ints, meant: dict[int, Reading]) -> Ints:
    if not codes.any():
        return codes
    found = np.where(codes != 0, int(Reading.INVALID), int(Reading.OK))
    for code, reading in meant.items():
        found[codes == code] = int(reading)
    return found


def orders(outcome: Outcome, was: Orders) -> Orders:
    """Return what the rack is told by this outcome; units that are sent no command keep their last one."""
    command = outcome.command
    contacts = np.stack((command.close_minus, command.close_precharge, command.close_plus), axis=1)
    told = command.commanded[:, None]
    return Orders(
        contacts=np.where(told, contacts, was.contacts),
        enable=np.where(command.commanded, command.inverter_enable, was.enable),
        bleed=command.balance,
        cvl_v=command.cvl_v or 0.0,
        ccl_a=command.ccl_a,
        dcl_a=command.dcl_a,
        dvl_v=command.dvl_v or 0.0,
        force_charge=command.force_charge,
        reset_trips=bool(command.trip_resets),
    )


def all_closed(twin: Twin) -> Orders:
    """Return the orders of nobody: everything closed, no limits."""
    strings = twin.settings.layout.strings
    return Orders(
        contacts=np.ones((strings, 3), dtype=np.bool_),
        enable=np.ones(strings, dtype=np.bool_),
        bleed=np.zeros(twin.settings.layout.cell_shape, dtype=np.bool_),
        cvl_v=1e4,
        ccl_a=1e6,
        dcl_a=1e6,
    )
