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
"""Voltages this far from both neighbours, which agree, are a spike unless the current stepped with them."""
LONGEST_SPIKE = 5
"""Rows."""
MOST_C = 60.0
"""No cell that bmsd knows of carries more, in capacities per hour."""
MOST_ONE_WAY = 1.5
"""Charge that a cell may take or give in one go, in capacities: beyond it is a wrong unit."""
LEAST_STEPS = 5
DELIMITERS = ",;\t"
WRONG_SIGN = "discharge seems to be positive; expected positive when charging"
MOST_REJECTED_SHARE = 0.5
GAP_PERIODS = 20.0
LEAST_GAP_S = 30.0
SHOWN_LINES = 5
LARGEST_AH = 5000.0
"""Of a cell."""


@dataclass(frozen=True)
class Rejected:
    """Why rows were left out, how many, and the lines of the first ones."""

    why: str
    rows: int
    lines: tuple[int, ...]

    @classmethod
    def of(cls, why: str, lines: NDArray[np.int64]) -> Rejected:
        """Return what is to be told of these lines of a file."""
        return cls(why, len(lines), tuple(int(line) for line in lines[:SHOWN_LINES]))

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
    no_temperature: Rejected | None = None
    """Rows that were taken without a temperature."""

    @property
    def step_as(self) -> Floats:
        """Charge from row to row (rows - 1,), As, by the trapezoidal rule."""
        return np.asarray(0.5 * (self.current_a[1:] + self.current_a[:-1]) * np.diff(self.t_s))

    @property
    def counted_as(self) -> Floats:
        """The same; 0 over a gap: what flowed there is not known."""
        return np.where(np.isin(self.t_s[:-1], [gap.t_s for gap in self.gaps]), 0.0, self.step_as)

    def report(self) -> Iterator[str]:
        """Yield what was taken and what was not, a line each."""
        left_out = sum(part.rows for part in self.rejected)
        yield f"{self.name}: {len(self.t_s)} rows taken, {left_out} rejected"
        yield from (f"{self.name}: {part}" for part in self.rejected)
        if self.no_temperature is not None:
            yield f"{self.name}: {self.no_temperature}"
        for gap in self.gaps[:SHOWN_LINES]:
            yield f"{self.name}: gap of {gap.length_s:.0f} s after t_s {gap.t_s:g}: what flowed in it is not known"
        if len(self.gaps) > SHOWN_LINES:
            yield f"{self.name}: {len(self.gaps) - SHOWN_LINES} further gaps"


def read(path: Path | str, capacity_ah: float | None = None) -> Series:
    """Return the series in this file, of a cell of this capacity where it is known.

    ConfigError: the file as a whole cannot be used, and why.
    """
    path = Path(path)
    lines, columns = _columns(path)
    kept = np.ones(len(lines), dtype=bool)
    rejected: list[Rejected] = []

    def reject(wrong: NDArray[np.bool_], why: str) -> None:
        wrong = wrong & kept
        if wrong.any():
            kept[wrong] = False
            rejected.append(Rejected.of(why, lines[wrong]))

    t_s, amps, volts, degc = (columns[name] for name in NEEDED)
    for name in NEEDED[:3]:
        reject(~np.isfinite(columns[name]), f"{name} is not a number")
    _refuse_units(path, amps[kept], volts[kept], degc[np.isfinite(degc)], capacity_ah)
    if capacity_ah is not None:
        reject(np.abs(amps) > MOST_C * capacity_ah, f"current_a beyond {MOST_C:g}C: perhaps mA; expected A")
    reject(volts > 1000.0 * PLAUSIBLE_V[0], "voltage_v looks like mV; expected V")
    low, high = PLAUSIBLE_V
    reject(~((volts >= low) & (volts <= high)), f"voltage_v outside {low:g}..{high:g} V")
    _reject_time(reject, t_s, kept)
    _reject_spikes(reject, amps, volts, kept)
    if kept.sum() < LEAST_ROWS or not kept.mean() >= 1.0 - MOST_REJECTED_SHARE:
        raise ConfigError(
            [f"{path}: only {int(kept.sum())} of {len(lines)} rows can be used", *(f"{path}: {r}" for r in rejected)]
        )
    cold, hot = PLAUSIBLE_DEGC
    strange = kept & ~((degc >= cold) & (degc <= hot))
    why = f"temperature_degc is no number or outside {cold:g}..{hot:g} degC: taken as not known"
    no_temperature = Rejected.of(why, lines[strange]) if strange.any() else None
    degc = np.where(strange, np.nan, degc)[kept]
    soc = columns.get("soc")
    if soc is not None:
        soc = soc[kept]
        _refuse_soc(path, soc)
    t_s, amps, volts = t_s[kept], amps[kept], volts[kept]
    _refuse_sign(path, amps, volts)
    series = Series(path.name, t_s, amps, volts, degc, soc, tuple(rejected), _gaps(t_s), no_temperature)
    if capacity_ah is not None:
        refuse_of_another_size(series, capacity_ah)
    return series


def refuse_of_another_size(series: Series, capacity_ah: float) -> None:
    """ConfigError: what this series moves cannot have moved in a cell of this capacity, or against its voltage."""
    step_ah = series.counted_as / 3600.0
    moved_ah = np.concatenate([[0.0], np.cumsum(step_ah)])
    flows = step_ah[step_ah != 0.0]
    turns = np.flatnonzero(np.diff(np.sign(flows))) + 1
    one_way_ah = max((abs(float(part.sum())) for part in np.split(flows, turns)), default=0.0)
    if one_way_ah > MOST_ONE_WAY * capacity_ah:
        raise ConfigError(
            [
                f"{series.name}: moves {one_way_ah:.4g} Ah in one go; expected at most {MOST_ONE_WAY:g} times the "
                f"capacity ({capacity_ah:g} Ah): perhaps ms in t_s, mA in current_a, or another cell"
            ]
        )
    if np.ptp(moved_ah) > 0.2 * capacity_ah and np.ptp(series.voltage_v) > 0.1:
        follows = float(np.corrcoef(moved_ah, series.voltage_v)[0, 1])
        if follows < -0.5:
            raise ConfigError([f"{series.name}: current_a: {WRONG_SIGN} (the voltage falls while it charges)"])


def _columns(path: Path) -> tuple[NDArray[np.int64], dict[str, Floats]]:
    """Line numbers and columns by name; what is no number is NaN."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            first = file.readline()
            delimiter = max(DELIMITERS, key=first.count)
            file.seek(0)
            rows = csv.reader(file, delimiter=delimiter)
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
                    values.append([_number(row, place, decimal_comma=delimiter != ",") for place in places])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise ConfigError([f"{path}: cannot be read: {why}"]) from None
    if len(values) < LEAST_ROWS:
        raise ConfigError([f"{path}: {len(values)} rows; expected at least {LEAST_ROWS}"])
    table = np.array(values, dtype=np.float64)
    return np.array(lines), dict(zip(names, table.T, strict=True))


def _number(row: Sequence[str], place: int, *, decimal_comma: bool) -> float:
    try:
        return float(row[place].replace(",", ".") if decimal_comma else row[place])
    except (ValueError, IndexError):
        return math.nan


def _refuse_units(path: Path, amps: Floats, volts: Floats, degc: Floats, capacity_ah: float | None) -> None:
    """A wrong unit of the whole file."""
    lines = []
    flows = np.abs(amps[amps != 0.0])
    if capacity_ah is not None and flows.size and np.median(flows) > MOST_C * capacity_ah:
        middle_a = f"current_a: {np.median(flows):g} in the middle"
        lines.append(f"{path}: {middle_a}: perhaps mA; expected A of a cell of {capacity_ah:g} Ah")
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
    """A few voltages far from both neighbours, which agree, while the current did not step."""
    wrong = np.zeros(len(volts), dtype=bool)
    for rows in range(1, LONGEST_SPIKE + 1):
        where = np.flatnonzero(kept & ~wrong)
        if len(where) < rows + 2:
            break
        first = _spikes(volts[where], amps[where], rows)
        wrong[where[(first[:, None] + 1 + np.arange(rows)).ravel()]] = True
    reject(wrong, f"voltage_v is a spike of more than {SPIKE_V:g} V that no current explains")


def _spikes(v: Floats, i: Floats, rows: int) -> NDArray[np.int64]:
    """Where the row before a spike of this many rows is."""
    before, after = v[: -rows - 1], v[rows + 1 :]
    agree = np.flatnonzero(np.abs(before - after) < SPIKE_V / 2.0)
    inside = agree[:, None] + 1 + np.arange(rows)
    off_v = np.minimum(np.abs(v[inside] - before[agree, None]), np.abs(v[inside] - after[agree, None]))
    step_a = np.abs(i[inside] - i[agree, None]).max(axis=1)
    if rows == 1:  # a single row may have the current of the one before or after
        step_a = np.minimum(step_a, np.abs(i[agree + 1] - i[agree + 2]))
    calm = step_a <= 0.05 * np.maximum(np.abs(i).max(), 1e-9)
    return np.asarray(agree[(off_v > SPIKE_V).all(axis=1) & calm])


def _refuse_sign(path: Path, amps: Floats, volts: Floats) -> None:
    """A cell's voltage steps up with a current that steps up, where positive is charging."""
    step_a, step_v = np.diff(amps), np.diff(volts)
    large = np.abs(step_a) > 0.2 * np.percentile(np.abs(amps), 99.9)
    if large.sum() >= LEAST_STEPS and np.mean((step_a * step_v)[large] < 0.0) > 0.8:
        raise ConfigError([f"{path}: current_a: {WRONG_SIGN} (the voltage steps down where the current steps up)"])


def _gaps(t_s: Floats) -> tuple[Gap, ...]:
    step_s = np.diff(t_s)
    longest_s = max(GAP_PERIODS * float(np.median(step_s)), LEAST_GAP_S)
    return tuple(Gap(float(t_s[k]), float(step_s[k])) for k in np.flatnonzero(step_s > longest_s))
