"""What differs between the settings in force and those of the file, and what of it may change while bmsd runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bmsd.config.complaints import shown
from bmsd.config.described import settings
from bmsd.config.fields import Section


@dataclass(frozen=True, slots=True)
class Change:
    """One setting that differs."""

    path: str
    was: Any
    now: Any

    @property
    def reloadable(self) -> bool:
        return settings()[self.path].reloadable

    def __str__(self) -> str:
        return f"{self.path} {_shown(self.now)} (was {_shown(self.was)})"


def changes(was: Section, now: Section, prefix: str = "") -> Iterator[Change]:
    """Yield every setting that differs; the simulated rack is none."""
    for name in type(was).model_fields:
        before, after, path = getattr(was, name), getattr(now, name), prefix + name
        if before == after or path == "sim":
            continue
        if isinstance(before, Section) and isinstance(after, Section):
            yield from changes(before, after, f"{path}.")
        else:
            yield Change(path, before, after)


def with_changes(base: Section, wanted: list[Change]) -> dict[str, Any]:
    """Return the tables that were given for `base` with these settings changed."""
    tables = base.model_dump(exclude_unset=True)
    for change in wanted:
        *homes, name = change.path.split(".")
        table, section = tables, base
        for home in homes:
            section = getattr(section, home)
            table = table.setdefault(home, section.model_dump())
        table[name] = change.now
    return tables


def _shown(value: Any) -> str:
    if isinstance(value, list) and all(isinstance(one, int | float) for one in value):
        return str(value)
    return shown(value)
