"""Events are numbered and logged once; what changed is told with its place; floods of requests are counted."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bmsd.control.audit import BURST, EVERY_S, Audit
from bmsd.control.journal import Journal
from bmsd.link.wire import Answer, Answered, Asked
from bmsd.model.changes import changes
from bmsd.model.event import Event
from bmsd.model.fault import Fault
from bmsd.model.host import ClockQuality
from bmsd.model.published import Published, StringStatus
from bmsd.model.request import Lease, Role
from bmsd.model.row import Level
from bmsd.story import events
from tests.gateway.control_end import record

TAKEN = Answer(True, "taken")
HOT = Fault("TMP-003", "temperature_trip", Level.TRIP, 1, 2, 3, 61.5, 0.0, 4, True)


def happened(before: Published | None, now: Published) -> list[tuple[str, str, str]]:
    return [(event.kind, event.severity, event.text) for event in changes(before, now)]


def test_nothing_changed_is_no_event() -> None:
    assert happened(record(), record()) == []


def test_a_fault_is_told_once_with_its_place_and_value_and_again_when_it_is_over() -> None:
    calm = record(now_s=5.0)
    hot = replace(calm, faults=(HOT,))
    (event,) = changes(calm, hot)
    assert event == Event(
        0, 5.0, None, "fault.raised", "trip", "TMP-003 temperature trip at string 1 module 2 sensor 3 and 3 more",
        "TMP-003", 1, 2, 3, 61.5,
    )  # fmt: skip
    assert happened(hot, replace(hot, faults=(replace(HOT, value=62.0, since_s=9.0),))) == []
    assert happened(hot, calm) == [("fault.cleared", "info", "TMP-003 temperature trip is over")]


@pytest.mark.parametrize(
    ("state", "severity"), [("closed", "info"), ("waiting", "warning"), ("locked", "alarm"), ("opening", "info")]
)
def test_a_string_that_moves_says_why_unless_it_closed(state: str, severity: str) -> None:
    before = record(strings=1, modules=1)
    now = replace(before, strings=(StringStatus(state, 0.0, "a reason"),))
    text = f"string 1 {state}" + ("" if state == "closed" else ": a reason")
    assert happened(before, now) == [("string.state", severity, text)]
    (event,) = changes(before, now)
    assert (event.string, event.state) == (1, state)


def test_current_that_begins_or_turns_is_no_event_and_what_stops_it_is() -> None:
    idle = replace(record(), lifecycle="idle")
    charging = replace(idle, lifecycle="charging")
    assert happened(idle, charging) == []
    assert list(events(idle, charging)) == ["the rack is charging"], "a person who watches is told"
    assert happened(charging, replace(idle, lifecycle="fault")) == [("rack.state", "info", "the rack is fault")]
    assert happened(replace(idle, lifecycle="standby"), idle) == [("rack.state", "info", "the rack is idle")]


def test_what_is_missing_and_that_it_is_complete_again() -> None:
    whole = record()
    lacking = replace(whole, missing=("module 1 of string 1", "module 2 of string 1"))
    assert happened(whole, lacking) == [("rack.missing", "warning", "missing: module 1 of string 1 (and 1 more)")]
    assert happened(lacking, whole) == [("rack.complete", "info", "all boards and contactor units answer")]


def test_the_guard_is_heard_when_it_begins_to_veto() -> None:
    calm = record()
    vetoed = replace(calm, vetoes=("charge limit 5.0 A: a cell is at 3.660 V",))
    assert happened(calm, vetoed) == [("guard.veto", "alarm", "guard: charge limit 5.0 A: a cell is at 3.660 V")]
    assert happened(vetoed, replace(vetoed, vetoes=("charge limit 4.0 A: a cell is at 3.661 V",))) == []


@pytest.mark.parametrize(("now_s", "expected"), [(7.99, "is released"), (8.0, "was not renewed and is over")])
def test_a_set_point_that_is_over_is_told_with_the_cause(now_s: float, expected: str) -> None:
    held = replace(record(now_s=5.0), leases=(Lease("power", -5e3, 8.0, "modbus 10.0.0.5"),))
    (event,) = changes(held, record(now_s=now_s))
    assert (event.kind, event.text) == ("lease.ended", f"power set-point of modbus 10.0.0.5 {expected}")
    assert happened(held, replace(held, leases=(Lease("power", -4e3, 9.0, "modbus 10.0.0.5"),))) == []


def test_a_request_that_renews_a_lease_is_no_event_and_one_that_changes_it_is() -> None:
    journal = Journal()
    audit = Audit(journal)
    held = (Lease("power", -5e3, 8.0, "ems"),)
    for value, source in ((-5e3, "ems"), (-4e3, "ems"), (-5e3, "other")):
        audit.take(
            Answered(Role.OPERATOR, 0, Asked("power", value=value, lease_s=9.0, source=source), TAKEN), held, 0.0
        )
    assert [event.text.split(" (")[0] for event in journal.untold()] == ["ems", "other"]


def test_all_that_is_is_told_at_the_start() -> None:
    kinds = [kind for kind, _, _ in happened(None, replace(record(), faults=(HOT,)))]
    assert kinds == ["string.state", "string.state", "rack.state", "fault.raised"]


def test_numbers_begin_at_one_and_have_no_gaps() -> None:
    journal = Journal(clock=lambda: 7.0, wall=lambda: (None, ClockQuality.UNSET))
    for _ in range(3):
        journal.say("control.running", "info", "it runs")
    first = journal.untold()
    journal.say("control.left", "info", "it left")
    assert [event.number for event in (*first, *journal.untold())] == [1, 2, 3, 4]
    assert first[0] == Event(1, 7.0, None, "control.running", "info", "it runs", utc_quality=ClockQuality.UNSET)
    assert journal.untold() == []


def answered(what: str, *, taken: bool = True, role: Role = Role.SERVICE, text: str = "") -> Answered:
    return Answered(role, 1000, Asked(what, "CEL-003", "seen"), Answer(taken, text))


def test_who_asked_what_and_what_became_of_it_is_written_down() -> None:
    journal = Journal()
    audit = Audit(journal)
    audit.take(answered("reset"), (), 0.0)
    audit.take(answered("reset", taken=False, role=Role.OPERATOR, text="not here"), (), 0.0)
    taken, refused = journal.untold()
    assert (taken.kind, taken.severity) == ("request.taken", "info")
    assert (refused.kind, refused.severity) == ("request.refused", "warning")
    for event, words in ((taken, ("service", "1000", "reset", "CEL-003", "seen")), (refused, ("operator", "not here"))):
        assert all(word in event.text for word in words)


def test_a_flood_of_refused_requests_is_counted_and_crowds_out_nothing() -> None:
    journal = Journal()
    audit = Audit(journal)
    for tick in range(600):
        for _ in range(10):
            audit.take(answered("reset", taken=False, role=Role.OPERATOR, text="x" * 4000), (), 0.1 * tick)
    audit.take(answered("reset"), (), 60.0)
    events = journal.untold()
    assert len(events) == BURST + 59.9 // EVERY_S + 1
    assert events[-1].kind == "request.taken"
    assert sum(len(event.text) for event in events) < 700 * len(events)
    assert "such requests before, not listed" in events[BURST].text
