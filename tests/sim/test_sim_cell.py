from __future__ import annotations

import time

import numpy as np
import pytest

from bmsd.sim.cell import CellParameters, half_gap_v, ocv_v
from bmsd.sim.cells import Cells

ONE = (1, 1, 1)
ALIKE = CellParameters.scaled(100.0, capacity_spread=0.0, resistance_spread=0.0)


def cells_at(soc: float, parameters: CellParameters = ALIKE, shape: tuple[int, int, int] = ONE) -> Cells:
    return Cells(shape, parameters, soc, 0.0, 25.0, seed=1)


def flow(cells: Cells, seconds: float, amps: float, dt_s: float = 1.0, bleeding: bool = False) -> None:
    strings = cells.charge_as.shape[0]
    bleeders = np.full(cells.charge_as.shape, bleeding)
    for _ in range(round(seconds / dt_s)):
        cells.step(dt_s, np.full(strings, amps), np.ones(strings, dtype=np.bool_), bleeders)


def test_a_rested_cell_shows_the_published_rest_voltage() -> None:
    soc = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95])
    mid_v = [3.183, 3.245, 3.280, 3.302, 3.308, 3.317, 3.330, 3.345, 3.352, 3.367]
    assert ocv_v(soc) == pytest.approx(mid_v, abs=5e-4)
    assert cells_at(0.5).cell_v[0, 0, 0] == pytest.approx(3.308, abs=1e-3)


def test_the_rest_voltage_rises_everywhere_also_outside_0_to_1() -> None:
    soc = np.linspace(-0.2, 1.2, 2001)
    assert (np.diff(ocv_v(soc)) > 0.0).all()
    assert ocv_v(np.array([1.03]))[0] > 3.75
    assert ocv_v(np.array([-0.02]))[0] < 2.4


def test_charge_is_conserved_exactly() -> None:
    cells = Cells((2, 3, 4), CellParameters.scaled(100.0), 0.5, 0.01, 25.0, seed=3)
    before = cells.charge_as.copy()
    off = np.zeros((2, 3, 4), dtype=np.bool_)
    draw = np.random.default_rng(5)
    total = np.zeros(2)
    for amps in draw.uniform(-100.0, 100.0, (2000, 2)):
        cells.step(0.01, amps, np.ones(2, dtype=np.bool_), off)
        total += amps * 0.01
    assert cells.charge_as - before == pytest.approx(np.broadcast_to(total[:, None, None], (2, 3, 4)), abs=1e-6)


def test_an_hour_at_1c_is_one_capacity() -> None:
    cells = cells_at(0.0)
    flow(cells, 3600.0, 100.0)
    assert cells.soc[0, 0, 0] == pytest.approx(1.0, abs=1e-9)


def test_the_first_answer_to_a_current_step_is_the_ohmic_one() -> None:
    cells = cells_at(0.5)
    before = cells.cell_v[0, 0, 0]
    flow(cells, 0.001, 50.0, dt_s=0.001)
    assert cells.cell_v[0, 0, 0] - before == pytest.approx(50.0 * ALIKE.r0_ohm, rel=1e-2)


def test_relaxation_follows_the_two_time_constants() -> None:
    parameters = CellParameters(
        capacity_ah=100.0,
        capacity_spread=0.0,
        resistance_spread=0.0,
        rc_ohm=(1e-3, 2e-3),
        rc_activation_k=0.0,
        entropy_v_per_k=(0.0,) * 11,
    )
    cells = cells_at(0.5, parameters)
    flow(cells, 3600.0, 0.4)  # below C/200: the hysteresis stands still, SoC moves 0.4 %
    loaded = cells.emf_v[0, 0, 0] - ocv_v(cells.soc)[0, 0, 0]
    x2 = 1.0 - np.exp(-3600.0 / parameters.rc_tau_s[1])
    assert loaded == pytest.approx(0.4 * (1e-3 + 2e-3 * x2), rel=1e-6)
    flow(cells, 30.0, 0.0)
    left = 0.4 * (1e-3 * np.exp(-30.0 / parameters.rc_tau_s[0]) + 2e-3 * x2 * np.exp(-30.0 / parameters.rc_tau_s[1]))
    assert cells.emf_v[0, 0, 0] - ocv_v(cells.soc)[0, 0, 0] == pytest.approx(left, rel=1e-6)


def test_relaxation_does_not_depend_on_the_step() -> None:
    fine, coarse = cells_at(0.5), cells_at(0.5)
    flow(fine, 60.0, 50.0, dt_s=0.01)
    flow(coarse, 60.0, 50.0, dt_s=1.0)
    assert fine.cell_v == pytest.approx(coarse.cell_v, abs=2e-6)


def test_after_charging_and_after_discharging_a_rested_cell_keeps_the_branch() -> None:
    up, down = cells_at(0.4), cells_at(0.6)
    flow(up, 720.0, 50.0)
    flow(down, 720.0, -50.0)
    for cells in (up, down):
        flow(cells, 7200.0, 0.0)
    assert up.soc == pytest.approx(down.soc)
    gap = up.cell_v[0, 0, 0] - down.cell_v[0, 0, 0]
    assert gap == pytest.approx(2.0 * half_gap_v(up.soc)[0, 0, 0], rel=0.05)


def test_a_current_below_c200_does_not_move_the_hysteresis() -> None:
    cells = cells_at(0.5)
    flow(cells, 600.0, 0.49)
    assert cells.hysteresis[0, 0, 0] == 0.0
    flow(cells, 600.0, 0.51)
    assert cells.hysteresis[0, 0, 0] > 0.0


def test_a_bleeder_takes_a_tenth_of_an_ampere() -> None:
    cells = cells_at(0.5)
    before = cells.charge_as[0, 0, 0]
    flow(cells, 100.0, 0.0, bleeding=True)
    assert (before - cells.charge_as[0, 0, 0]) / 100.0 == pytest.approx(3.308 / 33.0, rel=2e-3)


def test_a_loaded_cell_warms_to_its_steady_temperature() -> None:
    ohmic = CellParameters(
        capacity_ah=100.0,
        r0_ohm=0.7e-3,
        rc_ohm=(0.0, 0.0),
        entropy_v_per_k=(0.0,) * 11,
        hysteresis_gamma=0.0,
        activation_k=0.0,
        capacity_spread=0.0,
        resistance_spread=0.0,
    )
    cells = cells_at(0.25, ohmic)
    for _ in range(40):  # 1C back and forth, so that the charge stays
        flow(cells, 900.0, 100.0, dt_s=10.0)
        flow(cells, 900.0, -100.0, dt_s=10.0)
    steady_k = 100.0**2 * ohmic.r0_ohm / ohmic.heat_transfer_w_per_k
    assert cells.temperature_degc[0, 0, 0] - 25.0 == pytest.approx(steady_k, rel=0.01)


def test_a_heated_cell_rises_at_the_asked_rate_and_warms_its_neighbours() -> None:
    cells = cells_at(0.5, shape=(1, 1, 3))
    rate = np.zeros((1, 1, 3))
    rate[0, 0, 0] = 1.0 / 60.0
    cells.warm(rate)
    flow(cells, 60.0, 0.0)
    degc = cells.temperature_degc[0, 0]
    assert degc[0] == pytest.approx(26.0, abs=0.05)
    assert degc[0] > degc[1] > degc[2] >= 25.0


def test_cold_cells_have_more_resistance() -> None:
    cold, warm = Cells(ONE, ALIKE, 0.5, 0.0, 0.0, 1), cells_at(0.5)
    assert cold.string_ohm[0] > 1.5 * warm.string_ohm[0]


def test_the_seed_sets_the_scatter() -> None:
    one, same, other = (Cells((1, 2, 8), CellParameters(), 0.5, 0.01, 25.0, seed) for seed in (1, 1, 2))
    assert (one.soc == same.soc).all()
    assert (one.capacity_as == same.capacity_as).all()
    assert not (one.soc == other.soc).any()
    assert 0.003 < one.soc.std() < 0.03


def test_512_cells_step_well_under_half_a_millisecond() -> None:
    cells = Cells((2, 16, 16), CellParameters(), 0.5, 0.01, 25.0, 1)
    amps, closed, off = np.full(2, 50.0), np.ones(2, dtype=np.bool_), np.zeros((2, 16, 16), dtype=np.bool_)
    best_s = np.inf
    for _ in range(20):
        begin_s = time.perf_counter()
        for _ in range(20):
            cells.step(0.005, amps, closed, off)
        best_s = min(best_s, (time.perf_counter() - begin_s) / 20)
    assert best_s < 0.5e-3
