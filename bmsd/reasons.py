"""`bmsd why`: every reason why no more current may flow, the tightest first."""

from __future__ import annotations

from typing import Any

from rich.console import Group
from rich.text import Text

from bmsd.codec.plain import bounds, plain
from bmsd.model.published import Published
from bmsd.status import grid


def reasons_object(published: Published) -> dict[str, Any]:
    """Return all bounds and vetoes for JSON; strings count from 1, null: of the whole rack."""
    return {
        "sequence": published.sequence,
        "lifecycle": published.lifecycle,
        "charge_limit_a": plain(published.command.ccl_a),
        "discharge_limit_a": plain(published.command.dcl_a),
        "charge": bounds(published.charge_bounds),
        "discharge": bounds(published.discharge_bounds),
        "vetoes": list(published.vetoes),
    }


def reasons_view(name: str, published: Published) -> Group:
    """Return the same for a terminal."""
    command = published.command
    parts: list[Any] = [Text.assemble((f"{name}: ", "dim"), (published.lifecycle, "bold"))]
    for word, amps, all_bounds in (
        ("charge", command.ccl_a, published.charge_bounds),
        ("discharge", command.dcl_a, published.discharge_bounds),
    ):
        table = grid(f"{word} {amps:.1f} A".ljust(18), "source", "string", "reason")
        for bound in all_bounds:
            string = "" if bound.string is None else str(bound.string + 1)
            table.add_row(f"{bound.amps:.1f} A", bound.source, string, Text(bound.reason))
        parts.append(table)
    parts += [Text(f"guard: {veto}", "bold red") for veto in published.vetoes]
    return Group(*parts)
