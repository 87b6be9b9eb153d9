"""What a process that comes after an interrupted one does with the contactors."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bmsd.core import memory
from bmsd.core.contactors import State
from bmsd.core.contactors.sequence import OPENED_BY_POWER_ON
from bmsd.core.memory import Memory
from bmsd.core.protection.protect import Protections
from bmsd.core.tick import Outcome, tick
from bmsd.model.catalogue import CATALOGUE
from bmsd.model.durable import LatchRecord
from bmsd.model.request import Connect, Reset, Role
from bmsd.model.row import Latch
from tests import rack

HEARTBEAT_LOST = 1
PLANT = rack.plant()
PROTECTIONS = Protections.of(PLANT, 2)


def restarted(*, running: bool, connect: bool = True) -> Memory:
    """Memory of a process that found a state file."""
    before = replace(memory.start(PLANT, PROTECTIONS), connect=connect)
    saved = memory.durable(PROTECTIONS, before, 0.0, running=running)
    return memory.restore(PLANT, PROTECTIONS, saved, 1.0)[0]


def run(was: Memory, seconds: float, **values: Any) -> Outcome:
    start_s = 100.0 if was.now_s is None else was.now_s + 0.1
    outcome = None
    for step in range(max(1, round(seconds / 0.1))):
        outcome = tick(PLANT, PROTECTIONS, was, rack.snapshot(PLANT, start_s + 0.1 * step, **values))
        was = outcome.memory
    assert outcome is not None
    return outcome


def test_a_killed_process_admits_the_charge_that_it_did_not_save() -> None:
    known = replace(memory.start(PLANT, PROTECTIONS), estimation=rack.knowing(PLANT, 0.6, 0.02))
    left, killed = (
        memory.restore(PLANT, PROTECTIONS, memory.durable(PROTECTIONS, known, 0.0, running=running), 300.0)[0]
        for running in (False, True)
    )
    more = killed.estimation.soc.sigma - left.estimation.soc.sigma
    rated_a = max(PLANT.string_charge_max_a, PLANT.string_discharge_max_a)
    assert more.min() > 0.8 * rated_a * 300.0 / 3600.0 / PLANT.cell.capacity_ah


def test_the_latch_of_a_safety_relay_that_was_taken_out_ends_with_its_reset() -> None:
    was = restarted(running=False)
    failed = run(was, 7.0, heartbeat_path=1.0)
    assert "SYS-017" in rack.codes(failed)
    gone = run(failed.memory, 5.0)
    assert "SYS-017" in rack.codes(gone), "latched"
    reset = (Reset("SYS-017", Role.SERVICE, "relay taken out"),)
    after = run(run(gone.memory, 0.1, requests=reset).memory, 2.0)
    assert "SYS-017" not in rack.codes(after)


def test_an_interrupted_process_closes_nothing_by_itself_and_says_what_to_do() -> None:
    outcome = run(restarted(running=True), 60.0, open_reason=HEARTBEAT_LOST)
    assert outcome.contactors[0].state is State.LOCKED
    assert "connect" in outcome.contactors[0].reason
    assert not outcome.command.close_minus.any()


@pytest.mark.parametrize("request_", [Connect(True), Reset("contactors", Role.SERVICE), Reset("all", Role.SERVICE)])
def test_somebody_who_asks_gets_it_closed(request_: Connect | Reset) -> None:
    outcome = run(restarted(running=True), 2.0, open_reason=HEARTBEAT_LOST)
    outcome = tick(
        PLANT, PROTECTIONS, outcome.memory, rack.snapshot(PLANT, outcome.snapshot.now_s + 0.1, requests=(request_,))
    )
    assert run(outcome.memory, 1.0).contactors[0].state is State.CLOSING_MINUS


def test_a_rack_that_was_switched_on_closes_by_itself_although_it_was_cut_off() -> None:
    outcome = run(restarted(running=True), 1.0, open_reason=OPENED_BY_POWER_ON)
    assert outcome.contactors[0].state is State.CLOSING_MINUS


def test_a_rack_whose_state_cannot_be_read_closes_nothing_even_when_it_was_switched_on() -> None:
    was = replace(memory.start(PLANT, PROTECTIONS), unread=True)
    outcome = run(was, 5.0, open_reason=OPENED_BY_POWER_ON)
    assert outcome.contactors[0].state is State.LOCKED
    assert "ask to connect" in outcome.contactors[0].reason
    assert run(was, 5.0, **rack.closed(PLANT)).contactors[0].state is State.CLOSED, "what is closed is adopted"


def test_a_process_that_left_in_order_is_followed_by_one_that_closes() -> None:
    outcome = run(restarted(running=False), 1.0, open_reason=HEARTBEAT_LOST)
    assert outcome.contactors[0].state is State.CLOSING_MINUS


def test_closed_contactors_are_adopted_after_an_interruption() -> None:
    outcome = run(restarted(running=True), 1.0, **rack.closed(PLANT))
    assert outcome.contactors[0].state is State.CLOSED


def test_half_closed_contactors_are_opened_and_stay_open_after_an_interruption() -> None:
    outcome = run(restarted(running=True), 1.0, minus_output=True, open_reason=HEARTBEAT_LOST)
    assert outcome.contactors[0].state is State.LOCKED
    assert not outcome.command.close_minus.any()


def test_a_disconnect_outlives_a_restart() -> None:
    outcome = run(restarted(running=False, connect=False), 5.0)
    assert outcome.contactors[0].state is State.OPEN
    assert outcome.contactors[0].reason == "opened on request"


def locked_before() -> Memory:
    """Memory of a process that found a state file from when the string was locked open."""
    saved = replace(
        memory.durable(PROTECTIONS, memory.start(PLANT, PROTECTIONS), 0.0, running=False),
        latches=(LatchRecord("contactors", 0, acknowledged=False),),
    )
    return memory.restore(PLANT, PROTECTIONS, saved, 1.0)[0]


CLOSED = {**rack.closed(PLANT), "current_a": 80.0}


def test_a_string_that_was_locked_open_and_is_found_closed_under_load_is_opened_in_order_and_locked() -> None:
    was, states = locked_before(), []
    for amps in [80.0] * 30 + [1.9] * 5:
        outcome = run(was, 0.1, **CLOSED | {"current_a": amps})
        was = outcome.memory
        states.append(rack.states(outcome)[0])
        command = outcome.command
        assert (command.ccl_a, command.dcl_a, command.inverter_enable[0]) == (0.0, 0.0, False)
        assert command.close_plus[0] == (amps > 2.0), "nothing parts while current flows"
    assert states == ["opening"] * 30 + ["locked"] * 5
    assert "ask to connect" in outcome.contactors[0].reason
    assert rack.states(run(was, 1.0)) == ["locked"]


def test_it_opens_at_the_latest_after_the_time_for_it_counted_from_when_the_inverter_was_told() -> None:
    """One module's temperature is not known: the inverter is told nothing for 3 s."""
    was, opened_s = locked_before(), None
    for tenth in range(100):
        outcome = run(was, 0.1, **CLOSED, temperature_degc=np.nan)
        was = outcome.memory
        if not outcome.command.close_plus[0]:
            opened_s = 0.1 * tenth
            break
    assert opened_s == pytest.approx(3.0 + 5.0, abs=0.3)


def test_a_lock_of_a_unit_that_is_not_heard_yet_is_no_order_to_open() -> None:
    outcome = run(locked_before(), 5.0, **CLOSED, unit_state_age_s=np.inf)
    assert not outcome.command.commanded[0]
    assert LatchRecord("contactors", 0, acknowledged=False) in memory.durable(PROTECTIONS, outcome.memory, 0.0).latches
    assert rack.states(run(outcome.memory, 0.1, **CLOSED)) == ["opening"]


def test_a_request_to_connect_keeps_closed_what_was_locked_open() -> None:
    was = locked_before()
    outcome = tick(PLANT, PROTECTIONS, was, rack.snapshot(PLANT, 100.0, **CLOSED, requests=(Connect(True),)))
    assert rack.states(outcome) == ["closed"]


OPENING_ALARMS = [row.code for row in CATALOGUE if row.open_after_s and row.latch is not Latch.AUTO]


@pytest.mark.parametrize("code", OPENING_ALARMS)
def test_a_latched_alarm_that_opened_its_string_keeps_it_open_after_a_restart(code: str) -> None:
    before = memory.start(PLANT, PROTECTIONS)
    saved = replace(
        memory.durable(PROTECTIONS, before, 0.0, running=False), latches=(LatchRecord(code, 0, acknowledged=False),)
    )
    was = memory.restore(PLANT, PROTECTIONS, saved, 1.0)[0]
    for seconds in (1.0, 4.0, 30.0):
        outcome = run(was, seconds)
        assert code in rack.codes(outcome)
        assert rack.states(outcome) == ["open"]
        assert outcome.contactors[0].reason


def test_a_string_is_not_closed_while_an_alarm_waits_to_open_it() -> None:
    one_of_four = np.full(PLANT.layout.sensor_shape, np.nan)
    one_of_four[..., 0] = 25.0
    was = run(restarted(running=False, connect=False), 10.0, temperature_degc=one_of_four).memory
    outcome = run(was, 20.0, temperature_degc=one_of_four, requests=(Connect(True),))
    assert "TMP-021" in rack.codes(outcome)
    assert rack.states(outcome) == ["open"]
