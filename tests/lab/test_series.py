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


def pulses(count: int = 60, sign: float = 1.0) -> list[str]:
    """A current that changes every five rows, and the voltage of a cell of 50 mohm."""
    amps = [2.0 if t // 5 % 2 else -2.0 for t in range(count)]
    return [f"{t},{sign * a},{3.3 + 0.05 * a},25.0" for t, a in enumerate(amps)]


def test_discharge_told_as_positive_is_refused(tmp_path: Path) -> None:
    read(file(tmp_path, pulses()))
    with pytest.raises(ConfigError, match=r"current_a: discharge seems to be positive.*steps down where"):
        read(file(tmp_path, pulses(sign=-1.0)))
    falling = [f"{60 * t},1.0,{3.4 - 0.005 * t},25.0" for t in range(60)]
    read(file(tmp_path, falling))
    with pytest.raises(ConfigError, match=r"current_a: discharge seems to be positive.*falls while it charges"):
        read(file(tmp_path, falling), 1.0)


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ("{t},2000.0,3.3,25.0", "current_a: 2000 in the middle: perhaps mA"),
        ("{t}000,2.0,3.3,25.0", "moves 32.78 Ah in one go; .*perhaps ms in t_s"),
    ],
)
def test_with_a_capacity_wrong_units_of_current_and_time_are_refused(tmp_path: Path, row: str, why: str) -> None:
    path = file(tmp_path, [row.format(t=t) for t in range(60)])
    read(path)
    with pytest.raises(ConfigError, match=why):
        read(path, 2.0)


def test_single_rows_in_ma_are_left_out_where_the_capacity_is_known(tmp_path: Path) -> None:
    rows = good()
    rows[10] = "10,1000.0,3.3,25.0"
    series = read(file(tmp_path, rows), 2.0)
    assert [str(part) for part in series.rejected] == ["1 rows: current_a beyond 60C: perhaps mA; expected A (line 12)"]


@pytest.mark.parametrize("rows", [1, 3, 5])
def test_a_spike_of_a_few_rows_is_left_out_and_a_pulse_is_not(tmp_path: Path, rows: int) -> None:
    lines = good()
    for t in range(30, 30 + rows):
        lines[t] = f"{t},1.0,3.9,25.0"
    assert len(read(file(tmp_path, lines)).t_s) == 60 - rows
    for t in range(30, 30 + rows):
        lines[t] = f"{t},9.0,3.9,25.0"
    assert len(read(file(tmp_path, lines)).t_s) == 60


def test_rows_without_a_temperature_are_taken_and_told(tmp_path: Path) -> None:
    rows = good()
    rows[5], rows[6] = "5,1.0,3.3,298.15", "6,1.0,3.3,"
    series = read(file(tmp_path, rows))
    assert np.isnan(series.temperature_degc[5:7]).all()
    assert len(series.t_s) == 60
    assert any("2 rows: temperature_degc" in line and "line 7, 8" in line for line in series.report())


@pytest.mark.parametrize("mark", [";", "\t"])
def test_semicolons_tabs_and_decimal_commas_are_read(tmp_path: Path, mark: str) -> None:
    rows = [row.replace(",", mark).replace(".", ",") for row in good()]
    series = read(file(tmp_path, rows, HEADER.replace(",", mark)))
    assert (series.voltage_v == 3.3).all()
