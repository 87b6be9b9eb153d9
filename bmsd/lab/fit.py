"""A cell model from measured series: rest voltage from slow charges and discharges, the rest by least squares.

Theory. A slow discharge from full and a slow charge from empty give the two branches of the rest voltage; half their
distance is the hysteresis. With these, what a dynamic series shows beyond the rest voltage is linear in R0 (a curve
over SoC) and the resistances of RC pairs with given time constants; it is solved for by non-negative least squares, and
the time constants, the hysteresis' rate and the diffusion are the best of a small set (enhanced self-correcting cell
model: G. Plett, Battery Management Systems, vol. 1, ch. 2; the first mode of diffusion: vol. 1, ch. 3). What the
resistances then take from the slow series is not hysteresis: the branches are freed of it, and the rest is fitted
again. A series without SoC starts where the model fits best.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, product

import numpy as np

from bmsd.core.estimation.electrical import tables
from bmsd.errors import ConfigError
from bmsd.lab.fit_branches import (
    SAME_DEGC,
    Branches,
    apart,
    branches,
    degc_of,
    moved_ah,
    rest_voltage,
    rising,
    unloaded,
)
from bmsd.lab.series import Series
from bmsd.model.cell import (
    ENTROPY_SOC,
    GRID,
    KELVIN,
    LFP_ACTIVATION_K,
    LFP_ENTROPY_V_PER_K,
    SOC_GRID,
    CellModel,
    Floats,
)

TAUS_S = ((5.0, 60.0, 600.0), (8.0, 80.0, 900.0), (10.0, 150.0, 2000.0), (20.0, 300.0, 3000.0))
QUICK_TAUS_S = (4.0, 20.0, 100.0)
LEAST_SLOW_TAU_S = 200.0
QUICK_S = 400.0
"""The quick pairs are fitted on voltages less their mean over this."""
MOST_QUICK_STEP_S = 4.0
GAMMAS = (10.0, 20.0, 40.0, 80.0)
DIFFUSION_TAUS_S = (300.0, 600.0, 1200.0, 2400.0)
DIFFUSIONS = (0.0, 0.03, 0.06, 0.09, 0.12, 0.15, 0.2, 0.3)
"""SoC by which the surface may be ahead of the mean at 1 C."""
USUAL_DIFFUSION = (0.09, 1200.0)
TOLD = 0.97
"""A diffusion other than the usual one must bring the rms below this share: away from the knees nothing tells it."""
KNOTS = np.array([0.0, 0.05, 0.1, 0.2, 0.35, 0.6, 0.85, 1.0])
"""SoC at which R0 is fitted."""
USUAL_SHAPE = np.array([2.0, 1.5, 1.25, 1.0, 1.0, 1.0, 1.0, 1.1])
"""R0 at the knots over that in the middle, as LFP cells have it."""
LEAST_ERROR_V = 0.005
UNSEEN_FACTOR = 2.0
"""The error where a series never came, over that of the whole."""
ERROR_SOC = np.linspace(0.0, 1.0, 11)
ERROR_TAU_S = 600.0
MOST_ROWS = 40_000
SLOW_C, RESTED_S = 0.1, 1200.0
"""A branch that was measured faster never settles to its load: it is moved to where such rests end."""


@dataclass(frozen=True)
class Fit:
    """A model of one dynamic series: measured and modelled voltage, the rms of the difference, resistances, and the
    SoC by which the surface is ahead at 1 C."""

    series: Series
    soc: Floats
    model_v: Floats
    rms_v: float
    r0_ohm: Floats
    rc_ohm: Floats
    ahead_per_c: float


@dataclass(frozen=True)
class _Driven:
    """What the current alone does: RC currents (rows, taus) and hysteresis (rows, gammas)."""

    rc_a: Floats
    hysteresis: Floats


def driven(series: Series, taus_s: Floats, gammas: Floats, capacity_ah: float) -> _Driven:
    """Filter the current with all time constants and hysteresis rates at once; both start from rest, unknown branch."""
    amps, rows = series.current_a, len(series.t_s)
    rc_a, hysteresis = np.zeros((rows, len(taus_s))), np.zeros((rows, len(gammas)))
    x, h = np.zeros(len(taus_s)), np.zeros(len(gammas))
    steps = np.diff(series.t_s)
    still_a = capacity_ah / 200.0
    for k in range(1, rows):
        keep = np.exp(-steps[k - 1] / taus_s)
        amp = amps[k]  # as the estimators take it: what is read now has flowed since the last row
        x = keep * x + (1.0 - keep) * amp
        if abs(amp) > still_a:
            stay = np.exp(-gammas * abs(amp) * steps[k - 1] / (3600.0 * capacity_ah))
            h = stay * h + (1.0 - stay) * np.sign(amp)
        rc_a[k], hysteresis[k] = x, h
    return _Driven(rc_a, hysteresis)


def non_negative(a: Floats, b: Floats) -> Floats:
    """Least squares with x >= 0 (Lawson and Hanson, on the normal equations)."""
    gram, right = a.T @ a, a.T @ b
    x, free = np.zeros(len(right)), np.zeros(len(right), dtype=bool)
    for _ in range(10 * len(right)):
        slope = right - gram @ x
        slope[free] = -np.inf
        best = int(slope.argmax())
        if not slope[best] > 1e-10 * max(np.abs(right).max(), 1e-300):
            break
        free[best] = True
        while True:
            trial = np.zeros_like(x)
            trial[free] = np.linalg.lstsq(gram[np.ix_(free, free)], right[free], rcond=None)[0]
            if (trial[free] > 0.0).all():
                x = trial
                break
            negative = free & (trial <= 0.0)
            step = np.min(x[negative] / np.maximum(x[negative] - trial[negative], 1e-300))
            x = x + step * (trial - x)
            free &= x > 1e-15
    return x


def _rest(model: CellModel, soc: Floats, ahead: Floats, degc: float) -> tuple[Floats, Floats]:
    """Mid at the surface and half at one temperature along a series."""
    table = tables(model, np.array([degc]))
    return np.interp(soc + ahead, SOC_GRID, table.mid_v[0]), np.interp(soc, SOC_GRID, table.half_v[0])


def _solve(
    series: Series, soc: Floats, rest: tuple[Floats, Floats], rc_a: Floats, h: Floats, thin: slice
) -> tuple[Floats, Floats]:
    """Parameters [R0 at the knots, RC...] and the modelled voltage."""
    mid, half = rest
    still_v = mid + h * half
    a = np.column_stack([hats(soc) * series.current_a[:, None], rc_a])
    usable = (soc > 0.03) & (soc < 0.985)
    rows = np.zeros(len(soc), dtype=bool)
    rows[thin] = True
    rows &= usable if (usable & rows).sum() > 100 else rows
    x = non_negative(*smoothed(a[rows], (series.voltage_v - still_v)[rows]))
    return x, still_v + a @ x


def hats(soc: Floats) -> Floats:
    """Share of each knot in R0 along a series, (rows, knots)."""
    return np.stack([np.interp(soc, KNOTS, np.eye(len(KNOTS))[k]) for k in range(len(KNOTS))], axis=1)


def smoothed(a: Floats, b: Floats, rough: float = 0.05) -> tuple[Floats, Floats]:
    """The equations with some more: R0 at neighbouring knots (first columns) is alike, `rough` of what they weigh."""
    rows = np.arange(len(KNOTS) - 1)
    ridge = np.zeros((len(rows), a.shape[1]))
    weight = rough * np.sqrt(np.square(a[:, : len(KNOTS)]).sum() / len(KNOTS))
    ridge[rows, rows], ridge[rows, rows + 1] = weight, -weight
    return np.vstack([a, ridge]), np.concatenate([b, np.zeros(len(ridge))])


def _rms(series: Series, soc: Floats, model_v: Floats) -> float:
    usable = (soc > 0.05) & (soc < 0.98)
    error_v = (series.voltage_v - model_v)[usable if usable.any() else slice(None)]
    return float(np.sqrt(np.mean(np.square(error_v))))


@dataclass(frozen=True)
class _Shape:
    """What a least squares does not find: time constants, hysteresis per unit of SoC, diffusion."""

    taus_s: tuple[float, ...]
    gamma: float
    ahead_per_c: float
    diffusion_tau_s: float


TAUS = np.array(sorted({tau for group in (*TAUS_S, QUICK_TAUS_S, DIFFUSION_TAUS_S) for tau in group}))


def fit_dynamic(rest: CellModel, dynamic: Sequence[Series], capacity_ah: float) -> tuple[CellModel, list[Fit]]:
    """Return the model with resistances, hysteresis and diffusion, and how each series is met.

    Time constants and hysteresis are sought with the usual diffusion, then the diffusion, then the first again; R0 and
    the quick pairs last.
    """
    moved = [(series, driven(series, TAUS, np.array(GAMMAS), capacity_ah)) for series in dynamic]
    shapes = [_Shape((), 0.0, *USUAL_DIFFUSION)] * len(moved)
    shapes, fits = _paired(rest, moved, shapes, capacity_ah)
    moved = [(replace(f.series, soc=f.soc), answer) for f, (_, answer) in zip(fits, moved, strict=True)]
    shapes = _diffusing(rest, moved, shapes, fits, capacity_ah)
    shapes, fits = _quick(rest, moved, *_paired(rest, moved, shapes, capacity_ah), capacity_ah)
    return _assembled(rest, fits, shapes[0]), fits


def _rms_v(fits: Sequence[Fit]) -> float:
    return float(np.sqrt(np.mean([f.rms_v**2 for f in fits])))


def _paired(
    rest: CellModel, moved: Sequence[tuple[Series, _Driven]], shapes: Sequence[_Shape], capacity_ah: float
) -> tuple[list[_Shape], list[Fit]]:
    """The best time constants and hysteresis for all series."""
    tried = []
    for taus_s, gamma in product(TAUS_S, GAMMAS):
        now = [replace(shape, taus_s=taus_s, gamma=gamma) for shape in shapes]
        fits = [_fit_one(rest, *one, shape, capacity_ah) for one, shape in zip(moved, now, strict=True)]
        tried.append((now, fits))
    return min(tried, key=lambda one: _rms_v(one[1]))


def _diffusing(
    rest: CellModel, moved: Sequence[tuple[Series, _Driven]], shapes: Sequence[_Shape], fits: Sequence[Fit],
    capacity_ah: float,
) -> list[_Shape]:  # fmt: skip
    """The best diffusion: one time for all, a size for each; the usual one where the series do not tell."""
    tried = []
    for tau_s in DIFFUSION_TAUS_S:
        best = []
        for one, shape in zip(moved, shapes, strict=True):
            sizes = [replace(shape, ahead_per_c=size, diffusion_tau_s=tau_s) for size in DIFFUSIONS]
            best.append(min(((s, _fit_one(rest, *one, s, capacity_ah)) for s in sizes), key=lambda b: b[1].rms_v))
        tried.append(best)
    best = min(tried, key=lambda b: _rms_v([fit for _, fit in b]))
    return [s for s, _ in best] if _rms_v([fit for _, fit in best]) < TOLD * _rms_v(fits) else list(shapes)


def _quick(
    rest: CellModel, moved: Sequence[tuple[Series, _Driven]], shapes: list[_Shape], fits: list[Fit], capacity_ah: float
) -> tuple[list[_Shape], list[Fit]]:
    """Fit R0 and the quick pairs anew, on what is left of every series without its slow part.

    An error of the rest voltage or of the hysteresis is slow and large: beside it the first seconds of a pulse, which
    power and resistance live on, hardly count. The slow pairs stay.
    """
    slow = tuple(tau for tau in shapes[0].taus_s if tau >= LEAST_SLOW_TAU_S)
    if not slow or any(np.median(np.diff(f.series.t_s)) > MOST_QUICK_STEP_S for f in fits):
        return shapes, fits
    shapes = [replace(shape, taus_s=(*QUICK_TAUS_S, *slow)) for shape in shapes]
    each = zip(fits, moved, shapes, strict=True)
    return shapes, [_quick_one(rest, f, answer, shape, capacity_ah) for f, (_, answer), shape in each]


def _quick_one(rest: CellModel, of: Fit, answer: _Driven, shape: _Shape, capacity_ah: float) -> Fit:
    rc_a, h, ahead = _picked(answer, shape, capacity_ah)
    mid, half = _rest(rest, of.soc, ahead, degc_of(of.series))
    quick = len(QUICK_TAUS_S)
    slow_ohm = of.rc_ohm[quick - rc_a.shape[1] :]
    still_v = mid + h * half + rc_a[:, quick:] @ slow_ohm
    a = np.column_stack([hats(of.soc) * of.series.current_a[:, None], rc_a[:, :quick]])
    usable = (of.soc > 0.03) & (of.soc < 0.985)
    rows = usable if usable.sum() > 100 else np.ones(len(of.soc), dtype=bool)
    length = max(round(QUICK_S / float(np.median(np.diff(of.series.t_s)))), 3)
    left_v = (of.series.voltage_v - still_v)[rows]
    x = non_negative(*smoothed(_without_mean(a[rows], length), _without_mean(left_v, length)))
    r0 = np.interp(SOC_GRID, KNOTS, filled(x[: len(KNOTS)], of.soc))
    model_v = still_v + a @ x
    return replace(
        of, model_v=model_v, rms_v=_rms(of.series, of.soc, model_v), r0_ohm=r0,
        rc_ohm=np.concatenate([x[len(KNOTS) :], slow_ohm]),
    )  # fmt: skip


def _without_mean(values: Floats, length: int) -> Floats:
    """Values less their mean over `length` rows around."""
    total = np.cumsum(np.concatenate([np.zeros((1, *values.shape[1:])), values]), axis=0)
    rows = np.arange(len(values))
    low, high = np.maximum(rows - length // 2, 0), np.minimum(rows + length // 2 + 1, len(values))
    mean = (total[high] - total[low]).T / (high - low)
    return np.asarray(values - mean.T)


def _picked(answer: _Driven, shape: _Shape, capacity_ah: float) -> tuple[Floats, Floats, Floats]:
    """RC currents and hysteresis of this shape, and what the surface is ahead by."""
    ahead = shape.ahead_per_c * answer.rc_a[:, np.searchsorted(TAUS, shape.diffusion_tau_s)] / capacity_ah
    rc_a = answer.rc_a[:, np.searchsorted(TAUS, shape.taus_s)]
    return rc_a, answer.hysteresis[:, GAMMAS.index(shape.gamma)], ahead


def _fit_one(rest: CellModel, series: Series, answer: _Driven, shape: _Shape, capacity_ah: float) -> Fit:
    degc = degc_of(series)
    rc_a, h, ahead = _picked(answer, shape, capacity_ah)
    thin = slice(None, None, max(1, len(series.t_s) // MOST_ROWS))
    best: Fit | None = None
    for soc in _candidates(series, capacity_ah):
        x, model_v = _solve(series, soc, _rest(rest, soc, ahead, degc), rc_a, h, thin)
        rms = _rms(series, soc, model_v)
        if best is None or rms < best.rms_v:
            r0 = np.interp(SOC_GRID, KNOTS, filled(x[: len(KNOTS)], soc))
            best = Fit(series, soc, model_v, rms, r0, x[len(KNOTS) :], shape.ahead_per_c)
    assert best is not None
    return best


def _candidates(series: Series, capacity_ah: float) -> list[Floats]:
    """The SoC of the series, or where it may run without one."""
    if series.soc is not None and np.isfinite(series.soc).all():
        return [series.soc]
    count = moved_ah(series) / capacity_ah
    starts = np.arange(-0.02 - min(count.min(), 0.0), 1.02 - max(count.max(), 0.0) + 1e-9, 0.02)
    return [np.clip(start + count, 0.0, 1.0) for start in (starts if len(starts) else [-count.min()])]


def filled(r0: Floats, soc: Floats) -> Floats:
    """R0 at knots that the series never came near is that of the nearest it did, grown as usual towards empty."""
    seen = np.array([bool((np.abs(soc - knot) < 0.08).any()) for knot in KNOTS]) & (r0 > 0.0)
    if not seen.any():
        return np.asarray(np.maximum(r0, 1e-6))
    return np.asarray(np.interp(KNOTS, KNOTS[seen], r0[seen] / USUAL_SHAPE[seen]) * USUAL_SHAPE)


def _assembled(rest: CellModel, fits: Sequence[Fit], shape: _Shape) -> CellModel:
    """One model of all series; series of like temperature are averaged."""
    degcs = apart(sorted(degc_of(f.series) for f in fits))
    near = [[f for f in fits if abs(degc_of(f.series) - degc) <= SAME_DEGC] for degc in degcs]
    r0 = np.array([np.mean([f.r0_ohm for f in group], axis=0) for group in near])
    rc = np.maximum(np.array([np.mean([f.rc_ohm for f in group], axis=0) for group in near]), 1e-7)
    error_v = np.array([np.mean([_error_v(f) for f in group], axis=0) for group in near])
    return replace(
        rest,
        resistance_degc=np.array(degcs),
        r0_ohm=r0,
        rc_tau_s=np.array(shape.taus_s),
        rc_ohm=rc,
        activation_k=_activation(np.array(degcs), r0.mean(axis=1)),
        gamma=shape.gamma,
        error_v=error_v,
        diffusion_soc_per_c=np.array([np.mean([f.ahead_per_c for f in group]) for group in near]),
        diffusion_tau_s=shape.diffusion_tau_s,
    )


def _error_v(fit: Fit) -> Floats:
    """Rms of measured minus modelled on SOC_GRID, within 5 % of SoC; where nothing was, more than that of the whole."""
    square = np.square(fit.series.voltage_v - fit.model_v)
    error_v = np.full(len(ERROR_SOC), UNSEEN_FACTOR * fit.rms_v)
    for k, soc in enumerate(ERROR_SOC):
        near = np.abs(fit.soc - soc) <= 0.05
        if near.sum() > 60:
            error_v[k] = np.sqrt(square[near].mean())
    return np.asarray(np.maximum(np.interp(SOC_GRID, ERROR_SOC, error_v), LEAST_ERROR_V))


def _activation(degc: Floats, ohm: Floats) -> float:
    """B of exp(B/T) through these resistances; that of LFP where temperatures are too close to tell."""
    if len(degc) < 2 or degc[-1] - degc[0] < 8.0:
        return LFP_ACTIVATION_K
    slope = float(np.polyfit(1.0 / (degc + KELVIN), np.log(ohm), 1)[0])
    return min(max(slope, 500.0), 6000.0)


def fit(
    ocv: Sequence[Series], dynamic: Sequence[Series], name: str, capacity_ah: float | None = None
) -> tuple[CellModel, list[Fit], list[Branches]]:
    """Return a model of the cell that these series were measured on."""
    groups = branches(ocv)
    if capacity_ah is None:
        capacity_ah = _capacity(groups)
    degc, mid_v, half_v = rest_voltage(groups)
    start = CellModel(
        name=name,
        chemistry="lfp",
        capacity_ah=capacity_ah,
        ocv_degc=degc,
        mid_v=mid_v,
        half_v=half_v,
        entropy_v_per_k=np.interp(SOC_GRID, ENTROPY_SOC, LFP_ENTROPY_V_PER_K),
        resistance_degc=np.array([25.0]),
        r0_ohm=np.full((1, GRID), 1e-3),
        rc_tau_s=np.array([10.0]),
        rc_ohm=np.full((1, 1), 1e-6),
        activation_k=LFP_ACTIVATION_K,
        gamma=40.0,
        error_v=np.full((1, GRID), 0.015),
        error_tau_s=ERROR_TAU_S,
        diffusion_soc_per_c=np.array([USUAL_DIFFUSION[0]]),
        diffusion_tau_s=USUAL_DIFFUSION[1],
    )
    if not dynamic:
        raise ConfigError(["--dynamic: no series; without one there is no resistance"])
    model, fits = fit_dynamic(start, dynamic, capacity_ah)
    if max(g.rate_c for g in groups) > SLOW_C:
        if min(g.rate_c for g in groups) > SLOW_C:
            start = _nearest(start, fits)
            groups = [g for g in groups if g.degc in start.ocv_degc]
        start = _rested(start, fits, capacity_ah)
    else:
        _, mid_v, half_v = rest_voltage(unloaded(groups, model))
        start = replace(start, mid_v=mid_v, half_v=half_v)
    model, fits = fit_dynamic(start, dynamic, capacity_ah)
    return model, fits, groups


def _nearest(rest: CellModel, fits: Sequence[Fit]) -> CellModel:
    """Only the branches nearest to the temperature of the rests: fast ones differ by what resistances took, the more
    the colder, and rests at another temperature cannot tell that from the rest voltage. Entropy carries it instead."""
    degc = float(np.mean([degc_of(f.series) for f in fits]))
    k = int(np.abs(rest.ocv_degc - degc).argmin())
    return replace(rest, ocv_degc=rest.ocv_degc[k : k + 1], mid_v=rest.mid_v[k : k + 1], half_v=rest.half_v[k : k + 1])


def _rested(rest: CellModel, fits: Sequence[Fit], capacity_ah: float) -> CellModel:
    """Rest voltages moved to where long rests of these series end: fast branches hold what the resistances took."""
    points = sorted(point for f in fits for point in _rests(rest, f, capacity_ah))
    if not points:
        return rest
    soc, off_v = zip(*points, strict=True)
    most_v = rest.mid_v[:, -1:]
    moved = np.minimum(rest.mid_v + np.interp(SOC_GRID, soc, off_v), most_v)
    return replace(rest, mid_v=np.array([rising(curve) for curve in moved]))


def _rests(rest: CellModel, of: Fit, capacity_ah: float) -> Iterable[tuple[float, float]]:
    """SoC and voltage above the table at the end of every long rest after a load."""
    amps, t_s = of.series.current_a, of.series.t_s
    loads = np.flatnonzero(np.abs(amps) > capacity_ah / 200.0)
    mid, half = _rest(rest, of.soc, np.zeros_like(of.soc), degc_of(of.series))
    for last, then in pairwise([*loads.tolist(), len(amps)]):
        end = then - 1
        if t_s[end] - t_s[last] >= RESTED_S:
            yield float(of.soc[end]), float(of.series.voltage_v[end] - mid[end] - np.sign(amps[last]) * half[end])


def _capacity(groups: Sequence[Branches]) -> float:
    known = [(abs(g.degc - 25.0), g.capacity_ah) for g in groups if g.capacity_ah]
    if not known:
        raise ConfigError(["capacity: cannot be told from the slow series; give --capacity-ah"])
    return min(known, key=lambda one: one[0])[1]
