"""Measured capacities of one cell over months, from a CSV file: the history that a rack would have of it."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from bmsd.core.estimation.history import LEAST_MARKS
from bmsd.core.estimation.wear import DAY_S, YEAR_DAYS, warm_pace
from bmsd.errors import ConfigError
from bmsd.model.cell import Ageing
from bmsd.model.history import History, Wear
from bmsd.model.snapshot import Floats

SIGMA = 0.005
"""Of a capacity that comes without one, share: what laboratories repeat."""
RESISTANCE_SIGMA = 0.03
PLAUSIBLE_SHARE = (0.2, 1.5)
PLAUSIBLE_DEGC = (-60.0, 100.0)
OPTIONAL = ("cycles", "temperature_degc", "resistance_ohm", "capacity_sigma_ah")


@dataclass(frozen=True)
class Log:
    """Rows in the order of time. `utc_s`: when the last was taken, None: the file tells days only."""

    name: str
    days: Floats
    capacity_ah: Floats
    sigma_ah: Floats
    cycles: Floats
    degc: Floats
    resistance_ohm: Floats
    utc_s: float | None
    rejected: tuple[str, ...]

    def history(self, nominal_ah: float, ageing: Ageing) -> History:
        """As the history of a rack of one cell. A temperature belongs to the time since the row before."""
        pace = warm_pace(np.where(np.isnan(self.degc), 25.0, self.degc), ageing.activation_k)
        warm = np.cumsum(np.diff(self.days, prepend=0.0) * pace) / YEAR_DAYS
        ohms = self.resistance_ohm / self.resistance_ohm[0]
        shape = (len(self.days), 1, 1, 1)
        cells = (self.capacity_ah / nominal_ah, self.sigma_ah / nominal_ah, ohms, np.full_like(ohms, RESISTANCE_SIGMA))
        marks = [values.reshape(shape).astype(np.float32) for values in cells]
        use = [values.reshape(-1, 1) for values in (warm, self.cycles)]
        wear = Wear(float(self.days[-1]), use[0][-1], use[1][-1])
        return History(wear, self.days, use[0], use[1], marks[0], marks[1], marks[2], marks[3])


def read(path: Path, nominal_ah: float) -> Log:
    """Return the log in this file. ConfigError: it cannot be used, and why."""
    taken: list[dict[str, float]] = []
    rejected = []
    rows, dated = _rows(path)
    for line, row in rows:
        values = {name: _number(row.get(name)) for name in ("days", "capacity_ah", *OPTIONAL)}
        if dated:
            values["days"] = _date(row.get("date") or "")
        why = _wrong(values, taken[-1] if taken else None, nominal_ah)
        if why:
            rejected.append(f"line {line} left out: {why}")
        else:
            taken.append(values)
    if len(taken) < LEAST_MARKS:
        raise ConfigError([f"{path}: {len(taken)} rows can be used, expected at least {LEAST_MARKS}", *rejected])
    columns = {name: np.array([row[name] for row in taken]) for name in taken[0]}
    days, sigma = columns["days"], columns["capacity_sigma_ah"]
    return Log(
        name=path.name,
        days=days - days[0] if dated else days,
        capacity_ah=columns["capacity_ah"],
        sigma_ah=np.where(np.isnan(sigma), SIGMA * nominal_ah, sigma),
        cycles=np.nan_to_num(columns["cycles"]),
        degc=columns["temperature_degc"],
        resistance_ohm=columns["resistance_ohm"],
        utc_s=float(days[-1]) * DAY_S if dated else None,
        rejected=tuple(rejected),
    )


def _rows(path: Path) -> tuple[list[tuple[int, dict[str, str]]], bool]:
    """Rows with their lines, and whether their time is a date."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file, skipinitialspace=True)
            names = [name.strip() for name in table.fieldnames or ()]
            table.fieldnames = names
            rows = [(table.line_num, row) for row in table]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise ConfigError([f"{path}: cannot be read: {why}"]) from None
    if "capacity_ah" not in names or not {"days", "date"} & set(names):
        found = ", ".join(names)[:200] or "nothing"
        raise ConfigError([f"{path}: expected the columns capacity_ah and days or date, found {found}"])
    return rows, "date" in names


def _wrong(values: Mapping[str, float], before: Mapping[str, float] | None, nominal_ah: float) -> str:
    """Why a row cannot be believed; empty: it can."""
    share, low, high = values["capacity_ah"] / nominal_ah, *PLAUSIBLE_SHARE
    degc = values["temperature_degc"]
    if not math.isfinite(values["days"]) or values["days"] < 0.0:
        return "no time: expected days since the first use, 0 or more, or a date such as 2026-11-26"
    if before is not None and not values["days"] > before["days"]:
        return "it is not later than the row before"
    if before is not None and values["cycles"] < before["cycles"]:
        return "cycles go backwards"
    if not low <= share <= high:
        return (
            f"capacity_ah is {values['capacity_ah']:g}; expected {low:g} to {high:g} of the nominal {nominal_ah:g} Ah"
        )
    if not math.isnan(degc) and not PLAUSIBLE_DEGC[0] <= degc <= PLAUSIBLE_DEGC[1]:
        return f"temperature_degc is {degc:g}; expected {PLAUSIBLE_DEGC[0]:g} to {PLAUSIBLE_DEGC[1]:g}"
    if values["capacity_sigma_ah"] <= 0.0 or values["resistance_ohm"] <= 0.0:
        return "capacity_sigma_ah and resistance_ohm are above 0 where they are known"
    return ""


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan


def _date(text: str) -> float:
    """Days since 1970; NaN: no date."""
    try:
        when = datetime.fromisoformat(text.strip())
    except ValueError:
        return math.nan
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() / DAY_S
