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
        "CEL-011", "cell_voltage_jumps", Scope.CELL, "cell_jump", 0.5, 0.5, Level.WARNING,
        "A cell voltage jumps by more than 50 mV although the current does not: a loose sense wire, or worse.",
        "Nothing by itself. A cell that stays 100 mV lower is a sign of TMP-016.",
        "Check the sense wire and connector of the cell. Clears by itself.",
        clear_s=60.0, alarms=_DATA,
    ),
    Row(
        "CEL-012", "sense_wire_open", Scope.CELL, "sense_wire_open", 0.5, 0.5, Level.ALARM,
        "A board has found the sense wire of a cell open.",
        "The cell counts as unknown: limits are zero; its string opens after 10 s.",
        "Check the sense wire and connector of the cell; acknowledge when it is measured again.",
        stops_charge=True, stops_discharge=True, open_after_s=10.0, latch=Latch.OPERATOR, alarms=_DATA,
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
        "CEL-017", "cell_self_discharge", Scope.CELL, "self_discharge",
        "self_discharge_ma", "self_discharge_clear_ma", Level.WARNING,
        "A cell drains itself more than the others of its string, and by more than doubt allows (two sigma).",
        "Shown with the leak in mA; the other cells are bled to keep level with it.",
        "Watch whether it grows; have the module looked at with the next service. Acknowledge.",
        latch=Latch.OPERATOR, alarms=_a(Alarm.IMBALANCE),
    ),
    Row(
        "CEL-022", "cell_soft_short", Scope.CELL, "soft_short",
        "soft_short_ma", "self_discharge_clear_ma", Level.WARNING,
        "A cell has drained itself over the last week as a cell with a soft short inside does.",
        "Shown with the leak in mA; the other cells are bled to keep level with it, as far as their bleeders can.",
        "Plan its exchange soon: soft shorts grow. Service acknowledges with a reason.",
        latch=Latch.SERVICE, alarms=_a(Alarm.IMBALANCE),
    ),
    Row(
        "CEL-020", "cell_count_mismatch", Scope.MODULE, "cell_count", 0.5, 0.5, Level.ALARM,
        "A board measures another number of cells than is configured.",
        "Limits are zero and the string is not closed; a closed one opens after 5 s.",
        "Compare the board with the configuration: a cell too many is charged unwatched. Service acknowledges with a "
        "reason.",
        stops_charge=True, stops_discharge=True, open_after_s=5.0, bars_closing=True, latch=Latch.SERVICE,
        alarms=_DATA,
    ),
    Row(
        "CEL-015", "string_voltage_mismatch", Scope.STRING, "string_voltage", 0.0, 0.0, Level.ALARM,
        "The string voltage, or the bus voltage of a closed string, is not the sum of the cells: one of both is wrong.",
        "The contactor unit's voltage is not believed; limits are zero; the string opens after 10 s.",
        "Compare with a voltmeter. Check the unit's voltage wires, contactors and fuse, then the boards. Acknowledge.",
        samples=10, stops_charge=True, stops_discharge=True, open_after_s=10.0, latch=Latch.OPERATOR, alarms=_DATA,
    ),
    Row(
        "CEL-021", "module_voltage_mismatch", Scope.MODULE, "module_voltage", 0.0, 0.0, Level.ALARM,
        "A board measures a module voltage that is not the sum of its cells: one of both is wrong.",
        "Limits are zero; the string opens after 10 s.",
        "Measure the module's cells with a voltmeter; exchange the board when they differ. Acknowledge.",
        samples=10, stops_charge=True, stops_discharge=True, open_after_s=10.0, latch=Latch.OPERATOR, alarms=_DATA,
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
        "TMP-012", "temperature_spread_warning", Scope.STRING, "temperature_spread", 10.0, 8.0, Level.WARNING,
        "The temperatures of a string are far apart.", "Nothing by itself.",
        "Check fans, filters and what heats one side of the rack. Clears by itself.",
        delay_s=30.0, clear_s=10.0, alarms=_a(Alarm.HIGH_TEMPERATURE),
    ),
    Row(
        "TMP-013", "temperature_spread_high", Scope.STRING, "temperature_spread", 15.0, 12.0, Level.WARNING,
        "The temperatures of a string are very far apart: its cells age and carry unlike.",
        "The string's limits are halved.", "As TMP-012. Clears by itself.",
        delay_s=30.0, clear_s=600.0, derates_to=0.5, alarms=_a(Alarm.HIGH_TEMPERATURE),
    ),
    Row(
        "TMP-014", "heat_not_explained", Scope.SENSOR, "unexplained_heat", 0.0, -1.0, Level.WARNING,
        "A sensor warms by more than 0.2 K/min beyond what current and surroundings explain, until it is 1.5 K too "
        "warm; or it is 8 K above the others of its module. A loose joint, an internal short, or a broken sensor.",
        "The string's limits are halved.",
        "Look at the module: with a second sign it is isolated (TMP-024). Check joints and sensor. Clears by itself.",
        delay_s=10.0, clear_s=60.0, derates_to=0.5, alarms=_a(Alarm.HIGH_TEMPERATURE),
    ),
    Row(
        "TMP-015", "heating_very_fast", Scope.MODULE, "fast_heating", 0.5, 0.5, Level.TRIP,
        "A sensor rises by 1 K/s with a second sign (another sensor warms, a cell sags, smoke), or two sensors of a "
        "module rise by more than 5 K/min: a cell may be running away.",
        "The string opens at once and stays open.",
        "Keep away, call for help. Service acknowledges with a reason after an inspection.",
        delay_s=3.0, stops_charge=True, stops_discharge=True, latch=Latch.SERVICE,
        alarms=_a(Alarm.HIGH_TEMPERATURE, Alarm.INTERNAL),
    ),
    Row(
        "TMP-016", "thermal_runaway_suspected", Scope.MODULE, "runaway_signs", 1.5, 1.5, Level.TRIP,
        "Two of four signs: heat as in TMP-015, a cell 100 mV lower without a reason, smoke, a board that fell silent "
        "within 2 minutes after TMP-014.",
        "The string opens at once and stays open.",
        "Leave, call for help: a fire may break out hours later. Service acknowledges with a reason, once inspected.",
        stops_charge=True, stops_discharge=True, latch=Latch.SERVICE,
        alarms=_a(Alarm.HIGH_TEMPERATURE, Alarm.INTERNAL),
    ),
    Row(
        "TMP-017", "temperature_sensor_open", Scope.SENSOR, "sensor_open", 0.5, 0.5, Level.WARNING,
        "A temperature sensor is not connected.", "The sensor counts as unknown, the others of its module rule.",
        "Check the sensor and its wire. Clears by itself.",
        samples=3, clear_s=10.0, alarms=_DATA,
    ),
    Row(
        "TMP-018", "temperature_sensor_short", Scope.SENSOR, "sensor_short", 0.5, 0.5, Level.WARNING,
        "A temperature sensor is shorted.", "The sensor counts as unknown, the others of its module rule.",
        "Check the sensor and its wire. Clears by itself.",
        samples=3, clear_s=10.0, alarms=_DATA,
    ),
    Row(
        "TMP-020", "temperature_implausible", Scope.SENSOR, "temperature_alone", 20.0, 18.0, Level.WARNING,
        "A sensor is 20 K away from the others of its module.",
        "Nothing is discarded: limits follow the worst sensor, true or not.",
        "Check the sensor and its wire; if it is right, the cell. Clears by itself.",
        delay_s=30.0, clear_s=10.0, alarms=_DATA,
    ),
    Row(
        "TMP-021", "temperature_coverage_lost", Scope.MODULE, "temperature_coverage",
        "temperature_coverage_min", "temperature_coverage_min", Level.ALARM,
        "Too few temperature sensors of a module are left to judge it.",
        "Limits are zero; its string opens after 60 s.", "Check the sensors and the board. Clears by itself.",
        below=True, delay_s=5.0, clear_s=10.0, stops_charge=True, stops_discharge=True, open_after_s=60.0, alarms=_DATA,
    ),
    Row(
        "TMP-024", "heating_isolates", Scope.SENSOR, "unexplained_heating", 1.0, 0.5, Level.TRIP,
        "A sensor rises by 1 K/min that nothing explains, and another of its module is too warm, or a cell there has "
        "sagged by 20 mV.",
        "Limits are zero from the first such rate on; the string opens after 2 s of notice and stays open.",
        "Inspect the module for a loose joint or a swollen cell. Service acknowledges with a reason.",
        delay_s=30.0, stops_charge=True, stops_discharge=True, notice_s=2.0, latch=Latch.SERVICE,
        alarms=_a(Alarm.HIGH_TEMPERATURE),
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
        "A contactor unit sends no current.", "Limits are zero; its string opens after 5 s.",
        "Check the contactor unit and its shunt. Clears by itself once an hour, else acknowledge.",
        delay_s=0.2, clear_s=1.0, stops_charge=True, stops_discharge=True, open_after_s=5.0, auto_per_hour=1,
        alarms=_DATA,
    ),
    Row(
        "CUR-009", "current_sensor_error", Scope.STRING, "current_sensor_error", 0.5, 0.5, Level.ALARM,
        "A contactor unit says that its current sensor is out of order.",
        "Limits are zero; its string opens after 5 s.",
        "Check the shunt and the contactor unit; acknowledge when the current is valid again.",
        samples=3, stops_charge=True, stops_discharge=True, open_after_s=5.0, latch=Latch.OPERATOR, alarms=_DATA,
    ),
    Row(
        "CUR-012", "current_on_open_string", Scope.STRING, "open_string_current", 0.0, 0.0, Level.TRIP,
        "Current flows in a string that is told, or said by its own boards, to be open: welded contacts, or a current "
        "sensor that is wrong.",
        "Limits are zero; the other strings open once they carry nothing; no string closes.",
        "Switch the string off by hand. Inspect contactors and shunt. Service acknowledges with a reason.",
        delay_s=0.5, stops_charge=True, stops_discharge=True, bound_at_once=False, opens_others=True,
        latch=Latch.SERVICE, alarms=_a(Alarm.CONTACTOR, Alarm.INTERNAL),
    ),
    Row(
        "PCK-005", "state_of_health_low", Scope.RACK, "state_of_health",
        "state_of_health_min", "state_of_health_min", Level.WARNING,
        "The weakest cell has lost so much capacity that the rack is worn out.",
        "Nothing but this ticket: limits follow from what the cells can still do; the inverter is not told.",
        "Plan to exchange the module. Acknowledge after the exchange, or lower the threshold to go on with it.",
        below=True, delay_s=3600.0, latch=Latch.OPERATOR,
    ),
    Row(
        "PCK-006", "string_cannot_join", Scope.STRING, "equalising_current", 1.0, 1.0, Level.WARNING,
        "A string differs so much from the bus that too much current would flow between them.",
        "The string waits, open; the others go on. `bmsd status` says for what and, roughly, how long.",
        "Charge or discharge the rack until the string is in reach. Clears by itself.",
        delay_s=1.0, clear_s=1.0, alarms=_a(Alarm.INTERNAL),
    ),
    Row(
        "CON-001", "contactor_welded", Scope.STRING, "string_not_open", 0.5, 0.5, Level.TRIP,
        "A string is told to be open and is not: welded contacts, or a unit that does not obey.",
        "Limits are zero; the other strings open once they carry nothing, for it would carry all; no string closes.",
        "Switch the string off by hand. Inspect contactors and unit. Service acknowledges with a reason.",
        delay_s=0.2, stops_charge=True, stops_discharge=True, opens_others=True, latch=Latch.SERVICE,
        alarms=_a(Alarm.CONTACTOR),
    ),
    Row(
        "CON-002", "contactor_does_not_close", Scope.STRING, "close_failed", 0.5, 0.5, Level.ALARM,
        "A contactor was told to close and its contact did not.",
        "The string opens and tries again after a pause; the third time within an hour it stays open.",
        "Check coil, supply, auxiliary contact and wiring; then acknowledge.",
        clear_s=30.0, stops_charge=True, stops_discharge=True, open_after_s=0.0, auto_per_hour=2,
        reset_group="contactors", alarms=_a(Alarm.CONTACTOR),
    ),
    Row(
        "CON-003", "contactor_does_not_open", Scope.STRING, "contact_not_open", 0.5, 0.5, Level.TRIP,
        "A contact is still closed 0.5 s after its string was told to open; while another is open, it isolates the "
        "string.",
        "The string stays open.",
        "Inspect the contactor and its auxiliary contact. Service acknowledges with a reason.",
        stops_charge=True, stops_discharge=True, latch=Latch.SERVICE, alarms=_a(Alarm.CONTACTOR),
    ),
    Row(
        "CON-004", "contact_lost", Scope.STRING, "contact_lost", 0.5, 0.5, Level.ALARM,
        "An auxiliary contact of a closed string said open although its coil was driven: the contactor lets go, or the "
        "auxiliary contact is loose.",
        "The string opens in order and closes again after a pause; the third time within an hour it stays open.",
        "Check coil supply, contactor, auxiliary contact and wiring; then acknowledge.",
        clear_s=30.0, stops_charge=True, stops_discharge=True, open_after_s=0.0, auto_per_hour=2,
        reset_group="contactors", alarms=_a(Alarm.CONTACTOR),
    ),
    Row(
        "CON-008", "precharge_timeout", Scope.STRING, "precharge_failed", 0.5, 0.5, Level.ALARM,
        "The bus did not come within 1 V or 2 % of the string in five time constants of the precharge.",
        "The string opens and tries again after a pause; the third time within an hour it stays open.",
        "Check resistor, relay and what hangs on the bus; compare `[string]` with both; then acknowledge.",
        clear_s=30.0, stops_charge=True, stops_discharge=True, open_after_s=0.0, auto_per_hour=2,
        reset_group="contactors", alarms=_a(Alarm.CONTACTOR),
    ),
    Row(
        "CON-009", "precharge_load_too_high", Scope.STRING, "precharge_load", 0.5, 0.5, Level.ALARM,
        "Something on the bus takes so much current that it does not charge: a load, or a short.",
        "The precharge is broken off before its resistor burns; the string stays open.",
        "Find the load or the short on the DC bus; then acknowledge.",
        stops_charge=True, stops_discharge=True, open_after_s=0.0, latch=Latch.OPERATOR, reset_group="contactors",
        alarms=_a(Alarm.CONTACTOR, Alarm.SHORT_CIRCUIT),
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
        "MOD-003", "duplicate_module_address", Scope.MODULE, "duplicate_addresses", 1.5, 0.5, Level.ALARM,
        "Two module boards speak under one address.",
        "Neither is believed; limits are zero and the string is not closed.",
        "Give one of the boards another address. Service acknowledges with a reason.",
        stops_charge=True, stops_discharge=True, bars_closing=True, latch=Latch.SERVICE, alarms=_DATA,
    ),
    Row(
        "MOD-004", "wrong_module_type", Scope.MODULE, "wrong_type", 0.5, 0.5, Level.ALARM,
        "What answers at a module's address is no module board, or not one for the cells that are configured.",
        "Limits are zero and the string is not closed; a closed one opens after 5 s.",
        "Compare the board's type and chemistry with the configuration. Service acknowledges with a reason.",
        stops_charge=True, stops_discharge=True, open_after_s=5.0, bars_closing=True, latch=Latch.SERVICE,
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
        "MOD-008", "module_swapped", Scope.MODULE, "swapped", 0.5, 0.5, Level.ALARM,
        "The board at this address is not the one that was commissioned here: replaced, the order was changed, or it "
        "did not answer when the boards were taken over.",
        "Limits are zero and the string is not closed.",
        "Check that every board is where its address says. `bmsd reset MOD-008` by service with a reason accepts the "
        "boards that answer now.",
        stops_charge=True, stops_discharge=True, bars_closing=True, latch=Latch.SERVICE, alarms=_DATA,
    ),
    Row(
        "MOD-014", "module_board_tripped", Scope.MODULE, "board_tripped", 0.5, 0.5, Level.TRIP,
        "A module board has tripped at a limit of its own, which lies beyond all of bmsd's.",
        "All contactor units of the rack open by themselves; its string stays open.",
        "Inspect the module; `bmsd reset trip` releases board and units and acknowledges, once the cause is gone.",
        stops_charge=True, stops_discharge=True, latch=Latch.OPERATOR, node_trip=True, alarms=_DATA,
    ),
    Row(
        "MOD-015", "boards_taken_over", Scope.RACK, "taken_over", 0.5, 0.5, Level.INFO,
        "bmsd had no map of its boards and took over those that answered: its first start, or its saved state is lost, "
        "and with it every latch.",
        "The rack runs; boards that did not answer are not the rack's.",
        "After a first start check that every board is where its address says; otherwise inspect the rack, too. `bmsd "
        "reset MOD-008` or MOD-015 by service with a reason accepts.",
        latch=Latch.SERVICE, reset_group="MOD-008",
    ),
    Row(
        "CAN-001", "bus_off", Scope.BUS, "bus_off", 0.5, 0.5, Level.ALARM,
        "The CAN controller has left the bus after too many errors.",
        "Limits are zero and nothing is sent until the link has restarted it (`restart-ms`).",
        "Check wiring, termination and bit rate. Clears by itself three times an hour, then acknowledge.",
        clear_s=10.0, stops_charge=True, stops_discharge=True, auto_per_hour=3, alarms=_DATA,
    ),
    Row(
        "CAN-002", "error_passive", Scope.BUS, "error_passive", 0.5, 0.5, Level.WARNING,
        "The CAN controller has counted over 127 errors: it is close to leaving the bus, or alone on it.",
        "Shown with its error counters.",
        "Check that another node is on the bus, wiring, termination and bit rate. Clears by itself.",
        delay_s=1.0, clear_s=10.0, alarms=_DATA,
    ),
    Row(
        "CAN-003", "bus_errors", Scope.BUS, "bus_errors", 0.5, 0.5, Level.WARNING,
        "There are many errors on the bus.", "Shown with its counters.",
        "Check termination (60 ohm between CAN_H and CAN_L, supply off), shields and cable lengths. Clears by itself.",
        delay_s=10.0, clear_s=10.0, alarms=_DATA,
    ),
    Row(
        "CAN-004", "frames_lost", Scope.BUS, "lost_frames", 0.5, 0.5, Level.WARNING,
        "Frames were lost because the computer or its CAN controller had no room for them.",
        "What was lost ages; data that are too old set limits to zero.",
        "Find what loads the computer or floods the bus; check the SPI clock of an MCP2515. Clears by itself.",
        clear_s=60.0, alarms=_DATA,
    ),
    Row(
        "CAN-005", "transmit_stalled", Scope.BUS, "send_stalled", "send_stalled_s", 0.001, Level.ALARM,
        "Frames cannot be sent.",
        "Limits are zero; old frames are dropped, never sent late. After 1 s the heartbeat is withheld, for the"
        " inverter's bus only if it worked while a string was closed.",
        "Check that another node is on the bus, wiring and bit rate. Clears by itself.",
        clear_s=10.0, stops_charge=True, stops_discharge=True, alarms=_DATA,
    ),
    Row(
        "CAN-009", "interface_down", Scope.BUS, "bus_down", 0.5, 0.5, Level.ALARM,
        "A CAN interface is down or not there.", "Limits are zero; the interface is opened again with pauses.",
        "Bring the interface up: ip link set NAME up type can bitrate 500000 restart-ms 100. Clears by itself.",
        clear_s=1.0, stops_charge=True, stops_discharge=True, alarms=_DATA,
    ),
    Row(
        "CAN-010", "malformed_frames", Scope.BUS, "malformed_frames", 5.5, 0.5, Level.WARNING,
        "Frames come with an identifier of ours that are none of ours: another length, a remote or CAN FD frame.",
        "They are dropped, never read in part.",
        "Find the node that sends them, or the firmware that is not of this protocol's version. Clears by itself.",
        clear_s=10.0, alarms=_DATA,
    ),
    Row(
        "CAN-011", "foreign_sender", Scope.BUS, "foreign_frames", 0.5, 0.5, Level.ALARM,
        "Somebody else sends frames that only bmsd may send: a second controller, or an intruder.",
        "Limits are zero; the foreign frames are not believed.",
        "Find out who sends them and take it off the bus, then acknowledge.",
        stops_charge=True, stops_discharge=True, latch=Latch.OPERATOR, alarms=_a(Alarm.INTERNAL, Alarm.GENERAL),
    ),
    Row(
        "CAN-012", "nobody_answers", Scope.BUS, "nobody_answers", 0.5, 0.5, Level.ALARM,
        "Nobody acknowledges on the field bus, or nothing at all was received since it was opened.",
        "Limits are zero; open strings stay open.",
        "Check that the boards have power, the bit rate (the same everywhere), wiring and termination. "
        "Clears by itself.",
        delay_s=5.0, clear_s=1.0, stops_charge=True, stops_discharge=True, bars_closing=True, alarms=_DATA,
    ),
    Row(
        "CON-010", "fuse_blown", Scope.STRING, "fuse_blown", 0.5, 0.5, Level.TRIP,
        "A contactor unit reports that the string's fuse has blown.", "The string opens and stays open.",
        "Find the short circuit, exchange the fuse. Service acknowledges.",
        delay_s=1.0, stops_charge=True, stops_discharge=True, latch=Latch.SERVICE, node_trip=True, alarms=_DATA,
    ),
    Row(
        "CON-011", "interlock_open", Scope.STRING, "interlock_open", 0.5, 0.5, Level.TRIP,
        "The interlock loop or a door is open.",
        "The string opens; its contactor unit does so by itself at 100 ms.",
        "Close it; `bmsd reset trip` releases the unit and acknowledges.",
        notice_s=0.1, stops_charge=True, stops_discharge=True, latch=Latch.OPERATOR, node_trip=True, alarms=_DATA,
    ),
    Row(
        "CON-012", "emergency_stop", Scope.STRING, "emergency_stop", 0.5, 0.5, Level.TRIP,
        "The emergency stop was pressed.", "All strings open at once; their contactor units do so by themselves.",
        "Release the button on site; `bmsd reset trip` releases the units and acknowledges.",
        stops_charge=True, stops_discharge=True, latch=Latch.OPERATOR, node_trip=True, whole_rack=True,
        alarms=_a(Alarm.GENERAL),
    ),
    Row(
        "CON-014", "contactor_unit_tripped", Scope.STRING, "unit_tripped", 0.5, 0.5, Level.TRIP,
        "A contactor unit has opened by itself: at its over-current limit, or because a board has tripped.",
        "The string stays open; the state of the string says which trip it is.",
        "Find the cause; `bmsd reset trip` releases the unit and acknowledges.",
        stops_charge=True, stops_discharge=True, latch=Latch.OPERATOR, node_trip=True, alarms=_DATA,
    ),
    Row(
        "CON-015", "string_in_doubt", Scope.STRING, "string_in_doubt", 0.5, 0.5, Level.ALARM,
        "Nothing shows that a string is open whose unit or boards are silent: it may carry current that nobody "
        "measures.",
        "Limits are zero for the whole rack, no other string closes; what is closed stays so.",
        "Bring the unit back. Or `bmsd disconnect`: once the bus is dead the others may close again. Or isolate the "
        "string by hand, and tell so: `bmsd reset CON-015` by service with a reason.",
        delay_s=6.0, stops_charge=True, stops_discharge=True, bound_at_once=False, whole_rack=True, alarms=_DATA,
    ),
    Row(
        "ISO-002", "insulation_low", Scope.STRING, "insulation_low", 0.5, 0.5, Level.ALARM,
        "The insulation monitor reports a fault: something live may touch the frame.",
        "Limits are zero; the string opens after 10 s.",
        "Find the place before anybody touches the rack; acknowledge when the monitor is satisfied.",
        samples=5, stops_charge=True, stops_discharge=True, open_after_s=10.0, latch=Latch.OPERATOR, node_trip=True,
        alarms=_a(Alarm.GENERAL),
    ),
    Row(
        "AUX-002", "smoke", Scope.STRING, "smoke", 0.5, 0.5, Level.TRIP,
        "Smoke or gas is reported.", "Limits are zero; all strings open.",
        "Leave, call for help; inspect the rack. Service acknowledges.",
        samples=2, delay_s=1.0, notice_s=2.0, stops_charge=True, stops_discharge=True, latch=Latch.SERVICE,
        node_trip=True, whole_rack=True, alarms=_a(Alarm.INTERNAL, Alarm.HIGH_TEMPERATURE),
    ),
    Row(
        "INV-001", "inverter_silent", Scope.RACK, "inverter_silence", 10.0, 10.0, Level.WARNING,
        "The inverter is not heard any more.", "Limits are sent on.",
        "Check the inverter and its bus. Clears by itself.",
        alarms=_DATA,
    ),
    Row(
        "INV-006", "inverter_lost", Scope.RACK, "required_inverter_silence", 0.0, 0.0, Level.ALARM,
        "The inverter is not heard any more, although the configuration requires its keep-alive.",
        "Limits are zero and are sent on; contactors stay closed.",
        "Check the inverter and its bus. Clears by itself.",
        stops_charge=True, stops_discharge=True, alarms=_DATA,
    ),
    Row(
        "EMS-001", "set_point_lost", Scope.RACK, "set_point_lost", 0.5, 0.5, Level.WARNING,
        "Who steered the rack did not renew its power set-point in time.",
        "The set-point is over; limits are those of the rack alone.",
        "Check the energy management system and its network. Clears with its next set-point, a release, or an "
        "acknowledgement. Who needs a set-point no more should release it.",
        alarms=_a(Alarm.GENERAL),
    ),
    Row(
        "SYS-001", "control_loop_late", Scope.RACK, "loop_lateness", "loop_late_periods", 1.5, Level.ALARM,
        "The control loop is late: the computer is overloaded.",
        "Limits are zero; the heartbeat is withheld when a tick takes longer than 1 s.",
        "Find what loads the computer. Clears by itself.",
        samples=3, clear_s=60.0, stops_charge=True, stops_discharge=True, bound_at_once=False, alarms=_DATA,
    ),
    Row(
        "SYS-002", "restart_out_of_order", Scope.RACK, "ended_out_of_order", 0.5, 0.5, Level.WARNING,
        "The process before this one was killed, crashed or hung, or a watchdog has reset the computer.",
        "Nothing closes by itself; strings that the units report closed are taken over.",
        "Look into the log for the reason. Clears by itself after a minute; with three within an hour: acknowledge.",
        auto_per_hour=2, alarms=_DATA,
    ),
    Row(
        "SYS-003", "restart_loop", Scope.RACK, "restarts", 4.5, 4.5, Level.ALARM,
        "bmsd was started again and again within 5 min, and never left in order.",
        "Limits are zero, no string is closed; closed ones stay.",
        "Look into the log for the reason and remove it, then acknowledge.",
        stops_charge=True, stops_discharge=True, bars_closing=True, latch=Latch.OPERATOR, alarms=_DATA,
    ),
    Row(
        "SYS-005", "cpu_hot", Scope.RACK, "cpu_temperature", 80.0, 75.0, Level.WARNING,
        "The computer's processor is too hot.", "Nothing; the processor slows itself down.",
        "Check ventilation and heat sink. Clears by itself.",
        delay_s=30.0, clear_s=30.0, alarms=_DATA,
    ),
    Row(
        "SYS-006", "memory_short", Scope.RACK, "memory_short", 1.0, 0.9, Level.WARNING,
        "The control process takes much memory, or the computer has little left.", "Nothing.",
        "Find what takes it; restart bmsd while the rack is idle and report it if it is bmsd. Clears by itself.",
        delay_s=60.0, clear_s=60.0, alarms=_DATA,
    ),
    Row(
        "SYS-007", "files_short", Scope.RACK, "files_used", 0.8, 0.7, Level.WARNING,
        "The control process has opened almost as many files, or started as many threads, as it may.", "Nothing.",
        "Restart bmsd while the rack is idle, and report it. Clears by itself.",
        delay_s=60.0, clear_s=60.0, alarms=_DATA,
    ),
    Row(
        "SYS-008", "disk_full", Scope.RACK, "disk_free", 0.15, 0.20, Level.WARNING,
        "The disk with the saved state is nearly full, or full.",
        "Protection goes on; a state that finds no room is written again later, and is lost with the power until then.",
        "Make room on the disk. Clears by itself above 20 %.",
        below=True, alarms=_DATA,
    ),
    Row(
        "SYS-009", "storage_refuses", Scope.RACK, "storage_refuses", 0.5, 0.5, Level.WARNING,
        "The state cannot be saved: the disk is read-only, fails or refuses.",
        "Protection goes on; what is not saved is lost with the power, latches too.",
        "The log names the reason. Check the storage, exchange it when it fails; acknowledge.",
        latch=Latch.OPERATOR, alarms=_DATA,
    ),
    Row(
        "SYS-010", "storage_worn", Scope.RACK, "storage_wear", 0.8, 0.8, Level.WARNING,
        "The computer's flash storage has used up most of its life.", "Nothing; the inverter is not told.",
        "Plan to exchange the storage. Service acknowledges the exchange with a reason.",
        latch=Latch.SERVICE,
    ),
    Row(
        "SYS-011", "clock_stepped", Scope.RACK, "clock_step", 2.0, 2.0, Level.INFO,
        "The wall clock was set.",
        "Nothing: what decides does not use it. An event tells the old time and the new one.",
        "None. When it happens often: check the time server.",
        clear_s=60.0,
    ),
    Row(
        "SYS-012", "clock_not_synchronised", Scope.RACK, "clock_adrift", 0.5, 0.5, Level.WARNING,
        "Nothing has kept the wall clock right for a day, or it was never set.",
        "Records carry `unsynchronised`, or no time at all when it was never set; the inverter is not told.",
        "Check network, time server and the clock's battery. Clears by itself.",
        delay_s=86400.0,
    ),
    Row(
        "SYS-014", "save_slow", Scope.RACK, "save_time", 0.5, 0.5, Level.WARNING,
        "The disk takes long to save the state.",
        "Nothing: no tick waits for the disk. The inverter is not told.",
        "When it returns: exchange the storage. Clears by itself with the next quick write.",
    ),
    Row(
        "SYS-015", "computer_supply_low", Scope.RACK, "power_low", 0.5, 0.5, Level.WARNING,
        "The computer's supply voltage is too low, or the computer slows itself down for it.", "Nothing.",
        "Check supply and cable of the computer. Clears by itself.",
        samples=2, clear_s=60.0, alarms=_DATA,
    ),
    Row(
        "SYS-016", "unclean_shutdown", Scope.RACK, "computer_went_down", 0.5, 0.5, Level.INFO,
        "The computer went down while bmsd ran.",
        "Nothing closes by itself; strings that the units report closed are taken over.",
        "Shut the computer down in order, or give it a supply that lasts as long as the rack. Clears by itself.",
    ),
    Row(
        "SYS-017", "heartbeat_path_failed", Scope.RACK, "heartbeat_path", 0.5, 0.5, Level.TRIP,
        "The safety relay does not follow the heartbeat output: it would not open when bmsd hangs, or it is open now.",
        "Limits are zero and no string is closed; closed ones are opened in order.",
        "Check relay, wiring and feedback ([heartbeat_output]). Service acknowledges with a reason.",
        delay_s=6.0, stops_charge=True, stops_discharge=True, bars_closing=True, notice_s=5.0, latch=Latch.SERVICE,
        alarms=_DATA,
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
