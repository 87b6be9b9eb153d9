"""Speed of the twin alone and of twin and core together, at 512 cells; processor time, as the machine may be shared."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from time import process_time

import numpy as np
import pytest

from bmsd.lab.scenario import parse_scenario
from bmsd.lab.simulate import Run
from bmsd.sim.ageing import AgeingParameters
from bmsd.sim.cell import CellParameters
from bmsd.sim.cells import Cells
from bmsd.sim.heat import Enclosure
from bmsd.sim.rack import BusParameters, Rack
from bmsd.sim.twin import SLOW_S

SHAPE = (2, 16, 16)
COUNT = 512
SCENARIO = """
duration_s = 1e6
tick_s = {tick_s}
[rack]
strings = 2
modules_per_string = 16
[profile]
kind = "square"
charge_a = 200
discharge_a = 200
"""


def best(turn: Callable[[], object], count: int, turns: int = 5) -> float:
    """Shortest mean processor time of one call, s."""
    found = []
    for _ in range(turns):
        start_s = process_time()
        for _ in range(count):
            turn()
        found.append((process_time() - start_s) / count)
    return min(found)


def test_the_twin_alone_at_1_s_steps() -> None:
    cells = Cells(
        SHAPE, CellParameters(), 0.5, 0.01, 25.0, 1, enclosure=Enclosure(), ageing=AgeingParameters(), slow_s=SLOW_S
    )  # fmt: skip
    rack = Rack(cells, BusParameters())
    rack.contactors.coil[:] = rack.contactors.closed[:] = True
    rack.bus_v = float(cells.string_emf_v.mean())
    off = np.zeros(SHAPE, dtype=np.bool_)
    step_s = best(lambda: rack.step(1.0, 100.0, 1.0, off), 1000)
    print(f"\ntwin, 512 cells, 1 s steps: {1e6 * step_s:.0f} us a step, {COUNT / step_s / 1e6:.1f} M cell-seconds/s")
    assert step_s * 8e6 < COUNT


@pytest.mark.parametrize(("tick_s", "times"), [(0.1, 30.0), (1.0, 300.0)])
def test_twin_and_core_together(tick_s: float, times: float) -> None:
    run = Run.of(parse_scenario(SCENARIO.format(tick_s=tick_s), Path()))
    while run.twin.time_s < 20.0:
        run.advance()
    assert run.twin.on_bus.all()
    each_s = best(run.advance, 200)
    print(f"\ntwin and tick, 512 cells, tick {tick_s} s: {1e3 * each_s:.2f} ms, {tick_s / each_s:.0f} times real time")
    assert tick_s / each_s > times


def test_against_other_solvers_of_the_same_circuit() -> None:
    """PyBaMM or liionpack, where they are installed: they are no dependency, so this is usually skipped."""
    pybamm = pytest.importorskip("pybamm")
    model = pybamm.lithium_ion.SPM()
    simulation = pybamm.Simulation(model, parameter_values=pybamm.ParameterValues("Prada2013"))
    start_s = process_time()
    simulation.solve([0, 600])
    theirs = 600.0 / (process_time() - start_s)
    cells = Cells((1, 1, 1), CellParameters(), 0.5, 0.0, 25.0, 1, slow_s=SLOW_S)
    on, off = np.ones(1, dtype=np.bool_), np.zeros((1, 1, 1), dtype=np.bool_)
    ours = 1.0 / best(lambda: cells.step(1.0, np.array([-1.0]), on, off), 600, 1)
    print(f"\none cell: PyBaMM's SPM {theirs:.0f} s/s, the twin's cell {ours:.0f} s/s at 1 s steps")
    assert ours > theirs
