"""Counting charge against the exact integral, and a sigma that admits what is not known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bmsd.core import memory
from bmsd.core.estimation import soc
from tests import rack

PLANT = rack.plant(cells=4, sensors=1)
CAPACITY_AS = 280.0 * 3600.0
ALL = np.array([True])


class Counter:
    """The estimator alone."""

    def __init__(self, cell_v: float = 3.245) -> None:
        self.memory = soc.start(PLANT)
        self.now_s, self.cell_v = 100.0, cell_v
        self.estimate = self.see(0.0, 0.0)

    def see(self, charge_as: float, dt_s: float = 1.0, **values: Any):
        self.now_s += dt_s
        snap = rack.snapshot(PLANT, self.now_s, charge_as=charge_as, **{"cell_v": self.cell_v, **values})
        self.memory, self.estimate = soc.estimate(PLANT, self.memory, snap, dt_s, ALL)
        return self.estimate


def test_the_first_sight_gives_soc_from_the_rest_voltage_with_its_uncertainty():
    counter = Counter(3.245)
    assert counter.estimate.soc == pytest.approx(0.2)
    assert 0.02 < counter.estimate.soc_sigma < 0.1
    assert Counter(3.308).estimate.soc_sigma > 0.2, "on the plateau voltage tells little"


def test_a_load_at_the_start_is_taken_from_the_voltage():
    snap = rack.snapshot(PLANT, 100.0, cell_v=3.245 - 0.03, current_a=-100.0)
    _, estimate = soc.estimate(PLANT, soc.start(PLANT), snap, 0.0, ALL)
    assert estimate.soc == pytest.approx(0.2)
    rest = Counter(3.245).estimate
    assert estimate.soc_sigma is not None
    assert rest.soc_sigma is not None
    assert estimate.soc_sigma > rest.soc_sigma


def test_counting_follows_the_exact_integral():
    counter = Counter()
    moved = rest = 0.0
    for k in range(2000):
        amps = 80.0 * np.sin(k / 50.0)
        before = moved
        moved += amps
        rest += (moved - before) * (0.999 if amps > 0.0 else 1.0)
        counter.see(moved)
    assert counter.estimate.soc == pytest.approx(0.2 + rest / CAPACITY_AS, abs=1e-9)


def test_charge_during_silence_is_counted_afterwards():
    counter = Counter()
    for _ in range(600):
        counter.see(np.nan, current_a=np.nan, current_age_s=5.0)
    counter.see(-60_000.0)
    assert counter.estimate.soc == pytest.approx(0.2 - 60_000.0 / CAPACITY_AS)


def test_a_counter_that_restarted_is_not_counted_but_admitted():
    counter = Counter()
    for k in range(100):
        counter.see(-100.0 * k)
    soc_before, sigma_before = counter.estimate.soc, counter.estimate.soc_sigma
    counter.see(5e6)
    assert counter.estimate.soc == soc_before
    assert counter.estimate.soc_sigma is not None
    assert sigma_before is not None
    assert counter.estimate.soc_sigma > sigma_before
    counter.see(5e6 - 1008.0, 10.0)
    assert counter.estimate.soc == pytest.approx(soc_before - 0.001)


def test_a_restart_after_a_silence_admits_all_that_may_have_flowed():
    counter = Counter()
    for _ in range(600):
        counter.see(np.nan, current_a=np.nan, current_age_s=5.0)
    before = counter.estimate.soc_sigma
    counter.see(9e9)
    assert before is not None
    assert counter.estimate.soc_sigma == pytest.approx(min(before + 2 * 250 * 600 / CAPACITY_AS, 0.5), rel=0.01)


def test_sigma_grows_with_time_and_never_over_one_half():
    counter = Counter()
    before = counter.estimate.soc_sigma
    for _ in range(60):
        counter.see(0.0, 60.0)
    assert before is not None
    assert counter.estimate.soc_sigma == pytest.approx(before + 0.005)
    for _ in range(200):
        counter.see(0.0, 3600.0)
    assert counter.estimate.soc_sigma == 0.5


def test_soc_stays_between_empty_and_full():
    counter = Counter()
    for k in range(1, 40):
        assert 0.0 <= counter.see(-1e4 * k, 60.0).soc <= 1.0
    assert counter.estimate.soc == 0.0


def test_the_string_follows_its_weakest_cell():
    counter = Counter()
    cells = np.full(PLANT.layout.cell_shape, 3.245)
    cells[0, 0, 1] = 3.183
    snap = rack.snapshot(PLANT, 100.0, cell_v=cells)
    _, estimate = soc.estimate(PLANT, soc.start(PLANT), snap, 0.0, ALL)
    assert estimate.soc == pytest.approx(0.1 / (0.1 + 0.8))
    assert counter.estimate.soc == pytest.approx(0.2)


def test_a_cell_that_was_never_seen_makes_the_soc_unknown():
    cells = np.full(PLANT.layout.cell_shape, 3.245)
    cells[0, 0, 1] = np.nan
    _, estimate = soc.estimate(PLANT, soc.start(PLANT), rack.snapshot(PLANT, 100.0, cell_v=cells), 0.0, ALL)
    assert (estimate.soc, estimate.soc_sigma) == (None, None)


def test_a_stored_soc_is_merged_with_the_voltage_by_how_sure_each_is():
    drive = rack.Drive(PLANT)
    drive.run(1.0, cell_v=3.308)
    saved = memory.durable(drive.protections, drive.memory, 0.0)
    precise = type(saved)(0.0, (), np.full(PLANT.layout.cell_shape, 0.62), np.full(PLANT.layout.cell_shape, 0.01))
    again = rack.Drive(PLANT)
    again.memory, _ = memory.restore(PLANT, again.protections, precise, 3600.0)
    outcome = again.tick(cell_v=3.308)
    assert outcome.estimate.soc == pytest.approx(0.62, abs=0.01)
    again.memory, _ = memory.restore(PLANT, again.protections, precise, 3600.0)
    outcome = again.tick(cell_v=3.05)
    assert outcome.estimate.soc is not None
    assert abs(outcome.estimate.soc - 0.05) + abs(outcome.estimate.soc - 0.62) == pytest.approx(0.57)
    assert outcome.estimate.soc_sigma is not None
    assert outcome.estimate.soc_sigma >= min(abs(outcome.estimate.soc - 0.62), 0.5) - 1e-9
