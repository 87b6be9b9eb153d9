"""Time of one tick at 512 cells."""

from __future__ import annotations

from time import perf_counter
from typing import Any

import numpy as np
import pytest

from tests import rack

PLANT = rack.plant(strings=2, modules=16)
TICKS = 600
UNKNOWN = {
    "cell_v": np.nan, "cell_reading": rack.MISSING, "cell_age_s": np.inf, "temperature_degc": np.nan,
    "temperature_age_s": np.inf, "current_a": np.nan, "charge_as": np.nan, "current_age_s": np.inf, "bus_v": np.nan,
    "string_v": np.nan, "voltage_age_s": np.inf,
}  # fmt: skip


def measured(**values: Any) -> np.ndarray:
    """Durations of ticks in ms, after the rack runs."""
    drive = rack.running(PLANT)
    given = {**rack.closed(PLANT), **values}
    snaps = [rack.snapshot(PLANT, drive.now_s + 0.1 * (i + 1), **given) for i in range(TICKS)]
    times = []
    for snap in snaps:
        start = perf_counter()
        drive.take(snap)
        times.append(1e3 * (perf_counter() - start))
    return np.array(times[50:])


@pytest.fixture(scope="module")
def healthy() -> np.ndarray:
    return measured()


def test_one_tick_at_512_cells(healthy):
    median, p99 = np.percentile(healthy, [50, 99])
    print(f"\none tick, 512 cells: median {median:.2f} ms, p99 {p99:.2f} ms")
    assert median < 3.0
    assert p99 < 6.0


def test_all_cells_unknown_cost_no_more(healthy):
    median = float(np.median(measured(**UNKNOWN)))
    print(f"\nall unknown: median {median:.2f} ms, {median / np.median(healthy):.2f} of a healthy tick")
    assert median < 1.5 * np.median(healthy)
