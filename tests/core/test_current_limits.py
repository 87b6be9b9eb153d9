"""Limits: the tightest bound, edges of the curves, ramps, and a closed loop that must settle."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from bmsd.core.tick import Outcome
from bmsd.model.bound import Bound, tightest
from bmsd.model.request import Connect
from tests import rack

PLANT = rack.plant()
CLOSED = rack.closed(PLANT)


@cache
def settled() -> rack.Drive:
    return rack.running(PLANT)


def fast(**changes: Any):
    """A plant whose limits rise at once: what is seen is the free limit."""
    limits = replace(PLANT.limits, rise_a_per_s_per_100a=1e6, hold_after_zero_s=0.0, **changes)
    return replace(PLANT, limits=limits)


def free(**values: Any) -> Outcome:
    drive = rack.Drive(fast())
    drive.run(1.0, 0.5, **{**CLOSED, **values})
    return drive.tick(**{**CLOSED, **values})


def test_the_tightest_bound_wins_and_keeps_its_reason():
    assert tightest([Bound(3.0, "a"), Bound(2.0, "b"), Bound(2.5, "c")]).reason == "b"


def test_without_a_bound_nothing_may_flow():
    assert tightest([]).amps == 0.0


@pytest.mark.parametrize("amps", [np.nan, -0.001, -np.inf])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_bound_that_is_no_limit_stops_everything(amps, place):
    bounds = [Bound(1.0, "good"), Bound(2.0, "good")]
    bounds.insert(place, Bound(amps, "bad"))
    assert tightest(bounds).amps == 0.0


@pytest.mark.parametrize(
    ("cell_v", "share"),
    [(3.399, 1.0), (3.40, 1.0), (3.425, 0.625), (3.45, 0.25), (3.475, 0.15), (3.50, 0.05), (3.549, 0.001), (3.55, 0)],
)
def test_the_charge_taper_follows_its_curve(cell_v, share):
    cells = np.full(PLANT.layout.cell_shape, 3.30)
    cells[0, 0, 3] = cell_v
    limits = free(cell_v=cells).limits.charge
    assert next(b.amps for b in limits if b.source == "cell_v") == pytest.approx(140.0 * share, abs=1e-9)


@pytest.mark.parametrize("cell_v", [3.55, 3.551, 3.7])
def test_at_the_top_of_the_taper_nothing_may_be_charged(cell_v):
    cells = np.full(PLANT.layout.cell_shape, 3.30)
    cells[0, 0, 3] = cell_v
    command = free(cell_v=cells).command
    assert command.ccl_a == 0.0
    assert not command.charge_enabled


@pytest.mark.parametrize(
    ("cell_v", "share"), [(3.20, 1.0), (3.15, 0.75), (3.10, 0.5), (3.0, 0.1), (2.90, 0.0), (2.8, 0)]
)
def test_the_discharge_taper_follows_its_curve(cell_v, share):
    cells = np.full(PLANT.layout.cell_shape, 3.30)
    cells[0, 0, 3] = cell_v
    limits = free(cell_v=cells).limits.discharge
    assert next(b.amps for b in limits if b.source == "cell_v") == pytest.approx(200.0 * share, abs=1e-9)


@pytest.mark.parametrize(
    ("degc", "charge", "discharge"),
    [
        (-20.0, 0.0, 0.0), (-10.0, 0.0, 0.3), (0.99, 0.0, 1.0), (1.0, 0.0, 1.0), (5.0, 0.3, 1.0), (10.0, 1.0, 1.0),
        (40.0, 1.0, 1.0), (45.0, 0.5, 1.0), (50.0, 0.0, 0.5), (55.0, 0.0, 0.0), (70.0, 0.0, 0.0),
    ],
)  # fmt: skip
def test_the_worst_sensor_decides_by_the_temperature_curves(degc, charge, discharge):
    sensors = np.full(PLANT.layout.sensor_shape, 25.0)
    sensors[0, 0, 1] = degc
    command = free(temperature_degc=sensors).command
    assert command.ccl_a == pytest.approx(140.0 * charge)
    assert command.dcl_a == pytest.approx(200.0 * discharge)


@pytest.mark.parametrize(
    "values",
    [
        {"cell_v": "one"}, {"current_a": np.nan}, {"temperature_degc": np.nan}, {"cell_age_s": 0.61},
        {"current_age_s": 0.61}, {"temperature_age_s": 3.01}, {"cell_age_s": np.nan}, {"current_age_s": np.inf},
        {"temperature_age_s": np.nan}, {"temperature_age_s": np.inf},
    ],
    ids=str,
)  # fmt: skip
def test_what_is_not_known_is_not_allowed_in_the_same_tick(values):
    if values.get("cell_v") == "one":
        cells = np.full(PLANT.layout.cell_shape, 3.30)
        cells[0, 0, 15] = np.nan
        values = {"cell_v": cells}
    drive = settled().fork()
    assert drive.tick(**CLOSED).command.ccl_a == 140.0
    outcome = drive.tick(**{**CLOSED, **values})
    assert (outcome.command.ccl_a, outcome.command.dcl_a) == (0.0, 0.0)
    assert (outcome.limits.charge_a, outcome.limits.discharge_a) == (0.0, 0.0)
    assert outcome.vetoes == (), "by the limits themselves, not by the guard"
    assert not outcome.command.charge_enabled
    assert not outcome.command.discharge_enabled


@pytest.mark.parametrize("values", [{"cell_age_s": 0.6}, {"current_age_s": 0.6}, {"temperature_age_s": 3.0}], ids=str)
def test_values_are_held_for_their_time(values):
    command = settled().fork().tick(**{**CLOSED, **values}).command
    assert (command.ccl_a, command.dcl_a) == (140.0, 200.0)


def test_one_dead_sensor_of_a_module_does_not_stop_the_rack():
    sensors = np.full(PLANT.layout.sensor_shape, 25.0)
    sensors[0, 0, 0] = np.nan
    assert free(temperature_degc=sensors).command.ccl_a == 140.0


def test_a_decrease_is_taken_at_once():
    drive = settled().fork()
    assert drive.tick(**{**CLOSED, "cell_v": 3.45}).command.ccl_a == pytest.approx(35.0)


@pytest.mark.parametrize("dt_s", [0.01, 0.1, 1.0])
def test_an_increase_is_ramped_by_time_not_by_ticks(dt_s):
    drive = settled().fork()
    drive.tick(dt_s, **CLOSED, temperature_degc=45.0)
    seen = [drive.tick(dt_s, **CLOSED).command.ccl_a for _ in range(round(2.0 / dt_s))]
    assert seen[-1] == pytest.approx(70.0 + 2.0 * 1.4 * 2.0)
    assert max(np.diff([70.0, *seen])) <= 2.0 * 1.4 * dt_s + 1e-9


def test_after_a_zero_the_limit_waits_then_rises():
    drive = settled().fork()
    drive.tick(**CLOSED, send_stalled_s=np.array([0.4, 0.0]))
    outcomes = drive.run(14.0, **CLOSED)
    first = next(i for i, o in enumerate(outcomes) if o.command.dcl_a > 0.0)
    cleared = next(i for i, o in enumerate(outcomes) if not o.faults)
    assert first - cleared == 20, "2 s after the last zero"
    assert outcomes[first].command.dcl_a == pytest.approx(3.0), "1.5 % of 200 A"


@pytest.mark.parametrize(("degc", "leaves"), [(1.19, False), (1.21, True)])
def test_zero_is_left_only_for_a_useful_current(degc, leaves):
    drive = rack.Drive(fast())
    drive.run(3.0, 0.5, **CLOSED, temperature_degc=0.0)
    outcome = drive.run(400.0, 4.0, **CLOSED, temperature_degc=degc)[-1]
    assert ("TMP-008" in rack.codes(outcome)) is True, "still raised: below its clear threshold"
    drive = rack.Drive(fast(), table=())
    drive.run(3.0, 0.5, **CLOSED, temperature_degc=0.0)
    outcome = drive.run(3.0, 0.5, **CLOSED, temperature_degc=degc)[-1]
    assert (outcome.command.ccl_a > 0.0) is leaves


def test_above_zero_the_limit_may_be_smaller_than_what_leaves_zero():
    drive = rack.Drive(fast(), table=())
    drive.run(3.0, 0.5, **CLOSED)
    assert drive.tick(**CLOSED, temperature_degc=1.1).command.ccl_a == pytest.approx(140.0 * 0.3 * 0.1 / 4.0)


def test_inside_the_taper_the_limit_only_falls_until_the_cell_has_left_it():
    drive = rack.Drive(fast())
    drive.run(3.0, 0.5, **CLOSED)
    seen = [drive.tick(**CLOSED, cell_v=v).command.ccl_a for v in (3.42, 3.46, 3.42, 3.41, 3.371, 3.37)]
    assert seen[1] == pytest.approx(140 * 0.21)
    assert seen[2:5] == [seen[1]] * 3
    assert seen[5] == 140.0


def test_an_unknown_cell_does_not_release_the_ratchet():
    drive = rack.Drive(fast())
    drive.run(3.0, 0.5, **CLOSED)
    low = drive.tick(**CLOSED, cell_v=3.46).command.ccl_a
    blind = np.full(PLANT.layout.cell_shape, 3.30)
    blind[0, 0, 7] = np.nan
    drive.tick(**CLOSED, cell_v=blind)
    assert drive.tick(**CLOSED, cell_v=3.40).command.ccl_a == pytest.approx(low)


def test_the_rack_gets_the_weakest_strings_limit_times_the_closed_strings():
    plant = replace(fast(), layout=rack.plant(strings=3).layout)
    cells = np.full(plant.layout.cell_shape, 3.30)
    cells[1, 0, 0] = 3.45
    drive = rack.Drive(plant)
    drive.run(3.0, 0.5, **rack.closed(plant), cell_v=cells)
    outcome = drive.tick(**rack.closed(plant), cell_v=cells)
    assert outcome.command.ccl_a == pytest.approx(3 * 35.0)
    assert outcome.command.dcl_a == pytest.approx(600.0)
    assert (outcome.limits.charge[0].source, outcome.limits.charge[0].string) == ("cell_v", 1)


@pytest.mark.parametrize("values", [{}, {"cell_v": 3.46}, {"current_a": np.nan}], ids=str)
def test_the_binding_bound_comes_first_and_all_are_published(values):
    outcome = free(**values)
    for bounds, amps in (
        (outcome.limits.charge, outcome.command.ccl_a),
        (outcome.limits.discharge, outcome.command.dcl_a),
    ):
        assert bounds[0].amps == min(b.amps for b in bounds) == amps
        assert {"ratings", "cell_v", "temperature"} <= {b.source for b in bounds} | (
            {"temperature"} if values else set()
        )


@pytest.mark.parametrize(
    ("soc", "ccl", "dcl"),
    [(0.89, 0.0, 200.0), (0.87, 140.0, 200.0), (0.23, 140.0, 200.0), (0.21, 140.0, 0.0), (np.nan, 0, 0)],
)
def test_the_soc_window_stops_when_the_soc_may_be_at_its_edges_or_is_unknown(soc, ccl, dcl):
    plant = fast(max_charge_soc=0.9, min_discharge_soc=0.2)
    drive = rack.Drive(plant)
    drive.run(2.0, 0.5, **CLOSED)
    drive.memory = replace(drive.memory, estimation=rack.knowing(plant, soc))
    if np.isnan(soc):
        drive.memory = replace(drive.memory, estimation=rack.knowing(plant, np.where(np.arange(16) == 3, np.nan, 0.5)))
        cells = np.where(np.arange(16) == 3, np.nan, 3.30).reshape(1, 1, 16)
        outcome = drive.tick(**CLOSED, cell_v=cells)
        assert any(b.source == "soc" for b in outcome.limits.charge)
    else:
        outcome = drive.tick(**CLOSED, cell_v=float(np.interp(soc, rack.OCV_SOC, rack.OCV_V)))
    assert (outcome.command.ccl_a, outcome.command.dcl_a) == (ccl, dcl)


def two(**values: Any) -> tuple[rack.Drive, dict[str, Any]]:
    plant = rack.plant(strings=2)
    drive = rack.running(plant)
    return drive, {**rack.closed(plant), **values}


def test_while_one_string_leaves_nothing_flows_then_the_others_go_on_with_their_share():
    drive, values = two(current_a=np.array([60.0, 60.0]))
    hot = np.full(drive.plant.layout.sensor_shape, 25.0)
    hot[1] = 61.0
    assert drive.tick(**values).command.ccl_a == 280.0
    outcomes = drive.run(6.2, **values, temperature_degc=hot)
    leaving = [o for o in outcomes if rack.states(o)[1] == "opening"]
    assert len(leaving) >= 9
    for outcome in leaving:
        assert outcome.command.ccl_a == outcome.command.dcl_a == 0.0
        assert outcome.command.close_plus.tolist() == [True, True]
    values |= {"plus_output": np.array([True, False]), "minus_output": np.array([True, False])}
    values |= {"current_a": np.array([5.0, 0.0]), "plus": np.array([1, 0]), "minus": np.array([1, 0])}
    after = drive.run(60.0, 0.5, **values, temperature_degc=hot)
    assert rack.states(after[0]) == ["closed", "open"]
    assert after[0].command.ccl_a == 0.0, "held after the zero"
    assert 0.0 < after[10].command.ccl_a < 40.0, "and raised slowly"
    assert after[-1].command.ccl_a == 140.0


def test_while_one_string_leaves_nothing_flows_even_without_a_hold_after_zero():
    plant = replace(fast(), layout=rack.plant(strings=2).layout)
    drive = rack.Drive(plant)
    values = {**rack.closed(plant), "current_a": np.array([60.0, 60.0])}
    drive.run(3.0, 0.5, **values)
    hot = np.full(plant.layout.sensor_shape, 25.0)
    hot[1] = 61.0
    leaving = [o for o in drive.run(6.5, **values, temperature_degc=hot) if rack.states(o) == ["closed", "opening"]]
    assert len(leaving) >= 9
    assert all(o.limits.charge_a == o.limits.discharge_a == 0.0 for o in leaving)
    assert not any(o.vetoes for o in leaving), "by the limits themselves, not by the guard"


def test_an_ordered_opening_zeroes_limits_before_the_contacts_part():
    drive = settled().fork()
    first = drive.tick(**CLOSED, current_a=50.0, requests=(Connect(False),))
    assert first.command.ccl_a == first.command.dcl_a == 0.0
    assert first.command.close_plus[0]
    assert not first.command.inverter_enable[0]


OCV = (rack.OCV_SOC, rack.OCV_V)


class Loop:
    """16 cells of 280 Ah with 0.3 mOhm behind an inverter that follows its limit with a lag of 10 s."""

    def __init__(self, soc: float, *, charge: bool, spread: float = 0.0) -> None:
        self.soc = np.full(16, soc)
        self.soc[3] += spread if charge else -spread
        self.charge, self.current_a = charge, 0.0
        self.drive = rack.running(PLANT, cell_v=float(np.interp(soc, *OCV)))

    def run(self, seconds: float, dt_s: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Limits, currents as magnitudes and extreme cell voltages of every tick."""
        limits, currents, extremes = [], [], []
        for _ in range(round(seconds / dt_s)):
            sign = 1.0 if self.charge else -1.0
            cell_v = np.interp(self.soc, *OCV) + 0.0003 * sign * self.current_a
            command = self.drive.tick(
                dt_s, **CLOSED, cell_v=cell_v.reshape(PLANT.layout.cell_shape), current_a=sign * self.current_a
            ).command
            limit_a = command.ccl_a if self.charge else command.dcl_a
            self.current_a += (limit_a - self.current_a) * (1.0 - np.exp(-dt_s / 10.0))
            self.soc += sign * self.current_a * dt_s / 3600.0 / 280.0
            limits.append(limit_a)
            currents.append(self.current_a)
            extremes.append(cell_v.max() if self.charge else cell_v.min())
        return np.array(limits), np.array(currents), np.array(extremes)


def rises(limits: np.ndarray) -> int:
    """How often a falling limit turned to rise again."""
    steps = np.diff(limits)
    signs = np.sign(steps[np.abs(steps) > 1e-9])
    return int(((signs[1:] > 0) & (signs[:-1] < 0)).sum())


@pytest.mark.parametrize(
    ("charge", "soc", "edge_v", "spread"),
    [(True, 0.92, 3.60, 0.0), (True, 0.90, 3.60, 0.03), (False, 0.08, 2.80, 0.02)],
)
def test_near_the_end_the_limit_settles_with_a_slow_inverter(charge, soc, edge_v, spread):
    limits, currents, extremes = Loop(soc, charge=charge, spread=spread).run(4500.0, 5.0)
    assert currents.max() > 30.0
    assert rises(limits) <= 1
    half = len(limits) // 2
    assert np.ptp(currents[half:]) < 5.0, "no limit cycle"
    assert (extremes.max() < edge_v) if charge else (extremes.min() > edge_v)


def test_where_nothing_enforces_a_limit_zero_is_told_and_what_would_be_allowed_is_shown():
    monitored = rack.running(replace(PLANT, monitor_only=True))
    outcome = monitored.tick(**CLOSED)
    assert (outcome.command.ccl_a, outcome.command.dcl_a) == (0.0, 0.0)
    assert not outcome.command.charge_enabled
    assert not outcome.command.discharge_enabled
    for bounds, rated_a in ((outcome.limits.charge, 140.0), (outcome.limits.discharge, 200.0)):
        assert (bounds[0].amps, bounds[0].source) == (0.0, "monitor")
        assert min(bound.amps for bound in bounds[1:]) == rated_a, "nothing else binds"
