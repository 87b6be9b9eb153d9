"""The common state of charge of each string: many hypotheses of what it may be, weighed by the voltage.

Theory of operation. A hypothesis is a state of charge together with the constants that make a charge counter drift: the
offset of the current sensor, the capacity, and the charge that is lost in charging. All hypotheses are moved by the
counted charge; the voltage changes only their weights. So several hypotheses may stand side by side as long as the
voltage cannot tell them apart (on LFP it is the same at many states of charge), nothing is linearised, and the spread
of what is left is the uncertainty that is reported.

The error of the cell model is not noise: it is the same for minutes. Counted once a second, a voltage would be believed
600 times too often. Each update therefore weighs dt / (2 tau) of an independent reading (R_eff = sigma^2 * 2 tau /
dt), and a reading counts as no worse than MOST_SIGMAS. When few hypotheses carry the weight they are drawn anew in
proportion to it, with a spread that keeps mean and covariance (Liu and West, Combined parameter and state estimation in
simulation-based filtering, 2001); a few scouts keep the whole range in sight. The "random" numbers are a fixed
low-discrepancy sequence (additive recurrence, generalised golden ratio): the same inputs give the same outcome.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from bmsd.core.estimation.electrical import Tables, at, place
from bmsd.model.snapshot import Floats

COUNT = 1024
SOC, BIAS, SIZE, LOSS, OFFSET, SCALE = range(6)
"""Rows of a hypothesis: SoC; sensor offset, reading minus truth, in C; capacity over the nominal one; share lost;
V by which measurement and table differ everywhere; resistances over those of the model."""
KEPT = 0.98
"""Share of a hypothesis' distance to the mean that is kept when it is drawn anew."""
DRAW_BELOW = 0.4
"""Hypotheses are drawn anew when so few of them (share) carry the weight."""
MOST_SIGMAS = 6.0
SCOUTS = 64
SCOUT_SHARE = 1e-3
"""Weight of all scouts together, spread over the whole range whenever hypotheses are drawn anew."""
SIZE_RANGE = (0.6, 1.2)
SCALE_RANGE = (0.4, 4.0)
BASELINE = 1e-12
SHAPE_SOC = 0.005
"""By how much the table may lie beside the truth along the SoC: at a knee it is this that the voltage tells."""
AHEAD_DOUBT = 0.4
"""Share of what the surface is ahead by that is not known."""
DRIFT = np.array([0.0, 1e-3, 2e-3, 5e-4, 3e-3, 0.1]) / np.sqrt(24.0)
"""What the constants wander by, per square root of an hour; without it they were known for ever after some days."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Standard deviations that hypotheses start with."""

    bias_c: float
    size: float
    loss: float
    offset_v: float
    scale: float


@dataclass(frozen=True, slots=True)
class Hypotheses:
    """`states` (strings, 6, COUNT), `weights` (strings, COUNT) that sum to 1, `draws`: how often drawn anew,
    `hours` (strings,): time since then."""

    states: Floats
    weights: Floats
    draws: int
    hours: Floats


@dataclass(frozen=True, slots=True)
class Belief:
    """Mean and standard deviation of SoC and bias in C; mean of relative capacity, loss and scale (strings,)."""

    soc: Floats
    soc_sigma: Floats
    bias_c: Floats
    bias_sigma_c: Floats
    size: Floats
    loss: Floats
    scale: Floats


@cache
def _uniform() -> Floats:
    """(6, COUNT) in 0..1, evenly filling the space."""
    ratio = 1.0
    for _ in range(50):
        ratio = (1.0 + ratio) ** (1.0 / 7.0)
    steps = (1.0 / ratio) ** np.arange(1, 7)
    points: Floats = np.mod(0.5 + steps[:, None] * np.arange(1, COUNT + 1)[None, :], 1.0)
    return points


@cache
def _normal() -> Floats:
    """(6, COUNT) of zero mean and unit variance: logistic approximation of the normal quantile, then normed."""
    u = _uniform()
    z = np.log(u / (1.0 - u)) / 1.702
    z = z * (1.0 - 0.02 * z**2)
    z -= z.mean(axis=1, keepdims=True)
    normed: Floats = z / z.std(axis=1, keepdims=True)
    return normed


def start(soc: Floats, sigma: Floats, tail: float, spread: Spread, loss: float) -> Hypotheses:
    """Hypotheses around a SoC (strings,; NaN: nothing is known). `tail`: weight spread over the whole range."""
    known = (np.isfinite(soc) & np.isfinite(sigma))[:, None]
    even = (np.arange(COUNT) + 0.5) / COUNT
    near = np.where(known, soc[:, None], 0.5) + np.where(known, sigma[:, None], 0.0) * _normal()[SOC]
    # every other one looks over the whole range, and weighs little: dense enough to meet a steep knee
    anywhere = np.arange(COUNT) % 2 == 0
    first = np.where(known & ~anywhere, near, even)
    weights = np.where(known, np.where(anywhere, tail, 1.0 - tail) * 2.0, 1.0) / COUNT
    z = _normal()
    states = np.empty((len(soc), 6, COUNT))
    states[:, SOC] = np.clip(first, 0.0, 1.0)
    states[:, BIAS] = spread.bias_c * z[BIAS]
    states[:, SIZE] = np.clip(1.0 + spread.size * z[SIZE], *SIZE_RANGE)
    states[:, LOSS] = np.maximum(loss + spread.loss * z[LOSS], 0.0)
    states[:, OFFSET] = spread.offset_v * z[OFFSET]
    states[:, SCALE] = np.exp(spread.scale * z[SCALE])
    return Hypotheses(states, weights, 0, np.zeros(len(soc)))


def moved(was: Hypotheses, net_c: Floats, charged_c: Floats, dt_h: float) -> Hypotheses:
    """Move all by the counted charge (strings,), in nominal capacities: net, and the part of it that charged."""
    states = was.states.copy()
    delta = net_c[:, None] - states[:, BIAS] * dt_h - states[:, LOSS] * charged_c[:, None]
    states[:, SOC] = np.clip(states[:, SOC] + delta / states[:, SIZE], 0.0, 1.0)
    return replace(was, states=states, hours=was.hours + dt_h)


def spread_out(was: Hypotheses, sigma: Floats) -> Hypotheses:
    """Spread the SoC of all hypotheses by this standard deviation (strings,): charge that nobody counted."""
    states = was.states.copy()
    states[:, SOC] = np.clip(states[:, SOC] + sigma[:, None] * np.roll(_normal()[BIAS], 101), 0.0, 1.0)
    return replace(was, states=states)


def shifted(was: Hypotheses, soc: Floats) -> Hypotheses:
    """Move the SoC of all hypotheses by this (strings,)."""
    states = was.states.copy()
    states[:, SOC] = np.clip(states[:, SOC] + soc[:, None], 0.0, 1.0)
    return replace(was, states=states)


def seen(
    was: Hypotheses,
    tables: Tables,
    seen_v: Floats,
    current_a: Floats,
    slow_v: Floats,
    h: Floats,
    ahead: Floats,
    noise_v: Floats,
    share: Floats,
) -> Hypotheses:
    """Weigh by a voltage (strings,); NaN: none. `slow_v`: what the RC pairs hold by the model, `h`: hysteresis -1..1.

    `ahead`: SoC by which the surface is ahead of the mean; it is known to a share, AHEAD_DOUBT.
    `noise_v`: errors that do not depend on the hypothesis. `share`: how much of an independent reading this is.
    """
    where = place(was.states[:, SOC])
    lost_v = (current_a[:, None] * at(tables.r0_ohm, where) + slow_v[:, None]) * was.states[:, SCALE]
    surface = place(was.states[:, SOC] + ahead[:, None])
    model_v = at(tables.mid_v, surface) + h[:, None] * at(tables.half_v, where) + lost_v + was.states[:, OFFSET]
    variance = np.square(at(tables.error_v, where)) + np.square(noise_v)[:, None]
    variance += np.square(at(tables.slope_v, surface)) * along(ahead)[:, None]
    with np.errstate(invalid="ignore"):
        off = np.minimum(np.square(seen_v[:, None] - model_v) / variance, MOST_SIGMAS**2)
        loss = 0.5 * share[:, None] * (off + np.log(variance))
        loss -= loss.min(axis=1, keepdims=True)
        weights = np.where(
            np.isfinite(loss), was.weights * np.exp(-np.where(np.isfinite(loss), loss, 0.0)), was.weights
        )
    weights = weights + BASELINE
    return replace(was, weights=weights / weights.sum(axis=1, keepdims=True))


def along(ahead: Floats) -> Floats:
    """Variance of the place on the table that a voltage is of, in SoC: shape of the table, and of the diffusion."""
    return np.asarray(SHAPE_SOC**2 + np.square(AHEAD_DOUBT * ahead))


def drawn(was: Hypotheses) -> Hypotheses:
    """Draw strings anew in which few hypotheses carry the weight."""
    few = np.square(was.weights).sum(axis=1) * COUNT * DRAW_BELOW > 1.0
    if not few.any():
        return was
    states, weights, draws = was.states.copy(), was.weights.copy(), was.draws + 1
    for string in np.flatnonzero(few):
        states[string], weights[string] = _anew(states[string], weights[string], draws, was.hours[string])
    return Hypotheses(states, weights, draws, np.where(few, 0.0, was.hours))


def _anew(states: Floats, weights: Floats, draws: int, hours: float) -> tuple[Floats, Floats]:
    """Systematic resampling, shrunk to the mean and spread again by as much and by the drift of `hours`; the last ones
    become scouts over the whole range."""
    mean = states @ weights
    away = states - mean[:, None]
    spread = (1.0 - KEPT**2) * ((away * weights) @ away.T) + np.diag(np.square(DRIFT) * hours)
    root = np.linalg.cholesky(spread + np.diag([1e-12, 1e-14, 1e-12, 1e-14, 1e-14, 1e-12]))
    picks = np.searchsorted(np.cumsum(weights), (np.arange(COUNT) + np.mod(0.5 + 0.618034 * draws, 1.0)) / COUNT)
    picks = np.minimum(picks, COUNT - 1)
    jitter = np.roll(_normal(), 37 * draws, axis=1)
    new = mean[:, None] + KEPT * away[:, picks] + root @ jitter
    new[SOC, -SCOUTS:] = (np.arange(SCOUTS) + np.mod(0.618034 * draws, 1.0)) / SCOUTS
    new[SOC] = np.clip(new[SOC], 0.0, 1.0)
    new[SIZE] = np.clip(new[SIZE], *SIZE_RANGE)
    new[LOSS] = np.maximum(new[LOSS], 0.0)
    new[SCALE] = np.clip(new[SCALE], *SCALE_RANGE)
    even = np.full(COUNT, (1.0 - SCOUT_SHARE) / (COUNT - SCOUTS))
    even[-SCOUTS:] = SCOUT_SHARE / SCOUTS
    return new, even


def belief(hypotheses: Hypotheses) -> Belief:
    """What the hypotheses say: mean and standard deviation; of SoC the median and a quarter of the middle 95 %."""
    states, weights = hypotheses.states, hypotheses.weights
    mean = np.matmul(states, weights[:, :, None])[:, :, 0]
    bias_square = (np.square(states[:, BIAS] - mean[:, BIAS, None]) * weights).sum(axis=1)
    low, middle, high = _quantiles(states[:, SOC], weights, (0.023, 0.5, 0.977))
    return Belief(
        middle, (high - low) / 4.0, mean[:, BIAS], np.sqrt(bias_square), mean[:, SIZE], mean[:, LOSS], mean[:, SCALE]
    )


def _quantiles(values: Floats, weights: Floats, shares: tuple[float, ...]) -> list[Floats]:
    """Weighted quantiles along the last axis (strings,)."""
    order = np.argsort(values, axis=1)
    total = np.cumsum(np.take_along_axis(weights, order, axis=1), axis=1)
    found = []
    for share in shares:
        place = np.minimum((total < share).sum(axis=1), values.shape[1] - 1)
        found.append(np.take_along_axis(values, np.take_along_axis(order, place[:, None], axis=1), axis=1)[:, 0])
    return found
