"""Random measurement frames, decoded by the receiver and by cantools: the same numbers."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from bmsd.codec.dbc import load
from bmsd.codec.integrity import frame_crc
from bmsd.fieldbus.receive import Receiver
from bmsd.model.frame import Frame
from bmsd.model.layout import Layout
from bmsd.model.plant import Timing
from tests import slave_frames as slave

LAYOUT = Layout(strings=1, modules=1, cells=24, sensors=8)
DATABASE = load("slave", 7)
NUMBER, PHASE = 9, 0
WORDS = st.integers(0, 2**52 - 1)


def frame(name: str, address: int, payload: int) -> Frame:
    """A sound frame of this SYNC with any content."""
    if name == "Current":
        payload &= (1 << 50) - 1
    can_id = DATABASE.get_message_by_name(name).frame_id | address
    data = (payload | NUMBER << 52).to_bytes(7, "little")
    return Frame(can_id, data + bytes([frame_crc(can_id, data)]), True)


def same(ours: float, name: str, message: str, signals: dict[str, Any]) -> None:
    signal = DATABASE.get_message_by_name(message).get_signal_by_name(name)
    value = signals[name]
    assert signal.minimum is not None
    assert signal.maximum is not None
    if signal.minimum - 1e-9 <= value <= signal.maximum + 1e-9:
        assert ours == value, name
    else:
        assert math.isnan(ours), name


@settings(max_examples=150, deadline=None)
@given(st.lists(WORDS, min_size=13, max_size=13))
def test_random_frames_mean_the_same_as_in_cantools(words: list[int]) -> None:
    names = [f"CellVoltages{k}" for k in range(1, 7)] + ["Temperatures1", "Temperatures2", "ModuleState", "NodeStatus"]
    frames = [frame(name, 1, word) for name, word in zip(names, words[:10], strict=True)]
    names += ["Current", "StringVoltages", "ContactorState"]
    frames += [frame(name, 65, word) for name, word in zip(names[10:], words[10:], strict=True)]
    heard = Receiver(LAYOUT, Timing(0.1, 0.2, 4))
    heard.sync_sent(NUMBER, PHASE, 1, 0.0)
    heard.feed(slave.raw(*frames), 0.1)
    heard.sync_sent(NUMBER + 1, PHASE, 0, 0.2)
    modules, units = heard.modules(0.2), heard.units(0.2)
    assert heard.counts.sum() == 0
    told: dict[str, dict[str, Any]] = {
        name: dict(DATABASE.get_message_by_name(name).decode(f.data, decode_choices=False))  # type: ignore[arg-type]
        for name, f in zip(names, frames, strict=True)
    }
    if told["NodeStatus"]["BootMode"]:
        assert all(math.isnan(volts) for volts in modules.cell_v[0, 0])
        return
    for k in range(24):
        message = f"CellVoltages{k // 4 + 1}"
        same(modules.cell_v[0, 0, k], f"Cell{k + 1}Voltage", message, told[message])
        assert (modules.cell_reading[0, 0, k] == 0) == (not math.isnan(modules.cell_v[0, 0, k]))
    for k in range(8):
        message = f"Temperatures{k // 4 + 1}"
        same(modules.temperature_degc[0, 0, k], f"Sensor{k + 1}Temperature", message, told[message])
        assert (modules.temperature_reading[0, 0, k] == 0) == (not math.isnan(modules.temperature_degc[0, 0, k]))
    state = told["ModuleState"]
    same(modules.module_v[0, 0], "ModuleVoltage", "ModuleState", state)
    assert sum(1 << k for k in range(24) if modules.balancing[0, 0, k]) == state["BalanceActive"]
    assert modules.trip_active[0, 0] == state["TripActive"]
    assert modules.cell_count[0, 0] == state["CellCount"]
    same(modules.board_degc[0, 0], "BoardTemperature", "NodeStatus", told["NodeStatus"])
    same(units.current_a[0], "Current", "Current", told["Current"])
    for field, name in (("bus_v", "BusVoltage"), ("string_v", "StringVoltage"), ("coil_v", "CoilSupply")):
        same(getattr(units, field)[0], name, "StringVoltages", told["StringVoltages"])
    contactors = told["ContactorState"]
    for field, name in (("minus", "MinusFeedback"), ("trip_code", "TripCode"), ("open_reason", "OpenReason")):
        assert getattr(units, field)[0] == contactors[name]
