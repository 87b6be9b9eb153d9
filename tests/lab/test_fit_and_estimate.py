"""Cells are fitted to measured series, and the estimators meet what others measured, with sigmas that are honest."""

from __future__ import annotations

import csv
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from bmsd.cli import app
from bmsd.config import cell_file
from bmsd.config.cell_file import Envelope, Specification
from bmsd.lab import estimate as lab
from bmsd.lab.estimate import COLUMNS, Start
from bmsd.lab.fit import fit
from bmsd.lab.fit_cell import fit_cell
from bmsd.lab.series import Gap, Series
from tests.lab import measured_series as data
from tests.lab.charge_states import charge_states

CELL = Path(__file__).parents[2] / "deploy" / "cells" / "a123-2ah.toml"
ENVELOPE = Envelope(min_v=2.0, max_v=3.65)


@cache
def a123(degc: int) -> Specification:
    """Fitted on the dynamic series of this temperature."""
    slow = [one for of in (15, 25) for one in data.plett_ocv(of)]
    return Specification(fit(slow, [data.plett_dynamic(degc)[0]], f"A123 {degc}")[0], ENVELOPE)


@cache
def flat() -> Specification:
    return Specification(fit(data.flat_zone_ocv(), [data.first(data.flat_zone(), 0.25)], "flat")[0], ENVELOPE)


def errors(cell: Specification, series: Series, capacity_ah: float, start: Start):
    """Errors of the SoC, its sigmas, and bias in A."""
    rows = charge_states(cell, capacity_ah, series, start)
    assert ((rows[:, 0] >= 0.0) & (rows[:, 0] <= 1.0)).all()
    assert (rows[:, 1] > 0.0).all()
    return rows[:, 0] - series.soc, rows[:, 1], rows[:, 2]


def inside(error, sigma) -> float:
    return float(np.mean(np.abs(error) <= 2.0 * sigma))


def test_a_fit_finds_the_hysteresis_the_resistance_and_how_well_it_meets_the_cell():
    model = a123(25).model
    assert model.capacity_ah == pytest.approx(2.06, abs=0.02)
    assert 0.006 < model.half_v[-1][100] < 0.014, "half the gap of 33 mV at 50 %, without the load of the slow test"
    assert 0.08 < model.diffusion_soc_per_c[0] < 0.2, "near empty a load of 1 C looks like 10 % less"
    assert 0.007 < model.r0_ohm[0][100] < 0.014
    assert model.error_v[0].min() >= 0.005
    assert (np.diff(model.mid_v, axis=1) > 0.0).all()


def test_what_was_fitted_at_25_degc_holds_at_15_degc():
    series, capacity_ah = data.plett_dynamic(15)
    error, sigma, _ = errors(a123(25), series, capacity_ah, Start(1.0, 0.02))
    assert np.sqrt(np.mean(error**2)) < 0.015
    assert np.abs(error).max() < 0.04
    assert inside(error, sigma) >= 0.95


def test_in_the_flat_zone_a_wrong_start_and_a_current_offset_are_survived():
    series = data.first(data.flat_zone(), 0.4)
    series = replace(series, current_a=series.current_a + 0.012)
    error, sigma, _ = errors(flat(), series, 1.2, Start(0.5, 0.3))
    late = series.t_s > 3.0 * 3600.0
    assert np.abs(error[late]).max() < 0.06
    assert np.sqrt(np.mean(error[late] ** 2)) < 0.03
    assert inside(error, sigma) >= 0.95


def test_a_textbook_filter_would_not_have_been_honest_where_this_one_is():
    """The sigma in the middle of the flat zone is not that of a noise that averages out."""
    series = data.first(data.flat_zone(), 0.15)
    _, sigma, _ = errors(flat(), series, 1.2, Start(0.2, 0.02))
    assert sigma[-1] > 0.015


def written(path: Path, series: Series) -> Path:
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["t_s", "current_a", "voltage_v", "temperature_degc", "soc"])
        soc = np.full(len(series.t_s), np.nan) if series.soc is None else series.soc
        table.writerows(zip(series.t_s, series.current_a, series.voltage_v, series.temperature_degc, soc, strict=True))
    return path


def test_the_commands_fit_a_cell_and_run_a_log_through_the_estimators(tmp_path: Path):
    dynamic, capacity_ah = data.plett_dynamic(25)
    slow = [written(tmp_path / f"slow{k}.csv", replace(one, soc=None)) for k, one in enumerate(data.plett_ocv(25))]
    log = written(tmp_path / "log.csv", data.first(dynamic, 0.05))
    whole = written(tmp_path / "drive.csv", dynamic)
    lines = log.read_text().splitlines()
    lines[40] = lines[40].replace(lines[40].split(",")[2], "nan")
    log.write_text("\n".join(lines) + "\n")
    cell, out = tmp_path / "cell.toml", tmp_path / "out.csv"
    ran = CliRunner().invoke(
        app, ["fit-cell", "--ocv", *map(str, slow), "--dynamic", str(whole), "-o", str(cell)], catch_exceptions=False
    )
    assert ran.exit_code == 0, ran.output
    assert "met with" in ran.output
    assert cell_file.load(cell).model.capacity_ah == pytest.approx(2.06, abs=0.02)
    assert (tmp_path / "cell.report.txt").read_text() in ran.output
    assert [path.read_bytes()[:4] for path in sorted(tmp_path.glob("*.png"))] == [b"\x89PNG"] * 2
    ran = CliRunner().invoke(
        app,
        ["estimate", "--cell", str(cell), "--capacity-ah", f"{capacity_ah}", "--soc0", "1", str(log), "-o", str(out)],
        catch_exceptions=False,
    )
    assert ran.exit_code == 0, ran.output
    assert "1 rows: voltage_v is not a number (line 41)" in ran.output
    rows = list(csv.DictReader(out.open()))
    assert tuple(rows[0]) == COLUMNS
    assert len(rows) == len(lines) - 2
    last = {name: float(value) for name, value in rows[-1].items()}
    assert abs(last["soc"] - 0.9) < 0.06
    assert 0.005 < last["r10_ohm"] < 0.06
    assert 0.0 < last["sop10_charge_a"] < 100.0
    assert 10.0 < last["sop10_discharge_a"] < 300.0


def test_a_wrong_cell_file_ends_with_sentences_not_with_a_traceback(tmp_path: Path):
    log = tmp_path / "log.csv"
    log.write_text("t_s,current_a,voltage_v,temperature_degc\n" + "".join(f"{t},1,3300,25\n" for t in range(9)))
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(CELL.read_text().replace("min_v = 2.0", "min_v = 4.0"))
    for file, why in ((wrong, "envelope.min_v"), (CELL, "these are mV")):
        ran = CliRunner().invoke(
            app, ["estimate", "--cell", str(file), "--capacity-ah", "2", str(log), "-o", str(tmp_path / "o.csv")]
        )
        assert ran.exit_code == 2
        assert why in ran.output


@pytest.mark.parametrize(("capacity_ah", "asks"), [(2.1, False), (2.7, True), (1.5, True)])
def test_the_cell_file_of_another_size_is_asked_about(tmp_path: Path, capacity_ah, asks):
    log = tmp_path / "log.csv"
    log.write_text("t_s,current_a,voltage_v,temperature_degc\n" + "".join(f"{t},0.1,3.3,25\n" for t in range(9)))
    said: list[str] = []
    lab.run_file(log, CELL, capacity_ah, tmp_path / "out.csv", Start(), said.append)
    assert any("is it this one?" in line for line in said) == asks


def told(*arguments: str | Path) -> str:
    """What a command that must refuse says; nothing is written."""
    ran = CliRunner().invoke(app, [str(one) for one in arguments])
    assert ran.exit_code == 2, ran.output
    return ran.output


def test_everything_wrong_with_an_estimate_is_told_before_it_takes_its_time(tmp_path: Path):
    log = tmp_path / "log.csv"
    log.write_text("t_s,current_a,voltage_v,temperature_degc\n" + "".join(f"{t},1,3.3,25\n" for t in range(9)))
    before = log.read_text()
    start = ("estimate", "--cell", CELL, "--capacity-ah")
    assert "is read, too" in told(*start, "2", log, "-o", log)
    assert log.read_text() == before
    said = told(*start, "inf", tmp_path / "no.csv", "-o", tmp_path / "no" / "o.csv", "--current-bias-a", "nan")
    for why in ("--capacity-ah: inf", "--current-bias-a: nan", "its folder does not exist", "no.csv: cannot be read"):
        assert why in said
    assert "--current-bias-a: 50 A; expected at most 1C (2 A)" in told(
        *start, "2", log, "-o", tmp_path / "o.csv", "--current-bias-a", "50"
    )
    assert sorted(tmp_path.iterdir()) == [log]


def test_everything_wrong_with_the_series_of_a_fit_is_told_at_once(tmp_path: Path):
    steady = tmp_path / "steady.csv"
    steady.write_text("t_s,current_a,voltage_v,temperature_degc\n" + "".join(f"{t},0,3.3,25\n" for t in range(9)))
    slow = written(tmp_path / "slow.csv", replace(data.plett_ocv(25)[0], soc=None))
    begin, out = ("fit-cell", "--ocv", slow, "--dynamic"), ("-o", tmp_path / "cell.toml")
    said = told(*begin, tmp_path / "no.csv", "--capacity-ah", "nan", "-o", tmp_path / "no" / "cell.toml")
    for why in ("--capacity-ah: nan", "its folder does not exist", "no.csv: cannot be read"):
        assert why in said
    assert "current_a: never changes" in told(*begin, steady, *out)
    assert "moves 2.06 Ah in one go" in told(*begin, slow, *out, "--capacity-ah", "0.5")
    assert "--max-v: 3650.0; expected a number 1.5..5 V" in told(*begin, slow, *out, "--max-v", "3650")
    assert sorted(tmp_path.iterdir()) == [slow, steady]


def test_a_poor_fit_and_a_slow_series_that_is_not_slow_are_called_so(tmp_path: Path):
    down, up = data.plett_ocv(25)
    down = replace(down, t_s=down.t_s / 20.0, current_a=20.0 * down.current_a)
    dynamic, _ = data.plett_dynamic(25)
    wrong = replace(dynamic, voltage_v=dynamic.voltage_v + 0.1 * np.sin(dynamic.t_s / 5000.0))
    files = [
        written(tmp_path / f"{name}.csv", one)
        for name, one in (("down", replace(down, soc=None)), ("up", replace(up, soc=None)), ("drive", wrong))
    ]
    lines = list(fit_cell(files[:2], files[2:], tmp_path / "cell.toml", plots=False))
    assert any("drive.csv: a poor fit" in line for line in lines)
    assert [line[:30] for line in lines if "is not slow" in line] == ["down.csv: 0.74C is not slow, e"]


def test_a_capacity_that_no_slow_series_comes_near_is_called_so(tmp_path: Path):
    down, up = (written(tmp_path / f"{k}.csv", replace(one, soc=None)) for k, one in enumerate(data.plett_ocv(25)))
    drive = written(tmp_path / "drive.csv", replace(data.plett_dynamic(25)[0], soc=None))
    lines = list(fit_cell([down, up], [drive], tmp_path / "cell.toml", 100.0, plots=False))
    assert any(line.startswith("--capacity-ah: 100 Ah; no slow series moves more than 2.06 Ah") for line in lines)


def test_a_gap_makes_the_soc_less_certain():
    cell = cell_file.load(CELL)
    t_s = np.concatenate([np.arange(600.0), np.arange(600.0) + 8000.0])
    flat_v = np.full(len(t_s), 3.29)
    amps = np.where(t_s < 600.0, -0.5, 0.0)
    series = Series("gap", t_s, amps, flat_v, np.full(len(t_s), 25.0), None, (), (Gap(599.0, 7401.0),))
    sigma = charge_states(cell, 2.05, series, Start(0.6, 0.02))[:, 1]
    assert sigma[600] > sigma[599] + 0.05


def test_a_known_current_offset_is_where_the_estimate_starts():
    cell = cell_file.load(CELL)
    t_s = np.arange(30.0)
    series = Series("bias", t_s, np.zeros(30), np.full(30, 3.29), np.full(30, 25.0), None, (), ())
    rows = lab.estimates(cell, 2.05, series, Start(0.6, 0.02, 0.05))
    assert rows[-1, COLUMNS.index("bias_a")] == pytest.approx(0.05, abs=0.005)
