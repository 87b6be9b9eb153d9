"""Where the heat of cells goes: into their mass, their neighbours, the air of the module, the room.

Theory: one node per cell, C dT/dt = q + hA (T_air - T) + k (T_neighbours - T), and one node of air per module,
C_air dT_air/dt = sum hA (T - T_air) + G (T_room - T_air), G larger while the fan runs. A step is split: the air
relaxes exactly with the cells held, then every cell with that mean air, neighbours exchange what leaves the one and
enters the other. What the cells gave off and the air did not keep has gone to the room: nothing is lost or made.

Exotherm: above its onset a cell heats itself by an Arrhenius reaction that uses up its fuel (design notes on
estimation, 4.11: onsets of LFP lie at 80..120 degC). Two points set it: 0.02 K/min at 100 degC, where calorimeters
begin to see it, and 1 K/s at 195 degC. It is an onset, not a fire: what burns afterwards is not modelled.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bmsd.model.snapshot import Floats

KELVIN = 273.15
EXOTHERM_DEGC = 60.0
"""Below it the reaction is not worth computing: less than 0.1 K in a day."""
_EXOTHERM_LOG_K_PER_S = -8.006 + 14_723.0 / (100.0 + KELVIN)
_EXOTHERM_K = 14_723.0


@dataclass(frozen=True)
class Enclosure:
    """What surrounds the cells of one module; W/K and J/K. `fan_w_per_k` adds to `leak_w_per_k` while the fan runs.

    The fan starts when the hottest cell of the module is above `fan_on_degc`, and stops below `fan_off_degc`.
    """

    air_heat_capacity_j_per_k: float = 4000.0
    leak_w_per_k: float = 6.0
    fan_w_per_k: float = 20.0
    fan_on_degc: float = 35.0
    fan_off_degc: float = 32.0


class Warmth:
    """Temperatures of all cells (strings, modules, cells) and of the air in their modules (strings, modules)."""

    def __init__(
        self,
        heat_capacity_j_per_k: float,
        heat_transfer_w_per_k: Floats,
        neighbour_w_per_k: float,
        ambient_degc: float,
        enclosure: Enclosure | None = None,
        exotherm_k: float = 300.0,
    ) -> None:
        shape = heat_transfer_w_per_k.shape
        self.cell_degc = np.full(shape, float(ambient_degc))
        self.air_degc = np.full(shape[:2], float(ambient_degc))
        self.fan_on = np.zeros(shape[:2], dtype=np.bool_)
        self.fan_lost = np.zeros(shape[:2], dtype=np.bool_)
        """Fans that do not turn."""
        self.fuel = np.ones(shape)
        """What is left of the exotherm, 1..0; all of it would heat a cell by `exotherm_k`."""
        self.exotherm_j = 0.0
        """Heat of all exotherms so far, J."""
        self.to_room_j = 0.0
        """Heat that has left the modules, J."""
        self._mass = heat_capacity_j_per_k
        self._transfer = heat_transfer_w_per_k
        self._module_transfer = heat_transfer_w_per_k.sum(axis=2)
        self._neighbour = neighbour_w_per_k
        self._enclosure = enclosure
        self._exotherm_k = exotherm_k
        self._air_end = self.air_degc

    def make_alike(self) -> None:
        """Let the cells of every string be cooled like those of the first one."""
        self._transfer[:] = self._transfer[:1]
        self._module_transfer[:] = self._module_transfer[:1]

    @property
    def stored_j(self) -> float:
        """Heat in cells and air above 0 degC, J."""
        air = 0.0 if self._enclosure is None else self._enclosure.air_heat_capacity_j_per_k
        return float(self._mass * self.cell_degc.sum() + air * self.air_degc.sum())

    def step(self, dt_s: float, power_w: Floats, ambient_degc: float) -> None:
        """Let `power_w` (strings, modules, cells) heat the cells for `dt_s` in a room of `ambient_degc`."""
        hottest = float(self.cell_degc.max())
        heat_j = power_w * dt_s
        if hottest > EXOTHERM_DEGC:
            heat_j = heat_j + self._burn(dt_s)
        mean_air = self._air_mean(dt_s, ambient_degc)
        before = self.cell_degc
        flow_w = heat_j / dt_s + self._neighbour * self._neighbours()
        exponent = dt_s / self._mass * self._transfer
        # (1 - e^-x) / x: exact for any cooling, also for none
        part = np.where(exponent > 1e-9, -np.expm1(-exponent) / np.maximum(exponent, 1e-9), 1.0)
        self.cell_degc = before + part * dt_s / self._mass * (flow_w + self._transfer * (mean_air - before))
        given_j = heat_j - self._mass * (self.cell_degc - before)
        self.to_room_j += float(given_j.sum()) - self._keep()

    def _burn(self, dt_s: float) -> Floats:
        """Heat of the exotherm in this step, J; the fuel bounds it for any step."""
        rate = np.exp(_EXOTHERM_LOG_K_PER_S - _EXOTHERM_K / (self.cell_degc + KELVIN))
        burnt = self.fuel * -np.expm1(-rate * dt_s / self._exotherm_k)
        self.fuel -= burnt
        heat_j = self._mass * self._exotherm_k * burnt
        self.exotherm_j += float(heat_j.sum())
        return np.asarray(heat_j)

    def _air_mean(self, dt_s: float, ambient_degc: float) -> Floats | float:
        """Mean temperature of the air over the step with the cells as they are, (strings, modules, 1)."""
        around = self._enclosure
        if around is None:
            self.air_degc[:] = ambient_degc
            return ambient_degc
        hottest = self.cell_degc.max(axis=2)
        self.fan_on = np.where(self.fan_on, hottest > around.fan_off_degc, hottest > around.fan_on_degc)
        out = around.leak_w_per_k + np.where(self.fan_on & ~self.fan_lost, around.fan_w_per_k, 0.0)
        total = self._module_transfer + out
        goal = ((self._transfer * self.cell_degc).sum(axis=2) + out * ambient_degc) / total
        exponent = dt_s * total / around.air_heat_capacity_j_per_k
        mean = goal + (self.air_degc - goal) * -np.expm1(-exponent) / exponent
        self._air_end = goal + (self.air_degc - goal) * np.exp(-exponent)
        return np.asarray(mean[:, :, None])

    def _keep(self) -> float:
        """Bring the air to the end of the step; return what heat it kept, J."""
        if self._enclosure is None:
            return 0.0
        kept = self._enclosure.air_heat_capacity_j_per_k * float((self._air_end - self.air_degc).sum())
        self.air_degc = self._air_end
        return kept

    def _neighbours(self) -> Floats:
        """Sum of the temperature differences to both neighbours in the module, K."""
        step = np.diff(self.cell_degc, axis=2)
        total = np.zeros_like(self.cell_degc)
        total[:, :, :-1] += step
        total[:, :, 1:] -= step
        return total
