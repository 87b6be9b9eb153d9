"""How the cells of a string differ from their mean in state of charge.

Theory of operation (bar-delta filtering: G. Plett, Battery Management Systems, vol. 2). All cells of a string see the
same current at the same instant, so the difference of a cell's voltage to the mean of its string is free of most of
what is wrong with the model. It tells the difference in SoC by the slope of the rest voltage, and nothing where that is
flat. The error of a cell's voltage channel is an offset: no repetition averages it away, so the variance is never
believed to be below (offset / slope)^2, nor below what the table's shape is wrong by. A cell at the end of its table
stays there: a voltage that no state of charge explains would wind the difference up without end.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bmsd.core.estimation.electrical import Tables, at, place
from bmsd.model.snapshot import Bools, Floats

START_SIGMA = 0.10
"""Cells of one string that nobody has balanced."""
TAU_S = 60.0
"""Correlation of what differs between cells for a while."""
SIZE_SPREAD = 0.02
"""Standard deviation of the capacities of a string: what they drift apart per unit of charge moved."""
RESISTANCE_SPREAD = 0.15
SHAPE_SIGMA = 0.01
"""By how much the rest voltage of one cell may lie beside the table, along the SoC."""
MOST_SIGMAS = 5.0


@dataclass(frozen=True, slots=True)
class Deltas:
    """SoC above the string's common one and its variance, (strings, modules, cells). NaN: never seen."""

    soc: Floats
    variance: Floats


def rest_v(tables: Tables, soc: Floats, deltas: Deltas) -> tuple[Floats, Floats]:
    """Rest voltage of each cell above that of the common SoC (strings,), V, and its slope, V per unit."""
    cells = soc[:, None, None] + np.nan_to_num(deltas.soc)
    where = place(cells)
    common = at(tables.mid_v, place(soc))
    return at(tables.mid_v, where) - common[:, None, None], at(tables.slope_v, where)


def step(
    was: Deltas,
    tables: Tables,
    soc: Floats,
    ahead: Floats,
    cell_v: Floats,
    lost_v: Floats,
    moved: Floats,
    offset_v: float,
    dt_s: float,
    usable: Bools,
) -> Deltas:
    """Return the differences after this reading.

    `soc` (strings,) is the common one, `ahead` what its surface is ahead by, `lost_v` what the resistances take by the
    model, `moved` the charge since the last step in capacities. `offset_v`: error of a cell's channel, standard
    deviation. `usable` (strings,): the slope is known; otherwise cells that are seen for the first time are taken to be
    like the others.
    """
    shape = cell_v.shape
    new = np.isnan(was.soc) & np.isfinite(cell_v)
    alone = shape[1] * shape[2] == 1
    delta = np.where(new, 0.0, was.soc)
    variance = np.where(new, 0.0 if alone else START_SIGMA**2, was.variance)
    if alone:
        return Deltas(delta, variance)
    variance = variance + np.square(SIZE_SPREAD * moved)[:, None, None]
    above, slope = rest_v(tables, soc + ahead, Deltas(delta, variance))
    known = np.isfinite(cell_v) & np.isfinite(delta) & (np.isfinite(lost_v) & usable)[:, None, None]
    innovation = _from_mean(cell_v, known) - _from_mean(above, known)
    error = np.square(offset_v) + np.square(RESISTANCE_SPREAD * lost_v)[:, None, None]
    # one reading when a cell is first seen, then as much of one as time has brought
    share = np.where(new, 1.0, min(dt_s / (2.0 * TAU_S), 1.0))
    total = slope**2 * variance + error / np.maximum(share, 1e-6)
    innovation = np.clip(innovation, -MOST_SIGMAS * np.sqrt(total), MOST_SIGMAS * np.sqrt(total))
    gain = variance * slope / total
    floor = np.minimum(variance, np.maximum(error / slope**2, SHAPE_SIGMA**2))
    updated = np.maximum((1.0 - gain * slope) * variance, floor)
    common = soc[:, None, None]
    moved_to = np.clip(delta + gain * innovation, -common, 1.0 - common)
    return Deltas(np.where(known, moved_to, delta), np.where(known, updated, variance))


def forgotten(was: Deltas, cells: Bools) -> Deltas:
    """The differences without those of these cells: others are there now."""
    return Deltas(np.where(cells, np.nan, was.soc), np.where(cells, np.nan, was.variance))


def centre(deltas: Deltas) -> Floats:
    """Mean difference of the known cells of each string (strings,): the common SoC is to be that of the mean cell.

    Otherwise a string whose first cells are full keeps its common SoC at the end of the table, and charge that does not
    fit in there is taken for an offset of the current.
    """
    known = np.isfinite(deltas.soc)
    mean: Floats = np.where(known, deltas.soc, 0.0).sum(axis=(1, 2)) / np.maximum(known.sum(axis=(1, 2)), 1)
    return mean


def _from_mean(values: Floats, known: np.ndarray) -> Floats:
    """Values above the mean of the known ones of their string; 0 where unknown."""
    usable = np.where(known, values, 0.0)
    mean = usable.sum(axis=(1, 2)) / np.maximum(known.sum(axis=(1, 2)), 1)
    return np.where(known, values - mean[:, None, None], 0.0)
