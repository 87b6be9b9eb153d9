"""How long cells will last: a law of ageing, fitted to the marks of each cell.

Theory of operation. Capacity falls and resistance rises with the square root of time and with a power of the cycles,
the form of NREL's BLAST-Lite,

    q = c - A sqrt(warm years) - B cycles^p,     r = c + A' sqrt(warm years) + B' cycles^p,

linear in what is sought. The cell file's `[ageing]` is the prior of A and B, 1 that of c; marks count by their
variance, and as an estimate remembers for about MEMORY_DAYS, marks that follow each other faster are one reading
together. The rack is taken to be used on as in the last year. What is forecast is a normal distribution at every time
to come; its standard deviation is that of the fit, and `sigma_share` of the change from now on: the law is not the
cell. The time at which 9, 5 or 1 of 10 such cells would still be good is the low, median and high remaining life.
Capacity below `end_of_life`, or a resistance over END_RESISTANCE of that when new, is the end, whichever is sooner.

Knee guard: where a cell was below its law at every mark of KNEE_DAYS, and by more than KNEE_SIGMA on average, the
straight line through these marks goes on if it is steeper.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bmsd.core.estimation.history import LEAST_MARKS
from bmsd.core.estimation.wear import YEAR_DAYS
from bmsd.model.cell import Ageing
from bmsd.model.history import History, Wear
from bmsd.model.snapshot import Floats

LEAST_DAYS = 91.0
MEMORY_DAYS = 28.0
LONGEST_YEARS = 40.0
END_RESISTANCE = 1.5
CAPACITY_START_SIGMA, RESISTANCE_START_SIGMA = 0.05, 0.2
RESISTANCE_PER_LOSS = 1.18
"""Rise of the resistance over loss of capacity: Naumann's 14 storage conditions up to 40 degC."""
KNEE_DAYS, KNEE_MARKS, KNEE_SIGMA = 91.0, 5, 2.0
DECILE = 1.2816
"""Of the normal distribution: 10 % lie below minus this."""
AHEAD_YEARS = LONGEST_YEARS * np.linspace(0.0, 1.0, 61) ** 2


@dataclass(frozen=True, slots=True)
class Use:
    """Abscissas of the law of ageing (times, strings)."""

    warm_years: Floats
    cycles: Floats

    def terms(self, ageing: Ageing, sign: float) -> Floats:
        """Factors of c, A and B (times, strings, 3)."""
        one = np.ones_like(self.cycles)
        return np.stack([one, sign * np.sqrt(self.warm_years), sign * self.cycles**ageing.cycle_power], axis=-1)


@dataclass(frozen=True, slots=True)
class Law:
    """c, A and B of each cell: mean (strings, modules, cells, 3) and covariance (..., 3, 3). `sign` -1: it falls."""

    mean: Floats
    covariance: Floats
    sign: float


@dataclass(frozen=True, slots=True)
class Life:
    """Remaining life in days as of `age_days`: low (9 of 10 cells like this one last longer), median and high.

    (strings, modules, cells); NaN: followed for less than LEAST_DAYS. `followed_days` (strings, modules, cells): time
    between the first and the last mark of its capacity, 0 where there is none.
    """

    age_days: float
    low: Floats
    median: Floats
    high: Floats
    followed_days: Floats


def start(shape: tuple[int, int, int]) -> Life:
    """Nothing known."""
    unknown = np.full(shape, np.nan)
    return Life(0.0, unknown, unknown, unknown, np.zeros(shape))


def life(history: History, ageing: Ageing, end_of_life: float) -> Life:
    """Remaining life of every cell. `end_of_life`: capacity over the nominal one."""
    followed = _followed_days(history.age_days, history.capacity)
    future = ahead(history)
    left, sigma = forecast(history, ageing, future, AHEAD_YEARS)
    worn, worn_sigma = _resistance_margin(history, ageing, future)
    known = followed >= LEAST_DAYS
    answers = []
    for decile in (-DECILE, 0.0, DECILE):
        days = np.fmin(_crossing_days(left - end_of_life + decile * sigma), _crossing_days(worn + decile * worn_sigma))
        answers.append(np.where(known, days, np.nan))
    return Life(history.wear.age_days, answers[0], answers[1], answers[2], followed)


def older(history: History, warm_years: float, cycles: float) -> History:
    """The history of a rack that was that old and used before it began."""
    wear = history.wear
    return replace(
        history,
        wear=replace(wear, warm_years=wear.warm_years + warm_years, cycles=wear.cycles + cycles),
        warm_years=history.warm_years + warm_years,
        cycles=history.cycles + cycles,
    )


def fitted(history: History, ageing: Ageing, *, resistance: bool = False) -> Law:
    """The law of every cell's capacity, or of its resistance, after all marks."""
    values, sigma = (history.resistance, history.resistance_sigma) if resistance else (
        history.capacity, history.capacity_sigma)  # fmt: skip
    sign, gain = (1.0, RESISTANCE_PER_LOSS) if resistance else (-1.0, 1.0)
    start_sigma = RESISTANCE_START_SIGMA if resistance else CAPACITY_START_SIGMA
    prior = np.array([1.0, gain * ageing.calendar_per_sqrt_year, gain * ageing.cycle_per_efc])
    prior_sigma = np.array([start_sigma, *((2.0 if resistance else 1.0) * ageing.sigma_share * prior[1:])])
    terms = Use(history.warm_years, history.cycles).terms(ageing, sign)
    known = np.isfinite(values)
    weight = np.where(known, _count(history.age_days) / np.square(sigma.astype(np.float64)), 0.0)
    told = np.where(known, values.astype(np.float64), 0.0)
    precision = np.einsum("tsmc,tsi,tsj->smcij", weight, terms, terms) + np.diag(1.0 / prior_sigma**2)
    product = np.einsum("tsmc,tsi->smci", weight * told, terms) + prior / prior_sigma**2
    # terms differ by orders of magnitude: solved in units of the prior
    scaled = precision * prior_sigma[:, None] * prior_sigma
    covariance = np.linalg.inv(scaled) * prior_sigma[:, None] * prior_sigma
    return Law(np.einsum("smcij,smcj->smci", covariance, product), covariance, sign)


def forecast(history: History, ageing: Ageing, ahead: Use, years: Floats) -> tuple[Floats, Floats]:
    """Capacity of every cell and its sigma (times, strings, modules, cells) at this use, so many `years` from now.

    The first of these times is now.
    """
    law = fitted(history, ageing)
    mean, variance = _moments(law, ahead.terms(ageing, law.sign))
    return _with_form(np.fmin(mean, _knee(history, ageing, law, years)), variance, ageing)


def _moments(law: Law, terms: Floats) -> tuple[Floats, Floats]:
    """Mean and variance (times, strings, modules, cells) of `terms` (times, strings, 3) applied to the law."""
    mean = np.einsum("tsi,smci->tsmc", terms, law.mean)
    return mean, np.einsum("tsi,smcij,tsj->tsmc", terms, law.covariance, terms)


def _with_form(mean: Floats, variance: Floats, ageing: Ageing) -> tuple[Floats, Floats]:
    """Mean, and sigma by the fit and by a share of the change since the first time: the law is not the cell."""
    return mean, np.sqrt(np.maximum(variance, 0.0) + np.square(ageing.sigma_share * (mean - mean[:1])))


def _resistance_margin(history: History, ageing: Ageing, ahead: Use) -> tuple[Floats, Floats]:
    """How far the resistance is below END_RESISTANCE of the new one; NaN without marks of it."""
    law = fitted(history, ageing, resistance=True)
    terms = ahead.terms(ageing, -1.0)
    terms[..., 0] = END_RESISTANCE - 1.0
    mean, sigma = _with_form(*_moments(law, terms), ageing)
    known = _followed_days(history.age_days, history.resistance) >= LEAST_DAYS
    return np.where(known, mean, np.nan), np.where(known, sigma, np.nan)


def _knee(history: History, ageing: Ageing, law: Law, ahead_years: Floats) -> Floats:
    """Capacity at these years by the straight line of the last marks, where all of them lay below the law; else NaN."""
    recent = history.age_days >= history.wear.age_days - KNEE_DAYS
    years = (history.age_days[recent] - history.wear.age_days) / YEAR_DAYS
    values = history.capacity[recent].astype(np.float64)
    use = Use(history.warm_years[recent], history.cycles[recent])
    by_law = np.einsum("tsi,smci->tsmc", use.terms(ageing, law.sign), law.mean)
    known = np.isfinite(values)
    count = np.maximum(known.sum(axis=0), 1)
    away = np.where(known, values - by_law, 0.0)
    sigma = np.where(known, history.capacity_sigma[recent], 0.0).sum(axis=0) / count
    doubt = KNEE_SIGMA * sigma / np.sqrt(1.0 + KNEE_DAYS / (2.0 * MEMORY_DAYS))
    below = (known.sum(axis=0) >= KNEE_MARKS) & (away <= 0.0).all(axis=0) & (away.sum(axis=0) / count < -doubt)
    when = np.where(known, years.reshape(-1, 1, 1, 1), 0.0)
    told = np.where(known, values, 0.0)
    mean_when, mean_told = when.sum(axis=0) / count, told.sum(axis=0) / count
    apart = np.where(known, when - mean_when, 0.0)
    slope = (apart * told).sum(axis=0) / np.maximum(np.square(apart).sum(axis=0), 1e-9)
    line = mean_told + slope * (ahead_years.reshape(-1, 1, 1, 1) - mean_when)
    return np.where(below & (slope < 0.0), line, np.nan)


def ahead(history: History) -> Use:
    """Use at AHEAD_YEARS from now, at the pace of the last year."""
    wear = history.wear
    first = _year_ago(history)
    years = max(wear.age_days - first.age_days, 1.0) / YEAR_DAYS
    times = AHEAD_YEARS[:, None] / years
    return Use(
        wear.warm_years + times * (wear.warm_years - first.warm_years),
        wear.cycles + times * (wear.cycles - first.cycles),
    )


def _year_ago(history: History) -> Wear:
    """Wear at the newest mark that is a year old, or at the first."""
    old = np.flatnonzero(history.age_days <= history.wear.age_days - YEAR_DAYS)
    at = int(old[-1]) if len(old) else 0
    return Wear(float(history.age_days[at]), history.warm_years[at], history.cycles[at])


def _count(age_days: Floats) -> Floats:
    """What each mark counts (marks, 1, 1, 1): by the time since the one before it."""
    apart = np.diff(age_days, prepend=age_days[:1] - 2.0 * MEMORY_DAYS)
    return np.minimum(apart / (2.0 * MEMORY_DAYS), 1.0).reshape(-1, 1, 1, 1)


def _followed_days(age_days: Floats, values: Floats | np.ndarray) -> Floats:
    """Time between the first and the last known mark, 0 where there are fewer than LEAST_MARKS."""
    known = np.isfinite(values)
    when = age_days.reshape(-1, 1, 1, 1)
    last = np.where(known, when, -np.inf).max(axis=0, initial=-np.inf)
    first = np.where(known, when, np.inf).min(axis=0, initial=np.inf)
    return np.where(known.sum(axis=0) >= LEAST_MARKS, last - first, 0.0)


def _crossing_days(margin: Floats) -> Floats:
    """Days until the margin (times, ...) at AHEAD_YEARS falls below 0 for the first time; the longest where it never
    does, NaN where it is not known."""
    below = margin < 0.0
    at = np.where(below.any(axis=0), below.argmax(axis=0), len(margin) - 1)
    before = np.maximum(at - 1, 0)
    high, low = (np.take_along_axis(margin, place[None], axis=0)[0] for place in (before, at))
    part = np.clip(high / np.where(high > low, high - low, 1.0), 0.0, 1.0)
    years = np.where(at == 0, 0.0, AHEAD_YEARS[before] + part * (AHEAD_YEARS[at] - AHEAD_YEARS[before]))
    years = np.where(below.any(axis=0), years, LONGEST_YEARS)
    return np.where(np.isnan(margin).any(axis=0), np.nan, years * YEAR_DAYS)
