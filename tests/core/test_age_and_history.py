"""How old a rack is, whatever its clock says; marks that stay few; the trend of its resistance."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bmsd.core.estimation import history, wear
from bmsd.core.estimation.history import Seen
from bmsd.model.history import Wear
from bmsd.model.host import ClockQuality
from tests import rack

PLANT = rack.plant(cells=4, sensors=2)
SHAPE = PLANT.layout.cell_shape
UTC_S = 1.8e9
DAY_S = 86400.0
SET, FREE, UNSET = ClockQuality.SYNCHRONISED, ClockQuality.UNSYNCHRONISED, ClockQuality.UNSET


def aged(was: wear.WearMemory, seconds: float, utc_s: float | None, quality=SET, degc: float = 25.0, amps: float = 0.0):
    """The wear after this time; the clock reads `utc_s` at its end."""
    snap = replace(rack.snapshot(PLANT, 100.0, temperature_degc=degc, utc_quality=quality), utc_s=utc_s)
    moved = wear.moved(was, np.array([amps]), PLANT.cell.capacity_ah, seconds)
    return wear.step(moved, snap, 4500.0)


def off(was: wear.WearMemory) -> wear.WearMemory:
    return wear.after_off(was.wear)


def test_age_is_the_time_that_passed_and_cycles_are_the_charge():
    now = aged(wear.start(1), 10 * DAY_S, UTC_S, amps=-14.0)
    assert now.wear.age_days == pytest.approx(10.0)
    assert now.wear.warm_years[0] == pytest.approx(10.0 / 365.25)
    assert now.wear.cycles[0] == pytest.approx(0.5 * 10 * 24 * 14.0 / 280.0)


def test_warm_time_ages_faster_and_an_unknown_temperature_counts_as_25_degc():
    warm = aged(wear.start(1), DAY_S, UTC_S, degc=40.0).wear.warm_years[0]
    assert warm * 365.25 == pytest.approx(np.exp(9000.0 * (1 / 298.15 - 1 / 313.15)), rel=1e-6)
    assert aged(wear.start(1), DAY_S, UTC_S, degc=np.nan).wear.warm_years[0] * 365.25 == pytest.approx(1.0)


def test_an_unknown_current_counts_as_none():
    assert aged(wear.start(1), DAY_S, UTC_S, amps=np.nan).wear.cycles[0] == 0.0


@pytest.mark.parametrize("step_days", [-3650.0, -1.0, 0.5, 3650.0])
@pytest.mark.parametrize("quality", [SET, FREE])
def test_setting_the_clock_changes_no_age(step_days, quality):
    now = aged(wear.start(1), DAY_S, UTC_S, quality)
    now = aged(now, DAY_S, UTC_S + DAY_S + step_days * DAY_S, quality)
    assert now.wear.age_days == pytest.approx(2.0)
    assert now.wear.undated_days == -np.inf


@pytest.mark.parametrize("days", [0.0, 0.2, 45.0, 2000.0])
def test_a_synchronised_clock_tells_how_long_the_rack_was_off(days):
    now = off(aged(wear.start(1), 10 * DAY_S, UTC_S))
    now = aged(now, 60.0, UTC_S + 60.0 + days * DAY_S)
    assert not now.off
    assert now.wear.age_days == pytest.approx(10.0 + 60.0 / DAY_S + days)
    assert now.wear.warm_years[0] * 365.25 == pytest.approx(now.wear.age_days, rel=1e-6)
    assert now.wear.undated_days == -np.inf


@pytest.mark.parametrize("days", [-1.0, 40.0, 4000.0])
def test_another_clock_is_believed_for_a_month_at_most(days):
    now = off(aged(wear.start(1), 10 * DAY_S, UTC_S, FREE))
    now = aged(now, wear.UNSET_FOR_S, UTC_S + wear.UNSET_FOR_S + days * DAY_S, FREE)
    assert not now.off
    assert now.wear.age_days == pytest.approx(10.0, abs=0.1)
    assert now.wear.undated_days == now.wear.age_days


@pytest.mark.parametrize("days", [-400.0, 4000.0])
def test_a_time_off_that_cannot_be_counts_as_none_and_is_remembered(days):
    now = aged(off(aged(wear.start(1), 10 * DAY_S, UTC_S)), 60.0, UTC_S + days * DAY_S)
    assert now.wear.age_days == pytest.approx(10.0, abs=0.1)
    assert now.wear.undated_days == now.wear.age_days


def test_a_clock_that_nobody_has_set_yet_is_waited_for():
    now = off(aged(wear.start(1), 10 * DAY_S, UTC_S))
    early = aged(now, 600.0, UTC_S - 1e6, FREE)
    assert early.off
    late = aged(early, 60.0, UTC_S + 5 * DAY_S)
    assert late.wear.age_days == pytest.approx(15.0, abs=0.02)
    never = aged(early, wear.UNSET_FOR_S, None, UNSET)
    assert not never.off
    assert never.wear.undated_days == never.wear.age_days


def test_a_free_clock_does_not_replace_what_a_synchronised_one_said():
    now = aged(wear.start(1), 10 * DAY_S, UTC_S)
    now = aged(now, 2 * wear.UNSET_FOR_S, UTC_S - 1e9, FREE)
    assert (now.wear.utc_s, now.wear.exact) == (UTC_S, True)


def seen(capacity, resistance=1.0, capacity_sigma=0.01, resistance_sigma=0.03) -> Seen:
    return Seen(*(np.broadcast_to(v, SHAPE) for v in (capacity, capacity_sigma, resistance, resistance_sigma)))


def at(age_days: float, **more) -> Wear:
    return Wear(age_days, np.array([age_days / 365.25]), np.array([age_days]), **more)


def marked(days, values, resistance_sigma=0.03, **more):
    """A history with a mark at each of these days; `values` are resistances of all cells, or of each."""
    now = history.start(at(0.0), SHAPE)
    for day, value in zip(days, values, strict=True):
        now = history.marked(now, at(day, **more), seen(1.0 - day * 1e-4, value, resistance_sigma=resistance_sigma))
    return now


def test_a_mark_is_due_once_a_week_and_the_first_after_a_week():
    empty = history.start(at(0.0), SHAPE)
    assert not history.due(empty, at(6.9))
    assert history.due(empty, at(7.0))
    once = history.marked(empty, at(7.0), seen(0.98))
    assert not history.due(once, at(13.9))
    assert history.due(once, at(14.0))


def test_what_did_not_change_or_is_not_sure_is_no_news():
    capacity = np.array([0.98, 0.97, np.nan, 0.96]).reshape(SHAPE)
    sigma = np.array([0.01, 0.03, 0.01, 0.01]).reshape(SHAPE)
    once = history.marked(history.start(at(0.0), SHAPE), at(7.0), seen(capacity, capacity_sigma=sigma))
    np.testing.assert_array_equal(np.isfinite(once.capacity[0, 0, 0]), [True, False, False, True])
    assert (np.isfinite(once.capacity) == np.isfinite(once.capacity_sigma)).all()
    again = history.marked(once, at(14.0), seen(np.where(capacity == 0.98, 0.979, capacity)))
    np.testing.assert_array_equal(np.isfinite(again.capacity[1, 0, 0]), [True, True, False, False])
    assert not np.isfinite(again.resistance[1]).any(), "1.0 was known before"
    third = history.marked(again, at(21.0), seen(capacity))
    assert np.isfinite(third.capacity[2, 0, 0, 0]), "compared to the newest that is known, not to the first"


def test_twenty_years_of_marks_stay_few_and_the_last_91_days_complete():
    now = history.start(at(0.0), SHAPE)
    for week in range(1, 1044):
        now = history.marked(now, at(7.0 * week), seen(1.0 - week * 1e-4))
        assert len(now.age_days) <= history.MOST
    assert now.age_days[0] == 7.0
    assert (np.diff(now.age_days) > 0.0).all()
    assert (now.age_days >= now.age_days[-1] - 91.0).sum() == 14
    assert np.diff(now.age_days).max() <= 4.0 * np.diff(now.age_days)[1:49].min()
    assert now.capacity.nbytes < 300 * np.prod(SHAPE)


def test_the_trend_is_the_slope_and_one_wild_mark_does_not_move_it():
    days = 7.0 * np.arange(1, 14)
    random = np.random.default_rng(5)
    values = 1.0 + 0.2 * days / 365.25 + 0.004 * random.standard_normal(len(days))
    values[6] = 1.5
    found = history.trend(marked(days, values))
    np.testing.assert_allclose(found.per_year, 0.2, atol=0.05)
    assert (found.sigma >= history.DRIFT_PER_YEAR).all()
    assert (np.abs(found.per_year - 0.2) < 2.0 * found.sigma).all()


def test_the_sigma_of_the_trend_holds_the_truth():
    random = np.random.default_rng(11)
    inside = []
    for _ in range(100):
        days = 7.0 * np.arange(1, 14)
        noise = 0.03 * random.standard_normal((len(days), *SHAPE))
        values = [1.0 + 0.3 * day / 365.25 + one for day, one in zip(days, noise, strict=True)]
        found = history.trend(marked(days, values))
        inside.append(np.abs(found.per_year - 0.3) < 2.0 * found.sigma)
    assert 0.94 < np.mean(inside) < 0.99


@pytest.mark.parametrize("days", [[], [7.0], [7.0, 14.0, 21.0], [1.0, 2.0, 3.0, 4.0, 5.0]])
def test_too_few_marks_tell_no_trend(days):
    found = history.trend(marked(days, [1.0 + 0.01 * k for k in range(len(days))]))
    assert np.isnan(found.per_year).all()
    assert np.isnan(found.sigma).all()


def test_marks_before_a_time_off_that_nobody_knows_tell_no_trend():
    days = 7.0 * np.arange(1, 14)
    values = np.where(days < 60.0, 1.0, 1.2) + 1e-4 * days
    assert history.trend(marked(days, values)).per_year.max() > 0.5
    after = history.trend(marked(days, values, undated_days=60.0))
    np.testing.assert_allclose(after.per_year, 1e-4 * 365.25, atol=1e-3)


def test_cells_without_news_have_no_trend_and_harm_no_other():
    days = 7.0 * np.arange(1, 14)
    values = [np.array([1.0 + 0.001 * k, np.nan, 1.0, 1.0 + 0.002 * k]).reshape(SHAPE) for k in range(13)]
    found = history.trend(marked(days, values)).per_year[0, 0]
    np.testing.assert_array_equal(np.isfinite(found), [True, False, False, True])
