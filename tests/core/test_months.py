"""Trend and remaining life in the tick: published, kept over restarts, and not shaken by clocks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bmsd.codec import record
from bmsd.core import memory
from bmsd.core.estimation import estimators, months, wear
from bmsd.core.estimation.history import Seen
from bmsd.model.durable import Durable
from bmsd.model.history import History, Wear
from bmsd.model.host import ClockQuality
from tests import rack

PLANT = rack.plant(cells=4, sensors=2)
TWO = rack.plant(strings=2, cells=4, sensors=2)
CLOSED = rack.closed(PLANT)
UTC_S = 1.8e9
DAY_S = 86400.0


def lived(weeks: int, plant=PLANT, loss_per_year=0.03, worst=None, end_utc_s=UTC_S):
    """What a rack remembers after so many weeks, each of a step of the wear and a mark."""
    now = months.start(plant)
    shape = plant.layout.cell_shape
    for week in range(1, weeks + 1):
        years = 7.0 * week / 365.25
        capacity = np.full(shape, 1.0 - loss_per_year * np.sqrt(years))
        if worst is not None:
            capacity[worst] -= 0.02 * np.sqrt(years)
        utc_s = end_utc_s - 7.0 * DAY_S * (weeks - week)
        snap = replace(rack.snapshot(plant, 100.0, utc_quality=ClockQuality.SYNCHRONISED), utc_s=utc_s)
        now = months.moved(now, np.full(shape[0], 20.0), 280.0, 7.0 * DAY_S)
        sure = np.full(shape, 0.008)
        now = months.step(plant, now, snap, Seen(capacity, sure, np.full(shape, 1.0 + 0.02 * years), sure))
    return now


def driving(of: months.MonthsMemory, plant=PLANT) -> rack.Drive:
    """A drive whose strings are closed and which remembers these months."""
    drive = rack.Drive(plant)
    drive.run(16.0, 2.0, **rack.closed(plant))
    drive.memory = replace(drive.memory, estimation=replace(drive.memory.estimation, months=of))
    return drive


def tick(drive: rack.Drive, dt_s: float = 1.0, utc_s: float | None = UTC_S, quality=ClockQuality.SYNCHRONISED):
    drive.now_s = round(drive.now_s + dt_s, 6)
    snap = rack.snapshot(drive.plant, drive.now_s, utc_quality=quality, **rack.closed(drive.plant))
    return drive.take(replace(snap, utc_s=utc_s)).estimate


def test_a_new_rack_tells_no_life_and_says_for_how_long_it_was_followed():
    estimate = tick(driving(months.start(PLANT)))
    assert (estimate.life_days, estimate.life_low_days, estimate.life_high_days) == (None, None, None)
    assert estimate.life_end_utc_s is None
    assert estimate.life_followed_days == 0.0
    assert np.isnan(estimate.cell_resistance_trend).all()
    assert estimate.age_days < 0.01


def test_life_of_the_rack_is_that_of_its_weakest_cell_with_a_date():
    estimate = tick(driving(lived(60, worst=(0, 0, 2))))
    assert estimate.life_days == estimate.cell_life_days[0, 0, 2] == estimate.cell_life_days.min()
    assert estimate.life_low_days < estimate.life_days < estimate.life_high_days
    assert estimate.life_end_utc_s == pytest.approx(UTC_S + estimate.life_days * DAY_S)
    assert estimate.life_followed_days == pytest.approx(59 * 7.0)
    np.testing.assert_allclose(estimate.cell_resistance_trend, 0.02, atol=0.001)
    assert (estimate.cell_resistance_trend_sigma > 0.0).all()


def test_a_string_out_of_the_circuit_does_not_end_the_rack():
    of = lived(60, TWO, worst=(1, 0, 2))
    drive = driving(of, TWO)
    both = tick(drive)
    apart = rack.Drive(TWO)
    apart.run(16.0, 2.0, **rack.apart(TWO, 1))
    apart.memory = replace(apart.memory, estimation=replace(apart.memory.estimation, months=of))
    alone = apart.tick(1.0, **rack.apart(TWO, 1)).estimate
    assert alone.life_days > 1.1 * both.life_days
    assert alone.life_days == alone.cell_life_days[0].min()


def test_without_a_time_there_is_a_life_but_no_date():
    estimate = tick(driving(lived(60)), utc_s=None, quality=ClockQuality.UNSET)
    assert estimate.life_days is not None
    assert estimate.life_end_utc_s is None


def test_life_shrinks_by_the_time_that_passes_and_the_date_stays():
    drive = driving(lived(60))
    before = tick(drive)
    for minute in range(1, 61):
        after = tick(drive, 60.0, UTC_S + 60.0 * minute)
    assert before.life_days - after.life_days == pytest.approx(3600.0 / DAY_S, abs=0.001)
    assert after.life_end_utc_s == pytest.approx(before.life_end_utc_s, abs=120.0)


def test_the_tick_counts_cycles_and_marks_after_a_week():
    drive = driving(months.start(PLANT))
    days = 0.0
    while days < 7.5:
        drive.tick(60.0, current_a=28.0, **CLOSED)
        days += 60.0 / DAY_S
    known = drive.memory.estimation.months
    assert known.wear.wear.age_days == pytest.approx(7.5, abs=0.01)
    assert known.wear.wear.cycles[0] == pytest.approx(0.5 * 7.5 * 24 * 0.1, rel=0.01)
    assert len(known.history.age_days) == 1
    assert np.isnan(known.history.capacity).all(), "nothing but the data sheet was known"


def restarted(drive: rack.Drive, *, history: bool = True, plant=PLANT, state: bool = True):
    """The memory of the next process, by way of the bytes of both files."""
    was = drive.memory.estimation.months
    saved = record.decode(record.encode(memory.durable(drive.protections, drive.memory, UTC_S)), Durable)
    marks = record.decode(record.encode(was.history), History) if history else None
    fresh = rack.Drive(plant)
    if not state:
        return memory.followed(plant, fresh.memory, None, marks)
    return memory.restore(plant, fresh.protections, saved, UTC_S, history=marks)


def test_months_survive_a_restart_and_the_time_off_is_added():
    drive = driving(lived(60))
    before = tick(drive)
    again, notes = restarted(drive)
    assert notes == []
    drive.memory = again
    drive.run(16.0, 2.0, **CLOSED)
    assert drive.memory.estimation.months.wear.off, "nobody has told the time yet"
    for minute in range(3):
        after = tick(drive, 60.0, UTC_S + 5.0 * DAY_S + 60.0 * minute)
    assert after.age_days == pytest.approx(before.age_days + 5.0, abs=0.01)
    assert after.life_days == pytest.approx(before.life_days - 5.0, abs=0.01)
    np.testing.assert_array_equal(after.cell_resistance_trend, before.cell_resistance_trend)


def test_no_mark_is_made_while_the_time_off_is_not_known():
    drive = driving(lived(60))
    drive.memory, _ = restarted(drive)
    known = drive.memory.estimation.months
    late = replace(
        known, wear=replace(known.wear, wear=replace(known.wear.wear, age_days=known.wear.wear.age_days + 8))
    )
    seen = Seen(*(np.full(PLANT.layout.cell_shape, value) for value in (0.9, 0.01, 1.1, 0.03)))

    def stepped(seconds, quality):
        moved = months.moved(late, np.zeros(1), 280.0, seconds)
        snap = replace(rack.snapshot(PLANT, 100.0, utc_quality=quality), utc_s=UTC_S + 9 * DAY_S)
        return months.step(PLANT, moved, snap, seen)

    assert len(stepped(60.0, ClockQuality.UNSYNCHRONISED).history.age_days) == 60
    assert len(stepped(60.0, ClockQuality.SYNCHRONISED).history.age_days) == 61
    assert len(stepped(wear.UNSET_FOR_S, ClockQuality.UNSYNCHRONISED).history.age_days) == 61


def test_a_lost_history_leaves_the_age_and_a_lost_state_the_marks():
    drive = driving(lived(60))
    age = drive.memory.estimation.months.wear.wear.age_days
    without_marks, notes = restarted(drive, history=False)
    assert notes == []
    assert len(without_marks.estimation.months.history.age_days) == 0
    assert without_marks.estimation.months.wear.wear.age_days == age
    without_state, notes = restarted(drive, state=False)
    assert notes == []
    assert len(without_state.estimation.months.history.age_days) == 60
    assert without_state.estimation.months.wear.wear.age_days == pytest.approx(60 * 7.0)
    assert np.isfinite(without_state.estimation.months.left.median).all()


def test_months_of_another_rack_are_named_and_not_used():
    again, notes = restarted(driving(lived(60, TWO), TWO), plant=PLANT, state=False)
    assert len(again.estimation.months.history.age_days) == 0
    assert again.estimation.months.wear.wear.age_days == 0.0
    assert "(2, 1, 4)" in notes[0]
    assert "not used" in notes[0]
    wear_of_two = Wear(10.0, np.ones(2), np.ones(2))
    known, notes = estimators.followed(PLANT, estimators.start(PLANT), wear_of_two, None)
    assert known.months.wear.wear.age_days == 0.0
    assert "2 strings" in notes[0]


def test_a_state_of_an_older_bmsd_begins_to_count():
    drive = driving(lived(10))
    saved = replace(memory.durable(drive.protections, drive.memory, UTC_S), wear=None)
    again, notes = memory.restore(PLANT, drive.protections, saved, UTC_S)
    assert notes == []
    assert again.estimation.months.wear.wear.age_days == 0.0
    assert not again.estimation.months.wear.off


def test_the_same_months_are_the_same_to_the_last_bit():
    one, other = lived(70), lived(70)
    for name in ("low", "median", "high"):
        np.testing.assert_array_equal(getattr(one.left, name), getattr(other.left, name))
    assert record.encode(one.history) == record.encode(other.history)


def test_the_history_of_512_cells_over_years_stays_below_600_kb():
    big = rack.plant(strings=4, modules=8, cells=16, sensors=2)
    now = lived(80, big)
    assert len(now.history.age_days) == 64
    assert len(record.encode(now.history)) < 600_000
