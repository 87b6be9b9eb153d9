"""State of charge per cell by counting charge, with a standard deviation that says how far to trust it.

Theory of operation. The first reading of a cell gives a start from its rest voltage, as uncertain as the
hysteresis gap, the voltage error and the unknown load voltage over the local slope make it; a stored value
is merged with it by inverse variance. From then on the charge counter of the string moves all its cells, and
the variance grows with the current sensor's error over time. Nothing corrects on the plateau: there the
voltage does not know better (see the slope of an LFP cell: 0.5 mV per percent).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bmsd.core.estimation.ocv import ocv_slope, soc_of_ocv
from bmsd.model.estimate import Estimate
from bmsd.model.plant import Plant
from bmsd.model.snapshot import Bools, Floats, Snapshot

AS_PER_AH = 3600.0
LARGEST_SIGMA = 0.5


@dataclass(frozen=True, slots=True)
class SocMemory:
    """SoC and sigma per cell (NaN: never known), newest known charge counter in As per string and its age in s."""

    soc: Floats
    sigma: Floats
    charge_as: Floats
    silent_s: Floats
    stored: Bools
    """(strings, modules, cells): the value comes from the state file and has not met a voltage yet."""


def start(plant: Plant) -> SocMemory:
    """Nothing known."""
    shape = plant.layout.cell_shape
    return SocMemory(
        np.full(shape, np.nan),
        np.full(shape, np.nan),
        np.full(plant.layout.strings, np.nan),
        np.zeros(plant.layout.strings),
        np.zeros(shape, dtype=bool),
    )


def estimate(
    plant: Plant, was: SocMemory, snapshot: Snapshot, dt_s: float, in_circuit: Bools
) -> tuple[SocMemory, Estimate]:
    """Count the charge of this tick; return the new memory and what is known now.

    The rack's SoC is that of the strings (strings,) that are in circuit, without one that of all.
    """
    silent_s = was.silent_s + dt_s
    units = snapshot.units
    fresh = np.isfinite(units.charge_as) & (units.current_age_s <= plant.timing.hold_s + 1e-9)
    counter_as = np.where(fresh, units.charge_as, np.nan)
    counted, unknown_as = _counted_as(plant, was, counter_as, silent_s)
    capacity_as = plant.cell.capacity_ah * AS_PER_AH
    gain = np.where(counted > 0.0, plant.estimation.charge_efficiency, 1.0)
    moved = (counted * gain / capacity_as)[:, None, None]
    drift = plant.estimation.current_sigma_c * dt_s / 3600.0
    soc = np.clip(was.soc + moved, 0.0, 1.0)
    # the sensor's error is an offset: its share of the charge adds up linearly, not as noise
    sigma = np.minimum(was.sigma + drift + (unknown_as / capacity_as)[:, None, None], LARGEST_SIGMA)
    soc, sigma = _first_sight(plant, was, snapshot, soc, sigma)
    silent = np.isnan(counter_as)
    charge_as = np.where(silent, was.charge_as, counter_as)
    stored = was.stored & np.isnan(snapshot.modules.cell_v)
    memory = SocMemory(soc, sigma, charge_as, np.where(silent, silent_s, 0.0), stored)
    return memory, _weakest_cell(plant, soc, sigma, in_circuit)


def _counted_as(plant: Plant, was: SocMemory, counter_as: Floats, silent_s: Floats) -> tuple[Floats, Floats]:
    """Charge per string since its counter was last known, `silent_s` ago, As, and how much of it is a guess.

    A counter that moved further than the fuse would carry in the time has restarted: its step is not charge.
    """
    moved = counter_as - was.charge_as
    most_as = 2.0 * plant.ratings.fuse_a * (silent_s + plant.timing.hold_s)
    with np.errstate(invalid="ignore"):
        possible = np.abs(moved) <= most_as
    started = np.isnan(was.charge_as)
    restarted = ~possible & ~started & ~np.isnan(moved)
    unknown_as = np.where(restarted, most_as, 0.0)
    return np.where(possible, moved, 0.0), unknown_as


def _first_sight(plant: Plant, was: SocMemory, snapshot: Snapshot, soc: Floats, sigma: Floats) -> tuple[Floats, Floats]:
    """Start cells that were never known, and merge stored ones with the voltage seen now."""
    cell_v = snapshot.modules.cell_v
    fresh = ~np.isnan(cell_v) & (np.isnan(soc) | was.stored)
    if not fresh.any():
        return soc, sigma
    current = np.nan_to_num(snapshot.units.current_a)[:, None, None]
    ocv_v = cell_v - current * plant.cell.resistance_ohm
    seen = soc_of_ocv(plant.cell, ocv_v)
    error_v = np.hypot(plant.cell.ocv_half_gap_v, plant.estimation.voltage_sigma_v)
    error_v = error_v + np.abs(current) * plant.cell.resistance_ohm
    seen_sigma = np.minimum(error_v / ocv_slope(plant.cell, seen), LARGEST_SIGMA)
    weight = np.where(np.isnan(soc), 0.0, 1.0 / np.maximum(np.nan_to_num(sigma, nan=1.0), 1e-4) ** 2)
    seen_weight = 1.0 / seen_sigma**2
    merged = (np.nan_to_num(soc) * weight + seen * seen_weight) / (weight + seen_weight)
    merged_sigma = np.sqrt(1.0 / (weight + seen_weight))
    # when both disagree by more than they admit, neither is believed that precisely
    merged_sigma = np.where(weight > 0.0, np.maximum(merged_sigma, np.abs(merged - soc)), merged_sigma)
    return np.where(fresh, merged, soc), np.where(fresh, np.minimum(merged_sigma, LARGEST_SIGMA), sigma)


def _weakest_cell(plant: Plant, soc: Floats, sigma: Floats, in_circuit: Bools) -> Estimate:
    """String and rack values follow the weakest cell: what the first empty cell leaves, what the first full takes."""
    strings = plant.layout.strings
    flat = soc.reshape(strings, -1)
    left, room = flat.min(axis=1), (1.0 - flat).min(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        string_soc = np.where(left + room > 0.0, left / (left + room), np.nan)
    counts = in_circuit if in_circuit.any() else np.ones(strings, dtype=bool)
    known = bool(np.isfinite(string_soc[counts]).all())
    return Estimate(
        cell_soc=soc,
        cell_soc_sigma=sigma,
        cell_capacity_ah=np.full(soc.shape, plant.cell.capacity_ah),
        string_soc=string_soc,
        soc=float(string_soc[counts].mean()) if known else None,
        soc_sigma=float(sigma[counts].max()) if known else None,
        soh=1.0,  # the data sheet's capacity until one is measured
    )
