"""Other boards bring other cells: what was learned of those before is forgotten, of this module and of no other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bmsd.core.estimation import estimators, history, months
from bmsd.core.estimation.estimators import EstimationMemory
from bmsd.core.estimation.history import Seen
from bmsd.model.history import Wear
from bmsd.model.request import Reset, Role
from tests import rack

PLANT = rack.plant(modules=2, cells=4, sensors=1)
SHAPE = PLANT.layout.cell_shape
FIRST = np.array([[True, False]])


def driven(volts: float = 3.32) -> EstimationMemory:
    """Estimators that have seen pulses; the cells of the first module answer by 1.5 times the model."""
    at = rack.knowing(PLANT, 0.6, 0.01)
    amps, now_s = 0.0, 100.0
    for second in range(300):
        amps, now_s = (100.0 if second // 20 % 2 else -100.0), now_s + 1.0
        cell_v = np.full(SHAPE, volts) + amps * np.where(FIRST[:, :, None], 0.0009, 0.0006)
        snap = rack.snapshot(PLANT, now_s, cell_v=cell_v, current_a=amps, charge_as=0.0)
        at, _ = estimators.step(PLANT, at, snap, 1.0, np.array([True]))
    return at


def test_the_differences_of_its_cells_are_seen_anew_and_the_string_is_known_less():
    before = driven()
    at = estimators.exchanged(PLANT, before, FIRST).soc
    assert np.isnan(at.deltas.soc[0, 0]).all()
    assert np.isnan(at.deltas.variance[0, 0]).all()
    np.testing.assert_array_equal(at.deltas.soc[0, 1], before.soc.deltas.soc[0, 1])
    assert at.string_sigma[0] > before.soc.string_sigma[0] + 0.05
    assert not at.stored.any()


def test_a_string_of_other_modules_only_is_weighed_anew():
    at = estimators.exchanged(PLANT, driven(), np.array([[True, True]]))
    assert at.soc.stored.all()
    assert at.soc.string_sigma[0] > 0.2
    full = rack.snapshot(PLANT, 500.0, cell_v=3.50, current_a=0.0, charge_as=0.0)
    _, estimate = estimators.step(PLANT, at, full, 1.0, np.array([True]))
    assert estimate.soc > 0.8


def test_its_capacities_are_those_of_the_sheet_again():
    before = driven()
    sizes = before.capacity
    known = replace(sizes, weight=sizes.weight * 9.0, product=sizes.weight * 9.0 * 0.8, look_soc=np.full(SHAPE, 0.1))
    at = estimators.exchanged(PLANT, replace(before, capacity=known), FIRST).capacity
    assert (at.share[0, 0] == 1.0).all()
    assert (at.sigma[0, 0] > 0.04).all()
    assert np.isnan(at.look_soc[0, 0]).all()
    np.testing.assert_allclose(at.share[0, 1], 0.8)
    assert (at.sigma[0, 1] < 0.02).all()
    assert (at.look_soc[0, 1] == 0.1).all()


def test_its_resistance_is_the_models_and_unsure_until_steps_tell_it():
    before = driven()
    assert (before.resistances.factor[0, 0] > 1.2 * before.resistances.factor[0, 1]).all()
    assert (before.resistances.sigma < 0.17).all()
    at = estimators.exchanged(PLANT, before, FIRST).resistances
    np.testing.assert_allclose(at.factor[0, 0], 1.0)
    np.testing.assert_allclose(at.sigma[0, 0], 0.2)
    np.testing.assert_array_equal(at.factor[0, 1], before.resistances.factor[0, 1])
    np.testing.assert_array_equal(at.sigma[0, 1], before.resistances.sigma[0, 1])


def test_its_marks_are_gone_and_so_are_trend_and_life():
    sure, now = np.full(SHAPE, 0.008), months.start(PLANT)
    marks = now.history
    for week in range(1, 40):
        use = Wear(7.0 * week, np.array([0.02 * week]), np.array([5.0 * week]))
        share = np.full(SHAPE, 1.0 - 0.001 * week)
        marks = history.marked(marks, use, Seen(share, sure, 2.0 - share, sure))
    now, _ = months.restored(PLANT, marks.wear, marks)
    at = estimators.exchanged(PLANT, replace(driven(), months=now), FIRST).months
    for values in (at.history.capacity, at.history.capacity_sigma, at.history.resistance, at.history.resistance_sigma):
        assert np.isnan(values[:, 0, 0]).all()
        assert np.isfinite(values[:, 0, 1]).all()
        assert values.dtype == np.float32
    for told in (at.trend.per_year, at.left.median):
        assert np.isnan(told[0, 0]).all()
        assert np.isfinite(told[0, 1]).all()


def test_a_cell_that_lies_lower_than_the_one_before_does_not_sag():
    before = driven()
    lower = np.full(SHAPE, 3.32)
    lower[0, 0, 1] -= 0.1
    snap = rack.snapshot(PLANT, 500.0, cell_v=lower, current_a=0.0, charge_as=0.0)
    for at, sags in ((before, True), (estimators.exchanged(PLANT, before, FIRST), False)):
        after, _ = estimators.step(PLANT, at, snap, 1.0, np.array([True]))
        assert bool(after.predictor.residuals.sag_v[0, 0, 1] > 0.02) is sags


@pytest.mark.parametrize("uid", [[4711, 1002], [4711, 4712]])
def test_a_board_that_service_accepts_makes_the_tick_forget_and_the_soc_is_known_all_along(uid):
    drive = rack.running(PLANT)
    uids = np.array([uid])
    ask = Reset("MOD-008", Role.SERVICE, "module exchanged")
    outcome = drive.tick(uid=uids, requests=(ask,), **rack.closed(PLANT))
    assert outcome.estimate.soc is not None
    assert np.isnan(outcome.memory.estimation.soc.deltas.soc[uids != rack.snapshot(PLANT, 0.0).modules.uid]).all()
    outcome = drive.tick(uid=uids, **rack.closed(PLANT))
    assert outcome.estimate.soc is not None
    assert np.isfinite(outcome.memory.estimation.soc.deltas.soc).all()
