"""The cell model at the temperatures of now: tables per string, looked up by state of charge.

Between the temperatures of the model rest voltages are interpolated and resistances in their logarithm; outside, the
entropic coefficient (rest voltage) and Arrhenius' law (resistances, error) carry them further.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bmsd.model.cell import GRID, KELVIN, CellModel
from bmsd.model.snapshot import Floats

SLOPE_SPAN = 3
"""The slope is taken over this many points of the grid: 1.5 % of SoC. The table's own steps are not information."""
LEAST_SLOPE_V = 0.01
"""Per unit of SoC."""


@dataclass(frozen=True, slots=True)
class Tables:
    """Of each string: rest voltage, half gap, slope, R0 and model error over SoC (strings, GRID); RC pairs (strings,
    pairs); SoC that the surface is ahead by at 1 C, and temperature in degC for which all this holds (strings,)."""

    degc: Floats
    mid_v: Floats
    half_v: Floats
    slope_v: Floats
    r0_ohm: Floats
    rc_ohm: Floats
    error_v: Floats
    ahead_per_c: Floats


def tables(model: CellModel, degc: Floats) -> Tables:
    """Return the model at these temperatures (strings,), degC."""
    mid_v = _between(model.ocv_degc, model.mid_v, degc)
    beyond_k = degc - np.clip(degc, model.ocv_degc[0], model.ocv_degc[-1])
    mid_v = mid_v + beyond_k[:, None] * model.entropy_v_per_k
    half_v = _between(model.ocv_degc, model.half_v, degc)
    span = np.arange(GRID)
    low, high = np.maximum(span - SLOPE_SPAN, 0), np.minimum(span + SLOPE_SPAN, GRID - 1)
    slope_v = np.maximum((mid_v[:, high] - mid_v[:, low]) / ((high - low) / (GRID - 1.0)), LEAST_SLOPE_V)
    grows = arrhenius(model, degc)
    return Tables(
        degc=degc,
        mid_v=mid_v,
        half_v=half_v,
        slope_v=slope_v,
        r0_ohm=np.exp(_between(model.resistance_degc, np.log(model.r0_ohm), degc)) * grows[:, None],
        rc_ohm=np.exp(_between(model.resistance_degc, np.log(model.rc_ohm), degc)) * grows[:, None],
        error_v=_between(model.resistance_degc, model.error_v, degc) * np.sqrt(np.maximum(grows, 1.0))[:, None],
        ahead_per_c=_between(model.resistance_degc, model.diffusion_soc_per_c[:, None], degc)[:, 0] * grows,
    )


def arrhenius(model: CellModel, degc: Floats) -> Floats:
    """Factor of the resistances beyond the temperatures at which they are known."""
    known = np.clip(degc, model.resistance_degc[0], model.resistance_degc[-1])
    return np.exp(model.activation_k * (1.0 / (degc + KELVIN) - 1.0 / (known + KELVIN)))


def moved_per_c(model: CellModel, of: Tables, t_s: Floats) -> Floats:
    """SoC by which the particles' surface moves in these times (times,) at 1C: (strings, times)."""
    return t_s / 3600.0 + of.ahead_per_c[:, None] * (1.0 - np.exp(-t_s / model.diffusion_tau_s))


def _between(at: Floats, values: Floats, degc: Floats) -> Floats:
    """Values (temperatures, ...) at these temperatures, linear between, level outside: (strings, ...)."""
    if len(at) == 1:
        return np.repeat(values, len(degc), axis=0)
    upper = np.clip(np.searchsorted(at, degc), 1, len(at) - 1)
    part = np.clip((degc - at[upper - 1]) / (at[upper] - at[upper - 1]), 0.0, 1.0)[:, None]
    return values[upper - 1] * (1.0 - part) + values[upper] * part


def place(soc: Floats) -> tuple[np.ndarray, Floats]:
    """Index below and part of the way to the next, on SOC_GRID, of SoC (strings, ...), flat over the strings."""
    position = np.minimum(np.maximum(soc, 0.0), 1.0) * (GRID - 1.0)
    below = np.minimum(np.fmax(position, 0.0).astype(np.int64), GRID - 2)  # an unknown SoC stays unknown by its part
    first = (np.arange(soc.shape[0]) * GRID).reshape((-1,) + (1,) * (soc.ndim - 1))
    return below + first, position - below


def at(table: Floats, where: tuple[np.ndarray, Floats]) -> Floats:
    """Look a table (strings, GRID) up at these places."""
    below, part = where
    flat = table.ravel()
    low = flat[below]
    found: Floats = low + part * (flat[below + 1] - low)
    return found
