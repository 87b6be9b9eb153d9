"""A published record in JSON's own types: what scripts and browsers read."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import numpy as np

from bmsd.model.bound import Bound
from bmsd.model.points import values
from bmsd.model.published import Published


def as_object(published: Published) -> dict[str, Any]:
    """Return the record as an object for JSON: unknown numbers are null, arrays are (strings, modules, items)."""
    modules, units = published.snapshot.modules, published.snapshot.units
    return {
        "sequence": published.sequence,
        "lifecycle": published.lifecycle,
        "missing": list(published.missing),
        "points": {name: plain(value) for name, value in values(published).items()},
        "cells": {
            "voltage_v": plain(modules.cell_v),
            "soc": plain(published.estimate.cell_soc),
            "soc_sigma": plain(published.estimate.cell_soc_sigma),
            "balancing": plain(published.command.balance),
        },
        "temperature_degc": plain(modules.temperature_degc),
        "module_age_s": plain(modules.cell_age_s),
        "strings": [
            {
                **asdict(status),
                "current_a": plain(units.current_a[index]),
                "string_v": plain(units.string_v[index]),
                "bus_v": plain(units.bus_v[index]),
                "soc": plain(published.estimate.string_soc[index]),
            }
            for index, status in enumerate(published.strings)
        ],
        "charge_bounds": [bound_object(bound) for bound in published.charge_bounds],
        "discharge_bounds": [bound_object(bound) for bound in published.discharge_bounds],
        "charge_enabled": published.command.charge_enabled,
        "discharge_enabled": published.command.discharge_enabled,
        "faults": [{**plain(asdict(fault)), "level": fault.level.name.lower()} for fault in published.faults],
        "vetoes": list(published.vetoes),
        "buses": [asdict(bus) for bus in published.buses],
        "inverter_age_s": plain(published.snapshot.inverter_age_s),
        "lateness_s": plain(published.lateness_s),
    }


def bound_object(bound: Bound) -> dict[str, Any]:
    """Return a bound; its string counts from 1, null: of the whole rack."""
    found: dict[str, Any] = plain(asdict(bound))
    return found | {"string": None if bound.string is None else bound.string + 1}


def plain(value: Any) -> Any:
    """Return the value in JSON's own types, with null for what is not a finite number."""
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value
