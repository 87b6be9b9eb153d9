"""A published record in JSON's own types: what scripts and browsers read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from enum import IntEnum
from typing import Any

import numpy as np

from bmsd.model.bound import Bound
from bmsd.model.fault import Fault
from bmsd.model.points import values
from bmsd.model.published import Published
from bmsd.model.snapshot import INPUTS, Feedback, Input, Reading, named

CONTACTORS = ("minus", "plus", "precharge")
_NAMES: dict[type[IntEnum], tuple[str, ...]] = {
    kind: tuple(code.name.lower() for code in kind) for kind in (Reading, Feedback, Input)
}


def as_object(published: Published) -> dict[str, Any]:
    """Return the record as an object for JSON: unknown is null, arrays are (strings, modules, items), numbers of
    strings, modules and items count from 1.
    """
    modules, balancing = published.snapshot.modules, published.estimate.balancing
    return {
        "sequence": published.sequence,
        "lifecycle": published.lifecycle,
        "missing": list(published.missing),
        "points": points(published),
        "cells": {
            "voltage_v": plain(modules.cell_v),
            "reading": _names(modules.cell_reading, Reading),
            "soc": plain(published.estimate.cell_soc),
            "soc_sigma": plain(published.estimate.cell_soc_sigma),
            "balancing": plain(published.command.balance),
            "balance_todo_ah": plain(balancing.todo_ah),
            "balance_todo_sigma_ah": plain(balancing.todo_sigma_ah),
            "balance_moved_ah": plain(balancing.moved_ah),
            "leak_ma": plain(balancing.leak_ma),
            "leak_sigma_ma": plain(balancing.leak_sigma_ma),
        },
        "temperature_degc": plain(modules.temperature_degc),
        "temperature_reading": _names(modules.temperature_reading, Reading),
        "module_v": plain(modules.module_v),
        "board_degc": plain(modules.board_degc),
        "module_age_s": plain(modules.cell_age_s),
        "temperature_age_s": plain(modules.temperature_age_s),
        "strings": strings(published),
        "charge_bounds": bounds(published.charge_bounds),
        "discharge_bounds": bounds(published.discharge_bounds),
        "charge_enabled": published.command.charge_enabled,
        "discharge_enabled": published.command.discharge_enabled,
        "faults": [fault(raised) for raised in published.faults],
        "vetoes": list(published.vetoes),
        "buses": [asdict(bus) for bus in published.buses],
        "inverter_age_s": plain(published.snapshot.inverter_age_s),
        "lateness_s": plain(published.lateness_s),
    }


def points(published: Published) -> dict[str, Any]:
    """Return all points by name."""
    return {name: plain(value) for name, value in values(published).items()}


def strings(published: Published) -> list[dict[str, Any]]:
    """Return state and measurements of every string."""
    units = published.snapshot.units
    return [
        {
            "string": index + 1,
            **asdict(status),
            "current_a": plain(units.current_a[index]),
            "string_v": plain(units.string_v[index]),
            "bus_v": plain(units.bus_v[index]),
            "soc": plain(published.estimate.string_soc[index]),
            "current_age_s": plain(units.current_age_s[index]),
            "voltage_age_s": plain(units.voltage_age_s[index]),
            "state_age_s": plain(units.state_age_s[index]),
            "contactors": {name: _name(getattr(units, name)[index], Feedback) for name in CONTACTORS},
            "inputs": {name: _name(units.inputs[index, place], Input) for place, name in enumerate(INPUTS)},
        }
        for index, status in enumerate(published.strings)
    ]


def bounds(given: Sequence[Bound]) -> list[dict[str, Any]]:
    """Return the bounds in their order."""
    return [{**plain(asdict(bound)), "string": None if bound.string is None else bound.string + 1} for bound in given]


def fault(raised: Fault) -> dict[str, Any]:
    """Return a fault with the name of its level."""
    return {**plain(asdict(raised)), "level": raised.level.name.lower()}


def _name(code: int, kind: type[IntEnum]) -> str | None:
    """Return the name of a code, None for one that says that nothing is known."""
    name = named(code, _NAMES[kind])
    return None if name == "unknown" else name


def _names(codes: Any, kind: type[IntEnum]) -> Any:
    if isinstance(codes, np.ndarray):
        codes = codes.tolist()
    return [_names(code, kind) for code in codes] if isinstance(codes, list) else _name(codes, kind)


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
