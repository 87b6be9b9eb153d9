"""Accuracy of remaining life: measured calendar ageing through the core's law, as lines of docs/accuracy.md."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bmsd.core.estimation import life, wear
from bmsd.core.estimation.wear import YEAR_DAYS
from bmsd.model.cell import Ageing
from bmsd.model.history import History, Wear
from tests.reference_data import reference

AGEING = Ageing()
SIGMA = 0.005
"""Of a measured capacity, assumed: the file tells none. A check-up is known no better than the marks."""


@dataclass(frozen=True)
class Stored:
    """Cells stored for months: names, days (marks,), degC (cells,), capacity and resistance over the first ones."""

    names: tuple[str, ...]
    days: np.ndarray
    degc: np.ndarray
    capacity: np.ndarray
    resistance: np.ndarray

    def until(self, share: float) -> tuple[History, np.ndarray]:
        """The history of this share of the time, each cell a string of its own, and which marks are in it."""
        seen = self.days <= share * self.days[-1]
        warm = self.warm_years()[seen]
        none = np.zeros_like(warm)
        shape = (int(seen.sum()), len(self.names), 1, 1)
        marks = [v[seen].reshape(shape).astype(np.float32) for v in (self.capacity, self.resistance)]
        wide = np.ones(shape, dtype=np.float32)
        use = Wear(float(self.days[seen][-1]), warm[-1], none[-1])
        return History(use, self.days[seen], warm, none, marks[0], SIGMA * wide, marks[1], 0.03 * wide), seen

    def warm_years(self) -> np.ndarray:
        return self.days[:, None] / YEAR_DAYS * wear.warm_pace(self.degc, AGEING.activation_k)


def naumann() -> Stored:
    """Naumann's 17 storage conditions."""
    cells = defaultdict(list)
    columns = ("elapsed_days", "capacity_retention_pct", "resistance_growth_pct", "temperature_c")
    with reference("naumann_lfp_calendar/naumann_calendar.csv").open() as file:
        for row in csv.DictReader(file):
            cells[row["condition_id"].removeprefix("NAUMANN_CAL_")].append([float(row[name]) for name in columns])
    table = np.array(list(cells.values()))
    return Stored(
        tuple(cells), table[0, :, 0], table[:, 0, 3], table[..., 1].T / 100.0, 1.0 + table[..., 2].T / 100.0
    )  # fmt: skip


@dataclass(frozen=True)
class Forecast:
    """Error of the capacity at the end (cells,), share of all later check-ups inside 1.28 and 2 sigma of what is
    forecast for a measurement: sigma of the capacity and of its check-up."""

    error: np.ndarray
    in_decile: float
    in_two: float


def forecast(cells: Stored, share: float = 0.4) -> Forecast:
    """What the core says after this share of the time, against the rest of it."""
    history, seen = cells.until(share)
    later = np.concatenate([[int(seen.sum()) - 1], np.flatnonzero(~seen)])
    warm = cells.warm_years()[later]
    years = (cells.days[later] - cells.days[later[0]]) / YEAR_DAYS
    mean, sigma = life.forecast(history, AGEING, life.Use(warm, np.zeros_like(warm)), years)
    error = mean[1:, :, 0, 0] - cells.capacity[later[1:]]
    off = np.abs(error) / np.hypot(sigma[1:, :, 0, 0], SIGMA)
    return Forecast(error[-1], float((off <= life.DECILE).mean()), float((off <= 2.0).mean()))


@dataclass(frozen=True)
class Cycled:
    """Cells cycled to their end at high rates: cycles to 80 %, capacity over the nominal one of cycles 2 to 100 (cells,
    98), and the charge over voltage of cycles 10 and 100."""

    life: np.ndarray
    capacity: np.ndarray
    curve_10: np.ndarray
    curve_100: np.ndarray


CYCLE_DAYS = 0.045
"""Of the fast-charged cells, about."""


def severson(part: str) -> Cycled:
    table = np.load(reference("severson_lfp/severson_qd.npz"))
    names = ("cyclelife", "Qd_Ah_cyc2on", "QV_cyc10", "QV_cyc100")
    lives, capacity, one, other = (table[f"{part}_{name}"].astype(np.float64) for name in names)
    return Cycled(lives, capacity / 1.1, one, other)


def law_after_100_cycles(cells: Cycled) -> np.ndarray:
    """Cycles to 80 % by the law of ageing, from the capacities of the first hundred cycles."""
    count, every = len(cells.life), slice(0, None, 5)
    cycles = np.repeat(np.arange(2.0, 2.0 + cells.capacity.shape[1])[every, None], count, axis=1)
    days = CYCLE_DAYS * cycles[:, 0]
    warm = np.repeat(days[:, None] / YEAR_DAYS, count, axis=1)
    marks = cells.capacity.T[every, :, None, None].astype(np.float32)
    none, sigma = np.full_like(marks, np.nan), np.full_like(marks, 0.002)
    history = History(Wear(days[-1], warm[-1], cycles[-1]), days, warm, cycles, marks, sigma, none, none)
    more = np.linspace(0.0, 6000.0, 601)
    years = CYCLE_DAYS * more / YEAR_DAYS
    ahead = life.Use(warm[-1] + years[:, None], cycles[-1] + more[:, None])
    below = life.forecast(history, AGEING, ahead, years)[0][:, :, 0, 0] < AGEING.end_of_life
    return cycles[-1] + more[np.where(below.any(axis=0), below.argmax(axis=0), -1)]


def curves(fit: Cycled, cells: Cycled) -> np.ndarray:
    """Cycles to 80 % by Severson's one feature: a line through log life over the log variance of Q100(V) - Q10(V)."""

    def feature(of: Cycled) -> np.ndarray:
        return np.asarray(np.log10((of.curve_100 - of.curve_10).var(axis=1)))

    slope, level = np.polyfit(feature(fit), np.log10(fit.life), 1)
    return np.asarray(10.0 ** (level + slope * feature(cells)))


def _mape(found: np.ndarray, truth: np.ndarray) -> float:
    return 100.0 * float(np.mean(np.abs(found - truth) / truth))


def report() -> Iterator[str]:
    """Yield the section, a line each."""
    cells = naumann()
    found = forecast(cells)
    yield from HEAD.format(conditions=len(cells.names), day=cells.days[-1]).splitlines()
    for name, error, measured in zip(cells.names, found.error, cells.capacity[-1], strict=True):
        yield f"| {name} | {100 * (measured + error):.2f} | {100 * measured:.2f} | {100 * error:+.2f} |"
    size = 100.0 * np.abs(found.error)
    yield ""
    yield f"Mean of the absolute errors {size.mean():.2f} %, greatest {size.max():.2f} %. Of all later check-ups"
    yield f"{100 * found.in_decile:.0f} % lie between the low and the high forecast (80 % are promised),"
    yield f"{100 * found.in_two:.0f} % within 2 sigma, to which {100 * SIGMA:g} % of a check-up itself count."
    train, test = severson("train"), severson("test1")
    yield from CYCLED.format(
        cells=len(test.life),
        law=_mape(law_after_100_cycles(test), test.life),
        curves=_mape(curves(train, test), test.life),
    ).splitlines()


def missed() -> Iterator[str]:
    found = forecast(naumann())
    if np.abs(found.error).mean() > 0.015:
        yield f"calendar ageing: mean error {100 * np.abs(found.error).mean():.2f} %; target 1.5 %"
    if found.in_two < 0.95:
        yield f"calendar ageing: {100 * found.in_two:.0f} % of the check-ups inside 2 sigma; target 95 %"
    test = severson("test1")
    if (mape := _mape(law_after_100_cycles(test), test.life)) > 15.0:
        yield f"cycle life of fast-charged cells from their first 100 cycles: {mape:.0f} % off in the mean; target 15 %"


HEAD = """
## Remaining life

Calendar ageing, Naumann's {conditions} storage conditions (0..60 degC, 0..100 % SoC, 3 Ah LFP): capacity at day
{day:.0f} from the first 40 % of the time, by the law and the priors of a rack without a cell file. Target:
mean error 1.5 %.

| condition | forecast % | measured % | error % |
|---|---|---|---|"""

CYCLED = """
Cycle life, {cells} cells of Severson's that were charged with 4C and more until they failed (test set of the batches):
by the law from the capacities of their first 100 cycles, in which there is no fade to see, {law:.0f} % off in the mean.
Such cells end with a knee that nothing foretells in the capacity; a rack is told when one has begun. A line through
the variance of two discharge curves, fitted to the other cells, is {curves:.1f} % off (target 15 %): it is not built
in, as no rack ever makes such discharges."""
