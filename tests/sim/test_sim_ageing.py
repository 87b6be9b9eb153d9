from __future__ import annotations

import numpy as np
import pytest

from bmsd.sim.ageing import DAY_S, Ageing, AgeingParameters, anode_v, calendar_rate, cycle_rate
from bmsd.sim.cell import CellParameters
from bmsd.sim.cells import Cells

ONE = (1, 1, 1)
ALIKE = AgeingParameters(spread=0.0)


def aged(days: int, soc: float, degc: float, moved_a_day: float = 0.0, parameters: AgeingParameters = ALIKE) -> Ageing:
    ageing = Ageing(ONE, parameters, np.random.default_rng(1))
    for _ in range(days):
        for sign in (1.0, -1.0):
            moved = np.full(ONE, 0.5 * sign * moved_a_day)
            ageing.collect(0.5 * DAY_S, np.full(ONE, soc), np.full(ONE, degc), moved)
        ageing.advance()
    return ageing


def test_the_anode_curve_falls_as_graphite_fills() -> None:
    volts = anode_v(np.linspace(0.0, 1.0, 101))
    assert (np.diff(volts) < 0.0).all()
    assert volts[50] == pytest.approx(0.123, abs=0.01)


@pytest.mark.parametrize(("soc", "degc"), [(0.5, 25.0), (1.0, 25.0), (0.5, 45.0)])
def test_on_the_shelf_the_loss_is_blasts_power_law(soc: float, degc: float) -> None:
    rate = float(calendar_rate(np.array(soc), np.array(degc)))
    assert aged(900, soc, degc).calendar[0, 0, 0] == pytest.approx(rate * 900.0**0.526, rel=1e-9)


def test_heat_and_a_full_cell_age_faster() -> None:
    cool, full, hot = (aged(365, soc, degc).capacity_factor[0, 0, 0] for soc, degc in ((0.5, 25), (1.0, 25), (0.5, 45)))
    assert 0.97 < cool < 0.995
    assert full < cool
    assert hot < cool


def test_cycles_add_their_own_power_law() -> None:
    ageing = aged(400, 0.5, 25.0, moved_a_day=2.0)
    c_rate = 2.0 / 24.0
    rate = float(cycle_rate(np.array(0.0), np.array(c_rate), np.array(25.0)))
    assert ageing.cycling[0, 0, 0] == pytest.approx(rate * 400.0**0.828, rel=1e-6)


def test_changing_conditions_go_on_from_the_loss_reached() -> None:
    first = aged(200, 0.5, 25.0)
    for _ in range(200):
        first.collect(DAY_S, np.full(ONE, 0.5), np.full(ONE, 40.0), np.zeros(ONE))
        first.advance()
    hot_rate = float(calendar_rate(np.array(0.5), np.array(40.0)))
    cool_loss = float(calendar_rate(np.array(0.5), np.array(25.0))) * 200.0**0.526
    equal_days = (cool_loss / hot_rate) ** (1.0 / 0.526)
    assert first.calendar[0, 0, 0] == pytest.approx(hot_rate * (equal_days + 200.0) ** 0.526, rel=1e-9)


def test_resistance_rises_with_the_loss() -> None:
    ageing = aged(900, 1.0, 40.0)
    loss = 1.0 - ageing.capacity_factor
    assert ageing.resistance_factor == pytest.approx(1.0 + 1.18 * loss)


def test_ageing_takes_lithium_not_room_at_the_top() -> None:
    cells = Cells(ONE, CellParameters().alike(), 0.8, 0.0, 45.0, 1, ageing=ALIKE, slow_s=60.0)
    missing_as = cells.capacity_as - cells.charge_as
    on, off = np.ones(1, dtype=np.bool_), np.zeros(ONE, dtype=np.bool_)
    for _ in range(24 * 60):
        cells.step(60.0, np.zeros(1), on, off)
    assert cells.capacity_as[0, 0, 0] < 280.0 * 3600.0 * 0.9995
    assert cells.capacity_as - cells.charge_as == pytest.approx(missing_as, rel=1e-9)


def test_cells_that_start_old_have_less_and_resist_more() -> None:
    old = AgeingParameters(spread=0.0, age_days=1000.0, cycles=2000.0)
    young, worn = (Cells(ONE, CellParameters().alike(), 0.5, 0.0, 25.0, 1, ageing=a) for a in (ALIKE, old))
    assert worn.capacity_as[0, 0, 0] < 0.95 * young.capacity_as[0, 0, 0]
    assert worn.string_ohm[0] > 1.04 * young.string_ohm[0]
    assert worn.soc == pytest.approx(young.soc)
