"""Capacity per cell from the charge between two moments at which its state of charge was well known.

Theory of operation. A cell is anchored where its sigma is small in a knee, low or high. The charge counted between two
anchors, freed of the sensor's offset, over the difference in SoC is a capacity; both are uncertain,

    Q = y / x,   var Q = (sy^2 + Q^2 sx^2) / x^2,   sx^2 = s1^2 + s2^2,   sy^2 = (0.003 y)^2 + (offset sigma * time)^2,

and such pairs are averaged by their variance with a fading memory: weighted total least squares through the origin, to
first order (G. Plett, "Recursive approximate weighted total least squares estimation of battery cell total capacity",
2011). Only swings over LEAST_SWING count. The data sheet is the first pair. All cells of a string share the charge, and
each has its own differences in SoC, so one swing tells all of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bmsd.model.snapshot import Floats

ANCHOR_SIGMA = 0.022
LOW_SOC, HIGH_SOC = 0.15, 0.93
LEAST_SWING = 0.4
FADE = 0.98
COUNTER_GAIN_SIGMA = 0.003
LEAST_SIGMA = 0.005
"""Of the result, as a share: what anchors have in common does not average out."""
USUAL_SIGMA = 0.04


@dataclass(frozen=True, slots=True)
class CapacityMemory:
    """Per cell (strings, modules, cells): SoC and sigma at its last anchor (NaN: none), charge in Ah and hours since
    then, and the sums of weight and of weight times capacity, both over nominal capacities."""

    anchor_soc: Floats
    anchor_sigma: Floats
    moved_ah: Floats
    hours: Floats
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
    return CapacityMemory(unknown, unknown, zero, zero, weight, weight)


def moved(was: CapacityMemory, amount_ah: Floats, hours: float) -> CapacityMemory:
    """Count on: charge of each string (strings,), Ah."""
    return CapacityMemory(
        was.anchor_soc, was.anchor_sigma, was.moved_ah + amount_ah[:, None, None], was.hours + hours, was.weight,
        was.product,
    )  # fmt: skip


def step(was: CapacityMemory, soc: Floats, sigma: Floats, bias_sigma_a: Floats, nominal_ah: float) -> CapacityMemory:
    """Return the memory after this look at SoC and sigma per cell; `bias_sigma_a` (strings,)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        anchored = (sigma <= ANCHOR_SIGMA) & ((soc <= LOW_SOC) | (soc >= HIGH_SOC))
        swing = soc - was.anchor_soc
        pair = anchored & (np.abs(swing) >= LEAST_SWING)
        share = was.moved_ah / swing / nominal_ah
        variance_x = np.square(was.anchor_sigma) + np.square(sigma)
        error_ah = np.square(COUNTER_GAIN_SIGMA * was.moved_ah) + np.square(bias_sigma_a[:, None, None] * was.hours)
        variance = (error_ah / nominal_ah**2 + np.square(share) * variance_x) / np.square(swing)
        pair &= (share > 0.3) & (share < 1.3)
        weight = np.where(pair, FADE * was.weight + 1.0 / variance, was.weight)
        product = np.where(pair, FADE * was.product + share / variance, was.product)
        # a swing ends at its far anchor; meanwhile the best look of an anchor counts
        anew = pair | (anchored & (np.isnan(was.anchor_soc) | (sigma <= was.anchor_sigma) | (np.abs(swing) < 0.2)))
    return CapacityMemory(
        np.where(anew, soc, was.anchor_soc),
        np.where(anew, sigma, was.anchor_sigma),
        np.where(anew, 0.0, was.moved_ah),
        np.where(anew, 0.0, was.hours),
        weight,
        product,
    )
