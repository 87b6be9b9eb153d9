"""A published record as a person reads it on a terminal."""

from __future__ import annotations

import math
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from bmsd.model.bound import Bound
from bmsd.model.catalogue import Level
from bmsd.model.fault import Fault, place
from bmsd.model.points import values
from bmsd.model.published import Published

MOST_BOUNDS = 2
MOST_MISSING = 8
_COLOUR = {Level.INFO: "cyan", Level.WARNING: "yellow", Level.ALARM: "red", Level.TRIP: "bold red"}


def table(name: str, published: Published) -> Group:
    """Return the view for a terminal: rack, limits with reasons, strings, faults, what is missing, buses."""
    parts: list[Any] = [_rack(name, published), _limits(published), _strings(published)]
    if published.faults:
        parts.append(_faults(published.faults))
    parts += [Text(f"missing: {sentence}", "yellow") for sentence in published.missing[:MOST_MISSING]]
    hidden = len(published.missing) - MOST_MISSING
    if hidden > 0:
        parts.append(Text(f"missing: and {hidden} more", "yellow"))
    parts += [Text(f"guard: {veto}", "bold red") for veto in published.vetoes]
    parts.append(_buses(published))
    return Group(*parts)


def _grid(*columns: str) -> Table:
    """A table without edges; the last column takes what is left of the line and may wrap."""
    grid = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for column in columns[:-1]:
        grid.add_column(column, no_wrap=True)
    grid.add_column(columns[-1], overflow="fold")
    return grid


def _rack(name: str, published: Published) -> Group:
    point = values(published)
    title = Text.assemble((f"{name}: ", "dim"), (published.lifecycle, "bold"))
    if point["cells_balancing"]:
        title.append(f", balancing: {point['cells_balancing']} of the cells bleed")
    grid = Table.grid(padding=(0, 3, 0, 0))
    for _ in range(2):
        grid.add_column(style="dim", no_wrap=True)
        grid.add_column(no_wrap=True)
    cells = f"{number(point['cell_min_v'], 3)} .. {number(point['cell_max_v'], 3)} V"
    degrees = f"{number(point['temperature_min_degc'], 1)} .. {number(point['temperature_max_degc'], 1)} degC"
    soc = f"{number(point['soc'], 1, 100.0)} % (sigma {number(point['soc_sigma'], 1, 100.0)} %)"
    unknown = f"{point['cells_unknown']} unknown, oldest {number(point['oldest_measurement_s'], 2)} s"
    grid.add_row("voltage", f"{number(point['voltage_v'], 2)} V", "cells", cells)
    grid.add_row("current", f"{number(point['current_a'], 1)} A", "temperatures", degrees)
    grid.add_row("state of charge", soc, "measurements", unknown)
    return Group(title, grid)


def _limits(published: Published) -> Table:
    command = published.command
    grid = _grid("limit", "sent", "because of")
    for title, amps, bounds in (
        ("charge", command.ccl_a, published.charge_bounds),
        ("discharge", command.dcl_a, published.discharge_bounds),
    ):
        then = "; ".join(_bound(bound) for bound in bounds[1:MOST_BOUNDS])
        reason = Text(bounds[0].reason if bounds else "")
        grid.add_row(title, f"{amps:.1f} A", reason.append(f", then {then}", "dim") if then else reason)
    volts = f"{number(command.dvl_v, 1)} .. {number(command.cvl_v, 1)} V"
    grid.add_row("voltage", volts, "")
    return grid


def _bound(bound: Bound) -> str:
    return f"{bound.amps:.1f} A {bound.reason}"


def _strings(published: Published) -> Table:
    units = published.snapshot.units
    grid = _grid("string", "contactors", "current", "string", "bus", "SoC", "remark")
    for index, status in enumerate(published.strings):
        grid.add_row(
            str(index + 1),
            status.state.replace("_", " "),
            f"{number(float(units.current_a[index]), 1)} A",
            f"{number(float(units.string_v[index]), 2)} V",
            f"{number(float(units.bus_v[index]), 2)} V",
            f"{number(float(published.estimate.string_soc[index]), 1, 100.0)} %",
            status.reason,
        )
    return grid


def _faults(faults: tuple[Fault, ...]) -> Table:
    grid = _grid("fault", "level", "since", "where, what")
    for fault in faults:
        remark = f"{fault.name.replace('_', ' ')}: {number(fault.value, 3)}"
        if place(fault):
            remark = f"{place(fault)}, {remark}"
        if fault.latched:
            remark += ", waits for acknowledgement: bmsd reset"
        grid.add_row(
            fault.code,
            Text(fault.level.name.lower(), _COLOUR[fault.level]),
            f"{fault.since_s:.0f} s",
            remark,
        )
    return grid


def _buses(published: Published) -> Text:
    age_s = published.snapshot.inverter_age_s
    heard = f"inverter heard {number(age_s, 1)} s ago" if math.isfinite(age_s) else "inverter not heard"
    lines = []
    for bus in published.buses:
        drops = ", ".join(f"{kind} {count}" for kind, count in sorted(bus.dropped.items()) if count)
        lines.append(f"{bus.name} bus: received {bus.received}, sent {bus.sent}, dropped {drops or 0}")
    return Text("\n".join((*lines, heard)), "dim")


def number(value: Any, digits: int, scale: float = 1.0) -> str:
    """Return the number with these digits, or a dash when it is not known."""
    if not isinstance(value, int | float) or not math.isfinite(value):
        return "-"
    return f"{value * scale:.{digits}f}"
