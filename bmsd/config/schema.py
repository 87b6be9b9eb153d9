"""Every setting of a rack: its type, range, unit, default and meaning; what fits together is in checks.py.

What protects a particular cell has no default.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from bmsd.config.fields import Section, number, setting
from bmsd.config.schema_mapped import Mapped
from bmsd.model.layout import FIRST_UNIT_ADDRESS, MAX_CELLS, MAX_MODULES, MAX_SENSORS, MAX_STRINGS

MAX_CURVE_POINTS = 16
MAX_SOCKET_PATH = 107
"""Linux: sun_path of a socket holds 108 bytes with the final zero."""

CellVolts = Annotated[float, Field(ge=1.0, le=5.0)]
Degrees = Annotated[float, Field(ge=-40.0, le=90.0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
ModuleAddress = Annotated[int, Field(ge=1, le=MAX_MODULES)]
UnitAddress = Annotated[int, Field(ge=FIRST_UNIT_ADDRESS, le=FIRST_UNIT_ADDRESS + MAX_STRINGS - 1)]
GroupName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{0,32}$")]
OptionValue = str | int | float | bool
Bus = Literal["socketcan", "unix"]
Chemistry = Literal["lfp", "nmc", "lto", "sodium_ion"]


class Rack(Section):
    """What the rack is called."""

    name: str = setting(
        "Name in displays, records and reports.",
        min_length=1,
        max_length=32,
        pattern=r"^[ -~]+$",
        form="printable ASCII",
    )


class LayoutSection(Section):
    """How many of what, and who has which address on the field bus."""

    strings: int = number("Strings in parallel, each with its contactor unit.", "", 1, MAX_STRINGS)
    modules_per_string: int = number("Modules (boards) in series in each string.", "", 1, MAX_MODULES)
    cells_per_module: int = number("Cells in series in each module.", "", 1, MAX_CELLS)
    sensors_per_module: int = number("Cell temperature sensors of each module.", "", 1, MAX_SENSORS)
    module_addresses: list[list[ModuleAddress]] = setting(
        "Addresses of the boards, one list for each string from its minus end; empty: counted up from 1, "
        "string after string.",
        [],
    )
    unit_addresses: list[UnitAddress] = setting(
        "Addresses of the contactor units, one for each string; empty: counted up from 65.", []
    )


class Cell(Section):
    """The cell maker's data sheet. Currents are of one string, magnitudes."""

    chemistry: Chemistry = setting("Kind of cell. Settings marked 'for lfp' must be given for any other kind.")
    capacity_ah: float = number("Nominal capacity.", "Ah", 0.5, 2000.0)
    max_v: float = number("Highest voltage that the sheet allows when charging.", "V", 2.0, 4.6)
    min_v: float = number("Lowest voltage that the sheet allows when discharging.", "V", 1.0, 3.3)
    charge_max_a: float = number("Highest continuous charge current.", "A", 0.1, 4000.0)
    discharge_max_a: float = number("Highest continuous discharge current.", "A", 0.1, 4000.0)
    charge_min_degc: float = number("Lowest cell temperature for charging.", "degC", -30.0, 20.0)
    charge_max_degc: float = number("Highest cell temperature for charging.", "degC", 30.0, 75.0)
    discharge_min_degc: float = number("Lowest cell temperature for discharging.", "degC", -40.0, 20.0)
    discharge_max_degc: float = number("Highest cell temperature for discharging.", "degC", 30.0, 80.0)
    resistance_ohm: float = number(
        "Inner resistance at 25 degC and half charge: the 10 s value where the sheet gives one.", "ohm", 1e-5, 0.1
    )
    ocv_soc: list[Share] = setting(
        "States of charge of the rest voltage table, rising from 0 to 1; empty for lfp: bmsd's table.",
        [],
        unit="share",
        max_length=101,
        lfp=True,
    )
    ocv_v: list[CellVolts] = setting(
        "Rest voltages at 25 degC at `ocv_soc`, rising, mean of charge and discharge branch; empty for lfp: "
        "bmsd's table.",
        [],
        unit="V",
        max_length=101,
        lfp=True,
    )
    ocv_half_gap_v: float = number(
        "Half the distance between the rest voltages after charging and after discharging.",
        "V", 0.0, 0.2, 0.020, lfp=True,
    )  # fmt: skip
    specification: str = setting(
        "File of a fitted cell (`bmsd fit-cell`), beside this one; empty: the estimators go by this table. What the "
        "cell may see stays what this table says.",
        "",
        max_length=200,
    )


class String(Section):
    """Ratings of each string's switchgear."""

    fuse_a: float = number("Rated current of the string's fuse.", "A", 1.0, 4000.0)
    contactor_a: float = number("Continuous current that the contactors carry.", "A", 1.0, 4000.0)
    contactor_break_a: float = number(
        "Highest current that the contactors may open at the string's voltage; of polarised types: when discharging.",
        "A", 1.0, 20000.0,
    )  # fmt: skip
    contactor_break_charge_a: float = number(
        "The same when charging, for polarised types; 0: as when discharging.", "A", 0.0, 20000.0, 0.0
    )
    cable_ohm: float = number(
        "Resistance of a string's cables, fuse and contactors, where it is known: what a string may differ from the "
        "bus when it joins follows from it and the cells'.",
        "ohm", 0.0, 0.1, 0.0,
    )  # fmt: skip
    precharge_ohm: float = number("Precharge resistor.", "ohm", 1.0, 1000.0, 50.0)
    precharge_energy_j: float = number(
        "Energy that the resistor stands in one try, beyond its full power for the second that a report may take; 0: "
        "twice what charging the bus takes.",
        "J", 0.0, 100000.0, 0.0,
    )  # fmt: skip
    bus_capacitance_f: float = number(
        "Capacitance of everything on the DC bus: the inverters' inputs together.", "F", 1e-6, 1.0, 0.048
    )


class TimingSection(Section):
    """Periods of the control process and of the field bus."""

    tick_s: float = number("Period of the control loop and of the heartbeat.", "s", 0.02, 0.2, 0.1)
    poll_s: float = number("Period in which all boards are measured.", "s", 0.15, 0.25, 0.2)
    current_phases: int = number("Current samples in each poll.", "", 1, 4, 4)


class Protection(Section):
    """Thresholds of the faults; `bmsd faults` explains each of them. A `clear` value ends what its namesake began."""

    cell_over_voltage_warning_v: float = number("CEL-001: a cell is close to full.", "V", 1.5, 4.6, 3.55, lfp=True)
    cell_over_voltage_warning_clear_v: float = number("CEL-001 ends below this.", "V", 1.5, 4.6, 3.50, lfp=True)
    cell_over_voltage_alarm_v: float = number("CEL-002: charging stops.", "V", 1.5, 4.6, 3.60, lfp=True)
    cell_over_voltage_alarm_clear_v: float = number("CEL-002 ends below this.", "V", 1.5, 4.6, 3.45, lfp=True)
    cell_over_voltage_trip_v: float = number("CEL-003: the string opens.", "V", 1.5, 4.6, 3.65, lfp=True)
    cell_over_voltage_trip_clear_v: float = number(
        "CEL-003 can be acknowledged below this.", "V", 1.5, 4.6, 3.40, lfp=True
    )
    cell_over_voltage_critical_v: float = number(
        "CEL-004: the string opens without notice, locked for service.", "V", 1.5, 4.8, 3.75, lfp=True
    )
    cell_over_voltage_critical_clear_v: float = number(
        "CEL-004 can be released below this.", "V", 1.5, 4.6, 3.40, lfp=True
    )
    cell_under_voltage_warning_v: float = number("CEL-005: a cell is close to empty.", "V", 1.0, 4.0, 3.00, lfp=True)
    cell_under_voltage_warning_clear_v: float = number("CEL-005 ends above this.", "V", 1.0, 4.0, 3.10, lfp=True)
    cell_under_voltage_alarm_v: float = number("CEL-006: discharging stops.", "V", 1.0, 4.0, 2.90, lfp=True)
    cell_under_voltage_alarm_clear_v: float = number("CEL-006 ends above this.", "V", 1.0, 4.0, 3.10, lfp=True)
    cell_under_voltage_trip_v: float = number("CEL-007: the string opens.", "V", 1.0, 4.0, 2.80, lfp=True)
    cell_under_voltage_trip_clear_v: float = number("CEL-007 ends above this.", "V", 1.0, 4.0, 3.00, lfp=True)
    cell_deep_discharge_v: float = number(
        "CEL-008: the string opens, locked for service; charging is prohibited.", "V", 0.8, 4.0, 2.50, lfp=True
    )
    cell_deep_discharge_clear_v: float = number("CEL-008 can be released above this.", "V", 0.8, 4.0, 2.80, lfp=True)
    cell_plausible_min_v: float = number("A lower cell reading is a fault of the measurement.", "V", 0.1, 2.0, 0.5)
    cell_plausible_max_v: float = number(
        "A higher cell reading is a fault of the measurement. Well above an over-charged cell.",
        "V", 3.0, 6.0, 5.0, lfp=True,
    )  # fmt: skip

    cell_sum_tolerance_v: float = number(
        "CEL-015, CEL-021: how far a voltage may be from the sum of its cells, for each cell, beside the drop of the "
        "current.",
        "V", 0.005, 0.05, 0.015,
    )  # fmt: skip
    cell_sum_tolerance_share: float = number(
        "CEL-015, CEL-021: the same as a share of the voltage; the larger one holds.", "share", 0.002, 0.05, 0.01
    )

    charge_temperature_high_warning_degc: float = number("TMP-001: warm while charging.", "degC", 20.0, 80.0, 45.0)
    charge_temperature_high_warning_clear_degc: float = number("TMP-001 ends below this.", "degC", 10.0, 80.0, 42.0)
    charge_temperature_high_alarm_degc: float = number("TMP-002: charging stops.", "degC", 20.0, 80.0, 50.0)
    charge_temperature_high_alarm_clear_degc: float = number("TMP-002 ends below this.", "degC", 10.0, 80.0, 45.0)
    charge_temperature_high_trip_degc: float = number("TMP-003: charged while hot, the string opens.",
                                                      "degC", 20.0, 80.0, 55.0)  # fmt: skip
    charge_temperature_high_trip_clear_degc: float = number("TMP-003 can be acknowledged below this.",
                                                            "degC", 10.0, 80.0, 40.0)  # fmt: skip
    temperature_high_warning_degc: float = number("TMP-004: a cell is warm.", "degC", 20.0, 80.0, 50.0)
    temperature_high_warning_clear_degc: float = number("TMP-004 ends below this.", "degC", 10.0, 80.0, 47.0)
    temperature_high_alarm_degc: float = number("TMP-005: charging and discharging stop.", "degC", 20.0, 80.0, 55.0)
    temperature_high_alarm_clear_degc: float = number("TMP-005 ends below this.", "degC", 10.0, 80.0, 50.0)
    temperature_high_trip_degc: float = number("TMP-006: the string opens.", "degC", 20.0, 80.0, 60.0)
    temperature_high_trip_clear_degc: float = number("TMP-006 can be acknowledged below this.",
                                                     "degC", 10.0, 80.0, 40.0)  # fmt: skip
    charge_temperature_low_warning_degc: float = number("TMP-007: cold for charging.", "degC", -30.0, 25.0, 5.0)
    charge_temperature_low_warning_clear_degc: float = number("TMP-007 ends above this.", "degC", -30.0, 30.0, 7.0)
    charge_temperature_low_alarm_degc: float = number(
        "TMP-008: charging stops. At least the cell's lowest charge temperature and the sensors' error above it.",
        "degC", -30.0, 25.0, 1.0,
    )  # fmt: skip
    charge_temperature_low_alarm_clear_degc: float = number("TMP-008 ends above this.", "degC", -30.0, 30.0, 2.0)
    charge_temperature_low_trip_degc: float = number("TMP-009: charged while frozen, the string opens.",
                                                     "degC", -30.0, 25.0, 0.0)  # fmt: skip
    charge_temperature_low_trip_clear_degc: float = number("TMP-009 can be acknowledged above this.",
                                                           "degC", -30.0, 30.0, 2.0)  # fmt: skip
    temperature_low_warning_degc: float = number("TMP-010: a cell is very cold.", "degC", -40.0, 25.0, -10.0)
    temperature_low_warning_clear_degc: float = number("TMP-010 ends above this.", "degC", -40.0, 30.0, -8.0)
    temperature_low_alarm_degc: float = number("TMP-011: discharging stops.", "degC", -40.0, 25.0, -20.0)
    temperature_low_alarm_clear_degc: float = number("TMP-011 ends above this.", "degC", -40.0, 30.0, -18.0)

    temperature_coverage_min: float = number(
        "TMP-021: share of a module's temperature sensors that must be valid.", "share", 0.1, 1.0, 0.5
    )

    state_of_health_min: float = number(
        "PCK-005: the weakest cell has less than this share of its nominal capacity.", "share", 0.0, 0.95, 0.70
    )
    self_discharge_ma: float = number(
        "CEL-017: a cell drains itself by this more than its string's median, over 30 days.", "mA", 1.0, 1000.0, 5.0
    )
    self_discharge_clear_ma: float = number("CEL-017 and CEL-022 end below this.", "mA", 0.5, 1000.0, 3.0)
    soft_short_ma: float = number("CEL-022: the same, over a week.", "mA", 5.0, 5000.0, 50.0)

    over_current_warning_share: float = number(
        "CUR-001, CUR-004: share of the limit by which the current may pass it.", "share", 0.01, 0.5, 0.05
    )
    over_current_alarm_share: float = number(
        "CUR-002, CUR-005: share of the limit by which the current may pass it.", "share", 0.01, 0.5, 0.10
    )
    over_current_floor_c: float = number(
        "Least tolerance of the current checks; below it a string neither charges nor discharges (1 C: full in an "
        "hour).",
        "C", 0.005, 0.1, 0.02,
    )  # fmt: skip
    over_current_trip_factor: float = number(
        "CUR-003, CUR-006: the string opens at its highest current times this.", "", 1.05, 2.0, 1.25
    )
    loop_late_periods: float = number("SYS-001: a tick came this many periods after the last.", "", 2.0, 5.0, 3.0)
    send_stalled_s: float = number("CAN-005: time for which nothing could be sent.", "s", 0.1, 1.0, 0.3)


class VoltageCurve(Section):
    """Share of the rated current over a cell's voltage, linear between the points, level outside."""

    cell_v: list[CellVolts] = setting("Cell voltages, rising.", unit="V", min_length=2, max_length=MAX_CURVE_POINTS)
    share: list[Share] = setting(
        "Share of the rated current at each.", unit="share", min_length=2, max_length=MAX_CURVE_POINTS
    )


class TemperatureCurve(Section):
    """Share of the rated current over a cell's temperature, linear between the points, level outside."""

    degc: list[Degrees] = setting("Temperatures, rising.", unit="degC", min_length=2, max_length=MAX_CURVE_POINTS)
    share: list[Share] = setting(
        "Share of the rated current at each.", unit="share", min_length=2, max_length=MAX_CURVE_POINTS
    )


class Limits(Section):
    """How the current limits are shaped."""

    charge_by_cell_v: VoltageCurve = setting(
        "Charge limit by the highest cell: falls to zero.",
        VoltageCurve(cell_v=[3.40, 3.45, 3.50, 3.55], share=[1.0, 0.25, 0.05, 0.0]),
        reloadable=True,
        lfp=True,
    )
    discharge_by_cell_v: VoltageCurve = setting(
        "Discharge limit by the lowest cell: rises from zero.",
        VoltageCurve(cell_v=[2.90, 3.00, 3.10, 3.20], share=[0.0, 0.1, 0.5, 1.0]),
        reloadable=True,
        lfp=True,
    )
    charge_by_temperature: TemperatureCurve = setting(
        "Charge limit by the coldest and the hottest sensor: zero at both ends.",
        TemperatureCurve(degc=[1.0, 5.0, 10.0, 40.0, 50.0], share=[0.0, 0.4, 1.0, 1.0, 0.0]),
        reloadable=True,
    )
    discharge_by_temperature: TemperatureCurve = setting(
        "Discharge limit by the coldest and the hottest sensor: zero at both ends.",
        TemperatureCurve(degc=[-20.0, -10.0, 0.0, 45.0, 55.0], share=[0.0, 0.3, 1.0, 1.0, 0.0]),
        reloadable=True,
    )
    temperature_error_k: float = number(
        "Error of the temperature sensors: charging keeps this far from the ends of the cell's range.",
        "K", 0.0, 5.0, 1.0, reloadable=True,
    )  # fmt: skip
    rise_a_per_s_per_100a: float = number(
        "How fast a limit rises, for each 100 A of rated current; it falls at once.", "A/s", 0.5, 5.0, 1.0,
        reloadable=True,
    )  # fmt: skip
    hold_after_zero_s: float = number("A limit stays zero this long after a stop.", "s", 1.0, 600.0, 10.0,
                                      reloadable=True)  # fmt: skip
    leave_zero_share: float = number(
        "A limit leaves zero only for more than this share of the rated current.", "share", 0.0, 0.1, 0.015,
        reloadable=True,
    )  # fmt: skip
    max_charge_soc: float = number("Charging stops at this state of charge; 1: not used.", "share", 0.5, 1.0, 1.0,
                                   reloadable=True)  # fmt: skip
    min_discharge_soc: float = number(
        "Discharging stops at this state of charge; 0: not used.", "share", 0.0, 0.9, 0.0, reloadable=True
    )


class Charge(Section):
    """Voltages for the inverter, per cell, and the charge request."""

    absorption_v: float = number("Charge voltage.", "V", 1.5, 4.5, 3.45, reloadable=True, lfp=True)
    float_v: float = number(
        "Voltage kept when full. Not used yet: the inverter is given the charge voltage.",
        "V",
        1.5,
        4.5,
        3.375,
        reloadable=True,
        lfp=True,
    )
    discharge_end_v: float = number("Voltage at which the inverter stops to discharge.", "V", 1.0, 4.0, 3.00,
                                    reloadable=True, lfp=True)  # fmt: skip
    cvl_slew_v_per_s: float = number(
        "How fast the charge voltage falls below the present voltage: a step would discharge the rack into the grid.",
        "V/s", 0.0001, 0.01, 0.001, reloadable=True,
    )  # fmt: skip
    force_charge_soc: float = number("A charge is requested below this state of charge.", "share", 0.0, 0.5, 0.05,
                                     reloadable=True)  # fmt: skip
    force_charge_release_soc: float = number("The request ends above this.", "share", 0.01, 0.9, 0.08,
                                             reloadable=True)  # fmt: skip


class Balance(Section):
    """Bleeding the cells that are fuller than others: by the ledger of charge, before it knows them by voltage."""

    enabled: bool = setting("Whether cells are bled.", True, reloadable=True)
    start_v: float = number(
        "By voltage, only cells above this are bled.", "V", 1.5, 4.5, 3.40, reloadable=True, lfp=True
    )
    band_v: float = number("By voltage, cells this far above the lowest of their string are bled.", "V", 0.002, 0.1,
                           0.005, reloadable=True)  # fmt: skip
    min_charge_a: float = number("By voltage, only while the string is charged with more than this.", "A", 0.0, 100.0,
                                 1.0, reloadable=True)  # fmt: skip
    bleed_ohm: float = number(
        "Resistance of a cell's bleeder, as the boards have it: it says what a bleeding cell loses.",
        "ohm",
        0.1,
        10000.0,
        33.0,
    )
    dead_band_share: float = number("Cells may differ by this share of their capacity without being bled.", "share",
                                    0.001, 0.05, 0.005, reloadable=True)  # fmt: skip
    dead_band_ah: float = number("The same in Ah; the lesser of both holds.", "Ah", 0.005, 50.0, 1.0, reloadable=True)
    idle: bool = setting("By the ledger, cells are bled also while the string rests.", True, reloadable=True)
    discharging: bool = setting("By the ledger, cells are bled also while it is discharged.", True, reloadable=True)
    least_soc: float = number("By the ledger, no cell is bled that may have less charge than this.", "share", 0.05, 0.9,
                              0.2, reloadable=True)  # fmt: skip
    least_v: float = number(
        "By the ledger, which only lfp has, no cell below this is bled.", "V", 1.5, 4.5, 3.2, reloadable=True
    )
    lease_s: float = number("Boards stop by themselves after this time without a new command.", "s", 2.0, 60.0, 5.0)


class Estimation(Section):
    """How far measurements are trusted."""

    current_sigma_c: float = number("Offset of the current measurement, standard deviation.", "C", 0.0001, 0.05, 0.01)
    charge_efficiency: float = number("Share of the charge that stays in the cell.", "share", 0.9, 1.0, 0.999)
    voltage_sigma_v: float = number("Error of a cell voltage, standard deviation.", "V", 0.0005, 0.05, 0.005)
    self_discharge_sigma_per_day: float = number(
        "What a stored state of charge may be wrong by after a day, standard deviation.", "share", 0.0, 0.05, 0.001
    )
    years_before: float = number("Age of the cells when bmsd first saw them.", "years", 0.0, 30.0, 0.0)
    cycles_before: float = number("Equivalent full cycles by then.", "1", 0.0, 20000.0, 0.0)
    end_of_life_capacity: float = number(
        "Capacity over the nominal one at which the life of a cell ends; 0: as the cell file says, or 0.8.",
        "share", 0.0, 0.95, 0.0,
    )  # fmt: skip
    predictor: bool = setting(
        "Whether voltages and temperatures are compared with what the current should make of them. Off: unexplained "
        "heat and sag are not known, TMP-015, TMP-016 and TMP-024 are never raised, TMP-014 only by neighbours.",
        True,
    )
    cell_heat_capacity_j_per_k: float = number(
        "Heat capacity of one cell; 0: 19.3 J/K per Ah, as of LFP prismatic cells.", "J/K", 0.0, 50000.0, 0.0
    )
    cooling_s: float = number(
        "Time in which a cell comes closer to what surrounds it by 63 %.", "s", 300.0, 100000.0, 7200.0
    )


class FieldBus(Section):
    """The CAN bus of module boards and contactor units."""

    driver: Literal["slave", "mapped"] = setting(
        "What the boards speak: bmsd's slave protocol, or their own, told in [fieldbus.mapped].", "slave"
    )

    interface: Bus = setting("Kind of bus: Linux SocketCAN, or the socket hub of demo and tests.")
    channel: str = setting("Name of the network interface (can0), or path of the hub's socket.", min_length=1)
    bitrate: int = number(
        "For messages only: the interface is set up by the system. The slave protocol is timed for 500000.",
        "bit/s", 500_000, 1_000_000, 500_000,
    )  # fmt: skip
    listen_only: bool = setting("Send nothing: watch a rack that another system controls.", False)
    mapped: Mapped = setting("Boards of another maker.", Mapped())


class Inverter(Section):
    """The inverter's side: its bus, its protocol."""

    interface: Bus = setting("Kind of bus: Linux SocketCAN, or the socket hub of demo and tests.")
    channel: str = setting("Name of the network interface (can1), or path of the hub's socket.", min_length=1)
    profile: str = setting("Protocol, for example pylontech_lv.", min_length=1)
    period_s: float = number("Period of the frames.", "s", 0.25, 2.0, 1.0)
    zero_before_silence_s: float = number(
        "Without fresh data zero limits are sent for this long, then nothing.", "s", 5.0, 600.0, 60.0
    )
    keepalive_required: bool = setting(
        "Whether limits go to zero when the inverter is silent for `keepalive_timeout_s`. Otherwise a silence of 10 s "
        "is a warning, and only after the inverter has been heard once: not every inverter sends a keep-alive.",
        False,
    )
    keepalive_timeout_s: float = number(
        "INV-006: a silence of this length is a loss, where the keep-alive is required.", "s", 10.0, 600.0, 60.0
    )
    options: dict[str, OptionValue] = setting("Options of the profile.", {})


class State(Section):
    """What survives a restart: latches, state of charge, counters."""

    directory: str = setting(
        "Folder for the state file; must exist and be writable.",
        "/var/lib/bmsd",
        pattern=r"^/",
        form="an absolute path",
    )
    save_period_s: float = number("It is saved this often, and at once when a latch changes.", "s", 300.0, 600.0, 300.0)


class Link(Section):
    """Sockets of the control process."""

    socket: str = setting(
        "For readers and leased requests.", "/run/bmsd/link.sock", pattern=r"^/", form="an absolute path"
    )
    service_socket: str = setting(
        "For resets and commissioning.", "/run/bmsd/service.sock", pattern=r"^/", form="an absolute path"
    )
    group: GroupName = setting(
        "Group that may open `socket`; empty: that of the process.", "bmsd-link", form="name of a group"
    )
    service_group: GroupName = setting(
        "Group that may open `service_socket`; empty: that of the process.", "bmsd-service", form="name of a group"
    )
    takes: list[Literal["reset", "reserve", "power"]] = setting(
        "What control takes on `socket`, whatever the gateway passes on; empty: it is for reading only.", []
    )


class Log(Section):
    """What is written to standard error or to the journal of systemd."""

    level: Literal["debug", "info", "warning", "error"] = setting("Least weight of a message.", "info", reloadable=True)
    format: Literal["text", "json", "journal"] = setting(
        "Lines for people or for machines, or records for journald; text, where standard error goes to journald, is "
        "records, too.",
        "text",
    )


class HeartbeatOutput(Section):
    """A GPIO line that every finished tick toggles, for a safety relay that drops out when it stands still."""

    chip: str = setting(
        "The chip's device, for example /dev/gpiochip0; empty: there is no such relay.",
        "",
        pattern=r"^(/dev/.+)?$",
        form="a path below /dev",
    )
    line: int = number("Line that is toggled.", "", 0, 1023, 17)
    feedback_line: int = number(
        "Line with the relay's feedback contact; -1: none, what the relay does is not known.", "", -1, 1023, -1
    )
    feedback_active_low: bool = setting("Whether the feedback is low while the relay is in.", False)
    drop_s: float = number("The relay drops out this long after the last beat, at the latest.", "s", 0.1, 5.0, 1.0)


class Settings(Section):
    """The whole file."""

    rack: Rack
    layout: LayoutSection
    cell: Cell
    string: String
    timing: TimingSection = Field(default_factory=TimingSection)
    protection: Protection = Field(default_factory=Protection, json_schema_extra={"reloadable": True})
    limits: Limits = Field(default_factory=Limits)
    charge: Charge = Field(default_factory=Charge)
    balance: Balance = Field(default_factory=Balance)
    estimation: Estimation = Field(default_factory=Estimation)
    fieldbus: FieldBus
    inverter: Inverter
    state: State = Field(default_factory=State)
    link: Link = Field(default_factory=Link)
    heartbeat_output: HeartbeatOutput = Field(default_factory=HeartbeatOutput)
    log: Log = Field(default_factory=Log)
    sim: dict[str, Any] = Field(
        default_factory=dict, description="The simulated rack of `bmsd sim` and the demo; the simulator checks it."
    )
