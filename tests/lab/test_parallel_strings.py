"""Strings in parallel through the commands: a cell fitted to one branch of another program gives all currents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bmsd.lab.fit_cell import fit_cell
from bmsd.lab.scenario import load_scenario, parse_scenario
from bmsd.lab.simulate import Run, simulate
from tests.reference_data import reference

ALIKE = """
[spread]
soc0 = 0
capacity = 0
resistance = 0
self_discharge = 0
heat_transfer = 0
[core]
enabled = false
[ageing]
enabled = false
[inverter]
standby_w = 0
lag_s = 0
boot_s = 0
[bus]
contactor_ohm = 1e-7
"""
BRANCHES = """
duration_s = 11405
tick_s = 5
[rack]
cells_per_module = 1
[cell]
specification = "cell.toml"
coulombic_efficiency = 1.0
self_discharge_per_month = 0.0
heat_capacity_j_per_k = 1e6
[profile]
kind = "file"
file = "total.csv"
"""


def written(path: Path, header: str, *columns: Any) -> Path:
    np.savetxt(path, np.column_stack(columns), delimiter=",", header=header, comments="", fmt="%.9g")
    return path


@pytest.fixture(scope="module")
def liionpack(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """Folder with the cell fitted to the first branch, and the data; discharge is positive in them."""
    folder = tmp_path_factory.mktemp("liionpack")
    slow = np.load(reference("pybamm_prada/ocv_c50_nohyst.npz"))
    data = np.load(reference("liionpack_parallel/p8_oneR_oneQ.npz"))
    header, warm = "t_s,current_a,voltage_v,temperature_degc", np.full
    ocv = written(folder / "ocv.csv", header, slow["t"], -slow["i"], slow["v"], warm(len(slow["t"]), 25.0))
    branch = written(
        folder / "branch.csv", header, data["t"], -data["i_cell"][:, 0], data["v_cell"][:, 0],
        warm(len(data["t"]), 25.0),
    )  # fmt: skip
    told = "\n".join(fit_cell([ocv], [branch], folder / "cell.toml", 2.3, plots=False))
    assert "diffusion" in told
    written(folder / "total.csv", "t_s,current_a", data["t"], -data["i_pack"])
    return folder, data


def test_branch_currents_are_liionpacks_within_a_hundredth(liionpack: tuple[Path, Any]) -> None:
    folder, data = liionpack
    strings = "".join(
        f"[[string]]\nsoc0 = {data['soc0']}\ncapacity_ah = {capacity_ah}\nseries_resistance_ohm = {ohm}\n"
        for capacity_ah, ohm in zip(data["cap_Ah"], data["Rc"], strict=True)
    )
    (folder / "eight.toml").write_text(BRANCHES + ALIKE + strings)
    report = simulate(load_scenario(folder / "eight.toml"), folder / "eight.csv")
    rows = np.genfromtxt(folder / "eight.csv", delimiter=",", names=True)
    ours = np.stack([rows[f"string_current_a_{n}"] for n in range(1, 9)], axis=1)
    error = (ours + data["i_cell"]) / (9.2 / 8.0)
    assert np.sqrt(np.mean(error**2)) < 0.01
    assert np.sqrt(np.mean(error**2, axis=0)).max() < 0.03, "the branch with the poor joint"
    assert report["final"]["string_current_a"] == pytest.approx(ours[-1])


def test_an_unmanaged_circuit_is_closed_from_the_first_step(liionpack: tuple[Path, Any]) -> None:
    """Of two strings with the same rest voltage but for their charge, the fuller one fills the other at once."""
    text = (
        BRANCHES.replace('kind = "file"\nfile = "total.csv"', "current_a = 0").replace("tick_s = 5", "tick_s = 0.1")
        + ALIKE
    )
    run = Run.of(parse_scenario(text + "[[string]]\nsoc0 = 0.9\n[[string]]\nsoc0 = 0.1\n", liionpack[0]))
    apart_v = np.diff(run.twin.cells.string_emf_v)[0]
    run.advance()
    first_a, second_a = run.twin.rack.string_a
    assert first_a == pytest.approx(-second_a, abs=0.01)
    around_ohm = 2.0 * (run.twin.settings.cell.r0_ohm + 0.8e-3)
    assert 0.3 * -apart_v / around_ohm < second_a < -apart_v / around_ohm


def test_the_core_knows_the_cell_that_the_scenario_names(liionpack: tuple[Path, Any]) -> None:
    found = parse_scenario(BRANCHES, liionpack[0])
    assert found.plant.cell.capacity_ah == 2.3
    assert found.plant.cell.model.name == "cell"
    assert found.plant.cell.max_v == 3.65
    mid_v = np.interp(0.5, found.twin.cell.ocv_soc, found.twin.cell.ocv_v)
    assert mid_v == pytest.approx(found.plant.cell.model.mid_v[0][100], abs=1e-4)


def test_a_setting_beside_the_specification_takes_precedence(liionpack: tuple[Path, Any]) -> None:
    text = BRANCHES.replace("coulombic_efficiency", "r0_ohm = 0.05\ncoulombic_efficiency")
    assert parse_scenario(text, liionpack[0]).twin.cell.r0_ohm == 0.05
    assert parse_scenario(BRANCHES, liionpack[0]).twin.cell.r0_ohm < 0.03
