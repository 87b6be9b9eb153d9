"""What boards and contactor units found by themselves: the current goes in the same tick, and a fault names it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bmsd.model.request import Reset, Role
from bmsd.model.snapshot import INPUTS, TRIP_CODES, Input
from tests import rack

PLANT = rack.plant(strings=2, modules=2)
CLOSED = rack.closed(PLANT)
APART = rack.apart(PLANT, 0)
INPUT_ROWS = {
    "interlock": "CON-011", "door": "CON-011", "fuse": "CON-010", "insulation": "ISO-002", "smoke": "AUX-002",
    "emergency_stop": "CON-012",
}  # fmt: skip
TRIP_ROWS = {
    "interlock": "CON-011", "fuse": "CON-010", "insulation": "ISO-002", "smoke": "AUX-002", "emergency stop": "CON-012",
    "cell over voltage": "CON-014", "cell under voltage": "CON-014", "over temperature": "CON-014",
    "self test": "CON-014", "over current": "CON-014",
}  # fmt: skip
SERVICE = {"CON-010", "AUX-002"}
WHOLE_RACK = {"CON-012", "AUX-002"}


def inputs(name: str, value: Input) -> dict[str, Any]:
    """This input of the first unit."""
    seen = np.zeros((2, len(INPUTS)), dtype=np.int64)
    seen[0, INPUTS.index(name)] = value
    return {"inputs": seen}


def tripped(name: str) -> dict[str, Any]:
    return {"unit_trip_code": np.array([TRIP_CODES.index(name), 0])}


def apart(code: str) -> dict[str, Any]:
    """What units report once this row has opened its string, or all."""
    return {} if code in WHOLE_RACK else APART


def flows(outcome: Any) -> tuple[bool, bool]:
    return outcome.command.ccl_a > 0.0, outcome.command.dcl_a > 0.0


FINDINGS: list[tuple[dict[str, Any], str]] = [
    *((inputs(name, Input.ACTIVE), code) for name, code in INPUT_ROWS.items()),
    *((tripped(name), code) for name, code in TRIP_ROWS.items()),
    ({"unit_trip_code": np.array([99, 0])}, "CON-014"),
    ({"trip_active": np.array([[False, True], [False, False]])}, "MOD-014"),
]


def test_every_input_and_every_trip_has_a_row() -> None:
    assert set(INPUT_ROWS) == set(INPUTS)
    assert set(TRIP_ROWS) == set(TRIP_CODES) - {"none"}


@pytest.mark.parametrize(("found", "code"), [finding for finding in FINDINGS if finding[1] not in WHOLE_RACK])
def test_both_limits_are_zero_in_the_same_tick_and_the_row_opens_its_string_only(
    found: dict[str, Any], code: str
) -> None:
    drive = rack.running(PLANT)
    assert flows(drive.tick(**CLOSED)) == (True, True)
    outcome = drive.tick(**CLOSED | found)
    assert flows(outcome) == (False, False)
    assert outcome.vetoes == ()
    outcomes = rack.obeying(drive, 14.0, **found)
    assert rack.codes(outcomes[-1]) == {code}
    assert {flows(outcome) for outcome in outcomes[:5]} == {(False, False)}
    assert rack.states(outcomes[-1]) == ["open", "closed"]


@pytest.mark.parametrize(("found", "code"), [finding for finding in FINDINGS if finding[1] in WHOLE_RACK])
def test_the_button_and_smoke_open_all_strings_whichever_unit_says_so(found: dict[str, Any], code: str) -> None:
    drive = rack.running(PLANT)
    assert flows(drive.tick(**CLOSED | found)) == (False, False)
    outcome = drive.run(3.3 if code == "AUX-002" else 0.3, **CLOSED | found, current_a=-50.0)[-1]
    assert not outcome.command.close_plus.any()
    for seen in (found, {}):
        outcome = drive.run(20.0, **seen)[-1]
        assert rack.codes(outcome) == {code}
        assert rack.states(outcome) == ["open", "open"]
        assert flows(outcome) == (False, False)


@pytest.mark.parametrize(
    ("age_s", "known"), [(0.1, True), (0.6, True), (0.61, False), (9.0, False), (np.inf, False), (np.nan, False)]
)
def test_a_unit_that_no_longer_says_where_its_contactors_are_bounds_its_closed_string_at_once(
    age_s: float, known: bool
) -> None:
    outcome = rack.running(PLANT).tick(**CLOSED, unit_state_age_s=np.array([age_s, 0.1]))
    assert flows(outcome) == (known, known)
    assert outcome.vetoes == ()
    assert ("state of its contactors unknown" in {bound.reason for bound in outcome.limits.charge}) is not known


def test_an_open_string_that_no_longer_says_so_bounds_nothing() -> None:
    drive = rack.running(PLANT, **APART)
    assert flows(drive.tick(**APART, unit_state_age_s=np.array([0.7, 0.1]))) == (True, True)


@pytest.mark.parametrize("value", [Input.NOT_FITTED, Input.UNKNOWN, 9])
@pytest.mark.parametrize("name", INPUTS)
def test_an_input_that_is_not_fitted_or_not_known_raises_nothing(name: str, value: Any) -> None:
    outcome = rack.running(PLANT).run(10.0, **CLOSED | inputs(name, value))[-1]
    assert rack.codes(outcome) == set()
    assert flows(outcome) == (True, True)


@pytest.mark.parametrize("unknown", [{"inputs": 3}, {"unit_state_age_s": 0.7}, {"unit_trip_code": -1}], ids=str)
def test_an_input_that_gets_unknown_holds_what_it_was(unknown: dict[str, Any]) -> None:
    drive = rack.running(PLANT)
    reset = (Reset("all", Role.SERVICE, "seen"),)
    drive.run(3.0, **CLOSED | inputs("insulation", Input.ACTIVE))
    outcome = drive.tick(**CLOSED | unknown, requests=reset)
    assert rack.codes(outcome) == {"ISO-002"}
    assert flows(outcome) == (False, False)
    drive.run(3.0, **CLOSED)
    assert rack.codes(drive.tick(**CLOSED, requests=reset)) == set()


@pytest.mark.parametrize(("name", "code"), sorted(TRIP_ROWS.items()))
def test_who_resets_a_trip_acknowledges_its_row_once_the_node_is_released(name: str, code: str) -> None:
    drive, role = rack.running(PLANT), Role.SERVICE if code in SERVICE else Role.OPERATOR
    was = rack.obeying(drive, 3.0, **tripped(name))[-1]
    was = drive.tick(**apart(code) | tripped(name), requests=(Reset("trip", role, "seen"),))
    was = rack.obeying(drive, 1.0, was, **tripped(name))[-1]
    assert rack.codes(was) == {code}, "the unit has not released it yet"
    assert rack.codes(rack.obeying(drive, 0.3, was)[-1]) == set()


@pytest.mark.parametrize("code", sorted(SERVICE))
def test_an_operator_resets_no_trip_that_is_for_service(code: str) -> None:
    drive, name = rack.running(PLANT), next(name for name, row in TRIP_ROWS.items() if row == code)
    was = rack.obeying(drive, 3.0, **tripped(name))[-1]
    was = drive.tick(**apart(code), requests=(Reset("trip", Role.OPERATOR, "seen"),))
    assert rack.codes(rack.obeying(drive, 3.0, was)[-1]) == {code}


def test_a_reset_does_not_wait_longer_than_nodes_are_told() -> None:
    drive = rack.running(PLANT)
    was = rack.obeying(drive, 1.0, **tripped("interlock"))[-1]
    drive.tick(**APART | tripped("interlock"), requests=(Reset("trip", Role.OPERATOR),))
    was = rack.obeying(drive, 2.0, was, **tripped("interlock"))[-1]
    assert rack.codes(rack.obeying(drive, 5.0, was)[-1]) == {"CON-011"}


def test_a_reset_of_all_acknowledges_other_faults_in_its_own_tick_only() -> None:
    drive = rack.running(PLANT)
    high = np.full(PLANT.layout.cell_shape, 3.30)
    high[0, 0, 0] = 3.66
    drive.run(2.0, **CLOSED, cell_v=high)
    drive.tick(**CLOSED, cell_v=high, requests=(Reset("all", Role.OPERATOR),))
    assert "CEL-003" in rack.codes(drive.run(1.0, **CLOSED)[-1])


@pytest.mark.parametrize(
    ("name", "most_s", "least_s"),
    [("smoke", 1.3, 1.0), ("fuse", 1.2, 1.0), ("insulation", 1.2, 0.8), ("interlock", 0.3, 0.0), ("door", 0.3, 0.0)],
)
def test_the_time_from_an_input_to_its_fault(name: str, least_s: float, most_s: float) -> None:
    drive = rack.running(PLANT)
    start_s = drive.now_s
    while INPUT_ROWS[name] not in rack.codes(drive.tick(**CLOSED | inputs(name, Input.ACTIVE))):
        assert drive.now_s - start_s <= most_s
    assert drive.now_s - start_s >= least_s
