"""Voltages of boards and contactor units against the cells: where they contradict, the cells win and it is a fault."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bmsd.core.charge import pack_voltage
from bmsd.core.plausibility import beyond_cells_v
from bmsd.core.protection.evidence import worse
from bmsd.model.request import Connect, Reset, Role
from bmsd.model.snapshot import Feedback
from tests import rack

ONE, TWO = rack.plant(), rack.plant(strings=2)
LONG = rack.plant(modules=3)
CELLS_V, CVL_V = 16 * 3.30, 16 * 3.45
TOLERANCE_V = 0.01 * CELLS_V
WRONG_V = [70.0, 58.0, CELLS_V + 0.6, CELLS_V - 0.6, 45.0, 20.0, 0.0]


def pair(first: float, second: float) -> np.ndarray:
    return np.array([first, second])


@pytest.mark.parametrize("wrong_v", WRONG_V)
@pytest.mark.parametrize("name", ["bus_v", "string_v"])
def test_a_wrong_unit_of_the_only_string_moves_no_voltage_limit(name: str, wrong_v: float) -> None:
    drive = rack.Drive(ONE)
    for outcome in drive.run(40.0, **rack.closed(ONE), **{name: wrong_v}):
        assert outcome.command.voltage_v == pytest.approx(CELLS_V)
        assert CELLS_V - 0.05 <= outcome.command.cvl_v <= CVL_V + 1e-9
        assert outcome.command.ccl_a == 0.0


@pytest.mark.parametrize("wrong_v", WRONG_V)
@pytest.mark.parametrize("name", ["bus_v", "string_v"])
def test_a_unit_that_gets_wrong_in_a_running_rack_stops_it_names_itself_and_opens_its_string(
    name: str, wrong_v: float
) -> None:
    drive = rack.running(TWO)
    wrong: dict[str, Any] = {name: pair(CELLS_V, wrong_v)}
    outcomes = drive.run(2.5, **rack.closed(TWO), **wrong)
    assert {(o.command.ccl_a, o.command.dcl_a) for o in outcomes[2:]} == {(0.0, 0.0)}
    assert rack.codes(outcomes[-1]) == {"CEL-015"}
    assert outcomes[-1].faults[0].string == 2
    opening = rack.obeying(drive, 12.0, **wrong)[-1]
    assert rack.states(opening) == ["closed", "open"]
    assert all(o.command.voltage_v == pytest.approx(CELLS_V) for o in outcomes)
    assert all(o.command.cvl_v >= CELLS_V - 0.05 for o in outcomes), "a stop holds the limit at the voltage of the pack"


@pytest.mark.parametrize("wrong_v", WRONG_V)
def test_a_wrong_unit_of_an_isolated_string_moves_nothing(wrong_v: float) -> None:
    one = np.array([True, False])
    values: dict[str, Any] = {"minus_output": one, "plus_output": one, "minus": pair(1, 0), "plus": pair(1, 0)}
    values |= {"unit_trip_code": pair(0, 5), "string_v": pair(CELLS_V, wrong_v), "bus_v": pair(CELLS_V, wrong_v)}
    outcome = rack.Drive(TWO).run(80.0, 1.0, **values)[-1]
    assert outcome.command.cvl_v == pytest.approx(CVL_V)
    assert outcome.command.ccl_a == 140.0


@pytest.mark.parametrize(
    ("measured_v", "current_a", "contradicts"),
    [
        (CELLS_V, 0.0, False),
        (CELLS_V + 0.99 * TOLERANCE_V, 0.0, False),
        (CELLS_V - 0.99 * TOLERANCE_V, 0.0, False),
        (CELLS_V + 1.01 * TOLERANCE_V, 0.0, True),
        (CELLS_V - 1.01 * TOLERANCE_V, 0.0, True),
        (CELLS_V + 0.24 + 0.0048 * 100.0 - 0.01, 100.0, False),
        (CELLS_V - 0.24 - 0.0048 * 100.0 + 0.01, -100.0, False),
        (CELLS_V + 0.24 + 0.0048 * 100.0 + 0.01, 100.0, True),
        (CELLS_V - 0.24 - 0.0048 * 100.0 - 0.01, 100.0, True),
    ],
)
def test_the_tolerance_is_one_percent_or_15_mv_per_cell_and_the_drop(
    measured_v: float, current_a: float, contradicts: bool
) -> None:
    off_v = beyond_cells_v(ONE, np.array([measured_v]), np.full((1, 16), 3.30), np.array([current_a]))
    assert bool(off_v[0] > 0.0) is contradicts
    drive = rack.running(ONE)
    values = {**rack.closed(ONE), "string_v": measured_v, "current_a": current_a}
    assert ("CEL-015" in rack.codes(drive.run(2.5, **values)[-1])) is contradicts


@pytest.mark.parametrize("cells", [1, 4])
def test_few_cells_are_given_15_mv_each(cells: int) -> None:
    cell_v = np.full((1, cells), 1.2)
    low, high = (
        beyond_cells_v(ONE, np.array([cells * v]), cell_v, np.zeros(1))[0] for v in (1.2 + 0.0149, 1.2 + 0.0151)
    )
    assert low < 0.0 < high


@pytest.mark.parametrize("unknown", [{"cell_v": np.nan}, {"current_a": np.nan}, {"measured_v": np.nan}], ids=str)
def test_nothing_contradicts_what_is_unknown(unknown: dict[str, float]) -> None:
    values = {"cell_v": 3.30, "current_a": 0.0, "measured_v": 99.0, **unknown}
    off_v = beyond_cells_v(
        ONE, np.array([values["measured_v"]]), np.full((1, 16), values["cell_v"]), np.array([values["current_a"]])
    )
    assert np.isnan(off_v).all()


def test_it_takes_ten_samples_and_a_good_one_starts_anew() -> None:
    drive = rack.running(ONE)
    wrong, right = {**rack.closed(ONE), "string_v": 54.0}, rack.closed(ONE)
    assert "CEL-015" not in rack.codes(drive.run(9 * 0.2, 0.2, **wrong)[-1])
    drive.tick(0.2, **right)
    assert "CEL-015" not in rack.codes(drive.run(9 * 0.2, 0.2, **wrong)[-1])
    assert "CEL-015" in rack.codes(drive.tick(0.2, **wrong))


@pytest.mark.parametrize(
    ("one", "other", "told"),
    [(-1.0, -5.0, -1.0), (2.0, -5.0, 2.0), (2.0, np.nan, 2.0), (-1.0, np.nan, np.nan), (np.nan, np.nan, np.nan)],
)
def test_of_two_excesses_the_larger_is_told_and_an_unknown_one_is_never_good(
    one: float, other: float, told: float
) -> None:
    np.testing.assert_equal(worse(one, other), told)
    np.testing.assert_equal(worse(np.array([other, one]), np.array([one, other])), [told, told])


def test_an_unknown_voltage_holds_the_fault_and_its_zero() -> None:
    drive = rack.running(ONE)
    drive.run(3.0, **rack.closed(ONE), string_v=54.0)
    reset = (Reset("CEL-015", Role.OPERATOR),)
    for unknown in ({"string_v": np.nan}, {"bus_v": np.nan}, {"current_a": np.nan}, {"voltage_age_s": 0.7}):
        outcome = drive.tick(**{**rack.closed(ONE), **unknown}, requests=reset)
        assert "CEL-015" in rack.codes(outcome), unknown
        assert outcome.command.ccl_a == outcome.command.dcl_a == 0.0
    assert "CEL-015" not in rack.codes(drive.tick(**rack.closed(ONE), requests=reset))


def test_a_step_of_the_current_between_the_two_measurements_is_no_contradiction() -> None:
    """Loaded and unloaded in turn; the unit's voltage is always that of the poll before."""
    drive = rack.running(ONE)
    drop_v = 16 * 200.0 * ONE.cell.resistance_ohm
    for poll in range(100):
        loaded = poll % 2 == 0
        amps, was_v = (-200.0, CELLS_V) if loaded else (0.0, CELLS_V - drop_v - 0.2)
        now_v = np.full(ONE.layout.cell_shape, 3.30 - loaded * drop_v / 16)
        values: dict[str, Any] = {"cell_v": now_v, "string_v": was_v, "bus_v": was_v, "current_a": amps}
        outcome = drive.tick(0.2, **{**rack.closed(ONE), **values, "voltage_age_s": 0.3, "module_v": now_v.sum()})
        assert "CEL-015" not in {bound.source for bound in outcome.limits.charge}, "nor does it act for one sample"
    assert rack.codes(drive.run(3.0, **{**rack.closed(ONE), "state_age_s": 0.9, "module_v": 51.0})[-1]) == set()


@pytest.mark.parametrize("apart_s", [0.0, 0.05, 0.1, 0.15, 0.19])
@pytest.mark.parametrize("period", [2, 3, 5])
def test_boards_that_are_not_polled_with_the_units_are_compared_as_well_within_bounded_time(
    apart_s: float, period: int
) -> None:
    """Each of three modules is measured in a tick of its own, every `period` ticks, so long after the unit's SYNC."""
    drive = rack.running(LONG)
    shut, raised_s = rack.closed(LONG), None
    for tick in range(120):
        last = np.array([(tick - module) // period * period + module for module in range(3)])
        seen: dict[str, Any] = {
            "cell_sync": 10_000 + last[None, :] // period, "cell_age_s": 0.1 * (tick - last)[None, :] + apart_s,
            "voltage_age_s": 0.05 + 0.1 * (tick % 2),
        }  # fmt: skip
        if "CEL-015" in rack.codes(drive.tick(**shut, **seen, string_v=3 * CELLS_V + 2.0)):
            raised_s = 0.1 * tick
            break
    assert raised_s is not None
    assert raised_s <= 0.1 * period * 10 + 0.5


def test_an_open_string_need_not_have_the_voltage_of_the_bus() -> None:
    drive = rack.Drive(ONE)
    stays = (Connect(False),)
    assert rack.codes(drive.tick(bus_v=0.0, requests=stays)) == rack.codes(drive.run(5.0, bus_v=0.0)[-1]) == set()


def test_a_module_is_compared_with_its_own_cells_and_named() -> None:
    drive = rack.running(LONG)
    module_v = np.full((1, 3), CELLS_V)
    module_v[0, 1] = CELLS_V + 0.6
    outcomes = drive.run(3.0, **rack.closed(LONG), module_v=module_v)
    assert outcomes[2].command.ccl_a == 0.0
    (fault,) = outcomes[-1].faults
    assert (fault.code, fault.string, fault.module, fault.count) == ("CEL-021", 1, 2, 1)
    assert fault.value == pytest.approx(0.6 - TOLERANCE_V)


def test_a_board_without_a_module_voltage_is_not_judged_by_it() -> None:
    assert rack.codes(rack.running(LONG).run(15.0, **rack.closed(LONG), module_v=np.nan)[-1]) == set()


def seen(plant: Any, connected: list[bool], **values: Any) -> float | None:
    return pack_voltage(plant, rack.snapshot(plant, 100.0, **values), np.array(connected))


def test_the_bus_is_shown_where_it_agrees_with_the_cells_else_the_cells() -> None:
    assert seen(ONE, [True], **rack.closed(ONE), bus_v=52.6) == pytest.approx(52.6)
    assert seen(ONE, [True], **rack.closed(ONE), bus_v=53.4) == pytest.approx(CELLS_V)
    assert seen(ONE, [True], **rack.closed(ONE), bus_v=np.nan) == pytest.approx(CELLS_V)
    assert seen(ONE, [True], **rack.closed(ONE), bus_v=52.6, current_a=np.nan) == pytest.approx(CELLS_V)
    assert seen(ONE, [False], string_v=60.0) == pytest.approx(CELLS_V)


def test_a_single_wrong_board_among_two_strings_has_no_say() -> None:
    cell_v = np.full(TWO.layout.cell_shape, 3.30)
    cell_v[1] = 3.60
    values = {**rack.closed(TWO), "cell_v": cell_v, "bus_v": pair(52.8, 52.8), "string_v": pair(52.8, 52.8)}
    assert seen(TWO, [True, True], **values) == pytest.approx(52.8)


@pytest.mark.parametrize(
    ("bus_v", "string_v", "shown"),
    [
        (52.6, 52.8, 52.6), (70.0, 52.8, None), (52.8, 70.0, None), (70.0, 70.0, None), (30.0, 30.0, None),
        (np.nan, 52.8, None), (52.8, np.nan, None),
    ],
)  # fmt: skip
def test_without_the_cells_a_unit_must_measure_the_same_twice_and_what_cells_can_have(
    bus_v: float, string_v: float, shown: float | None
) -> None:
    values = {**rack.closed(ONE), "cell_v": np.nan, "bus_v": bus_v, "string_v": string_v}
    assert seen(ONE, [True], **values) == shown


@pytest.mark.parametrize(("string_v", "shown"), [(52.8, 52.8), (40.0, 40.0), (39.9, None), (58.4, 58.4), (58.5, None)])
def test_without_cells_and_closed_strings_the_string_voltage_must_be_possible(
    string_v: float, shown: float | None
) -> None:
    assert seen(ONE, [False], cell_v=np.nan, string_v=string_v) == shown


def test_a_string_of_unknown_cells_does_not_outvote_one_of_known_cells() -> None:
    cell_v = np.full(TWO.layout.cell_shape, 3.30)
    cell_v[1, 0, 3] = np.nan
    values = {**rack.closed(TWO), "cell_v": cell_v, "bus_v": pair(70.0, 58.0), "string_v": pair(52.8, 58.0)}
    assert seen(TWO, [True, True], **values) == pytest.approx(CELLS_V)


def test_precharge_ends_within_two_percent_and_that_is_no_fault() -> None:
    drive = rack.Drive(ONE)
    closing: dict[str, Any] = {"minus": int(Feedback.CLOSED), "minus_output": True}
    drive.run(1.0)
    drive.run(1.0, **closing, bus_v=0.0)
    drive.run(1.0, **closing, precharge=1, precharge_output=True, bus_v=51.9)
    outcomes = drive.run(0.4, **rack.closed(ONE), bus_v=51.9) + drive.run(15.0, **rack.closed(ONE))
    assert rack.states(outcomes[-1]) == ["closed"]
    assert all(rack.codes(outcome) == set() for outcome in outcomes)
    assert outcomes[-1].command.ccl_a > 0.0
