from __future__ import annotations

import numpy as np
import pytest

from bmsd.sim.heat import Enclosure, Warmth

ROOM = 25.0
MASS = 5400.0


def warmth(cells: int = 4, enclosure: Enclosure | None = None, transfer: float = 0.8) -> Warmth:
    return Warmth(MASS, np.full((1, 1, cells), transfer), 1.5, ROOM, enclosure)


def run(heat: Warmth, seconds: float, watts: np.ndarray, dt_s: float = 10.0) -> None:
    for _ in range(round(seconds / dt_s)):
        heat.step(dt_s, watts, ROOM)


def test_without_a_way_out_all_heat_stays() -> None:
    heat = warmth(transfer=0.0)
    run(heat, 600.0, np.full((1, 1, 4), 9.0))
    assert heat.cell_degc == pytest.approx(ROOM + 9.0 * 600.0 / MASS)
    assert heat.to_room_j == pytest.approx(0.0, abs=1e-6)


def test_neighbours_share_and_lose_nothing() -> None:
    heat = warmth(transfer=0.0)
    heat.cell_degc[0, 0, 0] = 45.0
    total = heat.cell_degc.sum()
    run(heat, 36000.0, np.zeros((1, 1, 4)), 60.0)
    assert heat.cell_degc.sum() == pytest.approx(total, rel=1e-12)
    assert np.ptp(heat.cell_degc) < 1.0


@pytest.mark.parametrize("dt_s", [1.0, 60.0])
def test_the_steady_air_carries_all_the_heat_to_the_room(dt_s: float) -> None:
    around = Enclosure(fan_w_per_k=0.0)
    heat = Warmth(100.0, np.full((1, 1, 4), 0.8), 1.5, ROOM, around)
    run(heat, 7200.0, np.full((1, 1, 4), 3.0), dt_s)
    assert heat.air_degc[0, 0] == pytest.approx(ROOM + 12.0 / around.leak_w_per_k, abs=0.2)
    assert heat.cell_degc == pytest.approx(heat.air_degc[0, 0] + 3.0 / 0.8, abs=0.2)


def test_the_fan_starts_late_stops_later_and_cools() -> None:
    around = Enclosure(fan_on_degc=35.0, fan_off_degc=32.0)
    heat = warmth(enclosure=around)
    heat.cell_degc[:] = 34.0
    heat.step(1.0, np.zeros((1, 1, 4)), ROOM)
    assert not heat.fan_on[0, 0]
    heat.cell_degc[:] = 36.0
    heat.step(1.0, np.zeros((1, 1, 4)), ROOM)
    assert heat.fan_on[0, 0]
    heat.cell_degc[:] = 33.0
    heat.step(1.0, np.zeros((1, 1, 4)), ROOM)
    assert heat.fan_on[0, 0], "it goes on until it is cooler than where it started"
    lost, kept = warmth(enclosure=around), warmth(enclosure=around)
    lost.fan_lost[:] = True
    for one in (lost, kept):
        one.cell_degc[:] = 40.0
        run(one, 36000.0, np.full((1, 1, 4), 10.0), 60.0)
    assert lost.cell_degc.max() > kept.cell_degc.max() + 3.0


def rise_k_per_min(degc: float) -> float:
    heat = warmth(cells=1, transfer=0.0)
    heat.cell_degc[:] = degc
    heat.step(1.0, np.zeros((1, 1, 1)), ROOM)
    return 60.0 * (heat.cell_degc[0, 0, 0] - degc)


def test_the_exotherm_begins_where_calorimeters_see_it_and_runs_away_above() -> None:
    assert rise_k_per_min(55.0) == 0.0
    assert rise_k_per_min(100.0) == pytest.approx(0.02, rel=0.02)
    assert rise_k_per_min(195.0) == pytest.approx(60.0, rel=0.1)


@pytest.mark.parametrize("dt_s", [2.0, 60.0])
def test_a_runaway_uses_up_its_fuel_and_no_more(dt_s: float) -> None:
    heat = warmth(cells=1, transfer=0.0)
    heat.cell_degc[:] = 150.0
    run(heat, 4.0 * 3600.0, np.zeros((1, 1, 1)), dt_s)
    assert heat.fuel[0, 0, 0] < 0.02
    assert heat.cell_degc[0, 0, 0] == pytest.approx(150.0 + 300.0 * (1.0 - heat.fuel[0, 0, 0]))
    assert heat.exotherm_j == pytest.approx(MASS * 300.0 * (1.0 - heat.fuel[0, 0, 0]))


def test_well_cooled_a_warm_cell_does_not_run_away() -> None:
    heat = warmth(cells=1)
    heat.cell_degc[:] = 110.0
    run(heat, 6.0 * 3600.0, np.zeros((1, 1, 1)))
    assert heat.cell_degc[0, 0, 0] < 40.0
    assert heat.fuel[0, 0, 0] > 0.9
