"""A node that boots anew: what it forgets, what it keeps, and what the receive path makes of it."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
from slave_traffic import Driver, balance, heartbeat, sync, trip_reset
from unit_bench import ADDRESS, CLOSED, OPEN, Bench, trip

from bmsd.fieldbus.receive import Receiver
from bmsd.model.frame import Frame
from bmsd.model.layout import Layout
from bmsd.model.plant import Timing
from bmsd.model.snapshot import Input
from bmsd.sim.boards import CELL_OVER_VOLTAGE, OVER_TEMPERATURE, Measured, ModuleBoard
from bmsd.sim.contactor_unit import CURRENT_INVALID, EMERGENCY_STOP, OpenReason
from bmsd.sim.node import MODULE_BOARD, Identity, Node
from bmsd.sim.packing import Received, pack, unpack
from bmsd.sim.scenario import load_settings
from bmsd.sim.world import SimWorld
from tests import slave_frames


def read(frames: list[Frame], name: str) -> list[Received]:
    return [one for one in map(unpack, frames) if one is not None and one.name == name]


def boots(node: Node, now_s: float) -> int:
    node.receive(pack("IdentifyRequest", 0, {"Target": 0}), now_s)
    (version,) = read(node.step(now_s + 0.2), "IdentityVersion")
    return version.signals["BootCounter"]


# a contactor unit


def test_a_unit_boots_with_everything_open_and_nothing_heard() -> None:
    bench = Bench().closed(amps=50.0)
    before = boots(bench.unit, bench.now_s)
    bench.unit.receive(sync(1), bench.now_s)
    bench.unit.restart()
    assert not bench.unit.coil.any()
    assert not bench.unit.enable
    assert bench.unit.step(bench.now_s) == [], "answers of before are lost"
    state = bench.state().signals
    assert [state[f"{name}Output"] for name in ("Minus", "Plus", "Precharge", "InverterEnable")] == [0, 0, 0, 0]
    assert (state["OpenReason"], state["OpenedUnderLoad"]) == (OpenReason.POWER_ON, 0)
    assert (state["HeartbeatLost"], state["LeaseExpired"], state["TripCode"]) == (1, 1, 0)
    assert boots(bench.unit, bench.now_s) == before + 1
    bench.run(1.0)
    assert not bench.unit.coil.any(), "the controller has not noticed and still says: closed"
    bench.close, bench.enable = OPEN, 0
    bench.run(0.2)
    bench.close = CLOSED
    bench.run(0.2)
    assert bench.unit.coil.any()


def test_the_charge_counter_begins_at_zero_and_the_first_current_is_invalid() -> None:
    bench = Bench().closed(amps=50.0)
    assert bench.unit.charge_as > 40.0
    bench.unit.restart()
    bench.amps = 10.0
    values = []
    for number in range(3):
        bench.unit.receive(sync(number), bench.now_s)
        values += [one.signals for one in read(bench.unit.step(bench.now_s), "Current")]
        bench.run(0.2)
    assert [value["Charge"] for value in values] == [0, 200, 400]
    assert [value["Current"] for value in values] == [CURRENT_INVALID, 500, 500]


def test_a_unit_accepts_the_counter_that_it_heard_before_it_restarted() -> None:
    bench = Bench()
    bench.unit.receive(heartbeat(5), 0.0)
    bench.unit.restart()
    bench.unit.receive(heartbeat(5), 0.1)
    bench.unit.receive(sync(), 0.2)
    assert read(bench.unit.step(0.4), "ContactorState")[0].signals["HeartbeatLost"] == 0


def test_a_trip_of_a_board_is_still_latched_in_the_unit_but_not_sent_by_it() -> None:
    bench = Bench().closed(amps=0.0)
    bench.unit.receive(trip(code=1), bench.now_s)
    bench.close = OPEN
    bench.run(1.0)
    bench.unit.restart()
    said = bench.run(0.3)
    assert [one for _, one in said if one.name == "Trip"] == []
    state = bench.state().signals
    assert (state["TripCode"], state["TripSource"], state["OpenReason"]) == (1, 3, OpenReason.POWER_ON)
    bench.unit.receive(trip_reset(ADDRESS, 1, 1), bench.now_s)
    assert bench.unit.trip_code == 1, "it cannot know yet that nobody sends a trip"
    bench.close = CLOSED
    bench.run(0.3)
    assert not bench.unit.coil.any()
    bench.unit.receive(trip_reset(ADDRESS, 1, 2), bench.now_s)
    assert bench.unit.trip_code == 0


def test_a_latched_emergency_stop_is_sent_again_after_a_restart() -> None:
    bench = Bench().closed(amps=0.0)
    bench.unit.wires.emergency_stop = Input.ACTIVE
    bench.run(1.0)
    bench.unit.wires.emergency_stop = Input.OK
    bench.unit.restart()
    said = [(at, one.signals) for at, one in bench.run(0.5) if one.name == "Trip"]
    assert {signals["TripCode"] for _, signals in said} == {EMERGENCY_STOP}
    assert [signals["Repeat"] for _, signals in said] == [0, 1, 2, 3, 4]
    assert np.diff([at for at, _ in said]) == pytest.approx(0.1)
    assert (bench.unit.trip_code, bench.unit.trip_source) == (EMERGENCY_STOP, ADDRESS)


# a module board


def board_with(cell_v: float = 3.3, degc: float = 25.0) -> tuple[ModuleBoard, Measured]:
    board = ModuleBoard(7, Identity(0xB5D000010007, MODULE_BOARD, 16, 4))
    measured = Measured(np.full(16, cell_v), np.full(4, degc), 16 * cell_v)
    board.measure(measured)
    return board, measured


def alive(board: ModuleBoard, start_s: float, end_s: float) -> list[tuple[float, Frame]]:
    said = []
    for count in range(round((end_s - start_s) / 0.05) + 1):
        now_s = start_s + 0.05 * count
        if count % 2 == 0:
            board.receive(heartbeat(round(now_s * 10)), now_s)
        said += [(now_s, frame) for frame in board.step(now_s)]
    return said


def test_a_board_boots_with_nothing_bleeding_and_does_not_go_on_by_itself() -> None:
    board, _ = board_with()
    board.receive(balance(7, 1, 0b101, 60), 0.0)
    alive(board, 0.0, 1.0)
    assert board.bleeding.any()
    before = boots(board, 1.0)
    board.restart()
    assert not board.bleeding.any()
    assert boots(board, 1.2) == before + 1
    alive(board, 1.4, 3.0)
    assert not board.bleeding.any(), "the command was given to the board of before"


def test_a_boards_trip_is_latched_again_and_sent_again() -> None:
    board, measured = board_with(cell_v=3.8)
    alive(board, 0.0, 1.5)
    assert (board.trip_code, board.trip_cell) == (CELL_OVER_VOLTAGE, 1)
    measured.cell_v[:] = 3.3
    board.restart()
    said = [(at, one) for at, frame in alive(board, 1.55, 2.0) for one in read([frame], "Trip")]
    assert [one.signals["Repeat"] for _, one in said] == list(range(len(said)))
    assert said[0][0] == pytest.approx(1.55)
    assert np.diff([at for at, _ in said]) == pytest.approx(0.1)
    assert {one.signals["TripCode"] for _, one in said} == {CELL_OVER_VOLTAGE}
    board.receive(trip_reset(7, CELL_OVER_VOLTAGE, 1), 2.0)
    assert read([frame for _, frame in alive(board, 2.05, 3.0)], "Trip") == []


def test_a_restarted_board_does_not_release_a_trip_whose_cause_is_there() -> None:
    board, _ = board_with(cell_v=3.8)
    alive(board, 0.0, 1.5)
    board.restart()
    board.receive(trip_reset(7, CELL_OVER_VOLTAGE, 1), 1.51)
    assert board.trip_code == CELL_OVER_VOLTAGE


@pytest.mark.parametrize(("code", "unknown"), [(CELL_OVER_VOLTAGE, "cell"), (OVER_TEMPERATURE, "sensor")])
def test_a_cause_that_a_board_cannot_see_is_not_gone(code: int, unknown: str) -> None:
    board, measured = board_with(3.8, 25.0) if unknown == "cell" else board_with(3.3, 70.0)
    alive(board, 0.0, 1.5)
    assert board.trip_code == code
    measured.cell_v[:], measured.sensor_degc[:] = 3.3, 25.0
    seen = measured.cell_v if unknown == "cell" else measured.sensor_degc
    seen[2] = math.nan
    board.receive(trip_reset(7, code, 1), 1.5)
    assert board.trip_code == code
    seen[2] = 3.3
    board.receive(trip_reset(7, code, 2), 1.6)
    assert board.trip_code == 0


def test_a_board_with_a_latched_trip_does_not_bleed() -> None:
    board, measured = board_with()
    board.receive(balance(7, 1, 0b101, 60), 0.0)
    alive(board, 0.0, 1.0)
    assert board.bleeding.any()
    measured.sensor_degc[0] = 70.0
    alive(board, 1.05, 2.1)
    assert board.trip_code == OVER_TEMPERATURE
    assert not board.bleeding.any()
    measured.sensor_degc[0] = 25.0
    alive(board, 2.15, 3.0)
    assert not board.bleeding.any()


def test_a_balancing_lease_longer_than_a_minute_counts_for_a_minute() -> None:
    board, _ = board_with()
    board.receive(balance(7, 1, 0b1, 255), 0.0)
    alive(board, 0.0, 59.9)
    assert board.bleeding.any()
    alive(board, 59.95, 60.0)
    assert not board.bleeding.any()


def test_a_balancing_command_that_repeats_its_counter_once_a_second_does_not_stand() -> None:
    board, _ = board_with()
    for second in range(6):
        board.receive(balance(7, 4, 0b1, 2), second * 1.01)
        alive(board, second * 1.01, second * 1.01 + 0.95)
        assert board.bleeding.any() == (second < 2), second


# the mishap


LAYOUT = Layout(2, 2, 16, 4)


def world_with(*mishaps: dict[str, object], layout: Layout = LAYOUT, **table: object) -> SimWorld:
    return SimWorld(load_settings({"soc0_spread": 0.0, "mishap": list(mishaps), **table}, layout, 100.0))


@pytest.mark.parametrize(
    ("where", "boards", "units"),
    [
        ({"module": 2, "string": 1}, [1, 2, 1, 1], [1, 1]),
        ({"string": 2}, [1, 1, 2, 2], [1, 1]),
        ({}, [2, 2, 2, 2], [1, 1]),
        ({"node": "unit", "string": 2}, [1, 1, 1, 1], [1, 2]),
        ({"node": "unit"}, [1, 1, 1, 1], [2, 2]),
    ],
)
def test_a_restart_happens_once_to_the_named_nodes(
    where: dict[str, object], boards: list[int], units: list[int]
) -> None:
    world = world_with({"kind": "restart", "start_s": 0.5, **where})
    driver = Driver(world, step_s=0.005)
    driver.run(0.5)
    assert {node.identity.boot_counter for node in (*world.boards, *world.units)} == {1}
    driver.run(1.0)
    assert [board.identity.boot_counter for board in world.boards] == boards
    assert [unit.identity.boot_counter for unit in world.units] == units


def test_a_unit_that_restarts_opens_its_string_and_the_charge_begins_anew() -> None:
    world = world_with({"kind": "restart", "node": "unit", "start_s": 20.0}, layout=Layout(1, 2, 16, 4))
    driver = Driver(world, step_s=0.005)
    driver.close_contactors()
    driver.run(20.0 - driver.now_s)
    assert world.rack.plus_closed.all()
    before_as = world.truth().unit_charge_as[0]
    assert abs(before_as) > 1.0
    driver.run(0.5)
    assert not world.truth().contacts.any()
    assert abs(world.truth().unit_charge_as[0]) < 0.1, "only what flowed until the contacts were apart"


# what the receive path makes of it


def heard(world: SimWorld, seconds: float, step_s: float = 0.005) -> Iterator[tuple[float, Receiver]]:
    """Poll a world and let the real receive path hear its answers; yields it after every step."""
    receiver = Receiver(world.settings.layout, Timing(0.1, 0.2, 4))
    driver = Driver(world, step_s)
    for count in range(round(seconds / step_s)):
        now_s = driver.now_s
        if count % round(0.05 / step_s) == 0:
            number, phase = divmod(count // round(0.05 / step_s), 4)
            receiver.sync_sent(number % 256, phase, (1, 2, 1, 3, 0)[number % 5] if phase == 0 else 0, now_s)
        receiver.feed(slave_frames.raw(*(frame for _, frame in driver.run(step_s))), now_s)
        yield now_s, receiver


def test_a_restart_of_a_unit_is_no_charge() -> None:
    world = world_with({"kind": "restart", "node": "unit", "start_s": 3.1}, unit={"shunt_offset_a": 200.0})
    seen = [receiver.units(now_s).charge_as.copy() for now_s, receiver in heard(world, 6.0)]
    steps = np.diff([charge for charge in seen if np.isfinite(charge).all()], axis=0)
    assert len(steps) > 500
    assert steps.max() == pytest.approx(10.0, abs=0.02), "200 A for 50 ms"
    assert steps.min() >= 0.0, "the counter that began anew was taken for charge that left the cells"


def test_the_receive_path_hears_trips_of_boards_and_of_every_unit() -> None:
    layout = Layout(8, 1, 16, 4)
    for string in range(1, 9):
        world = world_with({"kind": "emergency_stop", "string": string, "start_s": 0.3, "end_s": 0.4}, layout=layout)
        *_, (now_s, receiver) = heard(world, 0.8)
        assert set(receiver.trips) == {64 + string}
        assert receiver.trips[64 + string].code == EMERGENCY_STOP
        assert receiver.units(now_s).trip_code.tolist() == [EMERGENCY_STOP] * 8, "all have latched it"
    world = world_with({"kind": "cell_voltage", "string": 3, "cell": 5, "value": 3.8}, layout=layout)
    *_, (now_s, receiver) = heard(world, 1.6)
    assert {address: (one.code, one.cell) for address, one in receiver.trips.items()} == {3: (CELL_OVER_VOLTAGE, 5)}
    assert np.flatnonzero(receiver.modules(now_s).trip_active).tolist() == [2]
    assert receiver.units(now_s).trip_code.tolist() == [CELL_OVER_VOLTAGE] * 8


def test_a_trip_of_a_unit_is_known_before_its_next_state() -> None:
    world = world_with({"kind": "emergency_stop", "string": 2, "start_s": 0.41})
    codes = {round(now_s, 3): receiver.units(now_s).trip_code.tolist() for now_s, receiver in heard(world, 0.8)}
    assert codes[0.405] == [0, 0]
    assert codes[0.415] == [0, EMERGENCY_STOP], "by its TRIP; the state of this poll was latched before"
    assert codes[0.55] == [0, EMERGENCY_STOP], "that state does not take it back"
    assert codes[0.75] == [EMERGENCY_STOP, EMERGENCY_STOP]
