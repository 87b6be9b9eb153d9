"""What a detector is given, what it answers, and how detectors are found by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from bmsd.core.contactors.table import StringState
from bmsd.core.estimation.leaks import Leaks
from bmsd.core.estimation.predictor import Residuals
from bmsd.core.starts import Starts
from bmsd.model.plant import Plant
from bmsd.model.snapshot import Bools, Floats, Ints, Snapshot
from bmsd.model.snapshot import Reading as Kind


@dataclass(frozen=True, slots=True)
class Evidence:
    """One tick's facts. `new_*` tell which readings come from a SYNC not seen by an earlier tick.

    `sent_charge_a`, `sent_discharge_a`: highest limits sent within the inverter's lag (rack totals, A).
    `in_circuit` (strings,): strings that were closed or opening after the last tick; `contactors`: all that it
    remembered of each string's. `commissioned` (strings, modules): unique numbers of the boards that belong there,
    -1: nobody's place yet, None: no map yet; `taken_over`: it was made with this tick, and nobody has accepted it.
    `set_point_lost`: who steered the rack does so no more. `starts`: how the processes before this one ended. `soh`:
    capacity of the weakest cell over the nominal one. `leaks`: what cells drain themselves by. `residuals`: what
    nothing explains of cells and sensors.
    """

    plant: Plant
    snapshot: Snapshot
    dt_s: float
    new_cells: Bools
    new_temperatures: Bools
    new_currents: Bools
    new_states: Bools
    sent_charge_a: float
    sent_discharge_a: float
    in_circuit: Bools
    contactors: tuple[StringState, ...]
    residuals: Residuals
    commissioned: Ints | None
    starts: Starts
    taken_over: bool
    set_point_lost: bool
    soh: float
    leaks: Leaks

    @property
    def rack_current_a(self) -> float:
        """Sum of the string currents, A, positive charges; NaN when one in circuit is unknown.

        An open string carries nothing: that its unit is silent does not make the rack's current unknown. What
        it does measure counts.
        """
        current_a = self.snapshot.units.current_a
        return float(np.where(self.in_circuit | ~np.isnan(current_a), current_a, 0.0).sum())


@dataclass(frozen=True, slots=True)
class Reading:
    """A detector's answer, arrays over the subjects of its scope.

    `value` NaN: unknown. `gate` False: the row cannot be raised (it still clears by value). `new` False: the
    value is that of an earlier tick and does not count as a sample. `delay_s` replaces the row's delay.
    """

    value: Floats
    gate: Bools | None = None
    new: Bools | None = None
    delay_s: Floats | None = None


Detector = Callable[[Evidence, Any], tuple[Reading, Any]]

DETECTORS: dict[str, Detector] = {}


def detector(function: Callable[[Evidence], Reading]) -> Callable[[Evidence], Reading]:
    """Register a detector without memory under its function's name."""
    _register(function.__name__, lambda evidence, was: (function(evidence), was))
    return function


def remembering(
    function: Callable[[Evidence, Any], tuple[Reading, Any]],
) -> Callable[[Evidence, Any], tuple[Reading, Any]]:
    """Register a detector that carries a value from tick to tick; it is given None at the first."""
    _register(function.__name__, function)
    return function


def _register(name: str, function: Detector) -> None:
    if name in DETECTORS:
        raise ValueError(f"two detectors are named {name}")
    DETECTORS[name] = function


def of_rack(value: float) -> Reading:
    """The answer of a detector whose only subject is the rack."""
    return Reading(np.array([value], dtype=np.float64))


def worse(one: float | Floats, other: float | Floats) -> Floats:
    """The larger of both excesses; when one is unknown the other can still be too much, but not good."""
    larger = np.fmax(one, other)
    return np.where((larger > 0.0) | ~np.isnan(np.add(one, other)), larger, np.nan)


def is_reading(readings: Ints, kind: Kind) -> Floats:
    """1 where the reading is of this kind, 0 where it is OK; any other says neither: NaN."""
    return np.where(readings == kind, 1.0, np.where(readings == Kind.OK, 0.0, np.nan))


def per_cell(values: Bools | Floats, plant: Plant) -> Any:
    """Spread a value per module (strings, modules) or string (strings,) over the cells, flat."""
    shaped = values.reshape(values.shape + (1,) * (3 - values.ndim))
    return np.broadcast_to(shaped, plant.layout.cell_shape).reshape(-1)


def per_sensor(values: Bools | Floats, plant: Plant) -> Any:
    """Spread a value per module (strings, modules) or string (strings,) over the sensors, flat."""
    shaped = values.reshape(values.shape + (1,) * (3 - values.ndim))
    return np.broadcast_to(shaped, plant.layout.sensor_shape).reshape(-1)
