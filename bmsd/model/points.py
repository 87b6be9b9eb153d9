"""Every published value: one row each. An address, once given, never moves.

All registers lie in one map without holes between its blocks: status 0, rack 98, controls 200, faults 300, strings
1000, modules with their cells 1800, end 5000; what months tell of the rack is in the status block, from 40 on.
docs/modbus-map.csv is the committed proof.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from functools import cache

import numpy as np

from bmsd.model import point_readers as readers
from bmsd.model.catalogue import CATALOGUE
from bmsd.model.host import ClockQuality
from bmsd.model.layout import MAX_CELLS, MAX_MODULES, MAX_SENSORS, MAX_STRINGS
from bmsd.model.point import Block, Column, Point, Read, Type, Value
from bmsd.model.point_readers import Array
from bmsd.model.published import Published
from bmsd.model.row import Level, Row
from bmsd.model.snapshot import BUSES, INPUTS, OPEN_REASONS, TRIP_CODES, Controller, Floats

MAP_REGISTERS = 5000
MAP_VERSION = 1
"""Stays while no address moves, which is for ever; rows that are added change the hash."""
TEST_UINT32, TEST_FLOAT32 = 0x12345678, 123456.0
STALE_QUALITY = 3

QUALITIES = tuple(quality.value for quality in ClockQuality)
LIFECYCLES = (
    "initialising", "standby", "precharge", "idle", "charging", "discharging", "derated", "fault", "stopping",
)  # fmt: skip
"""The position is the number in the register: new ones go to the end."""
STRING_STATES = (
    "unknown", "open", "waiting", "closing_minus", "precharge", "closing_plus", "closed", "opening", "locked",
)  # fmt: skip
"""The position is the number in the register: new ones go to the end."""
FAULT_CLASSES = (
    "CEL", "TMP", "CUR", "PCK", "MOD", "CAN", "CON", "ISO", "AUX", "INV", "EMS", "SYS", "CFG", "SEC", "UPD",
)  # fmt: skip
"""The position gives the addresses of the class: new ones go to the end."""
FIRST_FAULT, FAULTS_OF_A_CLASS = 340, 40


def _known(values: Array, pick: Callable[[Array], float]) -> float | None:
    known = values[np.isfinite(values)]
    return float(pick(known)) if known.size else None


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _power_w(p: Published) -> float | None:
    volts, amps = p.command.voltage_v, p.command.current_a
    return None if volts is None or amps is None else volts * amps


def _number(name: str, names: tuple[str, ...]) -> int | None:
    return names.index(name) if name in names else None


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"{number} {name.replace('_', ' ')}" for number, name in enumerate(names)) + "."


def _float(address: int, name: str, unit: str, meaning: str, read: Read | None) -> Point:
    return Point(name, unit, address, Type.FLOAT32, meaning, read)


def _count(address: int, name: str, meaning: str, read: Read | None) -> Point:
    return Point(name, "1", address, Type.UINT16, meaning, read)


def _long(address: int, name: str, unit: str, meaning: str, read: Read | None) -> Point:
    return Point(name, unit, address, Type.UINT32, meaning, read)


_SEQUENCE = "As `sequence`: equal at both ends of a block that is of one record."


def _sequence(address: int, name: str) -> Point:
    return _long(address, name, "1", _SEQUENCE, lambda p: p.sequence)


def _bus_points(first: int, name: str, place: int) -> tuple[Point, ...]:
    """What the controller and the kernel say of one CAN bus."""

    def read(field: str, *, told_only: bool = False) -> Read:
        def value(p: Published) -> int | None:
            number = int(getattr(p.snapshot.buses, field)[place])
            return None if told_only and number < 0 else number

        return value

    bus = {"field": "Field bus: {}", "inverter": "Inverter's bus: {}"}[name]
    states = _listed(state.name.lower() for state in Controller)
    return (
        _count(first, f"{name}_bus_controller", bus.format(f"what its controller says: {states}"), read("controller")),
        _count(
            first + 1, f"{name}_bus_transmit_errors", bus.format("transmit error counter of the controller, if told."),
            read("transmit_errors", told_only=True),
        ),
        _count(
            first + 2, f"{name}_bus_receive_errors", bus.format("receive error counter of the controller, if told."),
            read("receive_errors", told_only=True),
        ),
        _count(first + 3, f"{name}_bus_offs", bus.format("times that the controller left it."), read("bus_offs")),
        _long(first + 4, f"{name}_bus_errors", "1", bus.format("errors, as far as reported."), read("bus_errors")),
        _long(first + 6, f"{name}_bus_lost_frames", "1", bus.format("frames lost, no room."), read("lost_frames")),
    )  # fmt: skip


def _place_points(first: int, name: str, kind: str, values: Callable[[Published], Floats]) -> tuple[Point, ...]:
    """String, module and cell or sensor, from 1, of the largest known value; not known while there is none."""

    def read(axis: int) -> Read:
        def place(p: Published) -> int | None:
            found = values(p)
            if not np.isfinite(found).any():
                return None
            return int(np.unravel_index(int(np.nanargmax(found)), found.shape)[axis]) + 1

        return place

    return tuple(
        _count(first + axis, f"{name}_{part}", f"Its {part}.", read(axis))
        for axis, part in enumerate(("string", "module", kind))
    )


# fmt: off
POINTS: tuple[Point, ...] = (
    _float(100, "voltage_v", "V", "Rack voltage on the inverter's side.", lambda p: p.command.voltage_v),
    _float(102, "current_a", "A", "Rack current, positive charges.", lambda p: p.command.current_a),
    _float(
        104, "soc", "1", "State of charge: mean of the closed strings, each by its weakest cell.",
        lambda p: p.estimate.soc,
    ),
    _float(106, "soc_sigma", "1", "Standard deviation of the least certain cell.", lambda p: p.estimate.soc_sigma),
    _float(108, "soh", "1", "State of health.", lambda p: p.estimate.soh),
    _float(110, "charge_limit_a", "A", "Charge current limit sent to the inverter.", lambda p: p.command.ccl_a),
    _float(112, "discharge_limit_a", "A", "Discharge current limit sent to the inverter.", lambda p: p.command.dcl_a),
    _float(114, "charge_voltage_limit_v", "V", "Charge voltage limit sent.", lambda p: p.command.cvl_v),
    _float(116, "discharge_voltage_limit_v", "V", "Discharge voltage limit sent.", lambda p: p.command.dvl_v),
    _float(
        118, "cell_max_v", "V", "Highest known cell voltage.", lambda p: _known(p.snapshot.modules.cell_v, np.max)
    ),
    _float(120, "cell_min_v", "V", "Lowest known cell voltage.", lambda p: _known(p.snapshot.modules.cell_v, np.min)),
    _float(
        122, "temperature_max_degc", "degC", "Highest known cell temperature.",
        lambda p: _known(p.snapshot.modules.temperature_degc, np.max),
    ),
    _float(
        124, "temperature_min_degc", "degC", "Lowest known cell temperature.",
        lambda p: _known(p.snapshot.modules.temperature_degc, np.min),
    ),
    _float(
        126, "oldest_measurement_s", "s", "Age of the oldest module measurement; not known while one never answered.",
        lambda p: _finite(float(p.snapshot.modules.cell_age_s.max())),
    ),
    _count(
        128, "cells_unknown", "Cells whose voltage is not known.",
        lambda p: int(np.isnan(p.snapshot.modules.cell_v).sum()),
    ),
    _count(129, "modules_online", "Modules with a fresh measurement.", lambda p: p.command.modules_online),
    _count(130, "strings_connected", "Closed strings.", lambda p: sum(s.state == "closed" for s in p.strings)),
    _count(131, "faults", "Faults of any level.", lambda p: len(p.faults)),
    _count(
        132, "fault_level", "Highest level: 0 none or info, 1 warning, 2 alarm, 3 trip.",
        lambda p: max((int(f.level) for f in p.faults), default=int(Level.INFO)),
    ),
    _count(133, "charge_enabled", "1: the inverter may charge.", lambda p: int(p.command.charge_enabled)),
    _count(134, "discharge_enabled", "1: the inverter may discharge.", lambda p: int(p.command.discharge_enabled)),
    _count(135, "cells_balancing", "Cells told to bleed.", lambda p: int(p.command.balance.sum())),
    _float(136, "power_w", "W", "Rack power, positive charges.", _power_w),
    _float(
        138, "inverter_age_s", "s", "Time since the inverter was heard; not known while it never was.",
        lambda p: _finite(p.snapshot.inverter_age_s),
    ),
    _count(
        140, "temperatures_unknown", "Sensors whose temperature is not known.",
        lambda p: int(np.isnan(p.snapshot.modules.temperature_degc).sum()),
    ),
    _count(141, "force_charge", "1: the inverter is asked to charge.", lambda p: int(p.command.force_charge)),
    _count(
        142, "full_charge_requested", "1: the inverter is asked for a full charge.",
        lambda p: int(p.command.full_charge_requested),
    ),
    _float(
        144, "soh_sigma", "1", "Standard deviation of the state of health.", lambda p: p.estimate.soh_sigma
    ),
    _float(
        146, "time_to_empty_s", "s", "Until a cell is empty at the current of the last minutes; not known at rest.",
        lambda p: p.estimate.time_to_empty_s,
    ),
    _float(
        148, "time_to_full_s", "s", "Until a cell is full at the current of the last minutes; not known at rest.",
        lambda p: p.estimate.time_to_full_s,
    ),
    _float(
        156, "balance_time_s", "s", "Until no cell is left to bleed, at the pace of the last 24 h; 0: none is.",
        lambda p: readers.all_known(p.estimate.balancing.time_s, np.max),
    ),
    _float(
        158, "balance_time_sigma_s", "s", "Standard deviation of it.",
        lambda p: readers.all_known(p.estimate.balancing.time_sigma_s, np.max),
    ),
    _float(160, "bled_wh", "Wh", "Energy that bleeders have wasted so far.",
           lambda p: float(p.estimate.balancing.bled_wh.sum())),
    _float(
        162, "balance_load", "1", "Share of the balancing current that the drift of cells asks for; over 1: too weak.",
        lambda p: _known(p.estimate.balancing.load, np.max),
    ),
    _float(164, "leak_max_ma", "mA", "What the leakiest cell drains itself by, above the median of its string.",
           lambda p: _known(p.estimate.balancing.leak_ma, np.max)),
    _float(166, "soft_short_ohm", "ohm", "Resistance of the short that drains as much; not known while it may be none.",
           readers.soft_short_ohm),
    _float(168, "balance_todo_max_ah", "Ah", "What the fullest cell has too much of.",
           lambda p: _known(p.estimate.balancing.todo_ah, np.max)),
    _float(
        150, "unexplained_heating_k_per_min", "K/min", "Fastest rise of a sensor that nothing explains.",
        lambda p: _known(p.estimate.sensor_heating_k_per_min, np.max),
    ),
    _float(
        152, "unexplained_heat_k", "K", "Largest temperature that nothing explains.",
        lambda p: _known(p.estimate.sensor_residual_k, np.max),
    ),
    *_place_points(188, "unexplained_heat", "sensor", lambda p: p.estimate.sensor_residual_k),
    _float(
        154, "unexplained_sag_v", "V", "Largest fall of a cell that nothing explains.",
        lambda p: _known(p.estimate.cell_sag_v, np.max),
    ),
    *_place_points(191, "unexplained_sag", "cell", lambda p: p.estimate.cell_sag_v),
    *(point for place, name in enumerate(BUSES) for point in _bus_points(170 + 10 * place, name, place)),
    _float(
        40, "life_left_d", "d",
        "Remaining life of the weakest cell, median, 40 years at most. Not known before its capacity was followed for "
        "91 days.",
        lambda p: p.estimate.life_days,
    ),
    _float(
        42, "life_left_low_d", "d", "As life_left_d: 9 of 10 such cells last longer.",
        lambda p: p.estimate.life_low_days,
    ),
    _float(
        44, "life_left_high_d", "d", "As life_left_d: 1 of 10 such cells lasts longer.",
        lambda p: p.estimate.life_high_days,
    ),
    _long(
        46, "life_end_utc_s", "s", "When life_left_d is over by the clock of now, seconds since 1970 UTC.",
        lambda p: p.estimate.life_end_utc_s,
    ),
    _float(
        48, "capacity_followed_d", "d", "Time over which the capacity of every cell was followed.",
        lambda p: p.estimate.life_followed_days,
    ),
    _float(
        50, "age_d", "d", "Time since bmsd first saw the rack, as far as it is known to have passed.",
        lambda p: p.estimate.age_days,
    ),
    _float(
        52, "equivalent_cycles", "1", "Equivalent full cycles of the string that had most.",
        lambda p: float(p.estimate.string_cycles.max()),
    ),
    _float(
        54, "resistance_trend_max", "1/a", "Change of the resistance per year of the cell where it rises most.",
        lambda p: readers.steepest(p)[0],
    ),
    _float(56, "resistance_trend_sigma", "1/a", "Its standard deviation.", lambda p: readers.steepest(p)[1]),
)
"""The rack as a whole: what status, telemetry and REST show by name."""

STATUS: tuple[Point, ...] = (
    _long(0, "sequence", "1", "Counts control's records since its start: its heartbeat.", lambda p: p.sequence),
    _count(2, "map_version", "Version of this map.", None),
    _count(
        3, "quality", "0 all measurements known, 1 some unknown, 2 none known, 3 control silent for 2 s: nothing is.",
        readers.rack_quality,
    ),
    _long(4, "map_hash", "1", "CRC-32 of names, units, addresses and types: another map, another hash.", None),
    _long(6, "test_uint32", "1", "Always 0x12345678: for the word order.", None),
    _float(8, "test_float32", "1", "Always 123456.0: for the word order.", None),
    _float(10, "record_age_s", "s", "Age of the record that all of this is from.", None),
    _count(12, "lifecycle", _listed(LIFECYCLES), lambda p: _number(p.lifecycle, LIFECYCLES)),
    _long(14, "utc_s", "s", "Time of the record, seconds since 1970 UTC.", lambda p: p.snapshot.utc_s),
    _count(16, "strings", "Strings of this rack.", lambda p: len(p.strings)),
    _count(17, "modules_per_string", "Modules in each.", lambda p: p.snapshot.modules.cell_v.shape[1]),
    _count(18, "cells_per_module", "Cells in each.", lambda p: p.snapshot.modules.cell_v.shape[2]),
    _count(19, "sensors_per_module", "Sensors in each.", lambda p: p.snapshot.modules.temperature_degc.shape[2]),
    _count(
        20, "utc_quality", f"Whether utc_s may be believed: {_listed(QUALITIES)}",
        lambda p: _number(p.snapshot.utc_quality, QUALITIES),
    ),
    _sequence(96, "status_sequence_end"),
    _sequence(98, "rack_sequence"),
    _sequence(198, "rack_sequence_end"),
    _sequence(300, "faults_sequence"),
    _sequence(998, "faults_sequence_end"),
)
"""The map, the record, and the counters at both ends of blocks."""

CONTROLS: tuple[Point, ...] = (
    Point(
        "alarm_reset", "1", 200, Type.UINT16, "Write 1: acknowledge all latched faults whose cause is gone.",
        writable=True, low=1, high=1,
    ),
    Point(
        "controller_heartbeat", "1", 201, Type.UINT16, "Write another number each time: set-points stay alive.",
        writable=True, high=0xFFFF,
    ),
    Point("reserve_soc", "0.1 %", 202, Type.UINT16, "No discharge below it. Leased.", writable=True, high=1000),
    Point(
        "power_setpoint", "W", 204, Type.INT32,
        "Charge with at most this and do not discharge; negative: the other way round. Leased.",
        writable=True, low=-10_000_000, high=10_000_000,
    ),
)
"""What may be written, if the configuration lets it."""


def _fault(row: Row) -> Point:
    """The address is that of the class and of the number in the code: a new row never moves another."""
    kind, number = row.code.split("-")
    place = int(number)
    assert 0 < place < FAULTS_OF_A_CLASS, row.code
    what = f"{row.name.replace('_', ' ')} ({row.level.name.lower()}, per {row.scope.value})"
    return _count(
        FIRST_FAULT + FAULTS_OF_A_CLASS * FAULT_CLASSES.index(kind) + place, f"fault_{kind.lower()}_{number}",
        f"{what}: how many have it, 0: none.",
        lambda p, code=row.code: next((f.count for f in p.faults if f.code == code), 0),  # type: ignore[misc]
    )


FAULTS: tuple[Point, ...] = tuple(_fault(row) for row in CATALOGUE)

_U16, _I16, _U32, _F32 = Type.UINT16, Type.INT16, Type.UINT32, Type.FLOAT32
_LEVELS = "Highest level of the faults whose worst subject is here: 0 none or info, 1 warning, 2 alarm, 3 trip."
_QUALITY = "0 all measurements known, 1 some unknown, 2 none known."
_CONTACT = "Auxiliary contact: 0 open, 1 closed, 2 not fitted."

STRINGS = Block("string", 1000, 100, MAX_STRINGS, (
    Column("sequence", "1", 0, _U32, _SEQUENCE, lambda p: np.full(len(p.strings), p.sequence)),
    Column("state", "1", 2, _U16, _listed(STRING_STATES), lambda p: np.array(
        [_number(s.state, STRING_STATES) for s in p.strings], dtype=np.float64)),
    Column("quality", "1", 3, _U16, _QUALITY, readers.string_quality),
    Column("current_a", "A", 4, _F32, "Current, positive charges.", lambda p: p.snapshot.units.current_a),
    Column("voltage_v", "V", 6, _F32, "Voltage on the cells' side.", lambda p: p.snapshot.units.string_v),
    Column("bus_voltage_v", "V", 8, _F32, "Voltage on the inverter's side.", lambda p: p.snapshot.units.bus_v),
    Column("soc", "1", 10, _F32, "State of charge of the weakest cell.", lambda p: p.estimate.string_soc),
    Column("charge_bound_a", "A", 12, _F32, "Tightest bound of this string, as charge limit of the rack.",
           lambda p: readers.string_bound_a(p, p.charge_bounds)),
    Column("discharge_bound_a", "A", 14, _F32, "Tightest bound of this string, as discharge limit of the rack.",
           lambda p: readers.string_bound_a(p, p.discharge_bounds)),
    Column("cell_max_v", "V", 16, _F32, "Highest known cell voltage.", lambda p: readers.highest(readers.cells(p))),
    Column("cell_max_module", "1", 18, _U16, "Its module in the string.",
           lambda p: readers.module_and_cell(p, readers.where_highest(readers.cells(p)))[0]),
    Column("cell_max_cell", "1", 19, _U16, "Its cell in the module.",
           lambda p: readers.module_and_cell(p, readers.where_highest(readers.cells(p)))[1]),
    Column("cell_min_v", "V", 20, _F32, "Lowest known cell voltage.", lambda p: readers.lowest(readers.cells(p))),
    Column("cell_min_module", "1", 22, _U16, "Its module in the string.",
           lambda p: readers.module_and_cell(p, readers.where_highest(-readers.cells(p)))[0]),
    Column("cell_min_cell", "1", 23, _U16, "Its cell in the module.",
           lambda p: readers.module_and_cell(p, readers.where_highest(-readers.cells(p)))[1]),
    Column("temperature_max_degc", "degC", 24, _F32, "Highest known cell temperature.",
           lambda p: readers.highest(readers.sensors(p))),
    Column("temperature_min_degc", "degC", 26, _F32, "Lowest known cell temperature.",
           lambda p: readers.lowest(readers.sensors(p))),
    Column("current_age_s", "s", 28, _F32, "Age of the current.", lambda p: p.snapshot.units.current_age_s),
    Column("voltage_age_s", "s", 30, _F32, "Age of both voltages.", lambda p: p.snapshot.units.voltage_age_s),
    Column("contactors_age_s", "s", 32, _F32, "Age of contacts and inputs.", lambda p: p.snapshot.units.state_age_s),
    Column("oldest_measurement_s", "s", 34, _F32, "Age of its oldest module measurement.",
           lambda p: p.snapshot.modules.cell_age_s.max(axis=1)),
    Column("minus_contactor", "1", 36, _U16, _CONTACT, lambda p: readers.feedback(p.snapshot.units.minus)),
    Column("precharge_contactor", "1", 37, _U16, _CONTACT, lambda p: readers.feedback(p.snapshot.units.precharge)),
    Column("plus_contactor", "1", 38, _U16, _CONTACT, lambda p: readers.feedback(p.snapshot.units.plus)),
    Column("fault_level", "1", 39, _U16, _LEVELS, lambda p: readers.fault_level(p, (len(p.strings),))),
    Column("faults", "1", 40, _U16, "Faults whose worst subject is here.",
           lambda p: readers.fault_count(p, (len(p.strings),))),
    Column("cells_unknown", "1", 41, _U16, "Cells whose voltage is not known.",
           lambda p: readers.unknown(readers.cells(p))),
    Column("since_s", "s", 42, _F32, "Time in this state.", lambda p: np.array([s.since_s for s in p.strings])),
    Column("cells_balancing", "1", 44, _U16, "Cells told to bleed.", lambda p: p.command.balance.sum(axis=(1, 2))),
    Column("open_reason", "1", 45, _U16, f"Why the unit opened last: {_listed(OPEN_REASONS)}",
           lambda p: readers.unit_said(p, p.snapshot.units.open_reason)),
    Column("trip_code", "1", 46, _U16, f"Trip of the unit: {_listed(TRIP_CODES)}",
           lambda p: readers.unit_said(p, p.snapshot.units.trip_code)),
    Column("heartbeat_lost", "1", 47, _U16, "1: the unit does not hear bmsd.",
           lambda p: readers.unit_said(p, p.snapshot.units.heartbeat_lost)),
    *(Column(name, "1", 60 + place, _U16, "Input: 0 ok, 1 active, 2 not fitted.",
             lambda p, place=place: readers.feedback(p.snapshot.units.inputs[:, place]))  # type: ignore[misc]
      for place, name in enumerate(INPUTS)),
    Column("soc_sigma", "1", 50, _F32, "Standard deviation of its least certain cell.",
           lambda p: p.estimate.string_soc_sigma),
    Column("left_ah", "Ah", 52, _F32, "Charge until its first cell is empty.", lambda p: p.estimate.string_left_ah),
    Column("room_ah", "Ah", 54, _F32, "Charge until its first cell is full.", lambda p: p.estimate.string_room_ah),
    Column("current_bias_a", "A", 56, _F32, "Offset of its current sensor: reading minus truth.",
           lambda p: p.estimate.current_bias_a),
    Column("current_bias_sigma_a", "A", 58, _F32, "Its standard deviation.",
           lambda p: p.estimate.current_bias_sigma_a),
    *(Column(f"{name}_{way}_a", "A", address + 8 * (way == "discharge"), _F32,
             f"Current that its weakest cell can carry for {told} ({way}).",
             lambda p, k=k, way=way: readers.power_a(p, way)[:, k])  # type: ignore[misc]
      for way in ("charge", "discharge")
      for k, (name, told, address) in enumerate((
          ("power_2s", "2 s", 66), ("power_10s", "10 s", 68), ("power_30s", "30 s", 70), ("power_1h", "an hour", 72)))),
    *(Column(f"power_10s_{way}_{part}", "1", address, _U16, f"The {part} that ends it ({way}, 10 s).",
             lambda p, way=way, place=place: readers.power_place(p, way)[place])  # type: ignore[misc]
      for way, first in (("charge", 82), ("discharge", 84))
      for place, (part, address) in enumerate((("module", first), ("cell", first + 1)))),
    Column("resistance_ratio_max", "1", 86, _F32, "Highest resistance of a cell over the median of the string.",
           lambda p: readers.highest(readers.resistance_ratio(p))),
    Column("resistance_ratio_max_module", "1", 88, _U16, "Its module in the string.",
           lambda p: readers.module_and_cell(p, readers.where_highest(readers.resistance_ratio(p)))[0]),
    Column("resistance_ratio_max_cell", "1", 89, _U16, "Its cell in the module.",
           lambda p: readers.module_and_cell(p, readers.where_highest(readers.resistance_ratio(p)))[1]),
    Column("capacity_min_ah", "Ah", 90, _F32, "Capacity of its smallest cell.",
           lambda p: readers.lowest(readers.of_string(p, p.estimate.cell_capacity_ah))),
    Column("capacity_sigma_ah", "Ah", 92, _F32, "Standard deviation of its least certain capacity.",
           lambda p: readers.highest(readers.of_string(p, p.estimate.cell_capacity_sigma_ah))),
    Column("balance_time_s", "s", 94, _F32, "Until no cell of it is left to bleed, at the pace of the last 24 h.",
           lambda p: p.estimate.balancing.time_s),
    Column("balance_todo_max_ah", "Ah", 96, _F32, "What its fullest cell has too much of.",
           lambda p: readers.highest(readers.of_string(p, p.estimate.balancing.todo_ah))),
    Column("coil_v", "V", 48, _F32, "Supply of the contactor coils.", lambda p: p.snapshot.units.coil_v),
    Column("sequence_end", "1", 98, _U32, _SEQUENCE, lambda p: np.full(len(p.strings), p.sequence)),
))

MODULES = Block("module", 1800, 100, MAX_MODULES, (
    Column("sequence", "1", 0, _U32, _SEQUENCE, lambda p: np.full(readers.module_shape(p), p.sequence)),
    Column("string", "1", 2, _U16, "Its string.", lambda p: np.indices(readers.module_shape(p))[0] + 1),
    Column("position", "1", 3, _U16, "Its place in the string.", lambda p: np.indices(readers.module_shape(p))[1] + 1),
    Column("quality", "1", 4, _U16, _QUALITY,
           lambda p: readers.quality(p.snapshot.modules.cell_v, p.snapshot.modules.temperature_degc)),
    Column("fault_level", "1", 5, _U16, _LEVELS, lambda p: readers.fault_level(p, readers.module_shape(p))),
    Column("faults", "1", 6, _U16, "Faults whose worst subject is here.",
           lambda p: readers.fault_count(p, readers.module_shape(p))),
    Column("cells_unknown", "1", 7, _U16, "Cells whose voltage is not known.",
           lambda p: readers.unknown(p.snapshot.modules.cell_v)),
    Column("voltage_v", "V", 8, _F32, "Voltage that the board measured.", lambda p: p.snapshot.modules.module_v),
    Column("cell_max_v", "V", 10, _F32, "Highest known cell voltage.",
           lambda p: readers.highest(p.snapshot.modules.cell_v)),
    Column("cell_min_v", "V", 12, _F32, "Lowest known cell voltage.",
           lambda p: readers.lowest(p.snapshot.modules.cell_v)),
    Column("cell_max_cell", "1", 14, _U16, "Number of the highest cell.",
           lambda p: readers.where_highest(p.snapshot.modules.cell_v)),
    Column("cell_min_cell", "1", 15, _U16, "Number of the lowest cell.",
           lambda p: readers.where_highest(-p.snapshot.modules.cell_v)),
    Column("temperature_max_degc", "degC", 16, _F32, "Highest known cell temperature.",
           lambda p: readers.highest(p.snapshot.modules.temperature_degc)),
    Column("temperature_min_degc", "degC", 18, _F32, "Lowest known cell temperature.",
           lambda p: readers.lowest(p.snapshot.modules.temperature_degc)),
    Column("age_s", "s", 20, _F32, "Age of the cell voltages.", lambda p: p.snapshot.modules.cell_age_s),
    Column("temperature_age_s", "s", 22, _F32, "Age of the temperatures.",
           lambda p: p.snapshot.modules.temperature_age_s),
    Column("board_degc", "degC", 24, _F32, "Temperature of the board.", lambda p: p.snapshot.modules.board_degc),
    Column("cells_balancing", "1", 26, _U16, "Cells told to bleed.", lambda p: p.command.balance.sum(axis=2)),
    Column("trip_code", "1", 27, _U16, f"Trip of the board: {_listed(TRIP_CODES)}",
           lambda p: readers.board_said(p, p.snapshot.modules.trip_code)),
    Column("balancing_told", "1", 28, _U32, "Cells told to bleed: bit 0 is cell 1.",
           lambda p: readers.bits(p.command.balance)),
    Column("balancing", "1", 30, _U32, "Cells that the board says bleed: bit 0 is cell 1.",
           lambda p: readers.board_said(p, readers.bits(p.snapshot.modules.balancing))),
    Column("cell_{}_mv", "mV", 32, _U16, "Voltage of cell {}.", lambda p: p.snapshot.modules.cell_v * 1e3, "cell"),
    Column("cell_{}_soc", "0.1 %", 56, _U16, "State of charge of cell {}.",
           lambda p: p.estimate.cell_soc * 1e3, "cell"),
    Column("sensor_{}_degc", "0.1 degC", 80, _I16, "Temperature of sensor {}.",
           lambda p: p.snapshot.modules.temperature_degc * 10.0, "sensor"),
    Column("heartbeat_lost", "1", 88, _U16, "1: the board does not hear bmsd.",
           lambda p: readers.board_said(p, p.snapshot.modules.heartbeat_lost)),
    Column("trip_active", "1", 89, _U16, "1: the board holds a trip of its own.",
           lambda p: readers.board_said(p, p.snapshot.modules.trip_active)),
    Column("balance_todo_max_ah", "Ah", 90, _F32, "What its fullest cell has too much of, in its string.",
           lambda p: readers.highest(p.estimate.balancing.todo_ah)),
    Column("leak_max_ma", "mA", 92, _F32, "What its leakiest cell drains itself by, above the median of the string.",
           lambda p: readers.highest(p.estimate.balancing.leak_ma)),
    Column("balance_todo_max_cell", "1", 94, _U16, "Number of its fullest cell.",
           lambda p: readers.where_highest(p.estimate.balancing.todo_ah)),
    Column("leak_max_cell", "1", 95, _U16, "Number of its leakiest cell.",
           lambda p: readers.where_highest(p.estimate.balancing.leak_ma)),
    Column("sequence_end", "1", 98, _U32, _SEQUENCE, lambda p: np.full(readers.module_shape(p), p.sequence)),
))
"""Modules in the order of strings and their places; each with its cells and sensors, so that one read has them all."""
# fmt: on

SINGLE = (*STATUS, *POINTS, *CONTROLS, *FAULTS)


def values(published: Published, points: Iterable[Point] = POINTS) -> dict[str, Value]:
    """Return the points of one record by name."""
    return {point.name: point.read(published) for point in points if point.read is not None}


def arrays(published: Published, block: Block) -> dict[str, Array]:
    """Return the columns of all places of a block by name, NaN where unknown; see `Column.read` for shapes."""
    return {column.name: column.read(published) for column in block.columns}


def listed(
    strings: int = MAX_STRINGS, modules: int = MAX_MODULES, cells: int = MAX_CELLS, sensors: int = MAX_SENSORS
) -> list[Point]:
    """Return every point of a rack of that size by address; `modules` are those of all its strings."""
    every = (*SINGLE, *STRINGS.points(strings), *MODULES.points(modules, cells, sensors))
    return sorted(every, key=lambda point: point.address)


@cache
def map_hash() -> int:
    """Return the CRC-32 of the whole map."""
    rows = "".join(f"{p.name},{p.unit},{p.address},{p.type}\n" for p in listed())
    return zlib.crc32(rows.encode())


def constants() -> dict[str, float]:
    """Return the points that are the same for every rack, by name."""
    return {
        "map_version": MAP_VERSION, "map_hash": map_hash(), "test_uint32": TEST_UINT32, "test_float32": TEST_FLOAT32,
    }  # fmt: skip
