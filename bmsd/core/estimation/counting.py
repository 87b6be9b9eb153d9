"""Charge that flowed since the last tick, by the charge counters of the strings, and how much of it is a guess."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bmsd.model.plant import Plant
from bmsd.model.snapshot import Bools, Floats, Snapshot

UNHEARD_S = 10.0
"""A contactor unit that is silent for so long opens by itself."""


@dataclass(frozen=True, slots=True)
class Counter:
    """Newest known charge counter in As per string (NaN: none yet), and the time since it was known in s."""

    charge_as: Floats
    silent_s: Floats


def start(strings: int) -> Counter:
    """Nothing counted."""
    return Counter(np.full(strings, np.nan), np.zeros(strings))


def counted_as(
    plant: Plant, was: Counter, snapshot: Snapshot, dt_s: float, in_circuit: Bools
) -> tuple[Counter, Floats, Floats]:
    """Return the counter, the charge per string since it was last known, As, and what of it is a guess (+-), As.

    A counter that moved further than the fuse would carry in the time has restarted: its step is not charge. While one
    is not heard for long, its string, if in circuit, may carry all that it is rated for: not every source counts on.
    """
    units, silent_s = snapshot.units, was.silent_s + dt_s
    fresh = np.isfinite(units.charge_as) & (units.current_age_s <= plant.timing.hold_s + 1e-9)
    counter_as = np.where(fresh, units.charge_as, was.charge_as)
    moved = counter_as - was.charge_as
    most_as = 2.0 * plant.ratings.fuse_a * (silent_s + plant.timing.hold_s)
    possible = np.abs(moved) <= most_as  # NaN, the first one, is not
    restarted = ~possible & ~np.isnan(moved)
    counter = Counter(counter_as, np.where(fresh, 0.0, silent_s))
    unheard = in_circuit & ~fresh & (silent_s > UNHEARD_S) & ~np.isnan(was.charge_as)
    guessed_as = np.where(restarted, most_as, 0.0) + np.where(unheard, plant.string_max_a * dt_s, 0.0)
    return counter, np.where(possible, moved, 0.0), guessed_as
