"""What changed from one published record to the next, in sentences for a person."""

from __future__ import annotations

from collections.abc import Iterator

from bmsd.model.bound import Bound
from bmsd.model.fault import Fault
from bmsd.model.points import values
from bmsd.model.published import Published


def events(before: Published | None, now: Published) -> Iterator[str]:
    """Yield a sentence for everything that a person would want to know; all that is, when there is no `before`."""
    if before is None or before.missing != now.missing:
        yield from _missing(before, now)
    for number, string in enumerate(now.strings, start=1):
        last = before.strings[number - 1] if before else None
        if last is None or last.state != string.state:
            why = f": {string.reason}" if string.reason and string.state != "closed" else ""
            yield f"string {number} {string.state.replace('_', ' ')}{why}"
    if before is None or before.lifecycle != now.lifecycle:
        yield f"the rack is {now.lifecycle}"
    yield from _limits(before, now)
    yield from _balancing(before, now)
    yield from _faults(before, now)
    if now.vetoes and not (before and before.vetoes):
        yield from (f"guard: {veto}" for veto in now.vetoes)


def place(fault: Fault) -> str:
    """Return where the worst subject of a fault is, in words."""
    words = []
    if fault.string is not None:
        words.append(f"string {fault.string}")
    if fault.module is not None:
        words.append(f"module {fault.module}")
    if fault.item is not None:
        words.append(f"number {fault.item}")
    if fault.count > 1:
        words.append(f"and {fault.count - 1} more")
    return " ".join(words)


def _missing(before: Published | None, now: Published) -> Iterator[str]:
    if now.missing:
        more = f" (and {len(now.missing) - 1} more)" if len(now.missing) > 1 else ""
        yield f"missing: {now.missing[0]}{more}"
    elif before is not None:
        yield "all boards and contactor units answer"


def _limits(before: Published | None, now: Published) -> Iterator[str]:
    """Say when a limit becomes zero or leaves it, and when another reason begins to bind."""
    if before is None:
        return
    for word, was_a, amps, was_bounds, bounds in (
        ("charge", before.command.ccl_a, now.command.ccl_a, before.charge_bounds, now.charge_bounds),
        ("discharge", before.command.dcl_a, now.command.dcl_a, before.discharge_bounds, now.discharge_bounds),
    ):
        if (amps > 0.0) != (was_a > 0.0) or _reason(bounds) != _reason(was_bounds):
            yield f"{word} limit {amps:.1f} A: {_reason(bounds)}"


def _reason(bounds: tuple[Bound, ...]) -> str:
    return bounds[0].reason if bounds else "no bound known"


def _balancing(before: Published | None, now: Published) -> Iterator[str]:
    count = int(values(now)["cells_balancing"] or 0)
    was = int(before.command.balance.sum()) if before else 0
    if (count > 0) != (was > 0):
        yield f"balancing: {count} {'cell bleeds' if count == 1 else 'cells bleed'}" if count else "balancing ends"


def _faults(before: Published | None, now: Published) -> Iterator[str]:
    was = {fault.code: fault for fault in before.faults} if before else {}
    raised = {fault.code: fault for fault in now.faults}
    for code, fault in raised.items():
        if code not in was:
            where = f" at {place(fault)}" if place(fault) else ""
            yield f"{fault.level.name.lower()} {code} {fault.name.replace('_', ' ')}{where}"
    for code in was.keys() - raised.keys():
        yield f"{code} {was[code].name.replace('_', ' ')} is over"
