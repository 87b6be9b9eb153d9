"""Builders of a rack for tests: a plant, and snapshots that are healthy until told otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from bmsd.core import memory
from bmsd.core.estimation import estimators, soc
from bmsd.core.estimation.estimators import EstimationMemory
from bmsd.core.estimation.leaks import Leaks
from bmsd.core.protection.protect import Protections
from bmsd.core.tick import Outcome, tick
from bmsd.model.catalogue import CATALOGUE
from bmsd.model.cell import CellSpec
from bmsd.model.host import ClockQuality
from bmsd.model.layout import Layout
from bmsd.model.plant import (
    BalanceSettings,
    ChargeSettings,
    Curve,
    EstimationSettings,
    InverterSettings,
    LimitSettings,
    Plant,
    StringRatings,
    Timing,
)
from bmsd.model.request import Request, Reset, Role
from bmsd.model.row import Row
from bmsd.model.snapshot import (
    CHEMISTRIES,
    INPUTS,
    MODULE_BOARD,
    Buses,
    Feedback,
    Host,
    Modules,
    Reading,
    Snapshot,
    Units,
)

OCV_SOC = np.array([0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0])
OCV_V = np.array([2.6, 3.05, 3.183, 3.245, 3.280, 3.302, 3.308, 3.317, 3.330, 3.345, 3.352, 3.367, 3.55])

THRESHOLDS = {
    "cell_over_voltage_warning_v": 3.55, "cell_over_voltage_warning_clear_v": 3.50,
    "cell_over_voltage_alarm_v": 3.60, "cell_over_voltage_alarm_clear_v": 3.45,
    "cell_over_voltage_trip_v": 3.65, "cell_over_voltage_trip_clear_v": 3.40,
    "cell_over_voltage_critical_v": 3.75, "cell_over_voltage_critical_clear_v": 3.40,
    "cell_under_voltage_warning_v": 3.00, "cell_under_voltage_warning_clear_v": 3.10,
    "cell_under_voltage_alarm_v": 2.90, "cell_under_voltage_alarm_clear_v": 3.10,
    "cell_under_voltage_trip_v": 2.80, "cell_under_voltage_trip_clear_v": 3.00,
    "cell_deep_discharge_v": 2.50, "cell_deep_discharge_clear_v": 2.80,
    "charge_temperature_high_warning_degc": 45.0, "charge_temperature_high_warning_clear_degc": 42.0,
    "charge_temperature_high_alarm_degc": 50.0, "charge_temperature_high_alarm_clear_degc": 45.0,
    "charge_temperature_high_trip_degc": 55.0, "charge_temperature_high_trip_clear_degc": 40.0,
    "temperature_high_warning_degc": 50.0, "temperature_high_warning_clear_degc": 47.0,
    "temperature_high_alarm_degc": 55.0, "temperature_high_alarm_clear_degc": 50.0,
    "temperature_high_trip_degc": 60.0, "temperature_high_trip_clear_degc": 40.0,
    "charge_temperature_low_warning_degc": 5.0, "charge_temperature_low_warning_clear_degc": 7.0,
    "charge_temperature_low_alarm_degc": 1.0, "charge_temperature_low_alarm_clear_degc": 2.0,
    "charge_temperature_low_trip_degc": 0.0, "charge_temperature_low_trip_clear_degc": 2.0,
    "temperature_low_warning_degc": -10.0, "temperature_low_warning_clear_degc": -8.0,
    "temperature_low_alarm_degc": -20.0, "temperature_low_alarm_clear_degc": -18.0,
    "over_current_warning_share": 0.05, "over_current_alarm_share": 0.10, "over_current_trip_factor": 1.25,
    "over_current_floor_c": 0.02, "loop_late_periods": 3.0, "send_stalled_s": 0.3,
    "cell_plausible_min_v": 0.5, "cell_plausible_max_v": 5.0, "hold_s": 0.6,
    "cell_sum_tolerance_v": 0.015, "cell_sum_tolerance_share": 0.01, "temperature_coverage_min": 0.5,
    "state_of_health_min": 0.70,
    "self_discharge_ma": 5.0, "self_discharge_clear_ma": 3.0, "soft_short_ma": 50.0,
}  # fmt: skip


def plant(strings: int = 1, modules: int = 1, cells: int = 16, sensors: int = 4, **changes: Any) -> Plant:
    """A LFP rack of 280 Ah cells with the usual defaults; `changes` replace fields of the Plant."""
    built = Plant(
        name="test rack",
        layout=Layout(strings, modules, cells, sensors),
        cell=CellSpec(
            chemistry="lfp", capacity_ah=280.0, max_v=3.65, min_v=2.50, charge_max_a=140.0, discharge_max_a=200.0,
            charge_min_degc=0.0, charge_max_degc=55.0, discharge_min_degc=-20.0, discharge_max_degc=60.0,
            resistance_ohm=0.0003, ocv_soc=OCV_SOC, ocv_v=OCV_V, ocv_half_gap_v=0.017,
        ),
        ratings=StringRatings(250.0, 250.0, 300.0, 50.0, 0.048),
        timing=Timing(tick_s=0.1, poll_s=0.2, current_phases=4),
        limits=LimitSettings(
            charge_by_cell_v=Curve((3.40, 3.45, 3.50, 3.55), (1.0, 0.25, 0.05, 0.0)),
            discharge_by_cell_v=Curve((2.90, 3.00, 3.10, 3.20), (0.0, 0.1, 0.5, 1.0)),
            charge_by_temperature=Curve((1.0, 5.0, 10.0, 40.0, 50.0), (0.0, 0.3, 1.0, 1.0, 0.0)),
            discharge_by_temperature=Curve((-20.0, -10.0, 0.0, 45.0, 55.0), (0.0, 0.3, 1.0, 1.0, 0.0)),
            rise_a_per_s_per_100a=2.0, hold_after_zero_s=2.0, leave_zero_share=0.015,
            max_charge_soc=1.0, min_discharge_soc=0.0,
        ),
        charge=ChargeSettings(3.45, 3.375, 2.80, 0.001, 0.10, 0.15),
        balance=BalanceSettings(True, 3.40, 0.010, 1.0, 5.0),
        estimation=EstimationSettings(0.005, 0.999, 0.005, 0.0005),
        inverter=InverterSettings("pylontech_lv", {}, 1.0, 10.0, False, 60.0),
        thresholds=THRESHOLDS,
    )  # fmt: skip
    return replace(built, **changes)


def snapshot(rack: Plant, now_s: float, *, requests: tuple[Request, ...] = (), **values: Any) -> Snapshot:
    """A healthy snapshot at this time, measured 0.1 s ago, contactors open, 3.30 V, 25 degC, no current.

    Modules, strings and closed strings' bus have the voltage of their cells (of 3.30 V where there is none).
    `values` replace fields of Modules, Units, Buses or Host by name; scalars are spread over the rack. What
    modules and units both have means the modules' one; with `unit_` before it the units'.
    """
    layout = rack.layout
    sync = int(now_s / rack.timing.poll_s + 1e-9)
    state = {
        Modules: _modules(layout, sync),
        Units: _units(layout, sync, int(now_s / rack.timing.poll_s * rack.timing.current_phases + 1e-9)),
        Buses: Buses.well("field", "inverter"),
        Host: Host(rack.timing.tick_s, 0),
    }
    inverter_age_s = values.pop("inverter_age_s", 0.5)
    utc_quality = values.pop("utc_quality", ClockQuality.UNKNOWN)
    values = _measured_volts(rack, values) | values
    for given, value in values.items():
        name = given.removeprefix("unit_")
        for kind, part in state.items():
            if hasattr(part, name) and (name == given or kind is Units):
                was = getattr(part, name)
                new = value if np.isscalar(was) or not np.isscalar(value) else np.full_like(was, value)
                state[kind] = replace(part, **{name: new})  # type: ignore[type-var]
                break
        else:
            raise TypeError(f"no field {name} in a snapshot")
    return Snapshot(
        now_s, state[Modules], state[Units], state[Buses], state[Host], inverter_age_s, requests,  # type: ignore[arg-type]
        utc_quality=utc_quality,
    )  # fmt: skip


def _measured_volts(rack: Plant, values: dict[str, Any]) -> dict[str, Any]:
    """What boards and units measure at these cells."""
    cell_v = np.broadcast_to(values.get("cell_v", 3.30), rack.layout.cell_shape)
    module_v = np.where((cell_v >= 0.5) & (cell_v <= 4.5), cell_v, 3.30).sum(axis=2)
    string_v = module_v.sum(axis=1)
    closed = np.broadcast_to(values.get("plus_output", False), string_v.shape)
    live_v = string_v[closed].max(initial=0.0)
    return {"module_v": module_v, "string_v": string_v, "bus_v": np.where(closed, string_v, live_v)}


def _modules(layout: Layout, sync: int) -> Modules:
    shape, cells, sensors = layout.module_shape, layout.cell_shape, layout.sensor_shape
    zero = np.zeros(shape, dtype=np.int64)
    return Modules(
        cell_v=np.full(cells, 3.30), cell_reading=np.zeros(cells, dtype=np.int64),
        cell_age_s=np.full(shape, 0.1), cell_sync=np.full(shape, sync),
        temperature_degc=np.full(sensors, 25.0), temperature_reading=np.zeros(sensors, dtype=np.int64),
        temperature_age_s=np.full(shape, 0.1), temperature_sync=np.full(shape, sync),
        module_v=np.full(shape, 3.30 * layout.cells), balancing=np.zeros(cells, dtype=bool),
        state_age_s=np.full(shape, 0.1), board_degc=np.full(shape, 30.0), self_test=zero,
        trip_active=np.zeros(shape, dtype=bool), trip_code=zero, heartbeat_lost=np.zeros(shape, dtype=bool),
        identified=np.ones(shape, dtype=bool), cell_count=np.full(shape, layout.cells),
        uid=1001 + np.arange(zero.size).reshape(shape), board_type=zero + MODULE_BOARD,
        chemistry=zero + CHEMISTRIES.index("lfp"),
        frames=zero + 100, crc_errors=zero, counter_errors=zero, duplicates=zero,
    )  # fmt: skip


def _units(layout: Layout, sync: int, current_sync: int) -> Units:
    count = layout.strings
    off, zero = np.zeros(count, dtype=bool), np.zeros(count, dtype=np.int64)
    volts = np.full(count, 3.30 * layout.cells_in_series)
    return Units(
        current_a=np.zeros(count), charge_as=np.zeros(count), current_age_s=np.full(count, 0.05),
        current_sync=np.full(count, current_sync), bus_v=np.zeros(count), string_v=volts, coil_v=np.full(count, 24.0),
        voltage_age_s=np.full(count, 0.1), minus=zero, plus=zero, precharge=zero, minus_output=off, plus_output=off,
        precharge_output=off, enable_output=off, inputs=np.zeros((count, len(INPUTS)), dtype=np.int64),
        heartbeat_lost=off, trip_code=zero, open_reason=zero, state_age_s=np.full(count, 0.1),
        state_sync=np.full(count, sync), identified=np.ones(count, dtype=bool), crc_errors=zero,
        self_test=zero,
    )  # fmt: skip


def closed(rack: Plant) -> dict[str, Any]:  # noqa: ARG001
    """Values of a snapshot whose strings are closed and at their bus."""
    return {
        "minus": int(Feedback.CLOSED), "plus": int(Feedback.CLOSED), "minus_output": True, "plus_output": True,
        "enable_output": True,
    }  # fmt: skip


def apart(rack: Plant, string: int) -> dict[str, Any]:
    """Values of a snapshot whose strings are closed but for this one, the bus at its voltage."""
    shut = np.arange(rack.layout.strings) != string
    return {name: value & shut for name, value in closed(rack).items()}


MISSING = int(Reading.MISSING)


class Drive:
    """The core in a loop with a hand-moved clock: each `tick` gets a snapshot that is healthy but for `values`.

    Its boards are those of `snapshot`, unless they are `strange`: then service accepts them once all have said who they
    are.
    """

    def __init__(
        self, rack: Plant, *, now_s: float = 100.0, table: Sequence[Row] = CATALOGUE, strange: bool = False
    ) -> None:
        self.plant = rack
        self.protections = Protections.of(rack, 2, table)
        self.strange = strange
        boards = None if strange else _modules(rack.layout, 0).uid
        self.memory = replace(memory.start(rack, self.protections), commissioned=boards)
        self.now_s = now_s

    def fork(self) -> Drive:
        """Another drive at the same point: memory is frozen, so both may go on."""
        other = Drive(self.plant, now_s=self.now_s)
        other.protections, other.memory = self.protections, self.memory
        return other

    def tick(self, dt_s: float = 0.1, *, requests: tuple[Request, ...] = (), **values: Any) -> Outcome:
        """Move the clock, then one tick.

        Among the values may be what is remembered: `starts` of earlier processes; `capacity` of the cells, over the
        nominal one; `leak_ma` of the cells, each known to 0.1 mA.
        """
        if "starts" in values:
            self.memory = replace(self.memory, starts=values.pop("starts"))
        if "capacity" in values:
            known = self.memory.estimation
            sizes = replace(known.capacity, product=values.pop("capacity") * known.capacity.weight)
            self.memory = replace(self.memory, estimation=replace(known, capacity=sizes))
        if "leak_ma" in values:
            self._leak(np.broadcast_to(values.pop("leak_ma"), self.plant.layout.cell_shape))
        self.now_s = round(self.now_s + dt_s, 6)
        return self.take(snapshot(self.plant, self.now_s, requests=requests, **values))

    def _leak(self, leak_ma: Any) -> None:
        known, sigma_ma = self.memory.estimation, np.full(leak_ma.shape, 0.1)
        ledger = replace(known.ledger, leaks=Leaks(leak_ma, sigma_ma, leak_ma, sigma_ma))
        self.memory = replace(self.memory, estimation=replace(known, ledger=ledger))

    def take(self, snap: Snapshot) -> Outcome:
        """One tick with this very snapshot."""
        if self.strange and self.memory.commissioned is None and (snap.modules.uid > 0).all():
            snap = replace(snap, requests=(*snap.requests, Reset("MOD-008", Role.SERVICE, "commissioned")))
        outcome = tick(self.plant, self.protections, self.memory, snap)
        self.memory = outcome.memory
        return outcome

    def run(self, seconds: float, dt_s: float = 0.1, **values: Any) -> list[Outcome]:
        """Ticks for this time, all with the same values."""
        return [self.tick(dt_s, **values) for _ in range(round(seconds / dt_s))]


def knowing(rack: Plant, value: Any, sigma: Any = 1e-4) -> EstimationMemory:
    """The estimators after a restart with this SoC (of all cells, or an array; NaN: unknown) and sigma."""
    shape = rack.layout.cell_shape
    return estimators.of(rack, soc.stored(rack, np.broadcast_to(value, shape), np.broadcast_to(sigma, shape)))


def running(rack: Plant, **values: Any) -> Drive:
    """A drive whose strings are closed and whose limits have risen all the way."""
    drive = Drive(rack)
    drive.run(80.0, 1.0, **{**closed(rack), **values})
    return drive


def obeying(drive: Drive, seconds: float, was: Outcome | None = None, **values: Any) -> list[Outcome]:
    """Run for so long with strings, closed at first, that open when they are told to and stay as they `was`."""
    outcomes = [] if was is None else [was]
    for _ in range(round(seconds / 0.1)):
        told = states(outcomes[-1]) if outcomes else ["closed"] * drive.plant.layout.strings
        shut = np.array([state in ("closed", "opening") for state in told])
        outcomes.append(drive.tick(**{name: value & shut for name, value in closed(drive.plant).items()} | values))
    return outcomes


def codes(outcome: Outcome) -> set[str]:
    """Codes of the faults that are raised."""
    return {fault.code for fault in outcome.faults}


def states(outcome: Outcome) -> list[str]:
    """State of every string."""
    return [string.state.value for string in outcome.contactors]
