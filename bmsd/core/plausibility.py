"""Which readings can be believed: an impossible one becomes unknown before anything else sees it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bmsd.model.plant import Plant
from bmsd.model.snapshot import Reading, Snapshot


def plausible(plant: Plant, snapshot: Snapshot) -> Snapshot:
    """Return the snapshot with cell voltages outside the plausible range as unknown and invalid."""
    cell_v = snapshot.modules.cell_v
    low, high = plant.thresholds["cell_plausible_min_v"], plant.thresholds["cell_plausible_max_v"]
    with np.errstate(invalid="ignore"):
        impossible = (cell_v < low) | (cell_v > high)
    if not impossible.any():
        return snapshot
    modules = replace(
        snapshot.modules,
        cell_v=np.where(impossible, np.nan, cell_v),
        cell_reading=np.where(impossible, int(Reading.INVALID), snapshot.modules.cell_reading),
    )
    return replace(snapshot, modules=modules)
