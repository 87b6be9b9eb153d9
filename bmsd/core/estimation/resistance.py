"""Resistance per cell over 1 s and 10 s, by how its voltage answers to changes of the current.

Theory of operation. The model predicts what resistances take from every cell of a string alike; the change of a cell's
voltage over one second, or over ten, against the predicted change gives the factor by which its resistance differs from
the model's. The factor is a least-squares slope over about EVENTS changes of at least LEAST_STEP_C (the square of the
current is the weight), so it belongs to no temperature or state of charge: the model carries these. An answer out of
all proportion is cut. The ratio of a cell to the median of its string is free of the current sensor's gain and of most
errors of the model: a loose joint shows in it first.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bmsd.model.snapshot import Bools, Floats

LOOK_S = 1.0
LONG_LOOKS = 10
LEAST_STEP_C = 0.1
EVENTS = 50.0
FACTOR_RANGE = (0.2, 5.0)
SYSTEMATIC = 0.04
"""Standard deviation of the factor that no number of events takes away: the model's shape over SoC and temperature."""
PRIOR_SIGMA = 0.20
PRIOR_EVENTS = 1.0
FLAT_SOC = (0.12, 0.95)
"""Outside, rest voltage moves with the charge of ten seconds."""


@dataclass(frozen=True, slots=True)
class Look:
    """One instant: cell voltages, hysteresis voltage and predicted loss of the strings in V, current in A."""

    cell_v: Floats
    still_v: Floats
    lost_v: Floats
    current_a: Floats


@dataclass(frozen=True, slots=True)
class Slope:
    """Fading sums over events: predicted squared (strings,); predicted times seen, seen squared (strings, modules,
    cells); events (strings,)."""

    square: Floats
    product: Floats
    seen: Floats
    events: Floats

    def factor(self) -> Floats:
        """Factor per cell; 1 pulls with the weight of a few events."""
        prior = PRIOR_EVENTS * self.square / np.maximum(self.events, 1.0) + 1e-12
        return (self.product + prior[:, None, None]) / (self.square + prior)[:, None, None]

    def sigma(self, overlap: int = 1) -> Floats:
        """Standard deviation of the factor per cell; so many events in a row see the same step of the current."""
        square = self.square[:, None, None] + 1e-12
        factor = self.product / square
        left = np.maximum(self.seen - factor * self.product, 0.0) / square
        events = self.events[:, None, None] / overlap
        scatter = np.where(events > 1.0, left / np.maximum(events - 1.0, 1.0), np.inf)
        return np.minimum(np.sqrt(scatter + SYSTEMATIC**2), PRIOR_SIGMA)


@dataclass(frozen=True, slots=True)
class ResistanceMemory:
    """The looks of the last ten seconds, oldest first, time since the newest, and both slopes."""

    looks: tuple[Look, ...]
    since_s: float
    short: Slope
    long: Slope


def start(shape: tuple[int, int, int]) -> ResistanceMemory:
    """Nothing seen."""
    zero, none = np.zeros(shape[0]), np.zeros(shape)
    slope = Slope(zero, none, none, zero)
    return ResistanceMemory((), 0.0, slope, slope)


def forgotten(was: ResistanceMemory, modules: Bools) -> ResistanceMemory:
    """The memory with the factors of these modules (strings, modules) as at the start."""
    return replace(was, looks=(), short=_unlearned(was.short, modules), long=_unlearned(was.long, modules))


def _unlearned(was: Slope, modules: Bools) -> Slope:
    """These modules answered as the model says, scattered by what nobody knows of a new cell."""
    gone, square = modules[:, :, None], was.square[:, None, None]
    scattered = square * (1.0 + PRIOR_SIGMA**2 * EVENTS / LONG_LOOKS)
    return replace(was, product=np.where(gone, square, was.product), seen=np.where(gone, scattered, was.seen))


def restored(was: Slope, kept: Slope) -> Slope:
    """What was kept; of strings for which that is no number, as it was."""
    cells = np.isfinite(kept.product + kept.seen).all(axis=(1, 2))
    usable = cells & np.isfinite(kept.square + kept.events) & (kept.square >= 0.0)
    wide = usable[:, None, None]
    return Slope(
        np.where(usable, kept.square, was.square), np.where(wide, kept.product, was.product),
        np.where(wide, kept.seen, was.seen), np.where(usable, kept.events, was.events),
    )  # fmt: skip


def step(was: ResistanceMemory, look: Look, soc: Floats, capacity_ah: float, dt_s: float) -> ResistanceMemory:
    """Return the memory after this look, taken `dt_s` (about LOOK_S) after the last one. `soc` (strings,)."""
    if dt_s > 1.5 * LOOK_S or not was.looks:
        return ResistanceMemory((look,), 0.0, was.short, was.long)
    flat = (soc > FLAT_SOC[0]) & (soc < FLAT_SOC[1])
    short = _learned(was.short, was.looks[-1], look, flat, capacity_ah)
    long = was.long
    if len(was.looks) == LONG_LOOKS:
        long = _learned(long, was.looks[0], look, flat, capacity_ah)
    return ResistanceMemory((*was.looks, look)[-LONG_LOOKS:], 0.0, short, long)


def _learned(was: Slope, before: Look, now: Look, flat: np.ndarray, capacity_ah: float) -> Slope:
    predicted = now.lost_v - before.lost_v
    event = flat & (np.abs(now.current_a - before.current_a) > LEAST_STEP_C * capacity_ah) & np.isfinite(predicted)
    if not event.any():
        return was
    predicted = np.where(event, predicted, 0.0)
    still = np.where(event, now.still_v - before.still_v, 0.0)[:, None, None]
    seen = now.cell_v - before.cell_v - still
    wide = predicted[:, None, None]
    low, high = (
        np.minimum(FACTOR_RANGE[0] * wide, FACTOR_RANGE[1] * wide),
        np.maximum(FACTOR_RANGE[0] * wide, FACTOR_RANGE[1] * wide),
    )
    known = np.isfinite(seen)
    # a cell that is not known keeps its factor: it is taken to answer as it did
    seen = np.where(known, np.clip(seen, low, high), was.factor() * wide)
    keep = np.where(event, 1.0 - 1.0 / EVENTS, 1.0)
    wide_keep = keep[:, None, None]
    return Slope(
        keep * was.square + predicted**2,
        wide_keep * was.product + wide * seen,
        wide_keep * was.seen + np.where(event[:, None, None], seen**2, 0.0),
        keep * was.events + event,
    )
