"""What happens from one published record to the next, in sentences for a person who watches."""

from __future__ import annotations

import re
from collections.abc import Iterator

from bmsd.model.bound import Bound
from bmsd.model.changes import changes, flows
from bmsd.model.points import values
from bmsd.model.published import Published

_NUMBERS = re.compile(r"\d+")


def events(before: Published | None, now: Published) -> Iterator[str]:
    """Yield a sentence for every event, and for what moves too often to be one."""
    for event in changes(before, now):
        yield f"{event.severity} {event.text}" if event.kind == "fault.raised" else event.text
    if before and flows(before, now) and before.lifecycle != now.lifecycle:
        yield f"the rack is {now.lifecycle}"
    yield from _limits(before, now)
    yield from _balancing(before, now)


def _limits(before: Published | None, now: Published) -> Iterator[str]:
    """Say when a limit becomes zero or leaves it, and when another reason begins to bind."""
    if before is None:
        return
    for word, was_a, amps, was_bounds, bounds in (
        ("charge", before.command.ccl_a, now.command.ccl_a, before.charge_bounds, now.charge_bounds),
        ("discharge", before.command.dcl_a, now.command.dcl_a, before.discharge_bounds, now.discharge_bounds),
    ):
        same = _NUMBERS.sub("", _reason(bounds)) == _NUMBERS.sub("", _reason(was_bounds))
        if (amps > 0.0) != (was_a > 0.0) or not same:
            yield f"{word} limit {amps:.1f} A: {_reason(bounds)}"


def _reason(bounds: tuple[Bound, ...]) -> str:
    return bounds[0].reason if bounds else "no bound known"


def _balancing(before: Published | None, now: Published) -> Iterator[str]:
    count = int(values(now)["cells_balancing"] or 0)
    was = int(before.command.balance.sum()) if before else 0
    if (count > 0) != (was > 0):
        yield f"balancing: {count} {'cell bleeds' if count == 1 else 'cells bleed'}" if count else "balancing ends"
