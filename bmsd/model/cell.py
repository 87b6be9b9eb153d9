"""What the cell maker's data sheet says, and how a cell answers to current: a model fitted to measurements."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

GRID = 201
"""Points of the SoC grid of a model, from 0 to 1."""
SOC_GRID: Floats = np.linspace(0.0, 1.0, GRID)
KELVIN = 273.15

ENTROPY_SOC = np.linspace(0.0, 1.0, 11)
LFP_ENTROPY_V_PER_K = 1e-3 * np.array([-0.36, -0.47, -0.17, -0.10, -0.05, 0.08, 0.11, 0.12, 0.01, 0.04, 0.22])
"""A123 26650, aloisiohks/A123_26650_ExtendedKalmanFilter_EKF (MIT); at 0, 10 .. 100 %."""
LFP_ACTIVATION_K = 2400.0
"""Resistance of LFP cells over temperature, exp(B/T): a factor of 1.8 between 25 and 5 degC. Pulses of 10 s say 1700
(A123, 15..25 degC) to 3000 (K2, 20..40 degC)."""


@dataclass(frozen=True)
class Ageing:
    """Loss of capacity (share): calendar_per_sqrt_year * sqrt(years) + cycle_per_efc * cycles ** cycle_power.

    The calendar part is at 25 degC and half charge and grows with exp(-activation_k * (1/T - 1/298 K)). The form and
    the exponents are those of NREL's BLAST-Lite for 250 Ah LFP cells. `sigma_share`: standard deviation of a rate.
    """

    calendar_per_sqrt_year: float = 0.025
    cycle_per_efc: float = 2.2e-4
    cycle_power: float = 0.83
    activation_k: float = 4500.0
    sigma_share: float = 0.5
    end_of_life: float = 0.8


@dataclass(frozen=True)
class CellModel:
    """How a cell answers: rest voltage by SoC and temperature, resistances, hysteresis, and how wrong all that is.

    Arrays over SoC lie on SOC_GRID. `mid_v`, `half_v` (temperatures, GRID): mean and half difference of the branches
    after charging and after discharging. `r0_ohm` (temperatures, GRID); `rc_ohm` (temperatures, pairs) with `rc_tau_s`
    (pairs,). `gamma`: hysteresis per unit of SoC. `error_v` (temperatures, GRID): rms of measured minus modelled
    voltage, correlated over `error_tau_s`. `diffusion_soc_per_c` (temperatures,): SoC by which the surface of the
    particles, which the rest voltage is that of, is ahead of their mean at a current of 1 C; after `diffusion_tau_s`.
    """

    name: str
    chemistry: str
    capacity_ah: float
    ocv_degc: Floats
    mid_v: Floats
    half_v: Floats
    entropy_v_per_k: Floats
    resistance_degc: Floats
    r0_ohm: Floats
    rc_tau_s: Floats
    rc_ohm: Floats
    activation_k: float
    gamma: float
    error_v: Floats
    error_tau_s: float
    diffusion_soc_per_c: Floats
    diffusion_tau_s: float
    ageing: Ageing = Ageing()


@dataclass(frozen=True)
class CellSpec:
    """Data sheet of the rack's cells. Currents are magnitudes in A of one string.

    `ocv_soc` (0..1, rising) and `ocv_v` (V, rising) are the rest voltage at 25 degC, mean of charge and
    discharge branch; `ocv_half_gap_v` is half the distance between the branches. `fitted`: a model of this cell.
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
    fitted: CellModel | None = None

    @cached_property
    def model(self) -> CellModel:
        """The fitted model, or what the sheet and the usual behaviour of such cells say."""
        return self.fitted or _of_sheet(self)


def _of_sheet(cell: CellSpec) -> CellModel:
    """A model of the sheet's numbers: resistance split as LFP cells do (10 s value: ohmic part and the first pair)."""
    lfp = cell.chemistry == "lfp"
    ohm = cell.resistance_ohm
    at_both_ends = np.interp(SOC_GRID, [0.0, 0.1, 0.2, 0.9, 1.0], [2.0, 1.3, 1.0, 1.0, 1.1])
    return CellModel(
        name="data sheet",
        chemistry=cell.chemistry,
        capacity_ah=cell.capacity_ah,
        ocv_degc=np.array([25.0]),
        mid_v=np.interp(SOC_GRID, cell.ocv_soc, cell.ocv_v)[None, :],
        half_v=np.full((1, GRID), cell.ocv_half_gap_v),
        entropy_v_per_k=np.interp(SOC_GRID, ENTROPY_SOC, LFP_ENTROPY_V_PER_K) if lfp else np.zeros(GRID),
        resistance_degc=np.array([25.0]),
        r0_ohm=0.8 * ohm * at_both_ends[None, :],
        rc_tau_s=np.array([10.0, 100.0, 900.0]),
        rc_ohm=ohm * np.array([[0.32, 0.4, 0.4]]),
        activation_k=LFP_ACTIVATION_K,
        gamma=40.0 if lfp else 0.0,
        error_v=np.full((1, GRID), 0.015),
        error_tau_s=600.0,
        diffusion_soc_per_c=np.array([0.04 if lfp else 0.0]),
        diffusion_tau_s=900.0,
    )
