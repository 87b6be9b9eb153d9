"""A cell specification is read as it was written, and refused where it contradicts itself."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bmsd.config import cell_file
from bmsd.errors import ConfigError

EXAMPLES = sorted((Path(__file__).parents[2] / "deploy" / "cells").glob("*.toml"))


def rising(first_v: float) -> list[float]:
    return [first_v + 0.05 * k for k in range(11)]


def tables() -> dict[str, Any]:
    return {
        "ocv_soc": [k / 10 for k in range(11)],
        "r0_soc": [0.0, 1.0],
        "error_soc": [0.0, 1.0],
        "cell": {"name": "a cell", "chemistry": "lfp", "capacity_ah": 100.0},
        "envelope": {"max_v": 3.65, "min_v": 2.5},
        "dynamics": {"rc_tau_s": [10.0, 100.0], "gamma": 40.0, "activation_k": 3000.0, "error_tau_s": 600.0},
        "ocv": [
            {"degc": degc, "charge_v": rising(3.0), "discharge_v": rising(2.9)}
            for degc in (5.0, 25.0)
        ],
        "resistance": [{"degc": 25.0, "r0_ohm": [0.001, 0.001], "rc_ohm": [0.0005, 0.0005], "error_v": [0.01, 0.01],
                        "diffusion_soc_per_c": 0.1}],
    }  # fmt: skip


def test_what_is_written_is_what_is_read() -> None:
    was = cell_file.parse(tables())
    again = cell_file.parse(tomllib.loads(cell_file.dump(was.model, was.envelope, ["a comment"])))
    assert again.envelope == was.envelope
    for name in (
        "mid_v", "half_v", "r0_ohm", "rc_ohm", "error_v", "ocv_degc", "rc_tau_s", "entropy_v_per_k",
        "diffusion_soc_per_c",
    ):  # fmt: skip
        np.testing.assert_allclose(getattr(again.model, name), getattr(was.model, name), atol=2e-4, err_msg=name)
    assert (again.model.name, again.model.capacity_ah, again.model.gamma) == ("a cell", 100.0, 40.0)
    assert again.surface is None


SURFACE = {"r0_ohm": [0.002, 0.001], "rc_ohm": [0.001], "rc_tau_s": [10.0], "soc_per_c": [0.05], "tau_s": [300.0]}


def test_what_is_for_simulation_only_is_written_and_read() -> None:
    was = cell_file.parse(tables() | {"surface": SURFACE})
    text = cell_file.dump(was.model, was.envelope, (), was.surface and was.surface.model_copy(update=SURFACE))
    assert "[surface]" in text
    again = tomllib.loads(text)["surface"]
    assert again == SURFACE
    assert was.surface is not None
    assert len(was.surface.r0_ohm) == 201, "on the grid of the model"


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("r0_ohm", [0.001], "surface.r0_ohm: 1 entries; expected as many as r0_soc"),
        ("soc_per_c", [-0.1], "surface.soc_per_c: -0.1; expected at least 0"),
        ("tau_s", [0.0], "surface.tau_s: .* expected above 0 s"),
        ("r0_ohm", [0.0, 0.0], "surface.r0_ohm: nothing above 0"),
    ],
)
def test_a_surface_that_contradicts_itself_is_refused(name: str, value: list[float], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        cell_file.parse(tables() | {"surface": SURFACE | {name: value}})


@pytest.mark.parametrize(
    ("path", "value", "why"),
    [
        (("envelope", "min_v"), 3.7, "envelope.min_v: 3.7 V; expected below envelope.max_v"),
        (("envelope", "charge_min_degc"), 56.0, "expected below envelope.charge_max_degc"),
        (("ocv", 0, "charge_v", 4), 3.0, "charge_v: not rising: 3.15 V, then 3 V at SoC 0.4"),
        (("ocv", 1, "discharge_v", 10), 2.9, "discharge_v: not rising"),
        (("ocv", 0, "charge_v"), [3.0, 3.1], "2 entries; expected as many as ocv_soc"),
        (("ocv", 0, "charge_v"), [2.0 + 0.05 * k for k in range(11)], "charge_v below discharge_v"),
        (("ocv", 0, "charge_v"), [3300.0 + k for k in range(11)], "does not fit envelope"),
        (("ocv", 1, "degc"), 5.0, "ocv: temperatures"),
        (("ocv_soc", 3), 0.9, "ocv_soc: expected each entry above"),
        (("resistance", 0, "r0_ohm"), [0.001, 0.0], "expected above 0"),
        (("resistance", 0, "r0_ohm"), [1.0, 1.0], "not milliohm"),
        (("resistance", 0, "rc_ohm"), [0.001], "expected as many as dynamics.rc_tau_s"),
        (("dynamics", "rc_tau_s"), [100.0, 10.0], "expected rising"),
        (("cell", "capacity_ah"), -1.0, "cell.capacity_ah: -1.0; expected a number 0.05..5000 Ah"),
        (("cell", "colour"), "blue", "colour"),
        (("entropy",), {"soc": [0.0, 1.0], "v_per_k": [-0.3, 0.2]}, "not mV"),
    ],
)
def test_a_cell_that_contradicts_itself_is_refused(path: tuple[Any, ...], value: Any, why: str) -> None:
    given = tables()
    place: Any = given
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(ConfigError) as error:
        cell_file.parse(given, "cell.toml")
    assert any(why in line for line in error.value.complaints), error.value.complaints
    assert all(line.startswith("cell.toml: ") for line in error.value.complaints)


@pytest.mark.parametrize(
    ("path", "why"),
    [
        (("envelope", "max_v"), "envelope.max_v: missing; expected a number 1.5..5 V"),
        (("dynamics",), "dynamics: the section is missing; it must have rc_tau_s, gamma, activation_k"),
        (("ocv", 0, "charge_v"), "ocv, entry 1.charge_v: missing; expected a list of numbers V"),
        (("ocv_soc",), "ocv_soc: missing; expected a list of numbers of at least 11 entries"),
        (
            ("entropy", "soc"),
            "entropy.soc: missing; expected a list of numbers (a share, not percent) of at least 2 entries",
        ),
    ],
)
def test_what_is_missing_is_told_with_what_is_expected(path: tuple[Any, ...], why: str) -> None:
    given = tables() | {"entropy": {"soc": [0.0, 1.0], "v_per_k": [0.0, 0.0]}}
    place: Any = given
    for step in path[:-1]:
        place = place[step]
    del place[path[-1]]
    with pytest.raises(ConfigError, match=re.escape(f"cell.toml: {why}")):
        cell_file.parse(given, "cell.toml")


def test_everything_wrong_is_told_at_once() -> None:
    given = tables()
    given["envelope"]["min_v"] = 4.0
    given["ocv"][0]["charge_v"][4] = 3.0
    with pytest.raises(ConfigError) as error:
        cell_file.parse(given)
    assert len(error.value.complaints) >= 2


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_are_cells(path: Path) -> None:
    assert cell_file.load(path).model.chemistry == "lfp"


def test_there_are_examples() -> None:
    assert EXAMPLES


def test_a_file_that_is_not_toml_or_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text("[cell")
    for name in ("x.toml", "y.toml"):
        with pytest.raises(ConfigError, match=name):
            cell_file.load(tmp_path / name)
