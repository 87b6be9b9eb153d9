"""How LFP cells behave: rest voltage, resistance, two relaxations, hysteresis, heat.

Theory: v = OCV(z) + h half(z) + R0(T) i + R1 x1 + R2 x2, current positive when charging. z is the charge
over the capacity, kept as an exact sum of i dt and never clipped: an overcharged cell rises along the
steep end of its curve. x_j follow the current with the time constants tau_j. The hysteresis state h runs
from -1 (discharge branch) to +1 (charge branch) and moves with the charge passed:
h <- e h + (1 - e) sgn(i), e = exp(-gamma |i| dt / Q), standing still below C/200
(design/estimation.md 4.1; curve and branch distance from its section 2, A123 cells at C/30 and 25 degC).
One thermal node per cell: C dT/dt = i (v - OCV) + heat - hA (T - ambient) + k (neighbours).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bmsd.model.snapshot import Bools, Floats

_SOC = (-0.10, -0.03, 0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 1.0, 1.02, 1.05, 1.1)
_MID_V = (1.00, 2.10, 2.55, 2.82, 3.03, 3.183, 3.245, 3.280, 3.302, 3.308,
          3.317, 3.330, 3.345, 3.352, 3.367, 3.405, 3.470, 3.700, 4.200, 4.700)  # fmt: skip
_GAP_SOC = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
_GAP_V = (0.041, 0.046, 0.058, 0.038, 0.033, 0.039, 0.039, 0.028, 0.024, 0.024)

_GRID_LOW, _GRID_STEP = -0.1, 0.0025
_GRID = _GRID_LOW + _GRID_STEP * np.arange(481)
_GRID_MID = np.interp(_GRID, _SOC, _MID_V)
_GRID_HALF = 0.5 * np.interp(_GRID, _GAP_SOC, _GAP_V)

_KELVIN = 273.15
_THERMAL_PERIOD_S = 0.5
_FROZEN_C_RATE = 1.0 / 200.0


def ocv_v(soc: Floats) -> Floats:
    """Return the rest voltage (V) between the branches at 25 degC; beyond 0..1 it goes on steeply."""
    return _interpolated(soc, _GRID_MID)[0]


def half_gap_v(soc: Floats) -> Floats:
    """Return half the distance (V) between charge and discharge branch."""
    return _interpolated(soc, _GRID_HALF)[0]


def _interpolated(soc: Floats, *tables: Floats) -> tuple[Floats, ...]:
    position = (np.asarray(soc, dtype=np.float64) - _GRID_LOW) * (1.0 / _GRID_STEP)
    index = np.clip(position.astype(np.int64), 0, _GRID.size - 2)
    part = position - index
    return tuple(table[index] + part * (table[index + 1] - table[index]) for table in tables)


@dataclass(frozen=True)
class CellParameters:
    """A cell of a kind, and how far its copies scatter (relative standard deviations).

    The defaults are those of a 280 Ah prismatic cell; `scaled` gives another size of the same chemistry.
    Heat capacity 5.4 kg at 1 kJ/(kg K) (estimation.md 4.11); activation temperature of the resistance in K.
    """

    capacity_ah: float = 280.0
    r0_ohm: float = 0.25e-3
    r1_ohm: float = 0.12e-3
    tau1_s: float = 20.0
    r2_ohm: float = 0.18e-3
    tau2_s: float = 600.0
    hysteresis_gamma: float = 40.0
    activation_k: float = 2500.0
    heat_capacity_j_per_k: float = 5400.0
    heat_transfer_w_per_k: float = 0.8
    neighbour_w_per_k: float = 1.5
    bleeder_ohm: float = 33.0
    capacity_spread: float = 0.005
    resistance_spread: float = 0.03

    @classmethod
    def scaled(
        cls, capacity_ah: float, capacity_spread: float = 0.005, resistance_spread: float = 0.03
    ) -> CellParameters:
        """Return a cell of another capacity: resistance falls with size, heat capacity and transfer grow."""
        size = capacity_ah / cls.capacity_ah
        return cls(
            capacity_ah=capacity_ah,
            r0_ohm=cls.r0_ohm / size,
            r1_ohm=cls.r1_ohm / size,
            r2_ohm=cls.r2_ohm / size,
            heat_capacity_j_per_k=cls.heat_capacity_j_per_k * size,
            heat_transfer_w_per_k=cls.heat_transfer_w_per_k * size,
            neighbour_w_per_k=cls.neighbour_w_per_k * size,
            capacity_spread=capacity_spread,
            resistance_spread=resistance_spread,
        )


class Cells:
    """All cells of a rack; arrays (strings, modules, cells). Strings are in parallel, the rest in series."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        parameters: CellParameters,
        soc0_mean: float | Floats,
        soc0_spread: float,
        ambient_degc: float,
        seed: int,
    ) -> None:
        draw = np.random.default_rng(seed)
        self.parameters = parameters
        self.ambient_degc = ambient_degc
        capacity = 1.0 + parameters.capacity_spread * draw.standard_normal(shape)
        self.capacity_as: Floats = parameters.capacity_ah * 3600.0 * capacity
        scatter = 1.0 + parameters.resistance_spread * draw.standard_normal(shape)
        self._r0_25 = parameters.r0_ohm * scatter
        self._r1 = parameters.r1_ohm * scatter
        self._r2 = parameters.r2_ohm * scatter
        soc0 = soc0_mean + soc0_spread * draw.standard_normal(shape)
        self.charge_as: Floats = soc0 * self.capacity_as
        self.temperature_degc = np.full(shape, float(ambient_degc))
        self.heat_w = np.zeros(shape)
        """Heat from outside, W: a heater, a mishap."""
        self.hysteresis = np.zeros(shape)
        self._x1 = np.zeros(shape)
        self._x2 = np.zeros(shape)
        self._bleed_a = np.zeros(shape)
        self._heat_j = np.zeros(shape)
        self._heat_s = 0.0
        self._decay: tuple[float, float, float] = (0.0, 1.0, 1.0)
        self._set_resistance()
        self._set_emf()
        self.cell_v = self.emf_v.copy()

    @property
    def soc(self) -> Floats:
        """True state of charge, 0..1 and beyond when abused."""
        return self.charge_as / self.capacity_as

    @property
    def string_emf_v(self) -> Floats:
        """Voltage behind the ohmic resistance, (strings,)."""
        total: Floats = self.emf_v.sum(axis=(1, 2))
        return total

    @property
    def string_ohm(self) -> Floats:
        """Ohmic resistance of the cells in series, (strings,)."""
        return self._string_ohm

    def step(self, dt_s: float, string_a: Floats, plus_closed: Bools, bleeding: Bools) -> Floats:
        """Let `string_a` (strings,) flow for `dt_s`; return the current that flowed: the same.

        `bleeding` (strings, modules, cells): bleeders that conduct. `plus_closed` is of no concern to cells.
        """
        del plus_closed
        if bleeding.any():
            self._bleed_a = np.where(bleeding, self.cell_v / self.parameters.bleeder_ohm, 0.0)
            current_a = string_a[:, None, None] - self._bleed_a
        else:
            current_a = np.broadcast_to(string_a[:, None, None], self.charge_as.shape)
        self.charge_as += current_a * dt_s
        self._relax(dt_s, current_a)
        self._move_hysteresis(dt_s, current_a)
        self._set_emf()
        self.cell_v = self.emf_v + self._r0 * current_a
        self._heat_j += current_a * (self.cell_v - self._mid_v) * dt_s
        self._heat_s += dt_s
        if self._heat_s >= _THERMAL_PERIOD_S:
            self._warm()
        return string_a

    def warm(self, k_per_s: Floats) -> None:
        """Let cells heat themselves from inside, K/s each, until told otherwise."""
        self.heat_w = k_per_s * self.parameters.heat_capacity_j_per_k

    def _relax(self, dt_s: float, current_a: Floats) -> None:
        if self._decay[0] != dt_s:
            p = self.parameters
            self._decay = (dt_s, float(np.exp(-dt_s / p.tau1_s)), float(np.exp(-dt_s / p.tau2_s)))
        _, a1, a2 = self._decay
        self._x1 += (1.0 - a1) * (current_a - self._x1)
        self._x2 += (1.0 - a2) * (current_a - self._x2)

    def _move_hysteresis(self, dt_s: float, current_a: Floats) -> None:
        size = np.abs(current_a)
        stay = np.exp(-self.parameters.hysteresis_gamma * dt_s * size / self.capacity_as)
        moving = size * 3600.0 >= _FROZEN_C_RATE * self.capacity_as
        goal = np.sign(current_a)
        self.hysteresis = np.where(moving, goal + stay * (self.hysteresis - goal), self.hysteresis)

    def _set_emf(self) -> None:
        self._mid_v, half_v = _interpolated(self.soc, _GRID_MID, _GRID_HALF)
        self.emf_v = self._mid_v + self.hysteresis * half_v + self._r1 * self._x1 + self._r2 * self._x2

    def _set_resistance(self) -> None:
        warm = 1.0 / (self.temperature_degc + _KELVIN) - 1.0 / (25.0 + _KELVIN)
        self._r0 = self._r0_25 * np.exp(self.parameters.activation_k * warm)
        self._string_ohm: Floats = self._r0.sum(axis=(1, 2))

    def _warm(self) -> None:
        """Bring the temperatures up to now; exact for each cell alone, neighbours as they were."""
        p = self.parameters
        power_w = self._heat_j / self._heat_s + self.heat_w + p.neighbour_w_per_k * self._neighbours()
        if p.heat_transfer_w_per_k > 0.0:
            end_degc = self.ambient_degc + power_w / p.heat_transfer_w_per_k
            stay = np.exp(-self._heat_s * p.heat_transfer_w_per_k / p.heat_capacity_j_per_k)
            self.temperature_degc = end_degc + stay * (self.temperature_degc - end_degc)
        else:
            self.temperature_degc = self.temperature_degc + power_w * self._heat_s / p.heat_capacity_j_per_k
        self._heat_j[:] = 0.0
        self._heat_s = 0.0
        self._set_resistance()

    def _neighbours(self) -> Floats:
        """Sum of the temperature differences to both neighbours in the module, K."""
        step = np.diff(self.temperature_degc, axis=2)
        total = np.zeros_like(self.temperature_degc)
        total[:, :, :-1] += step
        total[:, :, 1:] -= step
        return total
