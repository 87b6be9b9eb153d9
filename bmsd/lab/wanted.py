"""What the site wants over time, from files: a current at the rack, and the temperature of the room."""

from __future__ import annotations

import csv
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bmsd.errors import ConfigError
from bmsd.model.snapshot import Floats
from bmsd.sim.playback import reference_folder

DAY_S = 86400.0
_MOST_SHOWN = 5


@dataclass(frozen=True)
class Series:
    """Values that hold from their time on: `t_s` rising from 0, `end_s` when the last one ends.

    After the end it begins anew (`repeats`), or the value is `after`; None: the last value.
    """

    t_s: list[float]
    values: list[float]
    end_s: float
    repeats: bool = True
    after: float | None = 0.0

    def at(self, time_s: float) -> float:
        """Return the value at a time since start."""
        if time_s >= self.end_s:
            if not self.repeats:
                return self.values[-1] if self.after is None else self.after
            time_s %= self.end_s
        return self.values[bisect_right(self.t_s, time_s) - 1]


def nrel(name: str, rack_capacity_ah: float, scale: float, repeats: bool) -> tuple[Series, Series]:
    """Return current (A, of a rack of this capacity) and room temperature of one of NREL's duty profiles.

    They give the state of charge every 10 minutes; the current is what moves a rack of this capacity so.
    """
    path = reference_folder() / "nrel_profiles" / f"{name}.npz"
    try:
        with np.load(path, allow_pickle=False) as data:
            t_s, soc, degc = (np.asarray(data[key], dtype=np.float64) for key in ("Time_s", "SOC", "Temperature_C"))
    except (OSError, KeyError, ValueError) as error:
        raise ConfigError(
            [f'profile.name: "{name}": {path} cannot be read ({error}); expected it where BMSD_REFERENCE_DATA says']
        ) from error
    current_a = np.diff(soc) / np.diff(t_s) * rack_capacity_ah * 3600.0 * scale
    t_s = t_s - t_s[0]
    end_s = float(t_s[-1])
    return (
        Series(t_s[:-1].tolist(), current_a.tolist(), end_s, repeats),
        Series(t_s[:-1].tolist(), degc[:-1].tolist(), end_s, repeats, None),
    )


def from_csv(path: Path, scale: float, repeats: bool) -> tuple[Series, Series | None]:
    """Return current (A) and, where it has the column, room temperature (degC) of a CSV file with t_s, current_a."""
    complaints: list[str] = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            names = [name for name in ("t_s", "current_a", "ambient_degc") if name in (reader.fieldnames or ())]
            missing = [name for name in ("t_s", "current_a") if name not in names]
            complaints += [f'profile.file: "{path.name}": no column {n}; expected t_s, current_a' for n in missing]
            rows = (
                [] if complaints else [_row(row, names, n, path, complaints) for n, row in enumerate(reader, start=2)]
            )
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise ConfigError([f'profile.file: "{path}": cannot be read: {why}; expected a CSV file']) from error
    table = np.array(rows, dtype=np.float64).reshape(len(rows), len(names))
    if not complaints:
        complaints += _wrong(path, table)
    if complaints:
        more = len(complaints) - _MOST_SHOWN
        raise ConfigError(complaints[:_MOST_SHOWN] + ([f"profile.file: {more} more of this kind"] if more > 0 else []))
    t_s = table[:, 0] - table[0, 0]
    end_s = float(t_s[-1] + (t_s[-1] - t_s[-2]))
    current = Series(t_s.tolist(), (scale * table[:, 1]).tolist(), end_s, repeats)
    return current, Series(t_s.tolist(), table[:, 2].tolist(), end_s, repeats, None) if table.shape[1] > 2 else None


def _row(row: dict[str, str], names: list[str], line: int, path: Path, complaints: list[str]) -> list[float]:
    values = []
    for name in names:
        try:
            values.append(float(row[name]))
        except (TypeError, ValueError):
            complaints.append(f'profile.file: "{path.name}" line {line}: {name} is {row[name]!r}; expected a number')
            values.append(float("nan"))
    return values


def _wrong(path: Path, table: Floats) -> list[str]:
    where = f'profile.file: "{path.name}"'
    if len(table) < 2:
        return [f"{where}: {len(table)} rows; expected at least 2"]
    lines = [f"{where} line {n + 2}: not a finite number" for n in np.flatnonzero(~np.isfinite(table).all(axis=1))]
    late = np.flatnonzero(~(np.diff(table[:, 0]) > 0.0))
    return lines + [
        f"{where} line {n + 3}: t_s {table[n + 1, 0]:g} after {table[n, 0]:g}; expected to rise" for n in late
    ]
