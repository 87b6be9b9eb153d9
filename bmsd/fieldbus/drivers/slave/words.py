"""What the data words of the slave protocol mean: 64-bit words of many nodes to arrays of values."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bmsd.codec.dbc import Signals, choices
from bmsd.fieldbus.drivers.slave.slots import DATABASE, UNIT_MESSAGES
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

_STARTS = _CELLS.start[:4, None].copy()
_FIELD_MASK = _CELLS.mask[0]
_MEANINGS = {"open_wire": Reading.OPEN, "open": Reading.OPEN, "short": Reading.SHORT, "invalid": Reading.INVALID}


def _reading_table(signals: Signals, message: str, name: str) -> Ints:
    codes = {raw: int(_MEANINGS[meaning]) for meaning, raw in choices(DATABASE, message, name).items()}
    return signals.code_table(name, codes, outside=int(Reading.INVALID))


_CELL_V = _CELLS.value_table("Cell1Voltage")
_CELL_READING = _reading_table(_CELLS, "CellVoltages1", "Cell1Voltage")
_TEMPERATURE_DEGC = _TEMPERATURES.value_table("Sensor1Temperature")
_TEMPERATURE_READING = _reading_table(_TEMPERATURES, "Temperatures1", "Sensor1Temperature")


def _fields(words: Words) -> Ints:
    """Return the four 13-bit fields of each word, shape (words, 4)."""
    fields = words.reshape(1, -1) >> _STARTS
    fields &= _FIELD_MASK
    return fields.view(np.int64).T


def cells(words: Words) -> tuple[Floats, Ints]:
    """Return cell voltages in V and their readings, both (words, 4); NaN where the reading is not OK."""
    fields = _fields(words)
    return _CELL_V.take(fields), _CELL_READING.take(fields)


def temperatures(words: Words) -> tuple[Floats, Ints]:
    """Return cell temperatures in degC and their readings, both (words, 4); NaN where the reading is not OK."""
    fields = _fields(words)
    return _TEMPERATURE_DEGC.take(fields), _TEMPERATURE_READING.take(fields)


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
        module_v=_STATE.physical(raw[:, volts : volts + 1], slice(volts, volts + 1))[:, 0],
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


def node_status(words: Words) -> NodeStatus:
    """Return the status of nodes from their words (nodes,)."""
    raw = _STATUS.raw(words[:, None])
    column = _STATUS.index
    degc = column("BoardTemperature")
    done = raw[:, column("SelfTestDone")] != 0
    return NodeStatus(
        self_test=np.where(done, raw[:, column("SelfTest")], -1),
        board_degc=_STATUS.physical(raw[:, degc : degc + 1], slice(degc, degc + 1))[:, 0],
        boot_mode=raw[:, column("BootMode")] != 0,
    )


_INPUT_SIGNALS = {
    "interlock": "Interlock", "fuse": "Fuse", "insulation": "Insulation", "smoke": "Smoke", "door": "Door",
    "emergency_stop": "EmergencyStop",
}  # fmt: skip
_UNIT_COLUMNS = (
    ("Current", "Current"),
    ("StringVoltages", "BusVoltage"),
    ("StringVoltages", "StringVoltage"),
    ("StringVoltages", "CoilSupply"),
    ("Current", "Charge"),
    ("ContactorState", "MinusFeedback"),
    ("ContactorState", "PlusFeedback"),
    ("ContactorState", "PrechargeFeedback"),
    ("ContactorState", "TripCode"),
    ("ContactorState", "OpenReason"),
    ("ContactorState", "MinusOutput"),
    ("ContactorState", "PlusOutput"),
    ("ContactorState", "PrechargeOutput"),
    ("ContactorState", "InverterEnableOutput"),
    ("ContactorState", "HeartbeatLost"),
    *(("ContactorState", _INPUT_SIGNALS[name]) for name in INPUTS),
)
_UNITS = Signals.of(DATABASE, UNIT_MESSAGES, _UNIT_COLUMNS)
PHYSICAL = slice(0, 4)
CURRENT_A, BUS_V, STRING_V, COIL_V = range(4)
CHARGE, MINUS, PLUS, PRECHARGE, TRIP_CODE, OPEN_REASON = range(4, 10)
FLAGS = slice(10, 15)
UNIT_INPUTS = slice(15, 15 + len(INPUTS))
CHARGE_AS = float(_UNITS.scale[CHARGE])
"""As per count of the charge counter."""
FULL_SCALE_A = float(_UNITS.high[CURRENT_A] * _UNITS.scale[CURRENT_A])


def units_raw(words: Words) -> Ints:
    """Return raw values of contactor units from their words (units, 3); columns as named in this module."""
    return _UNITS.raw(words)


def units_physical(raw: Ints) -> Floats:
    """Return current in A, bus, string and coil voltage in V, shape (units, 4); NaN for invalid."""
    return _UNITS.physical(raw[:, PHYSICAL], PHYSICAL)


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
