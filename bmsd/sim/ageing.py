"""How cells age on the shelf and in use: capacity falls, resistance rises.

Capacity loss is that of NREL's BLAST-Lite for a large prismatic LFP cell (lfp_gr_250AhPrismatic_2019, BSD-3, data of
doi 10.1016/j.est.2023.109042): calendar k_cal t^0.526 with k_cal of temperature and anode potential, cycling
k_cyc EFC^0.828 with k_cyc of depth, rate and temperature. Changing conditions go on from the loss reached so far, as
there. The anode potential over SoC is the graphite curve of Safari and Delacourt (J. Electrochem. Soc. 158 A562).
Its authors saw 10..45 degC, depths of 0.8..1 and at most 0.65 C; beyond that it is an extrapolation.

Resistance follows the capacity loss: 1.18 % per 1 % of it, the least-squares ratio of the 14 conditions up to
40 degC after 885 days in Naumann's calendar data (CC BY 4.0).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bmsd.model.snapshot import Floats
from bmsd.sim.heat import KELVIN

DAY_S = 86400.0
P_CALENDAR, P_CYCLES = 0.526, 0.828


@dataclass(frozen=True)
class AgeingParameters:
    """How fast cells age. `scale` multiplies both losses, `spread` scatters that from cell to cell."""

    scale: float = 1.0
    spread: float = 0.1
    resistance_per_loss: float = 1.18
    age_days: float = 0.0
    """Time on the shelf at 25 degC and half full before the start."""
    cycles: float = 0.0
    """Full cycles at 0.5C and 25 degC before the start."""


def calendar_rate(soc: Floats, degc: Floats) -> Floats:
    """Return k_cal, capacity share lost per day^0.526."""
    kelvin = degc + KELVIN
    return np.asarray(8.37e4 * np.exp((-5.21e3 - 3.56e3 * anode_v(soc)) / kelvin))


def cycle_rate(depth: Floats, c_rate: Floats, degc: Floats) -> Floats:
    """Return k_cyc, capacity share lost per equivalent full cycle^0.828."""
    kelvin = degc + KELVIN
    return np.asarray((4.38e-8 + 1.55e-8 * depth + 1.68e-7 * c_rate) * (np.exp(2.19e3 / kelvin)))


def anode_v(soc: Floats) -> Floats:
    """Return the potential of the graphite anode against lithium, V."""
    x = 0.0085 + np.clip(soc, 0.0, 1.0) * (0.78 - 0.0085)
    return np.asarray(
        0.6379
        + 0.5416 * np.exp(-305.5309 * x)
        + 0.044 * np.tanh(-(x - 0.1958) / 0.1088)
        - 0.1978 * np.tanh((x - 1.0571) / 0.0854)
        - 0.6875 * np.tanh((x + 0.0117) / 0.0529)
        - 0.0175 * np.tanh((x - 0.5692) / 0.0875)
    )


class Ageing:
    """Age of all cells; arrays (strings, modules, cells). Losses are shares of the capacity when new."""

    def __init__(self, shape: tuple[int, int, int], parameters: AgeingParameters, draw: np.random.Generator) -> None:
        self.parameters = p = parameters
        self._pace = p.scale * np.maximum(1.0 + p.spread * draw.standard_normal(shape), 0.2)
        half, warm = np.full(shape, 0.5), np.full(shape, 25.0)
        self.calendar: Floats = calendar_rate(half, warm) * p.age_days**P_CALENDAR * self._pace
        self.cycling: Floats = cycle_rate(np.ones(shape), half, warm) * p.cycles**P_CYCLES * self._pace
        self._left: Floats = 1.0 - self.calendar - self.cycling
        self._rate = np.zeros(shape)
        self._degc = np.zeros(shape)
        self._through = np.zeros(shape)
        self._seconds = self._moving_s = 0.0
        self._day_s = 0.0
        self._lowest, self._highest = np.full(shape, np.inf), np.full(shape, -np.inf)
        self._depth: Floats = np.zeros(shape)

    def make_alike(self) -> None:
        """Let every string age like the first one."""
        for values in (self._pace, self.calendar, self.cycling, self._left):
            values[:] = values[:1]

    @property
    def capacity_factor(self) -> Floats:
        """Capacity now over the capacity when new."""
        return self._left

    @property
    def resistance_factor(self) -> Floats:
        """Resistance now over the resistance when new."""
        return 1.0 + self.parameters.resistance_per_loss * (1.0 - self._left)

    def collect(self, dt_s: float, soc: Floats, degc: Floats, moved: Floats) -> None:
        """Take note of how the cells fare for `dt_s`; `moved` is the charge passed over the capacity."""
        self._rate += calendar_rate(soc, degc) * dt_s
        self._degc += degc * dt_s
        size = np.abs(moved)
        self._through += size
        self._seconds += dt_s
        if float(size.max()) > 1e-6 * dt_s:
            self._moving_s += dt_s
        np.minimum(self._lowest, soc, out=self._lowest)
        np.maximum(self._highest, soc, out=self._highest)

    def advance(self) -> Floats:
        """Grow older by the time collected; return the share of the present capacity that is lost."""
        days, mean_degc = self._seconds / DAY_S, self._degc / self._seconds
        depth = np.maximum(self._depth, self._highest - self._lowest)
        c_rate = self._through * 3600.0 / max(self._moving_s, 1.0)
        lost = _grown(self.calendar, days, self._rate / self._seconds * self._pace, P_CALENDAR)
        self.calendar = self.calendar + lost
        cycled = _grown(self.cycling, 0.5 * self._through, cycle_rate(depth, c_rate, mean_degc) * self._pace, P_CYCLES)
        self.cycling = self.cycling + cycled
        lost = lost + cycled
        share = lost / self._left
        self._left = self._left - lost
        self._day_s += self._seconds
        if self._day_s >= DAY_S:
            self._depth, self._day_s = self._highest - self._lowest, 0.0
            self._lowest, self._highest = np.full_like(depth, np.inf), np.full_like(depth, -np.inf)
        for total in (self._rate, self._degc, self._through):
            total[:] = 0.0
        self._seconds = self._moving_s = 0.0
        return np.asarray(share)


def _grown(loss: Floats, more: float | Floats, rate: Floats, power: float) -> Floats:
    """Return what `more` (days, cycles) at this rate adds to a loss k x^p: goes on from the x that would explain it."""
    reached = (loss / rate) ** (1.0 / power)
    return np.asarray(rate * (reached + more) ** power - loss)
