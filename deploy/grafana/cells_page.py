"""Every cell and sensor of a rack."""

from __future__ import annotations

from panels import (
    GOOD,
    NONE_IS_GOOD,
    NOTE,
    WORST,
    Dashboard,
    Panel,
    Variable,
    bars,
    column,
    lines,
    stat,
    table,
)  # fmt: skip
from shared import DEGC_STEPS, RACK, SPREAD_STEPS, of

STRING = Variable("string", "String", 'label_values(bmsd_module_age_seconds{instance="$instance"}, string)', True)
MODULE = Variable("module", "Module", 'label_values(bmsd_module_age_seconds{instance="$instance"}, module)', True)


def chosen(metric: str) -> str:
    """The series of a metric of the strings and modules that are chosen."""
    return of(metric, 'string=~"$string", module=~"$module"')


SPREAD = (
    f"max by (string, module) ({chosen('bmsd_cell_voltage_volts')})"
    f" - min by (string, module) ({chosen('bmsd_cell_voltage_volts')})"
)
CELL, SENSOR, BOARD = (
    "{{string}}.{{module}}.{{cell}}", "{{string}}.{{module}} sensor {{sensor}}", "string {{string}} module {{module}}",
)  # fmt: skip


def _extremes(title: str, about: str, pick: str, highest_first: bool) -> Panel:
    return table(
        title, about, [f"{pick}(8, {chosen('bmsd_cell_voltage_volts')})"],
        {"string": "string", "module": "module", "cell": "cell", "Value": "voltage"}, ("voltage", highest_first), 6, 9,
        overrides=[column("voltage", "volt", 3)], nothing="no cells in the metrics",
    )  # fmt: skip


PAGE = Dashboard(
    "bmsd-cells", "bmsd cells",
    "Every cell and sensor of a rack. Empty where `[web] cells_in_metrics` is false.",
    (RACK, STRING, MODULE),
    (
        ("", (
            stat("Highest cell", "Of the whole rack.", of("bmsd_cell_voltage_max_volts"), 4, unit="volt", decimals=3),
            stat("Lowest cell", "Of the whole rack.", of("bmsd_cell_voltage_min_volts"), 4, unit="volt", decimals=3),
            stat("Spread", "Highest less lowest cell of the rack. Telling only near the top or bottom, without much"
                 " current: in between LFP cells are flat.",
                 f"{of('bmsd_cell_voltage_max_volts')} - {of('bmsd_cell_voltage_min_volts')}", 4, unit="volt",
                 decimals=3, steps=SPREAD_STEPS),
            stat("Hottest sensor", "Of the whole rack.", of("bmsd_cell_temperature_max_celsius"), 4, unit="celsius",
                 decimals=1, steps=DEGC_STEPS),
            stat("Cells that bleed", "Cells told to balance now.", of("bmsd_cells_balancing"), 2),
            stat("Unknown", "Cells without a voltage: with one of them nothing may flow in its string.",
                 of("bmsd_cells_unknown"), 2, steps=NONE_IS_GOOD),
            stat("Oldest measurement", "Of the modules that have ever answered. Above 0.6 s its cells are unknown.",
                 f"max({of('bmsd_module_age_seconds')})", 4, unit="s", decimals=2,
                 steps=((None, GOOD), (0.6, NOTE), (2, WORST))),
        )),
        ("Voltages", (
            bars("Cells now", "Each cell: string.module.cell. A cell that is not known has no bar.",
                 f"sort({chosen('bmsd_cell_voltage_volts')})", CELL, 24, 9, unit="volt", decimals=3,
                 colour="continuous-BlYlRd"),
            _extremes("Highest cells", "They end a charge.", "topk", True),
            _extremes("Lowest cells", "They end a discharge.", "bottomk", False),
            lines("Spread by module", "Highest less lowest cell of each module. Where it grows over weeks, a cell"
                  " ages or leaks.",
                  (SPREAD, BOARD), unit="volt", decimals=3, height=9),
            lines("Cell voltages", "Choose a module above to see single cells.",
                  (chosen("bmsd_cell_voltage_volts"), CELL), width=24, height=10, unit="volt", decimals=3),
        )),
        ("Temperatures", (
            lines("Cell temperatures", "Every sensor; a lone hot one is a bad connection or a sick cell.",
                  (chosen("bmsd_cell_temperature_celsius"), SENSOR), unit="celsius", decimals=1, steps=DEGC_STEPS,
                  limits=True),
            lines("Board temperatures", "The boards themselves; they warm while they bleed.",
                  (chosen("bmsd_board_temperature_celsius"), BOARD), unit="celsius", decimals=1),
        )),
        ("Boards", (
            lines("Cells that bleed, by module", "A module that always bleeds more than the others is badly balanced.",
                  (chosen("bmsd_module_cells_balancing"), BOARD)),
            lines("Age of the measurements", "Above 0.6 s the cells of the module are unknown and nothing flows.",
                  (chosen("bmsd_module_age_seconds"), BOARD), unit="s", decimals=2,
                  steps=((None, GOOD), (0.6, WORST)), limits=True),
            lines("Voltage of the modules", "As each board measures it as a whole.",
                  (chosen("bmsd_module_voltage_volts"), BOARD), unit="volt", decimals=2),
        )),
    ),
)  # fmt: skip
