"""Stories of contactors: the core against the simulated rack, with every frame between them, on simulated time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bmsd.core.contactors.connecting import allowed_v
from bmsd.model.request import Connect, Reset, Role
from bmsd.model.row import Alarm
from bmsd.sim.contactor_unit import OpenReason
from bmsd.sim.mishap import Mishap
from tests import rack
from tests.lockstep import Lockstep, all_closed

ONE, TWO, THREE = (rack.plant(strings=strings) for strings in (1, 2, 3))
EQUALISING_A = 56.0
"""0.2C of 280 Ah."""
HOT = Mishap("temperature", string=2, value=61.0)
"""String 2 trips by temperature; its boards do not, below 65 degC."""
WELDED = (Mishap("welded_contactor", string=2, contact="minus"), Mishap("welded_contactor", string=2, contact="plus"))
INSPECTED = Reset("all", Role.SERVICE, "inspected")


def closed(plant: Any, **sim: Any) -> Lockstep:
    """A rack whose strings have closed by themselves."""
    story = Lockstep(plant, **sim)
    story.until(all_closed, 60.0)
    return story


def charging(amps: float, **more: Any) -> dict[str, Any]:
    return {"inverter": {"charge_a": amps, **more}}


def raised(code: str) -> Any:
    return lambda outcome: code in rack.codes(outcome)


def test_three_strings_close_one_after_the_other_without_a_surge() -> None:
    story = closed(THREE, resistance_spread=0.03, soc0_spread=0.002)
    assert not any(outcome.faults for outcome in story.outcomes if outcome.started)
    assert story.world.truth().peak_a[1:].max() < EQUALISING_A, "the first one charges the bus"


@pytest.mark.parametrize(("farad", "ohm", "modules"), [(0.0001, 50.0, 1), (0.001, 10.0, 1), (0.02, 10.0, 2)])
def test_a_bus_that_is_charged_before_it_is_reported_is_no_load(farad: float, ohm: float, modules: int) -> None:
    plant = rack.plant(modules=modules)
    plant = replace(plant, ratings=replace(plant.ratings, bus_capacitance_f=farad, precharge_ohm=ohm))
    story = Lockstep(plant, bus={"capacitance_f": farad, "precharge_ohm": ohm})
    story.until(all_closed, 5.0)


def test_limits_rise_slowly_when_a_string_joins() -> None:
    story = Lockstep(TWO, soc0_by_string=[0.5, 0.1], **charging(0.0))
    story.until(lambda outcome: outcome.command.ccl_a == 140.0, 90.0)
    assert rack.states(story.last) == ["closed", "open"], "the higher one came first"
    assert rack.codes(story.last) == {"PCK-006"}
    assert "below the bus, at most 0.54 V: waits until the rack is discharged" in story.last.contactors[1].reason
    cells = story.world.rack.cells
    cells.charge_as[0] = 0.102 * cells.capacity_as[0]  # type: ignore[attr-defined]  # the rack is discharged meanwhile
    first = len(story.outcomes)
    story.until(all_closed, 30.0)
    story.run(120.0)
    assert story.last.command.ccl_a == 280.0
    told_a = np.array([outcome.command.ccl_a for outcome in story.outcomes[first:]])
    assert np.diff(told_a).max() <= 2.0 * 2.8 * 0.1 + 1e-6, "2 A/s for each 100 A of the rated current"
    assert story.world.truth().peak_a[1] < EQUALISING_A


def test_a_string_that_leaves_takes_the_current_away_before_the_others_get_it() -> None:
    story = closed(THREE, **charging(400.0))
    story.until(lambda outcome: outcome.command.ccl_a == 420.0, 90.0)
    story.run(10.0)
    story.befall(HOT)
    story.until(raised("TMP-006"), 12.0)
    carried_a, limits_a = [], []
    while story.world.rack.plus_closed[1]:
        limits_a.append(story.run(0.1)[-1].command.ccl_a)
    for _ in range(900):
        story.run(0.1)
        carried_a.append(story.world.truth().string_a.max())
    assert set(limits_a) == {0.0}
    assert story.last.command.ccl_a == 280.0
    assert max(carried_a) < 141.0, "the rated current of one"
    assert rack.states(story.last) == ["closed", "open", "closed"]


def test_a_unit_that_says_nothing_opens_by_itself_and_joins_again_when_it_speaks() -> None:
    before = closed(TWO, **charging(100.0))
    before.run(60.0)
    assert before.world.truth().string_a.min() > 40.0
    story = Lockstep(TWO, now_s=before.now_s, world=before.world)
    story.drive.memory = replace(story.drive.memory, started=True)  # the heartbeat goes on at once
    story.befall(Mishap("lost", string=2, node="unit"))
    first_s = story.until(lambda _: not story.world.units[1].coil.any(), 8.0)
    assert story.world.units[1].open_reason == OpenReason.LEASE_EXPIRED
    assert first_s <= 6.0
    assert not any(o.command.commanded[1] or o.command.ccl_a for o in story.outcomes if o.started)
    story.run(20.0)
    assert rack.states(story.last) == ["closed", "unknown"]
    assert story.last.command.ccl_a == 0.0, "nobody has seen it open"
    assert "CON-015" in rack.codes(story.last)
    story.run(20.0, Reset("CON-015", Role.SERVICE, "switched off by hand"))
    assert story.last.command.ccl_a > 0.0, "string 1 goes on alone"
    story.befall()
    story.until(lambda outcome: rack.states(outcome)[1] == "open", 2.0)
    story.run(2.0)
    assert "the rack carries" in story.last.contactors[1].reason


def test_a_welded_string_holds_the_others_until_nothing_flows_and_then_nothing_closes() -> None:
    story = closed(TWO, **charging(100.0))
    story.run(60.0)
    story.befall(HOT, *WELDED)
    story.until(raised("CON-001"), 20.0)
    story.until(lambda outcome: rack.states(outcome)[0] == "open", 10.0)
    story.run(0.1)
    assert story.world.truth().contacts[:, 2].tolist() == [False, True]
    assert abs(story.world.truth().inverter_a) < 0.1
    story.befall()
    story.run(100.0)
    assert rack.states(story.last) == ["open", "open"]
    assert story.last.contactors[0].reason == "CON-001 contactor welded"
    assert (story.last.command.ccl_a, story.last.command.dcl_a) == (0.0, 0.0)
    story.run(0.1, INSPECTED)
    story.until(all_closed, 60.0)


def test_the_others_never_leave_a_welded_string_alone_with_an_inverter_that_goes_on() -> None:
    story = closed(TWO, **charging(60.0, enable_wired=False))
    story.run(60.0)
    story.befall(HOT, *WELDED, Mishap("inverter_ignores_limits"))
    story.until(raised("CON-001"), 20.0)
    assert Alarm.CONTACTOR in story.last.command.alarms
    outcomes = story.run(60.0)
    assert {rack.states(outcome)[0] for outcome in outcomes} == {"opening"}
    assert all(outcome.command.ccl_a == 0.0 and not outcome.command.inverter_enable.any() for outcome in outcomes)
    assert story.world.truth().string_a.max() < 31.0, "they share it"


def test_one_welded_contact_costs_its_string_and_not_the_rack() -> None:
    story = closed(TWO, **charging(20.0))
    story.run(30.0)
    story.befall(HOT, WELDED[0])
    story.until(raised("CON-003"), 20.0)
    story.run(60.0)
    assert rack.states(story.last) == ["closed", "open"]
    assert "CON-001" not in rack.codes(story.last)
    assert story.last.command.ccl_a > 0.0


@pytest.mark.parametrize("kind", ["jammed_contactor", "feedback_lost"])
def test_a_string_whose_contactor_cannot_be_seen_closed_is_tried_three_times_while_the_other_runs(kind: str) -> None:
    story = Lockstep(TWO, mishap=[{"kind": kind, "string": 2}], **charging(20.0))
    story.until(lambda outcome: any(f.code == "CON-002" and f.latched for f in outcome.faults), 150.0)
    tries = sum(string.failed is not None for outcome in story.outcomes for string in outcome.contactors)
    assert tries == 3
    story.run(20.0)
    assert rack.states(story.last) == ["closed", "open"]
    assert story.last.command.ccl_a > 0.0
    assert not story.last.command.alarms, "some inverters stop at an alarm"
    story.befall()
    story.run(60.0)
    assert rack.states(story.last)[1] == "open"
    story.run(0.1, Reset("CON-002", Role.OPERATOR))
    story.until(all_closed, 10.0)


def test_a_short_on_the_bus_breaks_the_first_precharge_off() -> None:
    story = Lockstep(ONE, mishap=[{"kind": "bus_load", "value": 10.0}])
    story.until(raised("CON-009"), 10.0)
    started_s = next(o.snapshot.now_s for o in story.outcomes if rack.states(o) == ["precharge"])
    assert story.now_s - started_s == pytest.approx(2.4 + 1.0, abs=0.3), "a time constant, the relay and the report"
    story.run(100.0)
    assert not story.world.truth().coils.any()
    story.befall()
    story.run(0.1, Reset("contactors", Role.OPERATOR))
    story.until(all_closed, 30.0)


def test_a_small_load_on_the_bus_is_tried_three_times_with_pauses() -> None:
    story = Lockstep(ONE, mishap=[{"kind": "bus_load", "value": 400.0}])
    story.until(lambda outcome: any(f.code == "CON-008" and f.latched for f in outcome.faults), 150.0)
    failed_s = [o.snapshot.now_s for o in story.outcomes if o.contactors[0].failed]
    assert np.diff(failed_s) == pytest.approx([43.5, 43.5], abs=1.0), "30 s pause, then 13 s of precharge"


def test_a_string_that_is_apart_equalises_with_what_was_predicted() -> None:
    plant = replace(TWO, cell=replace(TWO.cell, resistance_ohm=0.00025), ratings=replace(TWO.ratings, cable_ohm=0.001))
    story = closed(TWO, soc0=0.12)
    cells = story.world.rack.cells
    story.run(0.1, Connect(False))
    story.until(lambda outcome: set(rack.states(outcome)) == {"open"}, 10.0)
    cells.charge_as[1] -= 0.02 * cells.capacity_as[1]  # type: ignore[attr-defined]
    story.run(0.1, Connect(True))
    apart_v = float(abs(np.diff(story.world.truth().string_v)[0]))
    story.until(lambda outcome: rack.states(outcome)[1] == "closing_plus", 60.0)
    flowed_a = [abs(float(story.world.rack.string_a[1])) for _ in range(40) if story.run(0.01) is not None]
    predicted_a = apart_v / allowed_v(plant, 1) * EQUALISING_A
    assert max(flowed_a) == pytest.approx(predicted_a, rel=0.1)
