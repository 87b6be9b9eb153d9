"""The table of docs/metrics.md, printed from the metrics: `python -m bmsd.gateway.web.metrics_page .` renews it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from bmsd.gateway.web.metrics import FAMILIES, LOOP, OWN, UNITS, Family, Own

PAGE = Path("docs/metrics.md")
PRINTED = "<!-- printed: python -m bmsd.gateway.web.metrics_page . -->"
"""From here to its end the page is printed."""
_UNITS = {unit for unit, _ in UNITS.values() if unit} | {"ratio"}


def lines() -> Iterator[str]:
    """Yield the printed part."""
    yield ""
    yield "## Of the rack: only while control's record is good"
    yield from _table(FAMILIES)
    yield ""
    yield "## Of the gateway: always"
    yield from _table(OWN)
    yield f"| `{LOOP[0]}` | histogram | seconds | | {LOOP[1]} |"


def _table(rows: tuple[Family, ...] | tuple[Own, ...]) -> Iterator[str]:
    yield ""
    yield "| metric | type | unit | labels | meaning |"
    yield "|---|---|---|---|---|"
    for row in rows:
        unit = row.name.rpartition("_")[2]
        labels = ", ".join(row.labels) if isinstance(row, Family) else ""
        yield f"| `{row.name}` | {row.kind} | {unit if unit in _UNITS else ''} | {labels} | {row.meaning} |"


def renewed(page: str) -> str:
    """Return the page with its printed part as it is now."""
    return "\n".join((page.partition(PRINTED)[0] + PRINTED, *lines())) + "\n"


if __name__ == "__main__":
    path = Path(sys.argv[1]) / PAGE
    path.write_text(renewed(path.read_text(encoding="utf-8")), encoding="utf-8")
