"""Self-discharge of each cell beyond its string's: how the ledger drifts apart from what was bled.

Theory of operation. Charge above full-by-comparison plus all that was bled from the cell would stay what it is if no
cell drained itself. Looks at it, one after each visit at the top, are kept for a week and for thirty days, at most
LOOKS of each, and a line through them (least squares) is the drift; less the median of the string it is the leak,

    leak_k = -(slope_k - median slope),   sigma^2 = s^2 / sum (t - mean t)^2 + (0.05 bled / span)^2,

s = ANCHOR_SIGMA being what one look may be wrong by, and 5 % what the bleeders' resistance may. Time is the ledger's
own clock: it goes on over a restart if it is known how long that took, otherwise the looks before it are forgotten.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bmsd.core.estimation.known import median
from bmsd.model.snapshot import Bools, Floats

DAY_S, HOUR_S = 86400.0, 3600.0
WEEK_S, MONTH_S = 7.0 * DAY_S, 30.0 * DAY_S
LOOKS = 8
ANCHOR_SIGMA = 0.003
"""What a look may be wrong by from one time to the next, in capacities."""
BLEED_SIGMA = 0.05
"""What the current of a bleeder may be wrong by."""
LEAST_SPAN = 0.3
"""Of the window, that looks must cover to tell a drift."""
_EARLY = 0.85
"""Looks are taken on the days, not at the hours."""


@dataclass(frozen=True, slots=True)
class Window:
    """Looks of the last `length_s`, the newest last: times by the ledger's clock in s (looks, strings), NaN: none, and
    charge in Ah (looks, strings, modules, cells). `bled_ah`: bled from each cell, forgotten with this length."""

    length_s: float
    times_s: Floats
    charge_ah: Floats
    bled_ah: Floats

    @property
    def every_s(self) -> float:
        """Time from look to look."""
        return self.length_s / (LOOKS - 1)


@dataclass(frozen=True, slots=True)
class Leaks:
    """Leak above the median of the string in mA with sigma, per cell; NaN: not known. Over a week, and the better known
    of that and of what thirty days tell."""

    week_ma: Floats
    week_sigma_ma: Floats
    ma: Floats
    sigma_ma: Floats


def start(shape: tuple[int, int, int], length_s: float) -> Window:
    """No look yet."""
    return Window(length_s, np.full((LOOKS, shape[0]), np.nan), np.full((LOOKS, *shape), np.nan), np.zeros(shape))


def unknown(shape: tuple[int, int, int]) -> Leaks:
    """Nothing known."""
    nan = np.full(shape, np.nan)
    return Leaks(nan, nan, nan, nan)


def bled(was: Window, amount_ah: Floats, dt_s: float) -> Window:
    """The window with this bled from the cells meanwhile."""
    return replace(was, bled_ah=was.bled_ah * np.exp(-dt_s / was.length_s) + amount_ah)


def looked(was: Window, now_s: float, charge_ah: Floats, strings: Bools) -> Window:
    """The window with a look at these strings (strings,), where one is due."""
    with np.errstate(invalid="ignore"):
        due = strings & ~(now_s - was.times_s[-1] < _EARLY * was.every_s)
    if not due.any():
        return was
    times_s = np.concatenate((was.times_s[1:], np.full((1, len(due)), now_s)))
    charge = np.concatenate((was.charge_ah[1:], charge_ah[None]))
    with np.errstate(invalid="ignore"):
        times_s = np.where(now_s - times_s <= was.length_s + 0.5 * was.every_s, times_s, np.nan)
    return replace(
        was,
        times_s=np.where(due, times_s, was.times_s),
        charge_ah=np.where(due[:, None, None], charge, was.charge_ah),
    )


def leaks(week: Window, month: Window, capacity_ah: float) -> Leaks:
    """What both windows tell."""
    week_ma, week_sigma = _leak_ma(week, capacity_ah)
    month_ma, month_sigma = _leak_ma(month, capacity_ah)
    with np.errstate(invalid="ignore"):
        longer = np.isfinite(month_sigma) & ~(week_sigma <= month_sigma)
    return Leaks(week_ma, week_sigma, np.where(longer, month_ma, week_ma), np.where(longer, month_sigma, week_sigma))


def _leak_ma(window: Window, capacity_ah: float) -> tuple[Floats, Floats]:
    hours = window.times_s[:, :, None, None] / HOUR_S
    known = np.isfinite(hours) & np.isfinite(window.charge_ah)
    count = known.sum(axis=0)
    hours = np.where(known, hours, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        apart = np.where(known, hours - hours.sum(axis=0) / count, 0.0)
        square = np.square(apart).sum(axis=0)
        slope = (apart * np.where(known, window.charge_ah, 0.0)).sum(axis=0) / square
        span_h = apart.max(axis=0) - apart.min(axis=0)
        usable = (count >= 3) & (span_h * HOUR_S >= LEAST_SPAN * window.length_s)
        slope = np.where(usable, slope, np.nan)
        bled_ah = np.abs(window.bled_ah - middle(np.where(usable, window.bled_ah, np.nan)))
        variance = np.square(ANCHOR_SIGMA * capacity_ah) / square + np.square(BLEED_SIGMA * bled_ah / span_h)
    # one cell alone, and two that differ, tell nothing of which of them leaks
    usable &= usable.sum(axis=(1, 2), keepdims=True) >= 3
    leak_a = np.where(usable, middle(slope) - slope, np.nan)
    return 1e3 * leak_a, 1e3 * np.sqrt(np.where(usable, variance, np.nan))


def middle(values: Floats) -> Floats:
    """Median of the known values of each string, as (strings, 1, 1); NaN: none is known."""
    return median(values.reshape(len(values), -1))[:, None, None]
