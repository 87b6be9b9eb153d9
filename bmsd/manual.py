"""The manual's page of faults, printed from the catalogue."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path

from bmsd.errors import ConfigError
from bmsd.model.catalogue import CATALOGUE, Latch, Row

_CLEARS = {
    Latch.AUTO: "by itself",
    Latch.OPERATOR: "acknowledge when the cause is gone",
    Latch.SERVICE: "service acknowledges with a reason when the cause is gone",
}
UNITS = {"v": "V", "degc": "degC", "s": "s", "a": "A"}


def fault_lines(code: str | None, config: Path | None, *, markdown: bool = False) -> Iterator[str]:
    """Yield the lines for one fault or all. ConfigError for an unknown code or a bad configuration."""
    thresholds = _thresholds(config)
    rows = [row for row in CATALOGUE if code is None or row.code == code.upper()]
    if not rows:
        known = [row.code for row in CATALOGUE]
        near = get_close_matches((code or "").upper(), known, 3) or known
        raise ConfigError([f"fault {code}: unknown; known are {', '.join(near)}"])
    if markdown:
        yield from _table(rows, thresholds)
        return
    for row in rows:
        if code is None:
            yield f"{row.code}  {row.level.name.lower():8} {row.name.replace('_', ' '):36} {condition(row, thresholds)}"
        else:
            yield from _page(row, thresholds)


def condition(row: Row, thresholds: Mapping[str, float]) -> str:
    """When the fault is raised, in one line."""
    sign = "below" if row.below else "above"
    words = [f"{row.detector.replace('_', ' ')} {sign} {_number(row.trip, thresholds)}"]
    if row.samples > 1:
        words.append(f"{row.samples} samples")
    if row.delay_s:
        words.append(f"{row.delay_s:g} s")
    return ", ".join(words)


def clearing(row: Row, thresholds: Mapping[str, float]) -> str:
    """What clears the fault, in one line."""
    words = [_CLEARS[row.latch], f"at {_number(row.clear, thresholds)}"]
    if row.clear_s:
        words.append(f"for {row.clear_s:g} s")
    if row.auto_per_hour is not None:
        words.append(f"at most {row.auto_per_hour} times an hour, then acknowledge")
    return " ".join(words)


def _page(row: Row, thresholds: Mapping[str, float]) -> Iterator[str]:
    yield f"{row.code} {row.name.replace('_', ' ')} ({row.level.name.lower()}, per {row.scope.value})"
    yield f"  means     {row.means}"
    yield f"  raised    {condition(row, thresholds)}"
    yield f"  bmsd does {row.does}"
    yield f"  to do     {row.remedy}"
    yield f"  clears    {clearing(row, thresholds)}"
    if row.alarms:
        yield f"  inverter  {', '.join(sorted(row.alarms))}"


def _table(rows: list[Row], thresholds: Mapping[str, float]) -> Iterator[str]:
    yield "| code | level | name | raised | means | bmsd does | to do | clears |"
    yield "|---|---|---|---|---|---|---|---|"
    for row in rows:
        cells = (
            row.code,
            row.level.name.lower(),
            row.name.replace("_", " "),
            condition(row, thresholds),
            row.means,
            row.does,
            row.remedy,
            clearing(row, thresholds),
        )
        yield "| " + " | ".join(cells) + " |"


def _number(value: float | str, thresholds: Mapping[str, float]) -> str:
    if not isinstance(value, str):
        return f"{value:g}"
    if value in thresholds:
        unit = UNITS.get(value.rsplit("_", 1)[-1], "")
        return f"{thresholds[value]:g} {unit}".strip()
    return f"`{value}`"


def _thresholds(config: Path | None) -> Mapping[str, float]:
    """Thresholds of this configuration; without one, the defaults."""
    from bmsd.config.load import load, plant
    from bmsd.config.schema import Protection, TimingSection

    if config is None:
        return {**Protection().model_dump(), "hold_s": 3.0 * TimingSection().poll_s}
    return plant(load(config)).thresholds
