"""The row engine alone: one row, a story of (time, value), what is raised."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmsd.core import memory
from bmsd.core.protection.evidence import Reading
from bmsd.core.protection.step import FaultState, Rows, step
from bmsd.model.request import Connect, Reset, Role
from bmsd.model.row import Latch, Level, Row, Scope
from tests import rack

NAN = float("nan")
OPERATOR = Reset("TST-001", Role.OPERATOR)
SERVICE = Reset("TST-001", Role.SERVICE, "inspected")


def row(**changes: Any) -> Row:
    """A row that is raised above 10 and clears below 8."""
    values: dict[str, Any] = {
        "code": "TST-001", "name": "test", "scope": Scope.STRING, "detector": "none", "trip": 10.0, "clear": 8.0,
        "level": Level.ALARM, "means": "", "does": "", "remedy": "",
    }  # fmt: skip
    return Row(**{**values, **changes})


class Engine:
    """One row over `subjects`, one tick per value."""

    def __init__(self, entry: Row, subjects: int = 1) -> None:
        self.rows = Rows.of([entry], {})
        self.state = FaultState.start(1, subjects)

    def see(
        self,
        value: float | list[float],
        dt_s: float = 1.0,
        *,
        new: bool = True,
        gate: bool = True,
        delay_s: float | None = None,
        ask: Reset | None = None,
    ) -> bool:
        """Whether the first subject's row is raised after this value."""
        values = np.atleast_1d(np.array(value, dtype=np.float64))
        reading = Reading(
            values,
            gate=np.full(values.shape, gate),
            new=np.full(values.shape, new),
            delay_s=None if delay_s is None else np.full(values.shape, delay_s),
        )
        self.state = step(self.rows, self.state, [reading], dt_s, [] if ask is None else [ask])
        return bool(self.state.raised[0, 0])


@pytest.mark.parametrize(("below", "values"), [(False, (9.999, 10.0, 10.001)), (True, (10.001, 10.0, 9.999))])
def test_on_the_threshold_is_not_beyond_it(below, values):
    clear = 12.0 if below else 8.0
    raised = [Engine(row(below=below, clear=clear)).see(value) for value in values]
    assert raised == [False, False, True]


@pytest.mark.parametrize(("below", "values"), [(False, (8.001, 8.0, 7.999)), (True, (11.999, 12.0, 12.001))])
def test_on_the_clear_threshold_is_not_good_yet(below, values):
    for value, still in zip(values, (True, True, False), strict=True):
        engine = Engine(row(below=below, clear=12.0 if below else 8.0))
        engine.see(9.0 if below else 11.0)
        assert engine.see(value) is still


def test_a_row_is_raised_on_its_delay_and_not_just_before():
    engine = Engine(row(delay_s=0.5))
    assert not engine.see(11.0, 0.1)
    assert not engine.see(11.0, 0.499)
    assert engine.see(11.0, 0.001)


def test_the_delay_counts_from_the_first_sample_not_from_the_tick_before_it():
    engine = Engine(row(delay_s=0.5))
    assert not engine.see(11.0, 60.0)


def test_only_new_syncs_count_as_samples():
    engine = Engine(row(samples=3))
    assert not engine.see(11.0)
    assert not any(engine.see(11.0, new=False) for _ in range(20))
    assert not engine.see(11.0)
    assert engine.see(11.0)


def test_enough_samples_still_wait_for_the_delay_and_the_delay_for_samples():
    engine = Engine(row(samples=2, delay_s=1.0))
    assert not any(engine.see(11.0, 0.1) for _ in range(10))
    assert engine.see(11.0, 0.1)
    engine = Engine(row(samples=2, delay_s=1.0))
    engine.see(11.0)
    assert not engine.see(11.0, 5.0, new=False)
    assert engine.see(11.0, 0.1)


def test_a_dip_restarts_the_delay_and_the_samples():
    engine = Engine(row(samples=3, delay_s=1.0))
    engine.see(11.0, 0.5)
    engine.see(11.0, 0.9)
    assert not engine.see(10.0, 0.1)
    assert not engine.see(11.0, 0.1)
    assert not engine.see(11.0, 0.9)
    assert engine.see(11.0, 0.1)


def test_a_debounce_belongs_to_one_subject_not_to_the_worst_of_all():
    engine = Engine(row(samples=2), subjects=2)
    engine.see([11.0, 9.0])
    engine.see([9.0, 11.0])
    assert not engine.state.raised.any()
    engine.see([9.0, 11.0])
    assert engine.state.raised.tolist() == [[False, True]]


def test_unknown_neither_raises_nor_restarts_the_debounce():
    engine = Engine(row(samples=2))
    assert not any(engine.see(NAN) for _ in range(50))
    engine.see(11.0)
    assert not any(engine.see(NAN) for _ in range(50))
    assert engine.see(11.0)


def test_unknown_holds_a_raised_row_and_its_bound():
    engine = Engine(row(clear_s=5.0))
    engine.see(11.0)
    assert all(engine.see(NAN, 100.0) for _ in range(10))
    assert engine.state.beyond[0, 0]
    engine.see(7.0)
    engine.see(7.0, 4.0)
    assert engine.see(NAN, 100.0), "time that was not seen does not count as good"
    assert not engine.see(7.0, 1.0)


def test_a_row_against_not_knowing_is_raised_by_unknown_and_not_cleared_by_it():
    engine = Engine(row(samples=2, unknown_trips=True))
    assert not engine.see(NAN)
    assert engine.see(NAN)
    assert engine.see(NAN, 1000.0)
    assert not engine.see(7.0)


def test_between_trip_and_clear_the_row_stays_raised_and_the_good_time_restarts():
    engine = Engine(row(clear_s=10.0))
    engine.see(11.0)
    assert engine.see(9.0, 1000.0)
    assert engine.see(7.0)
    assert engine.see(7.0, 9.9)
    assert engine.see(8.5, 0.1)
    assert engine.see(7.0)
    assert engine.see(7.0, 9.99)
    assert not engine.see(7.0, 0.01)


def test_the_clear_time_counts_from_the_first_good_sample():
    engine = Engine(row(clear_s=10.0))
    engine.see(11.0)
    assert engine.see(7.0, 60.0)
    assert not engine.see(7.0, 60.0)


def test_where_clear_equals_trip_not_beyond_is_good():
    engine = Engine(row(clear=10.0))
    engine.see(10.5)
    assert not engine.see(10.0)


def test_a_closed_gate_stops_the_debounce_but_not_a_raised_row():
    engine = Engine(row(samples=2))
    engine.see(11.0)
    assert not engine.see(11.0, gate=False)
    assert not engine.see(11.0)
    assert engine.see(11.0)
    assert engine.see(11.0, 100.0, gate=False), "it clears by value, not because the gate closed"
    assert not engine.see(7.0, gate=False)


def test_a_detector_may_replace_the_delay():
    engine = Engine(row(delay_s=0.5))
    engine.see(11.0)
    assert not engine.see(11.0, 599.0, delay_s=600.0)
    assert engine.see(11.0, 1.0, delay_s=600.0)


@pytest.mark.parametrize("value", [11.0, 9.0, 8.0])
def test_an_acknowledgement_before_the_good_side_does_nothing(value):
    engine = Engine(row(latch=Latch.OPERATOR))
    engine.see(11.0)
    assert engine.see(value, ask=OPERATOR)
    assert engine.see(7.0), "nor is it remembered"


def test_a_latched_row_needs_the_good_side_and_an_acknowledgement():
    engine = Engine(row(latch=Latch.OPERATOR, clear_s=10.0))
    engine.see(11.0)
    assert all(engine.see(7.0, 100.0) for _ in range(10))
    assert engine.see(7.0, ask=Reset("TST-002", Role.SERVICE, "other row"))
    assert engine.see(NAN, ask=OPERATOR), "unknown is not good"
    assert not engine.see(7.0, ask=OPERATOR)


def test_reset_of_all_means_this_row_too():
    engine = Engine(row(latch=Latch.OPERATOR))
    engine.see(11.0)
    assert not engine.see(7.0, ask=Reset("all", Role.OPERATOR))


@pytest.mark.parametrize(
    ("ask", "still"),
    [
        (OPERATOR, True),
        (Reset("all", Role.OPERATOR, "with reason"), True),
        (Reset("TST-001", Role.SERVICE), True),
        (SERVICE, False),
        (Reset("", Role.SERVICE, "no group is no name for those without one"), True),
        (Reset("all", Role.SERVICE, "inspected"), False),
    ],
)
def test_a_service_row_needs_the_role_and_a_reason(ask, still):
    engine = Engine(row(latch=Latch.SERVICE))
    engine.see(11.0)
    assert engine.see(7.0, ask=ask) is still


def test_more_raises_than_allowed_within_an_hour_latch():
    engine = Engine(row(auto_per_hour=2))
    for _ in range(2):
        assert engine.see(11.0)
        assert not engine.see(7.0, 10.0)
    assert engine.see(11.0)
    assert engine.see(7.0, 100.0)
    assert engine.state.latched[0, 0]
    assert not engine.see(7.0, ask=OPERATOR)


def test_raises_of_the_last_hour_are_forgotten():
    engine = Engine(row(auto_per_hour=1))
    engine.see(11.0)
    assert not engine.see(7.0, 3599.0)
    assert not engine.see(7.0, 1.0)
    assert engine.see(11.0, 1.0)
    assert not engine.see(7.0)
    engine.see(11.0)
    assert engine.see(7.0), "the second within the new hour"


def test_an_acknowledgement_that_allows_reclosing_keeps_the_row_raised_until_good():
    engine = Engine(row(latch=Latch.OPERATOR, reclose_on_ack=True))
    engine.see(11.0)
    assert engine.see(9.0, ask=OPERATOR)
    assert engine.state.acknowledged[0, 0]
    assert engine.see(9.0, 100.0)
    assert not engine.see(7.0), "once good it needs no second acknowledgement"
    assert not engine.state.acknowledged[0, 0]


def test_an_acknowledgement_is_used_up_when_the_row_trips_anew():
    engine = Engine(row(latch=Latch.OPERATOR, reclose_on_ack=True, delay_s=1.0, samples=2))
    engine.see(11.0)
    assert engine.see(11.0)
    engine.see(11.0, 50.0, ask=OPERATOR)
    assert engine.state.acknowledged[0, 0]
    engine.see(11.0, 0.9)
    assert engine.state.acknowledged[0, 0]
    engine.see(11.0, 0.1)
    assert not engine.state.acknowledged[0, 0]
    assert engine.state.raised_s[0, 0] == 0.0, "the inverter is given notice again"


VALUES = st.one_of(st.sampled_from([NAN, 7.0, 8.0, 9.0, 10.0, 10.5]), st.floats(6.0, 12.0))
STEPS = st.lists(st.tuples(VALUES, st.floats(0.0, 3.0), st.booleans(), st.booleans()), max_size=40)


@given(STEPS, st.integers(1, 4), st.floats(0.0, 4.0))
def test_raised_only_after_enough_samples_and_time_without_a_good_one(steps, samples, delay_s):
    engine = Engine(row(samples=samples, delay_s=delay_s))
    was, count, since_s = False, 0, None
    for value, dt_s, new, _ in steps:
        if value > 10.0:
            count += new
            since_s = 0.0 if since_s is None else since_s + dt_s
        elif np.isnan(value):
            since_s = None if since_s is None else since_s + dt_s
        else:
            count, since_s = 0, None
        raised = engine.see(value, dt_s, new=new)
        enough = value > 10.0 and count >= samples and since_s is not None and since_s >= delay_s - 1e-6
        if raised and not was:
            assert enough
        if not raised:
            assert not (value > 10.0 and count >= samples and since_s is not None and since_s >= delay_s + 1e-6)
            if was:
                assert value < 8.0
                count, since_s = 0, None
        was = raised


@given(STEPS, st.sampled_from([Latch.OPERATOR, Latch.SERVICE]), st.booleans())
def test_a_latched_row_never_vanishes_without_a_reset_on_the_good_side(steps, latch, reclose):
    engine = Engine(row(latch=latch, reclose_on_ack=reclose))
    asked_before = False
    for value, dt_s, new, ask in steps:
        was = bool(engine.state.latched[0, 0])
        engine.see(value, dt_s, new=new, ask=SERVICE if ask else None)
        asked_before |= ask and was
        if was and not engine.state.latched[0, 0]:
            assert value < 8.0
            assert ask or (reclose and asked_before)
        if not engine.state.latched[0, 0]:
            asked_before = False


@given(STEPS, st.sampled_from(list(Latch)), st.booleans(), st.booleans())
def test_a_subject_alone_goes_the_way_it_goes_beside_one_that_is_always_beyond(steps, latch, reclose, unknown):
    entry = row(latch=latch, reclose_on_ack=reclose, unknown_trips=unknown, samples=2, delay_s=1.0, auto_per_hour=1)
    alone, beside = Engine(entry), Engine(entry, 2)
    for value, dt_s, new, ask in steps:
        for engine, values in ((alone, [value]), (beside, [value, 11.0])):
            engine.see(values, dt_s, new=new, ask=SERVICE if ask else None)
        for field in fields(FaultState):
            mine, theirs = (getattr(engine.state, field.name)[:, :1] for engine in (alone, beside))
            np.testing.assert_array_equal(mine, theirs, field.name)


def test_latches_and_unknown_soc_survive_a_restart():
    plant = rack.plant(strings=2, modules=2)
    drive = rack.Drive(plant)
    cell_v = np.full(plant.layout.cell_shape, 3.30)
    cell_v[1, 0, 4] = 3.80
    cell_v[0, 1, 2] = np.nan
    drive.run(3.0, cell_v=cell_v)
    assert {"CEL-003", "CEL-004"} <= rack.codes(drive.tick(cell_v=cell_v))
    saved = memory.durable(drive.protections, drive.memory, 1000.0)
    again = rack.Drive(plant)
    again.memory, notes = memory.restore(plant, again.protections, saved, 1000.0 + 86400.0)
    assert notes == []
    known = again.memory.estimation.soc
    np.testing.assert_allclose(known.soc, saved.soc, atol=0.02)
    assert np.isnan(known.soc[0, 1, 2])
    assert (known.sigma[1, 1] > 0.9 * saved.soc_sigma[1, 1]).all()
    second = memory.durable(again.protections, again.memory, 1000.0)
    assert set(second.latches) == set(saved.latches)
    outcome = again.tick()
    fault = next(f for f in outcome.faults if f.code == "CEL-004")
    assert (fault.string, fault.module, fault.item, fault.latched) == (2, 1, 5, True)
    assert "CEL-004" not in rack.codes(again.tick(requests=(Reset("CEL-004", Role.SERVICE, "exchanged"),)))


def test_a_latch_of_the_contactors_survives_a_restart():
    plant = rack.plant()
    drive = rack.Drive(plant)
    drive.run(120.0, 0.5, minus=0)
    assert [(fault.code, fault.latched) for fault in drive.tick().faults] == [("CON-002", True)]
    saved = memory.durable(drive.protections, drive.memory, None, running=False)
    again = rack.Drive(plant)
    again.memory, _ = memory.restore(plant, again.protections, saved, None)
    assert rack.states(again.run(60.0, 1.0)[-1]) == ["open"]
    again.tick(requests=(Reset("contactors", Role.OPERATOR),))
    assert rack.states(again.tick()) == ["closing_minus"]


@pytest.mark.parametrize("ask", [Connect(True), Reset("contactors", Role.OPERATOR)], ids=str)
def test_a_string_left_open_after_an_interruption_stays_so_over_an_orderly_restart(ask):
    plant = rack.plant()
    drive = rack.Drive(plant)
    drive.memory = replace(drive.memory, interrupted=True)
    assert rack.states(drive.tick()) == ["locked"]
    saved = memory.durable(drive.protections, drive.memory, None, running=False)
    again = rack.Drive(plant)
    again.memory, _ = memory.restore(plant, again.protections, saved, None)
    assert rack.states(again.run(60.0, 1.0)[-1]) == ["locked"]
    assert rack.states(again.tick(requests=(ask,))) != ["locked"]


def test_saved_latches_that_no_longer_fit_are_named():
    plant = rack.plant(modules=2)
    drive = rack.Drive(plant)
    cell_v = np.full(plant.layout.cell_shape, 3.30)
    cell_v[0, 1, 15] = 3.80
    drive.run(3.0, cell_v=cell_v)
    saved = memory.durable(drive.protections, drive.memory, None)
    smaller = rack.Drive(rack.plant(modules=1))
    restored, notes = memory.restore(smaller.plant, smaller.protections, saved, None)
    assert any("CEL-004" in note for note in notes)
    assert any("SoC" in note for note in notes)
    assert not any(state.raised.any() for state in restored.protection.faults.values())
