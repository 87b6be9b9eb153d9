"""Strings in parallel: Kirchhoff for any step, no swinging at any step, and the currents of other people's solvers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bmsd.model.snapshot import Bools, Floats
from bmsd.sim.cell import CellParameters
from bmsd.sim.cells import Cells
from bmsd.sim.rack import BusParameters, Rack
from tests.reference_data import reference

GRID = np.linspace(0.0, 1.0, 201)
STEPS_S = [0.01, 0.1, 1.0, 10.0, 60.0]


def joined(cells: Cells, cable_ohm: Floats | None = None) -> Rack:
    rack = Rack(cells, BusParameters(contactor_ohm=1e-9, capacitance_f=0.01, cable_ohm=0.5e-3), cable_ohm)
    rack.contactors.coil[:] = rack.contactors.closed[:] = True
    rack.bus_v = float(cells.string_emf_v.mean())
    return rack


def four(soc0: float) -> Cells:
    """Four strings of which the second is emptier."""
    start = soc0 - np.array([0.0, 0.02, 0.0, 0.0]).reshape(4, 1, 1)
    return Cells((4, 1, 2), CellParameters.scaled(100.0), start, 0.0, 25.0, seed=1, slow_s=10.0)


@pytest.mark.parametrize("dt_s", STEPS_S)
def test_currents_add_up_to_that_of_the_bus_at_any_step(dt_s: float) -> None:
    rack = joined(four(0.5))
    off = np.zeros((4, 1, 2), dtype=np.bool_)
    for inverter_a in (80.0, -120.0, 0.0):
        before_v = rack.bus_v
        rack.step(dt_s, inverter_a, 0.7, off)
        into_capacitor_a = 0.01 * (rack.bus_v - before_v) / dt_s
        assert rack.string_a.sum() + into_capacitor_a == pytest.approx(inverter_a - 0.7, abs=1e-8)


@pytest.mark.parametrize("soc0", [0.06, 0.985, 1.02])
@pytest.mark.parametrize("dt_s", STEPS_S)
def test_strings_do_not_swing_against_each_other_on_the_steep_ends(dt_s: float, soc0: float) -> None:
    rack = joined(four(soc0))
    off = np.zeros((4, 1, 2), dtype=np.bool_)
    seen = []
    for _ in range(60):
        rack.step(dt_s, 0.0, 0.0, off)
        seen.append(rack.string_a[1])
    amps = np.array(seen)
    assert amps[0] > 0.0
    assert (amps > -0.02 * amps[0]).all(), "the emptier string takes; it never throws back more than a trace"
    assert (np.diff(amps) <= 0.02 * amps[0]).all()


def test_a_long_step_shares_like_a_short_one() -> None:
    currents = {}
    for dt_s in (1.0, 60.0):
        rack = joined(four(0.5), np.array([0.5e-3, 0.5e-3, 3e-3, 0.5e-3]))
        off = np.zeros((4, 1, 2), dtype=np.bool_)
        for _ in range(round(3600.0 / dt_s)):
            rack.step(dt_s, 100.0, 0.0, off)
        currents[dt_s] = rack.string_a
    assert currents[60.0] == pytest.approx(currents[1.0], abs=0.5)
    assert currents[1.0][2] < currents[1.0][0] - 0.2


def liionpack() -> dict[str, Floats]:
    with np.load(reference("liionpack_parallel/p8_oneR_oneQ.npz")) as data:
        return {name: np.asarray(data[name], dtype=np.float64) for name in data.files}


class Behind:
    """Cells as another solver computed them: a voltage and a resistance for every step."""

    temperature_degc = np.full((8, 1, 1), 25.0)
    soc = np.zeros((8, 1, 1))

    def __init__(self, emf_v: Floats, ohm: Floats) -> None:
        self.emf_v, self.ohm, self.number = emf_v, ohm, 0
        self.cell_v = emf_v[0].reshape(8, 1, 1)

    @property
    def string_emf_v(self) -> Floats:
        return np.asarray(self.emf_v[self.number])

    @property
    def string_ohm(self) -> Floats:
        return np.asarray(self.ohm[self.number])

    def thevenin(self, dt_s: float) -> tuple[Floats, Floats]:
        del dt_s
        return self.string_emf_v, self.string_ohm

    def step(self, dt_s: float, string_a: Floats, plus_closed: Bools, bleeding: Bools) -> Floats:
        del dt_s, plus_closed, bleeding
        self.number += 1
        return string_a

    def warm(self, k_per_s: Floats) -> None: ...
    def leak(self, conductance_s: Floats) -> None: ...


def test_with_liionpacks_cells_the_circuit_has_liionpacks_currents() -> None:
    data = liionpack()
    theirs, total_a = -data["i_cell"], -data["i_pack"]
    rack = Rack(Behind(data["ocv_surf"], data["r_int"]), BusParameters(contactor_ohm=1e-9), data["Rc"])
    rack.contactors.coil[:] = rack.contactors.closed[:] = True
    off = np.zeros((8, 1, 1), dtype=np.bool_)
    for number in range(len(total_a) - 1):
        rack.step(5.0, float(total_a[number]), 0.0, off)
        if abs(total_a[number]) > 1.0:
            assert rack.string_a == pytest.approx(theirs[number], abs=0.01 * abs(total_a[number]) / 8.0)


def prada() -> CellParameters:
    """The cell of Prada (2013), fitted on one ordinary branch of the liionpack run; rest voltage of PyBaMM at C/50."""
    with np.load(reference("pybamm_prada/ocv_c50_nohyst.npz")) as data:
        amps, volts = data["i"], data["v"]
        capacity_ah = data["dAh"][np.argmin(volts)]
        left = 1.0 - data["dAh"] / capacity_ah
        down = np.interp(GRID, left[amps > 0.0][::-1], volts[amps > 0.0][::-1])
        mid_v = 0.5 * (down + np.interp(GRID, left[amps < 0.0], volts[amps < 0.0])) + 1e-6 * GRID
    return CellParameters(
        capacity_ah=2.3, r0_ohm=0.0315, rc_ohm=(0.00075,), rc_tau_s=(10.0,), activation_k=0.0, rc_activation_k=0.0,
        diffusion_soc_per_c=(0.0856, 0.0842), diffusion_tau_s=(48.0, 469.0), hysteresis_gamma=0.0,
        ocv_soc=tuple(GRID), ocv_v=tuple(mid_v), gap_v=(0.0,) * 10, entropy_v_per_k=(0.0,) * 11,
    ).alike()  # fmt: skip


def test_branch_currents_of_a_whole_run_are_liionpacks_within_a_hundredth_rms() -> None:
    """Eight in parallel, one with 20 mohm more, one with 0.85 of the capacity: 3 h from the total current alone."""
    data = liionpack()
    theirs, total_a = -data["i_cell"], -data["i_pack"]
    cells = Cells((8, 1, 1), prada(), float(data["soc0"]), 0.0, 25.0, 1, capacity_ah=data["cap_Ah"].reshape(8, 1, 1))
    rack = joined(cells, data["Rc"])
    off = np.zeros((8, 1, 1), dtype=np.bool_)
    ours = np.empty_like(theirs)
    for number, amps in enumerate(total_a):
        rack.step(5.0, float(amps), 0.0, off)
        ours[number] = rack.string_a
    error = (ours - theirs) / (9.2 / 8.0)
    assert np.sqrt((error**2).mean()) < 0.01
    assert np.sqrt((error**2).mean(axis=0)).max() < 0.025, "the cell with the poor joint"


def test_the_voltage_of_a_cell_follows_pybamms_other_physics() -> None:
    """The same cell as a DFN model with a hysteresis of its own: what a model with other physics may differ."""
    with np.load(reference("pybamm_prada/dyn6h_25C_hyst_dfn.npz")) as data:
        amps, volts, soc0, capacity_ah = -data["i"], data["v"], float(data["soc"][0]), float(data["cap_Ah"])
    assert (
        rms_of(Cells((1, 1, 1), prada(), soc0, 0.0, 25.0, 1, capacity_ah=capacity_ah, slow_s=10.0), amps, volts) < 0.020
    )


@pytest.mark.parametrize(("degc", "rms_v"), [(25, 0.015), (15, 0.015)])
def test_the_voltage_of_a_measured_a123_cell_is_followed(degc: int, rms_v: float) -> None:
    """Plett's dynamic run from full down to 8 %; the parameters are fitted on the run at 25 degC."""
    soc, mid_v, gap_v = branches(reference("plett_a123/a123_ocv_P25.npz"))
    with np.load(reference(f"plett_a123/a123_dyn_P{degc}.npz")) as data:
        amps, volts, truth, capacity_ah = -data["s1_i"], data["s1_v"], data["s1_soc"], float(data["Q_Ah"])
    parameters = CellParameters(
        capacity_ah=2.05, r0_ohm=0.0094, rc_ohm=(0.0046, 0.0095, 0.065), rc_tau_s=(8.0, 80.0, 900.0),
        hysteresis_gamma=30.0, activation_k=2000.0, rc_activation_k=2000.0, coulombic_efficiency=0.9945,
        ocv_soc=soc, ocv_v=mid_v, gap_soc=soc, gap_v=gap_v, heat_capacity_j_per_k=1e9,
    ).alike()  # fmt: skip
    cells = Cells((1, 1, 1), parameters, 1.0, 0.0, float(degc), 1, capacity_ah=capacity_ah, slow_s=10.0)
    cells.hysteresis[:] = 1.0
    until = int(np.argmax(truth < 0.08))
    assert rms_of(cells, amps[:until], volts[:until]) < rms_v


def branches(path: Path) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
    """SoC, mean and distance of the branches of a slow test."""
    sides = []
    with np.load(path) as data:
        for name, sign in (("s1", 1.0), ("s3", -1.0)):
            flows = sign * data[f"{name}_i"] > 0.01
            moved = (sign * (data[f"{name}_disAh"] - data[f"{name}_chgAh"]))[flows]
            sides.append(((moved - moved[0]) / (moved[-1] - moved[0]), data[f"{name}_v"][flows]))
    (given, down_v), (taken, up_v) = sides
    down, up = np.interp(1.0 - GRID, given, down_v), np.interp(GRID, taken, up_v)
    mid_v = np.maximum.accumulate(0.5 * (down + up)) + 1e-6 * GRID
    return tuple(GRID), tuple(mid_v), tuple(np.maximum(up - down, 0.0))


def rms_of(cells: Cells, amps: Floats, volts: Floats) -> float:
    on, off = np.ones(1, dtype=np.bool_), np.zeros((1, 1, 1), dtype=np.bool_)
    square = 0.0
    for current_a, measured_v in zip(amps, volts, strict=True):
        cells.step(1.0, np.array([current_a]), on, off)
        square += (cells.cell_v[0, 0, 0] - measured_v) ** 2
    return float(np.sqrt(square / len(volts)))
