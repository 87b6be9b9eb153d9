"""Builder of a configuration for tests: tables that are right until one setting is changed by its path."""

from __future__ import annotations

import re
from copy import deepcopy
from typing import Any

from bmsd.config.described import settings
from bmsd.config.load import checked, checked_gateway
from bmsd.errors import ConfigError

RIGHT: dict[str, Any] = {
    "rack": {"name": "test"},
    "layout": {"strings": 2, "modules_per_string": 2, "cells_per_module": 16, "sensors_per_module": 4},
    "cell": {
        "chemistry": "lfp",
        "capacity_ah": 280.0,
        "max_v": 3.65,
        "min_v": 2.5,
        "charge_max_a": 140.0,
        "discharge_max_a": 140.0,
        "charge_min_degc": 0.0,
        "charge_max_degc": 55.0,
        "discharge_min_degc": -20.0,
        "discharge_max_degc": 60.0,
        "resistance_ohm": 0.00025,
    },
    "string": {"fuse_a": 200.0, "contactor_a": 250.0, "contactor_break_a": 500.0},
    "fieldbus": {"interface": "socketcan", "channel": "can0"},
    "inverter": {"interface": "socketcan", "channel": "can1", "profile": "pylontech_lv"},
}

GONE = object()


def tables(changes: dict[str, Any] | None = None) -> dict[str, Any]:
    """The right tables with settings changed by dotted path, in lists of tables of the first; GONE takes one away."""
    data = deepcopy(RIGHT)
    for path, value in (changes or {}).items():
        *homes, name = path.split(".")
        table = data
        for depth, home in enumerate(homes, start=1):
            found = settings().get(".".join(homes[:depth]))
            in_list = found is not None and found.kind == "list of tables"
            table = table.setdefault(home, [{}])[0] if in_list else table.setdefault(home, {})
        if value is GONE:
            table.pop(name, None)
        else:
            table[name] = value
    return data


def complaints(changes: dict[str, Any]) -> list[str]:
    """What control and gateway say of the right tables with these changes; empty when nothing is wrong."""
    lines: dict[str, None] = {}
    for check in (checked, checked_gateway):
        try:
            check(tables(changes))
        except ConfigError as error:
            lines |= dict.fromkeys(error.complaints)
    return list(lines)


def about(path: str, lines: list[str]) -> list[str]:
    """The lines about this setting; that it is one of several tables is left out of them."""
    plain = (re.sub(r"^([\w.]+), entry \d+\.", r"\1.", line) for line in lines)
    return [line for line in plain if line.startswith((f"{path}:", f"{path},"))]
