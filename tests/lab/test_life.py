"""`bmsd life` on logs that are good and bad, and the law of ageing on cells that somebody stored for years."""

from __future__ import annotations

import csv
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from bmsd.cli import app
from bmsd.lab.capacity_log import read
from bmsd.model.cell import Ageing
from tests.bench import life_accuracy

DAYS = [30.0 * number for number in range(25)]


def share(day: float) -> float:
    return 1.01 - 0.03 * float(np.sqrt(day / 365.25)) - 2e-4 * day**0.83


def log(tmp_path: Path, header: str, lines) -> Path:
    path = tmp_path / "log.csv"
    path.write_text(header + "\n" + "\n".join(lines) + "\n")
    return path


def run(path: Path, *options: str):
    return CliRunner().invoke(app, ["life", str(path), "--capacity-ah", "100", *options])


def test_a_log_of_days_tells_the_years_that_are_left(tmp_path: Path):
    ran = run(log(tmp_path, "days,cycles,capacity_ah", [f"{d},{d},{100 * share(d):.3f}" for d in DAYS]))
    assert ran.exit_code == 0, ran.output
    assert "25 rows taken, 0 rejected" in ran.output
    truth = next(day for day in range(720, 20000) if share(day) < 0.8) - 720
    told = float(ran.output.split("until 80 %: ")[1].split()[0])
    assert told == pytest.approx(truth / 365.25, rel=0.15)
    low = float(ran.output.split("longer than ")[1].split()[0])
    high = float(ran.output.split("longer than ")[2].split()[0])
    assert low < told < high
    assert "it ends" not in ran.output


def test_a_log_of_dates_tells_a_date_and_another_end_comes_at_another_time(tmp_path: Path):
    rows = [f"{2024 + m // 12}-{m % 12 + 1:02d}-15,{100 * share(30.4 * m):.3f},25" for m in range(25)]
    path = log(tmp_path, "date,capacity_ah,temperature_degc", rows)
    ends = {}
    for end in ("0.8", "0.9"):
        ran = run(path, "--end", end)
        assert ran.exit_code == 0, ran.output
        ends[end] = ran.output.split("it ends ")[1][:10]
    assert "2026-01-15" < ends["0.9"] < ends["0.8"]


@pytest.mark.parametrize(("apart_d", "years"), [(10, 0.2), (60, 2.1)])
def test_a_log_that_is_too_rare_for_a_knee_says_so(tmp_path: Path, apart_d: int, years: float):
    rows = [f"{d},{d},{100.0 - 0.0036 * d - 0.0536 * max(0, d - 600):.3f}" for d in range(0, 841, apart_d)]
    ran = run(log(tmp_path, "days,cycles,capacity_ah", rows))
    assert float(ran.output.split("until 80 %: ")[1].split()[0]) == pytest.approx(years, abs=0.2)
    assert ("a knee would not be seen: 2 rows in the last 91 days" in ran.output) == (apart_d == 60)


def test_an_end_that_has_passed_is_called_so(tmp_path: Path):
    ran = run(log(tmp_path, "days,capacity_ah", [f"{d},{100.0 - 0.05 * d}" for d in range(0, 600, 20)]))
    assert "until 80 %: none, the end has passed" in ran.output
    assert "longer than" not in ran.output


@pytest.mark.parametrize("suffix", [".csv", ".png"])
def test_the_forecast_goes_into_a_file(tmp_path: Path, suffix: str):
    if suffix == ".png":
        pytest.importorskip("matplotlib")
    path = log(tmp_path, "days,capacity_ah", [f"{d},{100 * share(d):.3f}" for d in DAYS])
    output = tmp_path / f"out{suffix}"
    ran = run(path, "-o", str(output))
    assert ran.exit_code == 0, ran.output
    if suffix == ".png":
        assert output.read_bytes()[:4] == b"\x89PNG"
        return
    rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(output.open())]
    assert rows[0]["days"] == 720.0
    assert rows[0]["capacity"] == pytest.approx(share(720.0), abs=0.01)
    assert all(a["capacity"] >= b["capacity"] and a["sigma"] <= b["sigma"] for a, b in pairwise(rows))


def test_rows_that_cannot_be_are_left_out_and_named(tmp_path: Path):
    rows = [f"{d},{d},{100 * share(d):.3f},25" for d in DAYS]
    bad = ["x,720,90,25", "710,730,90,25", "750,10,90,25", "760,760,90000,25", "770,770,90,298", "780,780,nan,25"]
    ran = run(log(tmp_path, "days,cycles,capacity_ah,temperature_degc", rows + bad))
    assert ran.exit_code == 0, ran.output
    assert "25 rows taken, 6 rejected" in ran.output
    for why in ("no time", "not later", "cycles go backwards", "capacity_ah is 90000", "temperature_degc is 298"):
        assert why in ran.output
    assert "line 27 left out" in ran.output


@pytest.mark.parametrize(
    ("header", "rows", "why"),
    [
        ("days,capacity", ["1,2"] * 9, "expected the columns capacity_ah and days or date"),
        ("capacity_ah", ["99"] * 9, "expected the columns"),
        ("days,capacity_ah", ["1,99", "2,99", "3,99"], "3 rows can be used, expected at least 4"),
        ("date,capacity_ah", ["yesterday,99"] * 9, "0 rows can be used"),
    ],
)
def test_a_log_that_cannot_be_used_ends_with_a_sentence(tmp_path: Path, header: str, rows: list[str], why: str):
    ran = run(log(tmp_path, header, rows))
    assert ran.exit_code == 2
    assert why in ran.output


def test_a_log_that_is_not_there_or_an_output_of_another_kind_is_refused(tmp_path: Path):
    assert "cannot be read" in run(tmp_path / "none.csv").output
    path = log(tmp_path, "days,capacity_ah", [f"{d},{100 * share(d):.3f}" for d in DAYS])
    ran = run(path, "-o", str(tmp_path / "out.pdf"))
    assert ran.exit_code == 2
    assert ".png or .csv" in ran.output


def test_nothing_is_told_of_a_short_log(tmp_path: Path):
    ran = run(log(tmp_path, "days,capacity_ah", [f"{d},{100 - d / 100}" for d in range(0, 90, 10)]))
    assert ran.exit_code == 0
    assert "not told before 91 days" in ran.output
    assert "remaining life until" not in ran.output


def test_what_a_log_does_not_tell_is_not_invented(tmp_path: Path):
    path = log(tmp_path, "days,capacity_ah", [f"{d},{100 * share(d):.3f}" for d in DAYS])
    history = read(path, 100.0).history(100.0, Ageing())
    assert np.isnan(history.resistance).all()
    assert (history.cycles == 0.0).all()
    np.testing.assert_allclose(history.warm_years[:, 0], np.array(DAYS) / 365.25)


def test_stored_cells_are_forecast_from_two_fifths_of_their_time():
    """The target is 1.5 %; the figures of docs/accuracy.md, with a margin."""
    found = life_accuracy.forecast(life_accuracy.naumann())
    assert np.abs(found.error).mean() < 0.0125
    assert np.median(np.abs(found.error)) < 0.01
    assert found.in_decile > 0.85
    assert found.in_two > 0.95
