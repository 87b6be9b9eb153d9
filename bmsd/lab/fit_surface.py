"""The same series met by diffusion instead of slow RC pairs: what strings in parallel need to share as real ones do.

Theory. The voltage follows the rest voltage at the surface of the particles, z + sum d_j y_j, where y_j is the current
over the capacity filtered with tau_j: a slow current's drop grows where the curve is steep, as of a single particle.
Linearised about the last surface (Gauss-Newton) the rest is least squares with nothing negative: R0 over SoC, one RC
pair, the d_j, and the start of a series that came without SoC. Resistances are brought to 25 degC by the model's
Arrhenius law; time constants are the best of a small set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from bmsd.config.cell_file import Surface
from bmsd.core.estimation.electrical import tables
from bmsd.lab.fit import KNOTS, Fit, driven, filled, hats, non_negative, smoothed
from bmsd.lab.fit_branches import degc_of
from bmsd.model.cell import GRID, KELVIN, SOC_GRID, CellModel, Floats

RC_TAU_S = 10.0
QUICK_S = (25.0, 50.0, 100.0)
SLOW_S = (250.0, 500.0, 1000.0)
MOST_ROWS = 6000
TURNS = 8
KNOTS_ROUGH = 0.02
"""Weight of a change of R0 from knot to knot over that of the measured voltages."""
BETTER = 0.9
"""A surface is worth having when its rms is below this share of that without."""


@dataclass(frozen=True)
class _Rows:
    """Usable rows of one series: voltage, SoC, current, filtered current (rows, taus), hysteresis; one row: tables."""

    volts: Floats
    soc: Floats
    amps: Floats
    filtered_a: Floats
    h: Floats
    mid_v: Floats
    half_v: Floats
    slope_v: Floats
    warm: float
    free_start: bool


def surface(model: CellModel, fits: Sequence[Fit]) -> tuple[Surface | None, float]:
    """Return what meets the series better than the model's slow pairs, and its rms in V; None: nothing does."""
    taus = (RC_TAU_S, *QUICK_S, *SLOW_S)
    series = [_rows(model, fit, taus) for fit in fits]
    best_v, best = np.inf, None
    for quick, slow in product(QUICK_S, SLOW_S):
        x, rms_v = _solved(series, [0, taus.index(quick), taus.index(slow)], model.capacity_ah)
        if rms_v < best_v:
            best_v, best = rms_v, (x, (quick, slow))
    assert best is not None
    rms_v = float(np.sqrt(np.mean([fit.rms_v**2 for fit in fits])))
    if not best_v < BETTER * rms_v:
        return None, best_v
    return _made(*best, np.concatenate([rows.soc for rows in series])), best_v


def _rows(model: CellModel, fit: Fit, taus: Sequence[float]) -> _Rows:
    series, degc = fit.series, degc_of(fit.series)
    # what a row reads flows from it on, as a profile is played
    played = replace(series, current_a=np.concatenate([series.current_a[:1], series.current_a[:-1]]))
    answer = driven(played, np.array(taus), np.array([model.gamma]), model.capacity_ah)
    usable = np.flatnonzero((fit.soc > 0.03) & (fit.soc < 0.985))
    usable = usable[:: max(1, len(usable) // MOST_ROWS)]
    at = tables(model, np.array([degc]))
    return _Rows(
        series.voltage_v[usable],
        fit.soc[usable],
        series.current_a[usable],
        answer.rc_a[usable],
        answer.hysteresis[usable, 0],
        at.mid_v[0],
        at.half_v[0],
        np.gradient(at.mid_v[0], SOC_GRID),
        float(np.exp(model.activation_k * (1.0 / (degc + KELVIN) - 1.0 / (25.0 + KELVIN)))),
        series.soc is None,
    )


def _solved(series: Sequence[_Rows], taus: Sequence[int], capacity_ah: float) -> tuple[Floats, float]:
    """Parameters [R0 at the knots, R1, d of both, start up and down of every series] and the rms in V."""
    count = len(KNOTS) + 3 + 2 * len(series)
    x, best, best_v = np.zeros(count), np.zeros(count), np.inf
    for _ in range(TURNS):
        parts = [_linear(rows, k, x, taus, capacity_ah) for k, rows in enumerate(series)]
        a, right = np.vstack([p[0] for p in parts]), np.concatenate([p[1] for p in parts])
        found = non_negative(*smoothed(a, right, KNOTS_ROUGH))
        x = found if best_v == np.inf else 0.5 * (x + found)
        rms_v = float(
            np.sqrt(np.mean([np.mean(np.square(_missed(r, k, x, taus, capacity_ah))) for k, r in enumerate(series)]))
        )
        if rms_v < best_v:
            best, best_v = x.copy(), rms_v
    return best, best_v


def _surface_soc(rows: _Rows, k: int, x: Floats, taus: Sequence[int], capacity_ah: float) -> Floats:
    n = len(KNOTS) + 1
    ahead = rows.filtered_a[:, taus[1:]] @ x[n : n + 2] / capacity_ah
    start = x[n + 2 + 2 * k] - x[n + 3 + 2 * k]
    return np.asarray(rows.soc + ahead + start)


def _columns(rows: _Rows, taus: Sequence[int]) -> Floats:
    return np.column_stack([hats(rows.soc) * (rows.warm * rows.amps)[:, None], rows.warm * rows.filtered_a[:, taus[0]]])


def _missed(rows: _Rows, k: int, x: Floats, taus: Sequence[int], capacity_ah: float) -> Floats:
    """Measured minus modelled, V."""
    soc = _surface_soc(rows, k, x, taus, capacity_ah)
    still_v = np.interp(soc, SOC_GRID, rows.mid_v) + rows.h * np.interp(soc, SOC_GRID, rows.half_v)
    return np.asarray(rows.volts - still_v - _columns(rows, taus) @ x[: len(KNOTS) + 1])


def _linear(rows: _Rows, k: int, x: Floats, taus: Sequence[int], capacity_ah: float) -> tuple[Floats, Floats]:
    """Matrix and right side about this surface."""
    slope_v = np.interp(_surface_soc(rows, k, x, taus, capacity_ah), SOC_GRID, rows.slope_v)
    ahead = slope_v[:, None] * rows.filtered_a[:, taus[1:]] / capacity_ah
    starts = np.zeros((len(rows.soc), len(x) - len(KNOTS) - 3))
    if rows.free_start:
        starts[:, 2 * k], starts[:, 2 * k + 1] = slope_v, -slope_v
    a = np.column_stack([_columns(rows, taus), ahead, starts])
    return a, _missed(rows, k, x, taus, capacity_ah) + a @ x


def _made(x: Floats, taus_s: tuple[float, float], soc: Floats) -> Surface:
    n = len(KNOTS)
    r0_ohm = np.interp(SOC_GRID, KNOTS, filled(x[:n], soc))
    return Surface(
        r0_ohm=r0_ohm[:: GRID // 20].tolist(),
        rc_ohm=[max(float(x[n]), 1e-7)],
        rc_tau_s=[RC_TAU_S],
        soc_per_c=x[n + 1 : n + 3].tolist(),
        tau_s=list(taus_s),
    )
