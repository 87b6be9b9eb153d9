"""Strategies of balancing, side by side on the same cells."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bmsd.errors import ConfigError
from bmsd.lab import study_balancing
from bmsd.lab.study import conclusions, plot, run_balancing
from bmsd.lab.study_balancing import STRATEGIES, Question, Study, answer

SMALL = Question(years=6.0 / 365.0, modules=1, cells=4, soc0_spread=0.02, sun_peak_c=0.5, seed=3)


@pytest.fixture(scope="module")
def six_days() -> dict[str, study_balancing.Answer]:
    return {one.strategy.title: one for one in answer(SMALL)}


def test_every_strategy_starts_with_the_same_cells() -> None:
    study = Study(SMALL)
    for values in (study.cells.capacity_as, study.cells.charge_as, study.cells._self_discharge_25, study.cells.cell_v):
        assert (values == values[:1]).all()
        assert np.ptp(values[0]) > 0.0, "and they are not alike among themselves"


def test_without_balancing_nothing_is_lost_and_nothing_gets_better(six_days) -> None:
    none = six_days["none"]
    assert none.wasted_wh == 0.0
    assert none.daily_module_spread_ah[-1] == pytest.approx(none.daily_module_spread_ah[0], abs=0.1)


def test_more_current_is_quicker_and_bleeding_alone_is_slowest(six_days) -> None:
    spread = {title: one.module_spread_ah for title, one in six_days.items()}
    assert spread["active 2 A"] < spread["active 1 A"] < spread["passive"] < spread["none"]
    usable = {title: one.usable_ah for title, one in six_days.items()}
    assert usable["active 2 A"] > usable["none"] + 1.0


def test_lost_energy_is_that_of_bleeders_and_channels(six_days) -> None:
    assert six_days["passive"].active_loss_wh == 0.0 < six_days["passive"].bled_wh
    assert six_days["active 1 A"].bled_wh == 0.0 < six_days["active 1 A"].active_loss_wh
    hybrid = six_days["hybrid 1 A"]
    assert hybrid.wasted_wh == pytest.approx(hybrid.bled_wh + hybrid.active_loss_wh)
    # what a channel moves is its current for as long as it acts, and 15 % of that energy stays behind
    assert six_days["active 1 A"].active_loss_wh < 0.15 * 3.5 * 1.0 * 12.0 * 6.0


def test_no_cell_is_driven_beyond_the_limits_of_the_core() -> None:
    study = Study(replace(SMALL, soc0=0.95))
    highest_v = lowest_v = 3.3
    for _ in range(2 * 1440):
        study.step()
        highest_v = max(highest_v, float(study.cells.cell_v.max()))
        lowest_v = min(lowest_v, float(study.cells.cell_v.min()))
    assert 3.45 < highest_v < 3.60
    assert lowest_v > 2.80


def test_the_core_decides_which_cells_bleed() -> None:
    bled_j = []
    for enabled in (True, False):
        study = Study(replace(SMALL, soc0=0.9, strategies=(STRATEGIES[1],)))
        study.plant = replace(study.plant, balance=replace(study.plant.balance, enabled=enabled))
        for _ in range(720):
            study.step()
        bled_j.append(study.bled_j[0])
    assert bled_j[0] > 0.0 == bled_j[1]


def test_conclusions_say_what_was_won_and_when(six_days) -> None:
    told = list(conclusions(SMALL, list(six_days.values())))
    assert len(told) == 4
    quick = six_days["active 2 A"]
    assert quick.balanced_day is not None
    assert f"on day {quick.balanced_day:.0f}" in next(line for line in told if line.startswith("active 2 A"))


def test_days_become_a_file_and_wrong_questions_are_refused_at_once(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(study_balancing, "STEP_S", 600.0)
    days = tmp_path / "days.csv"
    given: dict[str, Any] = {"capacity_ah": 100.0, "seed": 1}
    printed = run_balancing(years=2 / 365, names=["active", "none"], output=days, as_json=True, **given)
    report = json.loads(printed[0])
    assert [(one["strategy"], one["active_a"]) for one in report["strategies"]] == [
        ("none", 0),
        ("active", 1),
        ("active", 2),
    ]
    lines = days.read_text().splitlines()
    assert lines[0].startswith("day,none_usable_ah,none_spread_ah")
    assert [line.split(",")[0] for line in lines[1:]] == ["0", "1", "2"]
    with pytest.raises(ConfigError) as refused:
        run_balancing(years=0.0, names=["wild"], output=tmp_path / "x.pdf", as_json=False, **given)
    assert len(refused.value.complaints) == 3


def test_a_plot_without_matplotlib_is_refused_before_anything_runs(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ConfigError, match=r"matplotlib, which is not installed.*extra `lab`"):
        run_balancing(years=1.0, capacity_ah=100.0, names=[], seed=1, output=tmp_path / "p.png", as_json=False)


def test_the_plot_is_a_picture(tmp_path: Path, six_days) -> None:
    plot(SMALL, list(six_days.values()), tmp_path / "p.png")
    assert (tmp_path / "p.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
