"""What one LFP cell is like: capacity, resistances, rest voltage, hysteresis, entropy, heat.

The model of a cell is Plett's enhanced self-correcting one (batterysim/esctoolbox-python), current positive when
charging: v = OCV(z) + U_T(z) (T - 25) + h half(z) + R0 i + sum R_j x_j. The tables are those of A123 cells at C/30 and
25 degC (design notes on estimation, section 2), the entropic coefficient is that of the same cells in
aloisiohks/A123_26650_ExtendedKalmanFilter_EKF. Beyond 0..1 the rest voltage goes on steeply, so that an abused cell
looks like one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bmsd.model.snapshot import Floats, Ints

_SOC = (-0.10, -0.03, 0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 1.0, 1.02, 1.05, 1.1)
_MID_V = (1.00, 2.10, 2.55, 2.82, 3.03, 3.183, 3.245, 3.280, 3.302, 3.308,
          3.317, 3.330, 3.345, 3.352, 3.367, 3.405, 3.470, 3.700, 4.200, 4.700)  # fmt: skip
_GAP_SOC = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
_GAP_V = (0.041, 0.046, 0.058, 0.038, 0.033, 0.039, 0.039, 0.028, 0.024, 0.024)
_ENTROPY_SOC = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_ENTROPY_V_PER_K = (-0.36e-3, -0.47e-3, -0.17e-3, -0.10e-3, -0.05e-3, 0.08e-3,
                    0.11e-3, 0.12e-3, 0.01e-3, 0.04e-3, 0.22e-3)  # fmt: skip

GRID_LOW, GRID_STEP, GRID_SIZE = -0.1, 0.0025, 481
_GRID = GRID_LOW + GRID_STEP * np.arange(GRID_SIZE)


@dataclass(frozen=True)
class CellParameters:
    """A cell of a kind, and how far its copies scatter (relative standard deviations).

    The defaults are those of a 280 Ah prismatic cell; `scaled` gives another size of the same chemistry. Resistances
    are those at 25 degC; they follow exp(activation_k (1/T - 1/298.15)), and so does the self-discharge with its own.
    Heat capacity 5.4 kg at 1 kJ/(kg K).
    """

    capacity_ah: float = 280.0
    r0_ohm: float = 0.25e-3
    rc_ohm: tuple[float, ...] = (0.12e-3, 0.18e-3)
    rc_tau_s: tuple[float, ...] = (20.0, 600.0)
    diffusion_soc_per_c: tuple[float, ...] = ()
    """How far the surface of the particles is ahead of their mean after long enough at 1C, by time constant."""
    diffusion_tau_s: tuple[float, ...] = ()
    hysteresis_gamma: float = 40.0
    """Per unit of SoC: the branch is changed to 63 % after 1 / gamma."""
    activation_k: float = 2500.0
    rc_activation_k: float = 2500.0
    coulombic_efficiency: float = 1.0
    """Share of the charge taken in that can be taken out again."""
    self_discharge_per_month: float = 0.0
    """Share of the capacity lost in 30 days at 25 degC."""
    self_discharge_activation_k: float = 6000.0
    heat_capacity_j_per_k: float = 5400.0
    heat_transfer_w_per_k: float = 0.8
    neighbour_w_per_k: float = 1.5
    bleeder_ohm: float = 33.0
    capacity_spread: float = 0.005
    resistance_spread: float = 0.03
    self_discharge_spread: float = 0.0
    heat_transfer_spread: float = 0.0
    ocv_soc: tuple[float, ...] = _SOC
    ocv_v: tuple[float, ...] = _MID_V
    """Rest voltage between the branches at 25 degC, V."""
    gap_soc: tuple[float, ...] = _GAP_SOC
    gap_v: tuple[float, ...] = _GAP_V
    """Distance of charge and discharge branch, V."""
    r0_soc: tuple[float, ...] = (0.0, 1.0)
    r0_factor: tuple[float, ...] = (1.0, 1.0)
    """Resistance over SoC, as a factor of `r0_ohm`."""
    entropy_soc: tuple[float, ...] = _ENTROPY_SOC
    entropy_v_per_k: tuple[float, ...] = _ENTROPY_V_PER_K

    @classmethod
    def scaled(
        cls, capacity_ah: float, capacity_spread: float = 0.005, resistance_spread: float = 0.03
    ) -> CellParameters:
        """Return a cell of another capacity: resistance falls with size, heat capacity and transfer grow."""
        size = capacity_ah / cls.capacity_ah
        return cls(
            capacity_ah=capacity_ah,
            r0_ohm=cls.r0_ohm / size,
            rc_ohm=tuple(ohm / size for ohm in cls.rc_ohm),
            heat_capacity_j_per_k=cls.heat_capacity_j_per_k * size,
            heat_transfer_w_per_k=cls.heat_transfer_w_per_k * size,
            neighbour_w_per_k=cls.neighbour_w_per_k * size,
            capacity_spread=capacity_spread,
            resistance_spread=resistance_spread,
        )

    def alike(self) -> CellParameters:
        """Return the same cell without any scatter."""
        return replace(
            self, capacity_spread=0.0, resistance_spread=0.0, self_discharge_spread=0.0, heat_transfer_spread=0.0
        )


class Curves:
    """The tables of a cell on an even grid of SoC, for looking up many cells at once. `mid_v` V, `slope_v` V a step."""

    def __init__(self, parameters: CellParameters) -> None:
        p = parameters
        self.mid_v = _on_grid(p.ocv_soc, p.ocv_v, steep=True)
        self.slope_v = np.append(np.diff(self.mid_v), 0.0)
        self.slope_v[-1] = self.slope_v[-2]
        self.half_v = 0.5 * _on_grid(p.gap_soc, p.gap_v)
        self.r0_factor = _on_grid(p.r0_soc, p.r0_factor)
        self.entropy_v_per_k = _on_grid(p.entropy_soc, p.entropy_v_per_k)

    def nearest(self, table: Floats, soc: Floats) -> Floats:
        """Return the table at the grid points next to `soc`: for what changes little from one to the next."""
        index = np.clip(((soc - GRID_LOW) * (1.0 / GRID_STEP) + 0.5).astype(np.int64), 0, GRID_SIZE - 1)
        return np.asarray(table[index])


def _on_grid(soc: Sequence[float], values: Sequence[float], *, steep: bool = False) -> Floats:
    """Interpolate on the grid; beyond its ends a `steep` table goes on straight, any other stays."""
    found: Floats = np.interp(_GRID, soc, values)
    if steep:
        low, high = soc[0] > _GRID, soc[-1] < _GRID
        found[low] = values[0] + (_GRID[low] - soc[0]) * (values[1] - values[0]) / (soc[1] - soc[0])
        found[high] = values[-1] + (_GRID[high] - soc[-1]) * (values[-1] - values[-2]) / (soc[-1] - soc[-2])
    return found


_DEFAULT = Curves(CellParameters())


def ocv_v(soc: Floats) -> Floats:
    """Return the rest voltage (V) of the default cell between the branches at 25 degC."""
    return interpolated(soc, _DEFAULT.mid_v)


def half_gap_v(soc: Floats) -> Floats:
    """Return half the distance (V) between charge and discharge branch of the default cell."""
    return interpolated(soc, _DEFAULT.half_v)


def interpolated(soc: Floats, table: Floats) -> Floats:
    """Return a table of `Curves` at these states of charge; beyond the grid it goes on straight."""
    position = (np.asarray(soc, dtype=np.float64) - GRID_LOW) * (1.0 / GRID_STEP)
    index: Ints = np.clip(position.astype(np.int64), 0, GRID_SIZE - 2)
    return np.asarray(table[index] + (position - index) * (table[index + 1] - table[index]))
