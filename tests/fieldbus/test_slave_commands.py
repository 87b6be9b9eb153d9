from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bmsd.fieldbus.drivers.slave.commands import Commands, ControlState, rules
from bmsd.fieldbus.transmit_gate import TransmitGate
from bmsd.model.command import Command
from bmsd.model.frame import Frame
from bmsd.model.layout import Layout
from bmsd.model.plant import Timing
from bmsd.sim.packing import Received, unpack

LAYOUT = Layout(strings=2, modules=5, cells=16, sensors=4)


def command(layout: Layout = LAYOUT, **changes: Any) -> Command:
    off = np.zeros(layout.strings, dtype=bool)
    values: dict[str, Any] = {
        "cvl_v": None, "dvl_v": None, "ccl_a": 0.0, "dcl_a": 0.0, "charge_enabled": False,
        "discharge_enabled": False, "close_minus": off, "close_precharge": off, "close_plus": off,
        "inverter_enable": off, "commanded": ~off, "balance": np.zeros(layout.cell_shape, dtype=bool),
        "heartbeat": True,
    }  # fmt: skip
    return Command(**{**values, **changes})


def said(frames: list[Frame], name: str) -> list[Received]:
    received = [unpack(frame) for frame in frames]
    assert all(received)
    return [one for one in received if one and one.name == name]


def test_a_tick_starts_with_the_heartbeat_and_commands_every_unit() -> None:
    frames = Commands(LAYOUT, 5.0).frames(command(), 0.0)
    received = [unpack(frame) for frame in frames]
    assert [(one.name, one.address) for one in received[:3] if one] == [
        ("Heartbeat", 0),
        ("ContactorCommand", 65),
        ("ContactorCommand", 66),
    ]
    heartbeat = said(frames, "Heartbeat")[0].signals
    assert (heartbeat["Lease"], heartbeat["ControlState"]) == (10, ControlState.RUNNING)


def test_a_unit_whose_contactors_are_not_known_is_sent_no_command_and_keeps_its_counter() -> None:
    commands, off = Commands(LAYOUT, 5.0), np.zeros(2, dtype=bool)
    frames = commands.frames(command(), 0.0)
    frames += commands.frames(command(commanded=np.array([True, False])), 0.1)
    frames += commands.frames(command(close_minus=~off), 0.2)
    told = [(one.address, one.signals["Counter"]) for one in said(frames, "ContactorCommand")]
    assert told == [(65, 1), (66, 1), (65, 2), (65, 3), (66, 2)]


def test_the_heartbeat_is_withheld_and_contactor_commands_are_not() -> None:
    frames = Commands(LAYOUT, 5.0).frames(command(heartbeat=False), 0.0)
    assert said(frames, "Heartbeat") == []
    assert len(said(frames, "ContactorCommand")) == 2


@pytest.mark.parametrize(
    ("field", "signal"),
    [
        ("close_minus", "CloseMinus"),
        ("close_precharge", "ClosePrecharge"),
        ("close_plus", "ClosePlus"),
        ("inverter_enable", "InverterEnable"),
    ],
)
def test_each_contactor_has_its_bit_in_the_command_of_its_string(field: str, signal: str) -> None:
    frames = Commands(LAYOUT, 5.0).frames(command(LAYOUT, **{field: np.array([False, True])}), 0.0)
    first, second = said(frames, "ContactorCommand")
    outputs = ("CloseMinus", "ClosePrecharge", "ClosePlus", "InverterEnable")
    assert [name for name in outputs if first.signals[name]] == []
    assert [name for name in outputs if second.signals[name]] == [signal]
    assert first.signals["Lease"] == 10


def test_counters_wrap_where_their_signals_do() -> None:
    commands = Commands(LAYOUT, 5.0)
    beats, counters = [], []
    for tick in range(300):
        frames = commands.frames(command(), tick / 10)
        beats.append(said(frames, "Heartbeat")[0].signals["Counter"])
        counters.append(said(frames, "ContactorCommand")[1].signals["Counter"])
    assert beats == [(k + 1) % 256 for k in range(300)]
    assert counters == [(k + 1) % 16 for k in range(300)]


def test_every_board_gets_a_balancing_command_once_a_second_spread_over_the_ticks() -> None:
    commands = Commands(LAYOUT, 5.0)
    ticks = [[one.address for one in said(commands.frames(command(), k / 10), "BalanceCommand")] for k in range(30)]
    for second in range(3):
        addresses = [address for tick in ticks[10 * second : 10 * second + 10] for address in tick]
        assert sorted(addresses) == list(range(1, 11))
    assert max(map(len, ticks)) == 1


def test_after_a_stall_no_board_gets_two_commands_in_a_row() -> None:
    commands = Commands(LAYOUT, 5.0)
    commands.frames(command(), 0.0)
    assert len(said(commands.frames(command(), 7.3), "BalanceCommand")) == 10
    assert said(commands.frames(command(), 7.35), "BalanceCommand") == []


def test_a_changed_mask_goes_out_at_once_and_only_to_its_board() -> None:
    commands = Commands(LAYOUT, 5.0)
    for k in range(10):
        commands.frames(command(), k / 10)
    balance = np.zeros(LAYOUT.cell_shape, dtype=bool)
    balance[1, 4, [0, 15]] = True
    sent = said(commands.frames(command(balance=balance), 1.0), "BalanceCommand")
    by_address = {one.address: one.signals for one in sent}
    assert set(by_address) == {1, 10}
    assert by_address[10]["BalanceCells"] == 0b1000_0000_0000_0001
    assert by_address[10]["Lease"] == 5
    assert by_address[1]["BalanceCells"] == 0
    again = said(commands.frames(command(balance=balance), 1.1), "BalanceCommand")
    assert 10 not in [one.address for one in again]
    off = said(commands.frames(command(), 1.2), "BalanceCommand")
    assert [one.signals["BalanceCells"] for one in off if one.address == 10] == [0]


def test_the_24th_cell_can_be_bled() -> None:
    layout = Layout(strings=1, modules=1, cells=24, sensors=4)
    balance = np.ones(layout.cell_shape, dtype=bool)
    sent = said(Commands(layout, 5.0).frames(command(layout, balance=balance), 0.0), "BalanceCommand")
    assert sent[0].signals["BalanceCells"] == 0xFFFFFF


def test_a_lease_is_never_longer_than_asked() -> None:
    sent = said(Commands(LAYOUT, 2.9).frames(command(), 0.0), "BalanceCommand")
    assert sent[0].signals["Lease"] == 2


def test_a_trip_reset_goes_to_its_node_with_its_code() -> None:
    frames = Commands(LAYOUT, 5.0).frames(command(trip_resets=((65, 6), (3, 1))), 0.0)
    resets = said(frames, "TripReset")
    assert [(one.address, one.signals["TripCode"], one.signals["Counter"]) for one in resets] == [(65, 6, 1), (3, 1, 2)]


def test_everything_that_is_commanded_passes_the_gate() -> None:
    class Wire:
        def send(self, frame: Frame) -> bool:
            return frame.extended

    way = TransmitGate(Wire(), rules(LAYOUT, Timing(0.1, 0.2, 4)))
    commands = Commands(LAYOUT, 5.0)
    balance = np.zeros(LAYOUT.cell_shape, dtype=bool)
    for k in range(100):
        balance = ~balance
        given = command(balance=balance, trip_resets=((65, 6),))
        way.allow(given, k / 10)
        for frame in commands.frames(given, k / 10):
            assert way.send(frame, k / 10)
    assert way.blocked == 0
