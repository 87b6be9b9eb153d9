"""The curves of limits and rest voltage: they rise, have as many shares as points, and are zero in time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from bmsd.config.described import settings
from bmsd.config.known import CLOSE, Check, Known, UnknownSettingError, amount
from bmsd.config.orders import DEEP_DISCHARGE_MARGIN_V, OVER_VOLTAGE_TRIP_MARGIN_V, P

LEAST_ALARM_DISTANCE_V = 0.02
"""The error of a cell voltage, and what a nearly full cell rises while an inverter follows."""


def rest_voltage(get: Known) -> Iterator[str]:
    soc, ocv_v = get("cell.ocv_soc"), get("cell.ocv_v")
    if not soc and not ocv_v:
        return
    if len(soc) != len(ocv_v):
        yield f"cell.ocv_v: {len(ocv_v)} entries; expected as many as cell.ocv_soc ({len(soc)})"
        return
    if not _rising(soc) or soc[0] != 0.0 or soc[-1] != 1.0:
        yield "cell.ocv_soc: not rising from 0 to 1; expected each entry above the one before, 0 first and 1 last"
    if not _rising(ocv_v):
        yield "cell.ocv_v: not rising; expected each entry above the one before"
    low, high = get("cell.min_v") - DEEP_DISCHARGE_MARGIN_V, get("cell.max_v") + OVER_VOLTAGE_TRIP_MARGIN_V
    if not (low - CLOSE <= min(ocv_v) and max(ocv_v) <= high + CLOSE):
        yield f"cell.ocv_v: {min(ocv_v):g}..{max(ocv_v):g} V; expected inside {low:g}..{high:g} V (cell.min_v, max_v)"


def _rising(values: Sequence[float]) -> bool:
    return all(low < high for low, high in pairwise(values))


def _curve(get: Known, path: str, x_name: str) -> tuple[list[float], list[float]] | None:
    """Points of a curve, None when their numbers differ or they do not rise (which `_curve_form` tells)."""
    x, share = get(f"{path}.{x_name}"), get(f"{path}.share")
    return (x, share) if len(x) == len(share) and _rising(x) else None


CURVES = (
    ("limits.charge_by_cell_v", "cell_v"),
    ("limits.discharge_by_cell_v", "cell_v"),
    ("limits.charge_by_temperature", "degc"),
    ("limits.discharge_by_temperature", "degc"),
)


def _curve_form(path: str, x_name: str) -> Check:
    def form(get: Known) -> Iterator[str]:
        x, share = get(f"{path}.{x_name}"), get(f"{path}.share")
        if len(x) != len(share):
            yield f"{path}.share: {len(share)} entries; expected as many as {x_name} ({len(x)})"
        if not _rising(x):
            yield f"{path}.{x_name}: {x}; expected each entry above the one before"
        if share and max(share) <= 0.0:
            yield f"{path}.share: all zero; expected one above 0: no current could ever flow"

    return form


def charge_by_cell_v(get: Known) -> Iterator[str]:
    path = "limits.charge_by_cell_v"
    curve = _curve(get, path, "cell_v")
    if curve is None:
        return
    cell_v, share = curve
    if any(low < high for low, high in pairwise(share)):
        yield f"{path}.share: {share}; expected never rising: less charge the fuller the cell"
    yield from _zero_at(path, "last", share[-1])
    yield from _past(path, "cell_v", "last", cell_v[-1], "<=", P + "cell_over_voltage_alarm_v", get)
    yield from _past(path, "cell_v", "last", cell_v[-1], ">", "charge.absorption_v", get)


def charge_ends_before_the_alarm(get: Known) -> Iterator[str]:
    """An inverter follows late: what still flows close to the end must not carry the cell over it to the alarm."""
    path, alarm = "limits.charge_by_cell_v", P + "cell_over_voltage_alarm_v"
    curve = _curve(get, path, "cell_v")
    if curve is None or curve[0][-1] > get(alarm) + CLOSE:
        return
    cell_v, share = curve
    rated_a = min(get("cell.charge_max_a"), get("string.fuse_a"), get("string.contactor_a"))
    flows_a = rated_a * float(np.interp(cell_v[-1] - LEAST_ALARM_DISTANCE_V, cell_v, share))
    away_v = LEAST_ALARM_DISTANCE_V + flows_a * get("cell.resistance_ohm")
    if cell_v[-1] > get(alarm) - away_v + CLOSE:
        yield (
            f"{path}.cell_v: the last entry is {cell_v[-1]:g} V, and {1000 * LEAST_ALARM_DISTANCE_V:g} mV before it "
            f"{flows_a:.3g} A flow; expected at most {get(alarm) - away_v:.4g} V ({alarm} - {away_v:.3g}): the charge "
            "would run into the alarm and the limit would swing"
        )


def discharge_by_cell_v(get: Known) -> Iterator[str]:
    path = "limits.discharge_by_cell_v"
    curve = _curve(get, path, "cell_v")
    if curve is None:
        return
    cell_v, share = curve
    if any(low > high for low, high in pairwise(share)):
        yield f"{path}.share: {share}; expected never falling: less discharge the emptier the cell"
    yield from _zero_at(path, "first", share[0])
    yield from _past(path, "cell_v", "first", cell_v[0], ">=", P + "cell_under_voltage_alarm_v", get)


def charge_by_temperature(get: Known) -> Iterator[str]:
    path = "limits.charge_by_temperature"
    curve = _curve(get, path, "degc")
    if curve is None:
        return
    degc, share = curve
    yield from _hill(path, share)
    yield from _past(path, "degc", "first", degc[0], ">=", P + "charge_temperature_low_alarm_degc", get)
    yield from _past(path, "degc", "last", degc[-1], "<=", P + "charge_temperature_high_alarm_degc", get)


def discharge_by_temperature(get: Known) -> Iterator[str]:
    path = "limits.discharge_by_temperature"
    curve = _curve(get, path, "degc")
    if curve is None:
        return
    degc, share = curve
    yield from _hill(path, share)
    yield from _past(path, "degc", "first", degc[0], ">=", P + "temperature_low_alarm_degc", get)
    yield from _past(path, "degc", "last", degc[-1], "<=", P + "temperature_high_alarm_degc", get)


def _hill(path: str, share: Sequence[float]) -> Iterator[str]:
    top = share.index(max(share))
    if list(share[: top + 1]) != sorted(share[: top + 1]) or list(share[top:]) != sorted(share[top:], reverse=True):
        yield f"{path}.share: {list(share)}; expected rising, then falling"
    yield from _zero_at(path, "first", share[0])
    yield from _zero_at(path, "last", share[-1])


def _zero_at(path: str, end: str, share: float) -> Iterator[str]:
    if share != 0.0:
        yield f"{path}.share: the {end} entry is {share:g}; expected 0: beyond the curve nothing may flow"


def _past(path: str, x_name: str, end: str, x: float, sign: str, other: str, get: Known) -> Iterator[str]:
    """Where a curve reaches zero against another setting; says nothing when that is unknown."""
    try:
        bound = get(other)
    except UnknownSettingError:
        return
    holds = {"<=": x <= bound + CLOSE, ">=": x >= bound - CLOSE, ">": x > bound + CLOSE}[sign]
    if not holds:
        words = {"<=": "at most", ">=": "at least", ">": "above"}[sign]
        unit = settings()[f"{path}.{x_name}"].unit
        expected = f"{words} {amount(bound, unit)} ({other})"
        yield f"{path}.{x_name}: the {end} entry is {amount(x, unit)}; expected {expected}"


CHECKS: tuple[Check, ...] = (
    rest_voltage,
    *(_curve_form(path, x_name) for path, x_name in CURVES),
    charge_by_cell_v,
    charge_ends_before_the_alarm,
    discharge_by_cell_v,
    charge_by_temperature,
    discharge_by_temperature,
)
