"""What was thought of the cells, marked once a week, and the trend of their resistance.

Marks are few: when there are more than MOST, one that is older than the trend's 91 days goes, the one with the closest
neighbours, so that the old ones end evenly spaced. A value that did not change since the mark before is no news: NaN.

Trend: slope after Theil and Sen, the median of the slopes of all pairs of marks within 91 days (P. K. Sen, "Estimates
of the regression coefficient based on Kendall's tau", 1968). Its sigma is that of the residuals, and never below
DRIFT_PER_YEAR: the model's error over temperature moves with the season. A wild mark widens sigma and moves no slope.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bmsd.core.estimation.known import median
from bmsd.core.estimation.wear import YEAR_DAYS
from bmsd.model.history import History, Singles, Wear
from bmsd.model.snapshot import Bools, Floats

MARK_DAYS = 7.0
TREND_DAYS = 91.0
MOST = 64
KNOWN_SIGMA = 0.02
"""A capacity less sure than this is mostly the data sheet's."""
KNOWN_RESISTANCE_SIGMA = 0.1
LEAST_MARKS, LEAST_DAYS = 4, 27.0
DRIFT_PER_YEAR = 0.04
"""Of the factor of resistance, standard deviation: a third of what is systematic in it may change within a season."""
SEN_SIGMA = 1.05
"""Of Theil's and Sen's slope over that of least squares, where errors are normal."""
STUDENT = 1.7
"""A scatter of few marks is itself not known well: two sigma of Student's distribution, roughly."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What is thought of the cells now (strings, modules, cells): shares with sigma, as in `History`."""

    capacity: Floats
    capacity_sigma: Floats
    resistance: Floats
    resistance_sigma: Floats


@dataclass(frozen=True, slots=True)
class Trend:
    """Change of the factor of resistance per year, with sigma (strings, modules, cells); NaN: too few marks."""

    per_year: Singles
    sigma: Singles


def start(wear: Wear, shape: tuple[int, int, int]) -> History:
    """No mark."""
    none = np.empty((0, *shape), dtype=np.float32)
    strings = np.empty((0, shape[0]))
    return History(wear, np.empty(0), strings, strings, none, none, none, none)


def due(was: History, wear: Wear) -> bool:
    """Whether it is time for a mark."""
    last = was.age_days[-1] if len(was.age_days) else 0.0
    return bool(wear.age_days - last >= MARK_DAYS)


def marked(was: History, wear: Wear, seen: Seen) -> History:
    """The history with a mark of now."""
    capacity, capacity_sigma = _news(was.capacity, seen.capacity, seen.capacity_sigma, KNOWN_SIGMA)
    ohms, ohms_sigma = _news(was.resistance, seen.resistance, seen.resistance_sigma, KNOWN_RESISTANCE_SIGMA)
    keep = _kept(np.append(was.age_days, wear.age_days))
    news = {
        "age_days": wear.age_days, "warm_years": wear.warm_years, "cycles": wear.cycles,
        "capacity": capacity, "capacity_sigma": capacity_sigma, "resistance": ohms, "resistance_sigma": ohms_sigma,
    }  # fmt: skip
    grown: dict[str, Any] = {}
    for name, new in news.items():
        old = getattr(was, name)
        grown[name] = np.concatenate([old, np.asarray(new, dtype=old.dtype)[None]])[keep]
    return replace(was, wear=wear, **grown)


def forgotten(was: History, modules: Bools) -> History:
    """The history without the marks of these modules (strings, modules)."""
    gone, unknown = modules[:, :, None], np.float32(np.nan)
    return replace(
        was,
        capacity=np.where(gone, unknown, was.capacity),
        capacity_sigma=np.where(gone, unknown, was.capacity_sigma),
        resistance=np.where(gone, unknown, was.resistance),
        resistance_sigma=np.where(gone, unknown, was.resistance_sigma),
    )


def trend(history: History) -> Trend:
    """Trend of the resistance over the last marks, as far as their distance in time is known."""
    recent = history.age_days >= max(history.wear.age_days - TREND_DAYS, history.wear.undated_days)
    years, values = history.age_days[recent] / YEAR_DAYS, history.resistance[recent].astype(np.float64)
    known = np.isfinite(values)
    times = np.where(known, years.reshape(-1, 1, 1, 1), np.nan)
    earlier, later = np.triu_indices(len(years), 1)
    slope = _median((values[later] - values[earlier]) / (years[later] - years[earlier]).reshape(-1, 1, 1, 1))
    count = known.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        level = values - slope * times
        left = np.maximum(count - 2, 1)
        square = np.where(known, np.square(level - _median(level)), 0.0).sum(axis=0)
        scatter = np.sqrt(square / left) * (1.0 + STUDENT / left)
        width = np.where(known, np.square(times - _median(times)), 0.0).sum(axis=0)
        span = np.fmax.reduce(times, axis=0, initial=-np.inf) - np.fmin.reduce(times, axis=0, initial=np.inf)
        sigma = np.hypot(SEN_SIGMA * scatter / np.sqrt(width), DRIFT_PER_YEAR)
    enough = (count >= LEAST_MARKS) & (span * YEAR_DAYS >= LEAST_DAYS)
    return Trend(*(np.where(enough, values, np.nan).astype(np.float32) for values in (slope, sigma)))


def _median(values: Floats) -> Floats:
    """Of the known marks."""
    return median(np.moveaxis(values, 0, -1))


def latest(marks: Singles) -> Singles:
    """The newest known value of each cell; NaN where there never was one."""
    found = np.full(marks.shape[1:], np.nan, dtype=np.float32)
    for mark in marks:
        found = np.where(np.isfinite(mark), mark, found)
    return found


def _news(marks: Singles, values: Floats, sigma: Floats, most: float) -> tuple[Singles, Singles]:
    """Values with their sigma where they are known well enough and differ from the last known ones, else NaN."""
    new, new_sigma = values.astype(np.float32), sigma.astype(np.float32)
    with np.errstate(invalid="ignore"):
        news = np.isfinite(new) & (new_sigma <= most) & (new != latest(marks))
    unknown = np.float32(np.nan)
    return np.where(news, new, unknown), np.where(news, new_sigma, unknown)


def _kept(age_days: Floats) -> NDArray[np.int64]:
    """Numbers of the marks to keep: when there are too many, the old one with the closest neighbours goes."""
    every = np.arange(len(age_days))
    if len(every) <= MOST:
        return every
    wide = age_days[2:] - age_days[:-2]
    old = age_days[1:-1] < age_days[-1] - TREND_DAYS
    return np.delete(every, 1 + int(np.where(old, wide, np.inf).argmin()))
