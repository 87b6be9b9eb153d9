"""What the cell maker's data sheet says."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class CellSpec:
    """Data sheet of the rack's cells. Currents are magnitudes in A of one string.

    `ocv_soc` (0..1, rising) and `ocv_v` (V, rising) are the rest voltage at 25 degC, mean of charge and
    discharge branch; `ocv_half_gap_v` is half the distance between the branches.
    """

    chemistry: str
    capacity_ah: float
    max_v: float
    min_v: float
    charge_max_a: float
    discharge_max_a: float
    charge_min_degc: float
    charge_max_degc: float
    discharge_min_degc: float
    discharge_max_degc: float
    resistance_ohm: float
    ocv_soc: NDArray[np.float64]
    ocv_v: NDArray[np.float64]
    ocv_half_gap_v: float
