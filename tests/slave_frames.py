"""Builders of slave frames for tests: packed by the simulator's plain cantools, not by the code under test."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from bmsd.model.frame import EXTENDED_FLAG, RAW_FRAME, Frame, RawFrames
from bmsd.model.layout import Layout
from bmsd.sim.packing import pack

TEMPERATURES, MODULE_STATE, NODE_STATUS = 1, 2, 3


def raw(*frames: Frame) -> RawFrames:
    """Return frames as the kernel hands them over."""
    return np.array(
        [(f.can_id | (EXTENDED_FLAG if f.extended else 0), len(f.data), 0, int.from_bytes(f.data, "little"))
         for f in frames],
        dtype=RAW_FRAME,
    )  # fmt: skip


def joined(parts: Iterable[RawFrames]) -> RawFrames:
    return np.concatenate([np.zeros(0, dtype=RAW_FRAME), *parts])


def cell_raw(address: int, cell: int) -> int:
    """A voltage of its own for every cell: about 3.2 V."""
    return 5000 + (address * 24 + cell) % 400


def sensor_raw(address: int, sensor: int) -> int:
    """A temperature of its own for every sensor: about 25 degC."""
    return 2500 + address * 8 + sensor


def cells(address: int, number: int, count: int, **changes: int) -> list[Frame]:
    """Return the cell frames of a board; `changes` are raw values by signal, such as Cell3Voltage=8191."""
    frames = []
    for k in range(-(-count // 4)):
        signals = {f"Cell{c + 1}Voltage": cell_raw(address, c) if c < count else 8191 for c in range(4 * k, 4 * k + 4)}
        signals.update({name: value for name, value in changes.items() if name in signals})
        frames.append(pack(f"CellVoltages{k + 1}", address, {**signals, "Counter": number % 16}))
    return frames


def temperatures(address: int, number: int, count: int, **changes: int) -> list[Frame]:
    frames = []
    for k in range(-(-count // 4)):
        signals = {
            f"Sensor{c + 1}Temperature": sensor_raw(address, c) if c < count else 8191 for c in range(4 * k, 4 * k + 4)
        }
        signals.update({name: value for name, value in changes.items() if name in signals})
        frames.append(pack(f"Temperatures{k + 1}", address, {**signals, "Counter": number % 16}))
    return frames


def module_state(address: int, number: int, count: int = 16, **changes: int) -> Frame:
    signals = {
        "ModuleVoltage": 26000 + address, "BalanceActive": 0, "CellCount": count, "TripActive": 0,
        "HeartbeatLost": 0, "LeaseExpired": 0, "BalanceDerated": 0, "Counter": number % 16,
    }  # fmt: skip
    return pack("ModuleState", address, {**signals, **changes})


def node_status(address: int, number: int, **changes: int) -> Frame:
    signals = {
        "SelfTest": 0, "BoardTemperature": 2600, "BalancerTemperature": 2700, "SupplyVoltage": 60,
        "BootMode": 0, "SelfTestDone": 1, "Counter": number % 16,
    }  # fmt: skip
    return pack("NodeStatus", address, {**signals, **changes})


def current(address: int, number: int, phase: int = 0, *, raw_a: int = 500, charge: int = 1000) -> Frame:
    signals = {"Charge": charge, "Current": raw_a, "Phase": phase, "Counter": number % 16}
    return pack("Current", address, signals)


def voltages(address: int, number: int, **changes: int) -> Frame:
    signals = {"BusVoltage": 26000, "StringVoltage": 26100, "CoilSupply": 2400, "Counter": number % 16}
    return pack("StringVoltages", address, {**signals, **changes})


def contactor_state(address: int, number: int, **changes: int) -> Frame:
    signals: dict[str, int] = dict.fromkeys(
        ("MinusFeedback", "PlusFeedback", "PrechargeFeedback", "MinusOutput", "PlusOutput", "PrechargeOutput",
         "InverterEnableOutput", "Interlock", "Fuse", "Insulation", "Smoke", "Door", "EmergencyStop",
         "HeartbeatLost", "LeaseExpired", "TripCode", "TripSource", "OpenReason", "OpenedUnderLoad"), 0
    )  # fmt: skip
    return pack("ContactorState", address, {**signals, "Counter": number % 16, **changes})


def identity(address: int, *, uid: int, cells: int = 16, **changes: int) -> list[Frame]:
    version = {
        "BoardType": 1 if address < 65 else 2, "Chemistry": 1, "SensorCount": 4, "HardwareRevision": 2,
        "FirmwareMajor": 1, "FirmwareMinor": 7, "BootCounter": 3,
    }  # fmt: skip
    return [
        pack("IdentityUid", address, {"Uid": uid, "CellCount": cells if address < 65 else 0}),
        pack("IdentityVersion", address, {**version, **changes}),
    ]


def trip(address: int, code: int, cell: int = 0) -> Frame:
    return pack("Trip", address, {"TripCode": code, "CellNumber": cell, "Repeat": 0})


def poll(layout: Layout, number: int, slow_group: int = 0, *, without: Iterable[int] = ()) -> list[Frame]:
    """Return everything a healthy rack answers to a SYNC of phase 0, but for the nodes `without`."""
    silent = set(without)
    frames: list[Frame] = [current(unit, number) for unit in layout.unit_addresses if unit not in silent]
    for address in (a for string in layout.module_addresses for a in string if a not in silent):
        frames += cells(address, number, layout.cells)
        if slow_group == TEMPERATURES:
            frames += temperatures(address, number, layout.sensors)
        elif slow_group == MODULE_STATE:
            frames.append(module_state(address, number, layout.cells))
        elif slow_group == NODE_STATUS:
            frames.append(node_status(address, number))
    for unit in (u for u in layout.unit_addresses if u not in silent):
        frames += [voltages(unit, number), contactor_state(unit, number)]
        if slow_group == NODE_STATUS:
            frames.append(node_status(unit, number))
    return frames


def changed(frame: Frame, **values: Any) -> Frame:
    return frame._replace(**values)


def spoilt(frame: Frame, bit: int = 0) -> Frame:
    """Return the frame with one bit of its data turned over."""
    data = bytearray(frame.data)
    data[bit // 8] ^= 1 << bit % 8
    return frame._replace(data=bytes(data))


Signals = Mapping[str, int]
