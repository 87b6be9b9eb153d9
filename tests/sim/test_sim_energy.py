from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bmsd.sim.cell import CellParameters, ocv_v
from bmsd.sim.cells import Cells
from bmsd.sim.heat import Enclosure
from bmsd.sim.rack import BusParameters, Rack

SHAPE = (2, 1, 8)
NO_ENTROPY = (0.0,) * 11
PARAMETERS = replace(CellParameters.scaled(100.0, 0.02, 0.1), self_discharge_per_month=0.02, self_discharge_spread=0.3)


def closed_rack(parameters: CellParameters = PARAMETERS, enclosure: Enclosure | None = None) -> Rack:
    cells = Cells(SHAPE, parameters, 0.6, 0.02, 25.0, seed=4, enclosure=enclosure, slow_s=10.0)
    rack = Rack(cells, BusParameters(), np.array([0.8e-3, 3e-3]))
    rack.contactors.coil[:] = rack.contactors.closed[:] = True
    rack.bus_v = float(cells.string_emf_v.mean())
    return rack


def stored_j(cells: Cells) -> float:
    """Integral of the rest voltage over the charge, by the trapezoids of a fine grid; without entropy."""
    total = 0.0
    for soc, capacity_as in zip(cells.soc.ravel(), cells.capacity_as.ravel(), strict=True):
        grid = np.linspace(0.0, soc, 20001)
        total += capacity_as * float(np.trapezoid(ocv_v(grid), grid))
    return total


def cycle(rack: Rack, dt_s: float, amps: float = 60.0) -> tuple[float, float]:
    """Charge and discharge; return what went in at the cells' terminals, and all that moved, J."""
    cells = rack.cells
    assert isinstance(cells, Cells)
    off = np.zeros(SHAPE, dtype=np.bool_)
    bleeding = off.copy()
    bleeding[:, :, :2] = True
    net = moved = 0.0
    for inverter_a in (amps, -amps, 0.0, 1.5 * amps, -1.5 * amps, 0.0):
        before_v = None
        for _ in range(round(1800.0 / dt_s)):
            rack.step(dt_s, inverter_a, 0.0, bleeding)
            string_v = cells.cell_v.sum(axis=(1, 2))
            # with a constant current the mean voltage of a step is that of its ends
            mean_v = string_v if before_v is None else 0.5 * (before_v + string_v)
            work_j = float(rack.string_a @ mean_v) * dt_s
            net, moved, before_v = net + work_j, moved + abs(work_j), string_v
    return net, moved


@pytest.mark.parametrize("dt_s", [1.0, 10.0, 60.0])
def test_what_goes_in_is_stored_or_becomes_heat_to_a_thousandth(dt_s: float) -> None:
    parameters = replace(PARAMETERS, entropy_v_per_k=NO_ENTROPY)
    rack = closed_rack(parameters)
    cells = rack.cells
    assert isinstance(cells, Cells)
    before_j = stored_j(cells)
    net_j, moved_j = cycle(rack, dt_s)
    found_j = stored_j(cells) - before_j + cells.heat_now_j + cells.bled_j
    assert abs(net_j - found_j) < 1e-3 * moved_j
    assert cells.heat_now_j > 0.01 * moved_j
    assert cells.bled_j > 1e-4 * moved_j


@pytest.mark.parametrize("enclosure", [None, Enclosure(fan_on_degc=26.0, fan_off_degc=25.5)])
def test_the_heat_of_the_cells_is_in_the_cells_the_air_or_the_room(enclosure: Enclosure | None) -> None:
    rack = closed_rack(enclosure=enclosure)
    cells = rack.cells
    assert isinstance(cells, Cells)
    before_j = cells.warmth.stored_j
    cycle(rack, 10.0)
    gained_j = cells.warmth.stored_j - before_j
    assert gained_j + cells.warmth.to_room_j == pytest.approx(cells.heat_j, rel=1e-9)
    assert cells.warmth.to_room_j > 0.1 * cells.heat_j


def test_the_inverters_energy_is_that_of_strings_and_cables() -> None:
    rack = closed_rack()
    cells = rack.cells
    assert isinstance(cells, Cells)
    off = np.zeros(SHAPE, dtype=np.bool_)
    given_j = before_j = 0.5 * rack.bus.capacitance_f * rack.bus_v**2
    for _ in range(3600):
        rack.step(1.0, 50.0, 0.0, off)
        given_j += 50.0 * rack.mean_v
    after_j = 0.5 * rack.bus.capacitance_f * rack.bus_v**2
    assert given_j - before_j > 0.0
    found_j = cells.chemical_now_j + cells.heat_now_j + rack.path_j + after_j
    assert given_j == pytest.approx(found_j, rel=1e-3)


def test_entropy_cools_and_warms_without_a_trace_at_one_temperature() -> None:
    """Around a slow cycle at constant temperature the reversible heat is zero."""
    parameters = replace(
        PARAMETERS, r0_ohm=1e-9, rc_ohm=(1e-9,), rc_tau_s=(1.0,), gap_v=(0.0,) * 10, self_discharge_per_month=0.0,
        heat_capacity_j_per_k=1e12, capacity_spread=0.0,
    )  # fmt: skip
    cells = Cells((1, 1, 1), parameters, 0.5, 0.0, 25.0, seed=1, slow_s=10.0)
    on, off = np.ones(1, dtype=np.bool_), np.zeros((1, 1, 1), dtype=np.bool_)
    for _ in range(360):
        cells.step(10.0, np.array([50.0]), on, off)
    one_way_j = cells.heat_now_j
    for _ in range(360):
        cells.step(10.0, np.array([-50.0]), on, off)
    assert one_way_j == pytest.approx(180_000.0 * 298.15 * 0.086e-3, rel=0.05), "mean of the table from half to full"
    assert abs(cells.heat_now_j) < 0.02 * abs(one_way_j)


def test_a_second_law_cell_never_gives_more_than_it_took() -> None:
    rack = closed_rack()
    cells = rack.cells
    assert isinstance(cells, Cells)
    net_j, moved_j = cycle(rack, 10.0)
    lost_j = net_j - cells.chemical_now_j
    assert lost_j > 0.01 * moved_j
