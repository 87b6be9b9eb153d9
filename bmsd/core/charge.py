"""Voltages for the inverter: the charge voltage limit and the discharge voltage limit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bmsd.core.plausibility import beyond_cells_v
from bmsd.model.plant import Plant
from bmsd.model.snapshot import Bools, Floats, Snapshot

EXCESS_RECOVERY_V_PER_S = 0.001


@dataclass(frozen=True, slots=True)
class ChargeMemory:
    """Charge voltage limit in V (None: none yet), excess of cells over the target in V, voltage held by a stop in V."""

    cvl_v: float | None = None
    excess_v: float = 0.0
    held_v: float | None = None


@dataclass(frozen=True, slots=True)
class Voltages:
    """Charge and discharge voltage limit of the rack in V; None while no string voltage is known."""

    cvl_v: float | None
    dvl_v: float | None


def voltages(
    plant: Plant,
    was: ChargeMemory,
    snapshot: Snapshot,
    pack_v: float | None,
    connected: Bools,
    charge_stopped: bool,
    dt_s: float,
) -> tuple[ChargeMemory, Voltages]:
    """Return the charge voltage limit: the absorption voltage, less what single cells are over it.

    It never steps below the present pack voltage (an inverter would dump the battery into the grid): below it,
    it goes down at `cvl_slew_v_per_s` per cell. While charging is stopped it is held at the pack voltage of
    the moment of the stop, and follows a pack upwards that recovers by itself. It never exceeds the cells'
    data sheet. While the pack voltage is unknown it stays what it was.
    """
    cells = plant.layout.cells_in_series
    floor_v, ceiling_v = plant.charge.discharge_end_v * cells, plant.cell.max_v * cells
    if pack_v is None or not np.isfinite(pack_v):
        return was, Voltages(was.cvl_v, None if was.cvl_v is None else floor_v)
    counts = connected if connected.any() else np.ones_like(connected)
    excess_v = _excess_v(plant, snapshot.modules.cell_v[counts], was.excess_v, dt_s)
    charging = not bool((snapshot.units.current_a[counts] <= plant.current_floor_a).all())
    held_v = _held_v(was.held_v, pack_v, charging) if charge_stopped else None
    target_v = plant.charge.absorption_v * cells - excess_v
    last_v = max(target_v, pack_v) if was.cvl_v is None else was.cvl_v
    if held_v is not None:
        target_v = min(target_v, held_v)
    slew_v = plant.charge.cvl_slew_v_per_s * cells * dt_s
    # down at once to the pack voltage, slowly below it
    down_v = max(target_v, min(last_v, pack_v) - slew_v)
    up_v = min(target_v, last_v + 10.0 * slew_v)
    cvl_v = down_v if target_v < last_v else up_v
    cvl_v = min(max(cvl_v, floor_v), ceiling_v)
    return ChargeMemory(cvl_v, excess_v, held_v), Voltages(cvl_v, floor_v)


def _held_v(was_v: float | None, pack_v: float, charging: bool) -> float:
    """Voltage that a stop holds, V. Without a charge a rising pack recovers from a load: it must not be dumped."""
    if was_v is None:
        return pack_v
    return was_v if charging else max(was_v, pack_v)


def _excess_v(plant: Plant, cell_v: Floats, was_v: float, dt_s: float) -> float:
    """Sum of what cells are over the absorption voltage, worst string, V; recovers slowly."""
    over = np.nan_to_num(np.maximum(cell_v - plant.charge.absorption_v, 0.0))
    now_v = float(over.reshape(cell_v.shape[0], -1).sum(axis=1).max())
    return max(now_v, was_v - EXCESS_RECOVERY_V_PER_S * plant.layout.cells_in_series * dt_s, 0.0)


def pack_voltage(plant: Plant, snapshot: Snapshot, connected: Bools) -> float | None:
    """Voltage that the inverter is shown, V: the bus of a closed string, else the highest string; None: unknown.

    It never contradicts the cells. First comes a bus that agrees with the cells of its own string, so that neither a
    single wrong unit nor a single wrong board among several strings has a say; then the cells of the closed strings.
    A bus that no cells vouch for must equal its string's voltage and lie within the data sheet.
    """
    units, share = snapshot.units, plant.thresholds["cell_sum_tolerance_share"]
    cell_v = snapshot.modules.cell_v.reshape(len(connected), -1)
    sum_v = cell_v.sum(axis=1)
    lowest_v, highest_v = (v * cell_v.shape[1] for v in (plant.cell.min_v, plant.cell.max_v))
    with np.errstate(invalid="ignore"):
        agrees = beyond_cells_v(plant, units.bus_v, cell_v, units.current_a) <= 0.0
        twice = np.abs(units.bus_v - units.string_v) <= share * units.string_v
        possible = (units.string_v >= lowest_v) & (units.string_v <= highest_v)
    if connected.any():
        candidates = [units.bus_v[connected & agrees], sum_v[connected], units.bus_v[connected & twice & possible]]
    else:
        candidates = [sum_v, units.string_v[possible]]
    for values in candidates:
        known = values[np.isfinite(values)]
        if known.size:
            return float(known.max())
    return None
