"""What changed from one record to the next, as events: told once, for the log, the link and a person's screen."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from bmsd.model.event import Event
from bmsd.model.fault import place
from bmsd.model.published import Published

STRING_SEVERITY = {"locked": "alarm", "waiting": "warning"}
"""Of a string's state; of all others it is info."""

FLOWS = ("idle", "charging", "discharging")


def changes(before: Published | None, now: Published) -> Iterator[Event]:
    """Yield an event, not numbered yet, for everything that changed; for all that is, when there is no `before`."""
    event = _event(now)
    if before is None or before.missing != now.missing:
        if now.missing:
            more = f" (and {len(now.missing) - 1} more)" if len(now.missing) > 1 else ""
            yield event("rack.missing", "warning", f"missing: {now.missing[0]}{more}")
        elif before is not None:
            yield event("rack.complete", "info", "all boards and contactor units answer")
    for number, string in enumerate(now.strings, start=1):
        if before is None or before.strings[number - 1].state != string.state:
            why = f": {string.reason}" if string.reason and string.state != "closed" else ""
            text = f"string {number} {string.state.replace('_', ' ')}{why}"
            severity = STRING_SEVERITY.get(string.state, "info")
            yield event("string.state", severity, text, string=number, state=string.state)
    if before is None or (before.lifecycle != now.lifecycle and not flows(before, now)):
        yield event("rack.state", "info", f"the rack is {now.lifecycle}", state=now.lifecycle)
    yield from _faults(before, now)
    yield from _leases(before, now)
    if now.vetoes and not (before and before.vetoes):
        yield from (event("guard.veto", "alarm", f"guard: {veto}") for veto in now.vetoes)


def _event(now: Published) -> partial[Event]:
    """An event of this record's instant."""
    snapshot = now.snapshot
    return partial(Event, 0, snapshot.now_s, snapshot.utc_s, utc_quality=snapshot.utc_quality)


def flows(before: Published, now: Published) -> bool:
    """Whether current may flow in both: from charging to idle and back is no event, it may change with every tick."""
    return before.lifecycle in FLOWS and now.lifecycle in FLOWS


def _faults(before: Published | None, now: Published) -> Iterator[Event]:
    event = _event(now)
    was = {fault.code: fault for fault in before.faults} if before else {}
    raised = {fault.code: fault for fault in now.faults}
    for code, fault in raised.items():
        if code not in was:
            where = f" at {place(fault)}" if place(fault) else ""
            level = fault.level.name.lower()
            text = f"{code} {fault.name.replace('_', ' ')}{where}"
            yield event(
                "fault.raised", level, text, code, fault.string, fault.module, fault.item, fault.value
            )  # fmt: skip
    for code, fault in was.items():
        if code not in raised:
            text = f"{code} {fault.name.replace('_', ' ')} is over"
            yield event("fault.cleared", "info", text, code, fault.string, fault.module, fault.item)


def _leases(before: Published | None, now: Published) -> Iterator[Event]:
    """Say that a set-point is over; that it begins is told by the request for it."""
    event = _event(now)
    held = {lease.what for lease in now.leases}
    for lease in before.leases if before else ():
        if lease.what not in held:
            whose = f"{lease.what} set-point of {lease.source or 'somebody'}"
            if now.snapshot.now_s >= lease.until_s:
                yield event("lease.ended", "warning", f"{whose} was not renewed and is over")
            else:
                yield event("lease.ended", "info", f"{whose} is released")
