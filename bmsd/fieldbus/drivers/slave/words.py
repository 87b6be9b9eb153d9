"""What the data words of the slave protocol mean: 64-bit words of many nodes to arrays of values."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bmsd.codec.dbc import Signals, choices
from bmsd.fieldbus.drivers.slave.slots import DATABASE, PER_FRAME, UNIT_MESSAGES, Slots
from bmsd.model.layout import Layout
from bmsd.model.snapshot import INPUTS, Bools, Floats, Ints, Reading

Words = NDArray[np.uint64]

_CELLS = Signals.of(DATABASE, ["CellVoltages1"])
_TEMPERATURES = Signals.of(DATABASE, ["Temperatures1"])
_STATE = Signals.of(DATABASE, ["ModuleState"])
_STATUS = Signals.of(DATABASE, ["NodeStatus"])
_UID = Signals.of(DATABASE, ["IdentityUid"])
_VERSION = Signals.of(DATABASE, ["IdentityVersion"])
_TRIP = Signals.of(DATABASE, ["Trip"])
_DISCOVERY = Signals.of(DATABASE, ["Discovery"])

_MEANINGS = {"open_wire": Reading.OPEN, "open": Reading.OPEN, "short": Reading.SHORT, "invalid": Reading.INVALID}


def _reading_table(signals: Signals, message: str, name: str) -> Ints:
    codes = {raw: int(_MEANINGS[meaning]) for meaning, raw in choices(DATABASE, message, name).items()}
    return signals.code_table(name, codes, outside=int(Reading.INVALID))


_CELL_V = _CELLS.value_table("Cell1Voltage")
_CELL_READING = _reading_table(_CELLS, "CellVoltages1", "Cell1Voltage")
_TEMPERATURE_DEGC = _TEMPERATURES.value_table("Sensor1Temperature")
_TEMPERATURE_READING = _reading_table(_TEMPERATURES, "Temperatures1", "Sensor1Temperature")
"""By raw value; all cells, and all sensors, are laid out alike."""

_INPUT_SIGNALS = {
    "interlock": "Interlock", "fuse": "Fuse", "insulation": "Insulation", "smoke": "Smoke", "door": "Door",
    "emergency_stop": "EmergencyStop",
}  # fmt: skip
_UNIT_VALUES = ("Current", "Charge", "BusVoltage", "StringVoltage", "CoilSupply")
_UNIT_STATES = (
    "MinusFeedback", "PlusFeedback", "PrechargeFeedback", "TripCode", "OpenReason", "MinusOutput",
    "PlusOutput", "PrechargeOutput", "InverterEnableOutput", "HeartbeatLost",
    *(_INPUT_SIGNALS[name] for name in INPUTS),
)  # fmt: skip
CURRENT_A, CHARGE_AS = range(2)
VOLTAGES = slice(2, 5)
MINUS, PLUS, PRECHARGE, TRIP_CODE, OPEN_REASON = range(5)
FLAGS = slice(5, 10)
UNIT_INPUTS = slice(10, 10 + len(INPUTS))
_CURRENT = Signals.of(DATABASE, ["Current"], [("Current", "Current"), ("Current", "Charge")])
FULL_SCALE_A = float(_CURRENT.high[0] * _CURRENT.scale[0])
CHARGE_WRAP_AS = float((_CURRENT.high[1] + 1) * _CURRENT.scale[1])
"""Charge after which the counter starts again at 0."""


class Poll(NamedTuple):
    """Everything in the store of a poll, decoded, also what has not come.

    Cells and sensors (strings, modules, each); `unit_values` (5, strings): current in A, charge counter in As,
    bus, string and coil voltage in V; `unit_states` (16, strings): raw integers, rows as named in this module.
    """

    cell_v: Floats
    cell_reading: Ints
    temperature_degc: Floats
    temperature_reading: Ints
    unit_values: Floats
    unit_states: Ints
    unit_unknown: int
    """Values of units that are not known."""


class PollPlan:
    """Where every signal of a poll lies in the store, as one list: one pass decodes them all."""

    def __init__(self, slots: Slots, layout: Layout, *, temperatures: bool) -> None:
        places = _per_board(slots.cells, slots.boards, slots.cell_messages, "Cell{}Voltage", layout.cells)
        self._cells = slice(0, len(places))
        if temperatures:
            messages = slots.temperature_messages
            places += _per_board(slots.temperatures, slots.boards, messages, "Sensor{}Temperature", layout.sensors)
        self._sensors = slice(self._cells.stop, len(places))
        places += _per_unit(slots, _UNIT_VALUES)
        self._values = slice(self._sensors.stop, len(places))
        places += _per_unit(slots, _UNIT_STATES)
        self._signals = Signals.placed(DATABASE, places)
        self._unit_signals = self._signals[self._values]
        self._units = slots.units
        self._cell_shape = layout.cell_shape
        self._sensor_shape = layout.sensor_shape if temperatures else (*layout.module_shape, 0)
        self._no_cell_reading = np.zeros(self._cell_shape, dtype=np.int64)
        self._no_sensor_reading = np.zeros(self._sensor_shape, dtype=np.int64)

    def decode(self, store: Words) -> Poll:
        """Return everything in the store. Readings of a poll without any code are one shared array of OK."""
        raw = self._signals.raw(store)
        cells, sensors = raw[self._cells], raw[self._sensors]
        cell_v, degc = _CELL_V.take(cells), _TEMPERATURE_DEGC.take(sensors)
        cell_reading, sensor_reading = self._no_cell_reading, self._no_sensor_reading
        if isnan(cell_v.dot(cell_v)):
            cell_reading = _CELL_READING.take(cells).reshape(self._cell_shape)
        if isnan(degc.dot(degc)):
            sensor_reading = _TEMPERATURE_READING.take(sensors).reshape(self._sensor_shape)
        unit_values, unit_unknown = self._unit_signals.measured(raw[self._values])
        return Poll(
            cell_v.reshape(self._cell_shape),
            cell_reading,
            degc.reshape(self._sensor_shape),
            sensor_reading,
            unit_values.reshape(-1, self._units),
            raw[self._values.stop :].reshape(-1, self._units),
            unit_unknown,
        )


def _per_board(
    part: slice, boards: int, messages: tuple[str, ...], signal: str, count: int
) -> list[tuple[str, str, int]]:
    """Return the places of the first `count` cells or sensors of all boards, board after board."""
    frames = len(messages)
    return [
        (messages[k // PER_FRAME], signal.format(k + 1), part.start + board * frames + k // PER_FRAME)
        for board in range(boards)
        for k in range(count)
    ]


def _per_unit(slots: Slots, names: Sequence[str]) -> list[tuple[str, str, int]]:
    """Return the places of signals of all units, signal after signal."""
    places = []
    for name in names:
        message = next(m for m in UNIT_MESSAGES if any(s.name == name for s in DATABASE.get_message_by_name(m).signals))
        first = slots.unit_words.start + UNIT_MESSAGES.index(message)
        places += [(message, name, first + unit * len(UNIT_MESSAGES)) for unit in range(slots.units)]
    return places


class BoardState(NamedTuple):
    """What ModuleState says, arrays (boards,), balancing (boards, 24)."""

    module_v: Floats
    balancing: Bools
    cell_count: Ints
    trip_active: Bools
    heartbeat_lost: Bools


def board_state(words: Words) -> BoardState:
    """Return the state of module boards from their words (boards,)."""
    raw = _STATE.raw(words[:, None])
    column = _STATE.index
    volts = column("ModuleVoltage")
    bits = raw[:, column("BalanceActive"), None] >> np.arange(24)
    return BoardState(
        module_v=_STATE[volts : volts + 1].physical(raw[:, volts : volts + 1])[:, 0],
        balancing=(bits & 1).astype(bool),
        cell_count=raw[:, column("CellCount")],
        trip_active=raw[:, column("TripActive")] != 0,
        heartbeat_lost=raw[:, column("HeartbeatLost")] != 0,
    )


class NodeStatus(NamedTuple):
    """What NodeStatus says, arrays (nodes,); `self_test` is -1 before the self-test has finished."""

    self_test: Ints
    board_degc: Floats
    boot_mode: Bools

    def of(self, nodes: slice) -> NodeStatus:
        """Return the status of some of the nodes."""
        return NodeStatus(self.self_test[nodes], self.board_degc[nodes], self.boot_mode[nodes])


def node_status(words: Words) -> NodeStatus:
    """Return the status of nodes from their words (nodes,)."""
    raw = _STATUS.raw(words[:, None])
    column = _STATUS.index
    degc = column("BoardTemperature")
    done = raw[:, column("SelfTestDone")] != 0
    return NodeStatus(
        self_test=np.where(done, raw[:, column("SelfTest")], -1),
        board_degc=_STATUS[degc : degc + 1].physical(raw[:, degc : degc + 1])[:, 0],
        boot_mode=raw[:, column("BootMode")] != 0,
    )


def uids(words: Words) -> tuple[Ints, Ints]:
    """Return unique numbers and cell counts (0: contactor unit) of nodes from their words (nodes,)."""
    raw = _UID.raw(words[:, None])
    return raw[:, _UID.index("Uid")], raw[:, _UID.index("CellCount")]


VERSION_FIELDS = (
    "BoardType", "Chemistry", "SensorCount", "HardwareRevision", "FirmwareMajor", "FirmwareMinor", "BootCounter",
)  # fmt: skip


def versions(words: Words) -> Ints:
    """Return type and versions of nodes, shape (nodes, len(VERSION_FIELDS))."""
    raw = _VERSION.raw(words[:, None])
    return raw[:, [_VERSION.index(name) for name in VERSION_FIELDS]]


def trips(words: Words) -> tuple[Ints, Ints]:
    """Return the codes and cells of Trip frames."""
    raw = _TRIP.raw(words[:, None])
    return raw[:, _TRIP.index("TripCode")], raw[:, _TRIP.index("CellNumber")]


def discoveries(words: Words) -> tuple[Ints, Ints]:
    """Return the unique numbers and types of nodes that have no address."""
    raw = _DISCOVERY.raw(words[:, None])
    return raw[:, _DISCOVERY.index("Uid")], raw[:, _DISCOVERY.index("BoardType")]
