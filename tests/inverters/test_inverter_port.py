"""What the inverter hears and when: stories on a clock moved by hand."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from inverter_builders import a_command, settings

from bmsd.errors import ConfigError
from bmsd.inverters.port import InverterPort
from bmsd.inverters.profile import Limits, load_profile
from bmsd.model.command import Command
from bmsd.model.frame import Frame
from bmsd.model.row import Alarm

SET = [0x351, 0x355, 0x356, 0x359, 0x35C, 0x35E]
KEEP_ALIVE = Frame(0x305, bytes(8), False)
STALE: dict[str, Any] = {
    "fresh": False,
    "ccl_a": 0.0,
    "dcl_a": 0.0,
    "charge_enabled": False,
    "discharge_enabled": False,
}

Sent = list[tuple[int, Frame]]


def a_port(**changes: Any) -> InverterPort:
    given_settings = settings(**changes)
    return InverterPort(load_profile(given_settings.profile, given_settings.options), given_settings)


def play(port: InverterPort, story: Iterable[tuple[int, Command]], until_ms: int) -> Sent:
    """Play finished ticks (time in ms, command), stepping in between whenever the port is due; return what it sent."""
    ticks = [*story, (until_ms, None)]
    sent: Sent = []
    for (at_ms, command), (next_ms, _) in itertools.pairwise(ticks):
        now_s = at_ms / 1000
        sent += [(round(now_s * 1000), frame) for frame in port.step(now_s, command, ())]
        while port.due_s < next_ms / 1000:
            now_s = max(now_s, port.due_s)
            sent += [(round(now_s * 1000), frame) for frame in port.step(now_s, None, ())]
    return sent


def every_tick(command: Command, start_ms: int = 0, stop_ms: int = 1000) -> list[tuple[int, Command]]:
    return [(at_ms, command) for at_ms in range(start_ms, stop_ms, 100)]


def times(sent: Sent) -> list[tuple[int, int]]:
    return [(at_ms, frame.can_id) for at_ms, frame in sent]


def told(sent: Sent, field: str) -> list[tuple[int, Any]]:
    """Return (time, value) of one limit wherever a frame carries it."""
    profile = load_profile("pylontech_lv")
    values = [(at_ms, getattr(profile.decode_limits(frame), field)) for at_ms, frame in sent]
    return [(at_ms, value) for at_ms, value in values if value is not None]


def test_the_set_goes_out_every_second_20_ms_apart() -> None:
    sent = play(a_port(), every_tick(a_command(), stop_ms=3000), 3000)
    expected = [(start + 20 * k, can_id) for start in (0, 1000, 2000) for k, can_id in enumerate(SET)]
    assert times(sent) == expected


def test_lateness_does_not_add_up() -> None:
    port = a_port()
    sent = []
    for k in range(1500):
        now_s = k * 0.013
        sent += [(now_s, frame.can_id) for frame in port.step(now_s, a_command() if k % 8 == 0 else None, ())]
    starts = [now_s for now_s, can_id in sent if can_id == 0x351]
    assert len(starts) == 20
    assert all(0 <= at_s - k < 0.0131 for k, at_s in enumerate(starts))


def test_the_order_of_a_set_stays_when_its_first_frame_has_to_wait() -> None:
    story = [*every_tick(a_command(), 0, 900), *every_tick(a_command(ccl_a=50.0), 900, 1500)]
    sent = times(play(a_port(), story, 1500))[6:]
    assert sent[:2] == [(900, 0x351), (905, 0x35C)]
    assert sent[2:] == [(1100, 0x351), (1120, 0x355), (1140, 0x356), (1160, 0x359), (1180, 0x35C), (1200, 0x35E)]


def test_one_step_never_returns_two_frames_even_when_it_comes_late() -> None:
    port = a_port()
    assert len(port.step(0.0, a_command(), ())) == 1
    assert len(port.step(0.2, a_command(), ())) == 1
    assert port.step(0.2049, None, ()) == []


def test_a_loop_that_only_ticks_still_sends_every_frame() -> None:
    port = a_port()
    sent = [frame.can_id for k in range(20) for frame in port.step(k / 10, a_command(), ())]
    assert sent == SET * 2


def test_nothing_is_sent_before_anything_is_measured() -> None:
    port = a_port()
    assert play(port, every_tick(a_command(**STALE, voltage_v=None)), 1000) == []
    assert port.silent
    assert port.due_s == math.inf
    assert times(play(port, [(1000, a_command())], 1010)) == [(1000, 0x351)]
    assert not port.silent


def test_a_rack_that_was_never_complete_says_zero_limits_for_as_long_as_it_is_measured() -> None:
    sent = play(a_port(), every_tick(a_command(fresh=False), 0, 20_000), 20_000)
    assert times(sent) == [(1000 * start + 20 * k, can_id) for start in range(20) for k, can_id in enumerate(SET)]
    assert {value for field in ("ccl_a", "dcl_a") for _, value in told(sent, field)} == {0.0}
    assert {value for field in ("charge_enabled", "discharge_enabled") for _, value in told(sent, field)} == {False}
    assert {frame.data[1] for _, frame in sent if frame.can_id == 0x359} == {0x08}


def test_a_rack_that_was_never_complete_falls_silent_when_nothing_is_measured_any_more() -> None:
    story = [
        *every_tick(a_command(**STALE), 0, 2000),
        *every_tick(a_command(**STALE, voltage_v=None, cvl_v=None), 2000, 10_000),
        *every_tick(a_command(**STALE), 10_000, 11_000),
    ]
    sent = play(a_port(), story, 11_000)
    assert {at_ms // 1000 for at_ms, _ in sent} == {0, 1, 2, 3, 4, 5, 6, 10}
    assert {value for _, value in told(sent, "cvl_v")} == {56.0}


def test_limits_follow_zeros_when_a_rack_gets_complete() -> None:
    story = [*every_tick(a_command(**STALE), 0, 2000), *every_tick(a_command(), 2000, 4000)]
    assert told(play(a_port(), story, 4000), "ccl_a") == [(0, 0.0), (1000, 0.0), (2000, 100.0), (3000, 100.0)]


def test_measured_voltages_do_not_prolong_the_zeros_of_data_that_had_been_fresh() -> None:
    story = [(0, a_command()), *every_tick(a_command(**STALE), 100, 20_000)]
    assert max(at_ms for at_ms, _ in play(a_port(), story, 20_000)) < 5200


def test_a_command_without_voltages_does_not_open_the_bus() -> None:
    assert play(a_port(), every_tick(a_command(cvl_v=None)), 1000) == []
    assert play(a_port(), every_tick(a_command(dvl_v=math.nan)), 1000) == []
    assert play(a_port(), every_tick(a_command(cvl_v=0.0)), 1000) == []


def test_a_decrease_is_told_at_once_with_its_flags() -> None:
    story = [(0, a_command()), (100, a_command()), (200, a_command()), (300, a_command(dcl_a=60.0))]
    sent = play(a_port(), story, 500)
    assert times(sent)[6:] == [(300, 0x351), (305, 0x35C)]
    assert told(sent, "dcl_a") == [(0, 120.0), (300, 60.0)]


@pytest.mark.parametrize(
    "changes",
    [{"ccl_a": 99.9}, {"dcl_a": 0.0}, {"cvl_v": 55.9}, {"dvl_v": 44.9}, {"charge_enabled": False}],
    ids=str,
)
def test_every_tightening_is_urgent(changes: dict[str, Any]) -> None:
    story = [(0, a_command()), (200, a_command()), (400, a_command(**changes))]
    assert (400, 0x351) in times(play(a_port(), story, 500))


@pytest.mark.parametrize(
    "changes",
    [{"ccl_a": 100.09}, {"ccl_a": 200.0}, {"cvl_v": 57.0}, {"dvl_v": 44.0}, {"soc": 0.1}],
    ids=str,
)
def test_an_increase_waits_for_the_next_set(changes: dict[str, Any]) -> None:
    story = [(0, a_command()), (200, a_command()), (400, a_command(**changes))]
    assert [at_ms for at_ms, _ in times(play(a_port(), story, 500))] == [0, 20, 40, 60, 80, 100]


def test_a_decrease_inside_the_inhibit_goes_out_as_it_ends_with_the_newest_values() -> None:
    story = [(0, a_command()), (50, a_command(ccl_a=80.0)), (150, a_command(ccl_a=70.0)), (240, a_command(ccl_a=70.0))]
    sent = play(a_port(), story, 400)
    assert told(sent, "ccl_a") == [(0, 100.0), (200, 70.0)]


def test_a_decrease_withdrawn_inside_the_inhibit_is_told_with_the_newest_values_too() -> None:
    story = [(0, a_command()), (50, a_command(ccl_a=80.0)), (150, a_command(ccl_a=120.0)), (240, a_command())]
    assert told(play(a_port(), story, 400), "ccl_a") == [(0, 100.0), (200, 120.0)]


def test_a_stop_inside_the_inhibit_clears_the_flags_first() -> None:
    story = [(0, a_command()), (50, a_command(charge_enabled=False)), *every_tick(a_command(charge_enabled=False), 100)]
    sent = play(a_port(), story, 500)
    assert told(sent, "charge_enabled")[0] == (50, False)
    assert told(sent, "ccl_a") == [(0, 100.0), (200, 0.0)]


def test_flags_never_enable_what_the_last_limits_forbid() -> None:
    stopped = a_command(ccl_a=0.0, charge_enabled=False)
    story = [(0, stopped), *((at_ms, a_command()) for at_ms in range(50, 1500, 100))]
    sent = play(a_port(), story, 1500)
    assert told(sent, "ccl_a") == [(0, 0.0), (1000, 100.0)]
    assert told(sent, "charge_enabled") == [(80, False), (1080, True)]
    assert told(sent, "discharge_enabled") == [(80, True), (1080, True)]


def test_a_slow_decline_is_told_every_200_ms_and_starves_no_frame() -> None:
    story = [(100 * k, a_command(ccl_a=100.0 - k)) for k in range(40)]
    sent = play(a_port(), story, 4000)
    ids = [frame.can_id for _, frame in sent]
    assert ids.count(0x351) >= 15
    assert all(ids.count(can_id) == 4 for can_id in (0x355, 0x356, 0x359, 0x35E))


def test_a_hung_tick_stops_the_rest_of_its_set() -> None:
    sent = play(a_port(), [(0, a_command())], 10_000)
    assert times(sent) == [(20 * k, can_id) for k, can_id in enumerate(SET)]


def test_waiting_frames_expire_250_ms_after_the_last_tick() -> None:
    port = a_port()
    port.step(0.0, a_command(), ())
    assert port.step(0.25, None, ())
    assert port.step(0.28, None, ()) == []
    assert port.due_s == math.inf
    again = port.step(0.40, a_command(), ())
    assert [frame.can_id for frame in again] == [0x351]


def test_an_urgent_decrease_of_a_tick_that_hangs_is_not_told_later() -> None:
    port = a_port()
    port.step(0.0, a_command(), ())
    port.step(0.19, a_command(ccl_a=50.0), ())
    assert port.step(0.45, None, ()) == []


def test_stale_data_give_zero_limits_then_silence() -> None:
    story = [*every_tick(a_command(), 0, 2000), *every_tick(a_command(**STALE), 2000, 12_000)]
    sent = play(a_port(), story, 12_000)
    assert told(sent, "ccl_a")[:3] == [(0, 100.0), (1000, 100.0), (2000, 0.0)]
    after = [(at_ms, frame) for at_ms, frame in sent if at_ms >= 2000]
    assert {value for field in ("ccl_a", "dcl_a") for _, value in told(after, field)} == {0.0}
    assert {value for field in ("charge_enabled", "discharge_enabled") for _, value in told(after, field)} == {False}
    assert times(after)[-6:] == [(6000 + 20 * k, can_id) for k, can_id in enumerate(SET)]
    assert {at_ms // 1000 for at_ms, _ in after} == {2, 3, 4, 5, 6}


def test_the_port_zeroes_a_stale_command_that_forgot_to() -> None:
    story = [(0, a_command()), *every_tick(a_command(fresh=False, force_charge=True), 100, 1300)]
    sent = [(at_ms, frame) for at_ms, frame in play(a_port(), story, 1300) if at_ms >= 100]
    assert {value for _, value in told(sent, "ccl_a")} == {0.0}
    assert {frame.data[0] for _, frame in sent if frame.can_id == 0x35C} == {0}
    assert {frame.data[1] for _, frame in sent if frame.can_id == 0x359} == {0x08}


def test_a_stale_command_without_voltages_keeps_the_last_good_ones() -> None:
    story = [(0, a_command()), *every_tick(a_command(**STALE, cvl_v=None, dvl_v=math.nan), 100, 2000)]
    sent = play(a_port(), story, 2000)
    assert {value for _, value in told(sent, "cvl_v")} == {56.0}
    assert told(sent, "ccl_a")[1] == (200, 0.0)


def test_a_fresh_command_that_lost_its_voltages_is_a_stop() -> None:
    story = [(0, a_command()), *every_tick(a_command(cvl_v=None), 100, 1500)]
    assert told(play(a_port(), story, 1500), "ccl_a")[1:] == [(200, 0.0), (1000, 0.0)]


def test_a_short_gap_of_stale_data_restarts_the_time_to_silence() -> None:
    story = [
        *every_tick(a_command(), 0, 1000),
        *every_tick(a_command(**STALE), 1000, 5000),
        *every_tick(a_command(), 5000, 6000),
        *every_tick(a_command(**STALE), 6000, 10_000),
    ]
    sent = play(a_port(), story, 10_000)
    assert {at_ms // 1000 for at_ms, _ in sent} == set(range(10))


def test_after_silence_the_set_comes_at_once_with_fresh_data() -> None:
    story = [(0, a_command()), *every_tick(a_command(**STALE), 100, 7000), (7050, a_command())]
    sent = play(a_port(), story, 7200)
    assert [(at_ms, can_id) for at_ms, can_id in times(sent) if at_ms > 5200] == [
        (7050 + 20 * k, can_id) for k, can_id in enumerate(SET)
    ]
    assert told(sent, "ccl_a")[-1] == (7050, 100.0)


def test_no_time_of_zero_limits_means_silence_at_once() -> None:
    story = [(0, a_command()), *every_tick(a_command(**STALE), 200, 2000)]
    assert max(at_ms for at_ms, _ in play(a_port(zero_before_silence_s=0.0), story, 2000)) == 100


def test_a_frame_whose_value_got_unknown_is_left_out_of_the_open_set() -> None:
    story = [(0, a_command()), (10, a_command(soc=None)), (100, a_command(soc=None))]
    assert [frame.can_id for _, frame in play(a_port(), story, 300)] == [0x351, 0x356, 0x359, 0x35C, 0x35E]


def test_a_limit_frame_that_did_not_reach_the_bus_is_tried_again() -> None:
    port = a_port()
    play(port, [(0, a_command()), (200, a_command())], 300)
    assert [frame.can_id for frame in port.step(0.3, a_command(ccl_a=50.0), ())] == [0x351]
    port.not_sent()
    sent = play(port, [(310, a_command(ccl_a=50.0)), (400, a_command(ccl_a=50.0))], 600)
    assert told(sent, "ccl_a") == [(500, 50.0)]


def test_the_age_of_the_keep_alive_counts_from_its_arrival() -> None:
    port = a_port()
    assert port.inverter_age_s(5.0) == math.inf
    port.step(10.0, None, [Frame(0x306, bytes(8), False), KEEP_ALIVE])
    assert port.inverter_age_s(12.5) == 2.5
    port.step(13.0, None, [Frame(0x305, bytes(8), True)])
    assert port.inverter_age_s(13.0) == 3.0


def test_a_period_too_short_for_the_profile_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"period_s: 0.1: must be at least 0.2 s"):
        a_port(period_s=0.1)
    with pytest.raises(ConfigError):
        a_port(period_s=math.nan)


events = st.lists(
    st.tuples(
        st.integers(1, 400),
        st.sampled_from([0.0, 0.04, 10.0, 50.0, 100.0]),
        st.sampled_from([0.0, 30.0, 120.0]),
        st.booleans(),
        st.booleans(),
    ),
    min_size=1,
    max_size=30,
)


@hypothesis_settings(deadline=None, max_examples=200)
@given(events)
def test_whatever_happens_gaps_intervals_and_agreement_hold(story: list[tuple[int, float, float, bool, bool]]) -> None:
    port, at_ms, ticks = a_port(), 0, []
    for gap_ms, ccl_a, dcl_a, enabled, fresh in story:
        at_ms += gap_ms
        ticks.append((at_ms, a_command(ccl_a=ccl_a, dcl_a=dcl_a, charge_enabled=enabled, fresh=fresh)))
    last_s, last_of, known = -math.inf, dict[int, float](), Limits()
    for now_s, newest, frame in steps(port, ticks, at_ms + 1500):
        assert now_s - last_s >= 0.005 - 1e-9
        assert now_s - last_of.get(frame.can_id, -math.inf) >= 0.2 - 1e-9
        last_s = last_of[frame.can_id] = now_s
        limits = port.profile.decode_limits(frame)
        allowed = newest.ccl_a if newest.fresh and newest.charge_enabled else 0.0
        assert limits.ccl_a is None or limits.ccl_a <= allowed
        known = known.updated(limits)
        assert not limits.charge_enabled or known.ccl_a
        assert not limits.discharge_enabled or known.dcl_a


def steps(
    port: InverterPort, ticks: list[tuple[int, Command]], until_ms: int
) -> Iterable[tuple[float, Command, Frame]]:
    ends = [at_ms for at_ms, _ in ticks[1:]] + [until_ms]
    for (at_ms, command), end_ms in zip(ticks, ends, strict=True):
        now_s = at_ms / 1000
        for frame in port.step(now_s, command, ()):
            yield now_s, command, frame
        while port.due_s < end_ms / 1000:
            now_s = max(now_s, port.due_s)
            assert now_s - at_ms / 1000 <= 0.25 + 1e-9
            for frame in port.step(now_s, None, ()):
                yield now_s, command, frame


def test_the_alarm_of_stale_data_is_added_to_the_others() -> None:
    stale = a_command(**STALE, alarms=frozenset({Alarm.LOW_VOLTAGE}))
    sent = play(a_port(), [(0, a_command()), *every_tick(stale, 100, 1500)], 1500)
    assert [frame.data[:2].hex() for at_ms, frame in sent if frame.can_id == 0x359 and at_ms > 1000] == ["0408"]


def test_due_is_never_in_the_past_once_stepped() -> None:
    port = a_port()
    clock: Callable[[int], float] = lambda k: k / 1000  # noqa: E731
    for k in range(3000):
        port.step(clock(k), a_command() if k % 100 == 0 else None, ())
        assert port.due_s > clock(k)
