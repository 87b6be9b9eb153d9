"""Contactors of boards that obey nobody here: a string is where they say it is, and what should open gets zero."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bmsd.core.contactors import State, StringState
from bmsd.core.tick import Outcome
from bmsd.model.request import Connect, Reset, Role
from bmsd.model.snapshot import Feedback
from tests import rack

TWO = rack.plant(strings=2, switches=False)


def boards(*shut: bool, **values: Any) -> dict[str, Any]:
    """What these boards report: outputs only, there are no auxiliary contacts; an open string's bus is unknown."""
    closed = np.array(shut)
    said: dict[str, Any] = dict.fromkeys(("minus", "plus", "precharge"), int(Feedback.NOT_FITTED))
    return said | {"minus_output": closed, "plus_output": closed, "bus_v": np.where(closed, 52.8, np.nan)} | values


CLOSED, APART = boards(True, True), boards(False, True)


def running(*, hot: bool = False) -> rack.Drive:
    drive = rack.Drive(TWO)
    drive.run(80.0, 1.0, **CLOSED)
    if hot:
        drive.run(12.0, **CLOSED, temperature_degc=TOO_HOT)
    return drive


TOO_HOT = np.full(TWO.layout.sensor_shape, 25.0)
TOO_HOT[0] = 70.0


def limits(outcome: Outcome) -> tuple[float, float]:
    return outcome.command.ccl_a, outcome.command.dcl_a


@pytest.mark.parametrize("amps", [0.0, 100.0, -100.0])
def test_a_closed_string_that_should_open_is_told_zero_for_ever_and_is_not_called_welded(amps: float) -> None:
    drive = running(hot=True)
    outcomes = drive.run(600.0, 1.0, **CLOSED, temperature_degc=TOO_HOT, current_a=amps)
    assert {limits(outcome) for outcome in outcomes} == {(0.0, 0.0)}
    last = outcomes[-1]
    assert not rack.codes(last) & {"CON-001", "CON-003", "CUR-012"}
    assert rack.states(last) == ["opening", "closed"]
    assert last.contactors[0].reason.endswith("only its own boards can open it")
    assert last.command.current_a == 2.0 * amps, "what it carries is part of the rack's current"


def test_it_is_limited_again_when_it_need_not_open_any_more() -> None:
    drive = running(hot=True)
    assert rack.states(drive.run(200.0, 1.0, **CLOSED)[-1]) == ["opening", "closed"]
    outcome = drive.tick(**CLOSED, requests=(Reset("all", Role.SERVICE, "cooled"),))
    assert rack.codes(outcome) == set()
    assert rack.states(outcome) == ["closed", "closed"]
    assert limits(outcome) == (0.0, 0.0), "limits wait after a stop"
    assert limits(drive.run(80.0, 1.0, **CLOSED)[-1]) == (280.0, 400.0)


def test_the_other_strings_go_on_when_its_boards_open_it() -> None:
    drive = running(hot=True)
    outcome = drive.run(80.0, 1.0, **APART, temperature_degc=TOO_HOT)[-1]
    assert rack.states(outcome) == ["open", "closed"]
    assert limits(outcome) == (140.0, 200.0)


def test_who_asks_to_open_gets_zero_until_he_asks_to_connect() -> None:
    drive = running()
    drive.tick(**CLOSED, requests=(Connect(False),))
    outcome = drive.run(60.0, **CLOSED)[-1]
    assert (limits(outcome), rack.codes(outcome)) == ((0.0, 0.0), set())
    drive.tick(**CLOSED, requests=(Connect(True),))
    assert limits(drive.run(80.0, 1.0, **CLOSED)[-1]) == (280.0, 400.0)


def test_boards_may_switch_as_often_as_they_like_without_a_fault() -> None:
    drive = running()
    for _ in range(20):
        assert rack.codes(drive.run(2.0, **APART)[-1]) == set()
        outcome = drive.run(2.0, **CLOSED)[-1]
        assert rack.codes(outcome) == set()
        assert rack.states(outcome) == ["closed", "closed"]


def test_nothing_keeps_a_closed_string_from_being_watched() -> None:
    drive = running()
    locked = StringState(State.LOCKED)
    drive.memory = replace(drive.memory, contactors=(locked, locked), interrupted=True)
    assert rack.states(drive.tick(**CLOSED)) == ["closed", "closed"]


def test_current_in_a_string_that_is_said_to_be_open_stops_the_rack_and_is_named() -> None:
    drive = running()
    flows: dict[str, Any] = {"current_a": np.array([20.0, 0.0])}
    drive.run(2.0, **APART)
    assert limits(drive.tick(**APART, **flows)) == (0.0, 0.0)
    assert "CUR-012" not in rack.codes(drive.run(0.9, **APART, **flows)[-1])
    outcome = drive.run(0.4, **APART, **flows)[-1]
    assert rack.codes(outcome) & {"CUR-012", "CON-001", "CON-003"} == {"CUR-012"}
    assert rack.states(outcome) == ["open", "opening"]
    assert limits(drive.run(80.0, 1.0, **APART)[-1]) == (0.0, 0.0), "until service has looked"


def test_current_that_is_seen_before_the_boards_say_that_they_closed_is_no_fault() -> None:
    drive = running()
    flows: dict[str, Any] = {"current_a": np.array([20.0, 20.0])}
    drive.run(2.0, **APART)
    for late in range(6):
        drive.tick(**APART, **flows, unit_state_age_s=np.array([0.1 * (late + 1), 0.1]))
    assert rack.codes(drive.run(5.0, **CLOSED, **flows)[-1]) == set()


def test_nothing_flows_while_one_string_does_not_say_where_its_contactors_are() -> None:
    silent = {"unit_state_age_s": np.array([np.inf, 0.1])}
    never = rack.Drive(TWO).run(60.0, 0.5, **CLOSED, **silent)
    assert rack.states(never[-1]) == ["unknown", "closed"]
    drive = running()
    drive.run(2.0, **APART)
    no_more = drive.run(60.0, 0.5, **APART, unit_state_age_s=np.array([0.7, 0.1]))
    assert rack.states(no_more[-1]) == ["unknown", "closed"], "its boards may close it at any time"
    unsaid = dict.fromkeys(("minus", "plus"), np.array([int(Feedback.UNKNOWN), int(Feedback.NOT_FITTED)]))
    drive.run(20.0, **APART)
    assert rack.states(drive.tick(**APART | unsaid)) == ["unknown", "closed"]
    assert {limits(outcome) for outcome in never + no_more} == {(0.0, 0.0)}


def test_a_current_that_was_invalid_can_be_acknowledged_although_no_self_test_is_ever_reported() -> None:
    drive, silent = running(), {"unit_self_test": -1}
    assert "CUR-009" in rack.codes(drive.run(1.0, **CLOSED, **silent, current_a=np.nan)[-1])
    assert "CUR-009" in rack.codes(drive.run(1.0, **CLOSED, **silent)[-1])
    assert "CUR-009" not in rack.codes(drive.tick(**CLOSED, **silent, requests=(Reset("CUR-009", Role.OPERATOR),)))
