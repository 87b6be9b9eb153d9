"""What a scenario file may say, and what is told to somebody who got it wrong: everything, once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bmsd.config import cell_file
from bmsd.core.estimation.electrical import tables
from bmsd.errors import ConfigError
from bmsd.lab.scenario import Scenario, load_scenario, parse_scenario
from bmsd.model.cell import GRID

DEPLOY = Path(__file__).parents[2] / "deploy"
SHORTEST = "duration_s = 10\n"


def scenario(text: str, folder: Path = DEPLOY) -> Scenario:
    return parse_scenario(text, folder)


def complaints(text: str, folder: Path = DEPLOY) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as refused:
        scenario(text, folder)
    return refused.value.complaints


def test_the_shortest_scenario_is_a_resting_string_of_16_cells() -> None:
    found = scenario(SHORTEST)
    assert found.twin.layout.cell_shape == (1, 1, 16)
    assert (found.tick_s, found.step_s, found.every_s) == (1.0, 1.0, 1.0)
    assert found.twin.cell.capacity_ah == found.plant.cell.capacity_ah == 280.0
    assert found.twin.inverter.profile.at(5.0) == 0.0


def test_a_configuration_brings_its_shape_and_ratings() -> None:
    found = scenario(SHORTEST + '[rack]\nconfig = "rack-8x16s.toml"\n')
    assert found.twin.layout.strings == 8
    assert found.twin.bus.precharge_ohm == found.plant.ratings.precharge_ohm


def test_strings_may_be_named_one_by_one() -> None:
    named = "[[string]]\nsoc0 = 0.2\n[[string]]\ncapacity_ah = 90\nseries_resistance_ohm = 0.02\n"
    found = scenario(SHORTEST + "[rack]\ncells_per_module = 8\n" + named)
    assert found.plant.layout.strings == 2
    assert [string.soc0 for string in found.twin.strings] == [0.2, None]
    assert found.twin.strings[1].series_resistance_ohm == 0.02


@pytest.mark.parametrize("capacity_ah", [2.0614, 100.0])
def test_a_cell_of_a_file_has_another_size_for_rack_and_core_alike(tmp_path: Path, capacity_ah: float) -> None:
    """A larger cell of the same make has less resistance. `bmsd fit-cell` writes five pairs, a file may have six."""
    of = cell_file.load(DEPLOY / "cells" / "a123-2ah.toml")
    model = replace(of.model, rc_tau_s=np.geomspace(4.0, 3000.0, 6), rc_ohm=np.full((2, 6), 0.002))
    (tmp_path / "cell.toml").write_text(cell_file.dump(model, of.envelope))
    named = '[cell]\nspecification = "cell.toml"\n'
    found = scenario(SHORTEST + f"[rack]\ncapacity_ah = {capacity_ah}\n" + named, tmp_path)
    cell, model = found.twin.cell, found.plant.cell.model
    assert cell.capacity_ah == model.capacity_ah == found.plant.cell.capacity_ah == capacity_ah
    known = tables(model, np.array([25.0]))
    assert len(cell.rc_ohm) == 6
    assert cell.rc_ohm == pytest.approx(known.rc_ohm[0])
    assert cell.r0_ohm == pytest.approx(known.r0_ohm[0, GRID // 2])


@pytest.mark.parametrize(("modules", "capacity_ah"), [(1, 280.0), (1, 2.0), (13, 20.0)])
def test_no_precharge_of_a_usual_rack_trips_its_units(modules: int, capacity_ah: float) -> None:
    found = scenario(SHORTEST + f"[rack]\nmodules_per_string = {modules}\ncapacity_ah = {capacity_ah}\n")
    bus = found.twin.bus
    assert 3.65 * 16 * modules / bus.precharge_ohm < found.twin.over_current_a
    assert bus.precharge_ohm * bus.capacitance_f == pytest.approx(0.96)


def test_a_configuration_with_a_cell_file_of_another_size_is_refused(tmp_path: Path) -> None:
    text = (DEPLOY / "rack-16s-lfp.toml").read_text()
    cell = DEPLOY / "cells" / "a123-2ah.toml"
    (tmp_path / "rack.toml").write_text(text.replace("[cell]\n", f'[cell]\nspecification = "{cell}"\n', 1))
    (told,) = complaints(SHORTEST + '[rack]\nconfig = "rack.toml"\n', tmp_path)
    assert told.startswith("rack: cell.specification: of 2.06")


def test_a_long_tick_steps_in_between() -> None:
    found = scenario("duration_s = 600\ntick_s = 60\n")
    assert (found.tick_s, found.step_s, found.every_s) == (60.0, 30.0, 60.0)


def test_everything_wrong_is_told_at_once_with_key_value_and_what_was_expected() -> None:
    told = complaints(
        """
        duration_s = 10
        tick_s = 120
        [rack]
        stringz = 2
        [cell]
        rc_ohm = [0.001, 0.002]
        rc_tau_s = [10.0]
        [profile]
        kind = "lunar"
        [sensors]
        cell_noise_v = "5 mV"
        [[mishap]]
        kind = "explosion"
        [[mishap]]
        kind = "soft_short"
        value = 0
        """
    )
    expected = {
        "tick_s: 120; expected a number 0.1..60 s; write 0.12, if 120 is in ms",
        "rack.stringz: unknown setting; did you mean strings?",
        "cell.rc_tau_s: 1 entries; expected one for each entry of cell.rc_ohm (2 entries)",
    }
    assert expected <= set(told)
    assert any(line.startswith('profile.kind: "lunar"; expected one of "constant", "square"') for line in told)
    assert any(line.startswith('sensors.cell_noise_v: "5 mV"; expected a number 0..0.1 V') for line in told)
    assert any(line.startswith('mishap, entry 1.kind: "explosion"; expected one of "hot_cell"') for line in told)
    assert len(told) == 6


def test_a_missing_duration_is_told_with_what_else_is_wrong() -> None:
    told = complaints("[enclosure]\nfan_on_degc = 20\nfan_off_degc = 30\n")
    assert "duration_s: missing; expected a number 0.1..1000000000 s: Simulated time." in told
    assert any(line.startswith("enclosure.fan_off_degc: 30 degC; expected at most") for line in told)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("step_s = 2\n", "step_s: 2 s; expected at most tick_s (1 s)"),
        ("tick_s = 20\n", "duration_s: 10 s; expected at least tick_s (20 s)"),
        ("[output]\nevery_s = 0.5\n", "output.every_s: 0.5 s; expected at least tick_s (1 s)"),
        ('[profile]\nkind = "file"\n', 'profile.file: ""; expected the name of a CSV file: profile.kind is "file"'),
        ("[rack]\nstrings = 3\n[[string]]\n", "string: 1 tables [[string]]; expected 3 (rack.strings) or none"),
        (
            '[rack]\nconfig = "rack-16s-lfp.toml"\nmodules_per_string = 4\n',
            "rack.modules_per_string: 4; expected nothing beside rack.config, which says it",
        ),
        (
            '[[mishap]]\nkind = "hot_cell"\ncell = 17\n',
            "mishap, entry 1.cell: 17; expected at most 16: the rack has no more",
        ),
        (
            '[[mishap]]\nkind = "hot_cell"\nstart_s = 5\nend_s = 5\n',
            "mishap, entry 1.end_s: 5 s; expected after start_s (5 s)",
        ),
        ("[cell]\nocv_soc = [0.0, 1.0]\nocv_v = [3.3, 3.2]\n", "cell.ocv_v: does not rise from entry to entry"),
        ("[cell]\ngap_v = [0.01, 0.02]\n", "cell.gap_v: 2 entries; expected one for each entry of cell.gap_soc (none)"),
        ('[temperature]\nkind = "file"\n', 'temperature.kind: "file"; expected a profile that has temperatures'),
        ('[mishap]\nkind = "emergency_stop"\n', "mishap: a table; expected a section, written as [[mishap]]"),
        ("[balancer]\nactive_stop_v = 0.1\n", "balancer.active_stop_v: 0.1 V; expected at most"),
        ('[rack]\nconfig = "nothing.toml"\n', "rack: "),
        (
            "[rack]\nstrings = 8\nmodules_per_string = 8\n",
            "rack.modules_per_string: 64 modules in all; expected at most 32",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_together_is_told(text: str, told: str) -> None:
    assert any(line.startswith(told) for line in complaints(SHORTEST + text)), complaints(SHORTEST + text)


def test_what_is_no_toml_is_told_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "bad.toml"
    file.write_text("duration_s = 10\ntick_s = 0,1\n")
    with pytest.raises(ConfigError, match=r"bad\.toml, line 2.*decimal point"):
        load_scenario(file)


def profile(tmp_path: Path, text: str) -> tuple[str, ...]:
    (tmp_path / "p.csv").write_text(text)
    return complaints(SHORTEST + '[profile]\nkind = "file"\nfile = "p.csv"\n', tmp_path)


def test_a_profile_file_is_checked_line_by_line(tmp_path: Path) -> None:
    told = profile(tmp_path, "t_s,current_a\n0,5\n10,ten\n5,\n")
    assert told == (
        "profile.file: \"p.csv\" line 3: current_a is 'ten'; expected a number",
        "profile.file: \"p.csv\" line 4: current_a is ''; expected a number",
    )
    assert profile(tmp_path, "t_s,amps\n0,5\n") == (
        'profile.file: "p.csv": no column current_a; expected t_s, current_a',
    )
    assert profile(tmp_path, "t_s,current_a\n0,5\n0,6\n")[0].endswith("t_s 0 after 0; expected to rise")
    assert profile(tmp_path, "t_s,current_a\n0,5\n1,nan\n")[0].endswith("line 3: not a finite number")
    assert profile(tmp_path, "t_s,current_a\n0,5\n")[0].endswith("1 rows; expected at least 2")


def test_a_profile_file_holds_each_value_and_begins_anew(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("t_s,current_a,ambient_degc\n100,5,10\n110,-7,20\n")
    text = SHORTEST + '[profile]\nkind = "file"\nfile = "p.csv"\nscale = 2\n[temperature]\nkind = "file"\n'
    found = scenario(text, tmp_path)
    wanted = found.twin.inverter.profile
    assert [wanted.at(t) for t in (0.0, 9.9, 10.0, 19.9, 20.0, 30.0)] == [10.0, 10.0, -14.0, -14.0, 10.0, -14.0]
    assert found.twin.ambient_degc(12.0) == 20.0
    once = scenario(text.replace("scale = 2", "repeats = false"), tmp_path)
    assert (once.twin.inverter.profile.at(20.0), once.twin.ambient_degc(20.0)) == (0.0, 20.0)
