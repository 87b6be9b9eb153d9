"""Which current a string can carry for 2 s, 10 s, 30 s and for an hour, and which cell ends it.

Theory of operation. The voltage at the end of a constant current is what is measured now, without what the resistances
take now, with what they will take, and with the rest voltage that the moved charge changes:

    v(t) = v_now - f (i_now R0 + sum Rj xj) + f sum Rj xj aj + f i (R0 + sum Rj (1 - aj))
           + OCV(z + i t / Q + s(t)) - OCV(z + s) + half (1 - e) (direction - h),
    aj = exp(-t / tau_j),  e = exp(-gamma i t / Q),  s: what the surface is ahead by, now and then

solved for the current at which the first cell meets its limit by a few Newton steps between what surely is within it
and what is not, as the rest voltage bends at the knees. Starting from the measured voltage, most of what is wrong with
the model cancels. What is not known is taken at its unfavourable edge: the factor f for the change from the load of now
and the error of the model as far as it may have moved by then, the state of charge (99 %, one-sided; of R0 at both of
its edges the worse one). (After G. Plett, "High-performance battery-pack power estimation using a dynamic cell
model", 2004.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bmsd.core.estimation.electrical import Tables, at, moved_per_c, place
from bmsd.core.estimation.hypotheses import AHEAD_DOUBT
from bmsd.core.estimation.polarisation import Polarisation
from bmsd.model.cell import CellModel
from bmsd.model.snapshot import Floats, Ints

HORIZONS_S = (2.0, 10.0, 30.0, 3600.0)
ONE_SIDED = 2.33
"""Standard deviations that are not exceeded 99 % of the time on one side."""
SIGMA_V = 0.002
"""Of the voltage at the end, where hardly any load is changed: noise, a tick of delay. The error of the model comes on
top as far as it may have moved since the voltage of now."""
LEAST_FACTOR = 0.05
NEWTON_STEPS = 10
AIM_V = 0.0005
"""By so much the steps aim short of the limit, so that they end before it."""
EDGE_SOC = 0.005


@dataclass(frozen=True, slots=True)
class Cells:
    """What is known of the cells: voltage now, SoC and sigma, resistance over the model's and its sigma, capacity; and
    of their strings: SoC by which the surface is ahead of the mean, `ahead`."""

    cell_v: Floats
    soc: Floats
    sigma: Floats
    factor: Floats
    factor_sigma: Floats
    capacity_ah: Floats
    ahead: Floats


@dataclass(frozen=True, slots=True)
class Power:
    """Magnitudes in A (strings, horizons), NaN unknown, and the flat index of the cell in its string that binds."""

    amps: Floats
    cell: Ints


@dataclass(frozen=True, slots=True)
class Ahead:
    """A string's cells from now on in one direction; (strings, horizons, cells) unless said otherwise.

    `base_v`: voltage at the end without any current. `edge` (strings, cells): SoC to reckon with; `surface`: that of
    the particles' surface at the end without any current, `rest_v` its rest voltage. `r0_ohm` (strings, cells): there.
    `ohm`: what a current meets, `at_most` its factor over the model's. `per_a`, `surface_per_a`: SoC moved by one
    ampere. `swing_v`: what hysteresis has left to give.
    """

    tables: Tables
    gamma: float
    direction: int
    base_v: Floats
    edge: Floats
    surface: Floats
    rest_v: Floats
    r0_ohm: Floats
    ohm: Floats
    at_most: Floats
    per_a: Floats
    surface_per_a: Floats
    swing_v: Floats

    def used(self, amps: Floats) -> tuple[Floats, Floats]:
        """Voltage that these magnitudes take by the end, and its slope in V/A."""
        moved = amps * self.per_a
        there = place(self.edge[:, None, :] + self.direction * moved)
        surface = self.surface + self.direction * amps * self.surface_per_a
        stay = np.exp(-self.gamma * moved)
        then_ohm = self.ohm + self.at_most * (at(self.tables.r0_ohm, there) - self.r0_ohm[:, None, :])
        rest_v, steep = _rest(self.tables, surface, self.direction)
        used_v = self.direction * (rest_v - self.rest_v) + amps * then_ohm + self.swing_v * (1.0 - stay)
        slope = steep * self.surface_per_a + self.swing_v * self.gamma * stay * self.per_a
        return used_v, then_ohm + slope


def ahead(
    model: CellModel, tables: Tables, polarised: Polarisation, current_a: Floats, cells: Cells, limit_v: float,
    direction: int, sigmas: float = ONE_SIDED,
) -> Ahead:  # fmt: skip
    """Return what the cells have ahead of them; `sigmas`: how far on the unfavourable side what is not known lies.

    A higher resistance is the worse one for a cell that moves towards `limit_v`, a lower one beyond it: the voltage of
    now is known, and only the change from the load of now is uncertain.
    """
    flat = (cells.cell_v.shape[0], -1)
    cell_v, soc, sigma, factor, factor_sigma, capacity = (
        values.reshape(flat)
        for values in (cells.cell_v, cells.soc, cells.sigma, cells.factor, cells.factor_sigma, cells.capacity_ah)
    )
    t_s = np.array(HORIZONS_S)
    decay = np.exp(-t_s[:, None] / model.rc_tau_s)  # (horizons, pairs)
    edge, other = (np.clip(soc + way * sigmas * sigma, EDGE_SOC, 1.0 - EDGE_SOC) for way in (direction, -direction))
    where = place(edge)
    edge_ohm = at(tables.r0_ohm, where)
    half_v = at(tables.half_v, where)
    left_v = (tables.rc_ohm[:, None, :] * decay * polarised.rc_a[:, None, :]).sum(axis=2)  # (strings, horizons)
    lost_v = (tables.rc_ohm * polarised.rc_a).sum(axis=1)
    rc_ohm = (tables.rc_ohm[:, None, :] * (1.0 - decay)).sum(axis=2)
    towards = np.sign(direction * (limit_v - cell_v))
    worst = np.maximum(factor + towards * sigmas * factor_sigma, LEAST_FACTOR)
    other_ohm = at(tables.r0_ohm, place(other))  # near empty R0 falls steeply: the other edge may be the worse one
    r0 = np.where(towards < 0.0, np.minimum(edge_ohm, other_ohm), np.maximum(edge_ohm, other_ohm))
    still_v = cell_v - worst * (current_a[:, None] * r0 + lost_v[:, None])
    doubt = direction * sigmas * AHEAD_DOUBT * np.abs(cells.ahead)
    keep = np.exp(-t_s / model.diffusion_tau_s)[None, :, None]
    aheads = cells.ahead + doubt, cells.ahead - doubt
    thens = [edge[:, None, :] + by[:, None, None] * keep for by in aheads]
    then_v, less_v = (_rest(tables, then, direction)[0] for then in thens)
    now_v, less_now_v = (_rest(tables, edge + by[:, None], direction)[0][:, None, :] for by in aheads)
    # what the surface comes back by is taken at its unfavourable edge, too: that may be where it is ahead by less
    worse = np.maximum if direction > 0 else np.minimum
    back_v = worse(then_v - now_v, less_v - less_now_v)
    per_a = (t_s / 3600.0)[None, :, None] / capacity[:, None, :]
    surface_per_a = moved_per_c(model, tables, t_s)[:, :, None] / capacity[:, None, :]
    drift = 1.0 - np.exp(-2.0 * t_s / model.error_tau_s)
    sigma_v = np.sqrt(SIGMA_V**2 + drift[None, :, None] * np.square(at(tables.error_v, where))[:, None, :])
    at_most = worst[:, None, :]
    return Ahead(
        tables=tables,
        gamma=model.gamma,
        direction=direction,
        base_v=still_v[:, None, :] + at_most * left_v[:, :, None] + back_v + direction * sigmas * sigma_v,
        edge=edge,
        surface=thens[0],
        rest_v=then_v,
        r0_ohm=edge_ohm,
        ohm=at_most * (r0[:, None, :] + rc_ohm[:, :, None]),
        at_most=at_most,
        per_a=per_a,
        surface_per_a=surface_per_a,
        swing_v=half_v[:, None, :] * (1.0 - direction * polarised.h)[:, None, None],
    )


def _rest(tables: Tables, soc: Floats, direction: int) -> tuple[Floats, Floats]:
    """Rest voltage at this SoC and its slope; beyond the end of the table that is ahead it goes on by the slope there.

    How full a cell is may be unknown: that the table ends does not bind, what is left to the limit does.
    """
    where, end = place(soc), 1.0 if direction > 0 else 0.0
    steep = at(tables.slope_v, where)
    beyond = direction * np.maximum(direction * (soc - end), 0.0)
    return at(tables.mid_v, where) + beyond * steep, steep


def end_v(of: Ahead, amps: Floats) -> Floats:
    """Voltage (strings, horizons, cells) at the end of this current's magnitude: what `power` inverts."""
    return of.base_v + of.direction * of.used(amps)[0]


def power(
    model: CellModel, tables: Tables, polarised: Polarisation, current_a: Floats, cells: Cells, limit_v: float,
    direction: int, most_a: float,
) -> Power:  # fmt: skip
    """Return the current of `direction` (1 charges, -1 discharges) that keeps all cells within `limit_v`."""
    return least(ahead(model, tables, polarised, current_a, cells, limit_v, direction), limit_v, most_a)


def least(of: Ahead, limit_v: float, most_a: float) -> Power:
    """Return the current at which the first cell ends at `limit_v`, and that cell."""
    room_v = of.direction * (limit_v - of.base_v)
    room_soc = 1.0 - of.edge if of.direction > 0 else of.edge
    most = np.minimum(room_soc[:, None, :] / of.per_a, most_a)
    amps = np.minimum(np.maximum(room_v / of.ohm, 0.0), most)
    low, high = np.zeros_like(amps), most
    for _ in range(NEWTON_STEPS):
        used_v, slope = of.used(amps)
        within = used_v <= room_v
        low, high = np.where(within, amps, low), np.where(within, high, amps)
        found = within & ((room_v - used_v <= 2.0 * AIM_V) | (amps == most))
        first = np.where(found, amps, np.inf).min(axis=2, keepdims=True)
        if (found | (low >= first) | np.isnan(used_v) | (room_v <= 0.0)).all():
            amps = np.where(np.isnan(used_v), np.nan, low)
            break
        amps = amps + (room_v - AIM_V - used_v) / slope
        # where a knee misleads the step, the middle of what is left
        amps = np.where((amps > low) & (amps < high), amps, np.where(within & (high == most), most, 0.5 * (low + high)))
    else:
        used_v, _ = of.used(amps)
        amps = np.where(used_v <= room_v, amps, np.where(np.isfinite(used_v), low, np.nan))
    amps = np.where(room_v <= 0.0, 0.0, amps)
    known = np.where(np.isfinite(amps), amps, np.inf)
    cell = known.argmin(axis=2)
    first = np.take_along_axis(amps, cell[:, :, None], axis=2)[:, :, 0]
    return Power(np.where(np.isfinite(amps).all(axis=2), first, np.nan), cell)
