"""All estimators of one tick: what is known of the cells, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bmsd.core.estimation import anchors, capacity, ledger, months, power, predictor, resistance, soc
from bmsd.core.estimation.capacity import CapacityMemory
from bmsd.core.estimation.charge_state import ChargeState, charge_state
from bmsd.core.estimation.electrical import at, moved_per_c, place
from bmsd.core.estimation.history import Seen
from bmsd.core.estimation.ledger import LedgerMemory
from bmsd.core.estimation.months import MonthsMemory
from bmsd.core.estimation.power import Power
from bmsd.core.estimation.predictor import PredictorMemory
from bmsd.core.estimation.resistance import LOOK_S, Look, ResistanceMemory
from bmsd.core.estimation.soc import SocMemory
from bmsd.model.durable import Learned
from bmsd.model.estimate import Estimate
from bmsd.model.history import History, Wear
from bmsd.model.plant import Plant
from bmsd.model.snapshot import Bools, Floats, Snapshot

REFERENCE_SOC = 0.5
MEAN_S = 300.0
REST_C = 0.005
"""Below this current nothing empties or fills in a time worth telling."""


@dataclass(frozen=True, slots=True)
class Resistances:
    """Per cell: dv/di over 1 s and 10 s in ohm at temperature and SoC of now, the rest voltage's share with it, and the
    factor of what is lost over the model's, with sigma."""

    r1_ohm: Floats
    r10_ohm: Floats
    factor: Floats
    sigma: Floats


@dataclass(frozen=True, slots=True)
class EstimationMemory:
    """State of all estimators. `resistances`, `charge`, `discharge`: as of the last look.
    `mean_a` (strings,): current of the last minutes, NaN unknown."""

    soc: SocMemory
    capacity: CapacityMemory
    resistance: ResistanceMemory
    resistances: Resistances
    mean_a: Floats
    charge: Power
    discharge: Power
    months: MonthsMemory
    ledger: LedgerMemory
    predictor: PredictorMemory

    @property
    def marks(self) -> tuple[object, ...]:
        """What `history` is made of: the same objects as long as nothing of it has changed."""
        return (self.months.history, self.ledger.week.charge_ah, self.ledger.month.charge_ah)


def start(plant: Plant) -> EstimationMemory:
    """Nothing known."""
    return of(plant, soc.start(plant))


def of(plant: Plant, charge: SocMemory) -> EstimationMemory:
    """A memory of this charge, otherwise new."""
    shape, horizons = plant.layout.cell_shape, len(power.HORIZONS_S)
    unknown = Power(np.full((shape[0], horizons), np.nan), np.zeros((shape[0], horizons), dtype=np.int64))
    learned = resistance.start(shape)
    return EstimationMemory(
        charge, capacity.start(shape), learned, _resistances(plant, charge, learned), np.full(shape[0], np.nan),
        unknown, unknown, months.start(plant), ledger.start(plant), predictor.start(plant),
    )  # fmt: skip


def learned(memory: EstimationMemory) -> Learned:
    """What is kept over a power-off beside the SoC."""
    belief, slope = memory.soc.belief, memory.resistance.long
    return Learned(
        belief.bias_c, belief.bias_sigma_c, memory.soc.polarisation.h, memory.capacity.weight, memory.capacity.product,
        slope.square, slope.product, slope.seen, slope.events,
        ledger.saved(memory.ledger), memory.soc.deltas.variance.astype(np.float32),
    )  # fmt: skip


def relearned(
    plant: Plant, memory: EstimationMemory, saved: Learned | None, days: float = 30.0, off_s: float | None = None
) -> EstimationMemory:
    """The memory with what was kept `days` ago, as far as is known, exactly `off_s` ago, or nobody knows (None).

    What does not fit this rack is left out.
    """
    if saved is None or saved.capacity_weight.shape != plant.layout.cell_shape:
        return memory
    charge = soc.with_bias(memory.soc, saved.bias_c, saved.bias_sigma_c, saved.hysteresis)
    nothing = memory.capacity
    usable = np.isfinite(saved.capacity_product + saved.capacity_weight) & (saved.capacity_weight > 0.0)
    sizes = replace(
        nothing,
        weight=np.where(usable, saved.capacity_weight, nothing.weight),
        product=np.where(usable, saved.capacity_product, nothing.product),
    )
    slope = resistance.Slope(
        saved.resistance_square, saved.resistance_product, saved.resistance_seen, saved.resistance_events
    )
    learned_ohms = replace(memory.resistance, long=resistance.restored(memory.resistance.long, slope))
    ohms = _resistances(plant, charge, learned_ohms)
    moved = ledger.restored(plant, saved.ledger, days, off_s)
    return replace(memory, soc=charge, capacity=sizes, resistance=learned_ohms, resistances=ohms, ledger=moved)


def exchanged(plant: Plant, memory: EstimationMemory, modules: Bools) -> EstimationMemory:
    """The memory after other boards, and so other cells, have come to the places of these modules."""
    charge, ohms = soc.forgotten(memory.soc, modules), resistance.forgotten(memory.resistance, modules)
    return replace(
        memory,
        soc=charge,
        capacity=capacity.forgotten(memory.capacity, modules),
        resistance=ohms,
        resistances=_resistances(plant, charge, ohms),
        months=months.forgotten(plant, memory.months, modules),
        ledger=ledger.forgotten(memory.ledger, modules),
        predictor=predictor.forgotten(memory.predictor, modules),
    )


def told(memory: EstimationMemory, bleed: Bools) -> EstimationMemory:
    """The memory with the cells that are told to bleed until the next tick."""
    return replace(memory, ledger=replace(memory.ledger, told=bleed))


def followed(
    plant: Plant, memory: EstimationMemory, wear: Wear | None, history: History | None
) -> tuple[EstimationMemory, list[str]]:
    """The memory with the months before, and sentences on what of them could not be used."""
    looks = None if history is None else history.looks
    known, notes = months.restored(plant, wear, None if history is None else replace(history, looks=None))
    return replace(memory, months=known, ledger=ledger.looked_back(plant, memory.ledger, looks)), notes


def history(memory: EstimationMemory) -> History:
    """What is kept of months and of looks over a power-off, in a file of its own."""
    return replace(memory.months.history, looks=ledger.looks(memory.ledger))


def interrupted(plant: Plant, was: EstimationMemory, unknown: Floats) -> EstimationMemory:
    """The memory after a time in which nothing was seen: `unknown` (strings,) capacities may have flowed (sigma)."""
    charge = soc.interrupted(plant, was.soc, unknown)
    sizes, rested = capacity.interrupted(was.capacity), replace(was.resistance, looks=(), since_s=0.0)
    return replace(was, soc=charge, capacity=sizes, resistance=rested, predictor=predictor.start(plant))


def step(
    plant: Plant, was: EstimationMemory, snapshot: Snapshot, dt_s: float, in_circuit: Bools
) -> tuple[EstimationMemory, Estimate]:
    """Return the new memory and what is known now; `in_circuit` (strings,): those that may carry current."""
    charge_memory = soc.step(plant, was.soc, snapshot, dt_s, in_circuit)
    state = charge_state(plant, charge_memory, in_circuit, was.capacity.share)
    mean_a = _mean_a(was.mean_a, snapshot.units.current_a, dt_s)
    moved = ledger.counted(plant, was.ledger, snapshot, dt_s)
    was = replace(was, capacity=_capacity(plant, was, snapshot, charge_memory, state), mean_a=mean_a)
    if charge_memory.weighed_c is not None:
        charge_memory = soc.bled(charge_memory, moved.pending_ah / plant.cell.capacity_ah)
        moved = ledger.step(plant, moved, snapshot.modules.cell_v, _anchor(plant, was, charge_memory, snapshot, state))
    was = replace(was, ledger=moved)
    since_s = was.resistance.since_s + dt_s
    if since_s >= LOOK_S - 1e-9 or not was.resistance.looks:
        memory = _looked(plant, replace(was, soc=charge_memory), snapshot, state, since_s)
    else:
        memory = replace(was, soc=charge_memory, resistance=replace(was.resistance, since_s=since_s))
    return memory, _estimate(plant, memory, state, in_circuit, snapshot.utc_s)


def _or_half(soc: Floats) -> Floats:
    """This SoC; half where it is not known."""
    return np.where(np.isnan(soc), REFERENCE_SOC, soc)


def _mean_a(was: Floats, current_a: Floats, dt_s: float) -> Floats:
    part = 1.0 - np.exp(-dt_s / MEAN_S)
    return np.where(np.isnan(was), current_a, was + part * (current_a - was))


def _capacity(
    plant: Plant, was: EstimationMemory, snapshot: Snapshot, charge: SocMemory, state: ChargeState
) -> CapacityMemory:
    """Capacities after this tick: anchors are found when the SoC is weighed."""
    if charge.weighed_c is None:
        return was.capacity
    nominal_ah = plant.cell.capacity_ah
    moved = capacity.moved(was.capacity, charge.weighed_c * nominal_ah, charge.weighed_s / 3600.0)
    lost_v = soc.lost_v(charge.tables, _or_half(charge.string_soc), snapshot.units.current_a, charge.polarisation)
    cell_lost_v = lost_v[:, None, None] * was.resistances.factor
    looks = anchors.told(plant, snapshot.modules.cell_v, cell_lost_v, charge, state.cell_soc)
    return capacity.step(moved, state.cell_soc, *looks, charge.belief.bias_sigma_c * nominal_ah, nominal_ah)


def _anchor(
    plant: Plant, was: EstimationMemory, now: SocMemory, snapshot: Snapshot, state: ChargeState
) -> anchors.Anchor | None:
    """What is read of the cells where voltage tells charge."""
    amps = snapshot.units.current_a
    lost_v = soc.lost_v(now.tables, _or_half(now.string_soc), amps, now.polarisation)
    ohms, sizes = was.resistances, was.capacity
    return anchors.anchor(plant, snapshot.modules.cell_v, amps, anchors.Sight(
        now.tables, now.polarisation.h, lost_v, soc.surface_ahead(plant, now.tables, now.polarisation), ohms.factor,
        ohms.sigma, state.cell_capacity_ah,
        sizes.sigma * plant.cell.capacity_ah, now.string_soc + 2.0 * now.string_sigma,
    ))  # fmt: skip


def _looked(
    plant: Plant, was: EstimationMemory, snapshot: Snapshot, state: ChargeState, since_s: float
) -> EstimationMemory:
    """Once a second: resistances, the power that follows from all that is known, and what is not explained by it."""
    now, model = was.soc, plant.cell.model
    common = _or_half(now.string_soc)
    amps, cell_v = snapshot.units.current_a, snapshot.modules.cell_v
    still_v = now.polarisation.h * at(now.tables.half_v, place(common))
    look = Look(cell_v, still_v, soc.lost_v(now.tables, common, amps, now.polarisation), amps)
    learned = resistance.step(was.resistance, look, common, plant.cell.capacity_ah, since_s)
    ohms = _resistances(plant, now, learned)
    ahead = soc.surface_ahead(plant, now.tables, now.polarisation)
    cells = power.Cells(
        cell_v, state.cell_soc, state.cell_soc_sigma, ohms.factor, ohms.sigma, state.cell_capacity_ah, ahead
    )
    found = [
        power.power(model, now.tables, now.polarisation, amps, cells, limit_v, direction, most_a)
        for limit_v, direction, most_a in (
            (plant.cell.max_v, 1, plant.string_charge_max_a),
            (plant.cell.min_v, -1, plant.string_discharge_max_a),
        )
    ]
    seen = Seen(was.capacity.share, was.capacity.sigma, ohms.factor, ohms.sigma)
    followed_until_now = months.moved(was.months, amps, plant.cell.capacity_ah, since_s)
    told = months.step(plant, followed_until_now, snapshot, seen)
    unexplained = predictor.step(
        plant, was.predictor, snapshot, now, predictor.Resistance(ohms.factor, ohms.sigma), since_s
    )  # fmt: skip
    return replace(
        was, resistance=learned, resistances=ohms, charge=found[0], discharge=found[1], months=told,
        predictor=unexplained,
    )  # fmt: skip


def _resistances(plant: Plant, charge: SocMemory, learned: ResistanceMemory) -> Resistances:
    """At the SoC of now; at half charge where that is not known."""
    model, tables = plant.cell.model, charge.tables
    where, t_s = place(_or_half(charge.string_soc)), np.array([1.0, 10.0])
    lost = at(tables.r0_ohm, where)[:, None] + tables.rc_ohm @ (1.0 - np.exp(-t_s / model.rc_tau_s[:, None]))
    moved = at(tables.slope_v, where)[:, None] * moved_per_c(model, tables, t_s) / plant.cell.capacity_ah
    factors = learned.short.factor(), learned.long.factor()
    short, long = (lost[:, [k], None] * factor + moved[:, [k], None] for k, factor in enumerate(factors))
    return Resistances(short, long, factors[1], learned.long.sigma(resistance.LONG_LOOKS))


def _estimate(
    plant: Plant, memory: EstimationMemory, state: ChargeState, in_circuit: Bools, utc_s: float | None
) -> Estimate:
    counts = in_circuit if in_circuit.any() else np.ones(len(in_circuit), dtype=bool)
    sizes_sigma = memory.capacity.sigma
    share, sigma = memory.capacity.share[counts], sizes_sigma[counts]
    worst = np.unravel_index(int(share.argmin()), share.shape)
    residuals = memory.predictor.residuals
    known = state.soc is not None
    left = memory.months.left
    weakest = left.weakest(counts)
    use, trend = memory.months.wear.wear, memory.months.trend
    return Estimate(
        cell_soc=state.cell_soc,
        cell_soc_sigma=state.cell_soc_sigma,
        cell_capacity_ah=state.cell_capacity_ah,
        string_soc=state.string_soc,
        soc=state.soc,
        soc_sigma=state.soc_sigma,
        soh=float(share[worst]) if known else None,
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
        soh_sigma=float(sigma[worst]) if known else None,
        cell_capacity_sigma_ah=sizes_sigma * plant.cell.capacity_ah,
        string_left_ah=state.string_left_ah,
        string_room_ah=state.string_room_ah,
        time_to_empty_s=_time_s(plant, state.string_left_ah[counts], -memory.mean_a[counts]),
        time_to_full_s=_time_s(plant, state.string_room_ah[counts], memory.mean_a[counts]),
        cell_resistance_trend=trend.per_year,
        cell_resistance_trend_sigma=trend.sigma,
        cell_life_low_days=left.low,
        cell_life_days=left.median,
        cell_life_high_days=left.high,
        life_low_days=weakest[0],
        life_days=weakest[1],
        life_high_days=weakest[2],
        life_end_utc_s=None if utc_s is None or weakest[1] is None else utc_s + weakest[1] * months.DAY_S,
        life_followed_days=float(memory.months.life.followed_days[counts].min()),
        string_cycles=use.cycles + plant.estimation.cycles_before,
        age_days=use.age_days,
        balancing=memory.ledger.balancing,
        cell_residual_v=residuals.cell_v,
        cell_sag_v=residuals.sag_v,
        sensor_residual_k=residuals.sensor_k,
        sensor_heating_k_per_min=residuals.heating_k_per_min,
    )


def _time_s(plant: Plant, amount_ah: Floats, amps: Floats) -> float | None:
    """Time in which the first of these strings has moved its amount at this current, s; None: never, or unknown."""
    if not np.isfinite(amount_ah + amps).all():
        return None
    moving = amps > REST_C * plant.cell.capacity_ah
    return float((3600.0 * amount_ah[moving] / amps[moving]).min()) if moving.any() else None
