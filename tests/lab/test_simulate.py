"""Twin and core together on simulated time."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import parquet

from bmsd.lab.scenario import load_scenario, parse_scenario
from bmsd.lab.simulate import COLUMNS, Run, energy_wh, run_file, simulate
from bmsd.sim.playback import reference_folder

DEPLOY = Path(__file__).parents[2] / "deploy"
SCENARIOS = sorted((DEPLOY / "scenarios").glob("*.toml"))
NO_DATA = not reference_folder().is_dir() and os.environ.get("CI") != "true"


def run_of(text: str) -> Run:
    return Run.of(parse_scenario("duration_s = 1e6\n" + text, DEPLOY))


def until(run: Run, time_s: float) -> Run:
    while run.twin.time_s < time_s - 1e-6:
        run.advance()
    return run


def rows(path: Path) -> dict[str, np.ndarray]:
    with path.open(newline="") as file:
        found = list(csv.DictReader(file))
    return {name: np.array([float(row[name] or "nan") for row in found]) for name in found[0]}


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[dict[str, Any], dict[str, np.ndarray]]]:
    """Report and rows of every example that can be run here."""
    found = {}
    for file in SCENARIOS:
        if file.stem == "nrel-home" and NO_DATA:
            continue
        output = tmp_path_factory.mktemp("rows") / f"{file.stem}.csv"
        found[file.stem] = simulate(load_scenario(file), output), rows(output)
    return found


def test_every_example_runs_to_its_end_and_its_energy_adds_up(examples) -> None:
    assert {file.stem for file in SCENARIOS} - set(examples) <= {"nrel-home"}
    for name, (report, found) in examples.items():
        assert report["simulated_s"] == pytest.approx(load_scenario(DEPLOY / "scenarios" / f"{name}.toml").duration_s)
        assert found["t_s"][-1] == pytest.approx(report["simulated_s"], rel=1e-3)
        wh = dict(report["energy_wh"])
        given = wh.pop("from_inverter")
        moved = float(np.abs(found["rack_current_a"] * found["bus_v"]).sum() * found["t_s"][0] / 3600.0)
        assert abs(given - sum(wh.values())) < 1e-3 * moved + 0.5, name


def test_a_day_of_sun_fills_the_rack_within_its_limits(examples) -> None:
    _, found = examples["solar-day"]
    assert found["soc"].max() > 0.97
    assert found["cell_v_max"].max() < 3.60
    # what is told at a tick holds until the next
    assert (found["rack_current_a"][1:] <= found["ccl_a"][:-1] + 2.0).all()
    wrong = np.abs(found["soc_estimate"] - found["soc"])
    assert (wrong < 2.0 * found["soc_estimate_sigma"]).all(), "unknown at first, and it says so"
    assert wrong[120:].max() < 0.06


def test_unequal_strings_share_as_they_must(examples) -> None:
    report, found = examples["parallel-strings"]
    amps = np.stack([found[f"string_current_a_{n}"] for n in range(1, 5)])
    assert amps.sum(axis=0) == pytest.approx(found["rack_current_a"], abs=1e-6)
    loaded = found["rack_current_a"] > 100.0
    assert (amps[1][loaded] < amps[0][loaded]).all(), "the smaller string resists more"
    assert (amps[2][loaded] < amps[0][loaded] + 0.5).mean() > 0.9, "so does the one with the poor joint"
    assert report["strings"] == ["closed"] * 4


def test_a_hot_cell_opens_the_string_before_it_runs_away(examples) -> None:
    report, found = examples["hot-cell"]
    first = report["faults_first_s"]
    assert 600.0 < first["TMP-001"] < first["TMP-006"]
    assert report["strings"] == ["open"]
    opened = found["t_s"][np.flatnonzero(found["strings_closed"] == 1.0)[-1]]
    at_opening = found["cell_degc_max"][found["t_s"] <= opened][-1]
    assert at_opening < 75.0


def test_a_pressed_button_opens_all_strings_at_once(examples) -> None:
    report, found = examples["emergency-stop"]
    assert found["strings_closed"][found["t_s"] < 49.9].max() == 2.0
    assert (found["strings_closed"][found["t_s"] > 51.0] == 0.0).all()
    assert "CON-012" in report["faults"]
    assert 30.0 < report["faults_first_s"]["MOD-001"] < 34.0


def test_a_leaking_cell_falls_behind_and_a_broken_sensor_is_told(examples) -> None:
    report, found = examples["soft-short"]
    assert found["cell_soc_max"][-1] - found["cell_soc_min"][-1] > 0.03
    assert 43200.0 <= report["faults_first_s"]["TMP-017"] < 44000.0


@pytest.mark.parametrize("tick_s", [0.1, 1.0, 60.0])
def test_a_rack_starts_and_charges_with_any_tick(tick_s: float) -> None:
    run = until(
        run_of(f"tick_s = {tick_s}\n[rack]\nstrings = 2\n[profile]\ncurrent_a = 100\n"), 60.0 if tick_s < 1 else 600.0
    )
    assert run.outcome is not None
    assert [string.state.value for string in run.outcome.contactors] == ["closed", "closed"]
    assert run.twin.rack.string_a.sum() > 20.0
    # the last volt of the precharge over 5 mohm; onto a dead bus it would be 10 kA
    assert run.twin.rack.peak_a.max() < 400.0
    assert not run.outcome.faults


def test_the_inverter_never_takes_more_than_it_was_told_and_obeys_late() -> None:
    run = until(run_of("tick_s = 0.1\n[rack]\nsoc0 = 0.5\n[profile]\ncurrent_a = 500\n"), 20.0)
    lag = []
    for _ in range(300):
        told_a = run.outcome.command.ccl_a
        run.advance()
        assert run.twin.inverter.current_a <= max(told_a, 0.0) + 1e-9
        lag.append(told_a - run.twin.inverter.current_a)
    assert 0.5 < np.median(lag) < 10.0


def test_the_same_scenario_gives_the_same_numbers_and_another_seed_others(tmp_path: Path) -> None:
    text = "duration_s = 60\ntick_s = 1\nseed = {}\n[profile]\ncurrent_a = 60\n"
    files = [tmp_path / f"{n}.csv" for n in range(3)]
    for file, seed in zip(files, (1, 1, 2), strict=True):
        simulate(parse_scenario(text.format(seed), tmp_path), file)
    assert files[0].read_bytes() == files[1].read_bytes()
    assert files[0].read_bytes() != files[2].read_bytes()


def test_the_core_sees_the_sensors_and_not_the_truth() -> None:
    run = until(run_of("[sensors]\ncurrent_bias_a = 3.0\ncell_offset_v = 0.02\n[profile]\ncurrent_a = 50\n"), 60.0)
    seen = run.outcome.snapshot
    assert seen.units.current_a[0] - run.twin.rack.string_a[0] == pytest.approx(3.0, abs=0.6)
    assert 0.01 < np.std(seen.modules.cell_v - run.twin.cells.cell_v) < 0.03
    perfect = until(run_of("[sensors]\nperfect = true\n[profile]\ncurrent_a = 50\n"), 60.0)
    assert (perfect.outcome.snapshot.modules.cell_v == perfect.twin.cells.cell_v).all()


def test_a_silent_unit_tells_nothing_new_and_the_others_go_on() -> None:
    run = run_of(
        "tick_s = 0.1\n[rack]\nstrings = 2\n[profile]\ncurrent_a = 50\n"
        '[[mishap]]\nkind = "silent_board"\nnode = "unit"\nstring = 1\nstart_s = 20\n'
    )
    last = until(run, 20.0).outcome.snapshot.units
    seen = until(run, 20.5).outcome.snapshot.units
    assert seen.current_a[0] == last.current_a[0]
    assert seen.charge_as[0] == last.charge_as[0]
    assert seen.current_age_s[0] > 0.4
    assert seen.current_a[1] == run.twin.current_a[1] != last.current_a[1]
    assert seen.charge_as[1] == run.twin.charge_as[1] > last.charge_as[1]
    assert seen.current_age_s[1] < 0.1


def test_without_a_core_the_bare_circuit_follows_the_profile() -> None:
    text = """
        [core]
        enabled = false
        [rack]
        cells_per_module = 1
        capacity_ah = 2.3
        [spread]
        soc0 = 0
        capacity = 0
        resistance = 0
        [inverter]
        standby_w = 0
        lag_s = 0
        boot_s = 0
        [profile]
        current_a = -6
        [[string]]
        soc0 = 0.5
        [[string]]
        soc0 = 0.5
        series_resistance_ohm = 0.02
        """
    run = until(run_of(text), 30.0)
    first_a, second_a = run.twin.rack.string_a
    assert first_a + second_a == pytest.approx(-6.0, abs=0.01)
    assert abs(second_a) < 0.9 * abs(first_a)
    assert run.outcome is None
    assert np.isnan(run.row()[run.columns().index("ccl_a")])


def test_a_board_that_trips_by_itself_opens_the_string_whatever_the_core_says() -> None:
    run = until(run_of("[rack]\nboard_under_voltage_v = 3.0\nsoc0 = 0.5\n[profile]\ncurrent_a = -20\n"), 60.0)
    run.twin.cells.charge_as[0, 0, 3] = 0.01 * run.twin.cells.capacity_as[0, 0, 3]
    until(run, 70.0)
    assert run.twin.own.module_code.any()
    assert not run.twin.on_bus.any()
    assert run.twin.inverter.current_a == 0.0


def test_energy_is_where_the_report_says() -> None:
    run = until(
        run_of("tick_s = 10\n[balancer]\nactive_a = 2\n[rack]\nsoc0 = 0.97\n[profile]\ncurrent_a = 60\n"), 7200.0
    )
    wh = energy_wh(run.twin)
    assert wh.pop("from_inverter") == pytest.approx(sum(wh.values()), rel=2e-3)
    assert wh["lost_in_active_balancers"] > 0.0


def test_the_command_prints_how_fast_it_was_and_the_state_at_the_end(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text("duration_s = 20\n")
    text = "\n".join(run_file(tmp_path / "s.toml", None, as_json=False))
    for word in ("20.0 s simulated in", "times real time", "cell-seconds/s", "strings: ", "faults: "):
        assert word in text


def bmsd(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("bmsd")
    return subprocess.run([str(program), *arguments], capture_output=True, text=True, check=False, timeout=120, cwd=cwd)


def test_as_a_command_it_writes_json_and_csv_and_refuses_with_everything(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text("duration_s = 20\n[profile]\ncurrent_a = 10\n")
    done = bmsd("simulate", "--scenario", "s.toml", "-o", "s.csv", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["simulated_s"] == pytest.approx(20.0)
    assert report["cell_seconds_per_s"] > 0.0
    header = (tmp_path / "s.csv").read_text().splitlines()[0].split(",")
    assert header == [name for name, _ in COLUMNS] + ["string_current_a_1", "string_soc_1"]
    (tmp_path / "s.toml").write_text("duration_s = 20\ntick_s = 0\n[rack]\nsoc0 = 2\n")
    refused = bmsd("simulate", "--scenario", "s.toml", "-o", "nowhere/s.txt", cwd=tmp_path)
    assert refused.returncode == 2
    for word in ("tick_s: 0; expected", "rack.soc0: 2; expected", "nowhere/s.txt: "):
        assert word in refused.stderr


def test_parquet_has_the_rows_of_the_csv_and_nulls_for_what_is_not_known(tmp_path: Path) -> None:
    text = "duration_s = 30\n[core]\nenabled = false\n[profile]\ncurrent_a = 60\n"
    for name in ("s.csv", "s.parquet"):
        simulate(parse_scenario(text, tmp_path), tmp_path / name)
    table, csv_rows = parquet.read_table(tmp_path / "s.parquet"), rows(tmp_path / "s.csv")
    assert table.column_names == list(csv_rows)
    assert table["ccl_a"].null_count == table.num_rows == 30
    for name in ("t_s", "rack_current_a", "string_soc_1"):
        assert table[name].to_pylist() == pytest.approx(csv_rows[name], rel=1e-8)


def test_parquet_without_pyarrow_is_refused_before_anything_runs(tmp_path: Path, monkeypatch) -> None:
    from bmsd.errors import ConfigError

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ConfigError, match=r"pyarrow, which is not installed.*extra `lab`"):
        run_file(DEPLOY / "scenarios" / "solar-day.toml", tmp_path / "day.parquet", as_json=False)
