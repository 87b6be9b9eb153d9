"""The balancing ledger: what is read, what is worked off, what is forgotten, and what leaks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bmsd.codec import record
from bmsd.core import memory
from bmsd.core.estimation import anchors, electrical, estimators, ledger
from bmsd.core.estimation.anchors import Anchor
from bmsd.core.estimation.ledger import LedgerMemory
from bmsd.core.protection.protect import Protections
from bmsd.core.starts import Began
from bmsd.model.durable import Durable
from bmsd.model.history import History
from bmsd.model.host import ClockQuality
from bmsd.model.request import Reset, Role
from tests import rack

PLANT = rack.plant(modules=2, cells=4, sensors=1)
SHAPE = PLANT.layout.cell_shape
PROTECTIONS = Protections.of(PLANT, 2)
CAPACITY_AH = PLANT.cell.capacity_ah
BAND_AH = 1.0
NO = np.zeros(SHAPE, dtype=bool)
LEVEL_V = np.full(SHAPE, 3.3)


def cells(values: dict[tuple[int, int], float], usual: float = 0.0) -> np.ndarray:
    found = np.full(SHAPE, usual)
    for (module, cell), value in values.items():
        found[0, module, cell] = value
    return found


def reading(excess_ah: Any, sigma_ah: float = 0.8, *, read: Any = True, below: Any = False, top: bool = True) -> Anchor:
    there = np.array([True])
    return Anchor(
        np.broadcast_to(excess_ah, SHAPE) - 5.0, np.full(SHAPE, sigma_ah), np.broadcast_to(read, SHAPE),
        np.broadcast_to(below, SHAPE), there, there & top,
    )  # fmt: skip


def passed(at: LedgerMemory, seconds: float, bleeding: np.ndarray = NO, **values: Any) -> LedgerMemory:
    """This time with these bleeders, in steps of a minute, and a look at the end."""
    snap = replace(rack.snapshot(PLANT, 100.0, balancing=bleeding), **values)
    for _ in range(round(seconds / 60.0)):
        at = ledger.counted(PLANT, at, snap, 60.0)
    return ledger.step(PLANT, at, LEVEL_V, None)


def visited(at: LedgerMemory, anchor: Anchor, looks: int = 20) -> LedgerMemory:
    """A visit in a knee of so many minutes, and the hour after which it is over."""
    for _ in range(looks):
        at = ledger.step(PLANT, ledger.counted(PLANT, at, rack.snapshot(PLANT, 100.0), 60.0), LEVEL_V, anchor)
    return passed(at, 3660.0)


def knowing(excess: dict[tuple[int, int], float], sigma_ah: float = 0.8) -> LedgerMemory:
    return visited(ledger.start(PLANT), reading(cells(excess), sigma_ah))


def test_before_the_first_knee_nothing_is_known_and_nothing_wanted():
    at = passed(ledger.start(PLANT), 86400.0)
    assert np.isnan(at.balancing.todo_ah).all()
    assert not at.balancing.known.any()
    assert not at.balancing.wanted.any()
    assert np.isnan(at.balancing.time_s).all()


def test_what_a_cell_has_above_the_emptiest_is_to_be_bled():
    known = knowing({(0, 1): 14.0, (1, 2): -1.5}).balancing
    assert known.known.all()
    assert known.todo_ah[0, 0, 1] == pytest.approx(15.5)
    assert known.todo_ah[0, 1, 2] == 0.0
    assert known.todo_ah[0, 0, 0] == pytest.approx(1.5)
    assert known.todo_sigma_ah[0, 0, 1] == pytest.approx(0.8 * np.sqrt(2.0), rel=0.01)
    np.testing.assert_array_equal(known.wanted, cells({(1, 2): 1.0}) == 0.0)


def test_bleeders_that_the_board_says_conduct_work_it_off_at_any_state_of_charge():
    at, bleeding = knowing({(0, 1): 14.0}), cells({(0, 1): 1.0}) > 0.0
    before_ah = at.balancing.todo_ah[0, 0, 1]
    after = passed(at, 10 * 3600.0, bleeding)
    assert before_ah - after.balancing.todo_ah[0, 0, 1] == pytest.approx(1.0)  # 3.3 V / 33 ohm, 10 h
    assert after.balancing.moved_ah[0, 0, 1] == pytest.approx(1.0)
    assert after.balancing.bled_wh[0] == pytest.approx(3.3)
    assert after.balancing.todo_sigma_ah[0, 0, 1] > at.balancing.todo_sigma_ah[0, 0, 1]


@pytest.mark.parametrize(("age_s", "moved_ah"), [(0.1, 0.0), (100.0, 0.1)])
def test_the_command_counts_only_while_the_board_does_not_say_what_conducts(age_s, moved_ah):
    at = replace(knowing({(0, 1): 14.0}), told=cells({(0, 1): 1.0}) > 0.0)
    snap = rack.snapshot(PLANT, 100.0)
    modules = replace(snap.modules, state_age_s=np.full((1, 2), age_s), balancing=NO)
    assert passed(at, 3600.0, modules=modules).moved_ah[0, 0, 1] == pytest.approx(moved_ah)


def test_a_tick_that_was_late_credits_no_more_than_a_minute():
    bleeding = cells({(0, 1): 1.0}) > 0.0
    at = ledger.counted(PLANT, knowing({}), rack.snapshot(PLANT, 100.0, balancing=bleeding), 3600.0)
    assert at.pending_ah.max() == pytest.approx(0.1 / 60.0)


def test_it_begins_above_the_dead_band_and_ends_well_inside():
    assert not knowing({(0, 1): 0.95}, 0.1).balancing.wanted.any()
    at, bleeding = knowing({(0, 1): 1.05}, 0.1), cells({(0, 1): 1.0}) > 0.0
    assert at.balancing.wanted.sum() == 1
    at = passed(at, 7 * 3600.0, bleeding)
    assert at.balancing.wanted.sum() == 1, "0.35 Ah are left, more than a quarter of the band"
    at = passed(at, 2 * 3600.0, bleeding)
    assert not at.balancing.wanted.any()
    assert at.balancing.time_s[0] == 0.0


def test_what_may_be_an_error_of_the_reading_is_not_bled():
    assert not knowing({(0, 1): 1.5}, 2.5).balancing.wanted.any()
    assert not knowing({(0, 1): 14.0}, 10.0).balancing.known.any(), "so little is known that voltage rules"


def test_a_long_visit_tells_no_more_than_a_short_one_and_no_repetition_makes_it_sure():
    first = knowing({}, 0.8)
    short, long = (visited(first, reading(cells({(0, 1): 4.0})), looks) for looks in (10, 300))
    assert 0.4 * 4.0 < short.balancing.todo_ah[0, 0, 1] == pytest.approx(long.balancing.todo_ah[0, 0, 1], rel=0.02)
    for _ in range(10):
        long = visited(long, reading(cells({(0, 1): 4.0})))
    assert long.balancing.todo_ah[0, 0, 1] == pytest.approx(4.0, rel=0.02), "but what stays is believed"
    assert np.sqrt(long.variance).min() == pytest.approx(0.8, rel=0.05)


def test_a_poor_reading_moves_little_of_what_a_good_one_told():
    at = knowing({(0, 1): 2.0}, 0.5)
    after = visited(at, reading(cells({(0, 1): -8.0}), 10.0, top=False), 600)
    assert after.balancing.todo_ah[0, 0, 1] == pytest.approx(2.0, abs=0.1)


def test_a_reading_far_off_is_believed_up_to_five_sigmas():
    after = visited(knowing({}, 0.5), reading(cells({(0, 1): 100.0}), 0.5))
    assert after.balancing.todo_ah[0, 0, 1] < 2.5


def test_cells_below_their_knee_bound_how_far_the_others_are_bled():
    low = cells({(0, 1): 14.0}) == 0.0
    at = visited(ledger.start(PLANT), reading(cells({(0, 1): 14.0}), 1.0, read=~low, below=low))
    assert at.balancing.known.all()
    assert at.balancing.todo_ah[0, 0, 1] == pytest.approx(14.0)
    assert at.balancing.todo_sigma_ah[0, 0, 1] >= 0.02 * CAPACITY_AH
    assert at.balancing.wanted.sum() == 1
    better = visited(knowing({(1, 3): -1.0}), reading(cells({(0, 1): 14.0}), 1.0, read=~low, below=low))
    assert better.balancing.todo_ah[0, 1, 3] == 0.0, "a bound above what is known says nothing"


def test_an_unknown_cell_is_not_read_and_the_string_is_left_to_the_voltage():
    unknown = cells({(1, 1): 1.0}) > 0.0
    excess = np.where(unknown, np.nan, cells({(0, 1): 14.0}))
    at = visited(ledger.start(PLANT), reading(excess, read=~unknown))
    assert not at.balancing.known.any()
    assert not at.balancing.wanted.any()
    later = visited(knowing({(0, 1): 14.0}), reading(excess, read=~unknown))
    assert later.balancing.known.all(), "what was known of it stays"
    assert np.isfinite(later.balancing.todo_ah).all()


def test_while_a_cell_is_never_read_the_others_are_bled_by_a_tenth_at_most():
    stuck = cells({(1, 1): 1.0}) > 0.0
    at = ledger.start(PLANT)
    for _ in range(8):
        at = visited(at, reading(0.0, 0.5, read=~stuck, below=stuck)) if at.clock.now_s == 0.0 else at
        at = visited(at, reading(cells({(1, 1): -20.0}), 0.5, read=~stuck, below=stuck))
        at = passed(at, 72 * 3600.0, at.balancing.wanted)
    moved_ah = at.moved_ah[~stuck]
    assert (moved_ah > 0.09 * CAPACITY_AH).all()
    assert (moved_ah < 0.13 * CAPACITY_AH).all()
    assert not at.balancing.wanted.any()
    assert at.balancing.todo_ah.max() > 5.0, "it goes on showing"
    read = visited(at, reading(cells({(1, 1): -20.0}), 0.5))
    assert read.balancing.wanted.any()


def test_boards_that_are_told_nothing_are_credited_nothing():
    at = replace(knowing({(0, 1): 14.0}), told=cells({(0, 1): 1.0}) > 0.0)
    snap = rack.snapshot(PLANT, 100.0)
    modules = replace(snap.modules, state_age_s=np.full((1, 2), np.inf), uid=np.full((1, 2), -1))
    assert passed(at, 3600.0, modules=modules).moved_ah.max() == 0.0


def test_doubt_grows_with_the_days():
    at = knowing({(0, 1): 14.0})
    sigmas = [passed(at, days * 86400.0).sigma_ah[0, 0, 1] for days in (1, 10, 100)]
    assert sigmas == sorted(sigmas)
    assert sigmas[-1] == pytest.approx(np.hypot(0.8, 0.0002 * CAPACITY_AH * 100.0), rel=0.02)


def test_the_time_left_is_that_of_the_last_cell_at_the_pace_of_the_last_day():
    at, bleeding = knowing({(0, 1): 14.0, (0, 2): 7.0}), cells({(0, 1): 1.0, (0, 2): 1.0}) > 0.0
    left_ah = at.balancing.todo_ah[0, 0, 1] - 0.5 * at.balancing.todo_sigma_ah[0, 0, 1]
    duty = at.balancing.duty[0]
    assert at.balancing.time_s[0] / 3600.0 == pytest.approx(left_ah / (0.1 * duty), rel=0.02)
    for _ in range(72):
        at = passed(passed(at, 1800.0, bleeding), 1800.0)
    assert at.balancing.duty[0] == pytest.approx(0.5, abs=0.05)
    left_ah = at.balancing.todo_ah[0, 0, 1] - 0.5 * at.balancing.todo_sigma_ah[0, 0, 1]
    assert at.balancing.time_s[0] / 3600.0 == pytest.approx(left_ah / 0.05, rel=0.12)
    assert at.balancing.time_sigma_s[0] > 0.0


def test_other_boards_bring_other_cells():
    at = ledger.forgotten(knowing({(0, 1): 14.0}), np.array([[True, False]]))
    at = passed(at, 60.0)
    assert np.isnan(at.balancing.todo_ah[0, 0]).all()
    assert np.isfinite(at.balancing.todo_ah[0, 1]).all()
    assert not at.balancing.known.any()
    assert not at.balancing.wanted.any()
    assert (at.moved_ah[0, 0] == 0.0).all()


def test_a_board_that_service_accepts_makes_the_tick_forget_its_module():
    drive = rack.running(PLANT)
    at = replace(drive.memory.estimation, ledger=knowing({(0, 1): 14.0}))
    drive.memory = replace(drive.memory, estimation=at)
    uid = np.array([[4711, 1002]])
    drive.run(1.0, uid=uid, **rack.closed(PLANT))
    assert drive.memory.estimation.ledger.balancing.known.all()
    ask = Reset("MOD-008", Role.SERVICE, "module exchanged")
    outcome = drive.tick(uid=uid, requests=(ask,), **rack.closed(PLANT))
    excess = outcome.memory.estimation.ledger.excess_ah
    assert np.isnan(excess[0, 0]).all()
    assert np.isfinite(excess[0, 1]).all()


def test_an_accepted_board_brings_cells_of_which_nothing_else_is_known_either_and_the_ticket_of_the_old_ones_can_go():
    drive = rack.running(PLANT)
    worn = np.ones(SHAPE)
    worn[0, 0, 1] = worn[0, 1, 1] = 0.8
    worn[0, 0, 2] = 0.6
    drive.tick(capacity=worn, **rack.closed(PLANT))
    assert "PCK-005" in rack.codes(drive.run(3700.0, 10.0, **rack.closed(PLANT))[-1])
    uid = np.array([[4711, 1002]])
    ask = tuple(Reset(code, Role.SERVICE, "module exchanged") for code in ("MOD-008", "PCK-005"))
    drive.tick(uid=uid, requests=ask[:1], **rack.closed(PLANT))
    at = drive.memory.estimation
    assert at.capacity.share[0, 0] == pytest.approx(1.0)
    assert at.capacity.sigma[0, 0] == pytest.approx(0.04, abs=0.001)
    assert at.capacity.share[0, 1, 1] == pytest.approx(0.8, abs=0.01), "the other module's is kept"
    assert at.resistances.factor[0, 0] == pytest.approx(1.0)
    assert np.isnan(at.predictor.usual.apart_v[0, 0]).all()
    after = drive.tick(uid=uid, **rack.closed(PLANT))
    assert (after.estimate.cell_soc_sigma[0, 0] > 0.09).all(), "nobody has balanced them"
    assert after.estimate.soc is not None
    after = drive.tick(uid=uid, requests=ask[1:], **rack.closed(PLANT))
    assert "PCK-005" not in rack.codes(after)


@pytest.mark.parametrize("name", ["resistance_square", "resistance_product", "resistance_seen", "resistance_events"])
def test_a_saved_resistance_that_is_no_number_is_left_out(name: str):
    """It would stay: no power and no heat would be known ever again."""
    kept = memory.durable(PROTECTIONS, rack.running(PLANT).memory, None)
    assert kept.learned is not None
    for wrong in (np.nan, np.inf):
        spoilt = replace(kept.learned, **{name: np.full_like(getattr(kept.learned, name), wrong)})
        after, _ = memory.restore(PLANT, PROTECTIONS, replace(kept, learned=spoilt), None)
        assert after.estimation.resistances.factor == pytest.approx(1.0)
        assert np.isfinite(after.estimation.resistances.sigma).all()


def test_leaks_that_are_not_known_any_more_can_be_acknowledged():
    drive = rack.running(PLANT)
    leak_ma = np.zeros(SHAPE)
    leak_ma[0, 0, 1] = 80.0
    both = {"CEL-017", "CEL-022"}
    assert both <= rack.codes(drive.tick(leak_ma=leak_ma, **rack.closed(PLANT)))
    at = drive.memory.estimation
    drive.memory = replace(drive.memory, estimation=replace(at, ledger=ledger.start(PLANT)))
    assert both <= rack.codes(drive.tick(**rack.closed(PLANT))), "nobody has looked at them"
    ask = tuple(Reset(code, Role.SERVICE, "module exchanged") for code in both)
    assert not both & rack.codes(drive.tick(requests=ask, **rack.closed(PLANT)))


# leaks


def daily(leak_ma: dict[tuple[int, int], float], days: int, seed: int = 3, sigma_ah: float = 0.8) -> LedgerMemory:
    """So many days with a full charge each; readings err by 0.2 % of the capacity from day to day, and are offset."""
    chance = np.random.default_rng(seed)
    at, drift, offset = ledger.start(PLANT), cells(leak_ma), chance.standard_normal(SHAPE)
    moved = np.zeros(SHAPE)
    for day in range(days):
        true_ah = -drift * day * 24.0 / 1000.0 - moved + offset + 0.002 * CAPACITY_AH * chance.standard_normal(SHAPE)
        at = visited(at, reading(true_ah, sigma_ah))
        wanted = at.balancing.wanted
        at = passed(at, 86400.0 - 3600.0 * 1.35, wanted)
        moved = at.moved_ah
    return at


def test_leaks_are_found_within_two_sigma_and_bleeding_is_none():
    at = daily({(0, 2): 50.0, (1, 1): 3.0}, 36)
    true_ma = cells({(0, 2): 50.0, (1, 1): 3.0})
    assert at.moved_ah.max() > 10.0, "the others were bled to keep level"
    found = at.leaks
    assert (np.abs(found.ma - true_ma) <= 2.0 * found.sigma_ma).all()
    assert found.sigma_ma.max() < 5.0
    assert (found.week_sigma_ma > found.sigma_ma).all()
    certain = found.ma - 2.0 * found.sigma_ma > 5.0
    np.testing.assert_array_equal(certain, true_ma == 50.0)


@pytest.mark.parametrize("days", [0, 1, 3])
def test_a_few_days_tell_no_leak(days):
    assert np.isnan(daily({(0, 2): 50.0}, days).leaks.ma).all()


def test_poor_readings_tell_no_leak():
    assert np.isnan(daily({(0, 2): 50.0}, 10, sigma_ah=4.0).leaks.ma).all()


# over a power-off

NO_CLOCK: dict[str, Any] = {"utc_s": None, "utc_quality": ClockQuality.UNKNOWN}


def synchronised(utc_s: float) -> dict[str, Any]:
    return {"utc_s": utc_s, "utc_quality": ClockQuality.SYNCHRONISED}


def again(at: LedgerMemory, days: float, off_s: float | None) -> LedgerMemory:
    return ledger.looked_back(PLANT, ledger.restored(PLANT, ledger.saved(at), days, off_s), ledger.looks(at))


def test_the_ledger_survives_a_power_off_and_doubts_more():
    at = knowing({(0, 1): 14.0})
    back = again(at, 30.0, None)
    np.testing.assert_allclose(back.balancing.todo_ah, at.balancing.todo_ah)
    assert back.sigma_ah[0, 0, 1] == pytest.approx(np.hypot(0.8, 0.0002 * CAPACITY_AH * 30.0), rel=0.01)
    assert back.balancing.wanted.any()
    assert again(at, 3650.0, None).balancing.known.any() is np.False_


def test_an_unknown_time_between_two_runs_is_no_leak():
    at = again(daily({(0, 2): 50.0}, 6), 0.0, None)
    assert np.isfinite(at.leaks.ma).all(), "what was found is still shown"
    at = visited(passed(at, 60.0, **NO_CLOCK), reading(cells({(0, 2): -40.0})))
    assert np.isnan(at.leaks.ma).all()
    assert np.isfinite(at.week.times_s[-1]).all(), "a new line begins"
    assert np.isnan(at.week.times_s[-2]).all()


def test_a_synchronised_clock_tells_how_long_it_was_off():
    at = passed(knowing({}), 60.0, **synchronised(1e9))
    before_s = at.clock.now_s
    back = passed(again(at, 0.0, None), 60.0, **synchronised(1e9 + 86460.0))
    assert not back.clock.doubtful
    assert back.clock.now_s == pytest.approx(before_s + 86400.0, abs=61.0)
    late = passed(again(at, 0.0, None), 600.0, **synchronised(1e9 - 86400.0))
    assert late.clock.doubtful, "a clock that went backwards tells nothing"


def test_a_clock_that_was_not_synchronised_before_tells_nothing_afterwards():
    at = passed(again(passed(knowing({}), 60.0, **NO_CLOCK), 0.0, None), 600.0, **synchronised(1e9))
    assert at.clock.doubtful
    at = visited(at, reading(0.0))
    assert not at.clock.doubtful, "looks begin anew"
    assert passed(at, 60.0, **synchronised(1e9)).clock.epoch_s == pytest.approx(1e9 - at.clock.now_s, abs=61.0)


def test_within_one_start_of_the_computer_the_time_is_exact():
    drive = rack.Drive(PLANT)
    drive.run(1.0)
    at = replace(drive.memory.estimation, ledger=knowing({(0, 1): 14.0}))
    saved = memory.durable(PROTECTIONS, replace(drive.memory, estimation=at), 1000.0)
    saved = replace(saved, boot_id="one", now_s=500.0)
    known, notes = memory.restore(PLANT, PROTECTIONS, saved, 1600.0, Began("one", 1100.0))
    assert notes == []
    clock = known.estimation.ledger.clock
    assert (clock.now_s, clock.doubtful) == (at.ledger.clock.now_s + 600.0, False)
    other, _ = memory.restore(PLANT, PROTECTIONS, saved, 1600.0, Began("two", 1100.0))
    assert other.estimation.ledger.clock.doubtful
    np.testing.assert_allclose(other.estimation.ledger.excess_ah, at.ledger.excess_ah)


@pytest.mark.parametrize(
    "change",
    [
        {"excess_ah": np.zeros((1, 1, 4))},
        {"clock_s": np.nan},
        {"week_bled_ah": np.zeros((3, 1))},
        {"moved_ah": cells({}, np.nan)},
    ],
    ids=str,
)
def test_a_saved_ledger_that_does_not_fit_is_left_out(change):
    kept = replace(ledger.saved(knowing({(0, 1): 14.0})), **change)
    assert not ledger.restored(PLANT, kept, 1.0, None).balancing.known.any()
    assert not ledger.restored(PLANT, None, 1.0, None).balancing.known.any()


def test_looks_go_through_the_files_and_leaks_are_known_after_a_restart():
    drive = rack.Drive(PLANT)
    drive.run(1.0)
    leaky = daily({(0, 2): 50.0}, 8)
    drive.memory = replace(drive.memory, estimation=replace(drive.memory.estimation, ledger=leaky))
    saved = record.decode(record.encode(memory.durable(PROTECTIONS, drive.memory, 1000.0)), Durable)
    history = record.decode(record.encode(memory.history(drive.memory)), History)
    back, notes = memory.restore(PLANT, PROTECTIONS, saved, 1000.0, history=history)
    assert notes == []
    np.testing.assert_allclose(back.estimation.ledger.leaks.ma, leaky.leaks.ma, rtol=1e-5)
    without, _ = memory.restore(PLANT, PROTECTIONS, saved, 1000.0)
    assert np.isnan(without.estimation.ledger.leaks.ma).all()
    np.testing.assert_allclose(without.estimation.ledger.excess_ah, back.estimation.ledger.excess_ah)


@pytest.mark.parametrize("of", ["another rack", "a clock that began anew"])
def test_looks_that_are_not_of_this_ledger_are_left_out(of):
    looks, at = ledger.looks(daily({(0, 2): 50.0}, 8)), knowing({})
    if of == "another rack":
        looks = replace(looks, week_ah=looks.week_ah[:, :, :1])
        at = daily({(0, 2): 50.0}, 8)
    assert ledger.looked_back(PLANT, at, looks) is at


def test_the_history_is_written_when_a_look_is_taken_and_not_before():
    drive = rack.Drive(PLANT)
    drive.run(20.0)
    before = drive.memory.estimation
    drive.run(20.0)
    assert all(new is old for new, old in zip(drive.memory.estimation.marks, before.marks, strict=True))
    looked = replace(before, ledger=visited(before.ledger, reading(0.0)))
    assert any(new is not old for new, old in zip(looked.marks, before.marks, strict=True))


# where voltage tells


def sight(**changes: Any) -> anchors.Sight:
    tables = electrical.tables(PLANT.cell.model, np.array([25.0]))
    usual = anchors.Sight(
        tables, np.array([1.0]), np.zeros(1), np.zeros(1), np.ones(SHAPE), np.full(SHAPE, 0.03),
        np.full(SHAPE, CAPACITY_AH),
        np.full(SHAPE, 0.02 * CAPACITY_AH), np.ones(1),
    )  # fmt: skip
    return replace(usual, **changes)


def volts(soc: np.ndarray, hysteresis: float = 1.0) -> np.ndarray:
    where, tables = electrical.place(soc), sight().tables
    found = electrical.at(tables.mid_v, where) + hysteresis * electrical.at(tables.half_v, where)
    return np.asarray(found)


def test_at_the_top_what_is_missing_is_read_from_the_voltage():
    soc = cells({(0, 1): 0.995, (1, 2): 0.97}, 0.985)
    found = anchors.anchor(PLANT, volts(soc), np.array([5.0]), sight())
    assert found is not None
    assert found.top.all()
    assert found.read.all()
    np.testing.assert_allclose(found.excess_ah, -(1.0 - soc) * CAPACITY_AH, atol=0.01 * CAPACITY_AH * 0.1)
    assert (found.sigma_ah >= 0.003 * CAPACITY_AH).all()
    assert found.sigma_ah[0, 0, 1] > found.sigma_ah[0, 0, 0], "far from the others the slope of the curve counts"


def test_what_the_resistance_takes_is_taken_off_and_doubted():
    soc = cells({}, 0.985)
    lost_v, factor = 0.05, cells({(0, 1): 1.5}, 1.0)
    loaded = sight(lost_v=np.array([lost_v]), factor=factor)
    found = anchors.anchor(PLANT, volts(soc) + lost_v * factor, np.array([5.0]), loaded)
    calm = anchors.anchor(PLANT, volts(soc), np.array([5.0]), sight())
    assert found is not None
    assert calm is not None
    np.testing.assert_allclose(found.excess_ah, calm.excess_ah, atol=1e-6)
    assert (found.sigma_ah > calm.sigma_ah).all()


def test_a_cell_on_the_plateau_is_only_known_to_be_below():
    soc = cells({(0, 1): 0.995}, 0.90)
    found = anchors.anchor(PLANT, volts(soc), np.array([5.0]), sight())
    assert found is not None
    np.testing.assert_array_equal(found.read, soc > 0.99)
    np.testing.assert_array_equal(found.below, soc < 0.99)
    edge = anchors.edges(sight().tables)[0][0]
    assert 0.92 < edge < 0.97
    np.testing.assert_allclose(found.excess_ah[found.below], -(1.0 - edge) * CAPACITY_AH)


def test_a_channel_stuck_high_makes_no_top():
    soc = cells({(0, 1): 0.995}, 0.5)
    for fullest, found in ((0.79, False), (np.nan, False), (0.81, True)):
        told = anchors.anchor(PLANT, volts(soc), np.array([5.0]), sight(fullest_soc=np.array([fullest])))
        assert (told is not None) is found


@pytest.mark.parametrize(("soc", "amps"), [(0.9, 5.0), (0.5, 0.0), (0.985, -20.0), (0.985, np.nan), (0.2, -5.0)])
def test_nothing_is_read_on_the_plateau_or_while_the_current_runs_the_wrong_way(soc, amps):
    assert anchors.anchor(PLANT, volts(cells({}, soc)), np.array([amps]), sight()) is None


def test_an_unknown_cell_is_neither_read_nor_below():
    cell_v = volts(cells({}, 0.985))
    cell_v[0, 0, 1] = np.nan
    found = anchors.anchor(PLANT, cell_v, np.array([5.0]), sight())
    assert found is not None
    assert (found.read == np.isfinite(cell_v)).all()
    assert not found.below.any()


def test_at_the_bottom_the_doubt_of_the_capacity_counts():
    soc = cells({}, 0.05)
    found = anchors.anchor(PLANT, volts(soc, -1.0), np.array([-5.0]), sight(hysteresis=np.array([-1.0])))
    assert found is not None
    assert found.read.all()
    assert not found.top.any()
    assert (found.sigma_ah > 0.9 * 0.02 * CAPACITY_AH).all()


def test_only_of_lfp_the_knees_are_known():
    plant = replace(PLANT, cell=replace(PLANT.cell, chemistry="nmc"))
    assert anchors.anchor(plant, volts(cells({}, 0.985)), np.array([5.0]), sight()) is None


def test_bleeding_lowers_the_state_of_charge_of_the_cell_that_is_bled():
    at = rack.knowing(PLANT, 0.6, 0.01)
    bleeding = cells({(0, 1): 1.0}) > 0.0
    for second in range(0, 36000, 60):
        snap = rack.snapshot(PLANT, 100.0 + second, cell_v=3.317, balancing=bleeding)
        at, now = estimators.step(PLANT, at, snap, 60.0, np.array([True]))
    apart = now.cell_soc[0, 0, 0] - now.cell_soc[0, 0, 1]
    assert apart == pytest.approx(1.0 / CAPACITY_AH, rel=0.1)
