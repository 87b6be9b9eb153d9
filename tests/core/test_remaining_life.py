"""Remaining life against a cell that ages by another law than the estimator's, and at every edge."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bmsd.core.estimation import history, life, wear
from bmsd.core.estimation.history import Seen
from bmsd.core.estimation.wear import YEAR_DAYS
from bmsd.model.cell import Ageing
from bmsd.model.history import History, Wear
from bmsd.sim import ageing as twin

SHAPE = (1, 1, 8)
AGEING = Ageing()
PRIOR = (AGEING.calendar_per_sqrt_year, AGEING.cycle_per_efc)


def told(days, capacity, resistance=None, degc: float = 25.0, per_day: float = 1.0, sigma: float = 0.008) -> History:
    """The history of a rack at this temperature with so many cycles a day; values (marks, ...) are spread."""
    pace = float(wear.warm_pace(np.array([degc]), AGEING.activation_k)[0])
    now = history.start(Wear(0.0, np.zeros(1), np.zeros(1)), SHAPE)
    resistance = np.full(len(days), np.nan) if resistance is None else resistance
    for day, share, ohms in zip(days, capacity, resistance, strict=True):
        use = Wear(float(day), np.array([pace * day / YEAR_DAYS]), np.array([per_day * day]))
        seen = (
            np.broadcast_to(share, SHAPE),
            np.full(SHAPE, sigma),
            np.broadcast_to(ohms, SHAPE),
            np.full(SHAPE, 0.03),
        )
        now = history.marked(now, use, Seen(*seen))
    return now


def by_law(days, a: float, b: float, start: float = 1.0, per_day: float = 1.0):
    return start - a * np.sqrt(days / YEAR_DAYS) - b * (per_day * days) ** AGEING.cycle_power


WEEKS = 7.0 * np.arange(1, 105)


@pytest.mark.parametrize("a", [0.5 * PRIOR[0], PRIOR[0], 2.0 * PRIOR[0]])
@pytest.mark.parametrize("b", [0.5 * PRIOR[1], 2.0 * PRIOR[1]])
def test_a_cell_that_ages_by_the_law_ends_when_the_law_says(a, b):
    found = life.life(told(WEEKS, by_law(WEEKS, a, b, 1.01)), AGEING, 0.8)
    days = np.arange(0.0, 40.0 * YEAR_DAYS)
    truth = float(np.argmax(by_law(WEEKS[-1] + days, a, b, 1.01) < 0.8)) or 40.0 * YEAR_DAYS
    assert (found.low <= truth).all()
    assert (truth <= found.high).all()
    np.testing.assert_allclose(found.median, truth, rtol=0.25)


@pytest.mark.parametrize("degc", [15.0, 25.0, 35.0])
@pytest.mark.parametrize("depth", [0.3, 0.9])
def test_cells_of_the_twin_end_within_the_range(degc, depth):
    """The twin ages by BLAST's own rates of temperature, charge, depth and rate; nothing of that is known here."""
    random = np.random.default_rng(int(10 * degc + 10 * depth))
    capacity = aged_by_the_twin(degc, depth, years=40)
    days = 7.0 * np.arange(1, 131)
    marks = (
        capacity[days.astype(int) - 1] + 0.005 * random.standard_normal(SHAPE) + remembering_noise(random, len(days))
    )
    found = life.life(told(days, marks, degc=degc, per_day=depth), AGEING, 0.8)
    ends = np.argmax(capacity[int(days[-1]) :] < 0.8, axis=0).astype(float)
    ends = np.where((capacity < 0.8).any(axis=0), ends, 40.0 * YEAR_DAYS - days[-1])
    inside = (found.low <= ends) & (ends <= np.where(found.high >= 14609.0, np.inf, found.high))
    assert inside.mean() >= 0.75, "8 of 10 are promised"
    assert (found.low > 0.3 * ends).all(), "and the range is no excuse"


def remembering_noise(random, count: int):
    """Errors of an estimate that remembers for 28 days, week by week: 0.6 % each."""
    keep = np.exp(-7.0 / 28.0)
    noise = 0.006 * random.standard_normal((count, *SHAPE))
    for k in range(1, count):
        noise[k] = keep * noise[k - 1] + np.sqrt(1.0 - keep**2) * noise[k]
    return noise


def aged_by_the_twin(degc: float, depth: float, years: int):
    """Capacity at the end of every day (days, strings, modules, cells)."""
    cells = twin.Ageing(SHAPE, twin.AgeingParameters(spread=0.2), np.random.default_rng(7))
    left = np.empty((int(years * YEAR_DAYS), *SHAPE))
    low, high, warm = (np.full(SHAPE, value) for value in (0.95 - depth, 0.95, degc))
    moved = np.full(SHAPE, depth)
    for day in range(len(left)):
        cells.collect(43200.0, low, warm, moved)
        cells.collect(43200.0, high, warm, moved)
        cells.advance()
        left[day] = cells.capacity_factor
    return left


def test_nothing_is_told_before_capacity_was_followed_for_91_days():
    for weeks, known in ((0, False), (3, False), (13, False), (14, True)):
        found = (
            life.life(told(WEEKS[:weeks], by_law(WEEKS[:weeks], *PRIOR)), AGEING, 0.8) if weeks else life.start(SHAPE)
        )
        assert (np.isfinite(found.median) == known).all()
        assert (np.isfinite(found.low) == known).all()
        assert (found.followed_days == (7.0 * (weeks - 1) if weeks >= history.LEAST_MARKS else 0.0)).all()


def test_a_cell_that_nobody_followed_is_unknown_and_harms_no_other():
    capacity = np.broadcast_to(by_law(WEEKS, *PRIOR)[:, None, None, None], (len(WEEKS), *SHAPE)).copy()
    capacity[:, 0, 0, 3] = np.nan
    found = life.life(told(WEEKS, capacity), AGEING, 0.8)
    assert np.isnan(found.median[0, 0, 3])
    assert np.isfinite(np.delete(found.median, 3)).all()


@pytest.mark.parametrize("seed", range(12))
def test_quantiles_are_in_order_and_life_is_never_negative_nor_endless(seed):
    random = np.random.default_rng(seed)
    count = int(random.integers(4, 120))
    days = np.cumsum(random.uniform(3.0, 40.0, count))
    capacity = random.uniform(0.4, 1.1, (count, *SHAPE)) if seed % 2 else 1.0 - random.uniform(0, 0.4) * days / days[-1]
    capacity = np.broadcast_to(np.reshape(capacity, (count, -1, 1, 1))[..., :1] if seed % 2 == 0 else capacity,
                               (count, *SHAPE))  # fmt: skip
    ohms = random.uniform(0.8, 2.0, count)
    found = life.life(
        told(days, capacity, ohms, float(random.uniform(-10, 50)), float(random.uniform(0, 3))), AGEING, 0.8
    )
    for low, high in ((found.low, found.median), (found.median, found.high)):
        assert ((low <= high) | np.isnan(low)).all()
    known = found.followed_days >= life.LEAST_DAYS
    assert (np.isfinite(found.low) == known).all()
    assert (found.low[known] >= 0.0).all()
    assert (found.high[known] <= 40.0 * YEAR_DAYS + 1e-6).all()


def test_a_cell_below_its_end_of_life_has_none_left():
    found = life.life(told(WEEKS, np.linspace(0.9, 0.7, len(WEEKS))), AGEING, 0.8)
    assert (found.median == 0.0).all()


def test_a_cell_that_does_not_age_lasts_for_the_longest_time_and_may_not():
    found = life.life(told(WEEKS, np.where(np.arange(len(WEEKS)) % 2, 0.9999, 1.0)), AGEING, 0.8)
    assert (found.high == 40.0 * YEAR_DAYS).all()
    assert (found.low > 5.0 * YEAR_DAYS).all()


def test_a_higher_end_of_life_comes_sooner():
    marks = told(WEEKS, by_law(WEEKS, *PRIOR))
    assert (life.life(marks, AGEING, 0.85).median < life.life(marks, AGEING, 0.8).median).all()


def test_resistance_ends_a_life_as_well():
    capacity = by_law(WEEKS, 0.2 * PRIOR[0], 0.2 * PRIOR[1])
    same = told(WEEKS, capacity, 1.1 + 0.001 * np.sqrt(WEEKS))
    risen = told(WEEKS, capacity, 1.1 + 0.4 * np.sqrt(WEEKS / WEEKS[-1]))
    assert (life.life(risen, AGEING, 0.8).median < 0.2 * life.life(same, AGEING, 0.8).median).all()
    assert (life.life(risen, AGEING, 0.8).high < life.LONGEST_YEARS * YEAR_DAYS).all()


def test_a_knee_is_seen_and_the_straight_line_goes_on():
    smooth = by_law(WEEKS, *PRIOR)
    knee = smooth - np.where(WEEKS > 588.0, 4e-4 * (WEEKS - 588.0), 0.0)
    before, after = (life.life(told(WEEKS, values), AGEING, 0.8) for values in (smooth, knee))
    slope = (knee[-1] - knee[-15]) / (WEEKS[-1] - WEEKS[-15])
    line = (0.8 - knee[-1]) / slope
    np.testing.assert_allclose(after.median, line, rtol=0.15)
    assert (after.median < 0.5 * before.median).all()


def test_a_rack_that_was_old_when_it_was_first_seen_is_not_taken_for_a_new_one():
    days = WEEKS + 5.0 * YEAR_DAYS
    capacity = by_law(days, *PRIOR)
    marks = told(WEEKS, capacity)
    aware = life.life(life.older(marks, 5.0, 5.0 * YEAR_DAYS), AGEING, 0.7).median[0, 0, 0]
    unaware = life.life(marks, AGEING, 0.7).median[0, 0, 0]
    every = np.arange(0.0, 40.0 * YEAR_DAYS)
    truth = float(np.argmax(by_law(days[-1] + every, *PRIOR) < 0.7))
    assert aware == pytest.approx(truth, rel=0.2)
    assert abs(aware - truth) < abs(unaware - truth)


@pytest.mark.parametrize("per_day", [0.3, 1.0])
def test_the_future_is_used_as_the_last_year_was(per_day):
    a, b = 0.2 * PRIOR[0], 2.0 * PRIOR[1]
    change = WEEKS[-1] - 1.1 * YEAR_DAYS

    def cycles(days):
        return np.minimum(days, change) + per_day * np.maximum(days - change, 0.0)

    def capacity(days):
        return 1.0 - a * np.sqrt(days / YEAR_DAYS) - b * cycles(days) ** AGEING.cycle_power

    marks = told(WEEKS, capacity(WEEKS))
    marks = replace(marks, cycles=cycles(marks.age_days)[:, None])
    marks = replace(marks, wear=replace(marks.wear, cycles=marks.cycles[-1]))
    truth = np.argmax(capacity(WEEKS[-1] + np.arange(0.0, 40.0 * YEAR_DAYS)) < 0.8)
    np.testing.assert_allclose(life.life(marks, AGEING, 0.8).median, truth, rtol=0.2)
