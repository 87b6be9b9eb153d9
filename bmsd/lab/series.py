"""A measured series from a CSV file: what of it can be believed, and what was rejected and why.

Rows that cannot be believed are left out one by one and counted by reason; what would make every row wrong, a unit or a
missing column, refuses the file.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bmsd.errors import ConfigError
from bmsd.model.cell import Floats

NEEDED = ("t_s", "current_a", "voltage_v", "temperature_degc")
LEAST_ROWS = 3
PLAUSIBLE_V = (0.5, 5.0)
PLAUSIBLE_DEGC = (-60.0, 150.0)
SPIKE_V = 0.15
"""A single voltage this far from both neighbours, which agree, is a spike unless the current stepped with it."""
MOST_REJECTED_SHARE = 0.5
GAP_PERIODS = 20.0
LEAST_GAP_S = 30.0
SHOWN_LINES = 5


@dataclass(frozen=True)
class Rejected:
    """Why rows were left out, how many, and the lines of the first ones."""

    why: str
    rows: int
    lines: tuple[int, ...]

    def __str__(self) -> str:
        shown = ", ".join(map(str, self.lines)) + (", ..." if self.rows > len(self.lines) else "")
        return f"{self.rows} rows: {self.why} (line {shown})"


@dataclass(frozen=True)
class Gap:
    """Time without a row, s, that began at `t_s`."""

    t_s: float
    length_s: float


@dataclass(frozen=True)
class Series:
    """Arrays (rows,): t_s rising, current_a (positive charges), voltage_v, temperature_degc (NaN: unknown), soc."""

    name: str
    t_s: Floats
    current_a: Floats
    voltage_v: Floats
    temperature_degc: Floats
    soc: Floats | None
    rejected: tuple[Rejected, ...]
    gaps: tuple[Gap, ...]

    def report(self) -> Iterator[str]:
        """Yield what was taken and what was not, a line each."""
        left_out = sum(part.rows for part in self.rejected)
        yield f"{self.name}: {len(self.t_s)} rows taken, {left_out} rejected"
        yield from (f"{self.name}: {part}" for part in self.rejected)
        for gap in self.gaps[:SHOWN_LINES]:
            yield f"{self.name}: gap of {gap.length_s:.0f} s after t_s {gap.t_s:g}: what flowed in it is not known"
        if len(self.gaps) > SHOWN_LINES:
            yield f"{self.name}: {len(self.gaps) - SHOWN_LINES} further gaps"


def read(path: Path | str) -> Series:
    """Return the series in this file. ConfigError: the file as a whole cannot be used, and why."""
    path = Path(path)
    lines, columns = _columns(path)
    kept = np.ones(len(lines), dtype=bool)
    rejected: list[Rejected] = []

    def reject(wrong: NDArray[np.bool_], why: str) -> None:
        wrong = wrong & kept
        if wrong.any():
            kept[wrong] = False
            at = lines[wrong]
            rejected.append(Rejected(why, len(at), tuple(int(line) for line in at[:SHOWN_LINES])))

    t_s, amps, volts, degc = (columns[name] for name in NEEDED)
    for name in NEEDED[:3]:
        reject(~np.isfinite(columns[name]), f"{name} is not a number")
    _refuse_units(path, volts[kept], degc[np.isfinite(degc)])
    reject(volts > 1000.0 * PLAUSIBLE_V[0], "voltage_v looks like mV; expected V")
    low, high = PLAUSIBLE_V
    reject(~((volts >= low) & (volts <= high)), f"voltage_v outside {low:g}..{high:g} V")
    _reject_time(reject, t_s, kept)
    _reject_spikes(reject, amps, volts, kept)
    if kept.sum() < LEAST_ROWS or not kept.mean() >= 1.0 - MOST_REJECTED_SHARE:
        raise ConfigError(
            [f"{path}: only {int(kept.sum())} of {len(lines)} rows can be used", *(f"{path}: {r}" for r in rejected)]
        )
    degc = np.where((degc >= PLAUSIBLE_DEGC[0]) & (degc <= PLAUSIBLE_DEGC[1]), degc, np.nan)[kept]
    soc = columns.get("soc")
    if soc is not None:
        soc = soc[kept]
        _refuse_soc(path, soc)
    t_s = t_s[kept]
    return Series(path.name, t_s, amps[kept], volts[kept], degc, soc, tuple(rejected), _gaps(t_s))


def _columns(path: Path) -> tuple[NDArray[np.int64], dict[str, Floats]]:
    """Line numbers and columns by name; what is no number is NaN."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.reader(file)
            header = [name.strip() for name in next(rows, [])]
            missing = [name for name in NEEDED if name not in header]
            if missing:
                found = ", ".join(header)[:200] or "nothing"
                raise ConfigError(
                    [f"{path}: no column {', '.join(missing)}; expected {','.join(NEEDED)}, found {found}"]
                )
            names = [name for name in (*NEEDED, "soc") if name in header]
            places = [header.index(name) for name in names]
            lines, values = [], []
            for row in rows:
                if row:
                    lines.append(rows.line_num)
                    values.append([_number(row, place) for place in places])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError([f"{path}: cannot be read: {error}"]) from None
    if len(values) < LEAST_ROWS:
        raise ConfigError([f"{path}: {len(values)} rows; expected at least {LEAST_ROWS}"])
    table = np.array(values, dtype=np.float64)
    return np.array(lines), dict(zip(names, table.T, strict=True))


def _number(row: Sequence[str], place: int) -> float:
    try:
        return float(row[place])
    except (ValueError, IndexError):
        return math.nan


def _refuse_units(path: Path, volts: Floats, degc: Floats) -> None:
    """A wrong unit of the whole file."""
    lines = []
    if volts.size and np.median(volts) > 1000.0 * PLAUSIBLE_V[0]:
        lines.append(f"{path}: voltage_v: {np.median(volts):g} in the middle: these are mV; expected V of one cell")
    elif volts.size and np.median(volts) > PLAUSIBLE_V[1]:
        lines.append(f"{path}: voltage_v: {np.median(volts):g} in the middle; expected V of one cell, 0.5 to 5")
    if degc.size and np.median(degc) > PLAUSIBLE_DEGC[1]:
        lines.append(f"{path}: temperature_degc: {np.median(degc):g} in the middle: perhaps kelvin; expected degC")
    if lines:
        raise ConfigError(lines)


def _refuse_soc(path: Path, soc: Floats) -> None:
    known = soc[np.isfinite(soc)]
    if known.size and (known.max() > 1.1 or known.min() < -0.1):
        raise ConfigError([f"{path}: soc: {known.min():g}..{known.max():g}; expected a share, 0..1 (not percent)"])


def _reject_time(reject: Any, t_s: Floats, kept: NDArray[np.bool_]) -> None:
    """Repeats, and what lies before what was already taken."""
    usable = np.where(kept, t_s, -np.inf)
    newest = np.concatenate([[-np.inf], np.maximum.accumulate(usable)[:-1]])
    reject(t_s == newest, "t_s repeats an earlier row")
    reject(t_s < newest, "t_s goes backwards")


def _reject_spikes(reject: Any, amps: Floats, volts: Floats, kept: NDArray[np.bool_]) -> None:
    """Single voltages far from both neighbours, which agree, while the current did not step."""
    where = np.flatnonzero(kept)
    if len(where) < LEAST_ROWS:
        return
    v, i = volts[where], amps[where]
    before, after = v[:-2], v[2:]
    far = np.minimum(np.abs(v[1:-1] - before), np.abs(v[1:-1] - after)) > SPIKE_V
    agree = np.abs(before - after) < SPIKE_V / 2.0
    step_a = np.minimum(np.abs(i[1:-1] - i[:-2]), np.abs(i[1:-1] - i[2:]))
    calm = step_a <= 0.05 * np.maximum(np.abs(i).max(), 1e-9)
    wrong = np.zeros(len(volts), dtype=bool)
    wrong[where[1:-1][far & agree & calm]] = True
    reject(wrong, f"voltage_v is a spike of more than {SPIKE_V:g} V that no current explains")


def _gaps(t_s: Floats) -> tuple[Gap, ...]:
    step_s = np.diff(t_s)
    longest_s = max(GAP_PERIODS * float(np.median(step_s)), LEAST_GAP_S)
    return tuple(Gap(float(t_s[k]), float(step_s[k])) for k in np.flatnonzero(step_s > longest_s))
