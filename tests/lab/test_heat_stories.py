"""Cells of the twin that heat, leak and lose their fans: what the core says, and when, before it is dangerous."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bmsd.lab.scenario import parse_scenario
from bmsd.lab.simulate import Run

RACK = """
[rack]
modules_per_string = 2
soc0 = {soc0}
discharge_max_c = {most_c}
[temperature]
degc = {degc}
swing_k = {swing_k}
kind = "{room}"
[profile]
{profile}
"""
MISHAP = """
[[mishap]]
kind = "{kind}"
string = 1
module = {module}
start_s = {start_s}
"""
CELL = "cell = {cell}\nvalue = {value}\n"


@dataclass
class Story:
    """When each fault was first seen, s, and how hot the hottest cell was then, degC; the most that was left over."""

    first_s: dict[str, float] = field(default_factory=dict)
    degc: dict[str, float] = field(default_factory=dict)
    most_k: float = 0.0
    opened_s: float | None = None
    most_a: float = 0.0

    @property
    def of_heat(self) -> set[str]:
        return {code for code in self.first_s if code.startswith("TMP") or code == "CEL-011"}


def told(duration_s: float, tick_s: float, *mishaps: str, profile: str, degc: float = 30.0, **rack: float) -> Story:
    text = RACK.format(
        soc0=rack.get("soc0", 0.6), most_c=rack.get("most_c", 0.5), degc=degc, swing_k=rack.get("swing_k", 0.0),
        profile=profile, room="daily" if "swing_k" in rack else "constant",
    )  # fmt: skip
    head = f"duration_s = {duration_s}\ntick_s = {tick_s}\n"
    run, story = Run.of(parse_scenario(head + text + "".join(mishaps), Path())), Story()
    for _ in range(round(duration_s / tick_s)):
        run.advance()
        assert run.outcome is not None
        now_s, hottest = run.twin.time_s, float(run.twin.cells.temperature_degc.max())
        for fault in run.outcome.faults:
            story.first_s.setdefault(fault.code, now_s)
            story.degc.setdefault(fault.code, hottest)
        left = run.outcome.estimate.sensor_residual_k
        story.most_k = max(story.most_k, float(np.nanmax(left)) if np.isfinite(left).any() else 0.0)
        if story.opened_s is None and now_s > 100.0 and not run.twin.on_bus.all():
            story.opened_s = now_s
        story.most_a = max(story.most_a, float(np.abs(run.twin.current_a).max()))
    return story


def mishap(kind: str, start_s: float, cell: int = 0, value: float = 0.0, module: int = 1) -> str:
    return MISHAP.format(kind=kind, module=module, start_s=start_s) + (
        CELL.format(cell=cell, value=value) if cell else ""
    )


def test_an_internal_short_that_grows_is_isolated_in_less_than_two_minutes_and_below_45_degc():
    """20 mohm: 165 A, 6 K/min, 40 mV lower."""
    story = told(260, 1, mishap("soft_short", 120, 7, 0.02), profile="current_a = -80")
    assert 120 < story.first_s["TMP-014"] < story.first_s["TMP-024"] < 120 + 100
    assert story.degc["TMP-014"] < 37.0
    assert story.degc["TMP-024"] < 45.0
    assert story.opened_s is not None
    assert story.opened_s < story.first_s["TMP-024"] + 5.0
    assert "TMP-006" not in story.first_s


def test_heat_under_one_sensor_without_a_second_sign_warns_at_once_and_opens_at_60_degc():
    """8 K/min while charging, nothing else: as well a sensor that drifts, so its temperature alone decides."""
    story = told(420, 2, mishap("hot_cell", 120, 7, 8.0), profile="current_a = 100")
    assert 120 < story.first_s["TMP-014"] < 120 + 60
    assert story.degc["TMP-014"] < 40.0
    assert "TMP-024" not in story.first_s
    assert story.degc["TMP-006"] < 63.0
    assert story.opened_s is not None
    assert story.opened_s < story.first_s["TMP-006"] + 6.0


def test_a_short_of_20_ohm_is_neither_heat_nor_sag():
    """165 mA and half a watt: only the charge that is missing tells of it."""
    story = told(3600, 10, mishap("soft_short", 600, 5, 20.0), profile="current_a = -50")
    assert not story.of_heat
    assert story.most_k < 0.5


def test_a_summer_day_at_half_a_c_in_a_hot_room_says_nothing_and_fans_that_fail_neither():
    day = 'kind = "solar"\ncharge_a = 140\ndischarge_a = 60\nperiod_s = 43200'
    lost = mishap("fan_lost", 6.5 * 3600.0)
    story = told(43200, 20, lost, profile=day, degc=30.0, swing_k=8.0, soc0=0.4)
    assert story.most_k < 1.0
    assert not {"TMP-014", "TMP-015", "TMP-016", "TMP-024", "CEL-011"} & story.of_heat


def test_steps_of_1_c_in_the_cold_say_nothing():
    """At 3 degC 131 W heat every cell, on and off every 5 minutes; the discharge is bound by temperature, not by us."""
    steps = 'kind = "square"\ncharge_a = 20\ndischarge_a = 280\nperiod_s = 600'
    story = told(3600, 5, profile=steps, degc=3.0, soc0=0.9, most_c=1.0)
    assert story.most_a > 250.0
    assert not {"TMP-014", "TMP-015", "TMP-016", "TMP-024", "CEL-011"} & story.of_heat
    assert story.most_k < 1.2
