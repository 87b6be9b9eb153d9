"""Time of one update of all estimators at 512 cells."""

from __future__ import annotations

from time import process_time

import numpy as np

from bmsd.core.estimation import estimators
from tests import rack

PLANT = rack.plant(strings=8, modules=4)
UPDATES = 3000
IN_CIRCUIT = np.ones(8, dtype=bool)


def test_one_update_at_512_cells():
    """The median of the time that the processor spends; every second power and every ten the SoC are worked out."""
    memory, moved = estimators.start(PLANT), 0.0
    noise = 0.001 * np.random.default_rng(1).standard_normal((50, *PLANT.layout.cell_shape))
    snaps = [
        rack.snapshot(PLANT, 100.0 + 0.1 * k, cell_v=3.3 + noise[k], current_a=40.0 * np.sin(k), charge_as=0.0)
        for k in range(50)
    ]
    times = []
    for k in range(UPDATES):
        moved += 4.0
        began = process_time()
        memory, known = estimators.step(PLANT, memory, snaps[k % 50], 0.1, IN_CIRCUIT)
        times.append(1e3 * (process_time() - began))
    median, mean, most = np.median(times), np.mean(times), np.percentile(times, 99.9)
    print(f"\nestimators, 512 cells: median {median:.3f} ms, mean {mean:.3f} ms, p99.9 {most:.2f} ms")
    assert known.soc is not None
    assert median < 0.3, "0.15 ms on a machine of its own"
