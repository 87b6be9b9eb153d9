from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bmsd.fieldbus.drivers.slave.sorting import Kind
from bmsd.fieldbus.poller import Poller
from bmsd.fieldbus.receive import Receiver
from bmsd.model.frame import ERROR_FLAG, EXTENDED_FLAG, RAW_FRAME, REMOTE_FLAG, Frame, RawFrames
from bmsd.model.layout import Layout
from bmsd.model.plant import Timing
from bmsd.model.snapshot import CURRENT_SENSOR_TEST, Feedback, Input, Reading
from tests import slave_frames as slave

LAYOUT = Layout(strings=2, modules=2, cells=14, sensors=6)
TIMING = Timing(tick_s=0.1, poll_s=0.2, current_phases=4)
MODULES = (1, 2, 3, 4)
UNITS = (65, 66)


def receiver(layout: Layout = LAYOUT) -> Receiver:
    return Receiver(layout, TIMING)


def polled(number: int = 5, group: int = 0, at_s: float = 10.0, **poll: Any) -> Receiver:
    """A receiver that has taken one healthy poll."""
    heard = receiver()
    answer(heard, number, group, at_s, **poll)
    return heard


def answer(heard: Receiver, number: int, group: int = 0, at_s: float = 10.0, **poll: Any) -> None:
    heard.sync_sent(number, 0, group, at_s)
    heard.feed(slave.raw(*slave.poll(LAYOUT, number, group, **poll)), at_s + 0.1)


def wanted_cells() -> np.ndarray:
    volts = [[slave.cell_raw(a, c) * 0.000625 for c in range(LAYOUT.cells)] for a in MODULES]
    return np.array(volts).reshape(LAYOUT.cell_shape)


# a healthy rack


def test_nothing_is_known_before_the_first_poll() -> None:
    modules, units = receiver().modules(5.0), receiver().units(5.0)
    assert np.isnan(modules.cell_v).all()
    assert (modules.cell_reading == Reading.MISSING).all()
    assert np.isinf(modules.cell_age_s).all()
    assert (modules.cell_sync == -1).all()
    assert (modules.cell_count == -1).all()
    assert (modules.self_test == -1).all()
    assert (modules.uid == -1).all()
    assert (modules.board_type == -1).all()
    assert (modules.chemistry == -1).all()
    assert np.isnan(units.current_a).all()
    assert np.isnan(units.charge_as).all()
    assert np.isnan(units.bus_v).all()
    assert (units.minus == Feedback.UNKNOWN).all()
    assert (units.inputs == Input.UNKNOWN).all()
    assert (units.trip_code == -1).all()
    assert (units.state_sync == -1).all()
    assert (units.self_test == -1).all()


def test_a_complete_poll_shows_at_once_with_the_age_of_its_sync() -> None:
    heard = polled(at_s=10.0)
    modules, units = heard.modules(10.13), heard.units(10.13)
    np.testing.assert_array_equal(modules.cell_v, wanted_cells())
    assert (modules.cell_reading == Reading.OK).all()
    np.testing.assert_allclose(modules.cell_age_s, 0.13)
    np.testing.assert_allclose(units.current_a, 10.0)
    np.testing.assert_allclose(units.bus_v, 52.0)
    np.testing.assert_allclose(units.string_v, 52.2)
    np.testing.assert_allclose(units.coil_v, 24.0)
    np.testing.assert_allclose(units.current_age_s, 0.13)
    assert (units.minus == Feedback.OPEN).all()
    assert (units.inputs == Input.OK).all()
    assert heard.counts.sum() == 0


def test_slow_groups_are_decoded_when_they_come() -> None:
    heard = polled(1, slave.TEMPERATURES, 10.0)
    answer(heard, 2, slave.MODULE_STATE, 10.2)
    answer(heard, 3, slave.NODE_STATUS, 10.4)
    modules = heard.modules(10.5)
    degc = [[slave.sensor_raw(a, c) * 0.05 - 100.0 for c in range(LAYOUT.sensors)] for a in MODULES]
    np.testing.assert_array_equal(modules.temperature_degc, np.array(degc).reshape(LAYOUT.sensor_shape))
    np.testing.assert_allclose(modules.temperature_age_s, 0.5)
    np.testing.assert_allclose(modules.module_v.reshape(-1), [52.002, 52.004, 52.006, 52.008])
    np.testing.assert_allclose(modules.state_age_s, 0.3)
    np.testing.assert_allclose(modules.board_degc, 30.0)
    assert (modules.self_test == 0).all()
    assert (modules.cell_count == 14).all()
    assert heard.counts.sum() == 0


def test_bits_of_the_state_go_where_they_belong() -> None:
    heard = receiver()
    heard.sync_sent(1, 0, 2, 0.0)
    frames = slave.poll(LAYOUT, 1)
    frames.append(slave.module_state(3, 1, 14, BalanceActive=1 << 13 | 1, HeartbeatLost=1, TripActive=1))
    frames.append(slave.contactor_state(66, 1))
    heard.feed(slave.raw(*frames), 0.1)
    modules = heard.modules(0.13)
    assert np.argwhere(modules.balancing).tolist() == [[1, 0, 0], [1, 0, 13]]
    assert np.argwhere(modules.trip_active).tolist() == [[1, 0]]
    assert np.argwhere(modules.heartbeat_lost).tolist() == [[1, 0]]


@pytest.mark.parametrize(
    ("signal", "value", "field", "wanted"),
    [
        ("MinusFeedback", 1, "minus", Feedback.CLOSED),
        ("PlusFeedback", 2, "plus", Feedback.NOT_FITTED),
        ("PrechargeFeedback", 3, "precharge", Feedback.UNKNOWN),
        ("MinusOutput", 1, "minus_output", True),
        ("PlusOutput", 1, "plus_output", True),
        ("PrechargeOutput", 1, "precharge_output", True),
        ("InverterEnableOutput", 1, "enable_output", True),
        ("HeartbeatLost", 1, "heartbeat_lost", True),
        ("TripCode", 7, "trip_code", 7),
        ("OpenReason", 8, "open_reason", 8),
    ],
)
def test_every_signal_of_a_contactor_unit_has_its_place(signal: str, value: int, field: str, wanted: int) -> None:
    healthy, heard = polled().units(10.1), receiver()
    heard.sync_sent(5, 0, 0, 10.0)
    state = slave.contactor_state(66, 5, **{signal: value})
    frames = [frame for frame in slave.poll(LAYOUT, 5) if frame.can_id != state.can_id]
    heard.feed(slave.raw(*frames, state), 10.1)
    units = heard.units(10.1)
    assert getattr(units, field).tolist() == [getattr(healthy, field)[0], wanted]
    others = set(units.__slots__) - {field}
    for name in others:
        np.testing.assert_array_equal(getattr(units, name), getattr(healthy, name), err_msg=name)


@pytest.mark.parametrize(
    ("signal", "index"),
    [("Interlock", 0), ("Fuse", 1), ("Insulation", 2), ("Smoke", 3), ("Door", 4), ("EmergencyStop", 5)],
)
def test_every_input_has_its_place(signal: str, index: int) -> None:
    heard = receiver()
    heard.sync_sent(5, 0, 0, 10.0)
    state = slave.contactor_state(65, 5, **{signal: 1})
    heard.feed(slave.raw(state), 10.05)
    inputs = heard.units(10.2).inputs
    assert inputs[0].tolist() == [Input.ACTIVE if k == index else Input.OK for k in range(6)]
    assert (inputs[1] == Input.UNKNOWN).all()


@pytest.mark.parametrize(
    ("raw", "reading"),
    [(0, Reading.OK), (8000, Reading.OK), (8001, Reading.INVALID), (8190, Reading.OPEN), (8191, Reading.INVALID)],
)
def test_codes_of_a_cell_become_readings(raw: int, reading: Reading) -> None:
    heard = receiver()
    heard.sync_sent(5, 0, 0, 10.0)
    frames = [f for f in slave.poll(LAYOUT, 5) if f.can_id & 0x7F != 2]
    heard.feed(slave.raw(*frames, *slave.cells(2, 5, 14, Cell6Voltage=raw)), 10.1)
    modules = heard.modules(10.1)
    assert modules.cell_reading[0, 1, 5] == reading
    assert math.isnan(modules.cell_v[0, 1, 5]) == (reading != Reading.OK)
    assert np.isnan(modules.cell_v).sum() == (reading != Reading.OK)


@pytest.mark.parametrize(
    ("raw", "reading"), [(8189, Reading.OPEN), (8190, Reading.SHORT), (8191, Reading.INVALID), (8000, Reading.OK)]
)
def test_codes_of_a_sensor_become_readings(raw: int, reading: Reading) -> None:
    heard = receiver()
    heard.sync_sent(5, 0, 1, 10.0)
    frames = slave.poll(LAYOUT, 5) + [
        frame
        for a in MODULES
        for frame in slave.temperatures(a, 5, 6, **({"Sensor5Temperature": raw} if a == 3 else {}))
    ]
    heard.feed(slave.raw(*frames), 10.1)
    modules = heard.modules(10.1)
    assert modules.temperature_reading[1, 0, 4] == reading
    assert np.isnan(modules.temperature_degc).sum() == (reading != Reading.OK)


# polls


def test_values_do_not_show_before_the_poll_is_complete() -> None:
    heard = receiver()
    heard.sync_sent(5, 0, 0, 10.0)
    heard.feed(slave.raw(*slave.poll(LAYOUT, 5)[:-1]), 10.09)
    assert np.isnan(heard.modules(10.09).cell_v).all()
    assert np.isnan(heard.units(10.09).bus_v).all()
    heard.feed(slave.raw(slave.poll(LAYOUT, 5)[-1]), 10.1)
    assert not np.isnan(heard.modules(10.1).cell_v).any()


def test_an_incomplete_poll_shows_120_ms_after_its_sync() -> None:
    heard = receiver()
    heard.sync_sent(5, 0, 0, 10.0)
    heard.feed(slave.raw(*slave.poll(LAYOUT, 5, without=[3])), 10.05)
    assert np.isnan(heard.modules(10.119).cell_v).all()
    modules = heard.modules(10.12)
    assert np.isnan(modules.cell_v[1, 0]).all()
    assert (modules.cell_reading[1, 0] == Reading.MISSING).all()
    assert np.isnan(modules.cell_v).sum() == 14


def test_what_waited_in_the_socket_is_not_late_because_the_process_was() -> None:
    heard = receiver()
    heard.sync_sent(5, 0, 0, 10.0)
    heard.feed(slave.raw(*slave.poll(LAYOUT, 5, without=[3])), 10.19)
    assert np.isnan(heard.modules(10.19).cell_v).sum() == 14


def test_frames_after_their_poll_are_late_and_change_nothing() -> None:
    heard = polled(5, without=[2])
    before = heard.modules(10.13).cell_v
    heard.feed(slave.raw(*slave.cells(2, 5, 14)), 10.15)
    np.testing.assert_array_equal(heard.modules(10.16).cell_v, before)
    assert heard.counts[Kind.LATE] == 4
    assert heard.modules(10.16).counter_errors.sum() == 0


def test_the_next_sync_closes_the_poll_before() -> None:
    heard = receiver()
    heard.sync_sent(5, 0, 0, 10.0)
    heard.feed(slave.raw(*slave.poll(LAYOUT, 5, without=[3])), 10.05)
    heard.sync_sent(6, 0, 0, 10.1)
    modules = heard.modules(10.1)
    assert np.isnan(modules.cell_v).sum() == 14
    np.testing.assert_allclose(modules.cell_age_s[0], 0.1)


def test_a_board_never_mixes_two_polls() -> None:
    heard = polled(5)
    heard.sync_sent(6, 0, 0, 10.2)
    changed = slave.cells(2, 6, 14, **{f"Cell{c}Voltage": 4000 for c in range(1, 15)})
    heard.feed(slave.raw(*changed[:-1]), 10.3)
    modules = heard.modules(10.33)
    np.testing.assert_array_equal(modules.cell_v, wanted_cells())
    np.testing.assert_allclose(modules.cell_age_s, 0.33)
    heard.sync_sent(7, 0, 0, 10.4)
    changed = slave.cells(2, 7, 14, **{f"Cell{c}Voltage": 4000 for c in range(1, 15)})
    heard.feed(slave.raw(*changed), 10.5)
    modules = heard.modules(10.53)
    np.testing.assert_allclose(modules.cell_v[0, 1], 2.5)
    assert modules.cell_sync[0, 1] > modules.cell_sync[0, 0]


def test_the_order_of_frames_does_not_matter() -> None:
    straight = polled().modules(10.13)
    heard = receiver()
    heard.sync_sent(5, 0, 0, 10.0)
    heard.feed(slave.raw(*reversed(slave.poll(LAYOUT, 5))), 10.1)
    np.testing.assert_array_equal(heard.modules(10.13).cell_v, straight.cell_v)
    assert heard.counts.sum() == 0


def test_a_poll_may_come_in_many_small_drains() -> None:
    heard = receiver()
    heard.sync_sent(5, 0, 1, 10.0)
    for k, frame in enumerate(slave.poll(LAYOUT, 5, 1)):
        heard.feed(slave.raw(frame), 10.0 + k / 1000)
    heard.feed(np.zeros(0, dtype=RAW_FRAME), 10.1)
    np.testing.assert_array_equal(heard.modules(10.1).cell_v, wanted_cells())
    assert heard.counts.sum() == 0


def test_every_sync_has_a_running_number() -> None:
    heard = polled(255)
    first = heard.modules(10.1).cell_sync.copy()
    answer(heard, 0, at_s=10.2)
    assert (heard.modules(10.3).cell_sync > first).all()


def test_a_slow_group_that_was_not_asked_for_is_taken_all_the_same() -> None:
    heard = receiver()
    heard.sync_sent(5, 0, 0, 10.0)
    heard.feed(slave.raw(slave.module_state(1, 5, 14), *slave.poll(LAYOUT, 5)), 10.1)
    assert heard.modules(10.13).module_v[0, 0] == 52.002
    assert heard.modules(10.13).frames.tolist() == [[5, 4], [4, 4]]


# currents


def test_a_current_shows_as_soon_as_all_units_have_answered() -> None:
    heard = receiver()
    heard.sync_sent(5, 0, 0, 10.0)
    heard.feed(slave.raw(slave.current(65, 5)), 10.001)
    assert np.isnan(heard.units(10.001).current_a).all()
    heard.feed(slave.raw(slave.current(66, 5, raw_a=-1)), 10.002)
    assert heard.units(10.002).current_a.tolist() == [10.0, -0.02]


def test_every_phase_has_its_current_and_its_own_instant() -> None:
    heard = polled(5)
    for phase in (1, 2, 3):
        heard.sync_sent(5, phase, 0, 10.0 + phase * 0.05)
        frames = [slave.current(unit, 5, phase, raw_a=phase * 50) for unit in UNITS]
        heard.feed(slave.raw(*frames), 10.01 + phase * 0.05)
        units = heard.units(10.02 + phase * 0.05)
        assert units.current_a.tolist() == [phase, phase]
        np.testing.assert_allclose(units.current_age_s, 0.02)
        np.testing.assert_allclose(units.voltage_age_s, 0.02 + phase * 0.05)
    assert len(set(units.current_sync)) == 1
    assert (units.current_sync > units.state_sync).all()
    assert heard.counts.sum() == 0


def test_currents_of_a_later_phase_do_not_end_a_poll_nor_disturb_it() -> None:
    heard = receiver()
    frames = slave.poll(LAYOUT, 5)
    heard.sync_sent(5, 0, 0, 10.0)
    heard.feed(slave.raw(*frames[:8]), 10.04)
    heard.sync_sent(5, 1, 0, 10.05)
    heard.feed(slave.raw(*frames[8:], *[slave.current(unit, 5, 1) for unit in UNITS]), 10.1)
    np.testing.assert_array_equal(heard.modules(10.1).cell_v, wanted_cells())
    np.testing.assert_allclose(heard.modules(10.1).cell_age_s, 0.1)
    np.testing.assert_allclose(heard.units(10.1).current_age_s, 0.05)
    assert heard.counts.sum() == 0


def test_a_current_of_another_phase_is_refused() -> None:
    heard = polled(5)
    heard.sync_sent(5, 1, 0, 10.05)
    heard.feed(slave.raw(slave.current(65, 5, 0, raw_a=9999), slave.current(66, 5, 1, raw_a=100)), 10.06)
    heard.sync_sent(5, 2, 0, 10.1)
    units = heard.units(10.1)
    assert units.current_a.tolist() == [10.0, 2.0]
    assert heard.counts[Kind.COUNTER] == 1


def test_an_invalid_current_is_unknown_and_so_is_its_charge() -> None:
    heard = receiver()
    heard.sync_sent(5, 0, 0, 10.0)
    heard.feed(slave.raw(slave.current(65, 5, raw_a=-131072), slave.current(66, 5, raw_a=-131071)), 10.01)
    units = heard.units(10.01)
    assert math.isnan(units.current_a[0])
    assert math.isnan(units.charge_as[0])
    assert units.current_a[1] == -131071 * 0.02
    assert units.charge_as[1] == 0.0


def charged(heard: Receiver, number: int, at_s: float, *counts: int) -> list[float]:
    heard.sync_sent(number, 0, 0, at_s)
    frames = [slave.current(unit, number, charge=count % 2**32) for unit, count in zip(UNITS, counts, strict=True)]
    heard.feed(slave.raw(*frames), at_s + 0.01)
    return list(np.round(heard.units(at_s + 0.01).charge_as, 6))


def test_the_charge_counter_is_free_of_wraps_in_both_directions() -> None:
    heard = receiver()
    assert charged(heard, 1, 0.0, 2**32 - 100, 50) == [0.0, 0.0]
    assert charged(heard, 2, 0.2, 2**32 + 100, -150) == [2.0, -2.0]
    assert charged(heard, 3, 0.4, 2**32 + 300, -150) == [4.0, -2.0]
    assert charged(heard, 4, 0.6, 2**32 - 300, 50) == [-2.0, 0.0]
    assert heard.charge_restarts.tolist() == [0, 0]


def test_a_charge_counter_that_starts_anew_is_no_charge() -> None:
    heard = receiver()
    charged(heard, 1, 0.0, 5_000_000, 1000)
    assert charged(heard, 2, 0.2, 5_001_000, 1100) == [10.0, 1.0]
    assert charged(heard, 3, 0.4, 0, 1200) == [10.0, 2.0]
    assert charged(heard, 4, 0.6, 200, 1300) == [12.0, 3.0]
    assert heard.charge_restarts.tolist() == [1, 0]


def test_charge_that_flowed_during_a_gap_is_counted() -> None:
    heard = receiver()
    charged(heard, 1, 0.0, 0, 0)
    charged(heard, 2, 60.0, 990_000, 0)
    assert charged(heard, 3, 60.2, 1_000_000, 0) == [10_000.0, 0.0]


# hold and expiry


def test_fast_values_are_held_for_three_polls_and_then_unknown() -> None:
    heard = polled(at_s=10.0)
    held, gone = heard.modules(10.6 - 1e-9), heard.modules(10.6 + 1e-6)
    np.testing.assert_array_equal(held.cell_v, wanted_cells())
    assert np.isnan(gone.cell_v).all()
    assert (gone.cell_reading == Reading.MISSING).all()
    np.testing.assert_allclose(gone.cell_age_s, 0.6, atol=1e-5)
    assert not np.isnan(heard.units(10.6 - 1e-9).current_a).any()
    units = heard.units(10.6 + 1e-6)
    assert np.isnan(units.current_a).all()
    assert np.isnan(units.charge_as).all()
    assert np.isnan([units.bus_v, units.string_v, units.coil_v]).all()
    assert (units.minus == Feedback.UNKNOWN).all()
    assert (units.inputs == Input.UNKNOWN).all()


def test_slow_values_are_held_for_fifteen_polls() -> None:
    heard = polled(1, 1, 10.0)
    answer(heard, 2, 2, 10.0)
    answer(heard, 3, 3, 10.0)
    held, gone = heard.modules(13.0 - 1e-9), heard.modules(13.0 + 1e-6)
    assert not np.isnan(held.temperature_degc).any()
    assert not np.isnan(held.module_v).any()
    assert not np.isnan(held.board_degc).any()
    assert (held.self_test == 0).all()
    assert np.isnan(gone.temperature_degc).all()
    assert (gone.temperature_reading == Reading.MISSING).all()
    assert np.isnan(gone.module_v).all()
    assert np.isnan(gone.board_degc).all()
    assert (gone.self_test == -1).all()


def test_only_the_silent_board_becomes_unknown() -> None:
    heard = polled(1, at_s=10.0)
    for k in range(1, 5):
        answer(heard, 1 + k, at_s=10.0 + 0.2 * k, without=[4, 66])
    modules, units = heard.modules(10.9), heard.units(10.95)
    assert np.argwhere(np.isnan(modules.cell_v).all(axis=2)).tolist() == [[1, 1]]
    assert np.isnan(units.current_a).tolist() == [False, True]
    assert np.isnan(units.bus_v).tolist() == [False, True]


def test_a_time_that_is_not_a_number_makes_everything_unknown() -> None:
    heard = polled()
    assert np.isnan(heard.modules(math.nan).cell_v).all()
    assert np.isnan(heard.units(math.nan).current_a).all()


def test_a_board_in_its_bootloader_measures_nothing() -> None:
    heard = receiver()
    heard.sync_sent(5, 0, 3, 10.0)
    heard.feed(slave.raw(*slave.poll(LAYOUT, 5), slave.node_status(2, 5, BootMode=1)), 10.1)
    modules = heard.modules(10.13)
    assert np.argwhere(np.isnan(modules.cell_v).all(axis=2)).tolist() == [[0, 1]]


def test_a_self_test_that_has_not_finished_is_not_reported() -> None:
    heard = receiver()
    heard.sync_sent(5, 0, 3, 10.0)
    heard.feed(slave.raw(slave.node_status(2, 5, SelfTestDone=0), slave.node_status(3, 5, SelfTest=5)), 10.05)
    assert heard.modules(10.13).self_test.tolist() == [[-1, -1], [5, -1]]


def test_the_self_test_of_a_unit_is_held_for_fifteen_polls() -> None:
    heard = receiver()
    heard.sync_sent(5, 0, 3, 10.0)
    heard.feed(slave.raw(slave.node_status(65, 5, SelfTest=CURRENT_SENSOR_TEST)), 10.05)
    assert heard.units(10.13).self_test.tolist() == [256, -1]
    assert heard.units(13.0 - 1e-9).self_test.tolist() == [256, -1]
    assert heard.units(13.0 + 1e-6).self_test.tolist() == [-1, -1]


def test_a_snapshot_is_never_written_again() -> None:
    heard = polled(1, 1, 10.0)
    before = heard.modules(10.1), heard.units(10.1)
    copies = [{name: np.copy(getattr(part, name)) for name in part.__slots__} for part in before]
    for k, group in enumerate((2, 3, 1, 0)):
        answer(heard, 2 + k, group, 10.2 + 0.2 * k, without=[2] if k == 3 else [])
    heard.feed(slave.raw(slave.spoilt(slave.cells(1, 5, 14)[0]), slave.trip(65, 3)), 10.95)
    heard.modules(11.0)
    for part, copy in zip(before, copies, strict=True):
        for name, was in copy.items():
            np.testing.assert_array_equal(getattr(part, name), was, err_msg=name)


# silence, and what comes after it


def old_cells(number: int) -> list[Frame]:
    """Cells of board 2 as they were at another time."""
    return slave.cells(2, number, 14, **{f"Cell{c}Voltage": 4000 for c in range(1, 15)})


def silent_since(number: int, at_s: float, polls: int) -> Receiver:
    """A rack whose board 2 answered poll `number` and then none of `polls`."""
    heard = polled(number, at_s=at_s)
    for k in range(1, polls + 1):
        answer(heard, number + k, at_s=at_s + 0.2 * k, without=[2])
    return heard


def test_frames_that_waited_in_a_board_for_16_polls_are_not_believed_although_their_counter_fits() -> None:
    heard = silent_since(5, 10.0, 15)
    heard.sync_sent(21, 0, 0, 13.2)
    heard.feed(slave.raw(*slave.poll(LAYOUT, 21, without=[2]), *old_cells(5)), 13.3)
    assert heard.counts.sum() == 0, "nothing in them shows that they are old"
    modules = heard.modules(13.33)
    assert np.isnan(modules.cell_v[0, 1]).all()
    np.testing.assert_allclose(modules.cell_age_s, [[0.13, 3.33], [0.13, 0.13]])
    answer(heard, 22, at_s=13.4)
    np.testing.assert_array_equal(heard.modules(13.5).cell_v, wanted_cells())
    np.testing.assert_allclose(heard.modules(13.5).cell_age_s, 0.1)


@pytest.mark.parametrize(("polls", "believed"), [(1, True), (2, True), (3, False), (15, False)])
def test_the_first_answer_after_a_silence_counts_only_while_the_value_before_is_held(
    polls: int, believed: bool
) -> None:
    heard = silent_since(5, 10.0, polls)
    answer(heard, 6 + polls, at_s=10.2 + 0.2 * polls)
    assert np.isfinite(heard.modules(10.3 + 0.2 * polls).cell_v[0, 1]).all() == believed
    answer(heard, 7 + polls, at_s=10.4 + 0.2 * polls)
    assert np.isfinite(heard.modules(10.5 + 0.2 * polls).cell_v).all()


def test_a_unit_that_was_silent_is_believed_from_its_second_answer_on() -> None:
    heard = polled(1, 1, 10.0)
    answer(heard, 2, 1, 10.7)
    assert np.isnan([heard.units(10.8).current_a, heard.units(10.8).bus_v]).all()
    assert (heard.units(10.8).minus == Feedback.UNKNOWN).all()
    heard.sync_sent(2, 1, 0, 10.85)
    heard.feed(slave.raw(*[slave.current(unit, 2, 1) for unit in UNITS]), 10.86)
    assert heard.units(10.86).current_a.tolist() == [10.0, 10.0]
    answer(heard, 3, 1, 10.9)
    assert heard.units(11.0).bus_v.tolist() == [52.0, 52.0]
    assert (heard.units(11.0).minus == Feedback.OPEN).all()


def test_temperatures_that_were_silent_for_long_are_believed_from_the_second_answer_on() -> None:
    heard = polled(1, 1, 10.0)
    for k in range(1, 17):
        answer(heard, 1 + k, 0, 10.0 + 0.2 * k)
    answer(heard, 18, 1, 13.4)
    assert np.isnan(heard.modules(13.5).temperature_degc).all()
    assert np.isfinite(heard.modules(13.5).cell_v).all()
    answer(heard, 19, 1, 13.6)
    assert np.isfinite(heard.modules(13.7).temperature_degc).all()


@pytest.mark.parametrize("group", [2, 3])
def test_states_that_were_silent_for_long_are_believed_from_the_second_answer_on(group: int) -> None:
    heard = polled(1, group, 10.0)
    for k in range(1, 17):
        answer(heard, 1 + k, 1, 10.0 + 0.2 * k)
    answer(heard, 18, group, 13.4)
    known = heard.modules(13.5).module_v if group == 2 else heard.modules(13.5).board_degc
    assert np.isnan(known).all()
    answer(heard, 19, group, 13.6)
    known = heard.modules(13.7).module_v if group == 2 else heard.modules(13.7).board_degc
    assert np.isfinite(known).all()


@pytest.mark.parametrize("late", [*range(1, 36), 100, 1000])
def test_a_board_behind_a_queue_that_is_always_as_long_is_hardly_ever_believed(late: int) -> None:
    """Its frames come in their slot, sound, but those of `late` polls ago; the others answer as they should."""
    heard, asking, queue = receiver(), Poller(TIMING, LAYOUT), []
    believed = 0
    polls = late + 300
    for k in range(polls):
        now_s = 10.0 + 0.2 * k
        asking.step(now_s)
        assert asking.sync
        heard.sync_sent(*asking.sync)
        queue.append(asking.sync.number)
        old = old_cells(queue[-1 - late]) if k >= late else []
        heard.feed(slave.raw(*slave.poll(LAYOUT, queue[-1], without=[2]), *old), now_s + 0.1)
        believed += bool(heard.modules(now_s + 0.13).cell_age_s[0, 1] < 0.2)
    errors = int(heard.modules(now_s).counter_errors[0, 1]) / 4
    assert believed == 0 if late < 8 else believed <= 0.25 * 300
    assert errors >= 0.7 * 300


def test_a_sync_of_another_number_ends_the_poll_also_when_its_phase_0_was_missed() -> None:
    heard = receiver()
    heard.sync_sent(5, 0, 0, 10.0)
    heard.feed(slave.raw(*slave.poll(LAYOUT, 5, without=[2])), 10.05)
    heard.sync_sent(6, 2, 0, 10.31)
    heard.feed(slave.raw(*slave.cells(2, 6, 14)), 10.32)
    assert np.isnan(heard.modules(10.33).cell_v[0, 1]).all()
    assert heard.counts[Kind.LATE] == 4


# bad frames


def one_bad(bad: Frame | RawFrames, number: int = 5) -> tuple[Receiver, np.ndarray]:
    """A healthy poll with one bad frame among it, another healthy one before; the cells as known then."""
    heard = polled(number - 1, at_s=9.8)
    heard.sync_sent(number, 0, 0, 10.0)
    raw = slave.raw(bad) if isinstance(bad, Frame) else bad
    good = [frame for frame in slave.poll(LAYOUT, number) if frame.can_id != int(raw["can_id"][0]) & 0x1FFFFFFF]
    heard.feed(slave.joined([slave.raw(*good), raw]), 10.1)
    return heard, heard.modules(10.13).cell_age_s


def raw_frame(can_id: int, data: bytes, length: int = 8) -> RawFrames:
    return np.array([(can_id, length, 0, int.from_bytes(data.ljust(8, b"\0"), "little"))], dtype=RAW_FRAME)


BOARD_2 = slave.cells(2, 5, 14)[1]


@pytest.mark.parametrize(
    ("bad", "kind"),
    [
        (slave.raw(slave.spoilt(BOARD_2, 3)), Kind.CRC),
        (slave.raw(slave.spoilt(BOARD_2, 63)), Kind.CRC),
        (slave.raw(slave.cells(2, 4, 14)[1]), Kind.COUNTER),
        (slave.raw(slave.cells(2, 6, 14)[1]), Kind.COUNTER),
        (raw_frame(BOARD_2.can_id | EXTENDED_FLAG, BOARD_2.data, 7), Kind.LENGTH),
        (raw_frame(BOARD_2.can_id | EXTENDED_FLAG, b"", 0), Kind.LENGTH),
        (raw_frame(BOARD_2.can_id | EXTENDED_FLAG, BOARD_2.data, 64), Kind.LENGTH),
        (raw_frame(BOARD_2.can_id | EXTENDED_FLAG | REMOTE_FLAG, BOARD_2.data), Kind.REMOTE),
        (raw_frame(BOARD_2.can_id | EXTENDED_FLAG | ERROR_FLAG, BOARD_2.data), Kind.ERROR),
        (raw_frame(BOARD_2.can_id, BOARD_2.data), Kind.FOREIGN),
    ],
    ids=["crc", "crc byte", "old", "new", "dlc 7", "dlc 0", "dlc 64", "remote", "error", "standard"],
)
def test_a_bad_frame_is_counted_by_kind_and_spoils_its_board_only(bad: RawFrames, kind: Kind) -> None:
    heard, age_s = one_bad(bad)
    assert heard.counts[kind] == 1
    assert heard.counts.sum() == 1
    np.testing.assert_allclose(age_s, [[0.13, 0.33], [0.13, 0.13]])
    np.testing.assert_array_equal(heard.modules(10.13).cell_v, wanted_cells())


def test_errors_are_counted_for_their_node() -> None:
    heard = polled(5)
    heard.feed(slave.raw(slave.spoilt(BOARD_2), slave.spoilt(slave.voltages(66, 5))), 10.15)
    heard.feed(slave.raw(slave.cells(3, 9, 14)[0]), 10.15)
    modules, units = heard.modules(10.15), heard.units(10.15)
    assert modules.crc_errors.tolist() == [[0, 1], [0, 0]]
    assert modules.counter_errors.tolist() == [[0, 0], [1, 0]]
    assert modules.frames.tolist() == [[4, 5], [5, 4]]
    assert units.crc_errors.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("frame", "kind"),
    [
        (slave.cells(9, 5, 14)[0], Kind.UNKNOWN_ADDRESS),
        (slave.current(67, 5), Kind.UNKNOWN_ADDRESS),
        (slave.voltages(2, 5), Kind.UNKNOWN_ADDRESS),
        (slave.cells(65, 5, 14)[0], Kind.UNKNOWN_ADDRESS),
        (slave.pack("Heartbeat", 0, {"Counter": 1, "Lease": 10, "ControlState": 1}), Kind.OWN),
        (slave.pack("ContactorCommand", 65, dict.fromkeys(
            ("Counter", "CloseMinus", "ClosePrecharge", "ClosePlus", "InverterEnable", "Lease"), 0)), Kind.OWN),
        (slave.pack("Sync", 0, {"Number": 1, "Phase": 0, "SlowGroup": 0, "PollPeriod": 20}), Kind.OWN),
        (Frame(0x11B52281, bytes(8), True), Kind.FOREIGN),
        (Frame(0x01B51281, bytes(8), True), Kind.FOREIGN),
        (Frame(0x1FFFFFFF, bytes(8), True), Kind.FOREIGN),
        (Frame(0x123, bytes(8), False), Kind.FOREIGN),
        (Frame(0x0, b"", True), Kind.FOREIGN),
    ],
)  # fmt: skip
def test_frames_of_others_are_counted_and_change_nothing(frame: Frame, kind: Kind) -> None:
    heard = polled(5)
    heard.sync_sent(6, 0, 0, 10.2)
    heard.feed(slave.raw(frame, *slave.poll(LAYOUT, 6)), 10.3)
    assert heard.counts[kind] == 1
    assert heard.counts.sum() == 1
    assert heard.foreign_frames == (kind is Kind.OWN)
    np.testing.assert_allclose(heard.modules(10.33).cell_age_s, 0.13)


def test_junk_in_the_padding_of_the_kernel_s_frame_does_not_matter() -> None:
    heard = receiver()
    heard.sync_sent(5, 0, 0, 10.0)
    frames = slave.raw(*slave.poll(LAYOUT, 5))
    frames["pad"] = 0xA5
    heard.feed(frames, 10.1)
    np.testing.assert_array_equal(heard.modules(10.1).cell_v, wanted_cells())
    assert heard.counts.sum() == 0


@pytest.mark.parametrize("bit", range(24))
def test_junk_in_the_padding_does_not_make_up_for_a_wrong_counter_or_crc(bit: int) -> None:
    heard = receiver()
    heard.sync_sent(5, 0, 0, 10.0)
    wrong = [slave.cells(2, number, 14)[0] for number in range(16) if number != 5]
    wrong += [slave.spoilt(BOARD_2, 56 + k) for k in range(8)]
    for frame in wrong:
        batch = slave.raw(frame)
        batch["pad"] = [(1 << bit) >> 8 * k & 0xFF for k in range(3)]
        heard.feed(batch, 10.05)
    assert (heard.counts[Kind.COUNTER], heard.counts[Kind.CRC]) == (15, 8)


def test_the_counter_wraps_with_the_sync_number_modulo_16() -> None:
    heard = receiver()
    for k in range(260):
        answer(heard, k % 256, at_s=10.0 + 0.2 * k)
        np.testing.assert_allclose(heard.modules(10.1 + 0.2 * k).cell_age_s, 0.1)
    assert heard.counts.sum() == 0


def test_a_frame_that_comes_twice_is_taken_once() -> None:
    heard = receiver()
    heard.sync_sent(5, 0, 0, 10.0)
    frames = slave.poll(LAYOUT, 5)
    heard.feed(slave.raw(*frames[:10], *frames[:3]), 10.05)
    heard.feed(slave.raw(*frames[10:], frames[0]), 10.1)
    np.testing.assert_array_equal(heard.modules(10.1).cell_v, wanted_cells())
    assert heard.counts[Kind.DUPLICATE] == 4
    assert heard.counts.sum() == 4


@pytest.mark.parametrize("together", [True, False])
def test_two_boards_with_one_address_are_not_believed(together: bool) -> None:
    heard = polled(4, at_s=9.8)
    heard.sync_sent(5, 0, 0, 10.0)
    frames, other = slave.poll(LAYOUT, 5), slave.cells(2, 5, 14, Cell5Voltage=4321)
    if together:
        heard.feed(slave.raw(*frames, *other), 10.1)
    else:
        heard.feed(slave.raw(*other), 10.05)
        heard.feed(slave.raw(*frames), 10.1)
    np.testing.assert_allclose(heard.modules(10.13).cell_age_s, [[0.13, 0.33], [0.13, 0.13]])
    assert heard.counts[Kind.CONFLICT] == 1
    assert heard.counts[Kind.DUPLICATE] == 3
    answer(heard, 6, at_s=10.2)
    np.testing.assert_allclose(heard.modules(10.33).cell_age_s, 0.13)


def test_two_units_with_one_address_are_not_believed() -> None:
    heard = polled(4, at_s=9.8)
    heard.sync_sent(5, 0, 0, 10.0)
    other = [slave.current(65, 5, raw_a=77), slave.voltages(65, 5, BusVoltage=3)]
    heard.feed(slave.raw(*slave.poll(LAYOUT, 5), *other), 10.1)
    units = heard.units(10.13)
    np.testing.assert_allclose(units.current_age_s, [0.33, 0.13])
    np.testing.assert_allclose(units.voltage_age_s, [0.33, 0.13])
    np.testing.assert_allclose(units.state_age_s, [0.13, 0.13])


def test_a_flood_is_counted_and_good_frames_within_it_are_taken() -> None:
    heard = receiver()
    heard.sync_sent(5, 0, 0, 10.0)
    random = np.random.default_rng(7)
    flood = np.zeros(100_000, dtype=RAW_FRAME)
    flood["can_id"] = random.integers(0, 2**29, len(flood), dtype=np.uint32) & ~np.uint32(0x01B5F000) | EXTENDED_FLAG
    flood["length"] = 8
    flood["data"] = random.integers(0, 2**64, len(flood), dtype=np.uint64)
    good = slave.raw(*slave.poll(LAYOUT, 5))
    flood[5000 : 5000 + 7 * len(good) : 7] = good
    heard.feed(flood, 10.1)
    np.testing.assert_array_equal(heard.modules(10.13).cell_v, wanted_cells())
    assert heard.counts[Kind.FOREIGN] == len(flood) - len(good)


def test_before_the_first_sync_frames_are_late_and_not_taken() -> None:
    heard = receiver()
    heard.feed(slave.raw(*slave.poll(LAYOUT, 0)), 1.0)
    assert np.isnan(heard.modules(1.0).cell_v).all()
    assert heard.counts[Kind.LATE] == heard.counts.sum() == len(slave.poll(LAYOUT, 0))
    assert heard.modules(1.0).counter_errors.sum() == 0


raw_frames = st.builds(
    lambda can_id, flags, length, pad, data: (can_id | flags, length, pad, data),
    st.one_of(
        st.integers(0, 0x1FFFFFFF),
        st.builds(lambda kind, address: kind.can_id & ~0x7F | address, st.sampled_from(slave.poll(LAYOUT, 5, 1)),
                  st.integers(0, 127)),
        st.sampled_from([0x01B51000, 0x19B51980, 0x19B51A00, 0x19B51B00, 0x01B51001, 0x19B51981]),
    ),
    st.sampled_from([0, EXTENDED_FLAG, EXTENDED_FLAG, EXTENDED_FLAG, REMOTE_FLAG, ERROR_FLAG]),
    st.one_of(st.just(8), st.integers(0, 255)),
    st.integers(0, 255),
    st.integers(0, 2**64 - 1),
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.lists(raw_frames, max_size=40), st.integers(0, 3), st.integers(0, 15))
def test_random_bytes_never_raise_and_never_become_a_measurement(
    frames: list[tuple[int, int, int, int]], phase: int, group: int
) -> None:
    heard = polled(4, at_s=9.8)
    before = heard.modules(9.9)
    heard.sync_sent(5, phase, group, 10.0)
    batch = np.zeros(len(frames), dtype=RAW_FRAME)
    for k, (can_id, length, pad, data) in enumerate(frames):
        batch[k] = (can_id, length, pad, data)
    heard.feed(batch, 10.05)
    heard.sync_sent(6, 0, 0, 10.2)
    modules = heard.modules(10.2)
    heard.units(10.2)
    heard.missing(10.2)
    heard.unidentified(10.2)
    np.testing.assert_array_equal(modules.cell_v, before.cell_v)


# two boards under one address


def sightings(heard: Receiver, now_s: float = 10.13) -> list[list[int]]:
    found: list[list[int]] = heard.modules(now_s).duplicates.tolist()
    return found


def test_another_content_for_what_was_heard_is_one_sighting_a_poll() -> None:
    heard = polled(4, at_s=9.8)
    for k in range(3):
        heard.sync_sent(5 + k, 0, 0, 10.0 + 0.2 * k)
        other = slave.cells(2, 5 + k, 14, Cell5Voltage=4321, Cell9Voltage=4321)
        heard.feed(slave.raw(*slave.poll(LAYOUT, 5 + k), *other), 10.1 + 0.2 * k)
        assert sightings(heard, 10.13 + 0.2 * k) == [[0, k + 1], [0, 0]]


def test_another_content_is_seen_also_after_its_poll_has_closed() -> None:
    heard = polled(5)
    heard.feed(slave.raw(slave.cells(2, 5, 14, Cell1Voltage=4321)[0]), 10.14)
    assert heard.counts[Kind.LATE] == 1
    assert sightings(heard, 10.15) == [[0, 1], [0, 0]]


def test_all_cells_twice_are_a_sighting_and_a_single_frame_twice_is_none() -> None:
    heard = receiver()
    heard.sync_sent(5, 0, 0, 10.0)
    twice = slave.cells(2, 5, 14)
    heard.feed(slave.raw(*slave.poll(LAYOUT, 5)[:-1], *twice[:3]), 10.05)
    assert sightings(heard, 10.05) == [[0, 0], [0, 0]]
    heard.feed(slave.raw(twice[3]), 10.06)
    assert sightings(heard, 10.06) == [[0, 1], [0, 0]]


def test_repeated_frames_of_several_polls_do_not_add_up_to_an_answer() -> None:
    heard = receiver()
    for k in range(4):
        heard.sync_sent(5 + k, 0, 0, 10.0 + 0.2 * k)
        heard.feed(slave.raw(*slave.poll(LAYOUT, 5 + k), slave.cells(2, 5 + k, 14)[k]), 10.1 + 0.2 * k)
    assert heard.counts[Kind.DUPLICATE] == 4
    assert sightings(heard, 10.8) == [[0, 0], [0, 0]]


@pytest.mark.parametrize("batches", [1, 2])
def test_a_frame_of_another_sync_is_a_sighting_only_after_the_right_one(batches: int) -> None:
    right, wrong = slave.cells(2, 6, 14)[0], slave.cells(2, 5, 14)[0]
    for frames, wanted in (((right, wrong), 1), ((wrong, right), 0), ((wrong, wrong), 0)):
        heard = polled(5)
        heard.sync_sent(6, 0, 0, 10.2)
        for k in range(batches):
            heard.feed(slave.raw(*frames[k * len(frames) // batches : (k + 1) * len(frames) // batches]), 10.21)
        assert sightings(heard, 10.22) == [[0, wanted], [0, 0]]


def test_frames_that_waited_before_the_first_sync_are_no_sighting() -> None:
    heard = receiver()
    heard.feed(slave.raw(*slave.cells(2, 5, 14), *slave.cells(2, 6, 14, Cell1Voltage=4000)), 10.0)
    assert sightings(heard) == [[0, 0], [0, 0]]


def test_boards_that_a_second_master_asks_too_are_not_taken_for_two() -> None:
    heard = receiver()
    foreign = slave.pack("Sync", 0, {"Number": 9, "Phase": 0, "SlowGroup": 0, "PollPeriod": 20})
    for k in range(4):
        heard.sync_sent(5 + k, 0, 0, 10.0 + 0.2 * k)
        heard.feed(slave.raw(*slave.poll(LAYOUT, 5 + k)[:-1]), 10.09 + 0.2 * k)
        twice = [*slave.cells(2, 9, 14), *slave.cells(3, 5 + k, 14, Cell1Voltage=4000)]
        heard.feed(slave.raw(*([foreign] if k == 0 else []), *twice), 10.1 + 0.2 * k)
    assert heard.foreign_frames == 1
    assert sightings(heard, 10.8) == [[0, 2], [2, 0]], "only in the third and fourth poll"


def test_damaged_frames_are_no_sighting() -> None:
    heard = receiver()
    heard.sync_sent(5, 0, 0, 10.0)
    heard.feed(slave.raw(*slave.poll(LAYOUT, 5)[:-1], slave.spoilt(BOARD_2), slave.spoilt(BOARD_2, 7)), 10.1)
    assert heard.counts[Kind.CRC] == 2
    assert sightings(heard, 10.11) == [[0, 0], [0, 0]]


@pytest.mark.parametrize("together", [True, False])
def test_two_unique_numbers_at_one_address_are_a_sighting(together: bool) -> None:
    heard = polled()
    frames = [slave.identity(2, uid=5)[0], slave.identity(2, uid=6)[0]]
    for batch in [frames] if together else [[frame] for frame in frames]:
        heard.feed(slave.raw(*batch), 10.1)
    assert sightings(heard) == [[0, 1], [0, 0]]
    answer(heard, 6, at_s=10.2)
    heard.feed(slave.raw(frames[1]), 10.31)
    assert sightings(heard, 10.33) == [[0, 1], [0, 0]], "the same number again is none"


def test_a_board_that_follows_a_silent_one_is_another_board_and_no_sighting() -> None:
    heard = polled(at_s=10.0)
    identify(heard, *MODULES, *UNITS)
    heard.unidentified(13.1)
    heard.feed(slave.raw(*slave.identity(2, uid=9)), 13.2)
    modules = heard.modules(13.2)
    assert modules.uid.tolist() == [[-1, 9], [-1, -1]]
    assert modules.duplicates.sum() == 0


def test_units_are_not_counted_as_boards() -> None:
    heard = receiver()
    heard.sync_sent(5, 0, 0, 10.0)
    heard.feed(slave.raw(slave.voltages(65, 5), slave.voltages(65, 5, BusVoltage=3), *slave.identity(65, uid=1)), 10.1)
    heard.feed(slave.raw(*slave.identity(65, uid=2)), 10.1)
    assert heard.counts[Kind.CONFLICT] == 1
    assert sightings(heard) == [[0, 0], [0, 0]]


# identification, trips, sentences


def identify(heard: Receiver, *addresses: int, at_s: float = 10.0, **changes: int) -> None:
    frames = [frame for a in addresses for frame in slave.identity(a, uid=1000 + a, cells=14, **changes)]
    heard.feed(slave.raw(*frames), at_s)


def test_nodes_that_said_who_they_are_are_identified() -> None:
    heard = polled(at_s=10.0)
    assert heard.unidentified(10.1) == (*MODULES, *UNITS)
    identify(heard, 1, 2, 4, 66)
    assert heard.unidentified(10.1) == (3, 65)
    assert heard.modules(10.1).identified.tolist() == [[True, True], [False, True]]
    assert heard.units(10.1).identified.tolist() == [False, True]
    assert heard.identities.uid.tolist() == [1001, 1002, -1, 1004, -1, 1066]
    assert heard.modules(10.1).uid.tolist() == [[1001, 1002], [-1, 1004]]
    assert heard.modules(10.1).board_type.tolist() == [[1, 1], [-1, 1]]
    assert heard.modules(10.1).chemistry.tolist() == [[1, 1], [-1, 1]]
    assert heard.identities.field("FirmwareMinor").tolist() == [7, 7, -1, 7, -1, 7]
    assert heard.modules(10.1).cell_count.tolist() == [[14, 14], [-1, 14]]
    assert heard.counts.sum() == 0


def test_nodes_are_identified_before_the_first_sync_too() -> None:
    heard = receiver()
    identify(heard, *MODULES, at_s=1.0)
    heard.feed(slave.raw(slave.current(65, 3), *slave.identity(65, uid=9)), 1.0)
    assert heard.unidentified(1.0) == (66,)
    assert heard.identities.uid.tolist() == [1001, 1002, 1003, 1004, 9, -1]
    assert heard.counts[Kind.LATE] == heard.counts.sum() == 1


def test_a_unique_number_alone_is_no_identification() -> None:
    heard = polled()
    heard.feed(slave.raw(slave.identity(1, uid=5)[0]), 10.1)
    assert 1 in heard.unidentified(10.1)


def test_a_contactor_unit_at_the_address_of_a_board_is_not_identified() -> None:
    heard = polled()
    identify(heard, 1, BoardType=2)
    assert 1 in heard.unidentified(10.1)
    assert "module 1 of string 1 (address 1): is no module board" in heard.missing(10.1)


def test_another_unique_number_is_another_board() -> None:
    heard = polled()
    identify(heard, 1)
    heard.feed(slave.raw(slave.identity(1, uid=9)[0]), 10.1)
    assert 1 in heard.unidentified(10.1)
    heard.feed(slave.raw(slave.identity(1, uid=9)[1]), 10.1)
    assert 1 not in heard.unidentified(10.1)


def test_a_board_that_was_silent_for_long_must_say_again_who_it_is() -> None:
    heard = polled(at_s=10.0)
    identify(heard, *MODULES, *UNITS)
    assert heard.unidentified(12.9) == ()
    assert heard.unidentified(13.1) == (*MODULES, *UNITS)
    assert not heard.modules(13.1).identified.any()


def test_a_node_without_an_address_is_discovered() -> None:
    heard = receiver()
    heard.feed(slave.raw(slave.pack("Discovery", 0x55, {"Uid": 77, "BoardType": 1})), 1.0)
    assert heard.discovered == {77: 1}


def test_a_trip_counts_at_once() -> None:
    heard = polled(1, 2, 10.0)
    assert not heard.modules(10.11).trip_active.any()
    heard.feed(slave.raw(slave.trip(4, 3, 2), slave.trip(66, 6)), 10.12)
    assert heard.modules(10.12).trip_active.tolist() == [[False, False], [False, True]]
    assert heard.units(10.12).trip_code.tolist() == [0, 6]
    assert (heard.trips[4].code, heard.trips[4].cell, heard.trips[4].first_s) == (3, 2, 10.12)


def test_a_state_older_than_the_trip_does_not_take_it_back_and_a_newer_one_does() -> None:
    heard = polled(1, 2, 10.0)
    heard.sync_sent(2, 0, 2, 10.2)
    heard.feed(slave.raw(slave.trip(4, 3), slave.trip(66, 6)), 10.25)
    heard.feed(slave.raw(*slave.poll(LAYOUT, 2, 2)), 10.3)
    assert heard.modules(10.3).trip_active[1, 1]
    assert heard.units(10.3).trip_code[1] == 6
    answer(heard, 3, 2, 10.4)
    assert not heard.modules(10.5).trip_active.any()
    assert heard.units(10.5).trip_code.tolist() == [0, 0]


def test_a_trip_with_a_wrong_crc_is_not_believed() -> None:
    heard = polled()
    heard.feed(slave.raw(slave.spoilt(slave.trip(4, 3))), 10.12)
    assert not heard.modules(10.12).trip_active.any()
    assert heard.trips == {}


def test_a_trip_of_a_stranger_is_noted() -> None:
    heard = polled()
    heard.feed(slave.raw(slave.trip(30, 1)), 10.12)
    assert heard.trips[30].code == 1
    assert not heard.modules(10.12).trip_active.any()


def test_what_is_missing_is_said_in_sentences() -> None:
    heard = receiver()
    identify(heard, *MODULES, *UNITS)
    heard.sync_sent(5, 0, 0, 10.0)
    frames = [f for f in slave.poll(LAYOUT, 5, without=[2, 66]) if f.can_id != slave.cells(3, 5, 14)[2].can_id]
    heard.feed(slave.raw(*frames), 10.1)
    assert heard.missing(10.13) == [
        "module 2 of string 1 (address 2): no answer",
        "module 1 of string 2 (address 3): answers without CellVoltages3",
        "contactor unit of string 2 (address 66): no answer",
    ]


def test_a_complete_rack_misses_nothing() -> None:
    heard = polled(5)
    identify(heard, *MODULES, *UNITS)
    assert heard.missing(10.13) == []
    assert len(heard.missing(11.0)) == 6


def test_a_board_with_another_number_of_cells_is_named() -> None:
    heard = polled(5)
    identify(heard, *MODULES, *UNITS)
    heard.feed(slave.raw(*slave.identity(3, uid=1003, cells=16)), 10.1)
    assert heard.missing(10.13) == ["module 1 of string 2 (address 3): measures 16 cells, 14 are configured"]


@pytest.mark.parametrize(
    "layout",
    [
        Layout(1, 1, 1, 1),
        Layout(1, 1, 24, 8),
        Layout(8, 4, 24, 8),
        Layout(1, 3, 4, 0),
        Layout(2, 2, 16, 4, module_addresses=((9, 4), (31, 2)), unit_addresses=(72, 66)),
    ],
    ids=["smallest", "24 cells", "largest", "no sensors", "own addresses"],
)
def test_every_layout_is_decoded_whole(layout: Layout) -> None:
    heard = Receiver(layout, TIMING)
    for number, group in enumerate((1, 2, 3)):
        heard.sync_sent(number, 0, group, number * 0.2)
        heard.feed(slave.raw(*slave.poll(layout, number, group)), number * 0.2 + 0.1)
    modules, units = heard.modules(0.5), heard.units(0.5)
    for (string, module), address in np.ndenumerate(layout.module_address_array):
        volts = [slave.cell_raw(int(address), c) * 0.000625 for c in range(layout.cells)]
        np.testing.assert_array_equal(modules.cell_v[string, module], volts)
        degc = [slave.sensor_raw(int(address), c) * 0.05 - 100.0 for c in range(layout.sensors)]
        np.testing.assert_array_equal(modules.temperature_degc[string, module], degc)
        assert modules.module_v[string, module] == pytest.approx((26000 + address) * 0.002)
    assert modules.cell_v.shape == layout.cell_shape
    assert modules.temperature_degc.shape == layout.sensor_shape
    assert (modules.self_test == 0).all()
    np.testing.assert_allclose(units.current_a, 10.0)
    assert heard.counts.sum() == 0


def test_no_turned_bit_of_a_measurement_passes() -> None:
    for bit in range(64):
        heard = receiver()
        heard.sync_sent(5, 0, 0, 10.0)
        heard.feed(slave.raw(slave.spoilt(BOARD_2, bit)), 10.05)
        assert heard.counts[Kind.CRC] == 1, bit


def test_a_silent_unit_holds_back_the_currents_of_the_others_for_20_ms_only() -> None:
    heard = receiver()
    heard.sync_sent(5, 0, 0, 10.0)
    heard.feed(slave.raw(slave.current(65, 5)), 10.002)
    assert np.isnan(heard.units(10.0199).current_a).all()
    units = heard.units(10.02)
    assert units.current_a[0] == 10.0
    assert math.isnan(units.current_a[1])
    assert math.isnan(units.charge_as[1])
