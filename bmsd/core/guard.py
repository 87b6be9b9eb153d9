"""The last step of the core: sees command, snapshot and the cells' data sheet, none of the reasoning.

It is deliberately simple and shares no code with the limits: whatever they concluded, nothing leaves that the
data sheet and this tick's measurements do not allow. A veto is a defect somewhere before it and is published.

A cell below its lowest voltage may be charged: that is how a rack recovers that was left empty (CEL-006 asks for it).
Deeply discharged it must not: copper has dissolved, and a charge makes it dendrites. Where that begins the protections
decide by their setting (CEL-008); the guard knows no settings and draws the last line below all that they can be set
to: `RECOVERY_V` under the data sheet's lowest voltage, for LFP 2.0 V, under which a cell is never to be charged again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bmsd.model.command import Command
from bmsd.model.plant import Plant
from bmsd.model.snapshot import Snapshot

OLDEST_S = 1.0
RECOVERY_V = 0.5
"""How far below the data sheet's lowest voltage a cell may still be charged."""


@dataclass(frozen=True, slots=True)
class Guarded:
    """The command that may leave, and what was taken from it."""

    command: Command
    vetoes: tuple[str, ...]


def guard(plant: Plant, command: Command, snapshot: Snapshot) -> Guarded:
    """Return the command with everything removed that must not leave."""
    connected = command.close_minus & command.close_plus & ~command.close_precharge
    most_charge_a = plant.string_charge_max_a * int(connected.sum())
    most_discharge_a = plant.string_discharge_max_a * int(connected.sum())
    no_charge, no_discharge = _forbidden(plant, snapshot, connected)
    no_charge = no_charge or _not_said(command.cvl_v, command.charge_enabled)
    no_discharge = no_discharge or _not_said(command.dvl_v, command.discharge_enabled)
    vetoes = []
    ccl_a, dcl_a = command.ccl_a, command.dcl_a
    if no_charge and ccl_a != 0.0:
        vetoes.append(f"charge limit {ccl_a:.1f} A: {no_charge}")
        ccl_a = 0.0
    if no_discharge and dcl_a != 0.0:
        vetoes.append(f"discharge limit {dcl_a:.1f} A: {no_discharge}")
        dcl_a = 0.0
    if not 0.0 <= ccl_a <= most_charge_a:
        vetoes.append(f"charge limit {ccl_a} A outside 0..{most_charge_a} A")
        ccl_a = 0.0
    if not 0.0 <= dcl_a <= most_discharge_a:
        vetoes.append(f"discharge limit {dcl_a} A outside 0..{most_discharge_a} A")
        dcl_a = 0.0
    if not command.fresh and (ccl_a or dcl_a):
        vetoes.append("limits although the data are not fresh")
        ccl_a = dcl_a = 0.0
    cvl_v, dvl_v = command.cvl_v, command.dvl_v
    lowest_v, highest_v = (v * plant.layout.cells_in_series for v in (plant.cell.min_v, plant.cell.max_v))
    if cvl_v is not None and not lowest_v <= cvl_v <= highest_v:
        vetoes.append(f"charge voltage {cvl_v} V outside {lowest_v}..{highest_v} V")
        cvl_v, ccl_a = None, 0.0
    if dvl_v is not None and not lowest_v <= dvl_v <= highest_v:
        vetoes.append(f"discharge voltage {dvl_v} V outside {lowest_v}..{highest_v} V")
        dvl_v, dcl_a = None, 0.0
    safe = replace(
        command,
        cvl_v=cvl_v,
        dvl_v=dvl_v,
        ccl_a=ccl_a,
        dcl_a=dcl_a,
        charge_enabled=command.charge_enabled and ccl_a > 0.0,
        discharge_enabled=command.discharge_enabled and dcl_a > 0.0,
        force_charge=command.force_charge and ccl_a > 0.0,
    )
    return Guarded(safe, tuple(vetoes))


def _not_said(limit_v: float | None, enabled: bool) -> str:
    """A current limit needs its voltage limit and its flag; empty when it has both."""
    return "its voltage limit is unknown" if limit_v is None else "" if enabled else "its flag is off"


def _forbidden(plant: Plant, snapshot: Snapshot, connected: np.ndarray) -> tuple[str, str]:
    """Why no charge and no discharge may flow through the closed strings; empty when they may."""
    if not connected.any():
        return "no string is closed", "no string is closed"
    modules, units, cell = snapshot.modules, snapshot.units, plant.cell
    cell_v, degc = modules.cell_v[connected], modules.temperature_degc[connected]
    if not np.isfinite(cell_v).all():
        return ("a cell is unknown",) * 2
    if not np.isfinite(degc).any(axis=2).all():
        return ("a module's temperature is unknown",) * 2
    if not np.isfinite(units.current_a[connected]).all():
        return ("a string current is unknown",) * 2
    ages = (modules.cell_age_s, units.current_age_s, units.state_age_s)
    oldest_s = max(float(age_s[connected].max()) for age_s in ages)
    if not oldest_s <= OLDEST_S:
        return (f"data are {oldest_s:.2f} s old",) * 2
    charge = discharge = ""
    known = degc[np.isfinite(degc)]
    hottest, coldest = float(known.max()), float(known.min())
    if not cell_v.max() < cell.max_v:
        charge = f"a cell is at {cell_v.max():.3f} V"
    elif not cell_v.min() >= cell.min_v - RECOVERY_V:
        charge = f"a cell is at {cell_v.min():.3f} V: too deeply discharged"
    elif not cell.charge_min_degc <= coldest <= hottest <= cell.charge_max_degc:
        charge = f"cells are at {coldest:.1f}..{hottest:.1f} degC"
    if not cell_v.min() > cell.min_v:
        discharge = f"a cell is at {cell_v.min():.3f} V"
    elif not cell.discharge_min_degc <= coldest <= hottest <= cell.discharge_max_degc:
        discharge = f"cells are at {coldest:.1f}..{hottest:.1f} degC"
    return charge, discharge
