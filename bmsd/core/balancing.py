"""Which cells bleed: only near the top and while charging, where voltage tells charge on LFP."""

from __future__ import annotations

import numpy as np

from bmsd.model.plant import Plant
from bmsd.model.snapshot import Bools, Snapshot


def balance(plant: Plant, snapshot: Snapshot, allowed: Bools) -> Bools:
    """Return the cells to bleed, (strings, modules, cells). `allowed` (strings,) are the healthy, closed strings.

    A cell bleeds when it is above the start voltage and more than the band above the lowest cell of its
    string, while the string is charged. An unknown cell or current anywhere in the string: nothing bleeds.
    """
    cell_v = snapshot.modules.cell_v
    settings = plant.balance
    if not settings.enabled:
        return np.zeros(cell_v.shape, dtype=bool)
    lowest_v = cell_v.reshape(cell_v.shape[0], -1).min(axis=1)
    with np.errstate(invalid="ignore"):
        charging = snapshot.units.current_a > settings.min_charge_a
        usable = (allowed & charging & np.isfinite(lowest_v))[:, None, None]
        high = (cell_v > settings.start_v) & (cell_v > lowest_v[:, None, None] + settings.band_v)
    return np.asarray(usable & high & ~snapshot.modules.trip_active[:, :, None], dtype=bool)
