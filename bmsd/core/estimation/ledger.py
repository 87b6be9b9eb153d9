"""The balancing ledger: how many Ah each cell has too much of, read where voltage tells charge, worked off at any SoC.

Theory of operation. A string is charged until its first cell is full, so cells are level when the same charge is
missing to full in all of them. What is missing in cell k is (1 - z_k) Q_k; `excess_ah` is its negative, up to a number
that all cells of the string share. The string's current changes it in all cells alike, whatever their capacities; only
what is bled from a cell, or leaks in it, moves it. So

    todo_k = excess_k - min_j excess_j

is read in a knee (`anchors.py`), counted down by v / R of the bleeders that conduct, and stays good for weeks.

A visit in a knee is one reading, its best one, and corrects by one Kalman step against the median cell. What is wrong
with readings is mostly the same each time (offset of a channel, shape of the curve), so neither does a long visit tell
more, nor does the variance ever go below that of one reading. Between readings it
grows by BLEED_SIGMA of what was bled, and by DRIFT_SIGMA a day. A cell that is still below its knee is taken to be at
the edge of it: the others are bled down to there, and it is read at the next visit.

Bleeding a cell for weeks by mistake is what must not happen: no cell is bled by more than the last reading said, cells
are bled only while what they have too much of is more than a dead band, and more than half of what it may be wrong by,
and no further than BLIND_SHARE while there is a cell that never comes to be read.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bmsd.core.estimation import leaks
from bmsd.core.estimation.anchors import Anchor
from bmsd.core.estimation.leaks import BLEED_SIGMA, DAY_S, HOUR_S, Leaks, Window
from bmsd.model.balancing import Balancing
from bmsd.model.durable import Ledger
from bmsd.model.history import Looks
from bmsd.model.host import ClockQuality
from bmsd.model.plant import Plant
from bmsd.model.snapshot import Bools, Floats, Snapshot

DRIFT_SIGMA = 0.0002
"""What a cell may leak a day, in capacities."""
KNOWN_SIGMA = 0.03
"""In capacities: a cell of which no more is known does not count as known."""
SURE_SIGMA = 0.01
"""In capacities: what a cell must be known to for a look at its leak."""
BOUND_SIGMA = 0.02
"""Of a cell that is only known to be below its knee, at least, in capacities."""
MOST_SIGMAS = 5.0
TAU_S = 60.0
"""Correlation of what differs between cells for a while, as in deltas.py."""
STOP_SHARE = 0.25
"""Of the dead band: a string that is worked off is, down to here."""
LONGEST_S = 60.0
"""No bleeder is credited for longer than this without a tick: boards let go by themselves."""
LONGEST_VISIT_S, VISIT_OVER_S = DAY_S, 3600.0
"""A visit that lasts for a day becomes another one; one is over when its knee was left for an hour."""
AS_GOOD = 1.4
"""Readings of a visit count while their variance is up to this factor of the best one's."""
BLIND_SHARE = 0.10
"""No more than this is bled, in capacities, while some cell is never read: its channel may be stuck."""
UNKNOWN_CELL_V = 3.3


@dataclass(frozen=True, slots=True)
class Clock:
    """The ledger's own time in s; `epoch_s`: UTC at its zero, by a synchronised clock, NaN: not known. `doubtful`: an
    unknown time has passed since."""

    now_s: float = 0.0
    epoch_s: float = float("nan")
    doubtful: bool = False


@dataclass(frozen=True, slots=True)
class Visit:
    """A visit of each string in a knee: one reading, however long it lasts.

    Of cells: what the ledger said before, `prior_ah` with its variance, and the best reading so far, `told_ah` with the
    square of its error (NaN: none). Of strings: time since the visit began and since the knee was left, s, both NaN
    without a visit; `top`: it is one at the top.
    """

    prior_ah: Floats
    prior_variance: Floats
    told_ah: Floats
    error: Floats
    since_s: Floats
    left_s: Floats
    top: Bools


@dataclass(frozen=True, slots=True)
class LedgerMemory:
    """Per cell (strings, modules, cells) and per string (strings,); see the head of this file.

    `excess_ah` NaN: never read; `variance` as of the last reading, since which `bled_ah` were bled and `since_s` went
    by; `sigma_ah` as of the last look. `pending_ah`, `pending_s`: bled since the last look. `told`: cells that the last
    tick told to bleed. `session`: strings that are worked off. `wanted_ah`, `done_ah`: what could have been bled in the
    last 24 h, and what was. `blind_ah`: bled since all cells of the string were read in one visit. `visit`: what the
    visit in a knee that is under way has told.
    """

    excess_ah: Floats
    variance: Floats
    sigma_ah: Floats
    bled_ah: Floats
    since_s: Floats
    pending_ah: Floats
    pending_s: float
    told: Bools
    session: Bools
    wanted_ah: Floats
    done_ah: Floats
    moved_ah: Floats
    blind_ah: Floats
    bled_wh: Floats
    visit: Visit
    clock: Clock
    week: Window
    month: Window
    leaks: Leaks
    balancing: Balancing


def start(plant: Plant) -> LedgerMemory:
    """Nothing known."""
    shape = plant.layout.cell_shape
    zero, nan, off = np.zeros(shape), np.full(shape, np.nan), np.zeros(shape, dtype=bool)
    strings, no = np.zeros(shape[0]), np.zeros(shape[0], dtype=bool)
    week, month = leaks.start(shape, leaks.WEEK_S), leaks.start(shape, leaks.MONTH_S)
    unknown = leaks.unknown(shape)
    none, unmoved = nan.astype(np.float32), zero.astype(np.float32)
    nothing = Balancing(none, none, off, unmoved, none, none, no, strings + np.nan, strings + np.nan, strings + np.nan,
                        strings, strings + np.nan)  # fmt: skip
    return LedgerMemory(
        nan, nan, nan, zero, zero, zero, 0.0, off, no, strings, strings, zero, zero, strings,
        Visit(nan, nan, nan, nan, strings + np.nan, strings + np.nan, no), Clock(), week, month, unknown, nothing,
    )  # fmt: skip


def saved(was: LedgerMemory) -> Ledger:
    """What is kept over a power-off."""
    return Ledger(
        excess_ah=(was.excess_ah - was.pending_ah).astype(np.float32),
        sigma_ah=was.sigma_ah.astype(np.float32),
        moved_ah=(was.moved_ah + was.pending_ah).astype(np.float32),
        blind_ah=(was.blind_ah + was.pending_ah).astype(np.float32),
        bled_wh=was.bled_wh,
        clock_s=was.clock.now_s,
        epoch_s=was.clock.epoch_s,
        doubtful=was.clock.doubtful,
        week_bled_ah=was.week.bled_ah.astype(np.float32),
        month_bled_ah=was.month.bled_ah.astype(np.float32),
    )


def looks(was: LedgerMemory) -> Looks:
    """What is kept of the drift, too; it changes once a day at most, and is large."""
    return Looks(was.week.times_s, was.week.charge_ah, was.month.times_s, was.month.charge_ah)


def restored(plant: Plant, kept: Ledger | None, days: float, off_s: float | None) -> LedgerMemory:
    """A memory with what was kept `days` ago, as far as is known; `off_s`: exactly so long ago, None: nobody knows."""
    nothing = start(plant)
    if kept is None or not _fits(kept, nothing):
        return nothing
    excess_ah, sigma_ah, moved_ah, blind_ah, week_bled_ah, month_bled_ah = (
        values.astype(np.float64)
        for values in (
            kept.excess_ah, kept.sigma_ah, kept.moved_ah, kept.blind_ah, kept.week_bled_ah, kept.month_bled_ah
        )
    )  # fmt: skip
    known = np.isfinite(excess_ah) & np.isfinite(sigma_ah)
    clock = Clock(kept.clock_s + (off_s or 0.0), kept.epoch_s, kept.doubtful or off_s is None)
    memory = replace(
        nothing,
        excess_ah=np.where(known, excess_ah, np.nan),
        variance=np.where(known, np.square(sigma_ah), np.nan),
        since_s=np.full(known.shape, days * DAY_S),
        moved_ah=moved_ah,
        blind_ah=blind_ah,
        bled_wh=kept.bled_wh,
        clock=clock,
        week=replace(nothing.week, bled_ah=week_bled_ah),
        month=replace(nothing.month, bled_ah=month_bled_ah),
    )
    return _concluded(plant, memory, np.full(known.shape, UNKNOWN_CELL_V))


def looked_back(plant: Plant, was: LedgerMemory, kept: Looks | None) -> LedgerMemory:
    """The memory with these looks, if they are of this rack and of the clock that goes on."""
    if kept is None:
        return was
    week = replace(was.week, times_s=kept.week_s, charge_ah=kept.week_ah)
    month = replace(was.month, times_s=kept.month_s, charge_ah=kept.month_ah)
    pairs = ((kept.week_s, was.week.times_s), (kept.week_ah, was.week.charge_ah),
             (kept.month_s, was.month.times_s), (kept.month_ah, was.month.charge_ah))  # fmt: skip
    newest_s = max(np.nan_to_num(kept.week_s).max(initial=0.0), np.nan_to_num(kept.month_s).max(initial=0.0))
    # what was saved of the clock may be some minutes older than the last look
    if any(one.shape != other.shape for one, other in pairs) or not newest_s <= was.clock.now_s + HOUR_S:
        return was
    told = leaks.leaks(week, month, plant.cell.capacity_ah)
    return _concluded(
        plant, replace(was, week=week, month=month, leaks=told), np.full(week.bled_ah.shape, UNKNOWN_CELL_V)
    )


def _fits(kept: Ledger, empty: LedgerMemory) -> bool:
    """Whether this is of a rack of this shape, and whole."""
    cells, strings = empty.excess_ah, empty.bled_wh
    pairs = (
        (kept.excess_ah, cells), (kept.sigma_ah, cells), (kept.moved_ah, cells), (kept.blind_ah, cells),
        (kept.bled_wh, strings), (kept.week_bled_ah, cells), (kept.month_bled_ah, cells),
    )  # fmt: skip
    if any(one.shape != other.shape for one, other in pairs):
        return False
    return bool(np.isfinite(kept.moved_ah + kept.blind_ah).all() and np.isfinite(kept.bled_wh.sum() + kept.clock_s))


def forgotten(was: LedgerMemory, modules: Bools) -> LedgerMemory:
    """The memory without these modules (strings, modules): other cells are there now."""
    gone = np.broadcast_to(modules[:, :, None], was.excess_ah.shape)
    excess, variance = np.where(gone, np.nan, was.excess_ah), np.where(gone, np.nan, was.variance)
    week = replace(was.week, charge_ah=np.where(gone, np.nan, was.week.charge_ah))
    month = replace(was.month, charge_ah=np.where(gone, np.nan, was.month.charge_ah))
    known, off = was.balancing, np.where(gone, False, was.balancing.wanted)
    return replace(
        was,
        excess_ah=excess,
        variance=variance,
        moved_ah=np.where(gone, 0.0, was.moved_ah),
        pending_ah=np.where(gone, 0.0, was.pending_ah),
        visit=replace(was.visit, prior_ah=np.where(gone, np.nan, was.visit.prior_ah),
                      told_ah=np.where(gone, np.nan, was.visit.told_ah)),
        week=week,
        month=month,
        leaks=Leaks(*(np.where(gone, np.nan, values) for values in (
            was.leaks.week_ma, was.leaks.week_sigma_ma, was.leaks.ma, was.leaks.sigma_ma))),
        balancing=replace(known, wanted=off, known=known.known & ~modules.any(axis=1)),
    )  # fmt: skip


def counted(plant: Plant, was: LedgerMemory, snapshot: Snapshot, dt_s: float) -> LedgerMemory:
    """The memory with what the bleeders took in this tick: those that boards say conduct, else those told to."""
    modules = snapshot.modules
    heard = modules.state_age_s <= plant.timing.slow_hold_s
    obeys = modules.uid >= 0  # boards of other makers have no number, and are told nothing
    conducts = np.where(heard[:, :, None], modules.balancing, was.told & obeys[:, :, None])
    clock = _clock(was.clock, snapshot, dt_s)
    if not conducts.any():
        return replace(was, pending_s=was.pending_s + dt_s, clock=clock)
    hours = min(dt_s, LONGEST_S) / HOUR_S
    volts = np.where(np.isfinite(modules.cell_v), modules.cell_v, UNKNOWN_CELL_V)
    amount_ah = np.where(conducts, volts * (hours / plant.balance.bleed_ohm), 0.0)
    return replace(
        was,
        pending_ah=was.pending_ah + amount_ah,
        pending_s=was.pending_s + dt_s,
        bled_wh=was.bled_wh + (amount_ah * volts).sum(axis=(1, 2)),
        clock=clock,
    )


def _clock(was: Clock, snapshot: Snapshot, dt_s: float) -> Clock:
    """The clock after this tick. A synchronised one tells how long an unknown time was."""
    now_s = was.now_s + dt_s
    if snapshot.utc_s is None or snapshot.utc_quality is not ClockQuality.SYNCHRONISED:
        return Clock(now_s, was.epoch_s, was.doubtful)
    if not was.doubtful:
        return Clock(now_s, snapshot.utc_s - now_s)
    by_utc_s = snapshot.utc_s - was.epoch_s
    known = by_utc_s >= now_s
    return Clock(by_utc_s if known else now_s, was.epoch_s, not known)


def step(plant: Plant, was: LedgerMemory, cell_v: Floats, anchor: Anchor | None) -> LedgerMemory:
    """The memory after this look: what was bled since the last one is worked off, what an anchor tells is taken in."""
    dt_s, memory = was.pending_s, _worked_off(plant, was, cell_v)
    if anchor is not None or not np.isnan(was.visit.since_s).all():
        memory = _visited(plant, memory, anchor, dt_s)
    if anchor is not None:
        memory = _read(memory, anchor, plant.cell.capacity_ah, dt_s)
    return _concluded(plant, memory, cell_v)


def _visited(plant: Plant, was: LedgerMemory, anchor: Anchor | None, dt_s: float) -> LedgerMemory:
    """The memory with visits begun and ended; what one at the top has told is a look at the leaks."""
    visit, no = was.visit, np.zeros_like(was.session)
    there, top = (no, no) if anchor is None else (anchor.there, anchor.top)
    since_s = visit.since_s + dt_s
    left_s = np.where(there, 0.0, visit.left_s + dt_s)
    with np.errstate(invalid="ignore"):
        over = (left_s >= VISIT_OVER_S) | (since_s >= LONGEST_VISIT_S) | (there & (top != visit.top) & (since_s > 0.0))
    memory = _watched(was, over & visit.top, plant.cell.capacity_ah)
    seen = (over & visit.top)[:, None, None] & np.isfinite(visit.told_ah).all(axis=(1, 2), keepdims=True)
    begins = there & (np.isnan(since_s) | over)
    cells, gone = begins[:, None, None], (begins | over)[:, None, None]
    new = Visit(
        prior_ah=np.where(cells, was.excess_ah, visit.prior_ah),
        prior_variance=np.where(cells, _variance(was, plant.cell.capacity_ah), visit.prior_variance),
        told_ah=np.where(gone, np.nan, visit.told_ah),
        error=np.where(gone, np.nan, visit.error),
        since_s=np.where(begins, 0.0, np.where(over, np.nan, since_s)),
        left_s=np.where(begins, 0.0, np.where(over, np.nan, left_s)),
        top=np.where(begins, top, visit.top),
    )
    return replace(memory, visit=new, blind_ah=np.where(seen, 0.0, memory.blind_ah))


def _worked_off(plant: Plant, was: LedgerMemory, cell_v: Floats) -> LedgerMemory:
    amount_ah, dt_s = was.pending_ah, was.pending_s
    fade = np.exp(-dt_s / DAY_S)
    could_ah = np.nan_to_num(cell_v, nan=UNKNOWN_CELL_V) * (dt_s / HOUR_S / plant.balance.bleed_ohm)
    wanted = was.balancing.wanted
    return replace(
        was,
        excess_ah=was.excess_ah - amount_ah,
        bled_ah=was.bled_ah + amount_ah,
        since_s=was.since_s + dt_s,
        moved_ah=was.moved_ah + amount_ah,
        blind_ah=was.blind_ah + amount_ah,
        wanted_ah=was.wanted_ah * fade + np.where(wanted, could_ah, 0.0).sum(axis=(1, 2)),
        done_ah=was.done_ah * fade + np.where(wanted, amount_ah, 0.0).sum(axis=(1, 2)),
        visit=replace(was.visit, prior_ah=was.visit.prior_ah - amount_ah, told_ah=was.visit.told_ah - amount_ah),
        week=leaks.bled(was.week, amount_ah, dt_s),
        month=leaks.bled(was.month, amount_ah, dt_s),
        pending_ah=np.zeros_like(amount_ah),
        pending_s=0.0,
    )


def _variance(was: LedgerMemory, capacity_ah: float) -> Floats:
    """Of each cell's excess now."""
    drift_ah = DRIFT_SIGMA * capacity_ah * was.since_s / DAY_S
    return was.variance + np.square(BLEED_SIGMA * was.bled_ah) + np.square(drift_ah)


def _read(was: LedgerMemory, anchor: Anchor, capacity_ah: float, dt_s: float) -> LedgerMemory:
    """Take in what an anchor tells now: the visit's reading becomes better, and the ledger is that after it."""
    visit, now_ah = was.visit, anchor.excess_ah - _shift(was.visit.prior_ah, anchor)
    error = np.square(anchor.sigma_ah)
    share = min(dt_s / (2.0 * TAU_S), 1.0)
    with np.errstate(invalid="ignore"):
        good = anchor.read & ~(error > AS_GOOD * visit.error)
        bounded = anchor.below & ~(visit.prior_ah <= now_ah) & np.isnan(visit.told_ah)
    told_ah = np.where(np.isnan(visit.told_ah), now_ah, visit.told_ah + share * (now_ah - visit.told_ah))
    told_ah, best = np.where(good, told_ah, visit.told_ah), np.where(good, np.fmin(error, visit.error), visit.error)
    loose = np.fmax(np.maximum(error, np.square(BOUND_SIGMA * capacity_ah)), visit.prior_variance)
    prior_ah = np.where(bounded, now_ah, visit.prior_ah)
    prior_variance = np.where(bounded, loose, visit.prior_variance)
    excess_ah, variance = _joined(prior_ah, prior_variance, told_ah, best)
    taken = good | bounded
    return replace(
        was,
        excess_ah=np.where(taken, excess_ah, was.excess_ah),
        variance=np.where(taken, variance, was.variance),
        bled_ah=np.where(taken, 0.0, was.bled_ah),
        since_s=np.where(taken, 0.0, was.since_s),
        visit=replace(visit, prior_ah=prior_ah, prior_variance=prior_variance, told_ah=told_ah, error=best),
    )


def _joined(prior_ah: Floats, variance: Floats, told_ah: Floats, error: Floats) -> tuple[Floats, Floats]:
    """What was thought before and one reading together; where one of them is missing, the other."""
    total = variance + error
    off = np.clip(told_ah - prior_ah, -MOST_SIGMAS * np.sqrt(total), MOST_SIGMAS * np.sqrt(total))
    both = np.maximum(variance * error / total, np.minimum(variance, error))
    read, new = np.isfinite(told_ah), np.isnan(prior_ah)
    return (
        np.where(read, np.where(new, told_ah, prior_ah + variance / total * off), prior_ah),
        np.where(read, np.where(new, error, both), variance),
    )


def _shift(excess_ah: Floats, anchor: Anchor) -> Floats:
    """By how much readings differ from the ledger in the median cell (strings, 1, 1): what all cells share.

    Where no cell that is read is known, those below the knee bound it: the cells that are new then have at least this.
    """
    apart = anchor.excess_ah - excess_ah
    shift = leaks.middle(np.where(anchor.read, apart, np.nan))
    bound = np.fmin.reduce(np.where(anchor.below, apart, np.nan), axis=(1, 2), keepdims=True)
    return np.nan_to_num(np.where(np.isnan(shift), bound, shift))


def _watched(was: LedgerMemory, strings: Bools, capacity_ah: float) -> LedgerMemory:
    """Look at the leaks by what the visit of these strings has told."""
    if not strings.any():
        return was
    memory, visit = _without_looks(was) if was.clock.doubtful else was, was.visit
    with np.errstate(invalid="ignore"):
        sure = visit.error <= np.square(SURE_SIGMA * capacity_ah)
    charge_ah, now_s = np.where(sure, visit.told_ah + was.moved_ah, np.nan), memory.clock.now_s
    week = leaks.looked(memory.week, now_s, charge_ah, strings)
    month = leaks.looked(memory.month, now_s, charge_ah, strings)
    if week is memory.week and month is memory.month:
        return memory
    return replace(memory, week=week, month=month, leaks=leaks.leaks(week, month, capacity_ah))


def _without_looks(was: LedgerMemory) -> LedgerMemory:
    """Nobody knows how long ago the looks were: they are forgotten, and with them what they told."""
    shape = was.excess_ah.shape
    week, month = leaks.start(shape, leaks.WEEK_S), leaks.start(shape, leaks.MONTH_S)
    return replace(was, week=week, month=month, leaks=leaks.unknown(shape), clock=Clock(was.clock.now_s))


def dead_band_ah(plant: Plant) -> float:
    """What cells may differ by without being bled, Ah."""
    return min(plant.balance.dead_band_share * plant.cell.capacity_ah, plant.balance.dead_band_ah)


def _concluded(plant: Plant, was: LedgerMemory, cell_v: Floats) -> LedgerMemory:
    """What follows: cells to bleed, and how long that takes."""
    capacity_ah, band_ah = plant.cell.capacity_ah, dead_band_ah(plant)
    variance = _variance(was, capacity_ah)
    with np.errstate(invalid="ignore"):
        sure = variance <= np.square(KNOWN_SIGMA * capacity_ah)
    flat = np.where(sure, was.excess_ah, np.nan).reshape(len(was.session), -1)
    known: Bools = np.logical_and.reduce(np.isfinite(flat), axis=1)
    lowest = np.where(np.isfinite(flat), flat, np.inf).argmin(axis=1)
    rows = np.arange(len(flat))
    base_ah = flat[rows, lowest][:, None, None]
    base_variance = variance.reshape(len(flat), -1)[rows, lowest][:, None, None]
    todo_ah = np.where(sure, was.excess_ah - base_ah, np.nan)
    sigma_ah = np.where(sure, np.sqrt(variance + base_variance), np.nan)
    with np.errstate(invalid="ignore"):
        stop_ah = np.maximum(np.maximum(STOP_SHARE * band_ah, 0.5 * sigma_ah), sigma_ah - band_ah)
        over = (todo_ah > stop_ah) & known[:, None, None] & (was.blind_ah < BLIND_SHARE * capacity_ah)
        begins = (over & (todo_ah > band_ah)).any(axis=(1, 2))
    session = begins | (was.session & over.any(axis=(1, 2)))
    wanted = over & session[:, None, None]
    cells = (todo_ah, sigma_ah, was.moved_ah, was.leaks.ma, was.leaks.sigma_ma)
    todo, sigma, moved, leak, leak_sigma = (values.astype(np.float32) for values in cells)
    balancing = replace(
        was.balancing, todo_ah=todo, todo_sigma_ah=sigma, wanted=wanted, moved_ah=moved, leak_ma=leak,
        leak_sigma_ma=leak_sigma, known=known, bled_wh=was.bled_wh,
    )  # fmt: skip
    left_ah = np.where(wanted, todo_ah - stop_ah, 0.0)
    return replace(
        was, sigma_ah=np.sqrt(variance), session=session, balancing=_timed(plant, was, balancing, left_ah, cell_v)
    )


def _timed(plant: Plant, was: LedgerMemory, known: Balancing, left_ah: Floats, cell_v: Floats) -> Balancing:
    """When it will be done at the pace of the last 24 h, and whether that pace holds against the drift."""
    rows = np.arange(len(was.session))
    bleed_a = float(np.nan_to_num(cell_v, nan=UNKNOWN_CELL_V).mean()) / plant.balance.bleed_ohm
    # an hour at full duty is what is assumed at first
    duty = np.minimum((was.done_ah + bleed_a) / (was.wanted_ah + bleed_a), 1.0)
    pace_a = bleed_a * duty
    flat = left_ah.reshape(len(rows), -1)
    last = flat.argmax(axis=1)
    sigma_ah = known.todo_sigma_ah.reshape(flat.shape)[rows, last]
    hours = flat[rows, last] / pace_a
    sigma_h = np.hypot(sigma_ah / pace_a, BLEED_SIGMA * hours)
    busy = flat[rows, last] > 0.0
    leak_a = _drift_a(known)
    return replace(
        known,
        time_s=np.where(known.known, HOUR_S * hours, np.nan),
        time_sigma_s=np.where(known.known, np.where(busy, HOUR_S * sigma_h, 0.0), np.nan),
        duty=np.where(was.wanted_ah > 0.0, duty, np.nan),
        load=leak_a / pace_a,
    )


def _drift_a(known: Balancing) -> Floats:
    """Current that every cell but the leakiest must be bled with to keep level with it (strings,), A; NaN: unknown."""
    with np.errstate(invalid="ignore"):
        certain = np.where(np.abs(known.leak_ma) > 2.0 * known.leak_sigma_ma, known.leak_ma, 0.0)
    told = np.where(np.isfinite(known.leak_ma), certain, np.nan).reshape(len(known.known), -1)
    highest, lowest = np.fmax.reduce(told, axis=1), np.fmin.reduce(told, axis=1)
    return np.asarray(1e-3 * (highest - lowest))
