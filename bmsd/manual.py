"""Pages of the manual that are printed: faults from the catalogue, the simulator's tables, the Modbus map, the journal.

`python -m bmsd.manual FOLDER` renews faults.md, journal.md, simulator.md and modbus-map.* in docs/ of that checkout.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from bmsd.errors import ConfigError
from bmsd.model.catalogue import CATALOGUE
from bmsd.model.row import Latch, Row
from bmsd.systemd.page import journal_markdown

_CLEARS = {
    Latch.AUTO: "by itself",
    Latch.OPERATOR: "acknowledge",
    Latch.SERVICE: "service acknowledges with a reason",
}
UNITS = {"v": "V", "degc": "degC", "s": "s", "a": "A"}


def fault_lines(code: str | None, config: Path | None, *, markdown: bool = False) -> Iterator[str]:
    """Yield the lines for one fault or all. ConfigError for an unknown code or a bad configuration."""
    thresholds = _thresholds(config)
    rows = [row for row in CATALOGUE if code is None or row.code == code.upper()]
    if not rows:
        known = [row.code for row in CATALOGUE]
        near = get_close_matches((code or "").upper(), known, 3) or known
        raise ConfigError([f"fault {code}: unknown; known are {', '.join(near)}"])
    if markdown:
        yield from _document(rows, thresholds)
        return
    for row in rows:
        if code is None:
            yield f"{row.code}  {row.level.name.lower():8} {row.name.replace('_', ' '):36} {condition(row, thresholds)}"
        else:
            yield from _page(row, thresholds)


WORDS = {
    "cell_voltage": "a cell {limit}",
    "cell_under_voltage_trip": "a cell {limit} while discharging, else for 10 min",
    "cell_invalid": "a cell is invalid or impossible",
    "self_discharge": "a cell's leak over a month, less its doubt, {limit} mA",
    "soft_short": "a cell's leak over a week, less its doubt, {limit} mA",
    "sense_wire_open": "a board finds a cell's sense wire open",
    "string_voltage": "string or bus voltage off the sum of the cells by more than `cell_sum_tolerance_v` or "
    "`cell_sum_tolerance_share` allow",
    "module_voltage": "module voltage off the sum of its cells by more than `cell_sum_tolerance_v` or "
    "`cell_sum_tolerance_share` allow",
    "cell_jump": "a cell jumps by 50 mV twice in 5 samples without a current step of 0.1C",
    "temperature_spread": "highest minus lowest temperature of a string {limit} K",
    "unexplained_heat": "a sensor 1.5 K too warm, or 8 K above the others of its module",
    "fast_heating": "1 K/s with a second sign, or 5 K/min on two sensors for 20 s",
    "runaway_signs": "two of four signs",
    "temperature_alone": "a sensor's distance to the others of its module {limit} K",
    "unexplained_heating": "unexplained rise {limit} K/min, with a second sign",
    "temperature": "a sensor {limit}",
    "temperature_charging": "a sensor {limit} while charging",
    "sensor_open": "a sensor reads open",
    "sensor_short": "a sensor reads shorted",
    "temperature_coverage": "share of a module's valid sensors {limit}",
    "charge_over_warning": "charge current beyond the limits of the last 15 s",
    "charge_over_alarm": "charge current far beyond the limits of the last 15 s, or beyond the cell's",
    "charge_share": "charge current of a string {limit} times its hard limit",
    "discharge_over_warning": "discharge current beyond the limits of the last 15 s",
    "discharge_over_alarm": "discharge current far beyond the limits of the last 15 s, or beyond the cell's",
    "discharge_share": "discharge current of a string {limit} times its hard limit",
    "current_age": "age of a string's current {limit}",
    "current_sensor_error": "current invalid, or the sensor's self-test failed",
    "open_string_current": "current of a string 0.1 s after it was told to open above 2 A or 1 % of its fuse",
    "state_of_health": "state of health {limit}",
    "equalising_current": "predicted equalising current above half of the continuous one, or 0.2C",
    "string_not_open": "told to be open, and its unit reports it closed, or it carries current",
    "string_in_doubt": "nothing has shown it open since it was last told to close, in a rack of several strings",
    "close_failed": "a contact not closed in 1 s",
    "contact_lost": "an auxiliary contact open 0.5 s after its string closed",
    "contact_not_open": "a contact closed 0.5 s after it was told to open",
    "precharge_failed": "the bus not charged in five time constants and 1 s, at most 15 s",
    "precharge_load": "the bus below half of its curve after a time constant, or too much energy in the resistor",
    "cell_age": "age of a module's cells {limit}",
    "cell_count": "a board has another number of cells",
    "wrong_type": "a board is of another type or chemistry",
    "duplicate_addresses": "two boards seen at one address twice in 10 s",
    "swapped": "a board is not the one commissioned there, or none was",
    "taken_over": "the boards that answer became the rack's, and nobody has accepted them",
    "counter_errors": "three polls answered with another SYNC's number",
    "crc_errors": "5 damaged frames in 10 s, or 1 % of them",
    "board_tripped": "a board has a trip latched",
    "fuse_blown": "input fuse active, or trip of this name",
    "interlock_open": "input interlock or door active, or trip of this name",
    "emergency_stop": "input emergency stop active, or trip of this name",
    "unit_tripped": "a unit has another trip latched",
    "insulation_low": "input insulation active, or trip of this name",
    "smoke": "input smoke active, or trip of this name",
    "inverter_silence": "no keep-alive for 10 s",
    "required_inverter_silence": "no keep-alive for `inverter.keepalive_timeout_s` although it is required",
    "set_point_lost": "a power set-point ran out without having been renewed or released",
    "bus_off": "the controller is bus-off",
    "send_stalled": "nothing sent, time {limit}",
    "bus_down": "the interface is down",
    "error_passive": "the controller is error-passive",
    "bus_errors": "over 100 errors in 10 s, or the controller in error-warning for 60 s",
    "lost_frames": "a frame was lost",
    "malformed_frames": "frames in 10 s {limit}",
    "nobody_answers": "on the field bus 50 acknowledgements missing in 10 s, or nothing heard since it was opened",
    "foreign_frames": "a frame of somebody else that only bmsd may send",
    "loop_lateness": "time between ticks {limit} periods",
    "gate_blocked": "a frame was blocked",
    "ended_out_of_order": "the process before this one did not leave in order while the computer ran on",
    "computer_went_down": "the computer went down while the process before this one ran",
    "restarts": "starts within 5 min after an end out of order {limit}",
    "cpu_temperature": "processor {limit} degC",
    "memory_short": "more than 150 MiB taken, or less than 10 % available",
    "files_used": "open files or threads {limit} of what the process may have",
    "disk_free": "free share of the disk of `[state] directory` {limit}, or no room for the state",
    "storage_refuses": "the state cannot be written, or the disk takes no writes",
    "storage_wear": "share of the storage's life used up {limit}",
    "save_time": "writing the state takes {limit} s",
    "clock_step": "the wall clock was set by {limit} s",
    "clock_adrift": "nothing keeps the wall clock right, or it was never set (then after 1 h)",
    "power_low": "the computer reports low supply voltage or that it slows itself down",
    "heartbeat_path": "the feedback does not follow the heartbeat output",
}
"""Detector -> what it looks at; without `{limit}` it answers yes or no."""


def condition(row: Row, thresholds: Mapping[str, float]) -> str:
    """When the fault is raised, in one line."""
    limit = f"{'below' if row.below else 'above'} {_number(row.trip, thresholds)}"
    words = [WORDS[row.detector].format(limit=limit)]
    if row.samples > 1:
        words.append(f"{row.samples} samples")
    if row.delay_s:
        words.append(f"{row.delay_s:g} s")
    return ", ".join(words)


def clearing(row: Row, thresholds: Mapping[str, float]) -> str:
    """What clears the fault, in one line."""
    words = _CLEARS[row.latch]
    if "{limit}" in WORDS[row.detector]:
        words += f" {'above' if row.below else 'below'} {_number(row.clear, thresholds)}"
    if row.clear_s:
        words += f" for {row.clear_s:g} s"
    if row.auto_per_hour is not None:
        often = "once" if row.auto_per_hour == 1 else f"{row.auto_per_hour} times"
        words += f", {often} an hour; then acknowledge"
    return words


def _page(row: Row, thresholds: Mapping[str, float]) -> Iterator[str]:
    yield f"{row.code} {row.name.replace('_', ' ')} ({row.level.name.lower()}, per {row.scope.value})"
    yield f"  means     {row.means}"
    yield f"  raised    {condition(row, thresholds)}"
    yield f"  bmsd does {row.does}"
    yield f"  to do     {row.remedy}"
    yield f"  clears    {clearing(row, thresholds)}"
    if row.alarms:
        yield f"  inverter  {', '.join(sorted(row.alarms))}"


FAULTS_INTRODUCTION = """\
# Faults

Every fault that bmsd knows, printed by `bmsd faults --markdown` (with `-c FILE`: with the thresholds of that file;
here: the defaults for LFP). `bmsd faults CODE` shows one, `bmsd status` those that are raised.

* *warning*: limits are reduced, it is shown. *alarm*: limits to zero, contactors stay. *trip*: the string opens.
* Limits act on the first sample; delays and samples count until the fault itself is raised.
* *acknowledge*: `bmsd reset CODE -c FILE`; a service fault also needs `--reason TEXT`. A fault whose cause is still
  there stays. What may be cleared is judged at the value given in the last column."""


def _document(rows: list[Row], thresholds: Mapping[str, float]) -> Iterator[str]:
    yield from FAULTS_INTRODUCTION.splitlines()
    yield ""
    yield "| code | level | name | raised | clears |"
    yield "|---|---|---|---|---|"
    for row in rows:
        name = row.name.replace("_", " ")
        cells = (row.code, row.level.name.lower(), name, condition(row, thresholds), clearing(row, thresholds))
        yield "| " + " | ".join(cells) + " |"
    for row in rows:
        yield ""
        yield f"## {row.code} {row.name.replace('_', ' ')}"
        yield f"{row.means} ({row.level.name.lower()}, per {row.scope.value})"
        yield ""
        yield f"* bmsd does: {row.does}"
        yield f"* To do: {row.remedy}"
        if row.alarms:
            yield f"* Told to the inverter: {', '.join(sorted(row.alarms)).replace('_', ' ')}"


SIM_TABLES = {
    "sim": None,
    "sim.bus": "_BusTable",
    "sim.board": "_BoardTable",
    "sim.unit": "_UnitTable",
    "sim.inverter": "_InverterTable",
    "sim.playback": "_PlaybackTable",
    "[sim.mishap]": "_MishapTable",
}
"""Heading -> the schema's definition, None for the table itself."""
PRINTED = "<!-- printed: python -m bmsd.manual . -->"
"""From here to its end a page is printed."""


def sim_tables() -> Iterator[str]:
    """Yield the tables of docs/simulator.md: every setting of [sim], every kind of mishap."""
    from bmsd.sim import mishap
    from bmsd.sim.scenario import json_schema

    schema = json_schema()
    for title, definition in SIM_TABLES.items():
        yield ""
        yield f"## [{title}]"
        yield ""
        yield "| setting | default | meaning |"
        yield "|---|---|---|"
        table = schema["$defs"][definition] if definition else schema
        for name, field in table["properties"].items():
            if "description" in field:
                yield f"| `{name}` | {_default(name, field, table)} | {field['description']} |"
    yield ""
    yield "## Kinds of mishaps"
    yield ""
    yield "| kind | what happens |"
    yield "|---|---|"
    for kind in mishap.KINDS:
        yield f"| `{kind}` | {' '.join((getattr(mishap, kind).__doc__ or '').split())} |"


def scenario_tables() -> Iterator[str]:
    """Yield the tables of docs/simulation.md: every setting of a scenario, its mishaps, the columns of the output."""
    from bmsd.config.described import settings
    from bmsd.lab.scenario_file import KINDS, ScenarioFile
    from bmsd.lab.simulate import COLUMNS, STRING_COLUMNS
    from bmsd.sim import mishap

    section = None
    for found in settings(ScenarioFile).values():
        if found.kind == "table" or (found.kind == "list of tables"):
            continue
        if found.section != section:
            section = found.section
            listed = section in ("string", "mishap")
            title = f"[[{section}]]" if listed else f"[{section}]" if section else "Before all tables"
            yield from ("", f"## {title}", "", "| setting | range | default | meaning |", "|---|---|---|---|")
        default = "**required**" if found.required else "" if found.default is None else f"`{_written(found.default)}`"
        range_ = found.range or ", ".join(f"`{choice}`" for choice in found.choices if section != "mishap")
        yield f"| `{found.name}` | {range_} | {default} | {found.meaning} |"
    yield from ("", "## Kinds of mishaps of a scenario", "", "| kind | what happens |", "|---|---|")
    for kind in KINDS:
        yield f"| `{kind}` | {' '.join((getattr(mishap, kind).__doc__ or '').split())} |"
    yield from ("", "## Columns of the output", "", "| column | meaning |", "|---|---|")
    for name, meaning in (*COLUMNS, *STRING_COLUMNS):
        yield f"| `{name}` | {meaning} |"


def _written(value: Any) -> str:
    """A default as it is written in a file."""
    return str(value).lower() if isinstance(value, bool) else '""' if value == "" else str(value)


def _default(name: str, field: Mapping[str, Any], table: Mapping[str, Any]) -> str:
    if name in table.get("required", ()):
        return "**required**"
    default = field.get("default")
    if default is None:
        return ""
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def _number(value: float | str, thresholds: Mapping[str, float]) -> str:
    if not isinstance(value, str):
        return f"{value:g}"
    if value in thresholds:
        unit = UNITS.get(value.rsplit("_", 1)[-1], "")
        return f"{thresholds[value]:g} {unit}".strip()
    return f"`{value}`"


def _thresholds(config: Path | None) -> Mapping[str, float]:
    """Thresholds of this configuration; without one, the defaults."""
    from bmsd.config.load import load, plant
    from bmsd.config.schema import Protection, TimingSection

    if config is None:
        return {**Protection().model_dump(), "hold_s": 3.0 * TimingSection().poll_s}
    return plant(load(config)).thresholds


def renew(folder: Path) -> None:
    """Write the printed pages of a checkout."""
    faults = "\n".join(fault_lines(None, None, markdown=True)) + "\n"
    (folder / "docs" / "faults.md").write_text(faults, encoding="utf-8")
    (folder / "docs" / "journal.md").write_text(journal_markdown(), encoding="utf-8")
    _renew_end(folder / "docs" / "simulator.md", sim_tables())
    _renew_end(folder / "docs" / "simulation.md", scenario_tables())
    _renew_map(folder / "docs")


def _renew_end(page: Path, lines: Iterator[str]) -> None:
    """Write the printed end of a page, where there is the page."""
    if page.exists():
        written = page.read_text(encoding="utf-8").partition(PRINTED)[0]
        page.write_text("\n".join((written + PRINTED, *lines)) + "\n", encoding="utf-8")


def _renew_map(docs: Path) -> None:
    """Write the Modbus map. ConfigError when something moved that somebody may read: it stays as it was."""
    from bmsd import register_map
    from bmsd.model.points import listed

    committed = docs / "modbus-map.csv"
    if committed.exists() and (moved := register_map.moved(committed.read_text(encoding="utf-8"))):
        raise ConfigError(moved)
    committed.write_text(register_map.as_csv(listed()), encoding="utf-8")
    (docs / "modbus-map.md").write_text("\n".join(register_map.page()), encoding="utf-8")


if __name__ == "__main__":
    renew(Path(sys.argv[1]))
