"""Capacity per cell from the charge between two moments at which its voltage alone told its state of charge.

Theory of operation. In a knee, low or high, the voltage tells the SoC, whatever was believed before: what was believed
went through the very capacity that is sought. While a cell is there the best look is kept; when it leaves, the charge
counted since the best look of the last knee, freed of the sensor's offset, over the difference in SoC is a capacity;
both are uncertain,

    Q = y / x,   var Q = (sy^2 + Q^2 sx^2) / x^2,   sx^2 = s1^2 + s2^2,   sy^2 = (0.003 y)^2 + (offset sigma * time)^2,

and such pairs are averaged by their variance with a fading memory: weighted total least squares through the origin, to
first order (G. Plett, "Recursive approximate weighted total least squares estimation of battery cell total capacity",
2011). Only swings over LEAST_SWING count. The data sheet is the first pair. All cells of a string share the charge, and
each has its own differences in SoC, so one swing tells all of them.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from bmsd.model.snapshot import Bools, Floats

ANCHOR_SIGMA = 0.022
LOW_SOC, HIGH_SOC = 0.15, 0.93
LEAST_SWING = 0.4
MIDDLE_SOC = 0.2, 0.88
"""Here a cell has left its knee."""
FADE = 0.98
COUNTER_GAIN_SIGMA = 0.003
LEAST_SIGMA = 0.005
"""Of the result, as a share: what anchors have in common does not average out."""
USUAL_SIGMA = 0.04


@dataclass(frozen=True, slots=True)
class CapacityMemory:
    """Per cell (strings, modules, cells): SoC and sigma at its last anchor (NaN: none), charge in Ah and hours since
    then, the same of the best look in the knee that it is in (`look_soc` NaN: it is in none), and the sums of weight
    and of weight times capacity, both over nominal capacities."""

    anchor_soc: Floats
    anchor_sigma: Floats
    moved_ah: Floats
    hours: Floats
    look_soc: Floats
    look_sigma: Floats
    look_ah: Floats
    look_hours: Floats
    weight: Floats
    product: Floats

    @property
    def share(self) -> Floats:
        """Capacity over the nominal one."""
        return self.product / self.weight

    @property
    def sigma(self) -> Floats:
        """Its standard deviation."""
        return np.asarray(np.sqrt(1.0 / self.weight + LEAST_SIGMA**2))


def start(shape: tuple[int, int, int]) -> CapacityMemory:
    """The data sheet, as sure as data sheets are."""
    weight = np.full(shape, 1.0 / USUAL_SIGMA**2)
    unknown, zero = np.full(shape, np.nan), np.zeros(shape)
    return CapacityMemory(unknown, unknown, zero, zero, unknown, unknown, zero, zero, weight, weight)


def interrupted(was: CapacityMemory) -> CapacityMemory:
    """The memory after a time in which nobody counted: what was learned stays, the swing is lost."""
    nothing = start(was.weight.shape)
    return replace(nothing, weight=was.weight, product=was.product)


def forgotten(was: CapacityMemory, cells: Bools) -> CapacityMemory:
    """The memory without these cells: others are there now."""
    nothing = start(was.weight.shape)
    return CapacityMemory(
        **{each.name: np.where(cells, getattr(nothing, each.name), getattr(was, each.name)) for each in fields(was)}
    )


def moved(was: CapacityMemory, amount_ah: Floats, hours: float) -> CapacityMemory:
    """Count on: charge of each string (strings,), Ah."""
    return replace(was, moved_ah=was.moved_ah + amount_ah[:, None, None], hours=was.hours + hours)


def step(
    was: CapacityMemory, soc: Floats, look_soc: Floats, look_sigma: Floats, bias_sigma_a: Floats, nominal_ah: float
) -> CapacityMemory:
    """Return the memory after this look: SoC per cell as believed, and as told by its voltage alone, with its sigma.

    `bias_sigma_a` (strings,).
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        left = (soc > MIDDLE_SOC[0]) & (soc < MIDDLE_SOC[1]) & np.isfinite(was.look_soc)
        swing = was.look_soc - was.anchor_soc
        share = was.look_ah / swing / nominal_ah
        variance_x = np.square(was.anchor_sigma) + np.square(was.look_sigma)
        error_ah = np.square(COUNTER_GAIN_SIGMA * was.look_ah) + np.square(bias_sigma_a[:, None, None] * was.look_hours)
        variance = (error_ah / nominal_ah**2 + np.square(share) * variance_x) / np.square(swing)
        gained = 1.0 / variance
        pair = left & (np.abs(swing) >= LEAST_SWING) & (share > 0.3) & (share < 1.3)
        # in the same knee again the better one of the two stays
        anew = left & ~((np.abs(swing) < LEAST_SWING) & (was.look_sigma > was.anchor_sigma))
        anchored = (look_sigma <= ANCHOR_SIGMA) & ((look_soc <= LOW_SOC) | (look_soc >= HIGH_SOC))
        look = anchored & (np.isnan(was.look_soc) | (look_sigma <= was.look_sigma))
    moved_ah = was.moved_ah - np.where(anew, was.look_ah, 0.0)
    hours = was.hours - np.where(anew, was.look_hours, 0.0)
    return CapacityMemory(
        anchor_soc=np.where(anew, was.look_soc, was.anchor_soc),
        anchor_sigma=np.where(anew, was.look_sigma, was.anchor_sigma),
        moved_ah=moved_ah,
        hours=hours,
        look_soc=np.where(look, look_soc, np.where(left, np.nan, was.look_soc)),
        look_sigma=np.where(look, look_sigma, was.look_sigma),
        look_ah=np.where(look, moved_ah, was.look_ah),
        look_hours=np.where(look, hours, was.look_hours),
        weight=np.where(pair, FADE * was.weight + gained, was.weight),
        product=np.where(pair, FADE * was.product + share * gained, was.product),
    )
