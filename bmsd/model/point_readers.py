"""How the values of strings and modules are read off a record: whole arrays, NaN where nothing is known."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bmsd.model.bound import Bound
from bmsd.model.published import Published
from bmsd.model.snapshot import Feedback, Floats

Array = NDArray[Any]

LFP_V = 3.3
"""Of a cell, where most of its charge is."""
_UNKNOWN = int(Feedback.UNKNOWN)
FRESH_S = 2.0
"""What a node said is no news after this time, unless control still goes by it."""


def cells(p: Published) -> Floats:
    """Cell voltages of each string (strings, modules x cells), V."""
    return p.snapshot.modules.cell_v.reshape(len(p.strings), -1)


def sensors(p: Published) -> Floats:
    """Cell temperatures of each string (strings, modules x sensors), degC."""
    return p.snapshot.modules.temperature_degc.reshape(len(p.strings), -1)


def of_string(p: Published, values: Array) -> Array:
    """Values of cells (strings, modules, cells) as (strings, modules x cells)."""
    return values.reshape(len(p.strings), -1)


def power_a(p: Published, way: str) -> Floats:
    """Current that strings can carry (strings, horizons), A."""
    return p.estimate.power_charge_a if way == "charge" else p.estimate.power_discharge_a


def power_place(p: Published, way: str) -> tuple[Array, Array]:
    """Module and cell, from 1, that end the power for 10 s; NaN where it is not known."""
    cell = (p.estimate.power_charge_cell if way == "charge" else p.estimate.power_discharge_cell)[:, 1]
    return module_and_cell(p, np.where(np.isfinite(power_a(p, way)[:, 1]), cell + 1.0, np.nan))


def resistance_ratio(p: Published) -> Floats:
    """Resistance of each cell over the median of its string (strings, modules x cells)."""
    factor = of_string(p, p.estimate.cell_resistance_factor)
    return np.asarray(factor / np.median(factor, axis=1)[:, None])


def all_known(values: Floats, pick: Callable[[Floats], float]) -> float | None:
    """Pick of values that are all known, else None."""
    return float(pick(values)) if np.isfinite(values).all() else None


def soft_short_ohm(p: Published) -> float | None:
    """Resistance of a short inside that would drain as much as the leakiest cell; None while it may be none."""
    leak_ma, sigma_ma = p.estimate.balancing.leak_ma, p.estimate.balancing.leak_sigma_ma
    certain = leak_ma[leak_ma > 2.0 * sigma_ma]
    return float(1e3 * LFP_V / certain.max()) if certain.size else None


def module_shape(p: Published) -> tuple[int, ...]:
    """(strings, modules)."""
    return p.snapshot.modules.module_v.shape


def highest(values: Array) -> Array:
    """Highest known along the last axis."""
    return np.asarray(np.fmax.reduce(values, axis=-1))


def lowest(values: Floats) -> Array:
    """Lowest known along the last axis."""
    return np.asarray(np.fmin.reduce(values, axis=-1))


def steepest(p: Published) -> tuple[float | None, float | None]:
    """Trend of the resistance of the cell where it rises most, with its sigma; None where none is known."""
    trend, sigma = p.estimate.cell_resistance_trend, p.estimate.cell_resistance_trend_sigma
    if not np.isfinite(trend).any():
        return None, None
    at = np.unravel_index(int(np.where(np.isnan(trend), -np.inf, trend).argmax()), trend.shape)
    return float(trend[at]), float(sigma[at])


def where_highest(values: Array) -> Array:
    """Number of the highest known along the last axis, from 1; NaN where none is known."""
    known = np.isfinite(values)
    return np.where(known.any(axis=-1), np.where(known, values, -np.inf).argmax(axis=-1) + 1, np.nan)


def module_and_cell(p: Published, number: Array) -> tuple[Array, Array]:
    """Module and cell, from 1, of this number of a cell in its string."""
    count = p.snapshot.modules.cell_v.shape[2]
    return (number - 1) // count + 1, (number - 1) % count + 1


def unknown(values: Floats) -> Array:
    """How many along the last axis are not known."""
    return np.asarray(np.isnan(values).sum(axis=-1))


def bits(flags: Array) -> Array:
    """Flags along the last axis as one number: the first is bit 0."""
    return np.asarray(flags @ (1 << np.arange(flags.shape[-1])))


def quality(*values: Floats) -> Array:
    """0: all along the last axis are known, 1: some, 2: none."""
    known = np.isfinite(np.concatenate(values, axis=-1))
    return np.where(known.all(axis=-1), 0, np.where(known.any(axis=-1), 1, 2))


def string_quality(p: Published) -> Array:
    """Quality of the measurements of each string."""
    return quality(cells(p), sensors(p), p.snapshot.units.current_a[:, None])


def rack_quality(p: Published) -> int:
    """Quality of all measurements."""
    return int(quality(cells(p).ravel(), sensors(p).ravel(), p.snapshot.units.current_a))


def feedback(codes: Array) -> Array:
    """Auxiliary contacts, or inputs, of which 3 is not known."""
    return np.where(codes == _UNKNOWN, np.nan, codes)


def unit_said(p: Published, values: Array) -> Array:
    """What contactor units say of themselves; nothing while their contacts are not known."""
    units = p.snapshot.units
    known = (units.minus != _UNKNOWN) | (units.state_age_s <= FRESH_S)
    return np.where(known & (values >= 0), values, np.nan)


def board_said(p: Published, values: Array) -> Array:
    """What boards say of themselves; nothing while what they say in the same frame is not known."""
    modules = p.snapshot.modules
    known = np.isfinite(modules.module_v) | (modules.state_age_s <= FRESH_S)
    return np.where(known & (values >= 0), values, np.nan)


def string_bound_a(p: Published, bounds: Iterable[Bound]) -> Array:
    """Tightest of the bounds that each string gave; NaN where it gave none."""
    amps = np.full(len(p.strings), np.nan)
    for bound in bounds:
        if bound.string is not None:
            amps[bound.string] = np.fmin(amps[bound.string], bound.amps)
    return amps


def fault_level(p: Published, shape: tuple[int, ...]) -> Array:
    """Highest level of the faults whose worst subject is in each place: (strings,) or (strings, modules)."""
    return _folded(p, shape, max)


def fault_count(p: Published, shape: tuple[int, ...]) -> Array:
    """Number of the faults whose worst subject is in each place: (strings,) or (strings, modules)."""
    return _folded(p, shape, lambda was, level: was + 1)  # noqa: ARG005


def _folded(p: Published, shape: tuple[int, ...], fold: Callable[[int, int], int]) -> Array:
    found = np.zeros(shape, dtype=np.int64)
    for fault in p.faults:
        where = tuple(number - 1 for number in (fault.string, fault.module)[: len(shape)] if number is not None)
        if len(where) == len(shape):
            found[where] = fold(int(found[where]), int(fault.level))
    return found
