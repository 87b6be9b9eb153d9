from __future__ import annotations

import numpy as np
import pytest
from slave_traffic import contactors, heartbeat, sync, trip_reset
from unit_bench import ADDRESS, CLOSED, OPEN, STEP_S, Bench, spoil_crc, trip, until_open

from bmsd.model.snapshot import Input
from bmsd.sim.contactor_unit import (
    CURRENT_INVALID,
    EMERGENCY_STOP,
    INTERLOCK,
    OVER_CURRENT,
    ContactorUnitSettings,
    OpenReason,
)
from bmsd.sim.packing import unpack

# the command and its lease


def test_after_power_on_everything_is_open() -> None:
    bench = Bench()
    state = bench.state().signals
    assert [state[f"{name}Output"] for name in ("Minus", "Plus", "Precharge", "InverterEnable")] == [0, 0, 0, 0]
    assert state["OpenReason"] == OpenReason.POWER_ON
    assert (state["HeartbeatLost"], state["LeaseExpired"]) == (1, 1)


def test_a_unit_obeys_its_command_while_heartbeat_and_lease_stand() -> None:
    bench = Bench().closed()
    bench.close, bench.enable = OPEN, 0
    bench.run(0.2)
    assert not bench.unit.coil.any()
    assert bench.unit.open_reason == OpenReason.COMMANDED
    assert bench.unit.opened_under_load


def test_the_first_command_after_power_on_must_be_to_open() -> None:
    bench = Bench()
    bench.close = CLOSED
    bench.run(1.0)
    assert not bench.unit.coil.any()
    bench.close = OPEN
    bench.run(0.2)
    bench.close = CLOSED
    bench.run(0.2)
    assert bench.unit.coil.any()


def test_without_a_heartbeat_nothing_closes() -> None:
    bench = Bench()
    bench.heartbeats = False
    bench.run(0.3)
    bench.close = CLOSED
    bench.run(1.0)
    assert not bench.unit.coil.any()


@pytest.mark.parametrize("spoilt", ["crc", "stuck", "address"])
def test_a_command_that_is_not_valid_is_not_obeyed(spoilt: str) -> None:
    bench = Bench()
    bench.run(0.3)
    bench.commands = False
    for tick in range(20):
        frame = contactors(ADDRESS + (spoilt == "address"), 3 if spoilt == "stuck" else tick, *CLOSED, enable=1)
        if tick == 0 and spoilt == "stuck":
            frame = contactors(ADDRESS, 3, *OPEN)
        bench.unit.receive(spoil_crc(frame) if spoilt == "crc" else frame, bench.now_s)
        bench.run(0.1)
        assert not bench.unit.coil.any()
        assert not bench.unit.enable


# without bmsd


@pytest.mark.parametrize("lost", ["heartbeats", "commands"])
def test_the_enable_drops_at_one_second_and_the_contactors_open_at_five_under_current(lost: str) -> None:
    bench = Bench().closed(amps=50.0)
    setattr(bench, lost, False)
    bench.run(0.98)
    assert bench.unit.enable
    bench.run(0.02)
    assert not bench.unit.enable
    assert bench.unit.coil.any()
    assert until_open(bench, 10.0) == pytest.approx(4.0, abs=0.02)
    assert bench.unit.opened_under_load
    expected = OpenReason.HEARTBEAT_LOST if lost == "heartbeats" else OpenReason.LEASE_EXPIRED
    assert bench.unit.open_reason == expected


@pytest.mark.parametrize(("amps", "opens"), [(1.9, True), (-1.9, True), (2.1, False), (-2.1, False)])
def test_without_heartbeat_the_contactors_open_as_soon_as_the_current_is_below_2_a(amps: float, opens: bool) -> None:
    bench = Bench().closed(amps=50.0 if amps > 0.0 else -50.0)
    bench.heartbeats = False
    bench.run(1.5)
    assert bench.unit.coil.any()
    bench.amps = amps
    assert (until_open(bench, 1.0) < 1.0) == opens
    if opens:
        assert not bench.unit.opened_under_load


def test_without_an_enable_contact_the_contactors_open_at_one_and_a_half_seconds() -> None:
    bench = Bench(ContactorUnitSettings(enable_fitted=False))
    bench.run(0.3)
    bench.close = CLOSED
    bench.run(0.3)
    bench.amps = 50.0
    bench.run(1.0)
    bench.heartbeats = False
    assert until_open(bench, 10.0) == pytest.approx(1.5, abs=0.02)


def test_a_heartbeat_that_returns_in_time_brings_the_enable_back() -> None:
    bench = Bench().closed()
    bench.heartbeats = False
    bench.run(3.0)
    assert not bench.unit.enable
    bench.heartbeats = True
    bench.run(0.2)
    assert bench.unit.enable
    assert bench.unit.coil.any()


def test_after_an_opening_of_its_own_a_unit_does_not_close_onto_a_dead_bus() -> None:
    bench = Bench().closed(amps=0.0)
    bench.heartbeats = False
    bench.run(1.5)
    assert not bench.unit.coil.any()
    bench.heartbeats = True
    bench.run(2.0)
    assert not bench.unit.coil.any(), "the controller slept and still says: closed"
    bench.close = OPEN
    bench.run(0.2)
    bench.close = (1, 1, 0)
    bench.run(0.2)
    assert bench.unit.coil.tolist() == [True, True, False]


@pytest.mark.parametrize("kind", ["stuck", "crc"])
def test_a_dead_heartbeat_is_lost_however_often_it_comes(kind: str) -> None:
    bench = Bench().closed()
    bench.heartbeats = False
    start_s, last = bench.now_s, bench.ticks
    while bench.unit.enable and bench.now_s < start_s + 3.0:
        frame = heartbeat(last) if kind == "stuck" else spoil_crc(heartbeat(bench.count))
        bench.unit.receive(frame, bench.now_s)
        bench.run(STEP_S)
    assert bench.now_s - start_s == pytest.approx(1.0, abs=0.02)


# what the unit does by itself


def test_a_trip_frame_of_a_board_opens_at_once_and_latches() -> None:
    bench = Bench().closed()
    bench.unit.receive(trip(), bench.now_s)
    assert not bench.unit.coil.any()
    assert not bench.unit.enable
    state = bench.state().signals
    assert (state["TripCode"], state["TripSource"], state["OpenReason"]) == (1, 3, OpenReason.TRIP_FRAME)
    assert state["OpenedUnderLoad"] == 1
    bench.close = OPEN
    bench.run(0.5)
    bench.close = CLOSED
    bench.run(1.0)
    assert not bench.unit.coil.any()


def test_a_trip_frame_with_a_wrong_crc_opens_nothing() -> None:
    bench = Bench().closed()
    bench.unit.receive(spoil_crc(trip()), bench.now_s)
    assert bench.unit.coil.any()


def test_a_trip_is_released_by_its_code_once_nobody_sends_it_any_more() -> None:
    bench = Bench().closed(amps=0.0)
    bench.unit.receive(trip(), bench.now_s)
    bench.run(0.3)
    bench.unit.receive(trip_reset(ADDRESS, 1, 1), bench.now_s)
    assert bench.unit.trip_code == 1, "the board still trips"
    bench.run(0.3)
    bench.unit.receive(trip_reset(ADDRESS, 2, 2), bench.now_s)
    assert bench.unit.trip_code == 1, "another code"
    bench.unit.receive(trip_reset(ADDRESS, 1, 3), bench.now_s)
    assert bench.unit.trip_code == 0
    bench.run(1.0)
    assert not bench.unit.coil.any(), "closing needs a command to open first"


@pytest.mark.parametrize("sign", [1, -1])
def test_over_current_opens_after_150_ms_without_bmsd(sign: int) -> None:
    bench = Bench(ContactorUnitSettings(over_current_a=300.0)).closed()
    bench.amps = 10_000.0 * sign
    assert until_open(bench, 1.0) == pytest.approx(0.16, abs=0.02)
    assert bench.unit.trip_code == OVER_CURRENT
    assert bench.unit.trip_source == ADDRESS
    assert bench.unit.open_reason == OpenReason.OVER_CURRENT


def test_a_current_just_inside_and_a_short_peak_do_not_open() -> None:
    bench = Bench(ContactorUnitSettings(over_current_a=300.0)).closed()
    bench.amps = 299.0
    bench.run(2.0)
    bench.amps = 310.0
    bench.run(0.1)
    bench.amps = 200.0
    bench.run(1.0)
    assert bench.unit.coil.any()


def test_an_open_interlock_opens_after_100_ms_and_an_emergency_stop_at_once() -> None:
    bench = Bench().closed()
    bench.unit.wires.interlock = Input.ACTIVE
    assert until_open(bench, 1.0) == pytest.approx(0.11, abs=0.011)
    assert bench.unit.trip_code == INTERLOCK
    bench = Bench().closed()
    bench.unit.wires.emergency_stop = Input.ACTIVE
    said = bench.run(0.5)
    assert not bench.unit.coil.any()
    assert bench.unit.open_reason == OpenReason.EMERGENCY_STOP
    times = [at for at, one in said if one.name == "Trip" and one.signals["TripCode"] == EMERGENCY_STOP]
    assert len(times) == 5
    assert np.diff(times) == pytest.approx(0.1)


def test_an_emergency_stop_is_not_released_while_the_button_is_pressed() -> None:
    bench = Bench().closed()
    bench.unit.wires.emergency_stop = Input.ACTIVE
    bench.run(1.0)
    bench.unit.receive(trip_reset(ADDRESS, EMERGENCY_STOP, 1), bench.now_s)
    assert bench.unit.trip_code == EMERGENCY_STOP
    bench.unit.wires.emergency_stop = Input.OK
    bench.run(0.1)
    bench.unit.receive(trip_reset(ADDRESS, EMERGENCY_STOP, 2), bench.now_s)
    assert bench.unit.trip_code == 0
    assert [one for _, one in bench.run(1.0) if one.name == "Trip"] == []


def test_without_coil_supply_everything_drops() -> None:
    bench = Bench().closed()
    bench.unit.wires.coil_v = 10.0
    bench.run(STEP_S)
    assert not bench.unit.coil.any()
    assert bench.unit.open_reason == OpenReason.COIL_SUPPLY


# what the unit says


@pytest.mark.parametrize("number", range(8))
def test_a_unit_answers_every_sync_with_its_current_and_a_poll_with_its_state(number: int) -> None:
    bench = Bench(address=65 + number)
    unit = bench.unit
    unit.step(0.0)
    for phase in (0, 1, 2, 3):
        at_s = 1.0 + 0.05 * phase
        unit.receive(sync(number=21, phase=phase, slow_group=3 if phase == 0 else 0), at_s)
        if number:
            assert unit.step(at_s + 0.0004 * number - 1e-5) == []
        received = [unpack(frame) for frame in unit.step(at_s + 0.0004 * number + 1e-6)]
        assert [one.name for one in received if one] == ["Current"]
        assert received[0] is not None
        assert (received[0].signals["Phase"], received[0].signals["Counter"]) == (phase, 5)
        if phase == 1:
            assert unit.step(1.0 + 0.088 + 0.001 * number - 1e-5) == []
            slow = [one for one in map(unpack, unit.step(1.0 + 0.088 + 0.001 * number + 1e-6)) if one]
            assert [one.name for one in slow] == ["StringVoltages", "ContactorState", "NodeStatus"]
            assert {one.signals["Counter"] for one in slow} == {5}


def test_the_first_current_is_invalid_because_its_interval_has_no_beginning() -> None:
    bench = Bench()
    bench.unit.receive(sync(), 0.0)
    (first,) = [one for one in map(unpack, bench.unit.step(0.0)) if one]
    assert first.signals["Current"] == CURRENT_INVALID


def test_current_is_the_mean_over_the_interval_and_the_counter_its_integral_despite_ripple() -> None:
    bench = Bench()
    unit = bench.unit
    step_s, omega = 0.001, 2.0 * np.pi * 100.0
    true_as, currents, charges = 0.0, [], []
    for count in range(1, 20_001):
        before_s, now_s = (count - 1) * step_s, count * step_s
        ripple_a = 30.0 * (np.cos(omega * before_s) - np.cos(omega * now_s)) / (omega * step_s)
        amps = 40.0 * np.sin(2.0 * np.pi * now_s / 7.0) - 5.0 + ripple_a
        true_as += amps * step_s
        unit.measure_current(amps, step_s)
        if count % 53 == 0:  # not a multiple of the ripple's period
            unit.receive(sync(number=count // 53), now_s)
            frame = next(one for one in map(unpack, unit.step(now_s)) if one and one.name == "Current")
            currents.append(frame.signals["Current"] * 0.02)
            charges.append(frame.signals["Charge"] * 0.01)
            expected = round(true_as * 100) % 2**32 * 0.01
            assert abs(charges[-1] - expected) < 0.0101
    assert true_as < 0.0, "the counter wrapped"
    summed = sum(currents[1:]) * 0.053
    passed = ((charges[-1] - charges[0]) * 100 + 2**31) % 2**32 - 2**31
    assert summed == pytest.approx(passed / 100, abs=0.05)


def test_offset_and_gain_of_the_shunt_are_in_current_and_counter() -> None:
    bench = Bench(ContactorUnitSettings(shunt_offset_a=0.5, shunt_gain=1.01))
    bench.unit.receive(sync(0), 0.0)
    bench.unit.step(0.0)
    bench.unit.measure_current(100.0, 2.0)
    bench.unit.receive(sync(1), 2.0)
    frame = next(one for one in map(unpack, bench.unit.step(2.0)) if one)
    assert frame.signals["Current"] * 0.02 == pytest.approx(101.5, abs=0.02)
    assert frame.signals["Charge"] * 0.01 == pytest.approx(203.0, abs=0.01)


def test_a_current_beyond_the_signal_saturates_instead_of_wrapping() -> None:
    bench = Bench()
    bench.unit.receive(sync(0), 0.0)
    bench.unit.step(0.0)
    bench.unit.measure_current(-9000.0, 1.0)
    bench.unit.receive(sync(1), 1.0)
    assert next(one for one in map(unpack, bench.unit.step(1.0)) if one).signals["Current"] == -131071


def test_feedback_is_what_the_contacts_say_not_what_the_coils_want() -> None:
    bench = Bench().closed()
    bench.unit.wires.closed = np.array([True, False, False])
    state = bench.state().signals
    assert (state["PlusOutput"], state["PlusFeedback"], state["MinusFeedback"]) == (1, 0, 1)
    bench.unit.wires.feedback_fitted = False
    assert bench.state().signals["PlusFeedback"] == 2
