from __future__ import annotations

import time
from collections import Counter, defaultdict

import numpy as np
import pytest
from slave_traffic import Driver, balance, flags, limits, trip_reset

from bmsd.model.frame import Frame
from bmsd.model.layout import Layout
from bmsd.sim.boards import CELL_OVER_VOLTAGE
from bmsd.sim.cells import Cells
from bmsd.sim.contactor_unit import OpenReason
from bmsd.sim.inverter import Profile
from bmsd.sim.packing import CELL_OPEN_WIRE, SENSOR_OPEN, SENSOR_SHORT, Received, unpack
from bmsd.sim.scenario import SimSettings, load_settings
from bmsd.sim.world import SimWorld

SMALL = Layout(1, 2, 16, 4)
TWO = Layout(2, 1, 16, 4)


def settings_of(layout: Layout = SMALL, **table: object) -> SimSettings:
    return load_settings({"soc0_spread": 0.0, **table}, layout, 100.0)


def world_with(*mishaps: dict[str, object], layout: Layout = SMALL, **table: object) -> SimWorld:
    return SimWorld(settings_of(layout, mishap=list(mishaps), **table))


def running(world: SimWorld, cvl_v: float = 115.0, ccl_a: float = 100.0, dcl_a: float = 100.0) -> Driver:
    """Return a driver with closed contactors and limits told."""
    driver = Driver(world, step_s=0.005)
    driver.told = [limits(cvl_v, ccl_a, dcl_a, 80.0), flags()]
    driver.close_contactors()
    assert world.rack.plus_closed.all()
    return driver


def read(said: list[tuple[float, Frame]], name: str, address: int | None = None) -> list[tuple[float, Received]]:
    received = [(at, unpack(frame)) for at, frame in said]
    return [
        (at, one) for at, one in received if one and one.name == name and (address is None or one.address == address)
    ]


# the rack as a whole


def test_before_it_is_asked_a_rack_says_nothing_and_is_open() -> None:
    world = SimWorld(settings_of())
    for count in range(200):
        field, _ = world.step(0.01 * count)
        assert field == []
    truth = world.truth()
    assert truth.bus_v == 0.0
    assert not truth.contacts.any()


def test_all_frames_of_a_poll_are_there_100_ms_after_its_sync() -> None:
    world = SimWorld(load_settings({}, Layout(8, 4, 24, 8), 100.0))
    said = Driver(world, step_s=0.0005).run(0.999)
    polls: dict[float, Counter[str]] = defaultdict(Counter)
    for at, frame in said:
        received = unpack(frame)
        assert received is not None
        start_s = 0.2 * int(at / 0.2 + 1e-6)
        assert at - start_s <= 0.1 or received.name == "Current"
        polls[round(start_s, 3)][received.name] += 1
    assert len(polls) == 5
    for start_s, counts in list(polls.items())[1:]:
        assert counts["Current"] == 32, start_s
        assert counts["StringVoltages"] == counts["ContactorState"] == 8
        assert {counts[f"CellVoltages{n}"] for n in range(1, 7)} == {32}


def test_a_precharged_string_closes_without_an_inrush_and_carries_what_the_inverter_wants() -> None:
    world = SimWorld(settings_of(inverter={"charge_a": 40.0}))
    driver = running(world)
    driver.run(8.0)
    truth = world.truth()
    assert truth.peak_a[0] < 100.0
    assert truth.inverter_a == pytest.approx(40.0, rel=1e-2)
    assert truth.string_a[0] == pytest.approx(40.0 - truth.load_a, abs=0.3)
    assert truth.load_a == pytest.approx(50.0 / truth.bus_v, rel=0.05)


def test_without_precharge_the_inrush_is_there() -> None:
    world = SimWorld(settings_of())
    driver = Driver(world, step_s=0.005)
    driver.run(0.3)
    driver.close = (1, 0, 1)
    driver.run(0.3)
    assert world.truth().peak_a[0] > 1000.0


def charge_as(world: SimWorld) -> float:
    """Mean true charge of the cells: without bleeding all of them move alike."""
    cells = world.rack.cells
    assert isinstance(cells, Cells)
    return float(cells.charge_as.mean())


def test_the_charge_counter_is_the_charge_that_the_cells_got_despite_ripple() -> None:
    world = SimWorld(settings_of(inverter={"charge_a": 60.0}, bus={"ripple_a": 20.0}))
    before = charge_as(world)
    driver = running(world)
    said = driver.run(5.0)
    moved_as = charge_as(world) - before
    assert moved_as > 100.0
    assert world.truth().unit_charge_as[0] == pytest.approx(moved_as, abs=1e-6)
    _, last = read(said, "Current")[-1]
    assert last.signals["Charge"] * 0.01 == pytest.approx(moved_as, abs=0.05 * 60.0)


def test_reported_cells_are_the_true_ones_to_half_a_count() -> None:
    world = world_with(layout=Layout(1, 2, 16, 4), soc0_spread=0.05)
    said = Driver(world, step_s=0.005).run(0.5)
    for module in (0, 1):
        true_v = world.truth().cell_v[0, module]
        for group in range(4):
            _, last = read(said, f"CellVoltages{group + 1}", module + 1)[-1]
            seen_v = [last.signals[f"Cell{4 * group + k}Voltage"] * 0.000625 for k in (1, 2, 3, 4)]
            assert seen_v == pytest.approx(true_v[4 * group : 4 * group + 4], abs=0.00032)


def test_each_board_reports_the_voltage_of_its_own_module() -> None:
    world = SimWorld(settings_of(soc0=0.15, soc0_spread=0.03))
    said = Driver(world, step_s=0.005).run(1.0)
    true_v = world.truth().cell_v[0].sum(axis=1)
    assert abs(true_v[0] - true_v[1]) > 0.01
    for module in (0, 1):
        _, state = read(said, "ModuleState", module + 1)[-1]
        assert state.signals["ModuleVoltage"] * 0.002 == pytest.approx(true_v[module], abs=0.0011)


def test_a_dead_daemon_stops_the_current_and_opens_the_rack() -> None:
    world = SimWorld(settings_of(inverter={"charge_a": -60.0}))
    driver = running(world)
    driver.run(8.0)
    assert world.truth().string_a[0] < -55.0
    driver.heartbeats = driver.commands = False
    driver.told = None
    driver.run(0.9)
    assert world.truth().string_a[0] < -55.0
    driver.run(0.5)
    assert abs(world.truth().inverter_a) < 1.0
    driver.run(1.0)
    assert not world.truth().contacts.any()
    assert world.units[0].open_reason == OpenReason.HEARTBEAT_LOST
    assert not world.units[0].opened_under_load


def test_unaddressed_nodes_stay_silent() -> None:
    world = SimWorld(settings_of(addressed=False))
    assert Driver(world, step_s=0.005).run(1.0) == []


def test_bleeders_take_charge_from_the_cells_they_are_told() -> None:
    world = SimWorld(settings_of())
    driver = Driver(world, step_s=0.005)
    driver.run(0.3)
    for count in range(4):
        driver.run(1.0, [balance(2, count, 0b100)])
    assert np.argwhere(world.truth().bleeding).tolist() == [[0, 1, 2]]
    soc = world.truth().cell_soc - SimWorld(settings_of()).truth().cell_soc
    assert (soc < -1e-7).sum() == 1


def test_the_same_seed_gives_the_same_frames() -> None:
    mishap = {"kind": "garbage", "share": 0.3}
    first, again = (Driver(world_with(mishap, soc0_spread=0.02), step_s=0.005).run(1.0) for _ in range(2))
    assert first == again


def test_a_long_pause_is_walked_through_and_conserves_charge() -> None:
    world = SimWorld(settings_of(inverter={"charge_a": 40.0, "enable_wired": False}))
    driver = running(world)
    before, counted = charge_as(world), world.truth().unit_charge_as[0]
    now_s = driver.now_s
    for told in (limits(115.0, 100.0, 100.0, 80.0), flags()):
        world.inverter.receive(told, now_s + 2.0)
    world.step(now_s + 2.0)
    passed = world.truth().unit_charge_as[0] - counted
    assert passed != 0.0
    assert passed == pytest.approx(charge_as(world) - before, abs=1e-6)


# mishaps


def test_a_hot_cell_trips_its_board_and_the_board_opens_the_rack_without_bmsd() -> None:
    world = world_with({"kind": "hot_cell", "module": 2, "cell": 3, "start_s": 13.0, "value": 600.0})
    driver = running(world)
    said = driver.run(8.0)
    times = [at for at, _ in read(said, "Trip", 2)]
    assert times
    assert np.diff(times) == pytest.approx(0.1)
    truth = world.truth()
    assert truth.cell_degc[0, 1, 2] > 65.0
    assert not truth.contacts.any()
    assert (world.units[0].trip_code, world.units[0].trip_source) == (3, 2)


def test_a_trip_opens_every_string_of_the_rack() -> None:
    mishap = {"kind": "cell_voltage", "string": 1, "cell": 5, "start_s": 13.0, "value": 3.8}
    world = world_with(mishap, layout=TWO)
    driver = Driver(world, step_s=0.005)
    driver.told = [limits(57.6, 100.0, 100.0, 44.8), flags()]
    driver.close_contactors()
    assert world.rack.plus_closed.all()
    driver.run(2.5)
    assert not world.truth().contacts.any()
    assert [unit.trip_source for unit in world.units] == [1, 1]


def test_a_trip_is_reset_at_the_board_and_then_at_the_unit() -> None:
    world = world_with({"kind": "cell_voltage", "module": 1, "cell": 5, "end_s": 2.0, "value": 3.8})
    driver = Driver(world, step_s=0.005)
    driver.run(3.0)
    assert world.boards[0].trip_code == CELL_OVER_VOLTAGE
    driver.run(0.1, [trip_reset(65, CELL_OVER_VOLTAGE, 1)])
    assert world.units[0].trip_code == CELL_OVER_VOLTAGE, "the board goes on tripping"
    driver.run(1.0, [trip_reset(1, CELL_OVER_VOLTAGE, 1)])
    driver.run(0.1, [trip_reset(65, CELL_OVER_VOLTAGE, 2)])
    assert world.units[0].trip_code == 0


def cells_by_board(said: list[tuple[float, Frame]]) -> Counter[int]:
    return Counter(one.address for _, one in read(said, "CellVoltages1"))


def test_lost_frames_are_those_of_the_named_module_for_the_named_time() -> None:
    world = world_with({"kind": "lost", "module": 2, "start_s": 1.0, "end_s": 2.0})
    driver = Driver(world, step_s=0.005)
    assert cells_by_board(driver.run(1.0)) == {1: 5, 2: 5}
    assert cells_by_board(driver.run(1.0)) == {1: 5}
    assert cells_by_board(driver.run(1.0)) == {1: 5, 2: 5}


def test_a_share_of_frames_is_lost() -> None:
    world = world_with({"kind": "lost", "module": 2, "share": 0.5})
    said = Driver(world, step_s=0.005).run(10.0)
    lost = 1.0 - sum(one.address == 2 for _, one in read(said, "CellVoltages1")) / 50
    assert 0.3 < lost < 0.7


def test_a_stuck_node_repeats_one_frame_with_a_good_crc_and_a_dead_counter() -> None:
    world = world_with({"kind": "stuck", "module": 1})
    said = Driver(world, step_s=0.005).run(2.0)
    frames = [frame.data for _, frame in said if (one := unpack(frame)) and one.name == "CellVoltages1"]
    assert len(set(frames)) == 11
    counters = [one.signals["Counter"] for _, one in read(said, "CellVoltages1", 1)]
    assert len(counters) == 10
    assert len(set(counters)) == 1


def test_frozen_readings_have_a_live_counter() -> None:
    world = world_with({"kind": "frozen_readings", "module": 1, "start_s": 13.0}, inverter={"charge_a": 80.0})
    driver = running(world)
    said = driver.run(6.0)
    stuck = [one.signals for _, one in read(said, "CellVoltages1", 1)][5:]
    alive = [one.signals for _, one in read(said, "CellVoltages1", 2)][5:]
    assert len({one["Cell1Voltage"] for one in stuck}) == 1
    assert len({one["Cell1Voltage"] for one in alive}) > 3
    assert len({one["Counter"] for one in stuck}) == 16


def test_garbage_hardly_ever_passes_the_crc() -> None:
    world = world_with({"kind": "garbage", "module": 1})
    said = Driver(world, step_s=0.005).run(10.0)
    spoilt = [frame for _, frame in said if frame.can_id & 0x7F == 1]
    assert len(spoilt) > 200
    assert sum(unpack(frame) is not None for frame in spoilt) < 10


def test_delayed_frames_come_later_and_in_order() -> None:
    world = world_with({"kind": "delayed", "module": 1, "value": 0.15, "end_s": 1.0})
    said = Driver(world, step_s=0.005).run(2.0)
    late = [at % 0.2 for at, _ in read(said, "CellVoltages1", 1)][:3]
    assert late == pytest.approx([0.155] * 3, abs=0.01)
    assert len(read(said, "CellVoltages1", 1)) == len(read(said, "CellVoltages1", 2))


def test_an_offset_and_a_forced_voltage_are_what_the_board_reports() -> None:
    world = world_with(
        {"kind": "offset", "module": 1, "value": 0.05},
        {"kind": "cell_voltage", "module": 1, "cell": 2, "value": 3.0},
    )
    said = Driver(world, step_s=0.005).run(0.5)
    one = read(said, "CellVoltages1", 1)[-1][1].signals
    true_v = world.truth().cell_v[0, 0]
    assert one["Cell1Voltage"] * 0.000625 == pytest.approx(true_v[0] + 0.05, abs=4e-4)
    assert one["Cell2Voltage"] * 0.000625 == pytest.approx(3.0)


def test_broken_wires_and_sensors_have_their_codes() -> None:
    world = world_with(
        {"kind": "open_wire", "module": 1, "cell": 1},
        {"kind": "sensor_open", "module": 1, "cell": 1},
        {"kind": "sensor_short", "module": 1, "cell": 2},
    )
    said = Driver(world, step_s=0.005).run(0.5)
    assert read(said, "CellVoltages1", 1)[-1][1].signals["Cell1Voltage"] == CELL_OPEN_WIRE
    degc = read(said, "Temperatures1", 1)[-1][1].signals
    assert (degc["Sensor1Temperature"], degc["Sensor2Temperature"]) == (SENSOR_OPEN, SENSOR_SHORT)
    assert degc["Sensor3Temperature"] == 2500


def test_a_silent_board_says_and_hears_nothing() -> None:
    world = world_with({"kind": "silent_board", "module": 2, "start_s": 1.0})
    driver = Driver(world, step_s=0.005)
    driver.run(1.0)
    driver.run(0.2, [balance(1, 1, 1), balance(2, 1, 1)])
    assert cells_by_board(driver.run(1.0)) == {1: 5}
    assert world.truth().bleeding.any(axis=2)[0].tolist() == [True, False]


def test_a_silent_unit_leaves_the_modules_speaking() -> None:
    world = world_with({"kind": "silent_board", "node": "unit"})
    said = Driver(world, step_s=0.005).run(1.0)
    assert read(said, "Current") == []
    assert cells_by_board(said) == {1: 5, 2: 5}


def test_a_welded_contactor_stays_closed_and_its_feedback_says_so() -> None:
    world = world_with({"kind": "welded_contactor", "contact": "plus", "start_s": 12.3})
    driver = running(world)
    driver.run(0.5)
    driver.close, driver.enable = (0, 0, 0), 0
    said = driver.run(1.0)
    assert world.truth().contacts[0].tolist() == [False, False, True]
    assert world.truth().coils[0].tolist() == [False, False, False]
    state = read(said, "ContactorState")[-1][1].signals
    assert (state["PlusFeedback"], state["PlusOutput"], state["MinusFeedback"]) == (1, 0, 0)


def test_an_emergency_stop_opens_all_units() -> None:
    world = world_with({"kind": "emergency_stop", "string": 1, "start_s": 13.0}, layout=TWO)
    driver = Driver(world, step_s=0.005)
    driver.told = [limits(57.6, 100.0, 100.0, 44.8), flags()]
    driver.close_contactors()
    driver.run(1.5)
    assert not world.truth().contacts.any()
    assert [unit.open_reason for unit in world.units] == [OpenReason.EMERGENCY_STOP, OpenReason.TRIP_FRAME]


def test_an_emergency_stop_is_reset_at_every_unit_once_the_button_is_out() -> None:
    world = world_with({"kind": "emergency_stop", "string": 1, "end_s": 1.0}, layout=TWO)
    driver = Driver(world, step_s=0.005)
    driver.run(1.5)
    assert [unit.trip_code for unit in world.units] == [7, 7]
    driver.run(1.0, [trip_reset(66, 7, 1), trip_reset(65, 7, 1)])
    assert [unit.trip_code for unit in world.units] == [0, 7], "the second still heard the first"
    driver.run(0.1, [trip_reset(66, 7, 2)])
    assert [unit.trip_code for unit in world.units] == [0, 0]


def test_an_inverter_that_ignores_limits_is_stopped_by_its_enable_contact() -> None:
    world = world_with({"kind": "inverter_ignores_limits"}, inverter={"charge_a": 70.0})
    driver = running(world, ccl_a=10.0)
    driver.run(8.0)
    assert world.truth().inverter_ccl_a == pytest.approx(10.0)
    assert world.truth().inverter_a == pytest.approx(70.0, rel=1e-2)
    driver.enable = 0
    driver.run(1.0)
    assert abs(world.truth().inverter_a) < 1.0


@pytest.mark.parametrize(
    ("kind", "reason"), [("interlock_open", OpenReason.INTERLOCK), ("coil_supply_lost", OpenReason.COIL_SUPPLY)]
)
def test_interlock_and_coil_supply_open_the_named_string_only(kind: str, reason: OpenReason) -> None:
    world = world_with({"kind": kind, "string": 2, "start_s": 13.0}, layout=TWO)
    driver = Driver(world, step_s=0.005)
    driver.told = [limits(57.6, 100.0, 100.0, 44.8), flags()]
    driver.close_contactors()
    driver.run(1.5)
    assert world.rack.plus_closed.tolist() == [True, False]
    assert world.units[1].open_reason == reason


def test_a_jammed_contactor_does_not_close() -> None:
    world = world_with({"kind": "jammed_contactor", "contact": "minus"})
    driver = Driver(world, step_s=0.005)
    driver.close_contactors()
    assert world.truth().contacts[0].tolist() == [False, False, True]
    assert world.truth().bus_v == 0.0


# speed


def test_the_largest_rack_costs_less_than_half_a_core() -> None:
    world = SimWorld(load_settings({"inverter": {"charge_a": 50.0}}, Layout(2, 16, 16, 4), 280.0))
    driver = Driver(world)
    driver.close = (1, 1, 0)
    driver.run(0.5)
    begin_s = time.process_time()
    driver.run(3.0)
    assert (time.process_time() - begin_s) / 3.0 < 0.5


def test_profile_is_passed_on() -> None:
    assert settings_of(inverter={"profile": "square", "charge_a": 5.0}).inverter.profile == Profile("square", 5.0)


def test_each_string_starts_at_its_own_state_of_charge() -> None:
    soc = world_with(layout=TWO, soc0_by_string=[0.6, 0.2]).truth().cell_soc
    assert soc.mean(axis=(1, 2)) == pytest.approx([0.6, 0.2])


def test_a_load_across_the_bus_divides_the_voltage_with_the_precharge_resistor() -> None:
    world = world_with({"kind": "bus_load", "value": 150.0})
    driver = Driver(world, step_s=0.005)
    driver.run(0.5)
    driver.close = (1, 1, 0)
    driver.run(12.0)
    truth = world.truth()
    assert truth.bus_v == pytest.approx(0.75 * truth.string_v[0], rel=0.01)
    assert truth.string_a[0] == pytest.approx(-truth.bus_v / 150.0 - truth.load_a, rel=0.01)


def test_lost_feedback_reads_invalid_of_that_contact_only() -> None:
    world = world_with({"kind": "feedback_lost", "contact": "minus", "start_s": 0.3})
    states = [one.signals for _, one in read(Driver(world, step_s=0.005).run(1.0), "ContactorState")]
    names = ("MinusFeedback", "PrechargeFeedback", "PlusFeedback")
    assert [tuple(state[name] for name in names) for state in (states[0], states[-1])] == [(0, 0, 0), (3, 0, 0)]
