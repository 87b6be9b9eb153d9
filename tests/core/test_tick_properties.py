"""One tick given anything: it never raises, never allows what is not known, and repeats itself exactly."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bmsd.core import memory
from bmsd.core.tick import Outcome
from bmsd.model.request import Connect, Reset, Role, Shutdown
from bmsd.model.row import Alarm
from bmsd.model.snapshot import Input, Modules, Snapshot, Units
from tests import rack

PLANT = rack.plant(strings=2, modules=2, cells=4, sensors=2)
CLOSED = rack.closed(PLANT)


@cache
def settled() -> rack.Drive:
    return rack.running(PLANT)


def copy() -> rack.Drive:
    return settled().fork()


def plain(value: Any) -> Any:
    """A value as nested tuples of numbers and bytes: equal only when equal to the last bit."""
    if isinstance(value, np.ndarray):
        return (str(value.dtype), value.shape, value.tobytes())
    if is_dataclass(value) and not isinstance(value, type):
        return (type(value).__name__, *(plain(getattr(value, f.name)) for f in fields(value)))
    if isinstance(value, dict):
        return tuple((plain(k), plain(v)) for k, v in value.items())
    if isinstance(value, (tuple, list)):
        return tuple(plain(v) for v in value)
    if isinstance(value, frozenset):
        return tuple(sorted(str(v) for v in value))
    return value.hex() if isinstance(value, float) else value


@st.composite
def array(draw: Any, shape: tuple[int, ...], usual: Any, odd: list[Any]) -> Any:
    """Usual values with up to three odd ones anywhere, or odd everywhere."""
    values = np.full(shape, usual)
    if draw(st.integers(0, 9)) == 0:
        values[...] = draw(st.sampled_from(odd))
    for _ in range(draw(st.integers(0, 3))):
        place = tuple(draw(st.integers(0, size - 1)) for size in shape)
        values[place] = draw(st.sampled_from(odd))
    return values


NAN, INF = float("nan"), float("inf")
CELLS, SENSORS, MODULES, UNITS = (2, 2, 4), (2, 2, 2), (2, 2), (2,)
ODD_AGES = [0.0, 0.59, 0.61, 1.1, 3.1, 100.0, NAN, INF]
ODD: dict[str, tuple[tuple[int, ...], Any, list[Any]]] = {
    "cell_v": (CELLS, 3.3, [NAN, 0.0, 0.4, 2.0, 2.49, 2.85, 2.95, 3.15, 3.41, 3.48, 3.56, 3.66, 3.8, 4.6, INF, -INF]),
    "cell_reading": (CELLS, 0, [0, 1, 2, 3, 4, 9]),
    "cell_age_s": (MODULES, 0.1, ODD_AGES),
    "temperature_degc": (SENSORS, 25.0, [NAN, -41.0, -15.0, -1.0, 0.5, 3.0, 44.0, 52.0, 58.0, 66.0, 200.0, INF, -INF]),
    "temperature_age_s": (MODULES, 0.1, ODD_AGES),
    "current_a": (UNITS, 10.0, [NAN, 0.0, 1.0, 139.0, 150.0, 200.0, 1e5, -1.0, -190.0, -260.0, -2e4, INF, -INF]),
    "charge_as": (UNITS, 5.0, [NAN, 0.0, 1e9, -1e9, 400.0, INF]),
    "current_age_s": (UNITS, 0.05, ODD_AGES),
    "bus_v": (UNITS, 26.4, [NAN, 0.0, 25.0, 60.0, INF]),
    "string_v": (UNITS, 26.4, [NAN, 0.0, 25.0, 60.0, INF]),
    "voltage_age_s": (UNITS, 0.1, ODD_AGES),
    "unit_state_age_s": (UNITS, 0.1, ODD_AGES),
    "module_v": (MODULES, 13.2, [NAN, 0.0, 13.0, 13.5, 60.0]),
    "state_age_s": (MODULES, 0.1, ODD_AGES),
    "temperature_reading": (SENSORS, 0, [0, 1, 2, 3, 4, 9]),
    "unit_self_test": (UNITS, 0, [-1, 5, 256]),
    "trip_active": (MODULES, False, [True]),
    "minus": (UNITS, 1, [0, 1, 2, 3, 7]),
    "plus": (UNITS, 1, [0, 1, 2, 3, 7]),
    "minus_output": (UNITS, True, [False]),
    "plus_output": (UNITS, True, [False]),
    "precharge_output": (UNITS, False, [True]),
    "unit_trip_code": (UNITS, 0, [1, 5, -1]),
    "trip_code": (MODULES, 0, [1, -1]),
    "inputs": ((2, 6), 0, [0, 1, 2, 3, 9]),
    "cell_count": (MODULES, 4, [-1, 0, 5, 24]),
    "uid": (MODULES, 1001, [-1, 0, 7]),
    "board_type": (MODULES, 1, [-1, 0, 2, 255]),
    "chemistry": (MODULES, 1, [-1, 0, 2, 15]),
    "duplicates": (MODULES, 0, [1, 2, 10**9]),
    "foreign_frames": ((2,), 0, [1, 10**9]),
    "crc_errors": (MODULES, 0, [1, 50, 10**9]),
    "counter_errors": (MODULES, 0, [1, 50]),
    "send_stalled_s": ((2,), 0.0, [0.29, 0.31, 1.1, NAN, INF]),
    "bus_off": ((2,), False, [True]),
    "up": ((2,), True, [False]),
}
REQUESTS = st.lists(
    st.sampled_from(
        [Reset("all", Role.SERVICE, "test"), Reset("CEL-007", Role.OPERATOR), Connect(False), Connect(True), Shutdown()]
    ),
    max_size=2,
)


@st.composite
def odd_values(draw: Any) -> dict[str, Any]:
    names = draw(st.lists(st.sampled_from(sorted(ODD)), max_size=4, unique=True))
    values: dict[str, Any] = {name: draw(array(*ODD[name])) for name in names}
    if draw(st.integers(0, 4)) == 0:
        values["period_s"] = draw(st.sampled_from([0.0, 0.16, 0.31, 1.01, NAN, INF]))
    if draw(st.integers(0, 9)) == 0:
        values["blocked_frames"] = 3
    if draw(st.integers(0, 4)) == 0:
        values["inverter_age_s"] = draw(st.sampled_from([0.0, 10.1, 61.0, NAN, INF]))
    return values


def believable(modules: Modules) -> bool:
    return bool(((modules.cell_v >= 0.5) & (modules.cell_v <= 4.5)).all())


def says_stop(modules: Modules, units: Units, string: int) -> bool:
    """Whether boards or the unit of a string say that it must not be used, or contradict its cells."""
    cell_v, age_s = modules.cell_v[string], modules.cell_age_s[string]
    known = believable(modules) and np.isfinite(units.current_a[string] + units.string_v[string])
    known = known and not np.isinf(units.bus_v[string])  # then all of the frame is unknown
    fresh = (age_s <= 0.6).all() and (abs(age_s - units.voltage_age_s[string]) < 0.1).all()
    fresh = fresh and units.voltage_age_s[string] <= 0.6 and units.current_age_s[string] <= 0.6
    slack_v = max(0.015 * 8 + 0.0003 * 8 * abs(units.current_a[string]), 0.01 * cell_v.sum())
    covered = np.isfinite(modules.temperature_degc[string]) & (modules.temperature_age_s[string] <= 3.0)[:, None]
    return bool(
        (units.state_age_s[string] <= 0.6 and (units.inputs[string] == Input.ACTIVE).any())
        or units.trip_code[string] > 0
        or modules.trip_active[string].any()
        or units.self_test[string] == 256
        or (covered.mean(axis=1) < 0.5).any()
        or (known and fresh and abs(units.string_v[string] - cell_v.sum()) > slack_v + 1e-9)
    )


def check(outcome: Outcome, snap: Snapshot) -> None:
    """What must be true after any tick; `snap` is what the tick was given."""
    command, modules, units = outcome.command, snap.modules, snap.units
    for amps, most in ((command.ccl_a, 280.0), (command.dcl_a, 400.0)):
        assert 0.0 <= amps <= most
    assert command.charge_enabled == (command.ccl_a > 0.0)
    assert command.discharge_enabled == (command.dcl_a > 0.0)
    assert not command.force_charge or command.charge_enabled
    assert command.cvl_v is None or 8 * 2.80 <= command.cvl_v <= 8 * 3.65
    assert outcome.vetoes == (), "the guard is not what makes it safe"
    if outcome.started:
        assert outcome.limits.charge[0].amps == command.ccl_a, "the published reason is that of the limit"
        assert outcome.limits.discharge[0].amps == command.dcl_a
    states = rack.states(outcome)
    if "opening" in states:
        assert command.ccl_a == command.dcl_a == 0.0
    for string, state in enumerate(states):
        closed = bool(command.close_minus[string] and command.close_plus[string])
        assert closed == (state in ("closed", "opening", "closing_plus"))
        if state != "closed":
            continue
        cell_v, degc = modules.cell_v[string], modules.temperature_degc[string]
        fast_s = max(modules.cell_age_s[string].max(), units.current_age_s[string])
        known = np.isfinite(cell_v).all() and np.isfinite(units.current_a[string]) and fast_s <= 0.6
        known = known and (np.isfinite(degc) & (modules.temperature_age_s[string] <= 3.0)[:, None]).any(axis=1).all()
        if not known:
            assert command.ccl_a == command.dcl_a == 0.0
        if not (cell_v < 3.55).all():
            assert command.ccl_a == 0.0
        if not (cell_v > 2.90).all():
            assert command.dcl_a == 0.0
        if says_stop(modules, units, string):
            assert command.ccl_a == command.dcl_a == 0.0
    sums = [modules.cell_v[string].sum() for string, state in enumerate(states) if state == "closed"]
    if sums and believable(modules) and (modules.cell_age_s <= 0.6).all():
        slack_v = 0.015 * 8 + 0.0003 * 8 * max(abs(units.current_a[np.isfinite(units.current_a)]), default=0.0)
        slack_v = max(slack_v, 0.01 * max(sums)) + 1e-9
        assert min(sums) - slack_v <= command.voltage_v <= max(sums) + slack_v, "the cells win"
    if "closed" not in states:
        assert command.ccl_a == command.dcl_a == 0.0
    if not snap.host.period_s <= 1.0 or not snap.buses.send_stalled_s[0] <= 1.0:
        assert not command.heartbeat
    assert not (command.balance & ~(modules.cell_v > 3.40)).any()


@given(
    st.lists(st.tuples(odd_values(), REQUESTS, st.sampled_from([0.0, 0.01, 0.1, 1.0, 60.0])), min_size=1, max_size=6)
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_any_story_of_odd_snapshots_is_survived_safely(story):
    drive = copy()
    for values, requests, dt_s in story:
        snap = rack.snapshot(PLANT, drive.now_s + dt_s, requests=tuple(requests), **{**CLOSED, **values})
        drive.now_s += dt_s
        check(drive.take(snap), snap)


@given(st.lists(odd_values(), min_size=1, max_size=3))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_the_same_inputs_give_the_same_bytes(story):
    first, second = copy(), copy()
    for values in story:
        assert plain(first.tick(**{**CLOSED, **values})) == plain(second.tick(**{**CLOSED, **values}))


def test_a_tick_changes_neither_its_memory_nor_its_snapshot():
    drive = copy()
    before = plain(drive.memory)
    snap = rack.snapshot(PLANT, drive.now_s + 0.1, **CLOSED, cell_v=np.nan)
    shown = plain(snap)
    was = drive.memory
    drive.take(snap)
    assert plain(was) == before
    assert plain(snap) == shown


@pytest.mark.parametrize("dt_s", [0.01, 0.1, 1.0, 10.0, 60.0])
def test_every_pace_from_10_ms_to_60_s_is_healthy(dt_s):
    drive = rack.Drive(PLANT)
    drive.run(max(200.0, 4 * dt_s) if dt_s >= 1.0 else 6.0, dt_s, **CLOSED)
    outcome = drive.tick(dt_s, **CLOSED)
    assert not outcome.faults
    assert outcome.command.ccl_a == (280.0 if dt_s >= 1.0 else pytest.approx(280.0 * (0.015 + 0.02 * 4.0), rel=0.05))


def test_a_clock_that_stands_or_goes_back_gives_nothing_away():
    drive = rack.Drive(PLANT)
    drive.run(10.0, **CLOSED)
    before = drive.tick(**CLOSED).command.ccl_a
    assert drive.tick(0.0, **CLOSED).command.ccl_a == pytest.approx(before)
    assert drive.tick(-5.0, **CLOSED).command.ccl_a <= before + 1e-9


def test_the_first_tick_allows_nothing_and_closes_nothing_that_is_closed_already():
    outcome = rack.Drive(PLANT).tick(**CLOSED)
    assert outcome.command.ccl_a == outcome.command.dcl_a == 0.0
    assert rack.states(outcome) == ["closed", "closed"]
    assert outcome.started


NEVER = {
    "cell_v": np.nan, "cell_reading": rack.MISSING, "cell_age_s": np.inf, "cell_sync": -1, "temperature_degc": np.nan,
    "temperature_age_s": np.inf, "temperature_sync": -1, "module_v": np.nan, "current_a": np.nan,
    "charge_as": np.nan, "current_age_s": np.inf, "current_sync": -1, "bus_v": np.nan, "string_v": np.nan,
    "voltage_age_s": np.inf, "unit_state_age_s": np.inf, "coil_v": np.nan,
}  # fmt: skip


def test_with_nothing_measured_nothing_starts_however_long():
    outcome = rack.Drive(PLANT).run(60.0, 0.5, **NEVER)[-1]
    assert not outcome.started
    assert not outcome.command.heartbeat
    assert (outcome.command.cvl_v, outcome.command.voltage_v, outcome.command.soc) == (None, None, None)


def test_no_command_leaves_before_every_unit_has_said_where_its_contactors_are():
    drive = rack.Drive(PLANT)
    silent = np.array([0.1, np.inf])
    assert not any(outcome.started for outcome in drive.run(2.5, **CLOSED, unit_state_age_s=silent))
    outcome = drive.tick(**CLOSED)
    assert outcome.started
    assert rack.states(outcome) == ["closed", "closed"]
    ready = rack.Drive(PLANT).run(2.5, unit_state_age_s=silent)
    assert {rack.states(outcome)[0] for outcome in ready} == {"open"}, "nor does anything close"
    assert rack.Drive(PLANT).run(3.1, **CLOSED, unit_state_age_s=silent)[-1].started


def test_with_a_dead_board_it_starts_after_three_seconds_with_measured_voltages_zero_limits_and_an_alarm():
    plant = rack.plant(modules=2)
    shape = plant.layout.cell_shape
    dead = np.zeros(shape, dtype=bool)
    dead[0, 1] = True
    values: dict[str, Any] = {
        "cell_v": np.where(dead, np.nan, 3.30), "cell_reading": np.where(dead, rack.MISSING, 0),
        "cell_age_s": np.array([[0.1, np.inf]]), "cell_sync": np.array([[5, -1]]),
        "temperature_degc": np.where(dead[:, :, :4], np.nan, 25.0),
    }  # fmt: skip
    drive = rack.Drive(plant)
    outcomes = drive.run(4.0, **values)
    first = next(i for i, outcome in enumerate(outcomes) if outcome.started)
    assert 0.1 * first == pytest.approx(3.0, abs=0.11)
    assert all(outcome.command.cvl_v is None and not outcome.command.heartbeat for outcome in outcomes[:first])
    command = outcomes[first].command
    assert command.voltage_v == pytest.approx(3.30 * 32)
    assert command.ccl_a == command.dcl_a == 0.0
    assert Alarm.INTERNAL in command.alarms
    assert not any(outcome.command.close_minus.any() for outcome in outcomes)


def test_one_complete_string_is_enough_and_the_other_stays_open():
    values: dict[str, Any] = {
        "cell_v": np.full(CELLS, 3.3),
        "cell_reading": np.zeros(CELLS, int),
        "cell_age_s": np.full(MODULES, 0.1),
    }
    values["cell_v"][1, 1], values["cell_reading"][1, 1], values["cell_age_s"][1, 1] = np.nan, rack.MISSING, np.inf
    for name in ("minus", "plus"):
        values |= {name: np.array([1, 0]), f"{name}_output": np.array([True, False])}
    drive = rack.Drive(PLANT)
    outcome = drive.run(80.0, 1.0, **values, bus_v=26.4)[-1]
    assert outcome.started
    assert rack.states(outcome) == ["closed", "open"]
    assert (outcome.command.ccl_a, outcome.command.dcl_a) == (140.0, 200.0)
    assert outcome.command.soc is not None
    assert outcome.command.fresh


def test_the_current_shown_is_that_of_the_strings_in_circuit():
    drive = copy()
    assert drive.tick(**CLOSED, current_a=np.array([20.0, 30.0])).command.current_a == 50.0
    assert drive.tick(**CLOSED, current_a=np.array([20.0, np.nan])).command.current_a is None
    alone: dict[str, Any] = {name: np.array([1, 0]) for name in ("minus", "plus")}
    alone |= {name: np.array([True, False]) for name in ("minus_output", "plus_output")}
    outcome = drive.run(1.0, **alone, bus_v=26.4, current_a=np.array([20.0, np.nan]))[-1]
    assert outcome.command.current_a == 20.0


@pytest.mark.parametrize(("period_s", "beats"), [(0.1, True), (1.0, True), (1.001, False), (np.nan, False)])
def test_the_heartbeat_is_withheld_after_a_late_tick(period_s, beats):
    assert copy().tick(**CLOSED, period_s=period_s).command.heartbeat is beats


@pytest.mark.parametrize(
    ("stalled_s", "beats"), [(0.0, True), (1.0, True), (1.001, False), (np.inf, False), (np.nan, False)]
)
def test_the_heartbeat_is_withheld_when_boards_and_units_could_not_be_reached(stalled_s, beats):
    assert copy().tick(**CLOSED, send_stalled_s=np.array([stalled_s, 0.0])).command.heartbeat is beats


@pytest.mark.parametrize(
    ("stalled_s", "beats"), [(0.0, True), (1.0, True), (1.001, False), (np.inf, True), (np.nan, False)]
)
def test_the_heartbeat_is_withheld_when_limits_could_be_sent_to_a_closed_rack_and_no_longer_can(stalled_s, beats):
    assert copy().tick(**CLOSED, send_stalled_s=np.array([0.0, stalled_s])).command.heartbeat is beats


def test_an_inverter_that_is_dark_until_a_string_closes_does_not_keep_it_open():
    drive = rack.Drive(rack.plant())
    for _ in range(50):
        assert drive.tick(send_stalled_s=np.array([0.0, 600.0])).command.heartbeat == drive.memory.started
    assert drive.memory.started


def test_a_deeply_discharged_string_may_reclose_for_charging_only_and_opens_when_discharged_again():
    drive = copy()
    low: dict[str, Any] = {**CLOSED, "cell_v": np.full(CELLS, 2.95)}
    low["cell_v"][0, 0, 0] = 2.75
    low |= {"string_v": 23.4, "bus_v": 23.4}
    assert drive.run(2.7, **low, current_a=-10.0)[-1].command.close_plus.tolist() == [False, True]
    opened: dict[str, Any] = {name: np.array([0, 1]) for name in ("minus", "plus")}
    opened |= {name: np.array([False, True]) for name in ("minus_output", "plus_output")}
    assert rack.states(drive.run(5.0, **{**low, **opened}, current_a=0.0)[-1])[0] == "open"
    drive.tick(**{**low, **opened}, current_a=0.0, requests=(Reset("CEL-007", Role.OPERATOR),))
    drive.run(0.3, **{**low, **opened}, current_a=0.0)
    outcomes = drive.run(60.0, **low, current_a=5.0)
    assert rack.states(outcomes[-1])[0] == "closed"
    assert outcomes[-1].command.ccl_a > 0.0
    assert outcomes[-1].command.dcl_a == 0.0
    assert rack.states(drive.run(1.0, **low, current_a=-20.0)[-1])[0] == "opening"


def test_force_charge_holds_from_its_soc_to_its_release_and_only_while_charge_is_allowed():
    plant = rack.plant()
    drive = rack.running(plant, cell_v=3.30)

    def at(soc: float, **values: Any) -> Outcome:
        drive.memory = replace(drive.memory, estimation=rack.knowing(plant, soc))
        return drive.tick(**rack.closed(plant), cell_v=float(np.interp(soc, rack.OCV_SOC, rack.OCV_V)), **values)

    asked = [at(soc).command.force_charge for soc in (0.11, 0.102, 0.098, 0.12, 0.148, 0.152, 0.12)]
    assert asked == [False, False, True, True, True, False, False]
    assert at(0.05).command.force_charge
    assert not at(0.05, temperature_degc=0.0).command.force_charge


def test_the_sent_limits_remember_sixteen_seconds():
    window = memory.start(PLANT, settled().protections).sent.with_limits(100.0, 50.0, 60.0)
    assert window.charge_a.max() == 280.0, "an earlier process may have allowed everything"
    for second in range(101, 117):
        window = window.with_limits(float(second), 10.0, 20.0)
    assert (window.charge_a.max(), window.discharge_a.max()) == (10.0, 20.0)
    window = window.with_limits(116.9, 30.0, 0.0)
    assert window.with_limits(131.9, 0.0, 0.0).charge_a.max() == 30.0
    assert window.with_limits(132.0, 0.0, 0.0).charge_a.max() == 0.0
