"""What every cell and every temperature sensor should show, driven by the measured current; and what they show beside.

Theory of operation. Voltage: the model's rest voltage at the cell's own SoC, hysteresis and resistances, the latter
times the cell's own factor. Measured minus predicted is the residual. What all cells of a string have in common is the
model's error or the current sensor's; a *sag* is what one cell has fallen below the median of its string against where
it usually lies, beyond what an error of its resistance or SoC brings when load and slope are not the usual ones.

Temperature: a sensor sees the mean of the cells around it (sensors sit evenly along a module),

    C dT/dt = i (v - OCV) + i T dU/dT + C (T_around - T) / tau + C (T_module - T) / tau_x

with v - OCV from the model: a cell that sags must not explain its own heat. The modelled temperature follows the
measured one downwards freely, upwards with at most FOLLOW beside what the current explains: sun, a lost fan or a wrong
cooling time are slower, what heats faster is never explained away. So the *residual* of a sensor is the kelvins that
nothing explains. What surrounds a module is learned from it, bounded as well.

Rates are those of the temperature less all that the current may explain, as the smaller of the rises between three
successive parts of a window: one step of a sensor, however large, lies in one of them. docs/estimation.md, decision 27.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bmsd.core.estimation.electrical import at, place
from bmsd.core.estimation.known import lower_median, mean
from bmsd.core.estimation.soc import SocMemory, lost_v, surface_ahead
from bmsd.model.cell import KELVIN, SOC_GRID
from bmsd.model.plant import Plant
from bmsd.model.snapshot import Bools, Floats, Snapshot

HEAT_CAPACITY_J_PER_K_AH = 19.3
"""Of LFP prismatic cells: 280 Ah weigh 5.4 kg at 1 kJ/(kg K)."""
FOLLOW_K_PER_S = 0.2 / 60.0
FOLLOW_S, SMOOTH_S = 60.0, 15.0
"""Time in which the model follows small residuals; time over which readings are smoothed."""
SETTLE_S = 60.0
"""Time in which a sensor that is seen for the first time is followed freely: one reading is no level."""
EXCHANGE_S = 10_000.0
"""Time constant of a cell towards the rest of its module."""
AROUND_S = 1800.0
AROUND_K_PER_S = 12.0 / 3600.0
COLDER_K, WARMER_K = 40.0, 10.0
"""By how much the surroundings may lie below and above the module."""
CAPACITY_DOUBT, REVERSIBLE_DOUBT = 0.15, 0.5
"""Shares by which the heat capacity, and the reversible heat of another maker's cell, may be wrong."""
JUMP_K_PER_S = 5.0
"""No cell warms faster before it is far beyond its trip level: a faster step is the sensor's."""
LOOKS, PARTS, LEAST_LOOKS = 60, 3, 5
"""Looks of one second in the window of `heating`, its parts, and how many known ones make a part."""
BURST_LOOKS = 9
LONGEST_LOOK_S, LONGEST_BURST_LOOK_S = 20.0, 3.0
"""With fewer looks a step cannot be told from a rise."""
USUAL_S, USUAL_V_PER_S = 600.0, 0.002 / 60.0
"""How fast the usual place of a cell's voltage in its string follows."""
SAG_NOISE_V = 0.002


@dataclass(frozen=True, slots=True)
class Residuals:
    """What the model does not explain; NaN: unknown.

    Of cells (strings, modules, cells) in V: measured minus predicted, and sag (0 or more). Of sensors (strings,
    modules, sensors): kelvins, rate over a minute in K/min, rate over BURST_LOOKS in K/s.
    """

    cell_v: Floats
    sag_v: Floats
    sensor_k: Floats
    heating_k_per_min: Floats
    burst_k_per_s: Floats


@dataclass(frozen=True, slots=True)
class Usual:
    """Where each cell usually lies (strings, modules, cells): V above the median of its string, what resistances take
    there and the slope of the rest voltage. NaN: never seen."""

    apart_v: Floats
    lost_v: Floats
    slope_v: Floats


@dataclass(frozen=True, slots=True)
class PredictorMemory:
    """State of the predictor and its residuals as of the last look.

    Of sensors: `modelled_degc`, smoothed excess over it, time for which it was known, last reading, time since it,
    kelvins explained so far, and the last LOOKS readings without them. `around_degc` (strings, modules): temperature
    around the cells.
    """

    usual: Usual
    modelled_degc: Floats
    excess_k: Floats
    known_s: Floats
    seen_degc: Floats
    unseen_s: Floats
    explained_k: Floats
    unexplained: Floats
    around_degc: Floats
    residuals: Residuals


def unknown(plant: Plant) -> Residuals:
    """Nothing is predicted."""
    cells, sensors = np.full(plant.layout.cell_shape, np.nan), np.full(plant.layout.sensor_shape, np.nan)
    return Residuals(cells, cells, sensors, sensors, sensors)


def start(plant: Plant) -> PredictorMemory:
    """Nothing seen."""
    nothing, sensors = unknown(plant), np.full(plant.layout.sensor_shape, np.nan)
    zero = np.zeros_like(sensors)
    return PredictorMemory(
        usual=Usual(nothing.cell_v, nothing.cell_v, nothing.cell_v),
        modelled_degc=sensors,
        excess_k=zero,
        known_s=zero,
        seen_degc=sensors,
        unseen_s=zero,
        explained_k=zero,
        unexplained=np.full((LOOKS, *sensors.shape), np.nan),
        around_degc=np.full(plant.layout.module_shape, np.nan),
        residuals=nothing,
    )


def forgotten(was: PredictorMemory, modules: Bools) -> PredictorMemory:
    """The memory without the usual places of the cells of these modules (strings, modules)."""
    gone, usual = modules[:, :, None], was.usual
    return replace(was, usual=Usual(*(np.where(gone, np.nan, v) for v in (usual.apart_v, usual.lost_v, usual.slope_v))))


@dataclass(frozen=True, slots=True)
class Resistance:
    """Factor of each cell's resistance over the model's, with its sigma (strings, modules, cells)."""

    factor: Floats
    sigma: Floats


def step(
    plant: Plant, was: PredictorMemory, snapshot: Snapshot, charge: SocMemory, ohms: Resistance, dt_s: float
) -> PredictorMemory:
    """Return the memory after this look, `dt_s` after the last one; as it was where the predictor is switched off."""
    if not plant.estimation.predictor:
        return was
    ahead = surface_ahead(plant, charge.tables, charge.polarisation)
    cells = _cells(was.usual, snapshot, charge, ahead, ohms, dt_s)
    heat, doubt = heating(plant, snapshot.units.current_a, charge, ohms)
    return _sensors(plant, was, snapshot.modules.temperature_degc, heat, doubt, dt_s, cells)


# cells


def _cells(
    was: Usual, snapshot: Snapshot, charge: SocMemory, ahead: Floats, ohms: Resistance, dt_s: float
) -> tuple[Floats, Floats, Usual]:
    """Residual and sag of each cell, and where it usually lies in its string."""
    tables, common, polarised = charge.tables, charge.string_soc, charge.polarisation
    where = place(charge.soc + ahead[:, None, None])
    lost = lost_v(tables, common, snapshot.units.current_a, polarised)[:, None, None]
    still = (polarised.h * at(tables.half_v, place(common)))[:, None, None]
    residual = snapshot.modules.cell_v - (at(tables.mid_v, where) + still + ohms.factor * lost)
    apart = residual - lower_median(residual.reshape(len(residual), -1))[:, None, None]
    now = Usual(apart, np.broadcast_to(lost, apart.shape), at(tables.slope_v, where))
    known, new = np.isfinite(apart) & ~snapshot.modules.balancing, np.isnan(was.apart_v)
    apart_v, lost_then_v, slope_v = (
        np.where(new, seen, usual)
        for seen, usual in ((now.apart_v, was.apart_v), (now.lost_v, was.lost_v), (now.slope_v, was.slope_v))
    )
    doubt = 2.0 * np.hypot(
        ohms.sigma * (now.lost_v - lost_then_v), (now.slope_v - slope_v) * np.sqrt(charge.deltas.variance)
    )
    sag = np.where(known, np.maximum(apart_v - apart - doubt - SAG_NOISE_V, 0.0), np.nan)
    most, part = USUAL_V_PER_S * dt_s, -np.expm1(-dt_s / USUAL_S)
    usual = Usual(
        np.where(known, apart_v + np.clip(part * (apart - apart_v), -most, most), was.apart_v),
        np.where(known, lost_then_v + part * (now.lost_v - lost_then_v), was.lost_v),
        np.where(known, slope_v + part * (now.slope_v - slope_v), was.slope_v),
    )
    return np.asarray(residual), sag, usual


# heat


def heating(plant: Plant, current_a: Floats, charge: SocMemory, ohms: Resistance) -> tuple[Floats, Floats]:
    """How fast the current heats what each sensor sees, and how much faster it may, K/s (strings, modules, sensors).

    A current that is not known explains nothing, but may be the highest that the string is built for.
    """
    tables, soc = charge.tables, np.nan_to_num(charge.string_soc, nan=0.5)
    known = np.isfinite(current_a)
    amps = np.where(known, current_a, 0.0)
    over_v = ohms.factor * lost_v(tables, soc, amps, charge.polarisation)[:, None, None]
    still_v = charge.polarisation.h * at(tables.half_v, place(soc))
    lost_w = amps[:, None, None] * (over_v + still_v[:, None, None])
    entropy = np.interp(soc, SOC_GRID, plant.cell.model.entropy_v_per_k)
    reversible_w = amps * (tables.degc + KELVIN) * entropy
    doubt_w = np.abs(lost_w) * 2.0 * np.hypot(ohms.sigma, CAPACITY_DOUBT)
    beside_w = REVERSIBLE_DOUBT * np.abs(reversible_w) + np.where(known, 0.0, _most_w(plant, charge, soc))
    mass = heat_capacity_j_per_k(plant)
    explained = _of_sensors(plant, lost_w + reversible_w[:, None, None]) / mass
    return explained, _of_sensors(plant, doubt_w + beside_w[:, None, None]) / mass


def heat_capacity_j_per_k(plant: Plant) -> float:
    """Heat capacity of one cell."""
    return plant.estimation.cell_heat_capacity_j_per_k or HEAT_CAPACITY_J_PER_K_AH * plant.cell.capacity_ah


def _most_w(plant: Plant, charge: SocMemory, soc: Floats) -> Floats:
    ohm = at(charge.tables.r0_ohm, place(soc)) + charge.tables.rc_ohm.sum(axis=1)
    return np.asarray(plant.string_max_a**2 * ohm)


def _of_sensors(plant: Plant, cells: Floats) -> Floats:
    """Mean over the cells that each sensor sits among."""
    count, sensors = cells.shape[2], plant.layout.sensors
    if sensors == 0 or count % sensors == 0:
        return np.asarray(cells.reshape(*cells.shape[:2], sensors, -1).mean(axis=3))
    first = np.arange(sensors) * count // sensors
    width = np.maximum(np.diff(np.append(first, count)), 1)
    total: Floats = np.add.reduceat(cells, first, axis=2) / width
    return total


# sensors


def _sensors(
    plant: Plant,
    was: PredictorMemory,
    degc: Floats,
    heat: Floats,
    doubt: Floats,
    dt_s: float,
    cells: tuple[Floats, Floats, Usual],
) -> PredictorMemory:
    """The memory with what the sensors show now."""
    known = np.isfinite(degc)
    jump, step_k = _jump(was, degc, dt_s + was.unseen_s), _jump(was, degc, dt_s)
    modelled = np.where(np.isnan(was.modelled_degc), degc, was.modelled_degc + jump)
    base = np.where(known, degc, modelled)
    whole = mean(base)
    around = np.where(np.isnan(was.around_degc), whole, was.around_degc)
    cooling = (around[:, :, None] - base) / plant.estimation.cooling_s + (whole[:, :, None] - base) / EXCHANGE_S
    explained = heat + np.nan_to_num(cooling)
    modelled = modelled + explained * dt_s
    excess = was.excess_k + np.where(known, -np.expm1(-dt_s / SMOOTH_S) * (degc - modelled - was.excess_k), 0.0)
    most = FOLLOW_K_PER_S * (dt_s + was.unseen_s) + doubt * dt_s
    most = np.where(was.known_s < SETTLE_S, np.inf, most)
    follows = np.where(known, np.minimum(excess * -np.expm1(-dt_s / FOLLOW_S), most), 0.0)
    explained_k = was.explained_k + (explained + doubt) * dt_s + step_k
    looks = _looked(was.unexplained, degc - explained_k, dt_s)
    beside = _around(plant, around, whole, np.where(known, follows, np.nan), dt_s)
    burst = _rise(looks[-BURST_LOOKS:], 1) if dt_s <= LONGEST_BURST_LOOK_S else np.full_like(degc, np.nan)
    residuals = Residuals(
        cells[0], cells[1], np.where(known, excess, np.nan), 60.0 * _rise(looks, LEAST_LOOKS), burst
    )  # fmt: skip
    return PredictorMemory(
        usual=cells[2],
        modelled_degc=modelled + follows,
        excess_k=excess,
        known_s=was.known_s + known * dt_s,
        seen_degc=np.where(known, degc, was.seen_degc),
        unseen_s=np.where(known, 0.0, was.unseen_s + dt_s),
        explained_k=explained_k,
        unexplained=looks,
        around_degc=beside,
        residuals=residuals,
    )


def _jump(was: PredictorMemory, degc: Floats, over_s: Floats | float) -> Floats:
    """Steps of the sensors themselves if they took so long, K; 0 where there is none.

    Over a silence a cell may well have warmed that far, so the model stays; but it is no rate: nobody saw it rise.
    """
    moved = degc - was.seen_degc
    jumps: Bools = np.abs(moved) > JUMP_K_PER_S * np.maximum(over_s, 1.0)
    return np.where(jumps, moved, 0.0)


def _around(plant: Plant, around: Floats, whole: Floats, follows: Floats, dt_s: float) -> Floats:
    """The temperature around each module, towards what half of its sensors have to follow."""
    needed = np.nan_to_num(lower_median(follows)) * plant.estimation.cooling_s / AROUND_S
    most = AROUND_K_PER_S * dt_s
    moved: Floats = np.clip(around + np.clip(needed, -most, most), whole - COLDER_K, whole + WARMER_K)
    return np.where(np.isnan(moved), around, moved)


def _looked(was: Floats, now: Floats, dt_s: float) -> Floats:
    """The window with this look; seconds between two looks lie on the line between them."""
    if dt_s > LONGEST_LOOK_S:
        was = np.full_like(was, np.nan)
    count = max(min(round(dt_s), LONGEST_LOOK_S), 1)
    part = (np.arange(1, int(count) + 1) / count)[:, None, None, None]
    between = was[-1] + part * (now - was[-1]) if count > 1 else now[None]
    between[-1] = now
    return np.concatenate([was[int(count) :], between])


def _rise(looks: Floats, least: int) -> Floats:
    """Smaller rise between the successive parts of these looks, K/s; NaN where a part has too few known ones."""
    parts = looks.reshape(PARTS, -1, *looks.shape[1:])
    means = parts.mean(axis=1)
    if np.isnan(means).any():
        known = np.isfinite(parts)
        count = known.sum(axis=1)
        means = np.where(count >= least, np.where(known, parts, 0.0).sum(axis=1) / np.maximum(count, 1), np.nan)
    rises: Floats = np.diff(means, axis=0).min(axis=0) / parts.shape[1]
    return rises
