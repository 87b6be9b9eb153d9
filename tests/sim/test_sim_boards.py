from __future__ import annotations

from math import ceil, isinf

import numpy as np
import pytest
from slave_traffic import balance, heartbeat, sync, trip_reset

from bmsd.model.frame import Frame
from bmsd.sim.boards import (
    CELL_OVER_VOLTAGE,
    CELL_UNDER_VOLTAGE,
    OVER_TEMPERATURE,
    TRIP_NONE,
    Measured,
    ModuleBoard,
)
from bmsd.sim.node import MODULE_BOARD, UNADDRESSED, Identity
from bmsd.sim.packing import CELL_INVALID, CELL_OPEN_WIRE, SENSOR_INVALID, SENSOR_OPEN, Received, crc8, pack, unpack

UID = 0xB5D000010007


def board_at(address: int = 7, cells: int = 16, sensors: int = 4) -> ModuleBoard:
    board = ModuleBoard(address, Identity(UID, MODULE_BOARD, cells, sensors))
    wires(board)
    return board


def wires(board: ModuleBoard, cell_v: float = 3.3, degc: float = 25.0) -> Measured:
    cells = np.full(board.identity.cells, cell_v)
    sensors = np.full(board.identity.sensors, degc)
    measured = Measured(cells, sensors, cell_v * board.identity.cells)
    board.measure(measured)
    return measured


def read(frames: list[Frame]) -> list[Received]:
    received = [unpack(frame) for frame in frames]
    assert all(received)
    return [one for one in received if one is not None]


def spoil_crc(frame: Frame) -> Frame:
    return frame._replace(data=frame.data[:-1] + bytes((frame.data[-1] ^ 1,)))


def kept_alive(board: ModuleBoard, start_s: float, end_s: float, *, step_s: float = 0.05) -> list[tuple[float, Frame]]:
    """Run a board with a heartbeat every 0.1 s; return its frames with their times."""
    said = []
    for count in range(round((end_s - start_s) / step_s) + 1):
        now_s = start_s + count * step_s
        if count % 2 == 0:
            board.receive(heartbeat(round(now_s * 10)), now_s)
        said += [(now_s, frame) for frame in board.step(now_s)]
    return said


# slots and contents


@pytest.mark.parametrize("address", [1, 2, 16, 32])
def test_a_board_answers_a_sync_at_the_start_of_its_slot_and_not_before(address: int) -> None:
    board = board_at(address)
    board.step(9.99)
    board.receive(sync(number=3), 10.0)
    slot_s = 0.004 + 0.0026 * (address - 1)
    assert board.next_due_s == pytest.approx(10.0 + slot_s)
    assert board.step(10.0 + slot_s - 1e-4) == []
    assert [one.name for one in read(board.step(10.0 + slot_s + 1e-9))] == [f"CellVoltages{n}" for n in (1, 2, 3, 4)]
    assert board.step(10.2) == []


@pytest.mark.parametrize(("cells", "frames"), [(1, 1), (4, 1), (5, 2), (16, 4), (24, 6)])
def test_cells_fill_as_few_frames_as_can_be_and_the_rest_reads_invalid(cells: int, frames: int) -> None:
    board = board_at(cells=cells)
    board.receive(sync(number=19), 0.0)
    received = read(board.step(0.1))
    assert len(received) == frames == ceil(cells / 4)
    raw = [one.signals[f"Cell{4 * n + k}Voltage"] for n, one in enumerate(received) for k in (1, 2, 3, 4)]
    assert raw == [5280] * cells + [CELL_INVALID] * (4 * frames - cells)
    assert {one.signals["Counter"] for one in received} == {3}
    assert {one.address for one in received} == {7}


@pytest.mark.parametrize(
    ("group", "names"),
    [(0, []), (1, ["Temperatures1"]), (2, ["ModuleState"]), (3, ["NodeStatus"])],
)
def test_the_asked_slow_group_follows_the_cells(group: int, names: list[str]) -> None:
    board = board_at()
    board.receive(sync(slow_group=group), 0.0)
    assert [one.name for one in read(board.step(0.1))][4:] == names


def test_eight_sensors_need_two_frames_and_missing_ones_read_invalid() -> None:
    board = board_at(sensors=6)
    board.receive(sync(slow_group=1), 0.0)
    first, second = read(board.step(0.1))[4:]
    assert first.signals["Sensor4Temperature"] == 2500
    assert [second.signals[f"Sensor{n}Temperature"] for n in (5, 6, 7, 8)] == [2500, 2500, *[SENSOR_INVALID] * 2]


@pytest.mark.parametrize("phase", [1, 2, 3])
def test_boards_do_not_answer_the_current_phases(phase: int) -> None:
    board = board_at()
    board.receive(sync(phase=phase), 0.0)
    assert board.step(0.1) == []


def test_the_measurement_is_that_of_the_sync_not_of_the_slot() -> None:
    board = board_at()
    measured = wires(board)
    board.receive(sync(), 0.0)
    measured.cell_v[:] = 3.4
    assert read(board.step(0.1))[0].signals["Cell1Voltage"] == 5280


def test_a_new_sync_ends_the_poll_before_it() -> None:
    board = board_at(32)
    board.receive(sync(number=1), 0.0)
    board.receive(sync(number=2), 0.05)
    assert {one.signals["Counter"] for one in read(board.step(0.3))} == {2}


def test_an_unknown_voltage_and_a_broken_wire_have_their_codes() -> None:
    board = board_at()
    measured = wires(board)
    measured.cell_v[0] = np.nan
    measured.cell_code = np.array([0, CELL_OPEN_WIRE] + [0] * 14)
    measured.sensor_code = np.array([SENSOR_OPEN, 0, 0, 0])
    board.receive(sync(slow_group=1), 0.0)
    received = read(board.step(0.1))
    assert received[0].signals["Cell1Voltage"] == CELL_INVALID
    assert received[0].signals["Cell2Voltage"] == CELL_OPEN_WIRE
    assert received[0].signals["Cell3Voltage"] == 5280
    assert received[4].signals["Sensor1Temperature"] == SENSOR_OPEN


def test_a_sync_with_a_wrong_crc_is_not_answered() -> None:
    board = board_at()
    board.receive(spoil_crc(sync()), 0.0)
    assert board.step(0.2) == []


# balancing


def bleed(board: ModuleBoard, now_s: float, cells: int = 0b101, lease: int = 3, counter: int = 1) -> None:
    board.receive(balance(board.address, counter, cells, lease), now_s)


def test_after_power_on_nothing_bleeds_even_when_told_to_without_a_heartbeat() -> None:
    board = board_at()
    assert not board.bleeding.any()
    bleed(board, 0.0)
    board.step(0.05)
    assert not board.bleeding.any()


def test_a_board_bleeds_the_commanded_cells_with_heartbeat_and_lease() -> None:
    board = board_at()
    bleed(board, 0.0)
    kept_alive(board, 0.0, 1.0)
    assert np.flatnonzero(board.bleeding).tolist() == [0, 2]


def test_bleeding_ends_with_the_lease_of_its_command() -> None:
    board = board_at()
    kept_alive(board, 0.0, 1.0)
    bleed(board, 1.0)
    kept_alive(board, 1.1, 3.9)
    assert board.bleeding.any()
    kept_alive(board, 3.95, 4.0)
    assert not board.bleeding.any()


def test_bleeding_ends_one_second_after_the_last_heartbeat() -> None:
    board = board_at()
    bleed(board, 0.0, lease=60)
    kept_alive(board, 0.0, 1.0)
    board.step(1.95)
    assert board.bleeding.any()
    board.step(2.0)
    assert not board.bleeding.any()


def test_a_heartbeat_with_a_longer_lease_counts_for_one_second_only() -> None:
    board = board_at()
    bleed(board, 0.0, lease=60)
    board.receive(heartbeat(1, lease=255), 0.0)
    board.step(0.95)
    assert board.bleeding.any()
    board.step(1.0)
    assert not board.bleeding.any()


def test_a_heartbeat_that_does_not_count_is_no_heartbeat() -> None:
    board = board_at()
    bleed(board, 0.0, lease=60)
    for tick in range(30):
        board.receive(heartbeat(5), 0.1 * tick)
        board.step(0.1 * tick)
    assert not board.bleeding.any()


def test_a_heartbeat_with_a_wrong_crc_is_no_heartbeat() -> None:
    board = board_at()
    bleed(board, 0.0, lease=60)
    for tick in range(20):
        board.receive(spoil_crc(heartbeat(tick)), 0.1 * tick)
        board.step(0.1 * tick)
        assert not board.bleeding.any()


def test_a_restarted_sender_may_begin_with_the_counter_of_its_death() -> None:
    board = board_at()
    bleed(board, 0.0, lease=60)
    board.receive(heartbeat(0), 0.0)
    board.receive(heartbeat(0), 1.0)
    board.step(1.0)
    assert board.bleeding.any()


def test_a_repeated_balance_command_does_not_renew_its_lease() -> None:
    board = board_at()
    for tick in range(50):
        now_s = 0.1 * tick
        board.receive(heartbeat(tick), now_s)
        if tick % 9 == 0:
            bleed(board, now_s, lease=2, counter=4)
        board.step(now_s)
        assert board.bleeding.any() == (now_s < 2.0 - 1e-9), now_s


def test_commands_to_another_board_are_not_obeyed() -> None:
    board = board_at()
    board.receive(balance(8, 1, 0b1), 0.0)
    kept_alive(board, 0.0, 0.5)
    assert not board.bleeding.any()


def test_hot_bleeders_are_held_off_and_reported() -> None:
    board = board_at()
    wires(board).board_degc = 80.0
    now_s = 0.0
    seen = []
    for tick in range(6000):
        now_s = 0.1 * tick
        board.receive(heartbeat(tick), now_s)
        if tick % 10 == 0:
            bleed(board, now_s, cells=0xFFFF, counter=tick // 10)
        board.step(now_s)
        seen.append((bool(board.bleeding.any()), board.bleeder_degc))
    assert any(bleeding for bleeding, _ in seen)
    assert not all(bleeding for bleeding, _ in seen[100:])
    assert max(degc for _, degc in seen) < 86.0


def test_module_state_reads_back_what_bleeds_and_what_is_lost() -> None:
    board = board_at()
    board.receive(sync(slow_group=2), 0.0)
    state = read(board.step(0.1))[4].signals
    assert (state["HeartbeatLost"], state["LeaseExpired"], state["BalanceActive"]) == (1, 1, 0)
    bleed(board, 0.2, cells=0x8001)
    kept_alive(board, 0.2, 0.5)
    board.receive(sync(slow_group=2), 0.5)
    state = read(board.step(0.6))[4].signals
    assert (state["HeartbeatLost"], state["LeaseExpired"], state["BalanceActive"]) == (0, 0, 0x8001)
    assert state["ModuleVoltage"] == round(16 * 3.3 / 0.002)
    assert state["CellCount"] == 16


# own trips


def trips(said: list[tuple[float, Frame]]) -> list[tuple[float, Received]]:
    return [(at, one) for at, frame in said if (one := unpack(frame)) is not None and one.name == "Trip"]


@pytest.mark.parametrize(
    ("cell_v", "degc", "code"),
    [
        (3.75, 25.0, CELL_OVER_VOLTAGE),
        (2.40, 25.0, CELL_UNDER_VOLTAGE),
        (3.30, 65.0, OVER_TEMPERATURE),
        (3.7499, 64.9, TRIP_NONE),
        (2.4001, 25.0, TRIP_NONE),
        (float("nan"), float("nan"), TRIP_NONE),
    ],
)
def test_a_board_trips_at_its_own_limits_and_not_inside_them(cell_v: float, degc: float, code: int) -> None:
    board = board_at()
    kept_alive(board, 0.0, 1.0)
    measured = wires(board)
    measured.cell_v[4], measured.sensor_degc[2] = cell_v, degc
    said = trips(kept_alive(board, 1.05, 3.0))
    assert board.trip_code == code
    if code == TRIP_NONE:
        assert said == []
        return
    times = [at for at, _ in said]
    assert times[0] == pytest.approx(2.05, abs=0.051)
    assert np.diff(times) == pytest.approx(0.1)
    assert {one.signals["TripCode"] for _, one in said} == {code}
    assert {one.signals["CellNumber"] for _, one in said} == {3 if code == OVER_TEMPERATURE else 5}
    assert [one.signals["Repeat"] for _, one in said] == list(range(len(said)))


def test_a_dip_restarts_the_delay_of_a_trip() -> None:
    board = board_at()
    measured = wires(board)
    measured.cell_v[0] = 3.8
    kept_alive(board, 0.0, 0.9)
    measured.cell_v[0] = 3.7
    kept_alive(board, 0.95, 0.95)
    measured.cell_v[0] = 3.8
    assert trips(kept_alive(board, 1.0, 1.9)) == []
    assert trips(kept_alive(board, 1.95, 2.05)) != []


def test_two_cells_over_the_limit_in_turn_do_not_add_up() -> None:
    board = board_at()
    measured = wires(board)
    for half in range(6):
        measured.cell_v[:] = 3.3
        measured.cell_v[half % 2] = 3.8
        assert trips(kept_alive(board, 0.6 * half, 0.6 * half + 0.55)) == []


def test_a_trip_stays_until_it_is_reset_by_its_code_with_its_cause_gone() -> None:
    board = board_at()
    measured = wires(board, cell_v=3.8)
    kept_alive(board, 0.0, 2.0)
    board.receive(trip_reset(7, CELL_OVER_VOLTAGE, 1), 2.0)
    assert board.trip_code == CELL_OVER_VOLTAGE, "the cause is still there"
    measured.cell_v[:] = 3.3
    kept_alive(board, 2.05, 3.0)
    assert board.trip_code == CELL_OVER_VOLTAGE, "a trip does not clear itself"
    board.receive(trip_reset(7, CELL_UNDER_VOLTAGE, 2), 3.0)
    board.receive(trip_reset(8, CELL_OVER_VOLTAGE, 3), 3.0)
    board.receive(spoil_crc(trip_reset(7, CELL_OVER_VOLTAGE, 4)), 3.0)
    assert board.trip_code == CELL_OVER_VOLTAGE, "another code, another board, a wrong CRC"
    board.receive(trip_reset(7, CELL_OVER_VOLTAGE, 5), 3.0)
    assert board.trip_code == TRIP_NONE
    assert trips(kept_alive(board, 3.05, 4.0)) == []
    assert isinf(board.next_due_s)


# identification


def identify(target: int) -> Frame:
    return pack("IdentifyRequest", 0, {"Target": target})


@pytest.mark.parametrize(("target", "answers"), [(0, 2), (7, 2), (8, 0), (UNADDRESSED, 0)])
def test_a_board_identifies_itself_when_asked(target: int, answers: int) -> None:
    board = board_at()
    board.receive(identify(target), 0.0)
    received = read(board.step(0.2))
    assert len(received) == answers
    if received:
        assert received[0].signals["Uid"] == UID
        assert received[0].signals["CellCount"] == 16
        assert received[1].signals["SensorCount"] == 4
        assert received[1].signals["BoardType"] == MODULE_BOARD


def test_an_unaddressed_board_is_discovered_and_gets_its_address() -> None:
    board = board_at(UNADDRESSED)
    board.receive(sync(), 0.0)
    board.receive(identify(0), 0.0)
    assert board.step(0.3) == []
    board.receive(identify(UNADDRESSED), 1.0)
    (found,) = read(board.step(1.3))
    assert (found.name, found.signals["Uid"]) == ("Discovery", UID)
    assert found.address == crc8(UID.to_bytes(6, "little")) & 0x7F
    board.receive(pack("AssignAddress", 0, {"Uid": UID + 1, "Address": 9}), 2.0)
    board.receive(pack("AssignAddress", 0, {"Uid": UID, "Address": 65}), 2.0)
    assert board.address == UNADDRESSED, "another's, or a contactor unit's address"
    board.receive(pack("AssignAddress", 0, {"Uid": UID, "Address": 9}), 2.0)
    board.receive(sync(), 2.1)
    assert {one.address for one in read(board.step(2.3))} == {9}
