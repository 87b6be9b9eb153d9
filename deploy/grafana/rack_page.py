"""What a technician at a rack asks: what it does, what limits it and why, what is wrong and where."""

from __future__ import annotations

from typing import Any

from panels import (
    BAD,
    GOOD,
    NONE_IS_GOOD,
    NOTE,
    PLAIN,
    WORST,
    Dashboard,
    Panel,
    coloured,
    column,
    lines,
    stat,
    table,
    timeline,
    words,
)  # fmt: skip
from shared import DEGC_STEPS, LEVEL_STEPS, LOW_LIMIT, RACK, SILENT, of

LEVELS = words((0, "none", GOOD), (1, "warning", NOTE), (2, "alarm", BAD), (3, "trip", WORST))
STATE_COLOURS = {
    "initialising": PLAIN, "standby": PLAIN, "precharge": PLAIN, "idle": GOOD, "charging": GOOD, "discharging": GOOD,
    "derated": BAD, "fault": WORST, "stopping": NOTE,
}  # fmt: skip
STATES = [coloured(state, colour) for state, colour in STATE_COLOURS.items()]


def _why(direction: str) -> tuple[Panel, Panel]:
    metric = of(f"bmsd_{direction}_current_limit_amperes")
    return (
        stat(
            f"{direction.capitalize()} limit", f"What the inverter may {direction} now. 0 A: nothing.", metric,
            unit="amp", decimals=1, steps=LOW_LIMIT, nothing=SILENT,
        ),
        stat(
            f"Why no more {direction}",
            "The reason that binds: the tightest of all below. `rising slowly` passes by itself within a minute.",
            of("bmsd_limit_binding", f'direction="{direction}"'), 6, name="{{reason}}", nothing=SILENT,
        ),
    )  # fmt: skip


def _causes(direction: str) -> Panel:
    bounds = of("bmsd_limit_bound_amperes", f'direction="{direction}"')
    return table(
        f"All causes that limit the {direction}",
        "What each cause would let flow, for the whole rack. The first one binds; the next one binds when it is gone.",
        [f"sort({bounds})"],
        {"Value": "allows", "reason": "cause", "string": "string"}, ("allows", False), 12, 7,
        overrides=[column("allows", "amp", 1, LOW_LIMIT, **{"custom.width": 100}),
                   column("string", **{"custom.width": 80})],
        nothing=SILENT,
    )  # fmt: skip


def _small(title: str, about: str, metric: str, **more: Any) -> Panel:
    return stat(title, about, of(metric), 4, height=3, nothing=SILENT, **more)


PAGE = Dashboard(
    "bmsd-rack", "bmsd rack",
    "What the rack does, what limits it and why, what is wrong and where.",
    (RACK,),
    (
        ("", (
            stat("The rack is", "What the rack does now; `control silent`: bmsd run does not answer the gateway.",
                 of("bmsd_lifecycle"), name="{{state}}", overrides=STATES, nothing=SILENT, steps=((None, WORST),)),
            *_why("charge"), *_why("discharge"),
            stat("Worst fault", "Highest level of all faults that are raised. The table below names them.",
                 of("bmsd_fault_level"), mappings=LEVELS, steps=LEVEL_STEPS, nothing=SILENT),
        )),
        ("What limits, what is wrong", (
            _causes("charge"), _causes("discharge"),
            table(
                "Faults that are raised",
                "Each with the place of its worst subject. `bmsd faults CODE` says what it means, what clears it and"
                " what to do; those that wait for an acknowledgement need `bmsd reset CODE`.",
                [of("bmsd_fault_seconds")],
                {"level": "level", "code": "code", "fault": "fault", "place": "where", "Value": "for"},
                ("for", True), 16, 7, nothing="no fault is raised",
                overrides=[column("for", "s", 0, **{"custom.width": 90}), column("code", **{"custom.width": 90}),
                           column("level", steps=((None, BAD),), mappings=[
                               {"type": "value", "options": {
                                   "info": {"color": PLAIN}, "warning": {"color": NOTE}, "alarm": {"color": BAD},
                                   "trip": {"color": WORST}}}], **{"custom.width": 90})],
            ),
            table("Why a string is not closed", "The reason for every string that is not closed; numbers are left out:"
                  " `bmsd status` has them.",
                  [of("bmsd_string_waiting")], {"string": "string", "reason": "reason"}, ("string", False), 8, 7,
                  nothing="every string is closed", overrides=[column("string", **{"custom.width": 80})]),
        )),
        ("Now", (
            _small("State of charge", "Mean of the closed strings, each by its weakest cell.", "bmsd_pack_soc_ratio",
                   unit="percentunit", decimals=1),
            _small("Uncertainty", "Standard deviation of the state of charge of the least certain cell.",
                   "bmsd_pack_soc_sigma_ratio", unit="percentunit", decimals=1,
                   steps=((None, GOOD), (0.05, NOTE), (0.15, BAD))),
            _small("Voltage", "On the inverter's side of the contactors.", "bmsd_pack_voltage_volts", unit="volt",
                   decimals=1),
            _small("Current", "Positive: charges.", "bmsd_pack_current_amperes", unit="amp", decimals=1),
            _small("Power", "Positive: charges.", "bmsd_power_watts", unit="watt", decimals=1),
            _small("Strings closed", "Strings that feed the bus.", "bmsd_strings_connected",
                   steps=((None, BAD), (1, GOOD))),
            _small("Cells unknown", "Cells without a voltage: with one of them nothing may flow in its string.",
                   "bmsd_cells_unknown", steps=NONE_IS_GOOD),
            _small("Sensors unknown", "Temperature sensors without a value.", "bmsd_temperatures_unknown",
                   steps=NONE_IS_GOOD),
            _small("Things missing", "Buses, boards and contactor units that are not there; CAN health names them.",
                   "bmsd_missing", steps=NONE_IS_GOOD),
            _small("To acknowledge", "Faults that wait until somebody has looked: `bmsd reset CODE`.",
                   "bmsd_faults_latched", steps=((None, GOOD), (1, BAD))),
            _small("Cells that bleed", "Cells told to balance now.", "bmsd_cells_balancing"),
            _small("Hottest sensor", "The lone number says little: the cells page has them all.",
                   "bmsd_cell_temperature_max_celsius", unit="celsius", decimals=1, steps=DEGC_STEPS),
        )),
        ("Over time", (
            lines("Current and its limits", "Between the two limits the inverter is free. Charging is up.",
                  (of("bmsd_pack_current_amperes"), "current"),
                  (of("bmsd_charge_current_limit_amperes"), "charge limit"),
                  (f"-{of('bmsd_discharge_current_limit_amperes')}", "discharge limit"), unit="amp",
                  overrides=[coloured("current", PLAIN), coloured("charge limit", BAD),
                             coloured("discharge limit", BAD)]),
            timeline("What bound the limits", "A bar for each cause while it was the one that bound.",
                     f"max by (direction, reason) ({of('bmsd_limit_binding')})", "{{direction}}: {{reason}}", 12, 8,
                     mappings=words((1, "binds", BAD))),
            lines("Voltage and its limits", "The rack, and what the inverter is told to stay within.",
                  (of("bmsd_pack_voltage_volts"), "voltage"),
                  (of("bmsd_charge_voltage_limit_volts"), "charge voltage limit"),
                  (of("bmsd_discharge_voltage_limit_volts"), "discharge voltage limit"), unit="volt"),
            lines("State of charge over time", "The rack, and each string by its weakest cell.",
                  (of("bmsd_pack_soc_ratio"), "rack"), (of("bmsd_string_soc_ratio"), "string {{string}}"),
                  unit="percentunit", low=0, high=1),
            lines("Currents of the strings", "They should share alike; one that carries less is colder, emptier or"
                  " badly connected.",
                  (of("bmsd_string_current_amperes"), "string {{string}}"), unit="amp"),
            lines("Extreme cells", "The highest and the lowest cell of the rack.",
                  (of("bmsd_cell_voltage_max_volts"), "highest"), (of("bmsd_cell_voltage_min_volts"), "lowest"),
                  unit="volt", decimals=3),
            lines("Extreme temperatures", "The hottest and the coldest sensor. The lines are for common LFP cells;"
                  " what yours bear is in their data sheet and the configuration.",
                  (of("bmsd_cell_temperature_max_celsius"), "hottest"),
                  (of("bmsd_cell_temperature_min_celsius"), "coldest"), unit="celsius", decimals=1, steps=DEGC_STEPS,
                  limits=True),
            timeline("Contactors", "What each string was at.", of("bmsd_string_state"), "string {{string}} {{state}}",
                     12, 8, mappings=words((1, "so", PLAIN))),
        )),
    ),
)  # fmt: skip
