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
"""Of a measured capacity; the file tells none."""


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
    """Error of the capacity at the end (cells,), share of all later check-ups inside 1.28 and 2 sigma."""

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
    off = np.abs(error) / sigma[1:, :, 0, 0]
    return Forecast(error[-1], float((off <= life.DECILE).mean()), float((off <= 2.0).mean()))


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
    yield f"{100 * found.in_two:.0f} % within 2 sigma."


def missed() -> Iterator[str]:
    found = forecast(naumann())
    if np.abs(found.error).mean() > 0.015:
        yield f"calendar ageing: mean error {100 * np.abs(found.error).mean():.2f} %; target 1.5 %"
    if found.in_two < 0.95:
        yield f"calendar ageing: {100 * found.in_two:.0f} % of the check-ups inside 2 sigma; target 95 %"


HEAD = """
## Remaining life

Calendar ageing, Naumann's {conditions} storage conditions (0..60 degC, 0..100 % SoC, 3 Ah LFP): capacity at day
{day:.0f} from the first 40 % of the time, by the law and the priors of a rack without a cell file. Target:
mean error 1.5 %.

| condition | forecast % | measured % | error % |
|---|---|---|---|"""
