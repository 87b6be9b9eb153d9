"""All estimators of one tick: what is known of the cells, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bmsd.core.estimation import power, resistance, soc
from bmsd.core.estimation.electrical import at, place
from bmsd.core.estimation.power import Power
from bmsd.core.estimation.resistance import LOOK_S, Look, ResistanceMemory
from bmsd.core.estimation.soc import ChargeState, SocMemory
from bmsd.model.estimate import Estimate
from bmsd.model.plant import Plant
from bmsd.model.snapshot import Bools, Floats, Snapshot

REFERENCE_SOC = 0.5


@dataclass(frozen=True, slots=True)
class Resistances:
    """Per cell: over 1 s and 10 s in ohm at temperature and SoC of now, and the factor over the model's with sigma."""

    r1_ohm: Floats
    r10_ohm: Floats
    factor: Floats
    sigma: Floats


@dataclass(frozen=True, slots=True)
class EstimationMemory:
    """State of all estimators. `resistances`, `charge`, `discharge`: as of the last look."""

    soc: SocMemory
    resistance: ResistanceMemory
    resistances: Resistances
    charge: Power
    discharge: Power


def start(plant: Plant) -> EstimationMemory:
    """Nothing known."""
    return of(plant, soc.start(plant))


def of(plant: Plant, charge: SocMemory) -> EstimationMemory:
    """A memory of this charge, otherwise new."""
    shape, horizons = plant.layout.cell_shape, len(power.HORIZONS_S)
    unknown = Power(np.full((shape[0], horizons), np.nan), np.zeros((shape[0], horizons), dtype=np.int64))
    learned = resistance.start(shape)
    return EstimationMemory(charge, learned, _resistances(plant, charge, learned), unknown, unknown)


def interrupted(plant: Plant, was: EstimationMemory, unknown: Floats) -> EstimationMemory:
    """The memory after a time in which nothing was seen: `unknown` (strings,) capacities may have flowed (sigma)."""
    charge = soc.interrupted(plant, was.soc, unknown)
    return replace(was, soc=charge, resistance=replace(was.resistance, looks=(), since_s=0.0))


def step(
    plant: Plant, was: EstimationMemory, snapshot: Snapshot, dt_s: float, in_circuit: Bools
) -> tuple[EstimationMemory, Estimate]:
    """Return the new memory and what is known now; `in_circuit` (strings,) as in soc.estimate."""
    charge_memory, state = soc.estimate(plant, was.soc, snapshot, dt_s, in_circuit)
    since_s = was.resistance.since_s + dt_s
    if since_s >= LOOK_S - 1e-9 or not was.resistance.looks:
        memory = _looked(plant, replace(was, soc=charge_memory), snapshot, state, since_s)
    else:
        memory = replace(was, soc=charge_memory, resistance=replace(was.resistance, since_s=since_s))
    return memory, _estimate(memory, state, in_circuit)


def _looked(
    plant: Plant, was: EstimationMemory, snapshot: Snapshot, state: ChargeState, since_s: float
) -> EstimationMemory:
    """Once a second: resistances, and the power that follows from all that is known."""
    now, model = was.soc, plant.cell.model
    common = np.nan_to_num(now.string_soc, nan=0.5)
    amps, cell_v = snapshot.units.current_a, snapshot.modules.cell_v
    where = place(common)
    lost_v = amps * at(now.tables.r0_ohm, where) + (now.tables.rc_ohm * now.polarisation.rc_a).sum(axis=1)
    look = Look(cell_v, now.polarisation.h * at(now.tables.half_v, where), lost_v, amps)
    learned = resistance.step(was.resistance, look, common, plant.cell.capacity_ah, since_s)
    ohms = _resistances(plant, now, learned)
    cells = power.Cells(cell_v, state.cell_soc, state.cell_soc_sigma, ohms.factor, ohms.sigma, state.cell_capacity_ah)
    found = [
        power.power(model, now.tables, now.polarisation, amps, cells, limit_v, direction, most_a)
        for limit_v, direction, most_a in (
            (plant.cell.max_v, 1, plant.string_charge_max_a),
            (plant.cell.min_v, -1, plant.string_discharge_max_a),
        )
    ]
    return EstimationMemory(now, learned, ohms, *found)


def _resistances(plant: Plant, charge: SocMemory, learned: ResistanceMemory) -> Resistances:
    """At the SoC of now; at half charge where that is not known."""
    common = charge.string_soc
    where = place(np.where(np.isfinite(common), common, REFERENCE_SOC))
    taus = plant.cell.model.rc_tau_s
    ohms = [
        at(charge.tables.r0_ohm, where) + (charge.tables.rc_ohm * (1.0 - np.exp(-seconds / taus))).sum(axis=1)
        for seconds in (1.0, 10.0)
    ]
    short, long = learned.short.factor(), learned.long.factor()
    return Resistances(ohms[0][:, None, None] * short, ohms[1][:, None, None] * long, long, learned.long.sigma())


def _estimate(memory: EstimationMemory, state: ChargeState, in_circuit: Bools) -> Estimate:
    counts = in_circuit if in_circuit.any() else np.ones(len(in_circuit), dtype=bool)
    size = memory.soc.belief.size[counts]
    return Estimate(
        cell_soc=state.cell_soc,
        cell_soc_sigma=state.cell_soc_sigma,
        cell_capacity_ah=state.cell_capacity_ah,
        string_soc=state.string_soc,
        soc=state.soc,
        soc_sigma=state.soc_sigma,
        soh=float(size.min()) if state.soc is not None else None,
        string_soc_sigma=state.string_soc_sigma,
        current_bias_a=state.current_bias_a,
        current_bias_sigma_a=state.current_bias_sigma_a,
        cell_r1_ohm=memory.resistances.r1_ohm,
        cell_r10_ohm=memory.resistances.r10_ohm,
        cell_resistance_factor=memory.resistances.factor,
        cell_resistance_sigma=memory.resistances.sigma,
        power_charge_a=memory.charge.amps,
        power_discharge_a=memory.discharge.amps,
        power_charge_cell=memory.charge.cell,
        power_discharge_cell=memory.discharge.cell,
    )
