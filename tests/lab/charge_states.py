"""The state of charge alone of a measured series: what `bmsd estimate` gives, in a third of its time."""

from __future__ import annotations

import numpy as np

from bmsd.config.cell_file import Specification
from bmsd.core.estimation import soc
from bmsd.lab.cell_plant import plant as plant_of
from bmsd.lab.estimate import ALL, Start, begin, snapshots
from bmsd.lab.series import Series
from bmsd.model.snapshot import Floats


def charge_states(specification: Specification, capacity_ah: float, series: Series, start: Start) -> Floats:
    """Return SoC, its sigma, the current bias in A and the relative capacity for every row, without the power."""
    rack = plant_of(specification, capacity_ah)
    memory = begin(rack, start)
    rows = np.empty((len(series.t_s), 4))
    for k, (snapshot, dt_s, unknown) in enumerate(snapshots(rack, series)):
        if unknown is not None:
            memory = soc.interrupted(rack, memory, unknown)
        memory = soc.step(rack, memory, snapshot, dt_s, ALL)
        belief = memory.belief
        rows[k] = (
            memory.soc[0, 0, 0], memory.sigma[0, 0, 0], belief.bias_c[0] * rack.cell.capacity_ah, belief.size[0]
        )  # fmt: skip
    return rows
