"""Module boards: do they answer, with fresh and undamaged frames?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bmsd.core.commissioning import NOBODY
from bmsd.core.protection.evidence import Evidence, Reading, detector, of_rack, remembering
from bmsd.core.protection.window import WINDOW_S, Window, lately
from bmsd.model.snapshot import CHEMISTRIES, MODULE_BOARD, Bools, Floats, Ints

MOST_ERRORS = 5.0
MOST_SHARE = 0.01


@detector
def cell_age(evidence: Evidence) -> Reading:
    """Age of the newest complete measurement of each module, s."""
    return Reading(evidence.snapshot.modules.cell_age_s.reshape(-1))


@detector
def board_tripped(evidence: Evidence) -> Reading:
    """1 where a board has a trip of its own latched, 0 where it says that it has none; else NaN."""
    modules, timing = evidence.snapshot.modules, evidence.plant.timing
    answers = modules.state_age_s <= timing.slow_hold_s
    return Reading(np.where(modules.trip_active, 1.0, np.where(answers, 0.0, np.nan)).reshape(-1))


@dataclass(frozen=True, slots=True)
class Leak:
    """Leaky count of polls with something wrong, per module, and the totals seen."""

    count: Floats
    errors: Ints


@remembering
def counter_errors(evidence: Evidence, was: Leak | None) -> tuple[Reading, Leak]:
    """Leaky count per module: one up for a tick with frames of another SYNC, 0.6 down for a good poll."""
    total = evidence.snapshot.modules.counter_errors
    was = was or Leak(np.zeros(total.shape), total)
    bad = total > was.errors
    good = evidence.new_cells & ~bad
    count = np.clip(was.count + bad - 0.6 * good, 0.0, 5.0)
    return Reading(count.reshape(-1)), Leak(count, total)


@remembering
def crc_errors(evidence: Evidence, was: Window | None) -> tuple[Reading, Window]:
    """Damaged frames of the last 10 s per module, 1 at 5 of them or at 1 % of all, whichever is more."""
    modules = evidence.snapshot.modules
    (bad, frames), window = lately(np.stack([modules.crc_errors, modules.frames]), evidence.snapshot.now_s, was)
    share = bad / np.maximum(frames, 1)
    value = np.where(bad >= 2.0, np.maximum(bad / MOST_ERRORS, share / MOST_SHARE), bad / MOST_ERRORS)
    return Reading(value.reshape(-1)), window


@remembering
def duplicate_addresses(evidence: Evidence, was: Leak | None) -> tuple[Reading, Leak]:
    """Leaky count per module: one up for a sighting of a second board, one down in 10 s; 2 at most."""
    total = evidence.snapshot.modules.duplicates
    was = was or Leak(np.zeros(total.shape), np.zeros_like(total))
    count = np.clip(was.count - evidence.dt_s / WINDOW_S, 0.0, None) + np.maximum(total - was.errors, 0)
    count = np.minimum(count, 2.0)
    return Reading(count.reshape(-1)), Leak(count, total)


def _answers(bad: Bools, said: Bools) -> Reading:
    """1 where what a board said is bad, 0 where it is good; NaN where it has not said it."""
    return Reading(np.where(said, bad.astype(np.float64), np.nan).reshape(-1))


@detector
def cell_count(evidence: Evidence) -> Reading:
    """1 where a board has another number of cells than the layout."""
    count = evidence.snapshot.modules.cell_count
    return _answers(count != evidence.plant.layout.cells, count >= 0)


@detector
def wrong_type(evidence: Evidence) -> Reading:
    """1 where something is no module board, or not for the cells of the plant."""
    modules, chemistry = evidence.snapshot.modules, evidence.plant.cell.chemistry
    bad = (modules.board_type != MODULE_BOARD) | (modules.chemistry != CHEMISTRIES.index(chemistry))
    return _answers(bad, modules.board_type >= 0)


@detector
def swapped(evidence: Evidence) -> Reading:
    """1 where another board answers than was commissioned, or where none was; NaN while it does not say its number.

    One without a number is another one than was commissioned, but where none was it says nothing.
    """
    uid, wanted = evidence.snapshot.modules.uid, evidence.commissioned
    if wanted is None:
        return _answers(np.zeros(uid.shape, dtype=bool), np.zeros(uid.shape, dtype=bool))
    return _answers(uid != wanted, (uid > 0) | ((uid == 0) & (wanted != NOBODY)))


@detector
def taken_over(evidence: Evidence) -> Reading:
    """1 when the boards that answer have just become the rack's without anybody having accepted them."""
    return of_rack(evidence.taken_over)
