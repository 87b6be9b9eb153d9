"""A published record as a person reads it on a terminal."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from rich.console import Group
from rich.table import Table
from rich.text import Text

from bmsd.control.status_line import first
from bmsd.model.bound import Bound
from bmsd.model.fault import Fault, place
from bmsd.model.points import values
from bmsd.model.published import Published
from bmsd.model.request import Lease
from bmsd.model.row import Level
from bmsd.model.snapshot import Controller

MOST_BOUNDS = 2
MOST_MISSING = 8
_COLOUR = {Level.INFO: "cyan", Level.WARNING: "yellow", Level.ALARM: "red", Level.TRIP: "bold red"}


def table(name: str, published: Published) -> Group:
    """Return the view for a terminal: rack, worst cells, limits with reasons, strings, faults, buses."""
    parts: list[Any] = [_rack(name, published), _worst(published), _limits(published)]
    parts += [Text(f"set-point: {_set_point(lease, published)}") for lease in published.leases]
    parts.append(_strings(published))
    if published.faults:
        parts.append(_faults(published.faults))
    parts += [Text(f"missing: {sentence}", "yellow") for sentence in first(published.missing, MOST_MISSING)]
    parts += [Text(f"guard: {veto}", "bold red") for veto in published.vetoes]
    parts.append(_buses(published))
    return Group(*parts)


def grid(*columns: str) -> Table:
    """A table without edges; the last column takes what is left of the line and may wrap."""
    built = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for column in columns[:-1]:
        built.add_column(column, no_wrap=True)
    built.add_column(columns[-1], overflow="fold")
    return built


def _rack(name: str, published: Published) -> Group:
    point = values(published)
    title = Text.assemble((f"{name}: ", "dim"), (published.lifecycle, "bold"))
    if point["cells_balancing"]:
        title.append(f", balancing: {point['cells_balancing']} of the cells bleed")
    rows = Table.grid(padding=(0, 3, 0, 0))
    for _ in range(2):
        rows.add_column(style="dim", no_wrap=True)
        rows.add_column(no_wrap=True)
    soc = f"{number(point['soc'], 1, 100.0)} % (sigma {number(point['soc_sigma'], 1, 100.0)} %)"
    oldest = f"oldest {number(point['oldest_measurement_s'], 2)} s"
    rows.add_row("voltage", f"{number(point['voltage_v'], 2)} V", "state of charge", soc)
    unknown = f"{oldest}, {point['cells_unknown']} cells unknown"
    rows.add_row("current", f"{number(point['current_a'], 1)} A", "measurements", unknown)
    return Group(title, rows)


def _worst(published: Published) -> Table:
    """The cells and sensors that are nearest to a limit, and where they are."""
    modules = published.snapshot.modules
    table = grid("worst", "value", "where")
    for word, values_, digits, unit, item, pick in (
        ("highest cell", modules.cell_v, 3, "V", "cell", np.nanargmax),
        ("lowest cell", modules.cell_v, 3, "V", "cell", np.nanargmin),
        ("hottest", modules.temperature_degc, 1, "degC", "sensor", np.nanargmax),
        ("coldest", modules.temperature_degc, 1, "degC", "sensor", np.nanargmin),
    ):
        if np.isnan(values_).all():
            table.add_row(word, "-", "")
            continue
        place_ = np.unravel_index(int(pick(values_)), values_.shape)
        string, module, number_ = (int(index) + 1 for index in place_)
        where = f"string {string} module {module} {item} {number_}"
        table.add_row(word, f"{number(float(values_[place_]), digits)} {unit}", where)
    return table


def _limits(published: Published) -> Table:
    command = published.command
    table = grid("limit", "sent", "because of")
    for title, amps, bounds in (
        ("charge", command.ccl_a, published.charge_bounds),
        ("discharge", command.dcl_a, published.discharge_bounds),
    ):
        then = "; ".join(_bound(bound) for bound in bounds[1:MOST_BOUNDS])
        reason = Text(bounds[0].reason if bounds else "")
        table.add_row(title, f"{amps:.1f} A", reason.append(f", then {then}", "dim") if then else reason)
    volts = f"{number(command.dvl_v, 1)} .. {number(command.cvl_v, 1)} V"
    table.add_row("voltage", volts, "")
    return table


def _set_point(lease: Lease, published: Published) -> str:
    value = f"reserve {100.0 * lease.value:g} %" if lease.what == "reserve" else f"power {lease.value:g} W"
    left_s = max(lease.until_s - published.snapshot.now_s, 0.0)
    return f"{value} of {lease.source or 'somebody'}, {left_s:.0f} s left"


def _bound(bound: Bound) -> str:
    return f"{bound.amps:.1f} A {bound.reason}"


def _strings(published: Published) -> Table:
    units = published.snapshot.units
    table = grid("string", "contactors", "current", "string", "bus", "SoC", "remark")
    for index, status in enumerate(published.strings):
        table.add_row(
            str(index + 1),
            status.state.replace("_", " "),
            f"{number(float(units.current_a[index]), 1)} A",
            f"{number(float(units.string_v[index]), 2)} V",
            f"{number(float(units.bus_v[index]), 2)} V",
            f"{number(float(published.estimate.string_soc[index]), 1, 100.0)} %",
            status.reason,
        )
    return table


def _faults(faults: tuple[Fault, ...]) -> Table:
    table = grid("fault", "level", "since", "where, what")
    for fault in faults:
        remark = f"{fault.name.replace('_', ' ')}: {number(fault.value, 3)}"
        if place(fault):
            remark = f"{place(fault)}, {remark}"
        if fault.latched:
            remark += ", waits for acknowledgement: bmsd reset"
        table.add_row(
            fault.code,
            Text(fault.level.name.lower(), _COLOUR[fault.level]),
            f"{fault.since_s:.0f} s",
            remark,
        )
    return table


def _buses(published: Published) -> Text:
    age_s = published.snapshot.inverter_age_s
    heard = f"inverter heard {number(age_s, 1)} s ago" if math.isfinite(age_s) else "inverter not heard"
    lines = []
    for bus, state in zip(published.buses, published.snapshot.buses.controller.tolist(), strict=True):
        drops, errors = (
            ", ".join(f"{kind} {count}" for kind, count in sorted(counts.items()) if count)
            for counts in (bus.dropped, bus.errors)
        )
        line = f"{bus.name} bus: received {bus.received}, sent {bus.sent}, dropped {drops or 0}"
        if state or errors:
            line += f"; controller {Controller(state).name.lower().replace('_', ' ')}, {errors or 'no errors'}"
        lines.append(line)
    return Text("\n".join((*lines, heard)), "dim")


def number(value: Any, digits: int, scale: float = 1.0) -> str:
    """Return the number with these digits, or a dash when it is not known."""
    if not isinstance(value, int | float) or not math.isfinite(value):
        return "-"
    return f"{value * scale:.{digits}f}"
