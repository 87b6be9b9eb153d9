"""Rules of the contract that a contactor unit must keep: what latches, what is released, what counts as a command."""

from __future__ import annotations

import numpy as np
import pytest
from slave_traffic import contactors, heartbeat, sync, trip_reset
from unit_bench import ADDRESS, CLOSED, OPEN, STEP_S, Bench, trip

from bmsd.model.snapshot import Input
from bmsd.sim.contactor_unit import (
    EMERGENCY_STOP,
    INTERLOCK,
    OVER_CURRENT,
    SELF_TEST,
    ContactorUnitSettings,
    OpenReason,
    Wires,
)
from bmsd.sim.node import Standing
from bmsd.sim.packing import Received, pack, unpack


def trips_of(said: list[tuple[float, Received]]) -> list[tuple[float, int]]:
    return [(at, one.signals["TripCode"]) for at, one in said if one.name == "Trip"]


# leases and counters


@pytest.mark.parametrize("kind", ["heartbeat", "command"])
def test_a_lease_longer_than_one_second_counts_for_one_second(kind: str) -> None:
    bench = Bench().closed(amps=50.0)
    bench.heartbeats = bench.commands = False
    start_s = bench.now_s
    bench.unit.receive(heartbeat(200, 255 if kind == "heartbeat" else 10), start_s)
    bench.unit.receive(contactors(ADDRESS, 9, *CLOSED, 1, 255 if kind == "command" else 10), start_s)
    while bench.unit.enable and bench.now_s < start_s + 3.0:
        other = heartbeat(bench.count) if kind == "command" else contactors(ADDRESS, bench.count, *CLOSED, 1)
        bench.unit.receive(other, bench.now_s)
        bench.run(STEP_S)
    assert bench.now_s - start_s == pytest.approx(1.0, abs=0.011)


def test_a_shorter_lease_counts_as_it_is_and_lease_zero_ends_it_at_once() -> None:
    for lease, lasts_s in ((3, 0.3), (0, 0.0)):
        standing = Standing(1.0)
        assert standing.take(1, 1.0, 0.0)
        assert standing.take(2, 0.1 * lease, 0.5)
        assert not standing.lost(0.5 + lasts_s - 1e-6) or lease == 0
        assert standing.lost(0.5 + lasts_s)


@pytest.mark.parametrize("forget_s", [1.0, 3.0])
def test_a_counter_is_forgotten_after_silence_and_a_repeated_frame_is_no_silence(forget_s: float) -> None:
    standing = Standing(1.0, forget_s)
    assert standing.take(7, 1.0, 0.0)
    now_s = 0.0
    for _ in range(5):
        now_s += forget_s - 0.001
        assert not standing.take(7, 1.0, now_s), "it is heard again and again"
    assert standing.take(7, 1.0, now_s + forget_s)
    assert standing.valid_s == now_s + forget_s


# closing again


def test_all_off_counts_only_while_no_cause_to_open_stands() -> None:
    bench = Bench()
    bench.unit.wires.coil_v = 10.0
    bench.run(1.0)
    bench.close = CLOSED
    bench.run(0.2)
    bench.unit.wires.coil_v = 24.0
    bench.run(1.0)
    assert not bench.unit.coil.any(), "all off came while the coil supply was gone"
    bench.close = OPEN
    bench.run(0.2)
    bench.close = CLOSED
    bench.run(0.2)
    assert bench.unit.coil.any()


@pytest.mark.parametrize("slept", [True, False])
def test_a_command_to_close_before_the_release_of_a_trip_takes_all_off_back(slept: bool) -> None:
    bench = Bench().closed(amps=0.0)
    bench.unit.receive(trip(), bench.now_s)
    bench.close = OPEN
    bench.run(1.0)
    if slept:
        bench.close = CLOSED
        bench.run(0.2)
    bench.unit.receive(trip_reset(ADDRESS, 1, 1), bench.now_s)
    assert bench.unit.trip_code == 0
    bench.close = CLOSED
    bench.run(1.0)
    assert bench.unit.coil.any() == (not slept)


# trips


def test_a_trip_frame_without_a_code_opens_and_latches_the_code_of_a_failed_self_test() -> None:
    bench = Bench().closed()
    bench.unit.receive(trip(code=0), bench.now_s)
    assert not bench.unit.coil.any()
    state = bench.state().signals
    assert (state["TripCode"], state["TripSource"], state["OpenReason"]) == (SELF_TEST, 3, OpenReason.TRIP_FRAME)
    bench.run(1.0)
    bench.unit.receive(trip_reset(ADDRESS, 0, 1), bench.now_s)
    assert bench.unit.trip_code == SELF_TEST, "nobody asked for this one"
    bench.unit.receive(trip_reset(ADDRESS, SELF_TEST, 2), bench.now_s)
    assert bench.unit.trip_code == 0


def test_a_code_that_the_unit_does_not_know_latches_like_any_other() -> None:
    bench = Bench().closed()
    bench.unit.receive(trip(code=199), bench.now_s)
    assert not bench.unit.coil.any()
    assert bench.state().signals["TripCode"] == 199


def test_over_current_and_interlock_latch_and_only_an_emergency_stop_is_sent_as_trip() -> None:
    for code in (OVER_CURRENT, INTERLOCK, EMERGENCY_STOP):
        bench = Bench(ContactorUnitSettings(over_current_a=300.0)).closed()
        if code == OVER_CURRENT:
            bench.amps = 2000.0
        elif code == INTERLOCK:
            bench.unit.wires.interlock = Input.ACTIVE
        else:
            bench.unit.wires.emergency_stop = Input.ACTIVE
        said = trips_of(bench.run(0.5))
        assert not bench.unit.coil.any()
        bench.amps = 0.0
        bench.unit.wires = Wires()
        said += trips_of(bench.run(1.0))
        assert (bench.unit.trip_code, bench.unit.trip_source) == (code, ADDRESS), "it latches"
        assert {sent for _, sent in said} == ({EMERGENCY_STOP} if code == EMERGENCY_STOP else set())


def test_an_emergency_stop_on_top_of_another_trip_is_sent_until_that_one_is_released() -> None:
    bench = Bench().closed(amps=0.0)
    bench.unit.receive(trip(code=1), bench.now_s)
    bench.unit.wires.emergency_stop = Input.ACTIVE
    bench.run(0.3)
    bench.unit.wires.emergency_stop = Input.OK
    assert {code for _, code in trips_of(bench.run(0.5))} == {EMERGENCY_STOP}
    assert (bench.unit.trip_code, bench.unit.trip_source) == (1, 3), "the first stays"
    bench.unit.receive(trip_reset(ADDRESS, 1, 1), bench.now_s)
    assert trips_of(bench.run(0.5)) == []


@pytest.mark.parametrize(("name", "code"), [("interlock", INTERLOCK), ("emergency_stop", EMERGENCY_STOP)])
@pytest.mark.parametrize("then", [Input.ACTIVE, Input.UNKNOWN])
def test_a_cause_that_is_there_or_unknown_is_not_gone(name: str, code: int, then: Input) -> None:
    bench = Bench().closed(amps=0.0)
    setattr(bench.unit.wires, name, Input.ACTIVE)
    bench.run(1.0)
    setattr(bench.unit.wires, name, then)
    bench.unit.receive(trip_reset(ADDRESS, code, 1), bench.now_s)
    assert bench.unit.trip_code == code
    setattr(bench.unit.wires, name, Input.OK)
    bench.unit.receive(trip_reset(ADDRESS, code, 2), bench.now_s)
    assert bench.unit.trip_code == 0


def test_over_current_is_not_released_while_it_flows_through_a_welded_contactor() -> None:
    bench = Bench(ContactorUnitSettings(over_current_a=300.0)).closed()
    bench.amps = 400.0
    bench.run(1.0)
    bench.unit.receive(trip_reset(ADDRESS, OVER_CURRENT, 1), bench.now_s)
    assert bench.unit.trip_code == OVER_CURRENT
    bench.amps = 0.0
    bench.run(0.5)
    bench.unit.receive(trip_reset(ADDRESS, OVER_CURRENT, 2), bench.now_s)
    assert bench.unit.trip_code == 0


@pytest.mark.parametrize(("silence_s", "released"), [(0.49, False), (0.5, True)])
def test_a_unit_releases_half_a_second_after_the_last_trip_frame_of_any_node(silence_s: float, released: bool) -> None:
    bench = Bench().closed(amps=0.0)
    bench.unit.receive(trip(3, code=1), bench.now_s)
    bench.run(1.0)
    heard_s = bench.now_s
    bench.unit.receive(trip(66, code=7), heard_s)
    bench.unit.receive(trip_reset(ADDRESS, 1, 1), heard_s + silence_s)
    assert (bench.unit.trip_code == 0) == released


# what is latched at the SYNC


def test_everything_that_a_unit_says_of_a_poll_is_what_was_at_phase_zero() -> None:
    bench = Bench().closed(amps=50.0)
    bench.unit.wires.bus_v = 52.0
    bench.run(STEP_S)
    start_s = bench.now_s
    bench.unit.receive(sync(), start_s)
    bench.unit.wires.bus_v, bench.unit.wires.door = 0.0, Input.ACTIVE
    bench.unit.wires.closed = np.zeros(3, dtype=np.bool_)
    bench.unit.wires.emergency_stop = Input.ACTIVE
    said = {one.name: one.signals for one in map(unpack, bench.unit.step(start_s + 0.1)) if one}
    assert said["Trip"]["TripCode"] == EMERGENCY_STOP, "the trip does not wait"
    state = said["ContactorState"]
    assert (state["PlusOutput"], state["Door"], state["EmergencyStop"], state["TripCode"]) == (1, 0, 0, 0)
    assert said["StringVoltages"]["BusVoltage"] == 26000
    bench.unit.receive(sync(1), start_s + 0.2)
    later = {one.name: one.signals for one in map(unpack, bench.unit.step(start_s + 0.3)) if one}["ContactorState"]
    assert (later["PlusOutput"], later["Door"], later["EmergencyStop"], later["TripCode"]) == (0, 1, 1, 7)


def test_a_unit_takes_no_other_address_while_a_coil_is_on() -> None:
    bench = Bench().closed()
    move = pack("AssignAddress", 0, {"Uid": bench.unit.identity.uid, "Address": 70})
    bench.unit.receive(move, bench.now_s)
    assert bench.unit.address == ADDRESS
    bench.close, bench.enable = OPEN, 0
    bench.run(0.2)
    bench.unit.receive(move, bench.now_s)
    assert bench.unit.address == 70
