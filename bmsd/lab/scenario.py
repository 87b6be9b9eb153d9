"""From a scenario file to a rack of the twin and the configuration of its core; everything wrong is told at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bmsd.config import cell_file
from bmsd.config.complaints import complaints
from bmsd.config.load import checked, load, plant, read, tables
from bmsd.config.named_cell import NamedCell
from bmsd.errors import ConfigError
from bmsd.lab import cell_twin, wanted
from bmsd.lab.scenario_file import Cell, Profile, ScenarioFile
from bmsd.model.cell import CellModel
from bmsd.model.layout import MAX_MODULES
from bmsd.model.plant import Plant
from bmsd.sim.ageing import AgeingParameters
from bmsd.sim.balancer import BalancerParameters
from bmsd.sim.boards import ModuleBoardSettings
from bmsd.sim.cell import CellParameters
from bmsd.sim.heat import Enclosure
from bmsd.sim.inverter import InverterSettings, Wanted
from bmsd.sim.inverter import Profile as Shape
from bmsd.sim.mishap import Mishap
from bmsd.sim.rack import BusParameters
from bmsd.sim.sensors import SensorParameters
from bmsd.sim.twin import StringParameters, TwinSettings

LONGEST_STEP_S = 30.0
USUAL_PRECHARGE_OHM, USUAL_PRECHARGE_S = 20.0, 0.96
"""Of a string that stands what 20 ohm let through; others have more, and as much less capacitance."""
_SHAPE = ("strings", "modules_per_string", "cells_per_module", "sensors_per_module", "capacity_ah",
          "charge_max_c", "discharge_max_c")  # fmt: skip


@dataclass(frozen=True)
class Scenario:
    """A scenario that can be run."""

    name: str
    duration_s: float
    tick_s: float
    step_s: float
    every_s: float
    """Time from row to row of the output."""
    twin: TwinSettings
    plant: Plant
    with_core: bool


def load_scenario(path: Path) -> Scenario:
    """Return the scenario of this file; ConfigError lists everything that is wrong with it."""
    return parse_scenario(read(path), path.parent, path.name)


def parse_scenario(text: str, folder: Path, name: str = "scenario") -> Scenario:
    """Return the scenario of this TOML text; its relative paths start at `folder`."""
    data = tables(text, name)
    try:
        return _built(ScenarioFile.model_validate(data), folder, frozenset())
    except ValidationError as invalid:
        wrong = frozenset(str(error["loc"][0]) for error in invalid.errors(include_url=False))
        lines = complaints(invalid, data, ScenarioFile)
    raise ConfigError(lines + _further(data, wrong, folder))


def _further(data: dict[str, Any], wrong: frozenset[str], folder: Path) -> list[str]:
    """What else is wrong, in the tables that have no wrong setting."""
    rest = {"duration_s": 1.0} | {name: table for name, table in data.items() if name not in wrong}
    try:
        _built(ScenarioFile.model_validate(rest), folder, wrong)
    except ConfigError as error:
        return list(error.complaints)
    return []


def _built(file: ScenarioFile, folder: Path, unknown: frozenset[str]) -> Scenario:
    """Return the scenario. Complaints about tables in `unknown` are left out: they are wrong already."""
    lines = [line for needs, check in CHECKS if not unknown & needs for line in check(file)]
    rack: Plant | None = None
    current: Wanted | None = None
    room: Callable[[float], float] | None = None
    fitted: cell_file.Specification | None = None
    try:
        fitted = _fitted(file, folder)
    except ConfigError as error:
        lines += [] if "cell" in unknown else [f"cell.specification: {line}" for line in error.complaints]
        unknown |= {"cell"}
    try:
        rack = _plant(file, folder, fitted)
    except ConfigError as error:
        lines += [] if {"rack", "cell"} & unknown else [f"rack: {line}" for line in error.complaints]
    if rack is not None and not {"rack", "mishap"} & unknown:
        lines += _places(file, rack)
    if rack is not None:
        try:
            current, room = _site(file, folder, rack)
        except ConfigError as error:
            lines += [] if {"profile", "temperature"} & unknown else error.complaints
    if lines or rack is None or current is None or room is None:
        raise ConfigError(lines)
    step_s = file.step_s or min(file.tick_s, LONGEST_STEP_S)
    return Scenario(
        name=file.name,
        duration_s=file.duration_s,
        tick_s=file.tick_s,
        step_s=min(step_s, file.tick_s),
        every_s=file.output.every_s or max(file.tick_s, 1.0),
        twin=_twin(file, rack, fitted, current, room),
        plant=rack,
        with_core=file.core.enabled,
    )


# the rack as its core knows it


def _fitted(file: ScenarioFile, folder: Path) -> cell_file.Specification | None:
    """What the cells are, where the scenario names a file of it."""
    return cell_file.load(folder / file.cell.specification) if file.cell.specification else None


def _plant(file: ScenarioFile, folder: Path, fitted: cell_file.Specification | None) -> Plant:
    """A configuration knows its own cells, whatever the scenario makes them."""
    if not file.rack.config:
        rack = plant(checked(_configuration(file, fitted)))
        return rack if fitted is None else _knowing(rack, cell_twin.as_known(fitted, rack.cell.capacity_ah))
    path = folder / file.rack.config
    named = NamedCell(path.parent)
    rack = plant(load(path, further=[named.fit]))
    return _knowing(rack, named.model)


def _knowing(rack: Plant, model: CellModel | None) -> Plant:
    return replace(rack, cell=replace(rack.cell, fitted=model))


def _capacity_ah(file: ScenarioFile, fitted: cell_file.Specification | None) -> float:
    if fitted is None or "capacity_ah" in file.rack.model_fields_set:
        return file.rack.capacity_ah
    return fitted.model.capacity_ah


def _configuration(file: ScenarioFile, fitted: cell_file.Specification | None) -> dict[str, Any]:
    """A usual rack of this shape: ratings with margins, everything else as the configuration's defaults."""
    rack, capacity_ah = file.rack, _capacity_ah(file, fitted)
    cell = _cell(file, capacity_ah, fitted)
    strings = rack.strings if "strings" in rack.model_fields_set or not file.string else len(file.string)
    highest_a = capacity_ah * max(rack.charge_max_c, rack.discharge_max_c)
    series = rack.modules_per_string * rack.cells_per_module
    bus = file.bus
    usual_ohm = min(max(USUAL_PRECHARGE_OHM, 3.65 * series / highest_a), 1000.0)
    return {
        "rack": {"name": "scenario"},
        "layout": {
            "strings": strings,
            **{n: getattr(rack, n) for n in ("modules_per_string", "cells_per_module", "sensors_per_module")},
        },
        "cell": {
            "chemistry": "lfp",
            "capacity_ah": capacity_ah,
            "max_v": 3.65,
            "min_v": 2.5,
            "charge_max_a": capacity_ah * rack.charge_max_c,
            "discharge_max_a": capacity_ah * rack.discharge_max_c,
            "charge_min_degc": 0.0,
            "charge_max_degc": 55.0,
            "discharge_min_degc": -20.0,
            "discharge_max_degc": 60.0,
            "resistance_ohm": min(cell.r0_ohm + sum(cell.rc_ohm), 0.1),
            **({} if fitted is None else cell_twin.sheet(fitted, capacity_ah)),
        },
        "string": {
            "fuse_a": max(1.25 * highest_a, 1.0),
            "contactor_a": max(1.25 * highest_a, 1.0),
            "contactor_break_a": max(4.0 * highest_a, 1.0),
            "cable_ohm": min(bus.cable_ohm + bus.contactor_ohm, 0.1),
            "precharge_ohm": max(bus.precharge_ohm or usual_ohm, 1.0),
            "bus_capacitance_f": bus.capacitance_f or USUAL_PRECHARGE_S / usual_ohm,
        },
        "fieldbus": {"interface": "unix", "channel": "/nowhere/field"},
        "inverter": {
            "interface": "unix",
            "channel": "/nowhere/inverter",
            "profile": "pylontech_lv",
            "options": {"voltage_scale": 0.01 if series * 3.65 <= 327.67 else 0.1},
        },
    }


# the rack as it is


def _twin(
    file: ScenarioFile, rack: Plant, fitted: cell_file.Specification | None, current: Wanted,
    room: Callable[[float], float],
) -> TwinSettings:  # fmt: skip
    cell = _cell(file, rack.cell.capacity_ah, fitted)
    series = rack.layout.cells_in_series
    bus = file.bus
    ageing = file.ageing.model_dump(exclude={"enabled"})
    highest_a = max(rack.string_charge_max_a, rack.string_discharge_max_a)
    return TwinSettings(
        layout=rack.layout,
        cell=cell,
        bus=BusParameters(
            capacitance_f=bus.capacitance_f or rack.ratings.bus_capacitance_f,
            precharge_ohm=bus.precharge_ohm or rack.ratings.precharge_ohm,
            cable_ohm=bus.cable_ohm,
            contactor_ohm=bus.contactor_ohm,
        ),
        inverter=InverterSettings(
            profile=current, wake_v=2.9 * series, sleep_v=2.5 * series, keepalive=False, **file.inverter.model_dump()
        ),
        ambient_degc=room,
        enclosure=Enclosure(**file.enclosure.model_dump()),
        ageing=AgeingParameters(**ageing) if file.ageing.enabled else None,
        balancer=BalancerParameters(**file.balancer.model_dump(exclude={"bleeder_ohm"})),
        sensors=_sensors(file, cell.capacity_ah),
        board=ModuleBoardSettings(
            over_voltage_v=file.rack.board_over_voltage_v,
            under_voltage_v=file.rack.board_under_voltage_v,
            over_temperature_degc=file.rack.board_over_temperature_degc,
        ),
        over_current_a=2.0 * highest_a if file.core.enabled else math.inf,
        soc0=file.rack.soc0,
        soc0_spread=file.spread.soc0,
        seed=file.seed,
        strings=tuple(StringParameters(**string.model_dump()) for string in file.string),
        mishaps=tuple(
            Mishap(**{**entry.model_dump(), "end_s": math.inf if entry.end_s is None else entry.end_s})
            for entry in file.mishap
        ),
    )


def _sensors(file: ScenarioFile, capacity_ah: float) -> SensorParameters:
    """The sensors of a rack of this size: who measures small currents has a small shunt."""
    if file.sensors.perfect:
        return SensorParameters.perfect()
    given = file.sensors.model_dump(exclude={"perfect"})
    small = {
        "current_offset_a": 4e-4 * capacity_ah,
        "current_noise_a": 2e-4 * capacity_ah,
        "current_step_a": min(0.02, 1e-4 * capacity_ah),
    }
    return SensorParameters(**{name: small[name] if value is None else value for name, value in given.items()})


def _cell(file: ScenarioFile, capacity_ah: float, fitted: cell_file.Specification | None) -> CellParameters:
    """A cell of this capacity, as fitted where it was, with what the scenario says of it."""
    names = {field.name for field in fields(CellParameters)}
    measured = {} if fitted is None else cell_twin.parameters(fitted, capacity_ah)
    given: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in file.cell.model_dump().items()
        if value is not None and name in names and (name in file.cell.model_fields_set or name not in measured)
    }
    parts = {**measured, **given}
    return replace(
        CellParameters.scaled(capacity_ah, file.spread.capacity, file.spread.resistance),
        **parts,
        rc_activation_k=parts["activation_k"],
        bleeder_ohm=file.balancer.bleeder_ohm,
        self_discharge_spread=file.spread.self_discharge,
        heat_transfer_spread=file.spread.heat_transfer,
    )


def _site(file: ScenarioFile, folder: Path, rack: Plant) -> tuple[Wanted, Callable[[float], float]]:
    """The current that the site wants and the temperature of the room, by time since start."""
    profile, room = file.profile, file.temperature
    current: Wanted = _shape(profile)
    measured_degc: wanted.Series | None = None
    if profile.kind == "nrel":
        capacity_ah = rack.layout.strings * rack.cell.capacity_ah
        current, measured_degc = wanted.nrel(profile.name, capacity_ah, profile.scale, profile.repeats)
    elif profile.kind == "file":
        current, measured_degc = wanted.from_csv(folder / profile.file, profile.scale, profile.repeats)
    if room.kind == "file":
        if measured_degc is None:
            raise ConfigError(
                ['temperature.kind: "file"; expected a profile that has temperatures: an NREL year or a CSV file '
                 "with the column ambient_degc"]
            )  # fmt: skip
        return current, measured_degc.at
    if room.kind == "constant":
        return current, lambda _time_s: room.degc
    turn = 2.0 * math.pi / wanted.DAY_S
    return current, lambda time_s: room.degc + room.swing_k * math.sin(turn * (time_s - 3.0 * 3600.0))


def _shape(profile: Profile) -> Wanted:
    if profile.kind == "square":
        return Shape("square", profile.charge_a, profile.discharge_a, profile.period_s or 600.0)
    if profile.kind == "solar":
        return Shape("solar", profile.charge_a, profile.discharge_a, profile.period_s or wanted.DAY_S)
    return Shape("constant", profile.current_a)


# what must fit together


def _config_or_shape(file: ScenarioFile) -> Iterator[str]:
    if file.rack.config:
        for name in _SHAPE:
            if name in file.rack.model_fields_set:
                yield f"rack.{name}: {getattr(file.rack, name)}; expected nothing beside rack.config, which says it"


def _strings(file: ScenarioFile) -> Iterator[str]:
    if file.string and "strings" in file.rack.model_fields_set and file.rack.strings != len(file.string):
        yield f"string: {len(file.string)} tables [[string]]; expected {file.rack.strings} (rack.strings) or none"
    modules = file.rack.modules_per_string * max(file.rack.strings, len(file.string))
    if modules > MAX_MODULES:
        yield f"rack.modules_per_string: {modules} modules in all; expected at most {MAX_MODULES}"


def _relaxations(file: ScenarioFile) -> Iterator[str]:
    for size, tau in (("rc_ohm", "rc_tau_s"), ("diffusion_soc_per_c", "diffusion_tau_s")):
        sizes, taus_s = getattr(file.cell, size), getattr(file.cell, tau)
        if (sizes is None) is not (taus_s is None) or len(sizes or ()) != len(taus_s or ()):
            yield f"cell.{tau}: {_count(taus_s)}; expected one for each entry of cell.{size} ({_count(sizes)})"
        for name, values, least in ((size, sizes, 0.0), (tau, taus_s, 1e-3)):
            if values is not None and not all(least <= value < 1e6 for value in values):
                yield f"cell.{name}: {values}; expected numbers from {least:g} on"


def _curves(file: ScenarioFile) -> Iterator[str]:
    for x, y, rises in (
        ("ocv_soc", "ocv_v", True), ("gap_soc", "gap_v", False), ("entropy_soc", "entropy_v_per_k", False),
    ):  # fmt: skip
        yield from _curve(file.cell, x, y, rises=rises)


def _curve(cell: Cell, x: str, y: str, *, rises: bool) -> Iterator[str]:
    soc, values = getattr(cell, x), getattr(cell, y)
    if soc is None and values is None:
        return
    if soc is None or values is None or len(soc) != len(values):
        yield f"cell.{y}: {_count(values)}; expected one for each entry of cell.{x} ({_count(soc)})"
        return
    if not all(a < b for a, b in pairwise(soc)):
        yield f"cell.{x}: does not rise from entry to entry; expected to"
    if rises and not all(a < b for a, b in pairwise(values)):
        yield f"cell.{y}: does not rise from entry to entry; expected to: more charge, more voltage"


def _count(values: list[float] | None) -> str:
    return "none" if values is None else f"{len(values)} entries"


def _times(file: ScenarioFile) -> Iterator[str]:
    if file.step_s is not None and file.step_s > file.tick_s:
        yield f"step_s: {file.step_s:g} s; expected at most tick_s ({file.tick_s:g} s)"
    if file.tick_s > file.duration_s:
        yield f"duration_s: {file.duration_s:g} s; expected at least tick_s ({file.tick_s:g} s)"
    if file.output.every_s is not None and file.output.every_s < file.tick_s - 1e-9:
        yield f"output.every_s: {file.output.every_s:g} s; expected at least tick_s ({file.tick_s:g} s)"


def _fan(file: ScenarioFile) -> Iterator[str]:
    on, off = file.enclosure.fan_on_degc, file.enclosure.fan_off_degc
    if not off <= on:
        yield f"enclosure.fan_off_degc: {off:g} degC; expected at most enclosure.fan_on_degc ({on:g} degC)"


def _channel(file: ScenarioFile) -> Iterator[str]:
    start, stop = file.balancer.active_start_v, file.balancer.active_stop_v
    if not stop <= start:
        yield f"balancer.active_stop_v: {stop:g} V; expected at most balancer.active_start_v ({start:g} V)"


def _file(file: ScenarioFile) -> Iterator[str]:
    if file.profile.kind == "file" and not file.profile.file:
        yield 'profile.file: ""; expected the name of a CSV file: profile.kind is "file"'


def _mishap_times(file: ScenarioFile) -> Iterator[str]:
    for number, entry in enumerate(file.mishap, start=1):
        if entry.end_s is not None and not entry.end_s > entry.start_s:
            yield f"mishap, entry {number}.end_s: {entry.end_s:g} s; expected after start_s ({entry.start_s:g} s)"
        if entry.kind in ("soft_short", "bus_load") and not entry.value > 0.0:
            yield f"mishap, entry {number}.value: {entry.value:g}; expected a resistance above 0 ohm"


def _places(file: ScenarioFile, rack: Plant) -> list[str]:
    layout, lines = rack.layout, []
    if rack.cell.chemistry != "lfp" and file.cell.ocv_v is None and not file.cell.specification:
        lines.append(
            f"cell.ocv_v: missing; expected the rest voltages of the {rack.cell.chemistry} cells of rack.config"
        )
    if file.string and len(file.string) != layout.strings and file.rack.config:
        lines.append(
            f"string: {len(file.string)} tables [[string]]; expected {layout.strings}, as rack.config has, or none"
        )
    most = {"string": layout.strings, "module": layout.modules, "cell": max(layout.cells, layout.sensors)}
    for number, entry in enumerate(file.mishap, start=1):
        for name, highest in most.items():
            value = getattr(entry, name)
            if value > highest:
                lines.append(
                    f"mishap, entry {number}.{name}: {value}; expected at most {highest}: the rack has no more"
                )
    return lines


CHECKS: tuple[tuple[frozenset[str], Callable[[ScenarioFile], Iterator[str]]], ...] = (
    (frozenset({"rack"}), _config_or_shape),
    (frozenset({"rack", "string"}), _strings),
    (frozenset({"cell"}), _relaxations),
    (frozenset({"cell"}), _curves),
    (frozenset({"duration_s", "tick_s", "step_s", "output"}), _times),
    (frozenset({"enclosure"}), _fan),
    (frozenset({"balancer"}), _channel),
    (frozenset({"profile"}), _file),
    (frozenset({"mishap"}), _mishap_times),
)
"""What must fit together, each with the tables that it reads."""
