"""Commands as the core hands them over, for the tests of the inverter side."""

from __future__ import annotations

from typing import Any

import numpy as np

from bmsd.model.command import Command
from bmsd.model.plant import InverterSettings

NONE = np.zeros(0, dtype=bool)


def a_command(**changes: Any) -> Command:
    """Return a fresh command of a 16s rack in good health, with changes."""
    values: dict[str, Any] = {
        "cvl_v": 56.0,
        "dvl_v": 44.8,
        "ccl_a": 100.0,
        "dcl_a": 120.0,
        "charge_enabled": True,
        "discharge_enabled": True,
        "close_minus": NONE,
        "close_precharge": NONE,
        "close_plus": NONE,
        "inverter_enable": NONE,
        "commanded": NONE,
        "balance": NONE,
        "heartbeat": True,
        "voltage_v": 52.48,
        "current_a": 12.3,
        "temperature_degc": 23.5,
        "soc": 0.55,
        "soh": 0.98,
        "modules_online": 4,
        "fresh": True,
    }
    return Command(**(values | changes))


def settings(**changes: Any) -> InverterSettings:
    """Return the settings of an inverter that gets zero limits for 5 s before silence."""
    values: dict[str, Any] = {
        "profile": "pylontech_lv",
        "options": {},
        "period_s": 1.0,
        "zero_before_silence_s": 5.0,
        "keepalive_required": False,
        "keepalive_timeout_s": 60.0,
    }
    return InverterSettings(**(values | changes))
