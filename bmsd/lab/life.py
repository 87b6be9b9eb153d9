"""`bmsd life`: a log of a cell's capacity through the very law of ageing that a rack's cells are fitted to."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from bmsd.core.estimation import life
from bmsd.core.estimation.life import AHEAD_YEARS, KNEE_DAYS, KNEE_MARKS, LEAST_DAYS, LONGEST_YEARS
from bmsd.core.estimation.wear import DAY_S, YEAR_DAYS
from bmsd.errors import BmsdError
from bmsd.lab.capacity_log import Log
from bmsd.lab.table import Table
from bmsd.model.cell import Ageing
from bmsd.model.history import History
from bmsd.model.snapshot import Floats

OUTPUTS = {".png": ("a plot", "matplotlib"), ".csv": None}
COLUMNS = ("days", "capacity", "sigma")


def answer(log: Log, nominal_ah: float, ageing: Ageing, end_of_life: float) -> Iterator[str]:
    """Yield what the log tells, a line each."""
    yield f"{log.name}: {len(log.days)} rows taken, {len(log.rejected)} rejected"
    yield from (f"{log.name}: {line}" for line in log.rejected)
    history = log.history(nominal_ah, ageing)
    share, followed = log.capacity_ah[-1] / nominal_ah, log.days[-1] - log.days[0]
    yield f"capacity {log.capacity_ah[-1]:.4g} Ah, {100.0 * share:.1f} % of nominal, followed for {followed:.0f} days"
    if followed < LEAST_DAYS:
        yield f"remaining life: not told before {LEAST_DAYS:.0f} days"
        return
    found = life.life(history, ageing, end_of_life)
    low, median, high = (float(days[0, 0, 0]) for days in (found.low, found.median, found.high))
    if high <= 0.0:
        yield f"remaining life until {100.0 * end_of_life:g} %: none, the end has passed"
        return
    yield f"remaining life until {100.0 * end_of_life:g} %: {_years(median)}"
    yield f"9 of 10 such cells last longer than {_years(low)}, 1 of 10 longer than {_years(high)}"
    if log.utc_s is not None:
        when, first, last = (_date(log.utc_s, days) for days in (median, low, high))
        yield f"it ends {when}, 8 of 10 between {first} and {last}"
    late = int(np.count_nonzero(log.days >= log.days[-1] - KNEE_DAYS))
    if late < KNEE_MARKS:
        yield (
            f"a knee would not be seen: {late} rows in the last {KNEE_DAYS:.0f} days, expected at least "
            f"{KNEE_MARKS}; a cell that has begun to lose faster ends sooner than this"
        )


def forecast(history: History, ageing: Ageing) -> tuple[Floats, Floats, Floats]:
    """Days, capacity over the nominal one and its sigma, from the last row on."""
    mean, sigma = life.forecast(history, ageing, life.ahead(history), AHEAD_YEARS)
    return history.wear.age_days + AHEAD_YEARS * YEAR_DAYS, mean[:, 0, 0, 0], sigma[:, 0, 0, 0]


def write(log: Log, nominal_ah: float, ageing: Ageing, end_of_life: float, output: Path) -> None:
    """The forecast as CSV, or as a plot with the log."""
    history = log.history(nominal_ah, ageing)
    days, mean, sigma = forecast(history, ageing)
    if output.suffix == ".png":
        _plot(log, nominal_ah, end_of_life, (days, mean, sigma), output)
        return
    table = Table(output, COLUMNS)
    for row in zip(days.tolist(), mean.tolist(), sigma.tolist(), strict=True):
        table.add(list(row))
    table.write()


def _plot(log: Log, nominal_ah: float, end: float, ahead: tuple[Floats, Floats, Floats], output: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    days, mean, sigma = ahead
    shown = days <= days[0] + max(3.0 * (days[0] - log.days[0]), 1.2 * (days[np.argmax(mean < end)] - days[0]))
    figure = Figure(figsize=(8, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    axis.plot(log.days, log.capacity_ah / nominal_ah, ".", label=log.name)
    axis.plot(days[shown], mean[shown], label="forecast")
    low, high = (mean + part * life.DECILE * sigma for part in (-1.0, 1.0))
    axis.fill_between(days[shown], low[shown], high[shown], alpha=0.2, label="8 of 10 such cells")
    axis.axhline(end, color="grey", linestyle=":")
    axis.set_xlabel("days")
    axis.set_ylabel("capacity over the nominal one")
    axis.legend()
    try:
        figure.savefig(output, dpi=120)
    except OSError as error:
        raise BmsdError(f"{output}: cannot be written: {error.strerror or error}") from error


def _years(days: float) -> str:
    years = days / YEAR_DAYS
    return f"{LONGEST_YEARS:.0f} years or more" if years >= LONGEST_YEARS - 0.01 else f"{years:.1f} years"


def _date(utc_s: float, days: float) -> str:
    return f"{datetime.fromtimestamp(utc_s + days * DAY_S, UTC):%Y-%m-%d}"
