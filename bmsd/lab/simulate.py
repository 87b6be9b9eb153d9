"""`bmsd simulate`: a rack of the twin and the tick of the core in one process, on simulated time.

At every tick the twin has moved on by the time of the tick, the core gets what its sensors say, and the rack is told
what the core decides. There is no bus, no process and no waiting between them, and the same scenario gives the same
numbers every time.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from bmsd.core import memory
from bmsd.core.contactors.table import MOVING
from bmsd.core.protection.protect import Protections
from bmsd.core.tick import Outcome, tick
from bmsd.errors import ConfigError
from bmsd.lab.observe import Observer, all_closed, orders
from bmsd.lab.scenario import Scenario, load_scenario
from bmsd.lab.table import Table, check_output, refuse
from bmsd.model.snapshot import Floats
from bmsd.sim.twin import Twin

COLUMNS = (
    ("t_s", "time since the start, s"),
    ("wanted_a", "current that the site wants, A, positive charges"),
    ("rack_current_a", "true current of all strings, A, positive charges"),
    ("bus_v", "true voltage of the DC bus, V"),
    ("ccl_a", "charge current limit told, A; empty without a core"),
    ("dcl_a", "discharge current limit told, magnitude, A"),
    ("cvl_v", "charge voltage limit told, V"),
    ("soc", "true state of charge of the rack by its weakest cells, 0..1"),
    ("soc_estimate", "what the core takes it for"),
    ("soc_estimate_sigma", "standard deviation of it"),
    ("cell_soc_min", "lowest true state of charge of a cell"),
    ("cell_soc_max", "highest true state of charge of a cell"),
    ("cell_v_min", "lowest true cell voltage, V"),
    ("cell_v_max", "highest true cell voltage, V"),
    ("cell_degc_min", "lowest true cell temperature, degC"),
    ("cell_degc_max", "highest true cell temperature, degC"),
    ("air_degc", "mean air of the modules, degC"),
    ("strings_closed", "strings on the bus"),
    ("bleeding", "bleeders that conduct"),
    ("faults", "faults raised"),
)
"""Columns of the output with their meaning; after them two for each string."""
STRING_COLUMNS = (
    ("string_current_a_{n}", "true current of string n, counted from 1, A, positive charges"),
    ("string_soc_{n}", "true state of charge of string n by its weakest cell"),
)


@dataclass
class Run:
    """A scenario in progress."""

    scenario: Scenario
    twin: Twin
    observer: Observer
    protections: Protections
    memory: memory.Memory
    outcome: Outcome | None = None

    @classmethod
    def of(cls, scenario: Scenario) -> Run:
        """Return the scenario before its first tick; its boards are those that service accepted long ago."""
        twin = Twin(scenario.twin)
        if not scenario.with_core:
            twin.connect()
            twin.obey(all_closed(twin))
        observer = Observer(scenario.plant, twin)
        protections = Protections.of(scenario.plant, 2)
        first = replace(memory.start(scenario.plant, protections), commissioned=observer.uid)
        return cls(scenario, twin, observer, protections, first)

    def advance(self) -> None:
        """One tick of the scenario: the rack moves on, is measured, and is told what to do.

        While contactors of a string are on their way the core is asked as often as on a real rack.
        """
        end_s, scenario = self.twin.time_s + self.scenario.tick_s, self.scenario
        while (left_s := end_s - self.twin.time_s) > 1e-6:
            quick = self.outcome is not None and any(string.state in MOVING for string in self.outcome.contactors)
            self._tick(min(left_s, scenario.plant.timing.tick_s) if quick else left_s)

    def _tick(self, dt_s: float) -> None:
        scenario, twin = self.scenario, self.twin
        steps = max(math.ceil(dt_s / scenario.step_s - 1e-9), 1)
        for _ in range(steps):
            twin.step(dt_s / steps)
        if not scenario.with_core:
            twin.obey(all_closed(twin))
            return
        snapshot = self.observer.snapshot(twin.time_s)
        self.outcome = tick(scenario.plant, self.protections, self.memory, snapshot)
        self.memory = self.outcome.memory
        twin.obey(orders(self.outcome, twin.orders))

    def row(self) -> list[float]:
        """What is now, in the order of the columns."""
        twin, outcome = self.twin, self.outcome
        rack, cells = twin.rack, twin.cells
        soc, degc, estimate = cells.soc, cells.temperature_degc, None if outcome is None else outcome.estimate
        left_as, whole_as = usable_as(cells.charge_as, cells.capacity_as)
        by_string = left_as / whole_as
        told = None if outcome is None else outcome.command
        return [
            twin.time_s,
            twin.settings.inverter.profile.at(twin.time_s),
            float(rack.string_a.sum()),
            rack.bus_v,
            _known(None if told is None else told.ccl_a),
            _known(None if told is None else told.dcl_a),
            _known(None if told is None else told.cvl_v),
            float(left_as.sum() / whole_as.sum()),
            _known(None if estimate is None else estimate.soc),
            _known(None if estimate is None else estimate.soc_sigma),
            float(soc.min()),
            float(soc.max()),
            float(cells.cell_v.min()),
            float(cells.cell_v.max()),
            float(degc.min()),
            float(degc.max()),
            float(cells.warmth.air_degc.mean()),
            float(twin.on_bus.sum()),
            float(twin.bleeding.sum()),
            0.0 if outcome is None else float(len(outcome.faults)),
            *(value for pair in zip(rack.string_a.tolist(), by_string.tolist(), strict=True) for value in pair),
        ]

    def columns(self) -> list[str]:
        """Names of the columns of `row`."""
        strings = range(1, self.scenario.plant.layout.strings + 1)
        return [name for name, _ in COLUMNS] + [name.format(n=n) for n in strings for name, _ in STRING_COLUMNS]


def usable_as(charge_as: Floats, capacity_as: Floats) -> tuple[Floats, Floats]:
    """What every string gives until its first cell is empty, and what it holds until its first is full, As."""
    left = charge_as.min(axis=(1, 2))
    return left, left + (capacity_as - charge_as).min(axis=(1, 2))


def simulate(scenario: Scenario, output: Path | None = None) -> dict[str, Any]:
    """Run the scenario; write its rows to `output`; return what `--json` prints."""
    run = Run.of(scenario)
    table = None if output is None else Table(output, run.columns())
    ticks = round(scenario.duration_s / scenario.tick_s)
    row_ticks = max(round(scenario.every_s / scenario.tick_s), 1)
    seen: dict[str, float] = {}
    start_s = perf_counter()
    for number in range(1, ticks + 1):
        run.advance()
        if table is not None and number % row_ticks == 0:
            table.add(run.row())
        if run.outcome is not None:
            for fault in run.outcome.faults:
                seen.setdefault(fault.code, run.twin.time_s)
    wall_s = perf_counter() - start_s
    if table is not None:
        table.write()
    return _report(run, wall_s, seen)


def _report(run: Run, wall_s: float, seen: dict[str, float]) -> dict[str, Any]:
    twin, scenario = run.twin, run.scenario
    cells = int(np.prod(scenario.plant.layout.cell_shape))
    outcome = run.outcome
    return {
        "name": scenario.name,
        "simulated_s": twin.time_s,
        "wall_s": wall_s,
        "times_real_time": twin.time_s / wall_s,
        "cell_seconds_per_s": cells * twin.time_s / wall_s,
        "cells": cells,
        "tick_s": scenario.tick_s,
        "step_s": scenario.step_s,
        "final": dict(zip(run.columns(), (_plain(value) for value in run.row()), strict=True))
        | {"string_current_a": twin.rack.string_a.tolist()},
        "strings": [] if outcome is None else [string.state.value for string in outcome.contactors],
        "faults": [] if outcome is None else [fault.code for fault in outcome.faults],
        "faults_first_s": seen,
        "energy_wh": energy_wh(twin),
    }


def energy_wh(twin: Twin) -> dict[str, float]:
    """Where energy went since the start, Wh; what the inverter gave is the sum of all others."""
    cells = twin.cells
    return {
        name: joule / 3600.0
        for name, joule in {
            "from_inverter": twin.inverter_j,
            "stored_in_cells": cells.chemical_now_j,
            "heat_of_cells": cells.heat_now_j,
            "heat_of_cables": twin.rack.path_j,
            "heat_of_bus_load": twin.rack.load_j,
            "heat_of_bleeders": cells.bled_j,
            "lost_in_active_balancers": -cells.balancer_j,
            "in_capacitor": 0.5 * twin.settings.bus.capacitance_f * twin.rack.bus_v**2,
        }.items()
    }


def run_file(path: Path, output: Path | None, *, as_json: bool) -> list[str]:
    """Run a scenario file; return the lines to print. ConfigError lists everything that is wrong."""
    complaints = [] if output is None else check_output(output)
    try:
        scenario = load_scenario(path)
    except ConfigError as error:
        raise ConfigError([*error.complaints, *complaints]) from None
    refuse(complaints)
    report = simulate(scenario, output)
    return [json.dumps(report, indent=2)] if as_json else list(_lines(report, output))


def _lines(report: dict[str, Any], output: Path | None) -> list[str]:
    final = report["final"]
    name = f"{report['name']}: " if report["name"] else ""
    lines = [
        f"{name}{report['simulated_s']:.1f} s simulated in {report['wall_s']:.2f} s: "
        f"{report['times_real_time']:.0f} times real time, {report['cell_seconds_per_s'] / 1e6:.2f} M cell-seconds/s",
        f"{report['cells']} cells, a tick of {report['tick_s']:g} s, steps of {report['step_s']:g} s",
        f"rack at the end: SoC {_percent(final['soc'])} (estimate {_percent(final['soc_estimate'])}), "
        f"{final['rack_current_a']:.1f} A, {final['bus_v']:.1f} V",
        f"cells {final['cell_v_min']:.3f}..{final['cell_v_max']:.3f} V, "
        f"{final['cell_degc_min']:.1f}..{final['cell_degc_max']:.1f} degC, "
        f"SoC {_percent(final['cell_soc_min'])}..{_percent(final['cell_soc_max'])}",
        f"strings: {', '.join(report['strings']) or 'no core'}",
        f"faults: {', '.join(report['faults']) or 'none'}",
    ]
    if report["faults_first_s"]:
        first = (f"{code} at {time_s:.1f} s" for code, time_s in report["faults_first_s"].items())
        lines.append(f"first seen: {', '.join(first)}")
    wh = report["energy_wh"]
    lines.append("energy, Wh: " + ", ".join(f"{name.replace('_', ' ')} {value:.1f}" for name, value in wh.items()))
    return lines + ([] if output is None else [f"written: {output}"])


def _percent(share: float | None) -> str:
    return "not known" if share is None else f"{100.0 * share:.1f} %"


def _known(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else value
