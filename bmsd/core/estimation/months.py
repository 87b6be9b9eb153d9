"""What months tell of the cells: use and marks are collected, trend and remaining life follow when a mark is made."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bmsd.core.estimation import history as marks
from bmsd.core.estimation import life, wear
from bmsd.core.estimation.history import Seen, Trend
from bmsd.core.estimation.life import Life
from bmsd.core.estimation.wear import DAY_S as DAY_S
from bmsd.core.estimation.wear import WearMemory
from bmsd.model.history import History, Singles, Wear
from bmsd.model.plant import Plant
from bmsd.model.snapshot import Bools, Floats, Snapshot


@dataclass(frozen=True, slots=True)
class Left:
    """Remaining life in days from now on, (strings, modules, cells); see `Life`."""

    low: Singles
    median: Singles
    high: Singles

    def weakest(self, counts: Bools) -> tuple[float | None, float | None, float | None]:
        """Low, median and high of the cell that ends first, of these strings; None where it is known of none."""
        median = self.median[counts]
        if not np.isfinite(median).any():
            return None, None, None
        at = int(np.where(np.isnan(median), np.inf, median).argmin())
        return float(self.low[counts].flat[at]), float(median.flat[at]), float(self.high[counts].flat[at])


@dataclass(frozen=True, slots=True)
class MonthsMemory:
    """Use until now, the marks, what followed from them when the last one was made; `left` is of the last minute."""

    wear: WearMemory
    history: History
    trend: Trend
    life: Life
    left: Left


def start(plant: Plant) -> MonthsMemory:
    """A rack that was never used."""
    use = wear.start(plant.layout.strings)
    return _followed(plant, use, marks.start(use.wear, plant.layout.cell_shape))


def restored(plant: Plant, saved: Wear | None, history: History | None) -> tuple[MonthsMemory, list[str]]:
    """The memory with what was saved, and sentences on what could not be used. The marks may be newer than the wear."""
    was, notes = start(plant), []
    if saved is not None and saved.cycles.shape != (plant.layout.strings,):
        notes.append(f"saved use is of a rack of {len(saved.cycles)} strings, not {plant.layout.strings}: not used")
        saved = None
    if history is not None and history.capacity.shape[1:] != plant.layout.cell_shape:
        shape = history.capacity.shape[1:]
        notes.append(f"saved history is of a rack of {shape}, not {plant.layout.cell_shape}: not used")
        history = None
    if history is not None and (saved is None or saved.age_days < history.wear.age_days):
        saved = history.wear
    if saved is None:
        return was, notes
    history = marks.start(saved, plant.layout.cell_shape) if history is None else history
    return _followed(plant, wear.after_off(saved), history), notes


def forgotten(plant: Plant, was: MonthsMemory, cells: Bools) -> MonthsMemory:
    """The memory without what the marks told of these cells: others are there now."""
    return _followed(plant, was.wear, marks.forgotten(was.history, cells))


def moved(was: MonthsMemory, current_a: Floats, capacity_ah: float, dt_s: float) -> MonthsMemory:
    """Count on; see wear.moved."""
    return replace(was, wear=wear.moved(was.wear, current_a, capacity_ah, dt_s))


def step(plant: Plant, was: MonthsMemory, snapshot: Snapshot, seen: Seen) -> MonthsMemory:
    """Once a minute the use, once a week a mark."""
    if was.wear.since_s < wear.STEP_S - 1e-6:
        return was
    use = wear.step(was.wear, snapshot, plant.cell.model.ageing.activation_k)
    if use.off or not marks.due(was.history, use.wear):
        return replace(was, wear=use, left=_left(was.life, use))
    return _followed(plant, use, marks.marked(was.history, use.wear, seen))


def _followed(plant: Plant, use: WearMemory, history: History) -> MonthsMemory:
    settings, ageing = plant.estimation, plant.cell.model.ageing
    found = life.start(plant.layout.cell_shape)
    if len(history.age_days):
        older = life.older(history, settings.years_before, settings.cycles_before)
        found = life.life(older, ageing, settings.end_of_life_capacity or ageing.end_of_life)
    return MonthsMemory(use, history, marks.trend(history), found, _left(found, use))


def _left(of: Life, use: WearMemory) -> Left:
    """The life of then, less what has passed since."""
    passed = use.wear.age_days - of.age_days
    return Left(*(np.maximum(days - passed, 0.0).astype(np.float32) for days in (of.low, of.median, of.high)))
