"""A fault that is raised now."""

from __future__ import annotations

from dataclasses import dataclass

from bmsd.model.catalogue import Level


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
