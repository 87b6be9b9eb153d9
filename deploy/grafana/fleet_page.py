"""All racks, the worst first."""

from __future__ import annotations

from panels import (
    ABSENT,
    BAD,
    GOOD,
    NONE_IS_GOOD,
    NOTE,
    WORST,
    Dashboard,
    Variable,
    column,
    lines,
    stat,
    table,
    timeline,
    words,
)  # fmt: skip
from shared import DEGC_STEPS, LEVEL_STEPS, LOW_LIMIT, SILENT, SPREAD_STEPS, of

SITE = Variable("site", "Site", "label_values(bmsd_up, site)", True)


def fleet(metric: str, more: str = "") -> str:
    """The series of a metric of all racks of the sites that are chosen."""
    return of(metric, more, 'site=~"$site"')


UP = fleet("up", 'job="bmsd"')
SEVERITY = (
    f"({UP} == 0) + 5 or on (instance, site) ({fleet('bmsd_up')} == 0) + 4"
    f" or on (instance, site) {fleet('bmsd_fault_level')}"
)
"""0..3: the highest level of the faults of a rack; 4: control silent; 5: nobody answers."""
WORDS = words(
    (0, "good", GOOD), (1, "warning", NOTE), (2, "alarm", BAD), (3, "trip", WORST), (4, SILENT, WORST),
    (5, "unreachable", ABSENT),
)  # fmt: skip
WORD_STEPS = (*LEVEL_STEPS, (5, ABSENT))


def _by_rack(expr: str, *labels: str) -> str:
    return f"max by ({', '.join(('instance', 'site', *labels))}) ({expr})"


def _count(expr: str) -> str:
    return f"count({expr}) or vector(0)"


_TO_RACK = [{"title": "Show this rack", "url": "/d/bmsd-rack?var-instance=${__data.fields.rack}&${__url_time_range}"}]
# Grafana leaves the number out where only the first query has an answer: when no rack can be reached.
_HEADINGS: dict[str, str] = {
    "Value": "condition",
    "Value #A": "condition", "instance": "rack", "site": "site", "state": "does", "Value #C": "charge limit",
    "reason": "why no more charge", "Value #E": "discharge limit", "Value #F": "SoC", "Value #G": "spread",
    "Value #H": "hottest", "Value #I": "missing",
}  # fmt: skip
PAGE = Dashboard(
    "bmsd-fleet", "bmsd fleet",
    "All racks, the worst first.",
    (SITE,),
    (
        ("", (
            stat("Racks", "All that are scraped.", _count(UP), 4),
            stat("Unreachable", "Their gateway does not answer.", _count(f"{UP} == 0"), 4,
                 steps=NONE_IS_GOOD),
            stat("Control silent", "The gateway answers, bmsd run does not: nothing is known of the rack.",
                 _count(f"{fleet('bmsd_up')} == 0"), 4, steps=NONE_IS_GOOD),
            stat("With a trip or alarm", "Racks that have opened a string or hold a limit at zero.",
                 _count(f"{fleet('bmsd_fault_level')} >= 2"), 4, steps=NONE_IS_GOOD),
            stat("May not charge", "Racks whose charge limit is 0 A, for whatever reason: a full one is among them.",
                 _count(f"{fleet('bmsd_charge_current_limit_amperes')} == 0"), 4, steps=((None, GOOD), (1, NOTE))),
            stat("May not discharge", "Racks whose discharge limit is 0 A: an empty one is among them.",
                 _count(f"{fleet('bmsd_discharge_current_limit_amperes')} == 0"), 4, steps=((None, GOOD), (1, NOTE))),
        )),
        ("Racks", (
            table(
                "Worst first",
                "Unreachable first, then control silent, trips, alarms, warnings. Click a rack to see why.",
                [
                    f"sort_desc({_by_rack(SEVERITY)})",
                    _by_rack(fleet("bmsd_lifecycle"), "state"),
                    _by_rack(fleet("bmsd_charge_current_limit_amperes")),
                    _by_rack(fleet("bmsd_limit_binding", 'direction="charge"'), "reason"),
                    _by_rack(fleet("bmsd_discharge_current_limit_amperes")),
                    _by_rack(fleet("bmsd_pack_soc_ratio")),
                    _by_rack(f"{fleet('bmsd_cell_voltage_max_volts')} - {fleet('bmsd_cell_voltage_min_volts')}"),
                    _by_rack(fleet("bmsd_cell_temperature_max_celsius")),
                    _by_rack(fleet("bmsd_missing")),
                ],
                _HEADINGS, ("condition", True), 24, 14, nothing="no racks",
                overrides=[
                    column("condition", steps=WORD_STEPS, mappings=WORDS), column("rack", links=_TO_RACK),
                    column("charge limit", "amp", 1, LOW_LIMIT), column("discharge limit", "amp", 1, LOW_LIMIT),
                    column("SoC", "percentunit", 1), column("spread", "volt", 3, SPREAD_STEPS),
                    column("hottest", "celsius", 1, DEGC_STEPS), column("missing", steps=NONE_IS_GOOD),
                ],
            ),
        )),
        ("Over time", (
            timeline("Condition", "What the racks went through.", _by_rack(SEVERITY), "{{instance}}", 24, 8,
                     mappings=WORDS, steps=WORD_STEPS),
            lines("State of charge", "Racks of one site should stay together.",
                  (fleet("bmsd_pack_soc_ratio"), "{{instance}}"), unit="percentunit", low=0, high=1),
            lines("Power", "Of all racks together, and of each. Positive: charges.",
                  (f"sum({fleet('bmsd_power_watts')})", "together"), (fleet("bmsd_power_watts"), "{{instance}}"),
                  unit="watt"),
            lines("Hottest sensor", "Of each rack.", (fleet("bmsd_cell_temperature_max_celsius"), "{{instance}}"),
                  unit="celsius", decimals=1, steps=DEGC_STEPS, limits=True),
            lines("Spread of the cells", "Highest less lowest cell of each rack.",
                  (f"{fleet('bmsd_cell_voltage_max_volts')} - {fleet('bmsd_cell_voltage_min_volts')}",
                   "{{instance}}"), unit="volt", decimals=3),
            table("Faults of the fleet", "How many racks have each fault now: one that many have is none of a rack.",
                  [f"sort_desc(count by (code, fault, level) ({fleet('bmsd_fault_seconds')}))"],
                  {"code": "code", "fault": "fault", "level": "level", "Value": "racks"}, ("racks", True), 12, 8,
                  nothing="no fault is raised", overrides=[column("code", **{"custom.width": 90})]),
            table("Versions", "What runs where: another version or configuration is another behaviour.",
                  [fleet("bmsd_info")],
                  {"instance": "instance", "rack": "rack", "version": "version", "configuration": "configuration"},
                  ("instance", False), 12, 8),
        )),
    ),
    "now-6h",
)  # fmt: skip
