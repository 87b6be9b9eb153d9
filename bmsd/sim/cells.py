"""How all cells of a rack behave together: charge, relaxation, hysteresis, voltage, heat and age, array by array.

Theory of operation. v = E + R0 i, E = OCV(z) + U_T(z) (T - 25) + h half(z) + sum R_j x_j, current positive when
charging. z is the charge over the capacity, an exact sum of i dt, never clipped. x_j follow the current with the time
constants tau_j, exactly for a current that is constant over the step. The hysteresis state h runs from -1 (discharge
branch) to +1 (charge branch) with the charge passed: h <- e h + (1 - e) sgn(i), e = exp(-gamma |i| dt / Q), standing
still below C/200.

Where a cell has diffusion parameters the rest voltage is that of the surface of its particles, which is ahead of their
mean by states that follow the current like x_j: the drop then grows where the curve is steep, as of a single particle.

Every update is an exponential, so that a step may be long. What couples strings is their current: a string is offered
to the circuit as `thevenin`, the voltage and resistance that it will show at the end of the step, linear in the
current of the step (relaxation and slope of the rest voltage included). Solving the circuit with those is implicit:
stable for any step, also on the steep ends where a step moves the rest voltage by more than R0 i.

Heat is what the current does against the equilibrium, i (v - OCV), and the reversible part i T dU/dT (Bernardi). What
changes slowly (temperature, resistances, hysteresis gap, entropic voltage, self-discharge) is renewed every `slow_s`;
a hot cell makes that every step. Age is renewed every hour of simulated time.
"""

from __future__ import annotations

import numpy as np

from bmsd.model.snapshot import Bools, Floats
from bmsd.sim.ageing import Ageing, AgeingParameters
from bmsd.sim.cell import GRID_LOW, GRID_SIZE, GRID_STEP, CellParameters, Curves
from bmsd.sim.heat import EXOTHERM_DEGC, KELVIN, Enclosure, Warmth

FROZEN_C_RATE = 1.0 / 200.0
MONTH_S = 30.0 * 86400.0
_AGE_PERIOD_S = 3600.0


class Cells:
    """All cells of a rack; arrays (strings, modules, cells). Strings are in parallel, the rest in series."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        parameters: CellParameters,
        soc0_mean: float | Floats,
        soc0_spread: float,
        ambient_degc: float,
        seed: int,
        *,
        capacity_ah: float | Floats | None = None,
        enclosure: Enclosure | None = None,
        ageing: AgeingParameters | None = None,
        slow_s: float = 0.5,
    ) -> None:
        """`soc0_mean` and `capacity_ah` (default: the parameters') may be given by string, (strings, 1, 1)."""
        draw = np.random.default_rng(seed)
        self.parameters = p = parameters
        self.ambient_degc = ambient_degc
        mean_as = 3600.0 * np.asarray(p.capacity_ah if capacity_ah is None else capacity_ah)
        self.capacity_as: Floats = mean_as * _scattered(draw, shape, p.capacity_spread)
        self._size = _scattered(draw, shape, p.resistance_spread) * p.capacity_ah * 3600.0 / mean_as
        soc0 = soc0_mean + soc0_spread * draw.standard_normal(shape)
        self._self_discharge_25 = (
            self.capacity_as * (p.self_discharge_per_month / MONTH_S) * _scattered(draw, shape, p.self_discharge_spread)
        )
        transfer = p.heat_transfer_w_per_k * _scattered(draw, shape, p.heat_transfer_spread)
        self.warmth = Warmth(p.heat_capacity_j_per_k, transfer, p.neighbour_w_per_k, ambient_degc, enclosure)
        self.ageing = None if ageing is None else Ageing(shape, ageing, draw)
        if self.ageing is not None:
            self.capacity_as = self.capacity_as * self.ageing.capacity_factor
        self.charge_as: Floats = soc0 * self.capacity_as
        self._curves = Curves(p)
        self._slow_s = slow_s
        self._rest(shape)

    def _rest(self, shape: tuple[int, int, int]) -> None:
        """Start at rest: nothing flows, nothing leaks, no heat and no work so far."""
        p = self.parameters
        self.heat_w = np.zeros(shape)
        """Heat from outside, W: a heater, a mishap."""
        self.leak_s = np.zeros(shape)
        """Conductance of soft shorts inside, S; set by `leak`."""
        self._leaks = False
        self.moved_a = np.zeros(shape)
        """Current that active balancers put into the cells, A, negative takes; set by `move`."""
        self.hysteresis = np.zeros(shape)
        self.heat_j = 0.0
        """Heat of all cells from currents so far, J: losses, reversible heat, self-discharge, soft shorts."""
        self.chemical_j = 0.0
        """What the cells have taken in as chemical energy up to the last renewal, J; up to now: `chemical_now_j`."""
        self.bled_j = 0.0
        """What bleeders have turned into heat so far, J."""
        self.balancer_j = 0.0
        """What balancers have put into the cells so far, J; negative: taken, and lost in them."""
        self._discharges_itself = p.self_discharge_per_month > 0.0
        self._moves = False
        self._slow_since_s = 0.0
        self._age_since_s = 0.0
        self._work_j = np.zeros(shape)
        self._relaxed_v = np.zeros((len(p.rc_ohm), *shape))
        self._ahead = np.zeros((len(p.diffusion_tau_s), *shape))
        self._ones = np.ones(shape[1] * shape[2])
        self._settle()

    def make_alike(self) -> None:
        """Give every string the cells of the first one, for comparing what else is different."""
        for values in (self.capacity_as, self._size, self.charge_as, self._self_discharge_25):
            values[:] = values[:1]
        self.warmth.make_alike()
        if self.ageing is not None:
            self.ageing.make_alike()
        self._settle()

    def _settle(self) -> None:
        """Bring everything that follows from capacity, charge and temperature up to now, without current."""
        self._charge_slow = self.charge_as.copy()
        self._set_capacity()
        self._set_slow()
        self._set_voltages()
        self._mid_slow_v = self._mid_v
        self.cell_v: Floats = self.emf_v.copy()
        self._dt_s = -1.0

    @property
    def soc(self) -> Floats:
        """True state of charge, 0..1 and beyond when abused."""
        return self.charge_as / self.capacity_as

    @property
    def temperature_degc(self) -> Floats:
        """Temperature of every cell, degC."""
        return self.warmth.cell_degc

    @property
    def heat_now_j(self) -> float:
        """Heat of all cells from currents up to now, J: with what waits to be put into their temperatures."""
        return self.heat_j + float(self._work_j.sum())

    @property
    def chemical_now_j(self) -> float:
        """Chemical energy taken in up to now, J: the rest voltage over the charge."""
        return self.chemical_j + self._taken_j()

    def _taken_j(self) -> float:
        """Chemical energy taken in since the last renewal, J: charge times the mean of rest voltages then and now."""
        return 0.5 * float(np.vdot(self.charge_as - self._charge_slow, self._mid_slow_v + self._mid_v))

    @property
    def string_emf_v(self) -> Floats:
        """Voltage behind the ohmic resistance, (strings,)."""
        return self._string_emf_v

    @property
    def string_ohm(self) -> Floats:
        """Ohmic resistance of the cells in series, (strings,)."""
        return self._string_ohm

    def thevenin(self, dt_s: float) -> tuple[Floats, Floats]:
        """Return voltage (V) and resistance (ohm) of every string at the end of a step of constant current."""
        if dt_s != self._dt_s:
            self._new_step(dt_s)
        emf_v = self._string_emf_v - self._decay @ self._of_strings(self._relaxed_v)
        slope_v = self._of_strings(self._slope_v)
        if len(self._ahead):
            falls = (self._ahead_decay * self._ahead).sum(axis=0)
            emf_v -= self._of_strings(falls * self._slope_v)
        return emf_v, self._step_ohm + slope_v * self._slope_ohm

    def step(self, dt_s: float, string_a: Floats, plus_closed: Bools, bleeding: Bools) -> Floats:
        """Let `string_a` (strings,) flow for `dt_s`; return the current that flowed: the same.

        `bleeding` (strings, modules, cells): bleeders that conduct. `plus_closed` is of no concern to cells.
        """
        del plus_closed
        if dt_s != self._dt_s:
            self._new_step(dt_s)
        leak_a, bleed_a, drain_a = self._drains(bleeding)
        current_a = string_a[:, None, None] - drain_a
        lost_as = self._charge(current_a, dt_s)
        self._relax(current_a)
        self._move_hysteresis(current_a)
        mid_before_v, over_before_v, before_v = self._mid_v, self._over_v, self.cell_v
        self._set_voltages()
        drop_v = self._r0 * current_a
        self.cell_v = self.emf_v + drop_v
        if lost_as is not None:
            self._work_j += lost_as * (0.5 * (mid_before_v + self._mid_v))
        if leak_a is not None or bleed_a is not None or self._moves:
            self._book(dt_s, 0.5 * (before_v + self.cell_v), leak_a, bleed_a)
        drop_v += 0.5 * (over_before_v + self._over_v)
        drop_v *= current_a
        drop_v *= dt_s
        self._work_j += drop_v
        self._slow_since_s += dt_s
        if self._slow_since_s >= self._slow_s - 1e-9 or self._hottest_degc > EXOTHERM_DEGC:
            self._renew()
        return string_a

    def warm(self, k_per_s: Floats) -> None:
        """Let cells heat themselves from inside, K/s each, until told otherwise."""
        self.heat_w = k_per_s * self.parameters.heat_capacity_j_per_k

    def leak(self, conductance_s: Floats) -> None:
        """Let cells leak inside through these conductances, S each, until told otherwise."""
        self.leak_s, self._leaks = conductance_s, bool(conductance_s.any())

    def move(self, amps: Floats) -> None:
        """Let active balancers put these currents into the cells, A each, negative takes, until told otherwise."""
        moves = bool(amps.any())
        if moves or self._moves:
            self.moved_a, self._moves = amps, moves
            self._steady_a = self._self_a - self.moved_a

    def _of_strings(self, values: Floats) -> Floats:
        """Sum over the cells of each string; leading axes stay."""
        total: Floats = values.reshape(*values.shape[:-2], -1) @ self._ones
        return total

    # what a step needs of its length and of the slow quantities

    def _new_step(self, dt_s: float) -> None:
        tau_s = np.array(self.parameters.rc_tau_s)
        self._dt_s = dt_s
        self._decay = -np.expm1(-dt_s / tau_s)
        self._set_step()

    def _set_step(self) -> None:
        """Products of the step's length with what is renewed slowly."""
        p = self.parameters
        ohm = np.array(p.rc_ohm) * self._decay
        self._rc_gain = ohm[:, None, None, None] * self._rc_factor
        self._rc_decay = self._decay[:, None, None, None]
        self._step_ohm = self._string_ohm + self._of_strings(self._rc_gain).sum(axis=0)
        per_amp = self._dt_s
        if len(self._ahead):
            self._ahead_decay = -np.expm1(-self._dt_s / np.array(p.diffusion_tau_s))[:, None, None, None]
            leads_s = 3600.0 * np.array(p.diffusion_soc_per_c)[:, None, None, None] * self._ahead_decay
            self._ahead_gain = leads_s * self._to_grid
            per_amp += float(leads_s.sum())
        self._slope_ohm = per_amp / (GRID_STEP * self.capacity_as.mean(axis=(1, 2)))
        self._hysteresis_rate = -p.hysteresis_gamma * self._dt_s / self.capacity_as

    def _set_capacity(self) -> None:
        self._to_grid = 1.0 / (self.capacity_as * GRID_STEP)
        self._frozen_a = FROZEN_C_RATE / 3600.0 * self.capacity_as

    def _set_slow(self) -> None:
        """Resistances, hysteresis gap, entropic voltage and self-discharge at the present temperatures."""
        p, curves = self.parameters, self._curves
        degc, soc = self.warmth.cell_degc, self.soc
        self._hottest_degc = float(degc.max())
        warm = 1.0 / (degc + KELVIN) - 1.0 / (25.0 + KELVIN)
        aged = self._size if self.ageing is None else self._size * self.ageing.resistance_factor
        factor = np.exp(p.activation_k * warm)
        self._r0 = p.r0_ohm * aged * factor * curves.nearest(curves.r0_factor, soc)
        same = p.rc_activation_k == p.activation_k
        self._rc_factor = aged * (factor if same else np.exp(p.rc_activation_k * warm))
        self._string_ohm = self._of_strings(self._r0)
        self._half_v = curves.nearest(curves.half_v, soc)
        self._entropy = curves.nearest(curves.entropy_v_per_k, soc)
        self._entropy_v = self._entropy * (degc - 25.0)
        if self._discharges_itself:
            self._self_a = self._self_discharge_25 * np.exp(-p.self_discharge_activation_k * warm)
        else:
            self._self_a = np.zeros(degc.shape)
        self._steady_a = self._self_a - self.moved_a

    # one step

    def _drains(self, bleeding: Bools) -> tuple[Floats | None, Floats | None, Floats]:
        """Current through soft shorts, through bleeders (None: none), and all that leaves beside the string's, A."""
        leak_a = bleed_a = None
        drain_a = self._steady_a
        if self._leaks:
            leak_a = self.cell_v * self.leak_s
            drain_a = drain_a + leak_a
        if bleeding.any():
            bleed_a = np.where(bleeding, self.cell_v / self.parameters.bleeder_ohm, 0.0)
            drain_a = drain_a + bleed_a
        return leak_a, bleed_a, drain_a

    def _book(self, dt_s: float, mean_v: Floats, leak_a: Floats | None, bleed_a: Floats | None) -> None:
        """Where the energy of a step's drains went, at the mean voltage of the step."""
        if leak_a is not None:
            self._work_j += leak_a * mean_v * dt_s
        if bleed_a is not None:
            self.bled_j += dt_s * float(np.vdot(bleed_a, mean_v))
        if self._moves:
            self.balancer_j += dt_s * float(np.vdot(self.moved_a, mean_v))

    def _charge(self, current_a: Floats, dt_s: float) -> Floats | None:
        """Move the charge; return what of it was lost in charging, As; None: nothing."""
        self.charge_as += current_a * dt_s
        lost = 1.0 - self.parameters.coulombic_efficiency
        if not lost > 0.0:
            return None
        lost_as = np.maximum(current_a, 0.0) * (lost * dt_s)
        self.charge_as -= lost_as
        return lost_as

    def _relax(self, current_a: Floats) -> None:
        self._relaxed_v += self._rc_gain * current_a - self._rc_decay * self._relaxed_v
        if len(self._ahead):
            self._ahead += self._ahead_gain * current_a - self._ahead_decay * self._ahead

    def _move_hysteresis(self, current_a: Floats) -> None:
        size = np.abs(current_a)
        size *= size >= self._frozen_a
        change = np.exp(self._hysteresis_rate * size)
        goal = np.sign(current_a)
        self.hysteresis -= goal
        self.hysteresis *= change
        self.hysteresis += goal

    def _set_voltages(self) -> None:
        """Equilibrium voltage, what is over it, and their sum, at the present charge."""
        position = self.charge_as * self._to_grid
        position -= GRID_LOW / GRID_STEP
        over_v = self.hysteresis * self._half_v
        for relaxed_v in self._relaxed_v:
            over_v += relaxed_v
        if len(self._ahead):
            surface = position + self._ahead.sum(axis=0)
            mid_v, _ = self._look_up(position)
            surface_v, self._slope_v = self._look_up(surface)
            over_v += surface_v - mid_v
        else:
            mid_v, self._slope_v = self._look_up(position)
        mid_v += self._entropy_v
        self._mid_v, self._over_v = mid_v, over_v
        self._set_emf(mid_v + over_v)

    def _set_emf(self, emf_v: Floats) -> None:
        self.emf_v = emf_v
        self._string_emf_v = self._of_strings(emf_v)

    def _look_up(self, position: Floats) -> tuple[Floats, Floats]:
        """Rest voltage at a place on the grid, and its rise from one grid point to the next; `position` is used up."""
        index = position.astype(np.int64)
        np.maximum(index, 0, out=index)
        np.minimum(index, GRID_SIZE - 2, out=index)
        slope_v = self._curves.slope_v.take(index)
        position -= index
        position *= slope_v
        position += self._curves.mid_v.take(index)
        return position, slope_v

    # what is renewed slowly

    def _renew(self) -> None:
        """Bring temperatures, what follows from them, and age up to now."""
        dt_s, warmth = self._slow_since_s, self.warmth
        flowed_as = self.charge_as - self._charge_slow
        reversible_j = flowed_as * self._entropy * (warmth.cell_degc + KELVIN)
        self._work_j += reversible_j
        self._work_j += self._self_a * self.cell_v * dt_s
        self.chemical_j += self._taken_j() - float(reversible_j.sum())
        self.heat_j += float(self._work_j.sum())
        warmth.step(dt_s, self._work_j / dt_s + self.heat_w, self.ambient_degc)
        if self.ageing is not None:
            self._age(dt_s, flowed_as)
        self._work_j[:] = 0.0
        np.copyto(self._charge_slow, self.charge_as)
        self._slow_since_s = 0.0
        before_v = self._entropy_v
        self._set_slow()
        # the equilibrium moved with the temperature: the voltages of now belong to it
        shift_v = self._entropy_v - before_v
        self._mid_v = self._mid_v + shift_v
        self._mid_slow_v = self._mid_v
        self._set_emf(self.emf_v + shift_v)
        self._set_step()

    def _age(self, dt_s: float, flowed_as: Floats) -> None:
        assert self.ageing is not None
        self.ageing.collect(dt_s, self.soc, self.warmth.cell_degc, flowed_as / self.capacity_as)
        self._age_since_s += dt_s
        if self._age_since_s < _AGE_PERIOD_S - 1e-9:
            return
        self._age_since_s = 0.0
        lost_as = self.capacity_as * self.ageing.advance()
        # lithium is lost from what the anode holds: the charge that is missing to full stays
        self.capacity_as = self.capacity_as - lost_as
        self.charge_as -= lost_as
        self._set_capacity()


def _scattered(draw: np.random.Generator, shape: tuple[int, int, int], spread: float) -> Floats:
    """Return factors around 1 with this relative standard deviation, never below a fifth."""
    return np.maximum(1.0 + spread * draw.standard_normal(shape), 0.2)
