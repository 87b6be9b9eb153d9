"""Which readings can be believed: an impossible or an old one becomes unknown before anything else sees it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bmsd.model.plant import Plant
from bmsd.model.snapshot import Bools, Floats, Reading, Snapshot


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
    if not (impossible.any() or old_cells.any() or old_degc.any() or old_amps.any() or old_volts.any()):
        return snapshot
    reading = np.where(impossible, int(Reading.INVALID), modules.cell_reading)
    modules = replace(
        modules,
        cell_v=np.where(impossible | old_cells, np.nan, modules.cell_v),
        cell_reading=np.where(old_cells, int(Reading.MISSING), reading),
        temperature_degc=np.where(old_degc, np.nan, modules.temperature_degc),
    )
    units = replace(
        units,
        current_a=np.where(old_amps, np.nan, units.current_a),
        bus_v=np.where(old_volts, np.nan, units.bus_v),
        string_v=np.where(old_volts, np.nan, units.string_v),
        coil_v=np.where(old_volts, np.nan, units.coil_v),
    )
    return replace(snapshot, modules=modules, units=units)


def _older(age_s: Floats, hold_s: float) -> Bools:
    """Whether this was measured longer ago than it is held; an unknown age is too old."""
    return ~(age_s <= hold_s + 1e-9)
