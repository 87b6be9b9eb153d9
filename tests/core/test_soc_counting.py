"""Counting charge against the exact integral, and a sigma that admits what is not known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bmsd.core import memory
from bmsd.core.estimation import soc
from bmsd.core.estimation.charge_state import ChargeState, charge_state
from bmsd.core.protection.protect import Protections
from bmsd.model.snapshot import Floats, Snapshot
from tests import rack

PLANT = rack.plant(cells=4, sensors=1)
CAPACITY_AS = 280.0 * 3600.0
ALL = np.array([True])


def estimated(was: soc.SocMemory, snap: Snapshot, dt_s: float) -> tuple[soc.SocMemory, ChargeState]:
    found = soc.step(PLANT, was, snap, dt_s, ALL)
    return found, charge_state(PLANT, found, ALL, 1.0)


class Counter:
    """The estimator alone."""

    def __init__(self, cell_v: float | Floats = 3.245, known: float | None = None) -> None:
        self.memory = soc.start(PLANT)
        if known is not None:
            self.memory = rack.knowing(PLANT, known).soc
        self.now_s, self.cell_v = 100.0, cell_v
        self.estimate = self.see(0.0, 0.0)

    def see(self, charge_as: float, dt_s: float = 1.0, **values: Any):
        self.now_s += dt_s
        snap = rack.snapshot(PLANT, self.now_s, charge_as=charge_as, **{"cell_v": self.cell_v, **values})
        self.memory, self.estimate = estimated(self.memory, snap, dt_s)
        return self.estimate


def test_the_first_sight_gives_soc_from_the_rest_voltage_with_its_uncertainty():
    counter = Counter(3.183)
    assert abs(counter.estimate.soc - 0.1) < 2 * counter.estimate.soc_sigma
    plateau = Counter(3.308)
    for _ in range(120):
        counter.see(0.0, 10.0)
        plateau.see(0.0, 10.0)
    assert abs(counter.estimate.soc - 0.1) < 2 * counter.estimate.soc_sigma
    assert 0.02 < counter.estimate.soc_sigma < 0.08
    assert plateau.estimate.soc_sigma > 0.12, "on the plateau voltage tells little"


def test_a_load_at_the_start_is_taken_from_the_voltage():
    snap = rack.snapshot(PLANT, 100.0, cell_v=3.183 - 0.03, current_a=-100.0)
    _, estimate = estimated(soc.start(PLANT), snap, 0.0)
    assert estimate.soc is not None
    assert estimate.soc_sigma is not None
    rest = Counter(3.183).estimate
    assert abs(estimate.soc - rest.soc) < 0.04
    assert abs(estimate.soc - 0.1) < 2 * estimate.soc_sigma


def test_counting_follows_the_exact_integral():
    counter = Counter(np.nan, known=0.2)
    moved = rest = 0.0
    for k in range(1000):
        amps = 80.0 * np.sin(k / 50.0)
        before = moved
        moved += amps
        rest += (moved - before) * (0.997 if amps > 0.0 else 1.0)
        counter.see(moved)
    assert counter.estimate.soc == pytest.approx(0.2 + rest / CAPACITY_AS, abs=2e-3)


def test_charge_during_silence_is_counted_afterwards():
    counter = Counter(np.nan, known=0.3)
    for _ in range(600):
        counter.see(np.nan, current_a=np.nan, current_age_s=5.0)
    silent_sigma = counter.estimate.soc_sigma
    counter.see(-60_000.0)
    assert counter.estimate.soc == pytest.approx(0.3 - 60_000.0 / CAPACITY_AS, abs=1e-2)
    assert silent_sigma > 0.06, "not every source counts on: the rated current may have flowed for ten minutes"


def test_a_counter_that_restarted_is_not_counted():
    counter = Counter(np.nan, known=0.5)
    for k in range(100):
        counter.see(-100.0 * k)
    soc_before = counter.estimate.soc
    counter.see(5e6)
    assert counter.estimate.soc == pytest.approx(soc_before, abs=1e-3)
    counter.see(5e6 - 1008.0, 10.0)
    assert counter.estimate.soc == pytest.approx(soc_before - 0.001, abs=2e-3)


def test_a_restart_after_a_silence_admits_all_that_may_have_flowed():
    counter = Counter(np.nan, known=0.5)
    for _ in range(600):
        counter.see(np.nan, current_a=np.nan, current_age_s=5.0)
    counter.see(9e9)
    assert counter.estimate.soc_sigma > 0.8 * 2 * 250 * 600 / CAPACITY_AS


def test_sigma_grows_with_time_and_never_over_one_half():
    counter = Counter(np.nan, known=0.5)
    before = counter.estimate.soc_sigma
    for _ in range(60):
        counter.see(0.0, 60.0)
    hour = counter.estimate.soc_sigma
    assert before - 0.001 < hour < before + 0.02
    for _ in range(10):
        counter.see(0.0, 3600.0)
    assert counter.estimate.soc_sigma > hour + 0.02
    for _ in range(100):
        counter.see(0.0, 3600.0)
    assert 0.2 < counter.estimate.soc_sigma <= 0.5


def test_soc_stays_between_empty_and_full():
    counter = Counter(np.nan, known=0.1)
    for k in range(1, 40):
        assert 0.0 <= counter.see(-1e4 * k, 60.0).soc <= 1.0
    assert counter.estimate.soc == 0.0


def test_the_string_follows_its_weakest_cell():
    cells = np.full(PLANT.layout.cell_shape, 0.2)
    cells[0, 0, 1] = 0.1
    snap = rack.snapshot(PLANT, 100.0, cell_v=np.nan)
    _, estimate = estimated(rack.knowing(PLANT, cells).soc, snap, 0.0)
    assert estimate.soc == pytest.approx(0.1 / (0.1 + 0.8), abs=0.01)


def test_a_cell_below_its_neighbours_at_the_lower_knee_is_found_to_be_emptier():
    counter = Counter()
    cells = np.full(PLANT.layout.cell_shape, 3.21)
    cells[0, 0, 1] = 3.15
    for _ in range(60):
        counter.see(0.0, 10.0, cell_v=cells)
    values, sigma = counter.estimate.cell_soc[0, 0], counter.estimate.cell_soc_sigma[0, 0]
    assert values[1] < values[0] - 0.03
    truth = np.interp(cells[0, 0], rack.OCV_V, rack.OCV_SOC)
    assert (np.abs(values - truth) < 2 * sigma).all()


def test_on_the_plateau_a_few_millivolts_between_cells_say_nothing():
    counter = Counter(3.308)
    cells = np.full(PLANT.layout.cell_shape, 3.308)
    cells[0, 0, 1] -= 0.004
    for _ in range(200):
        counter.see(0.0, 10.0, cell_v=cells)
    assert counter.estimate.cell_soc_sigma[0, 0, 1] > 0.03


def test_a_cell_that_was_never_seen_makes_the_soc_unknown():
    cells = np.full(PLANT.layout.cell_shape, 3.245)
    cells[0, 0, 1] = np.nan
    _, estimate = estimated(soc.start(PLANT), rack.snapshot(PLANT, 100.0, cell_v=cells), 0.0)
    assert (estimate.soc, estimate.soc_sigma) == (None, None)


def test_a_wrong_start_is_left_within_minutes_at_a_knee():
    counter = Counter(3.05, known=0.6)
    counter.memory = rack.knowing(PLANT, 0.6, 0.3).soc
    for _ in range(60):
        counter.see(0.0, 10.0)
    assert abs(counter.estimate.soc - 0.05) < 0.03
    assert counter.estimate.soc_sigma < 0.04


def test_an_offset_of_the_current_sensor_is_found_between_two_knees():
    """From near full to near empty with a counter that reads 1 % C too much towards charge."""
    counter = Counter(float(np.interp(0.97, rack.OCV_SOC, rack.OCV_V)), known=0.97)
    truth, counted = 0.97, 0.0
    while truth > 0.06:
        truth -= 70.0 * 10.0 / CAPACITY_AS
        counted += (-70.0 + 2.8) * 10.0
        cell_v = float(np.interp(truth, rack.OCV_SOC, rack.OCV_V)) - 0.017 - 70.0 * 0.00024 - 70 * 0.000336
        estimate = counter.see(counted, 10.0, cell_v=cell_v, current_a=-67.2)
        assert abs(estimate.soc - truth) <= 0.06
    assert abs(estimate.soc - truth) <= 2 * estimate.soc_sigma


def test_a_string_that_is_held_full_for_hours_makes_up_no_offset():
    """One cell is beyond the end of the table, the others are below: nothing flows, and nothing moves."""
    counter = Counter(np.array([[[3.40, 3.40, 3.42, 3.56]]]))
    found = [counter.see(0.0, 10.0, current_a=0.0) for _ in range(6 * 360)]
    assert abs(found[-1].current_bias_a[0]) < 0.002 * 280.0
    assert found[-1].string_soc[0] == pytest.approx(found[360].string_soc[0], abs=0.01)
    assert counter.memory.deltas.soc.mean() == pytest.approx(0.0, abs=1e-9)


def test_a_cell_beyond_the_table_does_not_make_the_others_look_emptier():
    cells = np.array([[[3.418, 3.418, 3.418, 3.55]]])
    within, beyond = Counter(cells), Counter(np.where(cells == 3.55, 3.8, cells))
    for _ in range(60):
        within.see(0.0, 10.0, current_a=0.0)
        beyond.see(0.0, 10.0, current_a=0.0)
    others = np.s_[0, 0, :3]
    np.testing.assert_allclose(beyond.estimate.cell_soc[others], within.estimate.cell_soc[others], atol=1e-9)


def test_a_cell_that_falls_silent_beside_one_beyond_the_table_is_not_known_and_changes_no_other():
    cells = np.array([[[3.418, 3.418, np.nan, 3.8]]])
    counter = Counter(np.nan_to_num(cells, nan=3.418))
    before = counter.see(0.0, 10.0, current_a=0.0).cell_soc[0, 0]
    for _ in range(60):
        after = counter.see(0.0, 10.0, cell_v=cells, current_a=0.0).cell_soc[0, 0]
    np.testing.assert_allclose(after, before, atol=0.01)
    assert np.isfinite(after).all(), "what was known of it stays, with its sigma"


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
    outcome = again.run(60.0, 10.0, cell_v=3.05)[-1]
    assert outcome.estimate.soc == pytest.approx(0.05, abs=0.04), "a voltage that nothing explains wins"


@pytest.mark.parametrize("told", [True, False])
def test_what_cells_differ_by_is_found_after_a_restart_too(told):
    """Nothing was known of the differences before; a record that does not tell them apart is taken for sure."""
    drive = rack.Drive(PLANT)
    for _ in range(30):
        drive.tick(10.0, cell_v=3.308, current_a=0.0)
    before = drive.memory.estimation.soc
    protections = Protections.of(PLANT, 2)
    saved = memory.durable(protections, drive.memory, 1000.0, running=False)
    assert saved.learned is not None
    if not told:
        saved = replace(saved, learned=replace(saved.learned, apart_variance=None))
    back, _ = memory.restore(PLANT, protections, saved, 1000.0)
    np.testing.assert_allclose(back.estimation.soc.sigma, before.sigma, atol=0.03)
    counter = Counter(3.05)
    counter.memory = back.estimation.soc
    cells = np.array([[[3.05, 3.10, 3.18, 3.20]]])
    for _ in range(360):
        found = counter.see(0.0, 10.0, cell_v=cells, current_a=0.0).cell_soc[0, 0]
    if told:
        rest_soc = np.interp(cells[0, 0], rack.OCV_V, rack.OCV_SOC)
        assert (np.abs(found - rest_soc) <= 2.0 * counter.estimate.cell_soc_sigma[0, 0]).all()
        assert found[3] - found[0] > 0.03
    else:
        assert np.ptp(found) < 0.01


def test_the_uncertainty_grows_over_a_power_off():
    values, sigma = np.full(PLANT.layout.cell_shape, 0.5), np.full(PLANT.layout.cell_shape, 0.01)
    protections = rack.Drive(PLANT).protections
    saved = memory.durable(protections, rack.Drive(PLANT).memory, 0.0)
    saved = replace(saved, soc=values, soc_sigma=sigma)
    day, month = (memory.restore(PLANT, protections, saved, days * 86400.0)[0] for days in (1.0, 100.0))
    assert (month.estimation.soc.sigma > day.estimation.soc.sigma + 0.02).all()
    without_time = memory.restore(PLANT, protections, replace(saved, utc_s=None), 5.0)[0]
    assert (without_time.estimation.soc.sigma > day.estimation.soc.sigma + 0.002).all()


def test_the_same_inputs_give_the_same_outcome():
    runs = []
    for _ in range(2):
        counter = Counter(3.2)
        for k in range(40):
            counter.see(-400.0 * k, 10.0, cell_v=3.2 - 0.001 * k, current_a=-40.0)
        runs.append(counter.memory.hypotheses)
    np.testing.assert_array_equal(runs[0].states, runs[1].states)
    np.testing.assert_array_equal(runs[0].weights, runs[1].weights)
