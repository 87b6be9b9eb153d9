"""Rest voltage from slow charges and discharges: its two branches, their middle and half their distance."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from bmsd.core.estimation.electrical import tables
from bmsd.errors import ConfigError
from bmsd.lab.series import Series
from bmsd.model.cell import GRID, SOC_GRID, CellModel, Floats

SAME_DEGC = 3.0
"""Series within this belong to one temperature."""
MOST_UNLOADED = 0.3
"""Of the gap between the branches, what each is freed of at most."""


@dataclass(frozen=True)
class Branches:
    """Rest voltage on SOC_GRID after charging and after discharging at one temperature; None: not measured.
    `rate_c`: magnitude of the current that they were measured with."""

    degc: float
    charge_v: Floats | None
    discharge_v: Floats | None
    capacity_ah: float | None
    rate_c: float


def degc_of(series: Series) -> float:
    """Mean temperature of a series; 25 degC when none was measured."""
    known = series.temperature_degc[np.isfinite(series.temperature_degc)]
    return float(known.mean()) if known.size else 25.0


def moved_ah(series: Series) -> Floats:
    """Charge since the first row, Ah."""
    return np.concatenate([[0.0], np.cumsum(series.step_as / 3600.0)])


def branches(series: Sequence[Series]) -> list[Branches]:
    """Return the branches that these slow series hold, by rising temperature. ConfigError: there are none."""
    found = [_branch(one, part) for one in series for part in _runs(one)]
    if not found:
        raise ConfigError(["--ocv: no slow charge or discharge over most of the capacity in these files"])
    groups: list[Branches] = []
    for degc in apart(sorted({round(f[0], 1) for f in found})):
        near = [f for f in found if abs(f[0] - degc) <= SAME_DEGC]
        means = [[f[2] for f in near if f[1] is charging] for charging in (True, False)]
        charge_v, discharge_v = (np.mean(m, axis=0) if m else None for m in means)
        capacity_ah, rate_c = (float(np.mean([f[k] for f in near])) for k in (3, 4))
        groups.append(Branches(degc, charge_v, discharge_v, capacity_ah, rate_c))
    return groups


def apart(degc: Iterable[float]) -> list[float]:
    """Temperatures that differ by more than what counts as the same."""
    kept: list[float] = []
    for one in degc:
        if not kept or one - kept[-1] > SAME_DEGC:
            kept.append(one)
    return kept


def _runs(series: Series) -> list[slice]:
    """Parts of one sign of the current that move most of what the series moves."""
    sign = np.sign(np.where(np.abs(series.current_a) > 0.05 * np.abs(series.current_a).max(), series.current_a, 0.0))
    edges = np.flatnonzero(np.diff(sign)) + 1
    bounds = [0, *edges.tolist(), len(sign)]
    moved = moved_ah(series)
    parts = [slice(a, b) for a, b in pairwise(bounds) if sign[a] != 0.0 and b - a > 10]
    most = max((abs(moved[p.stop - 1] - moved[p.start]) for p in parts), default=0.0)
    return [p for p in parts if abs(moved[p.stop - 1] - moved[p.start]) > 0.7 * most]


def _branch(series: Series, part: slice) -> tuple[float, bool, Floats, float, float]:
    """Temperature, whether it charges, rest voltage on SOC_GRID, capacity, and the current in C."""
    charging = bool(np.median(series.current_a[part]) > 0.0)
    moved, volts = moved_ah(series)[part], series.voltage_v[part]
    capacity_ah = abs(float(moved[-1] - moved[0]))
    if series.soc is not None and np.isfinite(series.soc[part]).all():
        soc = series.soc[part]
        capacity_ah /= max(abs(float(soc[-1] - soc[0])), 1e-6)
    else:
        share = (moved - moved[0]) / (moved[-1] - moved[0])
        soc = share if charging else 1.0 - share
    order = np.argsort(soc, kind="stable")
    rest_v = rising(np.interp(SOC_GRID, soc[order], _smooth(volts[order])))
    return (
        degc_of(series),
        charging,
        rest_v,
        capacity_ah,
        float(np.abs(np.median(series.current_a[part])) / capacity_ah),
    )


def _smooth(values: Floats, width: int = 5) -> Floats:
    if len(values) < 4 * width:
        return values
    padded = np.concatenate([np.repeat(values[0], width // 2), values, np.repeat(values[-1], width // 2)])
    return np.convolve(padded, np.ones(width) / width, mode="valid")


def rising(volts: Floats, least_v: float = 1e-6) -> Floats:
    """The nearest curve that never falls (pool adjacent violators), strictly rising by a trace."""
    means: list[float] = []
    counts: list[int] = []
    for v in volts:
        means.append(float(v))
        counts.append(1)
        while len(means) > 1 and means[-2] > means[-1]:
            total = counts[-2] + counts[-1]
            means[-2:] = [(means[-2] * counts[-2] + means[-1] * counts[-1]) / total]
            counts[-2:] = [total]
    return np.asarray(np.repeat(means, counts) + least_v * np.arange(len(volts)))


def rest_voltage(groups: Sequence[Branches]) -> tuple[Floats, Floats, Floats]:
    """Temperatures, mid and half (temperatures, GRID). A missing branch is filled with the gap of the others."""
    both = [
        (g.degc, 0.5 * (g.charge_v - g.discharge_v))
        for g in groups
        if g.charge_v is not None and g.discharge_v is not None
    ]
    mids, halves = [], []
    for g in groups:
        half = min(both, key=lambda b: abs(b[0] - g.degc))[1] if both else np.full(GRID, 0.017)
        half = np.maximum(half, 0.0)
        mid = (
            0.5 * (g.charge_v + g.discharge_v)
            if g.charge_v is not None and g.discharge_v is not None
            else (g.charge_v - half if g.charge_v is not None else g.discharge_v + half)  # type: ignore[operator]
        )
        mids.append(rising(mid))
        halves.append(half)
    return np.array([g.degc for g in groups]), np.array(mids), np.array(halves)


def unloaded(groups: Sequence[Branches], model: CellModel) -> list[Branches]:
    """The branches without what the resistances and the diffusion of this model take at the current of the test."""
    freed = []
    for group in groups:
        table = tables(model, np.array([group.degc]))
        lost_v = group.rate_c * model.capacity_ah * (table.r0_ohm[0] + table.rc_ohm[0].sum())
        lost_v = lost_v + group.rate_c * table.ahead_per_c[0] * table.slope_v[0]
        if group.charge_v is not None and group.discharge_v is not None:
            lost_v = np.clip(lost_v, 0.0, MOST_UNLOADED * np.maximum(group.charge_v - group.discharge_v, 0.0))
        charge_v, discharge_v = (
            None if volts is None else rising(volts - sign * lost_v)
            for volts, sign in ((group.charge_v, 1.0), (group.discharge_v, -1.0))
        )
        freed.append(replace(group, charge_v=charge_v, discharge_v=discharge_v))
    return freed
