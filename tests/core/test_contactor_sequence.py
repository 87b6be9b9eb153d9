"""Contactors: the table asked everything, and stories of closing, opening and restarting."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest

from bmsd.core import contactors
from bmsd.core.contactors import TRANSITIONS, Event, Failure, Orders, State, StringState
from bmsd.core.contactors.table import move
from bmsd.model.request import Connect, Reset, Role, Shutdown
from bmsd.model.row import Alarm
from bmsd.model.snapshot import INPUTS, Feedback
from tests import rack

PLANT = rack.plant()
CLOSED = rack.closed(PLANT)


CLOSING = {State.CLOSING_MINUS, State.PRECHARGE, State.CLOSING_PLUS}
DRIVEN = {*CLOSING, State.CLOSED, State.OPENING}
EVENTS = [event for event in Event if event is not Event.ALWAYS]
SETS = [frozenset(some) for count in (0, 1, 2, 3) for some in combinations(EVENTS, count)] + [frozenset(EVENTS)]


def asked(state: State):
    """Where the string goes from this state, for every set of up to three events and for all at once."""
    for events in SETS:
        yield events, move(StringState(state, 1.0), set(events), "", 0.1, "trip frame").state


@pytest.mark.parametrize("state", State)
def test_closed_is_reached_only_with_both_contactors_closed(state):
    for events, to in asked(state):
        if to is State.CLOSED and state is not State.CLOSED:
            assert events & {Event.PLUS_CLOSED, Event.REPORTS_CLOSED}
            assert state in (State.CLOSING_PLUS, State.UNKNOWN)


@pytest.mark.parametrize("stop", [Event.OPEN_NOW, Event.STOP])
@pytest.mark.parametrize("state", State)
def test_a_stop_never_closes_anything_and_leads_out_of_closing(state, stop):
    was = contactors.outputs((StringState(state),))
    for events, to in asked(state):
        if stop not in events or state is State.UNKNOWN:
            continue
        now = contactors.outputs((StringState(to),))
        assert not (now.close_minus & ~was.close_minus).any(), events
        assert not (now.close_plus & ~was.close_plus).any(), events
        assert not (now.close_precharge & ~was.close_precharge).any(), events
        assert to not in CLOSING or to is not state, events
        assert to is not State.CLOSED, events


@pytest.mark.parametrize("state", State)
def test_from_every_state_a_stop_leads_to_open(state):
    now = StringState(state)
    for _ in range(10):
        now = move(now, {Event.STOP, Event.MAY_OPEN, Event.REPORTS_CLOSED, Event.PAUSE_OVER}, "", 0.1, "trip frame")
    assert now.state in (State.OPEN, State.LOCKED)


@pytest.mark.parametrize("report", [Event.REPORTS_CLOSED, Event.REPORTS_PART, Event.REPORTS_OPEN])
def test_adopting_what_a_unit_reports_drives_nothing_more_than_it_does(report):
    to = move(StringState(), {report, Event.MAY_CLOSE, Event.STOP}, "", 0.1, "trip frame").state
    assert (to in DRIVEN) == (report is Event.REPORTS_CLOSED)


def test_every_state_but_locked_can_be_left_and_every_transition_is_between_states():
    assert set(TRANSITIONS) == set(State)
    assert [state for state in State if not TRANSITIONS[state]] == [State.LOCKED]


class Unit:
    """A contactor unit and a bus of 48 mF that obey at the next tick; currents are given."""

    def __init__(self, *, minus: bool = False, plus: bool = False, capacitance_f: float = 0.048) -> None:
        self.minus, self.plus, self.precharge = minus, plus, False
        self.bus_v = 52.8 if minus and plus else 0.0
        self.capacitance_f = capacitance_f
        self.stuck = False
        self.drive = rack.Drive(PLANT)
        self.told: list[tuple[bool, bool, bool]] = []

    def tick(self, dt_s: float = 0.1, **values):
        if self.minus and self.plus:
            self.bus_v = 52.8
        elif self.minus and self.precharge:
            self.bus_v += (52.8 - self.bus_v) * (1.0 - np.exp(-dt_s / (50.0 * self.capacitance_f)))
        seen = {
            "minus": int(self.minus), "plus": int(self.plus), "precharge": int(self.precharge),
            "minus_output": self.minus, "plus_output": self.plus, "precharge_output": self.precharge,
            "bus_v": self.bus_v,
        }  # fmt: skip
        self.outcome = outcome = self.drive.tick(dt_s, **{**seen, **values})
        command = outcome.command
        self.told.append((bool(command.close_minus[0]), bool(command.close_precharge[0]), bool(command.close_plus[0])))
        if not self.stuck:
            self.minus, self.precharge, self.plus = self.told[-1]
        return outcome

    def latched(self) -> dict[str, bool]:
        """Codes of the faults that are raised, and whether each waits for an acknowledgement."""
        return {fault.code: fault.latched for fault in self.outcome.faults}

    def until(self, state: str, most_s: float = 60.0, **values):
        for count in range(round(most_s / 0.1)):
            outcome = self.tick(**values)
            if rack.states(outcome) == [state]:
                return (count + 1) * 0.1, outcome
        raise AssertionError(f"{rack.states(outcome)} after {most_s} s: {outcome.contactors[0].reason}")


def test_a_dead_bus_of_48_mf_is_precharged_through_50_ohm():
    unit = Unit()
    unit.until("precharge", 1.0)
    taken_s, _ = unit.until("closing_plus", 15.0)
    assert taken_s == pytest.approx(50 * 0.048 * np.log(1 / 0.02), abs=0.3), "9.4 s to 2 %"
    assert abs(52.8 - unit.bus_v) <= 1.056
    unit.until("closed", 1.0)
    steps = [told for i, told in enumerate(unit.told) if i == 0 or told != unit.told[i - 1]]
    assert steps[-4:] == [(True, False, False), (True, True, False), (True, True, True), (True, False, True)]


@pytest.mark.parametrize("capacitance_f", [1e-6, 1e-4])
def test_a_small_bus_has_time_for_the_relay_to_act(capacitance_f):
    ratings = replace(PLANT.ratings, bus_capacitance_f=capacitance_f)
    unit = Unit(capacitance_f=capacitance_f)
    unit.drive.plant = replace(PLANT, ratings=ratings)
    unit.until("closed", 3.0)


def tried_three_times():
    """A unit whose bus never comes within reach."""
    unit = Unit()
    waits = []
    for tries in (1, 2, 3):
        waits.append(unit.until("precharge", 40.0, bus_v=45.0)[0])
        taken_s, _ = unit.until("open", 20.0, bus_v=45.0)
        assert taken_s == pytest.approx(13.0, abs=0.2)
        assert unit.told[-1] == (False, False, False)
        unit.tick(bus_v=45.0)
        assert unit.latched() == {"CON-008": tries == 3}
    assert waits[1:] == pytest.approx([30.0, 30.0], abs=0.5)
    return unit


def test_a_precharge_that_never_arrives_is_tried_three_times_then_latched():
    unit = tried_three_times()
    for _ in range(100):
        assert rack.states(unit.tick(10.0)) == ["open"]
    assert unit.drive.memory.contactors[0].reason == "CON-008 precharge timeout"


@pytest.mark.parametrize("code", ["CON-008", "contactors", "all"])
def test_a_reset_lets_a_string_try_again_at_once(code):
    unit = tried_three_times()
    unit.tick(requests=(Reset("CON-002", Role.OPERATOR),))
    assert unit.latched() == {"CON-008": True}
    unit.tick(requests=(Reset(code, Role.OPERATOR),))
    unit.until("closed", 20.0)
    assert unit.latched() == {}


def test_tries_latch_within_an_hour_only():
    unit = Unit()
    for _ in range(4):
        unit.until("precharge", 40.0, bus_v=45.0)
        unit.until("open", 20.0, bus_v=45.0)
        unit.tick(bus_v=45.0)
        assert unit.latched() == {"CON-008": False}
        for _ in range(30):
            unit.tick(60.0, bus_v=np.nan)


@pytest.mark.parametrize("stuck", ["minus", "plus"])
def test_a_contactor_that_does_not_close_latches_after_three_tries(stuck):
    unit, tries = Unit(), 0
    for _ in range(1500):
        outcome = unit.tick(**{stuck: int(Feedback.OPEN)})
        tries += outcome.contactors[0].failed is Failure.CLOSE
    assert tries == 3
    assert unit.latched() == {"CON-002": True}
    assert rack.states(outcome) == ["open"]


@pytest.mark.parametrize(("bus_v", "after_s"), [(16.0, 3.4), (0.0, 3.4)])
def test_a_load_on_the_bus_breaks_the_precharge_off_and_latches(bus_v, after_s):
    unit = Unit()
    unit.until("precharge", 1.0)
    taken_s, outcome = unit.until("open", 5.0, bus_v=bus_v)
    assert taken_s == pytest.approx(after_s, abs=0.11)
    assert unit.latched() == {"CON-009": True}
    assert Alarm.SHORT_CIRCUIT in outcome.command.alarms
    assert rack.states(unit.drive.run(100.0, 1.0)[-1]) == ["open"]
    unit.tick(requests=(Reset("CON-009", Role.OPERATOR),))
    unit.until("closed", 20.0)


def test_the_resistor_is_given_no_more_energy_than_it_stands():
    unit = Unit()
    unit.drive.plant = replace(PLANT, ratings=replace(PLANT.ratings, precharge_energy_j=50.0))
    unit.until("precharge", 1.0)
    taken_s, _ = unit.until("open", 12.0, bus_v=26.4)
    assert taken_s == pytest.approx((50.0 + 58.4**2 / 50.0) / (26.4**2 / 50.0), abs=0.3), (
        "half of the voltage: a load, but on the curve"
    )
    assert unit.latched() == {"CON-009": True}


@pytest.mark.parametrize("state", ["closing_minus", "precharge", "closing_plus"])
@pytest.mark.parametrize(
    "values",
    [{"bus_v": np.nan}, {"cell_v": np.nan}, {"unit_state_age_s": 1.0}, {"current_a": np.nan}],
    ids=str,
)
def test_a_closing_is_broken_off_for_a_while_when_the_string_may_not_be_closed_any_more(state, values):
    unit = Unit()
    unit.until(state, 15.0)
    outcome = unit.tick(**values)
    if state == "closing_plus" and "current_a" in values:
        assert rack.states(outcome) == ["opening"], "current may flow already"
        assert unit.until("waiting", 6.0, **values)[0] == pytest.approx(5.0, abs=0.11)
    assert rack.states(unit.outcome) == ["waiting"]
    assert unit.told[-1] == (False, False, False)
    assert unit.until("open", 40.0)[0] == pytest.approx(30.0, abs=0.2)
    assert not {"CON-002", "CON-008"} & unit.latched().keys(), "it is nobody's failure to close"


def test_an_unknown_feedback_is_not_closed_and_one_not_fitted_follows_its_output():
    unit = Unit()
    with pytest.raises(AssertionError):
        unit.until("closed", 30.0, plus=int(Feedback.UNKNOWN))
    Unit().until("closed", 30.0, plus=int(Feedback.NOT_FITTED), minus=int(Feedback.NOT_FITTED))


def test_a_restart_adopts_a_closed_string_under_load_without_opening_it():
    unit = Unit(minus=True, plus=True)
    first = unit.tick(current_a=80.0)
    assert rack.states(first) == ["closed"]
    assert first.command.ccl_a == 0.0
    assert all(rack.states(unit.tick(current_a=80.0)) == ["closed"] for _ in range(100))
    assert set(unit.told) == {(True, False, True)}


def test_a_restart_keeps_a_closed_string_closed_while_temperatures_are_still_to_come():
    unit = Unit(minus=True, plus=True)
    for _ in range(20):
        outcome = unit.tick(temperature_degc=np.nan, temperature_age_s=np.inf)
        assert rack.states(outcome) == ["closed"]
        assert outcome.command.ccl_a == 0.0
    assert set(unit.told) == {(True, False, True)}


@pytest.mark.parametrize(
    "half", [{"minus_output": True}, {"plus_output": True}, {"minus_output": True, "precharge_output": True}], ids=str
)
def test_a_restart_opens_a_half_closed_string_and_never_closes_the_rest_of_it(half):
    unit = Unit()
    unit.tick(**half)
    assert unit.told == [(False, False, False)]


def test_a_unit_is_told_to_open_more_than_once_before_it_is_told_to_close():
    """A unit obeys a command to close only after one to open; before the start it is sent none."""
    unit = Unit()
    for _ in range(10):
        assert not unit.tick(temperature_degc=np.nan).started, "a temperature is missing"
    unit.told.clear()
    assert unit.tick().started
    unit.until("closing_minus", 2.0)
    assert unit.told == [(False, False, False)] * 2 + [(True, False, False)]


def test_nothing_is_known_until_the_unit_reports():
    unit = Unit(minus=True, plus=True)
    assert rack.states(unit.tick(unit_state_age_s=np.inf)) == ["unknown"]
    assert rack.states(unit.tick(unit_state_age_s=0.61)) == ["unknown"]
    unit.minus = unit.plus = True
    assert rack.states(unit.tick()) == ["closed"]


@pytest.mark.parametrize(
    ("current_a", "after_s"), [(1.9, 0.1), (-1.9, 0.1), (2.1, 5.0), (-150.0, 5.0), (301.0, 3.0), (np.nan, 5.0)]
)
def test_an_ordered_opening_waits_for_the_current_or_its_time(current_a, after_s):
    unit = Unit(minus=True, plus=True)
    unit.drive.protections = rack.Protections.of(PLANT, 2, [])
    unit.drive.memory = rack.memory.start(PLANT, unit.drive.protections)
    unit.tick()
    assert rack.states(unit.tick(current_a=current_a, requests=(Connect(False),))) == ["opening"]
    taken_s, _ = unit.until("open", 6.0, current_a=current_a)
    assert taken_s == pytest.approx(after_s, abs=0.11)
    unit.drive.run(3.0)
    assert rack.states(unit.tick()) == ["open"], "and stays so"


def test_a_shutdown_opens_for_good():
    unit = Unit(minus=True, plus=True)
    unit.tick()
    unit.tick(requests=(Shutdown(),))
    unit.until("open", 1.0)
    assert rack.states(unit.tick(requests=(Connect(True),))) == ["open"]


def test_a_unit_that_opened_by_itself_is_noticed_at_once_and_told_to_open_before_it_may_close():
    unit = Unit(minus=True, plus=True)
    for _ in range(100):
        unit.tick(0.5)
    assert unit.drive.memory.sent.charge_a.max() > 0.0
    outcome = unit.tick(minus_output=False, plus_output=False, minus=0, plus=0)
    assert rack.states(outcome) == ["waiting"]
    assert outcome.command.ccl_a == outcome.command.dcl_a == 0.0
    assert unit.told[-1] == (False, False, False)


def test_a_contact_that_fell_open_under_a_driven_coil_is_not_counted_as_connected():
    unit = Unit(minus=True, plus=True)
    for _ in range(100):
        unit.tick(0.5)
    outcome = unit.tick(plus=int(Feedback.OPEN))
    assert rack.states(outcome) == ["opening"]
    assert outcome.command.ccl_a == outcome.command.dcl_a == 0.0


@pytest.mark.parametrize("name", INPUTS)
@pytest.mark.parametrize("value", [1, 3])
def test_an_active_or_unknown_input_keeps_the_string_open(name, value):
    inputs = np.zeros((1, len(INPUTS)), dtype=np.int64)
    inputs[0, INPUTS.index(name)] = value
    unit = Unit()
    for _ in range(20):
        assert rack.states(unit.tick(inputs=inputs)) == ["open"]
    assert name in unit.drive.memory.contactors[0].reason


@pytest.mark.parametrize(
    "values",
    [
        {"cell_v": np.nan}, {"temperature_degc": np.nan}, {"current_a": np.nan}, {"string_v": np.nan},
        {"bus_v": np.nan}, {"unit_state_age_s": 1.0}, {"voltage_age_s": 1.0}, {"unit_trip_code": 5},
        {"trip_active": True}, {"string_v": 0.0}, {"string_v": 50.0},
    ],
    ids=str,
)  # fmt: skip
def test_a_string_that_is_not_fully_known_is_not_closed(values):
    unit = Unit()
    for _ in range(20):
        unit.tick(**values)
    assert not any(any(told) for told in unit.told)


def test_trips_are_reset_with_their_own_codes_for_a_while():
    plant = rack.plant(strings=2, modules=2)
    drive = rack.Drive(plant)
    tripped: dict[str, Any] = {"unit_trip_code": np.array([0, 3]), "trip_code": np.array([[0, 0], [0, 1]])}
    assert drive.tick(**tripped).command.trip_resets == ()
    told = drive.tick(**tripped, requests=(Reset("trip", Role.OPERATOR),)).command.trip_resets
    assert told == ((4, 1), (66, 3)), "each with its own code"
    assert drive.tick(**tripped).command.trip_resets == told, "units listen only 0.5 s after the boards are silent"
    assert drive.run(2.5, **tripped)[-1].command.trip_resets == ()


def test_a_closed_string_opens_when_a_fault_says_so_whatever_else_is_wrong_with_it():
    for values in ({}, {"cell_count": 14}, {"unit_state_age_s": np.inf}, {"current_a": np.nan}):
        drive = rack.Drive(PLANT)
        was = drive.tick(**CLOSED).contactors
        snap = rack.snapshot(PLANT, drive.now_s, **{**CLOSED, **values})
        opens = replace(Orders.none(1), opens=np.array([True]), why=("CEL-020",))
        (now,) = contactors.step(PLANT, was, snap, opens, 0.1)
        assert (now.state, now.reason) == (State.OPENING, "CEL-020"), values


@pytest.mark.parametrize(("count", "closes"), [(16, True), (-1, True), (15, False), (24, False)])
def test_a_string_closes_only_when_its_boards_have_the_cells_of_the_layout(count: int, closes: bool) -> None:
    """Cells that a board has and the layout has not would be charged without being watched."""
    outcome = rack.Drive(PLANT).run(0.6, cell_count=count)[-1]
    assert bool(outcome.command.close_minus[0]) is closes
    assert ("number of cells" in outcome.contactors[0].reason) is not closes


@pytest.mark.parametrize(("current_a", "after_s"), [(200.0, 3.0), (-200.0, 5.0)])
def test_polarised_contactors_open_less_in_the_other_direction(current_a, after_s):
    plant = replace(PLANT, ratings=replace(PLANT.ratings, contactor_break_charge_a=150.0))
    drive = rack.Drive(plant, table=())
    drive.tick(**CLOSED)
    outcomes = drive.run(6.0, **CLOSED, current_a=current_a, requests=(Connect(False),))
    opened = next(i for i, outcome in enumerate(outcomes) if rack.states(outcome) == ["open"])
    assert 0.1 * opened == pytest.approx(after_s, abs=0.11)


def told_to_open() -> rack.Drive:
    """A string that has just been told to open."""
    drive = rack.Drive(PLANT)
    drive.tick(**CLOSED)
    drive.tick(**CLOSED, requests=(Connect(False),))
    assert rack.states(drive.tick(**CLOSED)) == ["open"]
    return drive


def test_what_was_measured_before_the_contacts_could_move_says_nothing():
    drive = told_to_open()
    for tick in range(1, 6):
        outcome = drive.tick(**CLOSED, unit_state_age_s=0.1 * tick, current_a=10.0, current_age_s=0.1 * tick)
        assert rack.codes(outcome) == set()


@pytest.mark.parametrize(
    ("values", "code", "after_s"),
    [
        (CLOSED, "CON-001", 0.4),
        ({"minus": 1}, "CON-003", 0.6),
        ({"plus": 1}, "CON-003", 0.6),
        ({"precharge": 1}, "CON-003", 0.6),
        ({"current_a": 2.6}, "CUR-012", 0.7),
        ({"current_a": -2.6}, "CUR-012", 0.7),
    ],
    ids=str,
)
def test_what_does_not_open_is_named_in_its_time_and_waits_for_service(values, code, after_s):
    drive = told_to_open()
    outcomes = drive.run(1.5, **values)
    raised = next(i for i, outcome in enumerate(outcomes) if code in rack.codes(outcome))
    assert 0.1 * (raised + 1) == pytest.approx(after_s, abs=0.11)
    ask = (Reset("all", Role.SERVICE, "inspected"),)
    unknown = {"unit_state_age_s": np.inf, "current_a": np.nan, "current_age_s": np.inf}
    assert code in rack.codes(drive.tick(**unknown, requests=ask)), "not knowing is not good"
    assert code in rack.codes(drive.tick(requests=(Reset("all", Role.OPERATOR),)))
    assert code not in rack.codes(drive.tick(requests=ask))


@pytest.mark.parametrize("current_a", [2.4, -2.4])
def test_what_a_sensor_may_show_without_a_current_is_none(current_a):
    assert rack.codes(told_to_open().run(5.0, current_a=current_a)[-1]) == set()


LOADED = {"minus": 1, "plus": 1, "minus_output": True, "plus_output": True}


@pytest.mark.parametrize(
    ("why", "then"),
    [
        ({"cell_v": np.nan}, "waiting"),
        ({"requests": (Connect(False),)}, "open"),
        ({"plus": int(Feedback.OPEN)}, "open"),
    ],
    ids=["not fit any more", "asked to", "too late"],
)
def test_a_string_that_may_carry_current_already_is_opened_in_order_although_it_was_still_closing(why, then):
    unit = Unit()
    unit.until("closing_plus", 15.0)
    for _ in range(12):
        outcome = unit.tick(current_a=40.0, **{"plus": int(Feedback.OPEN), **why})
        if rack.states(outcome) == ["opening"]:
            break
    assert unit.told[-1] == (True, False, True), "nothing parts yet"
    assert (outcome.command.ccl_a, outcome.command.inverter_enable[0]) == (0.0, False)
    unit.tick(current_a=40.0, cell_v=np.nan)
    outcome = unit.tick(current_a=1.0, cell_v=np.nan)
    assert rack.states(outcome) == [then]
    assert unit.told[-1] == (False, False, False)
    assert ({f.code for f in unit.tick().faults} >= {"CON-002"}) is ("plus" in why)


def test_what_was_measured_before_the_last_contact_closed_does_not_say_that_no_current_flows():
    unit = Unit()
    unit.until("closing_plus", 15.0)
    assert rack.states(unit.tick(cell_v=np.nan, current_age_s=0.3)) == ["opening"]
    assert rack.states(unit.tick(cell_v=np.nan, current_age_s=0.05)) == ["waiting"]


def test_a_trip_opens_a_string_that_is_closing_at_once():
    unit = Unit()
    unit.until("closing_plus", 15.0)
    unit.tick(current_a=40.0, trip_code=0, cell_v=3.80)
    told = [unit.tick(current_a=40.0, cell_v=3.80) and unit.told[-1] for _ in range(4)]
    assert told[-1] == (False, False, False)


def test_a_contact_that_chatters_pauses_its_string_and_latches_the_third_time_within_an_hour():
    unit = Unit(minus=True, plus=True)
    pauses = []
    for times in (1, 2, 3):
        taken_s, _ = unit.until("closed", 60.0)
        pauses.append(taken_s)
        for _ in range(8):
            unit.tick()
        assert rack.states(unit.tick(minus=int(Feedback.OPEN), current_a=30.0)) == ["opening"], "in order"
        unit.until("open", 6.0)
        unit.tick()
        assert unit.latched() == {"CON-004": times == 3}
    assert all(pause_s > 30.0 for pause_s in pauses[1:])
    for _ in range(100):
        assert rack.states(unit.tick(10.0)) == ["open"]
    assert unit.outcome.contactors[0].reason == "CON-004 contact lost"
    unit.tick(requests=(Reset("contactors", Role.OPERATOR),))
    unit.until("closed", 20.0)
