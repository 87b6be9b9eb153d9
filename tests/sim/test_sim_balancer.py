from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bmsd.sim.balancer import BalancerParameters, Balancers
from bmsd.sim.cell import CellParameters
from bmsd.sim.cells import Cells

SHAPE = (1, 2, 4)
ACTIVE = BalancerParameters(active_a=2.0)


def volts(*rows: tuple[float, ...]) -> np.ndarray:
    return np.array(rows).reshape(1, len(rows), -1)


def test_the_channel_moves_from_the_highest_to_the_lowest_of_its_module() -> None:
    boards = Balancers(SHAPE, ACTIVE, 25.0)
    cell_v = volts((3.45, 3.40, 3.42, 3.41), (3.42, 3.42, 3.421, 3.42))
    moved = boards.moved_a(cell_v)
    assert moved[0, 0].tolist() == pytest.approx([-2.0, 2.0 * 0.85 * 3.45 / 3.40, 0.0, 0.0])
    assert not moved[0, 1].any(), "cells that are equal enough are left alone"


def test_it_keeps_what_its_efficiency_says_and_the_rest_is_heat() -> None:
    boards = Balancers(SHAPE, ACTIVE, 25.0)
    cell_v = volts((3.45, 3.40, 3.42, 3.41), (3.45, 3.40, 3.42, 3.41))
    moved = boards.moved_a(cell_v)
    given = moved * cell_v
    assert given[given > 0].sum() == pytest.approx(0.85 * -given[given < 0].sum())
    boards.step(10.0, cell_v, 0.0, moved, np.full((1, 2), 25.0))
    assert boards.lost_j == pytest.approx(10.0 * 2 * 0.15 * 2.0 * 3.45)


def test_it_starts_at_one_difference_and_stops_at_a_smaller_one() -> None:
    boards = Balancers((1, 1, 2), ACTIVE, 25.0)
    for high_v, acts in ((3.4049, False), (3.4051, True), (3.4021, True), (3.4019, False), (3.4049, False)):
        assert bool(boards.moved_a(volts((high_v, 3.4000))).any()) is acts, high_v


def test_on_the_plateau_it_rests() -> None:
    boards = Balancers((1, 1, 2), ACTIVE, 25.0)
    assert not boards.moved_a(volts((3.39, 3.30))).any()


def test_a_hot_board_lets_go_until_it_has_cooled() -> None:
    boards = Balancers((1, 1, 2), BalancerParameters(board_limit_degc=60.0), 25.0)
    wanted = np.ones((1, 1, 2), dtype=np.bool_)
    air = np.full((1, 1), 40.0)
    cell_v = volts((3.45, 3.45))
    for _ in range(60):
        boards.step(60.0, cell_v, np.full((1, 1), 5.0), np.zeros((1, 1, 2)), air)
    assert boards.board_degc[0, 0] == pytest.approx(40.0 + 5.0 + 6.0 * 5.0, rel=1e-3)
    assert not boards.bleeding(wanted).any()
    for degc, on in ((59.0, False), (56.0, False), (54.0, True)):
        boards.board_degc[:] = degc
        boards.step(1e-6, cell_v, 0.0, np.zeros((1, 1, 2)), air)
        assert boards.bleeding(wanted).all() == on, degc


def test_two_amperes_bring_two_cells_together() -> None:
    parameters = replace(CellParameters.scaled(100.0).alike())
    cells = Cells((1, 1, 2), parameters, 0.99, 0.0, 25.0, 1, slow_s=10.0)
    boards = Balancers((1, 1, 2), ACTIVE, 25.0)
    cells.charge_as[0, 0, 0] += 7200.0
    on, off = np.ones(1, dtype=np.bool_), np.zeros((1, 1, 2), dtype=np.bool_)
    for _ in range(360):
        cells.move(boards.moved_a(cells.cell_v))
        cells.step(10.0, np.zeros(1), on, off)
    assert np.ptp(cells.charge_as) < 0.35 * 7200.0
    assert cells.balancer_j < 0.0


def test_a_soft_short_empties_its_cell_and_warms_it() -> None:
    cells = Cells((1, 1, 2), CellParameters.scaled(100.0).alike(), 0.5, 0.0, 25.0, 1, slow_s=10.0)
    cells.leak(np.array([0.0, 1.0 / 20.0]).reshape(1, 1, 2))
    before = cells.charge_as.copy()
    on, off = np.ones(1, dtype=np.bool_), np.zeros((1, 1, 2), dtype=np.bool_)
    for _ in range(360):
        cells.step(10.0, np.zeros(1), on, off)
    lost = (before - cells.charge_as)[0, 0]
    assert lost[0] == 0.0
    assert lost[1] == pytest.approx(3600.0 * 3.308 / 20.0, rel=0.01)
    assert cells.heat_now_j == pytest.approx(3600.0 * 3.308**2 / 20.0, rel=0.01)


def test_self_discharge_doubles_in_about_ten_kelvin() -> None:
    parameters = replace(CellParameters.scaled(100.0).alike(), self_discharge_per_month=0.02)
    on, off = np.ones(1, dtype=np.bool_), np.zeros((1, 1, 1), dtype=np.bool_)
    lost = []
    for degc in (25.0, 35.0):
        cells = Cells((1, 1, 1), parameters, 0.5, 0.0, degc, 1, slow_s=60.0)
        for _ in range(1440):
            cells.step(60.0, np.zeros(1), on, off)
        lost.append(0.5 - cells.soc[0, 0, 0])
    assert lost[0] == pytest.approx(0.02 / 30.0, rel=5e-3)
    assert 1.8 < lost[1] / lost[0] < 2.1
