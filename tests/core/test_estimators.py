"""Resistance, power and capacity against an exact cell, with sigmas that hold the truth."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bmsd.core import memory
from bmsd.core.estimation import capacity, electrical, estimators, power, resistance
from bmsd.core.estimation.power import HORIZONS_S
from bmsd.model.cell import SOC_GRID
from tests import rack

PLANT = rack.plant(cells=4, sensors=1)
MODEL = PLANT.cell.model
TABLES = electrical.tables(MODEL, np.array([25.0]))
ALL = np.array([True])


class Cells:
    """Cells that answer exactly as the model says, each with its resistance over the model's."""

    def __init__(self, soc: float, factors: list[float], capacity_ah: float = 280.0) -> None:
        self.soc, self.factors, self.capacity_ah = np.full(4, soc), np.array(factors), capacity_ah
        self.rc_a, self.h, self.moved_as = np.zeros(3), 0.0, 0.0

    def step(self, amps: float, dt_s: float) -> None:
        keep = np.exp(-dt_s / MODEL.rc_tau_s)
        self.rc_a = keep * self.rc_a + (1.0 - keep) * amps
        self.soc = self.soc + amps * dt_s / 3600.0 / self.capacity_ah
        self.moved_as += amps * dt_s
        stay = np.exp(-MODEL.gamma * abs(amps) * dt_s / 3600.0 / 280.0)
        self.h = stay * self.h + (1.0 - stay) * np.sign(amps)

    def volts(self, amps: float) -> np.ndarray:
        where = electrical.place(self.soc[None, :])
        still = electrical.at(TABLES.mid_v, where)[0] + self.h * electrical.at(TABLES.half_v, where)[0]
        ohm = electrical.at(TABLES.r0_ohm, where)[0]
        return still + self.factors * (amps * ohm + float(TABLES.rc_ohm[0] @ self.rc_a))


def driven(cells: Cells, profile, dt_s: float = 1.0, **known):
    """The estimators over this current; `known` starts them."""
    at, now_s = rack.knowing(PLANT, float(cells.soc[0]), known.get("sigma", 0.01)), 100.0
    estimate = None
    for amps in profile:
        now_s += dt_s
        snap = rack.snapshot(
            PLANT, now_s, cell_v=cells.volts(amps).reshape(1, 1, 4), current_a=amps, charge_as=cells.moved_as
        )
        at, estimate = estimators.step(PLANT, at, snap, dt_s, ALL)
        cells.step(amps, dt_s)
    return at, estimate


def pulses(count: int) -> list[float]:
    return [100.0 if (k // 20) % 2 else -100.0 for k in range(count)]


@pytest.mark.parametrize("soc", [0.03, 0.5, 0.975])
def test_resistance_over_10_s_is_what_a_pulse_out_of_a_rest_measures(soc):
    cells = Cells(soc, [1.0, 1.0, 1.0, 1.0])
    _, estimate = driven(cells, [0.0] * 5)
    rest_v, amps = cells.volts(0.0)[0], 30.0
    for _ in range(10):
        cells.step(amps, 1.0)
    hysteresis_v = cells.h * float(np.interp(cells.soc[0], SOC_GRID, TABLES.half_v[0]))
    measured = (cells.volts(amps)[0] - hysteresis_v - rest_v) / amps
    assert estimate.cell_r10_ohm[0, 0, 0] == pytest.approx(measured, rel=0.03)


def test_the_resistance_of_every_cell_is_found_from_steps_of_the_current():
    factors = [1.0, 1.0, 1.3, 0.9]
    _, estimate = driven(Cells(0.6, factors), pulses(600))
    found, sigma = estimate.cell_resistance_factor[0, 0], estimate.cell_resistance_sigma[0, 0]
    np.testing.assert_allclose(found, factors, atol=0.05)
    assert (np.abs(found - factors) <= 2.0 * sigma + 0.02).all()
    assert (sigma < 0.06).all()
    assert found[2] / np.median(found) == pytest.approx(1.3, abs=0.03)
    r10 = float(TABLES.r0_ohm[0, 120] + TABLES.rc_ohm[0] @ (1.0 - np.exp(-10.0 / MODEL.rc_tau_s)))
    assert estimate.cell_r10_ohm[0, 0, 2] == pytest.approx(1.3 * r10, rel=0.05)
    assert (estimate.cell_r1_ohm < estimate.cell_r10_ohm).all()


def test_without_a_step_of_the_current_the_resistance_stays_the_models_and_unsure():
    _, estimate = driven(Cells(0.6, [2.0] * 4), [-50.0] * 60)
    np.testing.assert_allclose(estimate.cell_resistance_factor, 1.0, atol=0.01)
    assert (estimate.cell_resistance_sigma == resistance.PRIOR_SIGMA).all()


def test_an_unknown_cell_learns_nothing_and_poisons_no_other():
    cells = Cells(0.6, [1.2] * 4)
    at, now_s = rack.knowing(PLANT, 0.6, 0.01), 100.0
    for amps in pulses(400):
        now_s += 1.0
        volts = np.where(np.arange(4) == 1, np.nan, cells.volts(amps))
        snap = rack.snapshot(PLANT, now_s, cell_v=volts.reshape(1, 1, 4), current_a=amps, charge_as=cells.moved_as)
        at, estimate = estimators.step(PLANT, at, snap, 1.0, ALL)
        cells.step(amps, 1.0)
    assert estimate.cell_resistance_factor[0, 0, 0] == pytest.approx(1.2, abs=0.05)
    assert estimate.cell_resistance_factor[0, 0, 1] == pytest.approx(1.0, abs=0.05)
    assert np.isnan(estimate.power_charge_a).all(), "with an unknown cell the power of the string is unknown"


@pytest.mark.parametrize("direction", [1, -1])
@pytest.mark.parametrize("soc", [0.1, 0.5, 0.9])
def test_the_power_for_ten_seconds_ends_at_the_limit_and_never_beyond(soc, direction):
    cells = Cells(soc, [1.0, 1.0, 1.2, 1.0])
    for _ in range(60):
        cells.step(-20.0, 1.0)
    limit_v = 3.65 if direction > 0 else 2.5
    known = power.Cells(
        cells.volts(-20.0).reshape(1, 1, 4), cells.soc.reshape(1, 1, 4), np.full((1, 1, 4), 1e-3),
        cells.factors.reshape(1, 1, 4), np.full((1, 1, 4), 0.01), np.full((1, 1, 4), 280.0), np.zeros(1),
    )  # fmt: skip
    polarised = replace(estimators.start(PLANT).soc.polarisation, rc_a=cells.rc_a[None, :], h=np.array([cells.h]))
    found = power.power(MODEL, TABLES, polarised, np.array([-20.0]), known, limit_v, direction, 1e6)
    amps = direction * float(found.amps[0, HORIZONS_S.index(10.0)])
    assert found.cell[0, 1] == 2, "the cell of the highest resistance ends it"
    for _ in range(100):
        cells.step(amps, 0.1)
    end_v = cells.volts(amps)[2]
    short_v = direction * (limit_v - end_v)
    assert -0.002 <= short_v <= 0.08, "safe, and not far from the limit"


@pytest.mark.parametrize(("soc", "over_v", "direction"), [(0.9, 0.4, 1), (0.1, -1.0, -1)])
def test_a_cell_beyond_its_limit_has_no_power_and_that_is_known(soc, over_v, direction):
    cells = Cells(soc, [1.0] * 4)
    volts = cells.volts(0.0).reshape(1, 1, 4)
    volts[0, 0, 1] += over_v
    known = power.Cells(
        volts, cells.soc.reshape(1, 1, 4), np.full((1, 1, 4), 1e-3), np.ones((1, 1, 4)), np.full((1, 1, 4), 0.01),
        np.full((1, 1, 4), 280.0), np.zeros(1),
    )  # fmt: skip
    polarised = estimators.start(PLANT).soc.polarisation
    limit_v = 3.65 if direction > 0 else 2.5
    found = power.power(MODEL, TABLES, polarised, np.zeros(1), known, limit_v, direction, 1e6)
    assert (found.amps == 0.0).all()
    assert (found.cell == 1).all()


def test_power_falls_with_the_time_it_must_last_and_with_doubt():
    cells = Cells(0.3, [1.0] * 4)
    _, sure = driven(cells, [0.0] * 3)
    assert (np.diff(sure.power_discharge_a[0]) <= 0.0).all()
    assert (sure.power_discharge_a >= 0.0).all()
    _, unsure = driven(Cells(0.3, [1.0] * 4), [0.0] * 3, sigma=0.1)
    assert unsure.power_discharge_a[0, 3] < sure.power_discharge_a[0, 3]


def of_cells(cells: Cells, amps: float, direction: int, limit_v: float, ahead: float = 0.0, **change) -> np.ndarray:
    """Power of cells whose resistance is known to 4 %, by horizon."""
    known = {
        "cell_v": cells.volts(amps), "soc": cells.soc, "sigma": np.full(4, 0.01), "factor": cells.factors,
        "factor_sigma": np.full(4, 0.04), "capacity_ah": np.full(4, 280.0),
    } | change  # fmt: skip
    polarised = replace(estimators.start(PLANT).soc.polarisation, rc_a=cells.rc_a[None, :], h=np.array([cells.h]))
    each = {name: np.asarray(values).reshape(1, 1, 4) for name, values in known.items()}
    given = power.Cells(**each, ahead=np.array([ahead]))
    return power.power(MODEL, TABLES, polarised, np.array([amps]), given, limit_v, direction, 1e6).amps[0]


@pytest.mark.parametrize("direction", [1, -1])
@pytest.mark.parametrize("soc", [0.02, 0.3, 0.6, 0.99])
@pytest.mark.parametrize("before_a", [0.0, 140.0, -140.0])
def test_a_wider_limit_never_allows_less_and_nothing_is_allowed_beyond_it(soc, direction, before_a):
    cells = Cells(soc, [1.0, 1.1, 0.9, 1.0])
    for _ in range(30):
        cells.step(before_a, 1.0)
    limits = np.linspace(2.0, 4.2, 45)[::direction]
    allowed = np.array([of_cells(cells, before_a, direction, limit_v) for limit_v in limits])
    assert (allowed >= 0.0).all()
    pulses = allowed[:, :3]  # the hour is a reserve for planning: at a knee it is searched for roughly, and safely
    assert (np.diff(pulses, axis=0) >= -0.02 * pulses[1:] - 0.5).all()
    rest_v = cells.volts(0.0)
    beyond = (direction * (limits[:, None] - rest_v)).min(axis=1) < -0.2
    assert (allowed[beyond] == 0.0).all()


def test_without_a_current_the_surface_comes_back_to_the_mean_and_the_voltage_with_it():
    ahead, soc = 0.04, 0.94
    volts = float(np.interp(soc + ahead, SOC_GRID, TABLES.mid_v[0]))
    one = np.ones((1, 1, 4))
    known = power.Cells(volts * one, soc * one, 0.0 * one, one, 0.0 * one, 280.0 * one, np.array([ahead]))
    polarised = estimators.start(PLANT).soc.polarisation
    of = power.ahead(MODEL, TABLES, polarised, np.zeros(1), known, 3.65, 1, sigmas=0.0)
    found = power.end_v(of, np.zeros((1, len(HORIZONS_S), 4)))[0, :, 0]
    left = soc + ahead * np.exp(-np.array(HORIZONS_S) / MODEL.diffusion_tau_s)
    np.testing.assert_allclose(found, np.interp(left, SOC_GRID, TABLES.mid_v[0]), atol=1e-4)


@pytest.mark.parametrize(("direction", "soc"), [(1, 0.93), (-1, 0.08)])
def test_a_surface_that_may_be_elsewhere_than_thought_gives_no_power_away(direction, soc):
    """After a load the other way the surface is said to be far from the knee: nobody knows that to better than 40 %."""
    cells = Cells(soc, [1.0] * 4)
    limit_v = 3.65 if direction > 0 else 2.5
    at_mean, behind = (of_cells(cells, 0.0, direction, limit_v, ahead=-direction * a)[2] for a in (0.0, 0.03))
    assert 0.0 < behind <= 1.05 * at_mean


@pytest.mark.parametrize("direction", [1, -1])
@pytest.mark.parametrize("soc", [0.04, 0.08, 0.5])
def test_whatever_of_what_is_believed_is_true_the_power_keeps_the_limit(direction, soc):
    """Near empty the resistance falls steeply: an emptier cell than thought is the worse one for charging, too."""
    steep = replace(TABLES, r0_ohm=TABLES.r0_ohm * (1.0 + 4.0 * np.exp(-SOC_GRID / 0.03)))
    polarised, one = estimators.start(PLANT).soc.polarisation, np.ones((1, 1, 4))
    limit_v = 3.65 if direction > 0 else 2.5
    known = power.Cells(3.2 * one, soc * one, 0.01 * one, one, 0.04 * one, 280.0 * one, np.zeros(1))
    allowed = power.power(MODEL, steep, polarised, np.zeros(1), known, limit_v, direction, 1e6).amps
    for true in np.linspace(soc - 0.02, soc + 0.02, 9):
        exactly = replace(known, soc=true * one, sigma=0.0 * one)
        of = power.ahead(MODEL, steep, polarised, np.zeros(1), exactly, limit_v, direction, sigmas=0.0)
        end_v = power.end_v(of, allowed[:, :, None] * np.ones(4))
        assert (direction * (limit_v - end_v[:, :3]) >= 0.0).all(), "the hour is a reserve for planning"


@pytest.mark.parametrize("name", ["cell_v", "soc", "sigma", "factor", "factor_sigma", "capacity_ah"])
def test_power_of_what_is_not_known_is_not_known(name):
    cells = Cells(0.5, [1.0] * 4)
    change: dict[str, Any] = {name: np.array([1.0, np.nan, 1.0, 1.0])}
    assert np.isnan(of_cells(cells, 0.0, -1, 2.5, **change)).all()


def test_under_a_load_that_goes_on_only_its_growth_is_uncertain():
    """Beside its limit a cell that carries a load keeps most of it, though its resistance is known to 20 % only."""
    cells = Cells(0.5, [1.0] * 4)
    for _ in range(60):
        cells.step(-280.0, 1.0)
    limit_v = float(cells.volts(-280.0).min()) - 0.02
    unsure = of_cells(cells, -280.0, -1, limit_v, factor_sigma=np.full(4, 0.2))
    assert unsure[HORIZONS_S.index(10.0)] > 0.9 * 280.0


def test_a_string_carries_no_more_than_its_ratings():
    _, estimate = driven(Cells(0.5, [1.0] * 4), [0.0] * 3)
    assert estimate.power_charge_a[0, 0] == PLANT.string_charge_max_a
    assert estimate.power_discharge_a[0, 0] == PLANT.string_discharge_max_a


def look(at, soc, sigma: float = 0.012, offset_sigma_a: float = 0.3):
    """A look at cells whose voltage tells what is believed, too."""
    soc = np.broadcast_to(np.asarray(soc, dtype=float), (1, 1, 4))
    return capacity.step(at, soc, soc, np.full((1, 1, 4), sigma), np.array([offset_sigma_a]), 280.0)


def test_capacity_is_found_from_anchored_swings_within_its_sigma():
    random = np.random.default_rng(3)
    truth = np.array([0.92, 0.9, 0.88, 0.91]).reshape(1, 1, 4)
    at, shares, sigmas = capacity.start((1, 1, 4)), [], []
    for swing in range(12):
        low = swing % 2 == 0
        at = look(at, (0.08 if low else 0.97) + 0.010 * random.standard_normal((1, 1, 4)))
        # every cell passes the same charge and so another share of its own capacity
        half = replace(capacity.moved(at, np.array([0.0]), 1.5), moved_ah=at.moved_ah)
        way = (0.97 - 0.08) * (1.0 if low else -1.0) * 280.0 * truth
        at = look(replace(half, moved_ah=half.moved_ah + 0.5 * way), 0.5, 0.3)
        at = replace(at, moved_ah=at.moved_ah + 0.5 * way)
        shares.append(at.share)
        sigmas.append(at.sigma.max())
    assert sigmas[0] > 0.035, "the data sheet alone is not much"
    assert np.abs(shares[3] - truth).mean() < 0.02, "three swings"
    assert np.abs(shares[10] - truth).mean() < 0.01, "ten swings"
    assert sigmas[10] < 0.01
    assert (np.abs(at.share - truth) < 2.5 * at.sigma).all()


def test_in_a_knee_the_best_look_counts_and_not_the_first():
    at = look(capacity.start((1, 1, 4)), 0.97)
    at = look(capacity.moved(at, np.array([-100.0]), 1.0), 0.5, 0.3)
    at = look(capacity.moved(at, np.array([-139.0]), 1.0), 0.13, 0.022)
    at = look(capacity.moved(at, np.array([-13.2]), 1.0), 0.07, 0.010)
    at = look(capacity.moved(at, np.array([5.0]), 1.0), 0.09, 0.014)
    at = look(capacity.moved(at, np.array([100.0]), 1.0), 0.5, 0.3)
    swing = 252.2 / 280.0 / 0.9
    share = (at.product - 0.98 / 0.04**2) / (at.weight - 0.98 / 0.04**2)
    np.testing.assert_allclose(share, swing, rtol=1e-6)
    np.testing.assert_allclose(at.moved_ah, 105.0)


@pytest.mark.parametrize(("soc", "sigma"), [(0.5, 0.01), (0.97, 0.05), (np.nan, 0.01), (0.3, np.nan)])
def test_a_look_that_is_no_anchor_changes_no_capacity(soc, sigma):
    at = look(capacity.start((1, 1, 4)), 0.08)
    at = look(capacity.moved(at, np.array([200.0]), 3.0), 0.5, 0.3)
    after = look(look(at, soc, sigma), 0.5, 0.3)
    np.testing.assert_array_equal(after.share, at.share)
    np.testing.assert_array_equal(after.anchor_soc, at.anchor_soc)


def test_a_swing_that_was_interrupted_tells_no_capacity():
    at = look(capacity.start((1, 1, 4)), 0.97)
    at = look(capacity.moved(at, np.array([-100.0]), 1.0), 0.5, 0.3)
    at = capacity.interrupted(at)
    at = look(capacity.moved(at, np.array([-50.0]), 1.0), 0.08)
    after = look(capacity.moved(at, np.array([120.0]), 1.0), 0.5, 0.3)
    np.testing.assert_array_equal(after.share, 1.0)
    np.testing.assert_array_equal(after.anchor_soc, 0.08)


def test_what_was_learned_survives_a_power_off():
    drive = rack.Drive(PLANT)
    drive.run(2.0, cell_v=3.30)
    at, _ = driven(Cells(0.6, [1.0, 1.0, 1.3, 0.9]), pulses(300))
    drive.memory = replace(drive.memory, estimation=at)
    saved = memory.durable(drive.protections, drive.memory, 1000.0)
    again, notes = memory.restore(PLANT, drive.protections, saved, 4600.0)
    assert notes == []
    known = again.estimation
    np.testing.assert_allclose(known.resistances.factor, at.resistances.factor)
    np.testing.assert_allclose(known.soc.belief.bias_c, at.soc.belief.bias_c, atol=1e-3)
    np.testing.assert_allclose(known.capacity.share, at.capacity.share)
    assert known.soc.polarisation.h[0] == at.soc.polarisation.h[0]


def test_the_time_until_empty_is_that_of_the_first_cell_at_the_mean_current():
    cells = Cells(0.5, [1.0] * 4)
    _, estimate = driven(cells, [-140.0] * 30)
    assert estimate.time_to_empty_s == pytest.approx(0.5 * 280.0 / 140.0 * 3600.0, rel=0.05)
    assert estimate.time_to_full_s is None
    _, rest = driven(Cells(0.5, [1.0] * 4), [0.0] * 5)
    assert (rest.time_to_empty_s, rest.time_to_full_s) == (None, None)
