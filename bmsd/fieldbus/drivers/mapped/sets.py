"""Values that belong together: a set is complete when each of its frames has come anew, and only then it shows."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from bmsd.fieldbus.drivers.mapped.columns import Columns
from bmsd.model.snapshot import Bools, Floats, Ints, Reading


class Store:
    """The newest data word of each slot, when it was measured, and how many have come."""

    def __init__(self, slots: int) -> None:
        self.words: NDArray[np.uint64] = np.zeros(slots, dtype=np.uint64)
        self.at_s: Floats = np.full(slots, -math.inf)
        self.count: Ints = np.zeros(slots, dtype=np.int64)

    def put(self, slot: int, word: int, at_s: float) -> None:
        self.words[slot] = word
        self.at_s[slot] = at_s
        self.count[slot] += 1


class Sets:
    """One quantity as sets of equal size, arrays (sets, size): a module's cells, a string's current.

    A set was measured when the oldest of its frames was. `sync` counts complete sets, -1 before the first.
    `at_s`, `sync` and `values` are never changed in place: what was handed out stays as it was.
    """

    def __init__(self, columns: Columns, sets: int) -> None:
        self._columns = columns
        self.slots = columns.slot.reshape(sets, -1)
        self._seen: Ints = np.zeros(self.slots.shape, dtype=np.int64)
        self.values: Floats = np.full(self.slots.shape, np.nan)
        self.at_s: Floats = np.full(sets, -math.inf)
        self.before_s: Floats = np.full(sets, -math.inf)
        """When the set before was measured."""
        self.sync: Ints = np.full(sets, -1, dtype=np.int64)

    def take(self, store: Store) -> Bools | None:
        """Take the sets that are complete; return which, None when there are none."""
        counts = store.count[self.slots]
        whole = np.asarray((counts > self._seen).all(axis=1))
        if not whole.any():
            return None
        values = self._columns.values(store.words).reshape(self.slots.shape)
        self.values = np.where(whole[:, None], values, self.values)
        self.before_s = np.where(whole, self.at_s, self.before_s)
        self.at_s = np.where(whole, store.at_s[self.slots].min(axis=1), self.at_s)
        self.sync = self.sync + whole
        self._seen[whole] = counts[whole]
        return whole

    def known(self, now_s: float, stale_s: float) -> Bools:
        """(sets,): sets that are not older than this."""
        return np.asarray(now_s - self.at_s <= stale_s)

    def shown(self, now_s: float, stale_s: float) -> tuple[Floats, Ints]:
        """Return values and readings (sets, size) as known now; what was never or not lately complete is MISSING."""
        known = self.known(now_s, stale_s)[:, None]
        values = np.where(known, self.values, np.nan)
        wrong = np.where(np.isnan(self.values), int(Reading.INVALID), int(Reading.OK))
        return values, np.where(known, wrong, int(Reading.MISSING))
