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
    `bound_at_once`: zero limits act on the first sample, before the fault is raised. `notice_s`: the inverter
    is asked to stop and the string opens when |I| < 2 A or after this time. `open_after_s`: an alarm that
    lasts this long opens the string. `auto_per_hour`: more raises than this within an hour latch.
    `unknown_trips`: not knowing counts as bad. `reclose_on_ack`: an acknowledgement lets the string close
    again for charging although the condition still stands.
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
    notice_s: float = 0.0
    open_after_s: float | None = None
    latch: Latch = Latch.AUTO
    auto_per_hour: int | None = None
    unknown_trips: bool = False
    reclose_on_ack: bool = False
    force_charge: bool = False
    alarms: frozenset[Alarm] = frozenset()


def _a(*alarms: Alarm) -> frozenset[Alarm]:
    return frozenset(alarms)


_DATA = _a(Alarm.INTERNAL)

# fmt: off
CATALOGUE: tuple[Row, ...] = (
    Row(
        "CEL-001", "cell_over_voltage_warning", Scope.CELL, "cell_voltage",
        "cell_over_voltage_warning_v", "cell_over_voltage_warning_clear_v", Level.WARNING,
        "A cell is close to its upper voltage limit.",
        "The charge limit is already reduced by cell voltage; the charge voltage limit is lowered.",
        "Clears by itself. When it returns at every charge: check balancing and the charge voltage.",
        samples=3, delay_s=1.0, clear_s=10.0, alarms=_a(Alarm.HIGH_VOLTAGE),
    ),
    Row(
        "CEL-002", "cell_over_voltage_alarm", Scope.CELL, "cell_voltage",
        "cell_over_voltage_alarm_v", "cell_over_voltage_alarm_clear_v", Level.ALARM,
        "A cell is above its upper voltage limit.",
        "Charging is stopped from the first sample on; contactors stay closed.",
        "Clears by itself after the cell has come down. Check that the inverter obeys its charge limit.",
        samples=3, clear_s=60.0, stops_charge=True, alarms=_a(Alarm.HIGH_VOLTAGE),
    ),
    Row(
        "CEL-003", "cell_over_voltage_trip", Scope.CELL, "cell_voltage",
        "cell_over_voltage_trip_v", "cell_over_voltage_trip_clear_v", Level.TRIP,
        "A cell went on rising although charging was stopped.",
        "The inverter is asked to stop, then the string opens and stays open.",
        "Find out why the charge went on; acknowledge when the cell is below the clear voltage.",
        delay_s=0.5, stops_charge=True, notice_s=2.0, latch=Latch.OPERATOR, alarms=_a(Alarm.HIGH_VOLTAGE),
    ),
    Row(
        "CEL-004", "cell_over_voltage_critical", Scope.CELL, "cell_voltage",
        "cell_over_voltage_critical_v", "cell_over_voltage_critical_clear_v", Level.TRIP,
        "A cell is so far above its limit that it may be damaged.",
        "The string opens at once; charging is locked out.",
        "Inspect the module. Service acknowledges with a reason.",
        samples=2, stops_charge=True, stops_discharge=True, latch=Latch.SERVICE,
        alarms=_a(Alarm.HIGH_VOLTAGE, Alarm.INTERNAL),
    ),
    Row(
        "CEL-005", "cell_under_voltage_warning", Scope.CELL, "cell_voltage",
        "cell_under_voltage_warning_v", "cell_under_voltage_warning_clear_v", Level.WARNING,
        "A cell is close to its lower voltage limit.",
        "The discharge limit is already reduced by cell voltage.",
        "Clears by itself. Charge the rack.",
        below=True, samples=3, delay_s=1.0, clear_s=10.0, alarms=_a(Alarm.LOW_VOLTAGE),
    ),
    Row(
        "CEL-006", "cell_under_voltage_alarm", Scope.CELL, "cell_voltage",
        "cell_under_voltage_alarm_v", "cell_under_voltage_alarm_clear_v", Level.ALARM,
        "A cell is below its lower voltage limit.",
        "Discharging is stopped from the first sample on and a charge is requested; contactors stay closed.",
        "Charge the rack; clears by itself.",
        below=True, samples=3, clear_s=60.0, stops_discharge=True, force_charge=True, alarms=_a(Alarm.LOW_VOLTAGE),
    ),
    Row(
        "CEL-007", "cell_under_voltage_trip", Scope.CELL, "cell_under_voltage_trip",
        "cell_under_voltage_trip_v", "cell_under_voltage_trip_clear_v", Level.TRIP,
        "A cell went on falling although discharging was stopped, or stayed low for 10 minutes.",
        "The inverter is asked to stop, then the string opens.",
        "Acknowledge to close the string for charging only; clears when all cells are up again.",
        below=True, delay_s=0.5, stops_discharge=True, notice_s=2.0, latch=Latch.OPERATOR, reclose_on_ack=True,
        alarms=_a(Alarm.LOW_VOLTAGE),
    ),
    Row(
        "CEL-008", "cell_deep_discharge", Scope.CELL, "cell_voltage",
        "cell_deep_discharge_v", "cell_deep_discharge_clear_v", Level.TRIP,
        "A cell was discharged so deeply that charging it may be dangerous.",
        "The string opens and charging is prohibited.",
        "Inspect and replace the module; below 2.0 V a cell must never be charged again. Service acknowledges.",
        below=True, samples=3, stops_charge=True, stops_discharge=True, latch=Latch.SERVICE,
        alarms=_a(Alarm.LOW_VOLTAGE, Alarm.INTERNAL),
    ),
    Row(
        "CEL-014", "cell_voltage_invalid", Scope.CELL, "cell_invalid", 0.5, 0.5, Level.ALARM,
        "A board reports a cell voltage as invalid, or one outside cell_plausible_min_v to cell_plausible_max_v.",
        "Limits are zero while the cell is not known; its string opens after 10 s.",
        "Check the sense wire and connector of the cell. Clears by itself once, else acknowledge.",
        samples=3, clear_s=10.0, stops_charge=True, stops_discharge=True, open_after_s=10.0, auto_per_hour=1,
        alarms=_DATA,
    ),
    Row(
        "TMP-001", "high_temperature_charge_warning", Scope.SENSOR, "temperature_charging",
        "charge_temperature_high_warning_degc", "charge_temperature_high_warning_clear_degc", Level.WARNING,
        "A cell is warm while charging.", "The charge limit is reduced by temperature.",
        "Clears by itself. Check ventilation.",
        delay_s=5.0, clear_s=60.0, alarms=_a(Alarm.HIGH_TEMPERATURE_CHARGE),
    ),
    Row(
        "TMP-002", "high_temperature_charge_alarm", Scope.SENSOR, "temperature_charging",
        "charge_temperature_high_alarm_degc", "charge_temperature_high_alarm_clear_degc", Level.ALARM,
        "A cell is too hot to be charged.", "Charging is stopped.", "Let the rack cool; check ventilation.",
        delay_s=5.0, clear_s=120.0, stops_charge=True, alarms=_a(Alarm.HIGH_TEMPERATURE_CHARGE),
    ),
    Row(
        "TMP-003", "high_temperature_charge_trip", Scope.SENSOR, "temperature_charging",
        "charge_temperature_high_trip_degc", "charge_temperature_high_trip_clear_degc", Level.TRIP,
        "A cell is charged although it is far too hot.", "The string opens after 1 s of notice.",
        "Find out why the inverter went on charging; acknowledge when cool.",
        delay_s=5.0, stops_charge=True, notice_s=1.0, latch=Latch.OPERATOR,
        alarms=_a(Alarm.HIGH_TEMPERATURE_CHARGE, Alarm.HIGH_TEMPERATURE),
    ),
    Row(
        "TMP-004", "high_temperature_warning", Scope.SENSOR, "temperature",
        "temperature_high_warning_degc", "temperature_high_warning_clear_degc", Level.WARNING,
        "A cell is warm.", "The discharge limit is reduced by temperature.", "Clears by itself. Check ventilation.",
        delay_s=5.0, clear_s=60.0, alarms=_a(Alarm.HIGH_TEMPERATURE),
    ),
    Row(
        "TMP-005", "high_temperature_alarm", Scope.SENSOR, "temperature",
        "temperature_high_alarm_degc", "temperature_high_alarm_clear_degc", Level.ALARM,
        "A cell is too hot.", "Charging and discharging are stopped.", "Let the rack cool; check ventilation.",
        delay_s=5.0, clear_s=120.0, stops_charge=True, stops_discharge=True, alarms=_a(Alarm.HIGH_TEMPERATURE),
    ),
    Row(
        "TMP-006", "high_temperature_trip", Scope.SENSOR, "temperature",
        "temperature_high_trip_degc", "temperature_high_trip_clear_degc", Level.TRIP,
        "A cell is dangerously hot.", "The string opens after 1 s of notice.",
        "Inspect the module; acknowledge when cool.",
        delay_s=5.0, stops_charge=True, stops_discharge=True, notice_s=1.0, latch=Latch.OPERATOR,
        alarms=_a(Alarm.HIGH_TEMPERATURE),
    ),
    Row(
        "TMP-007", "low_temperature_charge_warning", Scope.SENSOR, "temperature",
        "charge_temperature_low_warning_degc", "charge_temperature_low_warning_clear_degc", Level.WARNING,
        "A cell is cold.", "The charge limit is reduced by temperature.", "Clears by itself. Heat the room.",
        below=True, delay_s=5.0, clear_s=60.0, alarms=_a(Alarm.LOW_TEMPERATURE_CHARGE),
    ),
    Row(
        "TMP-008", "low_temperature_charge_alarm", Scope.SENSOR, "temperature",
        "charge_temperature_low_alarm_degc", "charge_temperature_low_alarm_clear_degc", Level.ALARM,
        "A cell is too cold to be charged: lithium would plate.", "Charging is stopped.", "Heat the room.",
        below=True, samples=3, clear_s=120.0, stops_charge=True, alarms=_a(Alarm.LOW_TEMPERATURE_CHARGE),
    ),
    Row(
        "TMP-009", "charging_while_too_cold", Scope.SENSOR, "temperature_charging",
        "charge_temperature_low_trip_degc", "charge_temperature_low_trip_clear_degc", Level.TRIP,
        "A cell is charged although it is frozen.", "The inverter is asked to stop, then the string opens.",
        "Find out why the inverter went on charging; acknowledge when warm.",
        below=True, delay_s=60.0, stops_charge=True, notice_s=2.0, latch=Latch.OPERATOR,
        alarms=_a(Alarm.LOW_TEMPERATURE_CHARGE, Alarm.HIGH_CHARGE_CURRENT),
    ),
    Row(
        "TMP-010", "low_temperature_warning", Scope.SENSOR, "temperature",
        "temperature_low_warning_degc", "temperature_low_warning_clear_degc", Level.WARNING,
        "A cell is very cold.", "The discharge limit is reduced by temperature.", "Clears by itself. Heat the room.",
        below=True, delay_s=5.0, alarms=_a(Alarm.LOW_TEMPERATURE),
    ),
    Row(
        "TMP-011", "low_temperature_alarm", Scope.SENSOR, "temperature",
        "temperature_low_alarm_degc", "temperature_low_alarm_clear_degc", Level.ALARM,
        "A cell is too cold to be discharged.", "Discharging is stopped.", "Heat the room.",
        below=True, delay_s=5.0, stops_discharge=True, alarms=_a(Alarm.LOW_TEMPERATURE),
    ),
    Row(
        "CUR-001", "charge_current_high", Scope.RACK, "charge_over_warning", 0.0, 0.0, Level.WARNING,
        "The inverter charges with more than it was allowed.", "Recorded; the limits are sent again.",
        "Clears by itself. When it stays: check the inverter's battery settings.",
        delay_s=2.0, clear_s=10.0, alarms=_a(Alarm.HIGH_CHARGE_CURRENT),
    ),
    Row(
        "CUR-002", "charge_over_current_alarm", Scope.RACK, "charge_over_alarm", 0.0, 0.0, Level.ALARM,
        "The charge current is far above what was allowed, or above what the cells stand.",
        "The charge limit is zero.",
        "Clears by itself three times an hour, then acknowledge. Check the inverter's battery settings.",
        delay_s=1.0, clear_s=60.0, stops_charge=True, bound_at_once=False, auto_per_hour=3,
        alarms=_a(Alarm.HIGH_CHARGE_CURRENT),
    ),
    Row(
        "CUR-003", "charge_over_current_trip", Scope.STRING, "charge_share", "over_current_trip_factor", 1.0,
        Level.TRIP,
        "A string is charged with more than its hard limit times the trip factor.",
        "The string opens; its contactor unit does so by itself at 150 ms.",
        "Find the cause before acknowledging.",
        samples=2, delay_s=0.05, stops_charge=True, notice_s=0.1, latch=Latch.OPERATOR,
        alarms=_a(Alarm.HIGH_CHARGE_CURRENT),
    ),
    Row(
        "CUR-004", "discharge_current_high", Scope.RACK, "discharge_over_warning", 0.0, 0.0, Level.WARNING,
        "The inverter discharges with more than it was allowed.", "Recorded; the limits are sent again.",
        "Clears by itself. When it stays: check the inverter's battery settings.",
        delay_s=2.0, clear_s=10.0, alarms=_a(Alarm.HIGH_DISCHARGE_CURRENT),
    ),
    Row(
        "CUR-005", "discharge_over_current_alarm", Scope.RACK, "discharge_over_alarm", 0.0, 0.0, Level.ALARM,
        "The discharge current is far above what was allowed, or above what the cells stand.",
        "The discharge limit is zero.",
        "Clears by itself three times an hour, then acknowledge. Check the inverter's battery settings.",
        delay_s=1.0, clear_s=60.0, stops_discharge=True, bound_at_once=False, auto_per_hour=3,
        alarms=_a(Alarm.HIGH_DISCHARGE_CURRENT),
    ),
    Row(
        "CUR-006", "discharge_over_current_trip", Scope.STRING, "discharge_share", "over_current_trip_factor", 1.0,
        Level.TRIP,
        "A string is discharged with more than its hard limit times the trip factor.",
        "The string opens; above the contactors' break rating the fuse is given 3 s first.",
        "Find the cause before acknowledging.",
        samples=2, delay_s=0.05, stops_discharge=True, notice_s=0.1, latch=Latch.OPERATOR,
        alarms=_a(Alarm.HIGH_DISCHARGE_CURRENT),
    ),
    Row(
        "CUR-008", "current_sensor_lost", Scope.STRING, "current_age", "hold_s", "hold_s", Level.ALARM,
        "A contactor unit sends no valid current.", "Limits are zero; its string opens after 5 s.",
        "Check the contactor unit and its shunt. Clears by itself once an hour, else acknowledge.",
        delay_s=0.2, clear_s=1.0, stops_charge=True, stops_discharge=True, open_after_s=5.0, auto_per_hour=1,
        alarms=_DATA,
    ),
    Row(
        "MOD-001", "module_lost", Scope.MODULE, "cell_age", "hold_s", "hold_s", Level.ALARM,
        "A module board does not answer completely.",
        "Limits are zero as soon as its values are stale; its string opens 10 s after the last good measurement.",
        "Check the board, its supply and the bus wiring. Clears by itself once an hour, else acknowledge.",
        delay_s=2.4, clear_s=1.0, stops_charge=True, stops_discharge=True, open_after_s=7.0, auto_per_hour=1,
        alarms=_DATA,
    ),
    Row(
        "MOD-006", "stale_alive_counter", Scope.MODULE, "counter_errors", 2.5, 0.5, Level.ALARM,
        "A module board answers with the number of another SYNC: its values are old.",
        "Its frames are dropped; limits are zero.",
        "Restart the board; check its firmware. Clears by itself after good answers.",
        clear_s=1.0, stops_charge=True, stops_discharge=True, alarms=_DATA,
    ),
    Row(
        "MOD-007", "crc_failures", Scope.MODULE, "crc_errors", 1.0, 0.05, Level.WARNING,
        "Frames of a module board arrive damaged: over 1 % or more than 5 in 10 s.",
        "Damaged frames are dropped.",
        "Check termination, shield and supply of the bus. Clears by itself.",
        clear_s=60.0, alarms=_DATA,
    ),
    Row(
        "CAN-001", "bus_off", Scope.BUS, "bus_off", 0.5, 0.5, Level.ALARM,
        "The CAN controller has left the bus after too many errors.", "Limits are zero; the bus is opened again.",
        "Check wiring, termination and bit rate. Clears by itself three times an hour, then acknowledge.",
        clear_s=10.0, stops_charge=True, stops_discharge=True, auto_per_hour=3, alarms=_DATA,
    ),
    Row(
        "CAN-005", "transmit_stalled", Scope.BUS, "send_stalled", "send_stalled_s", 0.001, Level.ALARM,
        "Frames cannot be sent.", "Limits are zero; old frames are dropped, never sent late.",
        "Check that another node is on the bus, wiring and bit rate. Clears by itself.",
        clear_s=10.0, stops_charge=True, stops_discharge=True, alarms=_DATA,
    ),
    Row(
        "CAN-009", "interface_down", Scope.BUS, "bus_down", 0.5, 0.5, Level.ALARM,
        "A CAN interface is down or not there.", "Limits are zero; the interface is opened again with pauses.",
        "Bring the interface up: ip link set NAME up type can bitrate 500000. Clears by itself.",
        clear_s=1.0, stops_charge=True, stops_discharge=True, alarms=_DATA,
    ),
    Row(
        "SYS-001", "control_loop_late", Scope.RACK, "loop_lateness", "loop_late_periods", 1.5, Level.ALARM,
        "The control loop is late: the computer is overloaded.",
        "Limits are zero; the heartbeat is withheld when a tick takes longer than 1 s.",
        "Find what loads the computer. Clears by itself.",
        samples=3, clear_s=60.0, stops_charge=True, stops_discharge=True, bound_at_once=False, alarms=_DATA,
    ),
    Row(
        "SYS-019", "transmit_gate_blocked", Scope.RACK, "gate_blocked", 0.5, 0.5, Level.ALARM,
        "A frame over an independent limit, or one that bmsd may not send, was about to be sent.",
        "The frame was not sent; limits are zero.",
        "A defect of bmsd: save the records and report it, then acknowledge.",
        stops_charge=True, stops_discharge=True, latch=Latch.OPERATOR, alarms=_DATA,
    ),
)
# fmt: on


def row(code: str) -> Row:
    """Return the row of this code; KeyError when there is none."""
    return _BY_CODE[code]


_BY_CODE = {entry.code: entry for entry in CATALOGUE}
