"""Every message of slave.dbc is sent by somebody and understood by somebody: nothing is defined and dead."""

from __future__ import annotations

from collections.abc import Mapping

import bus_time
import numpy as np
from slave_database import ADDRESS_MASK, by_node, crc8_autosar, load, with_crc

from bmsd.fieldbus import poller
from bmsd.fieldbus.drivers.slave.commands import Commands
from bmsd.fieldbus.drivers.slave.slots import Slots
from bmsd.fieldbus.poller import Poller
from bmsd.model.command import Command
from bmsd.model.frame import Frame
from bmsd.model.layout import Layout
from bmsd.model.plant import Timing
from bmsd.model.snapshot import Input
from bmsd.sim.boards import Measured, ModuleBoard
from bmsd.sim.contactor_unit import ContactorUnit, Wires
from bmsd.sim.node import CONTACTOR_UNIT, MODULE_BOARD, UNADDRESSED, Identity, Node

DATABASE = load()


def command(name: str, address: int = 0, **values: float) -> Frame:
    """Return a frame of bmsd; raw values of the signals, 0 for those not named."""
    message = DATABASE.get_message_by_name(name)
    can_id = message.frame_id | address
    raw = {signal.name: int(values.get(signal.name, 0)) for signal in message.signals}
    return Frame(can_id, with_crc(can_id, message.encode(raw, scaling=False, strict=False)), True)


def sent(node: Node, start_s: float = 0.0, duration_s: float = 0.3) -> list[tuple[float, str, dict[str, int]]]:
    """Step a node in 0.1 ms and return (time, message, raw signals) of what it sends, its CRC checked."""
    seen = []
    for k in range(round(duration_s * 1e4)):
        now_s = start_s + k * 1e-4
        for frame in node.step(now_s):
            message = DATABASE.get_message_by_frame_id(frame.can_id)
            assert with_crc(frame.can_id, frame.data) == frame.data
            assert frame.extended
            signals = message.decode(frame.data, decode_choices=False, scaling=False)
            seen.append((now_s - start_s, message.name, signals))
    return seen


def board(address: int = 3, cells: int = 24, sensors: int = 8) -> ModuleBoard:
    made = ModuleBoard(address, Identity(uid=0xC0FFEE01, board_type=MODULE_BOARD, cells=cells, sensors=sensors))
    made.measure(Measured(np.full(cells, 3.3), np.full(sensors, 25.0), 3.3 * cells))
    return made


def unit(address: int = 66) -> ContactorUnit:
    return ContactorUnit(address, Identity(uid=0xC0FFEE02, board_type=CONTACTOR_UNIT))


def answers(node: Node, *frames: Frame) -> list[tuple[float, str, dict[str, int]]]:
    node.step(0.0)
    for frame in frames:
        node.receive(frame, 0.0)
    return sent(node)


def test_simulated_nodes_send_every_message_that_nodes_send() -> None:
    names: set[str] = set()
    for group in range(4):
        sync = command("Sync", Number=42, SlowGroup=group)
        names |= {name for node in (board(), unit()) for _, name, _ in answers(node, sync)}
    for target in (0, UNADDRESSED):
        request = command("IdentifyRequest", Target=target)
        nodes = (board(), unit(), board(address=UNADDRESSED))
        names |= {name for node in nodes for _, name, _ in answers(node, request)}
    stopped = unit()
    stopped.wires = Wires(emergency_stop=Input.ACTIVE)
    names |= {name for _, name, _ in answers(stopped)}
    assert names == {message.name for message in DATABASE.messages if by_node(message)}


def test_answers_start_in_their_slots_and_carry_the_sync_counter() -> None:
    for group in range(4):
        sync = command("Sync", Number=42, SlowGroup=group)
        of_board = answers(board(), sync)
        assert of_board
        assert all(abs(at_s - (0.004 + 2 * 0.0026)) < 2e-4 for at_s, _, _ in of_board)
        of_unit = answers(unit(), sync)
        starts = {name: at_s for at_s, name, _ in of_unit}
        assert abs(starts.pop("Current") - 0.0004) < 2e-4
        assert starts
        assert all(abs(at_s - 0.089) < 2e-4 for at_s in starts.values())
        assert {signals["Counter"] for _, _, signals in of_board + of_unit} == {42 % 16}


def test_only_contactor_units_answer_the_phases_between_polls_and_with_current_alone() -> None:
    sync = command("Sync", Number=42, Phase=2, SlowGroup=1)
    assert answers(board(), sync) == []
    [(_, name, signals)] = answers(unit(), sync)
    assert (name, signals["Phase"]) == ("Current", 2)


def test_a_board_sends_no_frames_for_cells_and_sensors_that_it_does_not_have() -> None:
    sync = command("Sync", Number=1, SlowGroup=1)
    names = [name for _, name, _ in answers(board(cells=16, sensors=4), sync)]
    assert names == ["CellVoltages1", "CellVoltages2", "CellVoltages3", "CellVoltages4", "Temperatures1"]


def test_a_frame_with_a_wrong_crc_or_a_foreign_version_is_not_answered() -> None:
    good = command("Sync", Number=1)
    broken = Frame(good.can_id, good.data[:-1] + bytes([good.data[-1] ^ 1]), True)
    other_id = good.can_id ^ 0x3000
    foreign = Frame(other_id, with_crc(other_id, good.data), True)
    short = Frame(good.can_id, good.data[:3], True)
    assert answers(board(), good)
    for frame in (broken, foreign, short):
        assert answers(board(), frame) == []


def test_the_address_of_discovery_is_the_crc_of_the_uid_as_the_contract_says() -> None:
    nobody = board(address=UNADDRESSED)
    nobody.receive(command("IdentifyRequest", Target=UNADDRESSED), 0.0)
    [frame] = [frame for k in range(2000) for frame in nobody.step(k * 1e-4)]
    uid = 0xC0FFEE01.to_bytes(6, "little")
    assert frame.can_id & ADDRESS_MASK == crc8_autosar(uid) & ADDRESS_MASK


class Controller:
    """Sends heartbeats and the given commands every 100 ms, as bmsd does, and steps the node every 10 ms."""

    def __init__(self, node: Node) -> None:
        self.node, self.now_s, self.counter = node, 0.0, 0
        node.step(0.0)

    def run(self, duration_s: float, *commands: tuple[str, Mapping[str, float]], heartbeat: bool = True) -> None:
        for k in range(round(duration_s * 100)):
            if k % 10 == 0:
                self.counter += 1
                if heartbeat:
                    self.node.receive(command("Heartbeat", Counter=self.counter % 256, Lease=10), self.now_s)
                for name, values in commands:
                    counted = {"Counter": self.counter % 16, **values}
                    self.node.receive(command(name, self.node.address, **counted), self.now_s)
            self.now_s += 0.01
            self.node.step(self.now_s)


def test_a_board_bleeds_on_command_and_not_without_heartbeat() -> None:
    node = board()
    controller = Controller(node)
    order = ("BalanceCommand", {"BalanceCells": 0x800001, "Lease": 60})
    controller.run(0.5, order, heartbeat=False)
    assert not node.bleeding.any()
    controller.run(0.5, order)
    assert np.flatnonzero(node.bleeding).tolist() == [0, 23]
    controller.run(1.2, heartbeat=False)
    assert not node.bleeding.any()


def test_a_unit_obeys_after_all_off_and_opens_without_heartbeat() -> None:
    node = unit()
    controller = Controller(node)
    close = ("ContactorCommand", {"CloseMinus": 1, "ClosePlus": 1, "InverterEnable": 1, "Lease": 10})
    controller.run(0.5, close)
    assert not node.coil.any(), "it has just started and has not seen all off"
    controller.run(0.2, ("ContactorCommand", {"Lease": 10}))
    controller.run(0.3, close)
    assert node.coil.tolist() == [True, False, True]
    assert node.enable
    controller.run(1.2, close, heartbeat=False)
    assert not node.coil.any(), "no current flows: it opens at 1.0 s"


def test_a_trip_opens_a_unit_and_only_the_right_reset_releases_it() -> None:
    node = unit()
    controller = Controller(node)
    close = ("ContactorCommand", {"CloseMinus": 1, "ClosePlus": 1, "Lease": 10})
    controller.run(0.2, ("ContactorCommand", {"Lease": 10}))
    controller.run(0.2, close)
    assert node.coil.any()
    node.receive(command("Trip", 3, TripCode=1, CellNumber=7), controller.now_s)
    node.step(controller.now_s)
    assert not node.coil.any()
    assert (node.trip_code, node.trip_source) == (1, 3)
    controller.run(1.0, ("TripReset", {"TripCode": 2}))
    assert node.trip_code == 1
    controller.run(1.2, ("TripReset", {"TripCode": 1}))
    assert node.trip_code == 0


def test_only_the_node_with_the_uid_takes_an_assigned_address_of_its_kind() -> None:
    node = board(address=UNADDRESSED)
    for uid, address, result in ((1, 5, UNADDRESSED), (0xC0FFEE01, 65, UNADDRESSED), (0xC0FFEE01, 5, 5)):
        node.receive(command("AssignAddress", Uid=uid, Address=address), 0.0)
        assert node.address == result


def test_the_daemon_has_a_place_for_every_message_that_nodes_send() -> None:
    slots = Slots(Layout(strings=2, modules=2, cells=24, sensors=8))
    rare = {"Trip", "Discovery"}  # of any address, kept apart: see test_c_sender_to_snapshot.py
    assert {*slots.message_names} | rare == {message.name for message in DATABASE.messages if by_node(message)}


def sent_by_bmsd() -> dict[str, Frame]:
    """Return one frame of every message that poller and commands write, as they write it."""
    layout = Layout(strings=1, modules=2, cells=16, sensors=4)
    asking = Poller(Timing(tick_s=0.1, poll_s=0.2, current_phases=4), layout)
    frames = [frame for k in range(40) for frame in asking.step(0.05 * k, unidentified=(1, 2, 65))]
    off, cells = np.zeros(1, dtype=np.bool_), np.zeros(layout.cell_shape, dtype=np.bool_)
    order = Command(
        cvl_v=None, dvl_v=None, ccl_a=0.0, dcl_a=0.0, charge_enabled=False, discharge_enabled=False,
        close_minus=off, close_precharge=off, close_plus=off, inverter_enable=off, commanded=~off, balance=cells,
        heartbeat=True, trip_resets=((65, 1), (2, 3)),
    )  # fmt: skip
    frames += Commands(layout, balance_lease_s=60.0).frames(order, 0.0)
    return {DATABASE.get_message_by_frame_id(frame.can_id).name: frame for frame in frames}


def test_the_daemon_sends_every_message_of_bmsd_but_addresses() -> None:
    ours = {message.name for message in DATABASE.messages if not by_node(message)}
    assert {*sent_by_bmsd()} == ours - {"AssignAddress"}, (
        "docs/slave-protocol.md, section 9, says who assigns addresses"
    )


def test_frames_of_the_daemon_are_valid_and_carry_the_leases_of_the_contract() -> None:
    values = {}
    for name, frame in sent_by_bmsd().items():
        assert with_crc(frame.can_id, frame.data) == frame.data, name
        values[name] = DATABASE.get_message_by_name(name).decode(frame.data, decode_choices=False)
    leases = {name: signals["Lease"] for name, signals in values.items() if "Lease" in signals}
    assert leases == {"Heartbeat": 1.0, "ContactorCommand": 1.0, "BalanceCommand": 60.0}
    assert values["Sync"]["PollPeriod"] == 0.2


def test_the_daemon_asks_for_slow_groups_in_the_order_of_contract_and_budget() -> None:
    names = DATABASE.get_message_by_name("Sync").get_signal_by_name("SlowGroup").choices
    assert tuple(str(names[group]) for group in poller.SLOW_ROTATION) == bus_time.SLOW_ROTATION
