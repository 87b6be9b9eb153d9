"""How measured cells are put in place of computed ones: series of current, voltage and temperature.

A sample holds until the next one, so that every reported value was measured; a logger's spikes stay.
"""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bmsd.errors import ConfigError
from bmsd.model.snapshot import Bools, Floats

REFERENCE_VARIABLE = "BMSD_REFERENCE_DATA"
_COLUMNS = ("t_s", "current_a", "voltage_v", "temperature_degc")
_CHECKOUT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Series:
    """One measured cell: arrays (n,), time rising from 0 in s, current positive when charging in A, V, degC."""

    t_s: Floats
    current_a: Floats
    voltage_v: Floats
    temperature_degc: Floats
    capacity_ah: float

    @property
    def duration_s(self) -> float:
        """Time from the first to the last sample, s."""
        return float(self.t_s[-1])


REFERENCE = {
    "k2_hppc_20c": ("k2_lfp26650/HPPC_20C.npz", "", 2.6),
    "k2_hppc_40c": ("k2_lfp26650/HPPC_40C.npz", "", 2.6),
    "plett_dyn_15c": ("plett_a123/a123_dyn_P15.npz", "s1_", 2.05),
    "plett_dyn_25c": ("plett_a123/a123_dyn_P25.npz", "s1_", 2.05),
}
"""Reference series: file, prefix of its keys, nominal capacity of the cell in Ah."""


def reference_folder() -> Path:
    """Return where the reference data lie: BMSD_REFERENCE_DATA, else ../shared/data beside the checkout."""
    named = os.environ.get(REFERENCE_VARIABLE)
    return Path(named) if named else _CHECKOUT.parent / "shared" / "data"


def load_series(source: str, capacity_ah: float | None = None) -> Series:
    """Return the series of a reference name, of an .npz of that kind or of a CSV file.

    CSV: a header with t_s, current_a (positive charges), voltage_v, temperature_degc; an empty field is
    unknown. `capacity_ah` of the measured cell is needed for files. Raises ConfigError.
    """
    if source in REFERENCE:
        file, prefix, nominal_ah = REFERENCE[source]
        return _from_npz(reference_folder() / file, prefix, capacity_ah or nominal_ah)
    path = Path(source)
    if path.suffix not in (".csv", ".npz"):
        known = ", ".join(REFERENCE)
        raise ConfigError([f"playback: {source!r} is neither a .csv nor a .npz file nor one of {known}"])
    if capacity_ah is None:
        raise ConfigError([f"playback: the capacity (Ah) of the cell measured in {source} is needed"])
    if path.suffix == ".npz":
        return _from_npz(path, "", capacity_ah)
    return _from_csv(path, capacity_ah)


def _from_npz(path: Path, prefix: str, capacity_ah: float) -> Series:
    """Read a file of the reference data, in which a positive current discharges."""
    try:
        with np.load(path, allow_pickle=False) as data:
            t_s = np.asarray(data[prefix + "t"], dtype=np.float64)
            voltage_v = np.asarray(data[prefix + "v"], dtype=np.float64)
            current_a = -np.asarray(data[prefix + "i"], dtype=np.float64)
            name = "Tbat_C" if "Tbat_C" in data else "T_C"
            degc = np.broadcast_to(np.asarray(data[name], dtype=np.float64), t_s.shape)
    except (OSError, KeyError, ValueError) as error:
        raise ConfigError([f"playback: {path} cannot be read: {error}"]) from error
    return _checked(path, t_s, current_a, voltage_v, degc, capacity_ah)


def _from_csv(path: Path, capacity_ah: float) -> Series:
    complaints: list[str] = []
    rows: list[list[float]] = []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = [name for name in _COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise ConfigError([f"playback: {path} has no column {name}" for name in missing])
            for number, row in enumerate(reader, start=2):
                rows.append([_number(row[name], name, path, number, complaints) for name in _COLUMNS])
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"playback: {path} cannot be read: {error}"]) from error
    if complaints:
        raise ConfigError(complaints)
    table = np.array(rows, dtype=np.float64).reshape(-1, len(_COLUMNS))
    return _checked(path, table[:, 0], table[:, 1], table[:, 2], table[:, 3], capacity_ah)


def _number(text: str | None, name: str, path: Path, line: int, complaints: list[str]) -> float:
    if not text or not text.strip():
        return float("nan")
    try:
        return float(text)
    except ValueError:
        complaints.append(f"playback: {path} line {line}: {name} is {text!r}, not a number")
        return float("nan")


def _checked(path: Path, t_s: Floats, current_a: Floats, voltage_v: Floats, degc: Floats, capacity_ah: float) -> Series:
    complaints = []
    if t_s.size < 2:
        complaints.append(f"playback: {path} has {t_s.size} samples, at least 2 are needed")
    elif not (np.diff(t_s) > 0.0).all():
        complaints.append(f"playback: {path}: t_s does not rise from sample to sample")
    if not capacity_ah > 0.0:
        complaints.append(f"playback: capacity {capacity_ah} Ah of the measured cell is not above 0")
    if complaints:
        raise ConfigError(complaints)
    return Series(t_s - t_s[0], current_a, voltage_v, np.asarray(degc), capacity_ah)


class PlaybackCells:
    """Measured cells in the place of computed ones; arrays (strings, modules, cells).

    The series starts when the strings come onto the bus and stands still while they are off it
    (`waits`), or runs from the start. Played `speed` times faster than measured. `phase_s` (in the
    series' own time) and `offset_v` set cells apart. The string current is the series' times `scale` while
    the string is on the bus, else 0. At its end the last sample holds, or the series begins anew.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        series: Series,
        speed: float = 1.0,
        scale: float = 1.0,
        start_s: float = 0.0,
        phase_s: Floats | None = None,
        offset_v: Floats | None = None,
        waits: bool = True,
        repeats: bool = False,
        cable_ohm: float = 1e-3,
    ) -> None:
        self.series = series
        self._speed = speed
        self._scale = scale
        self._phase_s = np.zeros(shape) if phase_s is None else np.broadcast_to(phase_s, shape)
        self._offset_v = np.zeros(shape) if offset_v is None else np.broadcast_to(offset_v, shape)
        self._waits = waits
        self._repeats = repeats
        self._cable = np.full(shape[0], cable_ohm)
        self._warm_k_per_s: Floats = np.zeros(shape)
        self._extra_k: Floats = np.zeros(shape)
        self.position_s = start_s
        """Place in the series, in its own time, s."""
        self._show()
        self.temperature_degc: Floats = self._measured_degc

    @property
    def soc(self) -> Floats:
        """Nobody knows the true state of charge of these cells."""
        return np.full(self.cell_v.shape, np.nan)

    @property
    def string_emf_v(self) -> Floats:
        """Sum of the measured voltages, (strings,); an unknown cell counts as the mean of the others."""
        known = np.isfinite(self.cell_v)
        mean = self.cell_v[known].mean() if known.any() else 0.0
        total: Floats = np.where(known, self.cell_v, mean).sum(axis=(1, 2))
        return total

    @property
    def string_ohm(self) -> Floats:
        """The cells' own resistance is in the measured voltage; what remains is cable, (strings,)."""
        return self._cable

    def thevenin(self, dt_s: float) -> tuple[Floats, Floats]:
        """Return voltage (V) and resistance (ohm) of every string; measured cells do not foresee their next sample."""
        del dt_s
        return self.string_emf_v, self.string_ohm

    @property
    def finished(self) -> bool:
        """Whether the last sample has been reached."""
        return not self._repeats and self.position_s >= self.series.duration_s

    def step(self, dt_s: float, string_a: Floats, plus_closed: Bools, bleeding: Bools) -> Floats:
        """Go on by `dt_s`; return the measured current (strings,), positive charges."""
        del bleeding
        self._extra_k = self._extra_k + self._warm_k_per_s * dt_s
        if plus_closed.any() or not self._waits:
            self.position_s += self._speed * dt_s
            self._show()
        self.temperature_degc = self._measured_degc + self._extra_k
        return np.where(plus_closed | (not self._waits), self._current_a, string_a)

    def warm(self, k_per_s: Floats) -> None:
        """Add a rise to the measured temperatures, K/s each, until told otherwise."""
        self._warm_k_per_s = k_per_s

    def leak(self, conductance_s: Floats) -> None:
        """Soft shorts: a measured voltage does not fall because of one."""

    def _index(self, position_s: Floats) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
        if self._repeats:
            position_s = np.mod(position_s, self.series.duration_s)
        found = np.searchsorted(self.series.t_s, position_s + 1e-9, side="right") - 1
        return np.clip(found, 0, self.series.t_s.size - 1)

    def _show(self) -> None:
        index = self._index(self.position_s + self._phase_s)
        self.cell_v: Floats = self.series.voltage_v[index] + self._offset_v
        self._measured_degc: Floats = self.series.temperature_degc[index]
        common = self._index(np.array([self.position_s]))[0]
        self._current_a = self._scale * float(self.series.current_a[common])
