"""Strings of which nobody knows whether they are closed: nothing joins or flows until something shows them open."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bmsd.core import contactors, memory
from bmsd.core.contactors.circuit import DEAD_S, UNIT_OPENS_S
from bmsd.core.tick import Outcome
from bmsd.model.request import Connect, Reset, Role
from tests import rack

TWO = rack.plant(strings=2)
NAN, INF = np.nan, np.inf
SILENT: dict[str, Any] = {
    "unit_state_age_s": np.array([0.1, INF]), "current_age_s": np.array([0.05, INF]),
    "current_a": np.array([0.0, NAN]), "string_v": np.array([52.8, NAN]), "inputs": np.array([[0] * 6, [3] * 6]),
}  # fmt: skip
"""The unit of string 2 says nothing."""
LIVE: dict[str, Any] = {"bus_v": np.array([52.8, NAN])}
DEAD: dict[str, Any] = {"bus_v": np.array([0.0, NAN])}
FIRST: dict[str, Any] = {name: np.array([1, 0]) for name in ("minus", "plus")} | {
    f"{name}_output": np.array([True, False]) for name in ("minus", "plus")
}
ISOLATED = Reset("CON-015", Role.SERVICE, "switched off by hand")


def obeyed(drive: rack.Drive, seconds: float, **values: Any) -> Outcome:
    """Run with contactors that obey at the next tick; the bus has the voltage of what is closed on it."""
    for _ in range(round(seconds / 0.1)):
        told = contactors.outputs(drive.memory.contactors)
        seen = {"minus": told.close_minus, "plus": told.close_plus, "precharge": told.close_precharge}
        coils: dict[str, Any] = {name: value.astype(int) for name, value in seen.items()} | {
            f"{k}_output": v for k, v in seen.items()
        }
        live = bool((told.close_minus & (told.close_plus | told.close_precharge)).any())
        outcome = drive.tick(**coils | {"bus_v": np.array([52.8 if live else 0.0, NAN])} | values)
    return outcome


def flows(outcome: Outcome) -> bool:
    return outcome.command.ccl_a > 0.0 or outcome.command.dcl_a > 0.0


def test_nothing_closes_onto_a_live_bus_beside_a_unit_that_was_never_heard() -> None:
    drive = rack.Drive(TWO)
    outcomes = drive.run(60.0, **SILENT, **LIVE)
    assert {rack.states(outcome)[0] for outcome in outcomes} <= {"unknown", "open"}
    assert not any(outcome.command.close_minus.any() for outcome in outcomes)
    assert "nothing shows that it is" in outcomes[-1].contactors[0].reason
    assert "CON-015" in rack.codes(outcomes[-1])


@pytest.mark.parametrize("bus_v", [NAN, 8.1, -8.1, 30.0])
def test_a_bus_that_is_unknown_or_not_quite_dead_shows_nothing(bus_v: float) -> None:
    outcomes = rack.Drive(TWO).run(15.0, **SILENT, bus_v=np.array([bus_v, NAN]))
    assert not any(outcome.command.close_minus.any() for outcome in outcomes)


def test_beside_a_unit_that_was_never_heard_the_others_close_once_the_bus_is_dead() -> None:
    drive = rack.Drive(TWO)
    assert rack.states(obeyed(drive, UNIT_OPENS_S - 0.2, **SILENT))[0] == "open"
    assert rack.states(obeyed(drive, 0.5, **SILENT))[0] == "precharge"
    outcome = obeyed(drive, 20.0, **SILENT)
    assert rack.states(outcome) == ["closed", "unknown"]
    assert "CON-015" not in rack.codes(outcome)
    assert flows(outcome), "with the bus live again it is still known to be open"


def test_a_bus_must_be_dead_for_a_while() -> None:
    drive = rack.Drive(TWO)
    drive.run(10.0, **SILENT, **LIVE)
    for _ in range(20):
        drive.run(DEAD_S - 0.1, **SILENT, **DEAD)
        assert rack.states(drive.tick(**SILENT, **LIVE))[0] == "open"
    assert rack.states(drive.run(DEAD_S + 0.2, **SILENT, **DEAD)[-1])[0] == "closing_minus"


def test_a_bus_that_is_measured_dead_although_a_string_feeds_it_shows_nothing() -> None:
    drive = rack.Drive(TWO)
    drive.run(7.0, **SILENT, **LIVE, **FIRST)
    drive.run(1.3, **SILENT, **DEAD, **FIRST)
    assert not any(flows(outcome) for outcome in drive.run(20.0, **SILENT, **LIVE, **FIRST))


def test_beside_an_adopted_string_nothing_flows_until_service_says_that_the_other_is_isolated() -> None:
    drive = rack.Drive(TWO)
    outcomes = drive.run(60.0, 0.5, **SILENT, **LIVE, **FIRST)
    assert not any(flows(outcome) for outcome in outcomes)
    assert "CON-015" in rack.codes(outcomes[-1])
    assert outcomes[-1].limits.charge[0].amps == 0.0
    for reset in (
        Reset("CON-015", Role.OPERATOR, "no"), Reset("CON-015", Role.SERVICE), Reset("all", Role.SERVICE, "no"),
    ):  # fmt: skip
        drive.tick(**SILENT, **LIVE, **FIRST, requests=(reset,))
    assert not flows(drive.run(60.0, 0.5, **SILENT, **LIVE, **FIRST)[-1])
    drive.tick(**SILENT, **LIVE, **FIRST, requests=(ISOLATED,))
    outcome = drive.run(60.0, 0.5, **SILENT, **LIVE, **FIRST)[-1]
    assert (outcome.command.ccl_a, outcome.command.dcl_a) == (140.0, 200.0)
    assert "CON-015" not in rack.codes(outcome)


def test_what_service_said_outlives_a_restart_and_ends_when_the_unit_is_heard() -> None:
    drive = rack.Drive(TWO)
    drive.run(10.0, **SILENT, **LIVE, **FIRST)
    drive.tick(**SILENT, **LIVE, **FIRST, requests=(ISOLATED,))
    saved = memory.durable(drive.protections, drive.memory, 0.0, running=False)
    drive.memory, notes = memory.restore(TWO, drive.protections, saved, 1.0)
    assert not notes
    assert flows(drive.run(60.0, 0.5, **SILENT, **LIVE, **FIRST)[-1])
    drive.tick(**LIVE | {"bus_v": 52.8}, **FIRST)
    assert not memory.durable(drive.protections, drive.memory, 0.0).latches
    drive.memory = memory.restore(TWO, drive.protections, memory.durable(drive.protections, drive.memory, 0.0), 1.0)[0]
    assert not any(flows(outcome) for outcome in drive.run(30.0, 0.5, **SILENT, **LIVE, **FIRST))


def test_a_closed_string_whose_unit_falls_silent_is_not_believed_to_have_opened() -> None:
    """It was told to open; whether it did, nobody has seen."""
    drive = rack.running(TWO)
    last = rack.closed(TWO)
    outcomes = drive.run(60.0, **last, **SILENT, **LIVE)
    assert rack.states(outcomes[-1]) == ["closed", "open"]
    assert not any(flows(outcome) for outcome in outcomes[6:])
    assert "CON-015" in rack.codes(outcomes[-1])
    assert "CON-001" not in rack.codes(outcomes[-1]), "nothing says that it is welded"


def test_without_service_a_disconnect_and_a_dead_bus_bring_the_other_string_back() -> None:
    drive = rack.running(TWO)
    assert not flows(obeyed(drive, 30.0, **SILENT))
    drive.tick(**rack.closed(TWO), **SILENT, **LIVE, requests=(Connect(False),))
    assert rack.states(obeyed(drive, 3.0, **SILENT)) == ["open", "open"]
    drive.tick(**SILENT, **DEAD, requests=(Connect(True),))
    assert flows(obeyed(drive, 20.0, **SILENT))


def test_a_unit_that_was_seen_open_and_falls_silent_stops_nobody() -> None:
    drive = rack.Drive(TWO)
    drive.run(80.0, 1.0, **FIRST, **LIVE | {"bus_v": 52.8})
    assert all(flows(outcome) for outcome in drive.run(60.0, **SILENT, **LIVE, **FIRST))


def test_a_unit_that_closed_by_itself_and_then_falls_silent_is_in_doubt_again() -> None:
    drive, both = rack.Drive(TWO), rack.closed(TWO)
    drive.run(80.0, 1.0, **FIRST, bus_v=52.8)
    assert flows(drive.tick(**FIRST, bus_v=52.8))
    drive.tick(**both)
    outcomes = drive.run(20.0, **FIRST, **SILENT, **LIVE)
    assert not any(flows(outcome) for outcome in outcomes)
    assert "CON-015" in rack.codes(outcomes[-1])


def test_a_report_from_before_the_order_to_open_shows_nothing() -> None:
    drive = rack.running(TWO)
    live: dict[str, Any] = {"bus_v": 52.8}
    drive.run(2.0, **FIRST, **live)
    while rack.states(outcome := obeyed(drive, 0.1, **live))[1] != "closing_minus":
        assert drive.now_s < 250.0, outcome.contactors[1].reason
    before: dict[str, Any] = {"unit_state_age_s": np.array([0.1, 0.3])}
    outcome = drive.tick(**FIRST, **live, **before, cell_v=_unknown_cell())
    assert rack.states(outcome)[1] == "waiting", "its minus may be closed by now; the report is older"
    drive.tick(**FIRST, **live, **before, cell_v=_unknown_cell())
    assert not any(flows(outcome) for outcome in drive.run(10.0, **FIRST, **SILENT, **LIVE))


def _unknown_cell() -> Any:
    cell_v = np.full(TWO.layout.cell_shape, 3.30)
    cell_v[1, 0, 0] = NAN
    return cell_v


def test_no_string_closes_while_units_do_not_agree_on_the_voltage_of_the_bus() -> None:
    drive = rack.Drive(TWO)
    outcome = drive.run(10.0, bus_v=np.array([0.0, 52.8]))[-1]
    assert rack.states(outcome) == ["open", "open"]
    assert outcome.contactors[0].reason == "its unit measures 0.0 V on the bus, string 2 52.8 V"
    assert "closing_minus" in rack.states(drive.run(1.0)[-1])


def test_a_rack_of_one_string_has_nobody_to_doubt_it() -> None:
    one = rack.Drive(rack.plant())
    assert "CON-015" not in rack.codes(one.run(20.0, unit_state_age_s=INF, current_a=NAN, current_age_s=INF)[-1])


def test_where_nobody_switches_service_lets_the_others_go_on_without_a_silent_string() -> None:
    mapped = rack.plant(strings=2, switches=False)
    drive = rack.running(mapped)
    silent = {**rack.closed(mapped), **SILENT, **LIVE}
    assert not flows(drive.run(60.0, 0.5, **silent)[-1])
    assert "CON-015" in rack.codes(drive.tick(**silent))
    drive.tick(**silent, requests=(ISOLATED,))
    outcome = drive.run(60.0, 0.5, **silent)[-1]
    assert rack.states(outcome) == ["closed", "unknown"]
    assert (outcome.command.ccl_a, outcome.command.dcl_a) == (140.0, 200.0)
    outcome = drive.run(3.0, **rack.closed(mapped))[-1]
    assert rack.states(outcome) == ["closed", "closed"], "heard again, it is part of the rack"
