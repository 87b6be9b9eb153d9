"""How much current may flow: every reason proposes a bound, the tightest wins and is published.

Bounds act on every sample. A decrease is taken at once; an increase is itself bounded: slowly up, only after
a hold after a zero, and leaving zero only for a useful current. By cell voltage the limit ratchets: inside
the taper it may only fall until the cell has left the zone, so that a slow inverter cannot make it swing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from bmsd.core.derate import share
from bmsd.model.bound import Bound, tightest
from bmsd.model.estimate import Estimate
from bmsd.model.plant import Curve, Plant
from bmsd.model.snapshot import Bools, Floats, Ints, Snapshot

TEN_SECONDS = 1
"""Position of the horizon of 10 s in the power of an estimate."""
TAPER_RELEASE_V = 0.03
"""A ratcheted taper is released when the cell is this far outside the zone."""


@dataclass(frozen=True, slots=True)
class Direction:
    """Memory of one direction: last limit in A, time since it was zero in s, ratcheted share per string."""

    limit_a: float
    since_zero_s: float
    ratchet: Floats


@dataclass(frozen=True, slots=True)
class LimitMemory:
    """Memory of both directions."""

    charge: Direction
    discharge: Direction


@dataclass(frozen=True, slots=True)
class Limits:
    """Both limits as magnitudes of the rack in A with all bounds, the binding one first."""

    charge: tuple[Bound, ...]
    discharge: tuple[Bound, ...]

    @property
    def charge_a(self) -> float:
        return self.charge[0].amps

    @property
    def discharge_a(self) -> float:
        return self.discharge[0].amps


def start(plant: Plant) -> LimitMemory:
    """Both limits at zero."""
    ratchet = np.ones(plant.layout.strings)
    return LimitMemory(Direction(0.0, 0.0, ratchet), Direction(0.0, 0.0, ratchet))


def limits(
    plant: Plant,
    was: LimitMemory,
    snapshot: Snapshot,
    estimate: Estimate,
    connected: Bools,
    leaving: bool,
    others: tuple[tuple[Bound, ...], tuple[Bound, ...]],
    dt_s: float,
) -> tuple[LimitMemory, Limits]:
    """Return both limits of the rack. `connected` (strings,) are the closed ones.

    `others` are the bounds of faults and set-points for charge and discharge.

    While a string is `leaving`, or is told to be open and is not, nothing may flow: its contacts part without
    current, what it carried must not move to the others, and nobody watches the cells of a string that does not obey.
    """
    cell_v = snapshot.modules.cell_v.reshape(plant.layout.strings, -1)
    settings = plant.limits
    charge_a, discharge_a = plant.string_charge_max_a, plant.string_discharge_max_a
    charge_ratchet = _ratchet(settings.charge_by_cell_v, cell_v.max(axis=1), was.charge.ratchet, rising=True)
    discharge_ratchet = _ratchet(settings.discharge_by_cell_v, cell_v.min(axis=1), was.discharge.ratchet, rising=False)
    charge_warm, discharge_warm = _temperature_shares(plant, snapshot)
    # the unfavourable edge: as full, or as empty, as the strings may well be
    full = ~(estimate.string_soc + estimate.string_soc_sigma < settings.max_charge_soc)
    empty = ~(estimate.soc_edge > settings.min_discharge_soc)
    unreported, nothing = _unreported(plant, snapshot), _nothing(plant, leaving)
    charge, charge_bounds = _direction(plant, was.charge, charge_ratchet, charge_a, connected, dt_s, [
        *_string_bounds(charge_a, charge_ratchet, charge_warm, snapshot, "highest", "charging"),
        *_soc_window(full, settings.max_charge_soc < 1.0, "SoC at its upper setting"),
        *_power_bounds(plant, estimate.power_charge_a, estimate.power_charge_cell),
        *unreported, *others[0], *nothing,
    ])  # fmt: skip
    discharge, discharge_bounds = _direction(plant, was.discharge, discharge_ratchet, discharge_a, connected, dt_s, [
        *_string_bounds(discharge_a, discharge_ratchet, discharge_warm, snapshot, "lowest", "discharging"),
        *_soc_window(empty, settings.min_discharge_soc > 0.0, "SoC at its lower setting"),
        *_power_bounds(plant, estimate.power_discharge_a, estimate.power_discharge_cell),
        *unreported, *others[1], *nothing,
    ])  # fmt: skip
    return LimitMemory(charge, discharge), Limits(charge_bounds, discharge_bounds)


def _direction(
    plant: Plant, was: Direction, ratchet: Floats, rated_a: float, connected: Bools, dt_s: float, proposed: list[Bound]
) -> tuple[Direction, tuple[Bound, ...]]:
    """What one direction carries on, and its bounds as rack totals, the binding one first."""
    whole = _rack(proposed, connected)
    ordered = _with_ramp(plant, was, whole, rated_a * max(int(connected.sum()), 1), dt_s)
    since_zero_s = was.since_zero_s + dt_s if tightest(whole).amps > 0.0 else 0.0
    return Direction(ordered[0].amps, since_zero_s, ratchet), ordered


def _nothing(plant: Plant, leaving: bool) -> list[Bound]:
    """Why nothing may flow through the whole rack."""
    bounds = [Bound(0.0, "a string is opening, or is not open", "contactors")] if leaving else []
    if plant.monitor_only:
        bounds.append(Bound(0.0, "monitor only: nothing would enforce a limit", "monitor"))
    return bounds


def settled(memory: LimitMemory, charge_a: float, discharge_a: float) -> LimitMemory:
    """Memory with the limits that really left: the ramps start from those, the hold from a zero made later."""

    def really(direction: Direction, amps: float) -> Direction:
        stopped = direction.limit_a > 0.0 and not amps > 0.0
        return replace(direction, limit_a=amps, since_zero_s=0.0 if stopped else direction.since_zero_s)

    return LimitMemory(really(memory.charge, charge_a), really(memory.discharge, discharge_a))


def _ratchet(curve: Curve, cell_v: Floats, was: Floats, *, rising: bool) -> Floats:
    """Share per string by the extreme cell: falls with the curve, rises only outside the zone. NaN: unknown."""
    now = share(curve, cell_v)
    with np.errstate(invalid="ignore"):
        outside = cell_v <= curve.x[0] - TAPER_RELEASE_V if rising else cell_v >= curve.x[-1] + TAPER_RELEASE_V
    return np.where(np.isnan(now), np.where(np.isnan(was), 1.0, was), np.where(outside, now, np.fmin(was, now)))


def _temperature_shares(plant: Plant, snapshot: Snapshot) -> tuple[Floats, Floats]:
    """Charge and discharge shares per string by the worst sensor; NaN where a module has no known sensor."""
    degc = snapshot.modules.temperature_degc
    blind = np.logical_or.reduce(np.logical_and.reduce(np.isnan(degc), axis=2), axis=1)
    shares = []
    for curve in (plant.limits.charge_by_temperature, plant.limits.discharge_by_temperature):
        worst = np.fmin.reduce(share(curve, degc).reshape(len(blind), -1), axis=1)
        shares.append(np.where(blind, np.nan, worst))
    return shares[0], shares[1]


def _string_bounds(
    rated_a: float, by_voltage: Floats, by_temperature: Floats, snapshot: Snapshot, extreme: str, doing: str
) -> list[Bound]:
    """Bounds of every string: its ratings, its extreme cell, its temperatures, and what is not known."""
    bounds = []
    unknown = np.isnan(snapshot.modules.cell_v).reshape(len(by_voltage), -1).sum(axis=1)
    current_a = snapshot.units.current_a
    for string in range(len(by_voltage)):
        bounds.append(Bound(rated_a, f"rated current for {doing}", "ratings", string))
        bounds.append(Bound(float(rated_a * by_voltage[string]), f"voltage of the {extreme} cell", "cell_v", string))
        if np.isnan(by_temperature[string]):
            bounds.append(Bound(0.0, "temperature of a module unknown", "unknown", string))
        else:
            amps = float(rated_a * by_temperature[string])
            bounds.append(Bound(amps, f"temperature for {doing}", "temperature", string))
        if unknown[string]:
            bounds.append(Bound(0.0, f"{int(unknown[string])} cell voltages unknown", "unknown", string))
        if np.isnan(current_a[string]):
            bounds.append(Bound(0.0, "string current unknown", "unknown", string))
    return bounds


def _unreported(plant: Plant, snapshot: Snapshot) -> list[Bound]:
    """Bounds of the strings that have not said lately where their contactors are."""
    silent = ~(snapshot.units.state_age_s <= plant.timing.hold_s + 1e-9)
    return [Bound(0.0, "state of its contactors unknown", "unknown", int(s)) for s in np.flatnonzero(silent)]


def _power_bounds(plant: Plant, amps: Floats, cell: Ints) -> list[Bound]:
    """What the first cell of each string can carry for ten seconds without leaving its data sheet."""
    bounds = []
    for string in range(len(amps)):
        if np.isfinite(amps[string, TEN_SECONDS]):
            module, number = divmod(int(cell[string, TEN_SECONDS]), plant.layout.cells)
            reason = f"power of cell {module + 1}.{number + 1} for 10 s"
            bounds.append(Bound(float(amps[string, TEN_SECONDS]), reason, "power", string))
    return bounds


def _soc_window(reached: Bools, used: bool, reason: str) -> list[Bound]:
    return [Bound(0.0, reason, "soc", int(string)) for string in np.flatnonzero(reached)] if used else []


def _rack(bounds: Iterable[Bound], connected: Bools) -> list[Bound]:
    """Bounds as rack totals: one string's limit times the closed strings, as they share alike for now."""
    count = int(connected.sum())
    whole = [] if count else [Bound(0.0, "no string connected", "contactors")]
    for bound in bounds:
        if bound.string is None:
            whole.append(bound)
        elif connected[bound.string]:
            whole.append(Bound(bound.amps * count, bound.reason, bound.source, bound.string))
    return whole


def _with_ramp(plant: Plant, memory: Direction, bounds: list[Bound], top_a: float, dt_s: float) -> tuple[Bound, ...]:
    """All bounds and the ramp's, tightest first."""
    free_a = tightest(bounds).amps
    settings = plant.limits
    rise_a = memory.limit_a + settings.rise_a_per_s_per_100a * top_a / 100.0 * dt_s
    if free_a > memory.limit_a:
        if memory.limit_a <= 0.0:
            if memory.since_zero_s < settings.hold_after_zero_s:
                bounds = [*bounds, Bound(0.0, "waiting after a stop", "ramp")]
            elif free_a < settings.leave_zero_share * top_a:
                bounds = [*bounds, Bound(0.0, "too little to leave zero", "ramp")]
            else:
                start_a = max(rise_a, settings.leave_zero_share * top_a)
                bounds = [*bounds, Bound(start_a, "rising slowly", "ramp")]
        else:
            bounds = [*bounds, Bound(rise_a, "rising slowly", "ramp")]
    first = tightest(bounds)
    return (first, *sorted((b for b in bounds if b is not first), key=lambda bound: bound.amps))
