"""Several strings: which closes first, when a further one joins, and what happens when one does not open."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bmsd.core.contactors import State
from bmsd.core.contactors.circuit import UNIT_OPENS_S
from bmsd.core.contactors.connecting import Bus, allowed_v, too_far
from bmsd.core.tick import Outcome
from bmsd.model.row import Alarm
from bmsd.model.snapshot import Feedback
from tests import rack

PLANT = rack.plant()
TWO = rack.plant(strings=2)
REACH_V = 56.0 * 2 * 16 * 0.0003
"""0.2C of 280 Ah through twice the resistance of 16 cells."""


def one_of_two() -> dict[str, Any]:
    """String 1 is closed, string 2 open."""
    closed: dict[str, Any] = {name: np.array([1, 0]) for name in ("minus", "plus")}
    return closed | {f"{name}_output": np.array([True, False]) for name in ("minus", "plus")}


def beside(below_v: float) -> dict[str, Any]:
    """String 2 is this much below the bus."""
    return {"bus_v": 52.8, "cell_v": np.array([3.30, 3.30 - below_v / 16]).reshape(2, 1, 1) + np.zeros((2, 1, 16))}


def a_silent_unit(seconds: float, **values: Any) -> list[Outcome]:
    """Two strings with 100 A in each; the unit of string 2 has never said where its contactors are."""
    two = rack.plant(strings=2)
    silent = {"unit_state_age_s": np.array([0.1, np.inf]), "current_a": 100.0}
    return rack.Drive(two).run(seconds, **{**rack.closed(two), **silent, **values})


def test_a_unit_that_has_not_reported_is_sent_no_command_and_nothing_may_flow():
    outcomes = [o for o in a_silent_unit(20.0) if o.started]
    assert outcomes
    assert all(o.command.commanded.tolist() == [True, False] for o in outcomes)
    assert all((o.command.ccl_a, o.command.dcl_a) == (0.0, 0.0) for o in outcomes)


def test_a_unit_that_reports_late_is_adopted_and_commanded_as_it_is():
    two = rack.plant(strings=2)
    drive = rack.Drive(two)
    drive.run(4.0, **rack.closed(two), unit_state_age_s=np.array([0.1, np.inf]))
    command = drive.tick(**rack.closed(two), current_a=100.0).command
    assert command.commanded.all()
    assert command.close_plus.all()


def test_a_second_string_joins_a_live_bus_only_when_equal_and_never_through_its_resistor():
    drive, first = rack.Drive(TWO), one_of_two()
    assert {rack.states(o)[1] for o in drive.run(60.0, 0.5, **first, **beside(REACH_V + 0.01))} == {"open"}
    assert rack.states(drive.tick(**first, **beside(REACH_V - 0.01)))[1] == "closing_minus"
    first["minus"], first["minus_output"] = np.array([1, 1]), np.array([True, True])
    assert rack.states(drive.tick(**first, **beside(0.8)))[1] == "closing_minus", "it drifted apart meanwhile"
    outcome = drive.tick(**first, **beside(REACH_V - 0.01))
    assert rack.states(outcome)[1] == "closing_plus"


def test_a_string_that_drifted_apart_opens_its_minus_again_and_that_is_no_failure():
    drive, first = rack.Drive(TWO), one_of_two()
    drive.run(1.0, **first, **beside(0.0))
    first["minus"], first["minus_output"] = np.array([1, 1]), np.array([True, True])
    outcomes = drive.run(3.0, **first, **beside(0.8))
    assert rack.states(outcomes[-1])[1] == "waiting"
    assert "CON-002" not in rack.codes(outcomes[-1])


@pytest.mark.parametrize(
    ("change", "reach_v"),
    [
        ({}, 56.0 * 2 * 16 * 0.0003),
        ({"ratings": replace(PLANT.ratings, cable_ohm=0.001)}, 56.0 * 2 * (16 * 0.0003 + 0.001)),
        ({"cell": replace(PLANT.cell, charge_max_a=100.0)}, 50.0 * 2 * 16 * 0.0003),
        ({"cell": replace(PLANT.cell, resistance_ohm=np.nan)}, 16 * 0.020),
    ],
    ids=["0.2C", "with cables", "half of the continuous current", "resistance unknown"],
)
@pytest.mark.parametrize("side", [-1, 1])
def test_what_may_join_follows_from_the_current_that_it_would_drive(change, reach_v, side):
    for off_v, joins in ((reach_v - 0.002, True), (reach_v + 0.002, False)):
        drive = rack.Drive(replace(TWO, **change))
        outcome = drive.run(2.0, **one_of_two(), **beside(side * off_v))[4]
        assert (rack.states(outcome)[1] == "closing_minus") is joins, off_v


def test_without_the_rack_s_current_it_is_not_said_how_long_a_string_waits():
    text = too_far(PLANT, 51.8, 52.8, Bus(1, np.nan))
    assert text == "1.00 V below the bus, at most 0.54 V: waits until the rack is discharged"


def test_with_more_strings_on_the_bus_the_difference_must_be_smaller():
    allowed = [allowed_v(PLANT, strings) for strings in (1, 2, 7)]
    assert allowed == pytest.approx([REACH_V, 0.75 * REACH_V, 4 / 7 * REACH_V])


@pytest.mark.parametrize(
    ("amps", "joins"), [(27.9, True), (-27.9, True), (28.0, False), (-28.0, False), (np.nan, False)]
)
def test_a_string_joins_only_while_the_rack_carries_less_than_a_tenth_of_c(amps, joins):
    outcome = rack.Drive(TWO).run(0.6, **one_of_two(), **beside(0.0), current_a=np.array([amps, 0.0]))[-1]
    assert (rack.states(outcome)[1] == "closing_minus") is joins
    assert joins or "it connects below 28 A" in outcome.contactors[1].reason or np.isnan(amps)


@pytest.mark.parametrize(
    ("below_v", "amps", "said"),
    [
        (1.0, 0.0, "1.00 V below the bus, at most 0.54 V: waits until the rack is discharged"),
        (1.0, 50.0, "1.00 V below the bus, at most 0.54 V: waits until the rack is discharged"),
        (0.8, 100.0, "0.80 V below the bus, at most 0.54 V: waits until the rack carries less than 100 A"),
        (-0.7, -90.0, "0.70 V above the bus, at most 0.54 V: waits until the rack carries less than 90 A"),
        (1.0, -50.0, "1.00 V below the bus, at most 0.54 V: waits until the rack is discharged, about 1.7 h at 50 A"),
        (-0.6, 100.0, "0.60 V above the bus, at most 0.54 V: waits until the rack is charged, about 27 min at 100 A"),
    ],
)
def test_a_string_that_waits_says_for_what_and_how_long(below_v, amps, said):
    outcome = rack.Drive(TWO).run(2.0, **one_of_two(), **beside(below_v), current_a=np.array([amps, 0.0]))[-1]
    assert outcome.contactors[1].reason == said
    assert rack.codes(outcome) == {"PCK-006"}
    assert outcome.command.warnings == {Alarm.INTERNAL}
    assert not outcome.command.alarms


@pytest.mark.parametrize(
    ("string_v", "leader"),
    [
        ((52.8, 52.8, 52.8), 0),
        ((54.0, 52.8, 52.7), 1),
        ((51.0, 52.8, 52.9), 2),
        ((52.0, 54.0, 53.0), 1),
    ],
    ids=["all alike", "two of three below", "two of three above", "none can follow: the highest"],
)
def test_the_string_that_most_others_can_follow_closes_first(string_v, leader):
    three = rack.plant(strings=3)
    volts = np.array(string_v)
    cell_v = np.broadcast_to((volts / 16)[:, None, None], three.layout.cell_shape)
    outcome = rack.Drive(three).run(0.6, string_v=volts, cell_v=cell_v)[-1]
    assert [state == "closing_minus" for state in rack.states(outcome)] == [i == leader for i in range(3)]


def test_a_string_that_cannot_close_is_no_leader():
    three = rack.plant(strings=3)
    trip = np.array([5, 0, 0])
    drive = rack.Drive(three)
    assert rack.states(drive.run(0.6, unit_trip_code=trip)[-1]) == ["open", "closing_minus", "open"]


def test_nothing_closes_while_another_string_may_be_closed_unseen():
    silent: dict[str, Any] = {"unit_state_age_s": np.array([0.1, np.inf]), "current_a": np.array([0.0, np.nan])}
    outcomes = rack.Drive(TWO).run(12.0, **silent, current_age_s=np.array([0.1, np.inf]))
    first = next(i for i, outcome in enumerate(outcomes) if outcome.command.close_minus[0])
    assert 0.1 * first == pytest.approx(UNIT_OPENS_S, abs=0.3)


def test_only_one_string_closes_at_a_time():
    plant = rack.plant(strings=3)
    outcomes = rack.Drive(plant).run(10.0)
    for outcome in outcomes:
        assert sum(state in ("closing_minus", "precharge", "closing_plus") for state in rack.states(outcome)) <= 1


HIGH_CELL = 3.70


def a_string_that_stays_closed(**second: Any) -> Outcome:
    """String 2 of 2 has a cell far too high; it is told to open, its unit goes on as `second` says."""
    two = rack.plant(strings=2)
    drive = rack.running(two)
    cell_v = np.full(two.layout.cell_shape, 3.30)
    cell_v[1, 0, 0] = HIGH_CELL
    values = {**rack.closed(two), "cell_v": cell_v, "current_a": np.array([10.0, 10.0])}
    outcome = drive.run(20.0, **{**values, **second})[-1]
    assert outcome.contactors[1].state in (State.OPEN, State.WAITING)
    return outcome


@pytest.mark.parametrize(
    "second",
    [
        {},
        {"minus_output": np.array([True, False]), "plus_output": np.array([True, False])},
        {"unit_state_age_s": np.array([0.1, np.inf])},
        {
            "minus": np.array([Feedback.CLOSED, Feedback.NOT_FITTED]),
            "plus": np.array([Feedback.CLOSED, Feedback.NOT_FITTED]),
            "minus_output": np.array([True, False]),
            "plus_output": np.array([True, False]),
        },
    ],
    ids=["does not obey", "welded", "silent, carries current", "no auxiliary contacts, carries current"],
)
def test_nothing_flows_while_a_string_that_must_be_open_is_not(second: dict[str, Any]) -> None:
    """The others would charge it: a current limit cannot leave it out."""
    outcome = a_string_that_stays_closed(**second)
    command = outcome.command
    assert command.close_plus.tolist() == [True, False], "or the second string would carry all of it"
    assert not command.inverter_enable.any()
    assert {"CON-001", "CUR-012"} & rack.codes(outcome)
    assert (command.ccl_a, command.dcl_a) == (0.0, 0.0)
    assert not command.charge_enabled
    assert not command.discharge_enabled


def test_the_others_go_on_once_a_string_is_open() -> None:
    command = a_string_that_stays_closed(
        current_a=np.array([10.0, 0.0]),
        minus=np.array([Feedback.CLOSED, Feedback.OPEN]),
        minus_output=np.array([True, False]),
        plus_output=np.array([True, False]),
    ).command
    assert command.ccl_a > 0.0
    assert command.dcl_a > 0.0


@pytest.mark.parametrize(("welded_a", "opens"), [(1.5, False), (40.0, False), (np.nan, False), (0.5, True)])
def test_a_string_without_current_stays_while_the_one_that_does_not_open_carries_some(welded_a, opens):
    outcome = a_string_that_stays_closed(current_a=np.array([1.0, welded_a]))
    assert (rack.states(outcome)[0] == "open") is opens
    assert (outcome.command.ccl_a, outcome.command.dcl_a) == (0.0, 0.0)


def test_a_fault_of_its_own_opens_a_string_although_another_does_not_open():
    inputs = {"minus": 1, "plus": 1, "minus_output": True, "plus_output": True, "bus_v": 52.8, "current_a": 30.0}
    drive = rack.running(TWO)
    cell_v = np.full(TWO.layout.cell_shape, 3.30)
    cell_v[1] = HIGH_CELL
    drive.run(20.0, **inputs, cell_v=cell_v)
    cell_v[0] = HIGH_CELL
    outcome = drive.run(10.0, **inputs, cell_v=cell_v)[-1]
    assert not outcome.command.close_plus.any()
