"""Every fault that bmsd knows: one row each."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum


class Alarm(StrEnum):
    """What an inverter can be told, independent of its protocol."""

    GENERAL = "general"
    HIGH_VOLTAGE = "high_voltage"
    LOW_VOLTAGE = "low_voltage"
    HIGH_TEMPERATURE = "high_temperature"
    LOW_TEMPERATURE = "low_temperature"
    HIGH_TEMPERATURE_CHARGE = "high_temperature_charge"
    LOW_TEMPERATURE_CHARGE = "low_temperature_charge"
    HIGH_CHARGE_CURRENT = "high_charge_current"
    HIGH_DISCHARGE_CURRENT = "high_discharge_current"
    CONTACTOR = "contactor"
    SHORT_CIRCUIT = "short_circuit"
    INTERNAL = "internal"
    IMBALANCE = "imbalance"
