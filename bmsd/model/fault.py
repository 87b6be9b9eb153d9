"""A fault that is raised now."""

from __future__ import annotations

from dataclasses import dataclass

from bmsd.model.catalogue import CATALOGUE
from bmsd.model.row import Level, Scope
from bmsd.model.snapshot import BUSES

_SCOPE = {row.code: row.scope for row in CATALOGUE}


@dataclass(frozen=True, slots=True)
class Fault:
    """One row of the catalogue with its worst subject. String, module and item count from 1, None: not of one.

    `item` is the cell, sensor or bus; `value` what was measured (None when unknown), `since_s` how long the
    fault has been raised, `count` how many subjects have it, `latched` whether it waits to be acknowledged.
    """

    code: str
    name: str
    level: Level
    string: int | None
    module: int | None
    item: int | None
    value: float | None
    since_s: float
    count: int
    latched: bool


def place(fault: Fault) -> str:
    """Return where the worst subject of a fault is, in words; empty for one of the whole rack."""
    words = []
    if fault.string is not None:
        words.append(f"string {fault.string}")
    if fault.module is not None:
        words.append(f"module {fault.module}")
    if fault.item is not None:
        words.append(_item(fault.code, fault.item))
    if fault.count > 1:
        words.append(f"and {fault.count - 1} more")
    return " ".join(words)


def _item(code: str, number: int) -> str:
    scope = _SCOPE.get(code)
    if scope is Scope.BUS and 1 <= number <= len(BUSES):
        return f"{BUSES[number - 1]} bus"
    return f"{scope.value if scope else 'number'} {number}"
