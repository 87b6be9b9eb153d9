"""What one row of the catalogue says of a fault."""

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


class Level(IntEnum):
    """Info; warning: derate, show; alarm: limits to zero, contactors stay; trip: open."""

    INFO = 0
    WARNING = 1
    ALARM = 2
    TRIP = 3


class Scope(StrEnum):
    """What the subjects of a row are; a debounce belongs to a subject."""

    CELL = "cell"
    SENSOR = "sensor"
    MODULE = "module"
    STRING = "string"
    BUS = "bus"
    RACK = "rack"


class Latch(StrEnum):
    """Who may clear the fault once its condition is gone."""

    AUTO = "auto"
    OPERATOR = "operator"
    SERVICE = "service"


@dataclass(frozen=True)
class Row:
    """One fault. `trip` and `clear` are numbers or names of settings in `[protection]`.

    The fault is raised when the detector's value has been beyond `trip` (above it, or below when `below`)
    for at least `samples` new samples and `delay_s`; it clears after `clear_s` beyond `clear` on the good side.
    `bound_at_once`: zero limits act on the first sample, before the fault is raised. `derates_to`: share of the
    string's rated currents that is left while it is raised. `notice_s`: the inverter is asked to stop and the string
    opens when |I| < 2 A or after this time. `open_after_s`: an alarm that lasts this long opens the string.
    `bars_closing`: a string that is open must not be closed, likewise from the first sample on. `opens_others`: the
    other strings open, too, but only without current, and stay open: the string does not obey. `whole_rack`: wherever
    it was found, it concerns all strings. `auto_per_hour`: more raises than this within an hour latch. `unknown_trips`:
    not knowing counts as bad. `reclose_on_ack`: an acknowledgement lets the string close again for charging although
    the condition still stands. `node_trip`: nodes latch it, too; who has their trips reset has acknowledged it, as soon
    as they are released. `reset_group`: another word that resets it.
    """

    code: str
    name: str
    scope: Scope
    detector: str
    trip: float | str
    clear: float | str
    level: Level
    means: str
    does: str
    remedy: str
    below: bool = False
    samples: int = 1
    delay_s: float = 0.0
    clear_s: float = 0.0
    stops_charge: bool = False
    stops_discharge: bool = False
    bound_at_once: bool = True
    derates_to: float | None = None
    notice_s: float = 0.0
    open_after_s: float | None = None
    bars_closing: bool = False
    latch: Latch = Latch.AUTO
    auto_per_hour: int | None = None
    unknown_trips: bool = False
    reclose_on_ack: bool = False
    node_trip: bool = False
    force_charge: bool = False
    opens_others: bool = False
    whole_rack: bool = False
    reset_group: str = ""
    alarms: frozenset[Alarm] = frozenset()
