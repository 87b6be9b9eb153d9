"""What a scenario file may say: every table of it, every setting with its range, unit and meaning."""

from __future__ import annotations

from typing import Literal

from bmsd.config.cell_file import MOST_PAIRS
from bmsd.config.fields import Section, number, setting
from bmsd.model.layout import MAX_CELLS, MAX_MODULES, MAX_SENSORS, MAX_STRINGS
from bmsd.sim.mishap import OF_FRAMES, OF_PLANT, OF_READINGS

KINDS = (*OF_PLANT, *OF_READINGS, "silent_board")
"""Mishaps that need no frames: those are rehearsed with `bmsd sim`."""
assert "silent_board" in OF_FRAMES

NREL = ("Residential_PV-BESS_Germany_aggressive", "Commercial_peak_shaving", "Frequency_containment_reserve")


class Rack(Section):
    """The rack: either the configuration of a real one, or its shape, from which a usual configuration is made."""

    config: str = setting("Configuration file of a rack, relative to the scenario; empty: the settings below.", "")
    strings: int = number("Strings in parallel.", "", 1, MAX_STRINGS, 1)
    modules_per_string: int = number("Modules in series in each string.", "", 1, MAX_MODULES, 1)
    cells_per_module: int = number("Cells in series in each module.", "", 1, MAX_CELLS, 16)
    sensors_per_module: int = number("Cell temperature sensors of each module.", "", 1, MAX_SENSORS, 4)
    capacity_ah: float = number(
        "Nominal capacity of a cell; left out: that of `cell.specification` where there is one.",
        "Ah",
        0.5,
        2000.0,
        280.0,
    )
    charge_max_c: float = number("Rated charge current over the capacity.", "1/h", 0.02, 5.0, 0.5)
    discharge_max_c: float = number("Rated discharge current over the capacity.", "1/h", 0.02, 5.0, 0.5)
    soc0: float = number("Mean state of charge at the start.", "share", 0.0, 1.0, 0.5)
    board_over_voltage_v: float = number("Boards trip by themselves above.", "V", 3.0, 5.0, 3.75)
    board_under_voltage_v: float = number("Boards trip by themselves below.", "V", 0.0, 3.0, 2.40)
    board_over_temperature_degc: float = number("Boards trip by themselves above.", "degC", 30.0, 100.0, 65.0)


class Spread(Section):
    """How cells differ: relative standard deviations, that of `soc0` absolute."""

    soc0: float = number("State of charge at the start.", "share", 0.0, 0.3, 0.005)
    capacity: float = number("Capacity.", "share", 0.0, 0.3, 0.005)
    resistance: float = number("All resistances of a cell.", "share", 0.0, 0.5, 0.03)
    self_discharge: float = number("Self-discharge.", "share", 0.0, 2.0, 0.3)
    heat_transfer: float = number("Heat transfer to the air.", "share", 0.0, 0.5, 0.1)


class Cell(Section):
    """The cells; what is left out is that of `specification` or of an LFP cell of the rack's capacity. At 25 degC."""

    specification: str = setting(
        "File of a fitted cell (`bmsd fit-cell`), relative to the scenario: cells as that file says, and a core that "
        "knows it. What is written below takes precedence for the cells.",
        "",
        max_length=200,
    )
    r0_ohm: float | None = number("Resistance at once.", "ohm", 1e-6, 0.2, None)
    r0_soc: list[float] | None = setting(
        "States of charge of `r0_factor`, rising.", None, min_length=2, max_length=1001
    )
    r0_factor: list[float] | None = setting("Factor of `r0_ohm` over SoC.", None, min_length=2, max_length=1001)
    rc_ohm: list[float] | None = setting(
        "Resistances of the relaxations.", None, unit="ohm", min_length=1, max_length=MOST_PAIRS
    )
    rc_tau_s: list[float] | None = setting("Their time constants.", None, unit="s", min_length=1, max_length=MOST_PAIRS)
    diffusion_soc_per_c: list[float] | None = setting(
        "How far the particles' surface is ahead of their mean at 1C.", None, unit="share", max_length=5
    )
    diffusion_tau_s: list[float] | None = setting("Time constants of that.", None, unit="s", max_length=5)
    activation_k: float = number("Activation temperature of all resistances.", "K", 0.0, 10000.0, 2500.0)
    hysteresis_gamma: float = number("Speed of the change of branch.", "1/share", 0.0, 500.0, 40.0)
    coulombic_efficiency: float = number("Charge that comes out over what went in.", "share", 0.9, 1.0, 0.9995)
    self_discharge_per_month: float = number("In 30 days at 25 degC.", "share", 0.0, 0.5, 0.01)
    heat_capacity_j_per_k: float | None = number("Heat capacity of a cell.", "J/K", 1.0, 1e6, None)
    heat_transfer_w_per_k: float | None = number("Heat transfer of a cell to the air.", "W/K", 0.0, 1000.0, None)
    neighbour_w_per_k: float | None = number("Heat transfer between neighbours.", "W/K", 0.0, 1000.0, None)
    ocv_soc: list[float] | None = setting("States of charge of `ocv_v`, rising.", None, min_length=2, max_length=1001)
    ocv_v: list[float] | None = setting(
        "Rest voltage between the branches, rising.", None, unit="V", min_length=2, max_length=1001
    )
    gap_soc: list[float] | None = setting("States of charge of `gap_v`, rising.", None, min_length=2, max_length=1001)
    gap_v: list[float] | None = setting(
        "Distance of charge and discharge branch.", None, unit="V", min_length=2, max_length=1001
    )
    entropy_soc: list[float] | None = setting(
        "States of charge of `entropy_v_per_k`, rising.", None, min_length=2, max_length=1001
    )
    entropy_v_per_k: list[float] | None = setting(
        "Entropic coefficient of the rest voltage.", None, unit="V/K", min_length=2, max_length=1001
    )


class String(Section):
    """One string, as often as there are strings; what is left out is that of all."""

    soc0: float | None = number("State of charge at the start.", "share", 0.0, 1.0, None)
    capacity_ah: float | None = number(
        "Capacity of its cells; their resistance rises as it falls.", "Ah", 0.1, 4000.0, None
    )
    series_resistance_ohm: float | None = number("Cables, busbars and fuse.", "ohm", 0.0, 1.0, None)


class Profile(Section):
    """The current that the site wants of the rack, positive charging. What may flow of it is the rack's decision."""

    kind: Literal["constant", "square", "solar", "file", "nrel"] = setting(
        "constant: `current_a`. square: `charge_a` and `discharge_a` by half periods. solar: a half sine of `charge_a` "
        "by day, `discharge_a` by night. file: a CSV with t_s, current_a. nrel: a year of NREL's duty profiles.",
        "constant",
    )
    current_a: float = number("Of the kind constant.", "A", -20000.0, 20000.0, 0.0)
    charge_a: float = number("Of the kinds square and solar.", "A", 0.0, 20000.0, 0.0)
    discharge_a: float = number("Of the kinds square and solar, magnitude.", "A", 0.0, 20000.0, 0.0)
    period_s: float | None = number("Of square (600 when left out) and solar (86400).", "s", 1.0, 1e7, None)
    file: str = setting("Of the kind file: relative to the scenario.", "")
    name: Literal[NREL] = setting(  # type: ignore[valid-type]
        "Of the kind nrel: in the folder that BMSD_REFERENCE_DATA names.", NREL[0]
    )
    scale: float = number("Factor of a file's or NREL's current.", "", 0.0, 1000.0, 1.0)
    repeats: bool = setting("A file or NREL's year begins anew at its end; else the current is 0 from there on.", True)


class Temperature(Section):
    """The room."""

    kind: Literal["constant", "daily", "file"] = setting(
        "constant: `degc`. daily: a sine around it, highest 9 h after the start. file: that of the profile.",
        "constant",
    )
    degc: float = number("Mean temperature.", "degC", -40.0, 80.0, 25.0)
    swing_k: float = number("Of the kind daily: from the mean to the highest.", "K", 0.0, 40.0, 5.0)


class Enclosure(Section):
    """Air and fan of each module."""

    air_heat_capacity_j_per_k: float = number("Heat capacity of air and walls.", "J/K", 1.0, 1e6, 4000.0)
    leak_w_per_k: float = number("Heat transfer to the room with the fan off.", "W/K", 0.01, 1e4, 6.0)
    fan_w_per_k: float = number("What the fan adds.", "W/K", 0.0, 1e4, 20.0)
    fan_on_degc: float = number("The fan starts with a cell above.", "degC", -20.0, 80.0, 35.0)
    fan_off_degc: float = number("It stops with all cells below.", "degC", -20.0, 80.0, 32.0)


class Ageing(Section):
    """How the cells age, before the start and during it."""

    enabled: bool = setting("Cells age.", True)
    scale: float = number("Factor of both losses.", "", 0.0, 100.0, 1.0)
    spread: float = number("How the pace differs from cell to cell.", "share", 0.0, 1.0, 0.1)
    resistance_per_loss: float = number("Rise of the resistance per loss of capacity.", "", 0.0, 20.0, 1.18)
    age_days: float = number("Days on the shelf before the start.", "d", 0.0, 20000.0, 0.0)
    cycles: float = number("Full cycles before the start.", "", 0.0, 50000.0, 0.0)


class Balancer(Section):
    """The boards' balancing. Bleeders do what the core says; an active channel acts by itself, as the usual ones do."""

    bleeder_ohm: float = number("Bleeder of a cell.", "ohm", 0.1, 10000.0, 33.0)
    active_a: float = number("Current of the active channel of a module; 0: none.", "A", 0.0, 20.0, 0.0)
    active_efficiency: float = number("Energy that arrives over energy taken.", "share", 0.1, 1.0, 0.85)
    active_above_v: float = number("It works while the highest cell is above.", "V", 2.0, 4.0, 3.40)
    active_start_v: float = number("It starts when highest and lowest differ by.", "V", 0.0, 0.5, 0.005)
    active_stop_v: float = number("It stops when they differ by less than.", "V", 0.0, 0.5, 0.002)
    board_k_per_w: float = number("Warming of the board.", "K/W", 0.0, 100.0, 6.0)
    board_tau_s: float = number("Its time constant.", "s", 1.0, 1e5, 120.0)
    board_limit_degc: float = number("Balancing stops on a board above.", "degC", 30.0, 150.0, 85.0)


class Sensors(Section):
    """Errors of the sensors: standard deviations over all channels; a bias is the same for all."""

    perfect: bool = setting("No error at all, whatever is written below.", False)
    cell_offset_v: float = number("Cell voltages.", "V", 0.0, 0.1, 0.001)
    cell_gain: float = number("Cell voltages.", "share", 0.0, 0.1, 0.0003)
    cell_noise_v: float = number("Cell voltages.", "V", 0.0, 0.1, 0.0005)
    cell_step_v: float = number("Step of the converter.", "V", 0.0, 0.1, 0.000625)
    temperature_offset_k: float = number("Temperatures.", "K", 0.0, 20.0, 0.5)
    temperature_noise_k: float = number("Temperatures.", "K", 0.0, 20.0, 0.05)
    temperature_step_k: float = number("Step of the converter.", "K", 0.0, 5.0, 0.05)
    current_offset_a: float | None = number("String currents; left out: 0.0004C.", "A", 0.0, 100.0, None)
    current_bias_a: float = number("Reading minus truth of every string, positive charging.", "A", -100.0, 100.0, 0.0)
    current_gain: float = number("String currents.", "share", 0.0, 0.2, 0.002)
    current_noise_a: float | None = number("String currents; left out: 0.0002C.", "A", 0.0, 100.0, None)
    current_step_a: float | None = number(
        "Step of the converter; left out: 0.02 A, or 0.0001C where that is less.", "A", 0.0, 10.0, None
    )
    voltage_gain: float = number("Voltages of modules, strings and bus.", "share", 0.0, 0.1, 0.001)
    voltage_noise_v: float = number("Voltages of modules, strings and bus.", "V", 0.0, 10.0, 0.005)
    voltage_step_v: float = number("Step of the converter.", "V", 0.0, 1.0, 0.002)


class Bus(Section):
    """The circuit around the cells; what is left out is that of the rack's configuration."""

    capacitance_f: float | None = number("Capacitor of the inverter.", "F", 1e-6, 1.0, None)
    precharge_ohm: float | None = number("Precharge resistor.", "ohm", 0.1, 1000.0, None)
    cable_ohm: float = number("Cables, busbars and fuse of a string.", "ohm", 0.0, 1.0, 0.8e-3)
    contactor_ohm: float = number("Closed contactors of a string.", "ohm", 1e-7, 0.1, 0.2e-3)


class Inverter(Section):
    """The inverter obeys the limits, late."""

    lag_s: float = number("Time constant with which it obeys.", "s", 0.0, 60.0, 1.0)
    standby_w: float = number(
        "Power from the DC bus once booted: 1 A of 16 cells, more than a small rack can give.", "W", 0.0, 10000.0, 50.0
    )
    boot_s: float = number("Time to boot.", "s", 0.0, 600.0, 6.0)


class MishapEntry(Section):
    """Something that goes wrong at a time, at a place; strings, modules, cells and sensors count from 1, 0: all."""

    kind: Literal[KINDS] = setting("What happens.")  # type: ignore[valid-type]
    start_s: float = number("Begin, since the start.", "s", 0.0, 1e10, 0.0)
    end_s: float | None = number("End, since the start; left out: it stays.", "s", 0.0, 1e10, None)
    string: int = number("String; 0: all.", "", 0, MAX_STRINGS, 0)
    module: int = number("Module of the string; 0: all.", "", 0, MAX_MODULES, 0)
    cell: int = number("Cell or sensor of the module; 0: all.", "", 0, MAX_CELLS, 0)
    value: float = number("Size, see the kind.", "", -1e6, 1e6, 0.0)
    contact: Literal["minus", "precharge", "plus"] = setting("Which contactor.", "plus")
    node: Literal["module", "unit"] = setting("Of silent_board: the module's board or the string's unit.", "module")


class Core(Section):
    """The battery management."""

    enabled: bool = setting("False: all contactors closed, no limits: the bare circuit follows the profile.", True)


class Output(Section):
    """What `-o` writes."""

    every_s: float | None = number("Time from row to row; left out: the tick, at least 1 s.", "s", 0.1, 1e6, None)


class ScenarioFile(Section):
    """The whole file."""

    name: str = setting("Name in reports.", "", max_length=100)
    duration_s: float = number("Simulated time.", "s", 0.1, 1e9)
    tick_s: float = number("Period of the core.", "s", 0.1, 60.0, 1.0)
    step_s: float | None = number(
        "Longest step of the physics; left out: the tick, at most 30 s.", "s", 0.01, 60.0, None
    )
    seed: int = number("Seed of all chance.", "", 0, 2**31, 1)
    rack: Rack = setting("", Rack())
    spread: Spread = setting("", Spread())
    cell: Cell = setting("", Cell())
    string: list[String] = setting("", [], max_length=MAX_STRINGS)
    profile: Profile = setting("", Profile())
    temperature: Temperature = setting("", Temperature())
    enclosure: Enclosure = setting("", Enclosure())
    ageing: Ageing = setting("", Ageing())
    balancer: Balancer = setting("", Balancer())
    sensors: Sensors = setting("", Sensors())
    bus: Bus = setting("", Bus())
    inverter: Inverter = setting("", Inverter())
    mishap: list[MishapEntry] = setting("", [])
    core: Core = setting("", Core())
    output: Output = setting("", Output())
