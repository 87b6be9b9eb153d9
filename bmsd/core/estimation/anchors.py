"""Where voltage tells charge: what is missing to full in each cell, read in a knee, for the ledger; and the state of
charge by voltage alone, for the capacity.

For the ledger the voltage of a cell, less what its resistance takes, is looked up on the branch of the rest voltage
that the string is on. At the top (the highest cell at TOP_V less RELEASE_V, see soc.py) cells are read where the curve
is steep; the others are known to be below. At the bottom cells are read where it is steep down there, but what is
missing to full is then nearly all of a capacity, known to no more than the capacity is. Nothing is read on the plateau,
and nothing while the current is large the wrong way.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bmsd.core.estimation.electrical import Tables, at, place
from bmsd.core.estimation.hypotheses import along
from bmsd.core.estimation.leaks import middle
from bmsd.core.estimation.soc import BOTTOM_V, MODEL_FACTOR, RELEASE_V, TOP_V, SocMemory, surface_ahead
from bmsd.model.cell import SOC_GRID
from bmsd.model.plant import Plant
from bmsd.model.snapshot import Bools, Floats

EDGE_SLOPE_V = 0.4
"""Of the rest voltage per unit of SoC, from which on a knee is steep enough to read."""
HIGH_SOC, LOW_SOC = 0.85, 0.15
TOP_SOC = 0.8
"""A string that cannot be this full is not at the top, whatever one cell's channel says."""
WRONG_WAY_C = 0.05
SHAPE_SIGMA = 0.003
"""What the curves of two cells differ by, along the SoC."""
SPAN_SIGMA = 0.10
"""Of the distance to the median cell: what the slope of the curve is wrong by."""
LOSS_SHARE = 0.15
"""Of what the resistances take: how far their model may be wrong where a voltage has to tell the SoC."""
BETWEEN = 0.5
"""Of the half gap: how far the hysteresis may be wrong on its way from one branch to the other."""
LEAST_TOLD_SIGMA = 0.01


@dataclass(frozen=True, slots=True)
class Anchor:
    """Minus the charge missing to full in Ah, with sigma, of cells (strings, modules, cells) that are `read`; of those
    that are `below` their knee it is the most they may have. `there` (strings,): those in a knee; `top`: the upper."""

    excess_ah: Floats
    sigma_ah: Floats
    read: Bools
    below: Bools
    there: Bools
    top: Bools


@dataclass(frozen=True, slots=True)
class Sight:
    """What voltages are read with.

    Of strings (strings,): curves, hysteresis, what the model's resistances take in V, SoC that the surface is ahead by,
    how full they may well be. Of cells: factor over the model's resistances with sigma, capacity in Ah with sigma.
    """

    tables: Tables
    hysteresis: Floats
    lost_v: Floats
    ahead: Floats
    factor: Floats
    factor_sigma: Floats
    capacity_ah: Floats
    capacity_sigma_ah: Floats
    fullest_soc: Floats


def anchor(plant: Plant, cell_v: Floats, amps: Floats, sight: Sight) -> Anchor | None:
    """Return what is read now; None: no string is in a knee, or knees are not known of this chemistry."""
    if plant.cell.chemistry != "lfp":
        return None
    still_v = cell_v - sight.lost_v[:, None, None] * sight.factor
    flat = still_v.reshape(len(amps), -1)
    wrong_way_a = WRONG_WAY_C * plant.cell.capacity_ah
    with np.errstate(invalid="ignore"):
        top = (np.fmax.reduce(flat, axis=1) >= TOP_V - RELEASE_V) & (amps >= -wrong_way_a)
        top &= sight.fullest_soc >= TOP_SOC
        bottom = (np.fmin.reduce(flat, axis=1) <= BOTTOM_V + RELEASE_V) & (amps <= wrong_way_a) & ~top
    if not (top | bottom).any():
        return None
    return _read(plant, still_v, sight, top, bottom)


def _read(plant: Plant, still_v: Floats, sight: Sight, top: Bools, bottom: Bools) -> Anchor:
    high, low = edges(sight.tables)
    soc, edge = _soc(sight, still_v), high[:, None, None]
    known, at_top, at_bottom = np.isfinite(soc), top[:, None, None], bottom[:, None, None]
    with np.errstate(invalid="ignore"):
        below = known & at_top & (soc < edge)
        read = (known & at_top & (soc >= edge)) | (known & at_bottom & (soc <= low[:, None, None]))
    where = np.where(below, edge, soc)
    excess_ah = -(1.0 - where) * sight.capacity_ah
    error_v = np.hypot(plant.estimation.voltage_sigma_v, sight.factor_sigma * sight.lost_v[:, None, None])
    slope_v = at(sight.tables.slope_v, place(where))
    sigma = np.hypot(error_v / slope_v, SHAPE_SIGMA) * sight.capacity_ah
    sigma = np.hypot(sigma, (1.0 - where) * np.where(at_bottom, sight.capacity_sigma_ah, 0.0))
    sigma = np.hypot(sigma, SPAN_SIGMA * np.abs(excess_ah - middle(np.where(read | below, excess_ah, np.nan))))
    return Anchor(excess_ah, sigma, read, below, top | bottom, top)


def edges(tables: Tables) -> tuple[Floats, Floats]:
    """SoC from which on each string's curve is steep up to full, and up to which it is from empty (strings,)."""
    steep = tables.slope_v >= EDGE_SLOPE_V
    high = SOC_GRID[np.minimum(steep.shape[1] - np.logical_and.accumulate(steep[:, ::-1], axis=1).sum(axis=1),
                               steep.shape[1] - 1)]  # fmt: skip
    low = SOC_GRID[np.maximum(np.logical_and.accumulate(steep, axis=1).sum(axis=1) - 1, 0)]
    return np.maximum(high, HIGH_SOC), np.minimum(low, LOW_SOC)


def _soc(sight: Sight, still_v: Floats) -> Floats:
    """Each cell's SoC by its string's curve on the branch that the string is on, less what its surface is ahead by."""
    curves = sight.tables.mid_v + sight.hysteresis[:, None] * sight.tables.half_v
    curves = np.maximum.accumulate(curves, axis=1)
    found = [np.interp(volts, curve, SOC_GRID) for volts, curve in zip(still_v, curves, strict=True)]
    return np.where(np.isfinite(still_v), np.stack(found) - sight.ahead[:, None, None], np.nan)


def told(plant: Plant, cell_v: Floats, lost_v: Floats, charge: SocMemory, soc_now: Floats) -> tuple[Floats, Floats]:
    """SoC of each cell by its voltage of now alone, along the slope from the one that is believed, and its sigma.

    `lost_v`: what the resistances of each cell take.
    """
    tables, polarised = charge.tables, charge.polarisation
    ahead = surface_ahead(plant, tables, polarised)[:, None, None]
    where, surface = place(soc_now), place(soc_now + ahead)
    half_v, slope_v = at(tables.half_v, where), at(tables.slope_v, surface)
    rest_v = at(tables.mid_v, surface) + polarised.h[:, None, None] * half_v
    unsure_v = np.sqrt(
        np.square(MODEL_FACTOR * at(tables.error_v, where))
        + plant.estimation.voltage_sigma_v**2
        + np.square(half_v * (polarised.h_sigma + BETWEEN * (1.0 - np.abs(polarised.h)))[:, None, None])
        + np.square(polarised.doubt_v)[:, None, None]
        + np.square(LOSS_SHARE * lost_v)
    )
    soc = np.clip(soc_now + (cell_v - lost_v - rest_v) / slope_v, 0.0, 1.0)
    return soc, np.sqrt(np.square(unsure_v / slope_v) + along(ahead) + LEAST_TOLD_SIGMA**2)
