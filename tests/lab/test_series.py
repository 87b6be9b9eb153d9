"""What of a measured series is taken, and what is rejected and why."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bmsd.errors import ConfigError
from bmsd.lab.series import read

HEADER = "t_s,current_a,voltage_v,temperature_degc"


def file(folder: Path, rows: list[str], header: str = HEADER) -> Path:
    path = folder / "in.csv"
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def good(count: int = 60, first: int = 0) -> list[str]:
    return [f"{t},1.0,3.3,25.0" for t in range(first, first + count)]


def test_a_good_series_is_taken_whole(tmp_path: Path) -> None:
    series = read(file(tmp_path, good()))
    assert len(series.t_s) == 60
    assert series.rejected == ()
    assert series.gaps == ()
    assert list(series.report()) == ["in.csv: 60 rows taken, 0 rejected"]


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ("30,1.0,nan,25.0", "voltage_v is not a number"),
        ("30,,3.3,25.0", "current_a is not a number"),
        ("x,1.0,3.3,25.0", "t_s is not a number"),
        ("30,1.0", "voltage_v is not a number"),
        ("30,1.0,3300,25.0", "voltage_v looks like mV"),
        ("30,1.0,0.0,25.0", "voltage_v outside"),
        ("29,1.0,3.3,25.0", "t_s repeats"),
        ("12,1.0,3.3,25.0", "t_s goes backwards"),
        ("30,1.0,3.9,25.0", "voltage_v is a spike"),
    ],
)
def test_a_row_that_cannot_be_believed_is_left_out_and_named(tmp_path: Path, row: str, why: str) -> None:
    rows = good()
    rows[30] = row
    series = read(file(tmp_path, rows))
    assert len(series.t_s) == 59
    assert [part.why.startswith(why) for part in series.rejected] == [True]
    assert series.rejected[0].lines == (32,)
    assert any(why in line and "line 32" in line for line in series.report())
    assert (np.diff(series.t_s) > 0.0).all()


def test_a_voltage_that_steps_with_the_current_is_no_spike(tmp_path: Path) -> None:
    rows = good()
    rows[30] = "30,80.0,3.9,25.0"
    assert read(file(tmp_path, rows)).rejected == ()


def test_a_gap_is_told(tmp_path: Path) -> None:
    series = read(file(tmp_path, good() + good(first=4000)))
    assert [(gap.t_s, gap.length_s) for gap in series.gaps] == [(59.0, 3941.0)]
    assert "gap of 3941 s" in list(series.report())[-1]


def test_an_unknown_temperature_stays_unknown(tmp_path: Path) -> None:
    rows = good()
    rows[5], rows[6] = "5,1.0,3.3,", "6,1.0,3.3,-127"
    series = read(file(tmp_path, rows))
    assert np.isnan(series.temperature_degc[[5, 6]]).all()
    assert len(series.t_s) == 60


@pytest.mark.parametrize(
    ("rows", "header", "why"),
    [
        ([f"{t},1.0,3300,25.0" for t in range(9)], HEADER, "these are mV"),
        ([f"{t},1.0,52.8,25.0" for t in range(9)], HEADER, "expected V of one cell"),
        ([f"{t},1.0,3.3,298" for t in range(9)], HEADER, "perhaps kelvin"),
        (good(), "time,current_a,voltage_v,temperature_degc", "no column t_s"),
        ([f"{t},1.0,3.3,25.0,55" for t in range(9)], HEADER + ",soc", "not percent"),
        (["5,1.0,3.3,25.0"] * 9, HEADER, "only 1 of 9 rows"),
        ([], HEADER, "0 rows"),
    ],
)
def test_a_file_that_is_wrong_as_a_whole_is_refused(tmp_path: Path, rows: list[str], header: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        read(file(tmp_path, rows, header))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing\.csv"):
        read(tmp_path / "nothing.csv")
