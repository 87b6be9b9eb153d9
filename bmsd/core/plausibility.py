"""Which readings can be believed: an impossible or an old one becomes unknown before anything else sees it.

Voltages are measured twice: by the cells, and by boards and contactor units at dividers of their own. Where both
contradict each other the cells win.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bmsd.model.plant import Plant
from bmsd.model.snapshot import Bools, Floats, Input, Reading, Snapshot


def plausible(plant: Plant, snapshot: Snapshot) -> Snapshot:
    """Return the snapshot without what cannot be believed.

    Cell voltages outside the plausible range become unknown and invalid; what is older than its hold time,
    or not a number that a sensor can mean, becomes unknown. A hot reading is never called implausible.
    """
    modules, units, timing = snapshot.modules, snapshot.units, plant.timing
    low, high = plant.thresholds["cell_plausible_min_v"], plant.thresholds["cell_plausible_max_v"]
    with np.errstate(invalid="ignore"):
        impossible = (modules.cell_v < low) | (modules.cell_v > high)
    old_cells = _older(modules.cell_age_s, timing.hold_s)[:, :, None]
    old_degc = _older(modules.temperature_age_s, timing.slow_hold_s)[:, :, None] | np.isinf(modules.temperature_degc)
    old_amps = _older(units.current_age_s, timing.hold_s) | np.isinf(units.current_a)
    old_volts = _older(units.voltage_age_s, timing.hold_s) | np.isinf(units.string_v) | np.isinf(units.bus_v)
    old_states = _older(units.state_age_s, timing.hold_s)
    doubts = (impossible, old_cells, old_degc, old_amps, old_volts, old_states)
    if not any(doubt.any() for doubt in doubts):
        return snapshot
    reading = np.where(impossible, int(Reading.INVALID), modules.cell_reading)
    modules = replace(
        modules,
        cell_v=np.where(impossible | old_cells, np.nan, modules.cell_v),
        cell_reading=np.where(old_cells, int(Reading.MISSING), reading),
        temperature_degc=np.where(old_degc, np.nan, modules.temperature_degc),
        temperature_reading=np.where(old_degc, int(Reading.MISSING), modules.temperature_reading),
    )
    units = replace(
        units,
        current_a=np.where(old_amps, np.nan, units.current_a),
        bus_v=np.where(old_volts, np.nan, units.bus_v),
        string_v=np.where(old_volts, np.nan, units.string_v),
        coil_v=np.where(old_volts, np.nan, units.coil_v),
        inputs=np.where(old_states[:, None], int(Input.UNKNOWN), units.inputs),
    )
    return replace(snapshot, modules=modules, units=units)


def beyond_cells_v(plant: Plant, measured_v: Floats, cell_v: Floats, current_a: Floats) -> Floats:
    """How much further a measured voltage is from the sum of its cells than both may err, V; above 0 they contradict.

    `cell_v` has the cells of each measured voltage along its last axis. They may err by 15 mV per cell and what the
    current (A) drops between the cells, taken as no more than inside them, or by 1 % when that is more (thresholds
    of CEL-015). NaN where anything is unknown.
    """
    cells, sum_v = cell_v.shape[-1], cell_v.sum(axis=-1)
    drop_v = np.abs(current_a) * plant.cell.resistance_ohm * cells
    may_err_v = np.maximum(
        plant.thresholds["cell_sum_tolerance_v"] * cells + drop_v, plant.thresholds["cell_sum_tolerance_share"] * sum_v
    )
    return np.asarray(np.abs(measured_v - sum_v) - may_err_v)


def _older(age_s: Floats, hold_s: float) -> Bools:
    """Whether this was measured longer ago than it is held; an unknown age is too old."""
    return ~(age_s <= hold_s + 1e-9)
