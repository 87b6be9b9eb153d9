"""Whether two module boards speak under one address."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from bmsd.fieldbus.drivers.slave.slots import Slots
from bmsd.fieldbus.drivers.slave.sorting import Kind, Sorted
from bmsd.fieldbus.drivers.slave.words import Words
from bmsd.model.layout import Layout
from bmsd.model.snapshot import Bools, Ints


class Twins:
    """Sightings of a second board at an address, at most one per poll.

    A sighting is another content for what was already heard in the poll, all cells of a board twice, a frame with
    another counter after the same one with the right counter, or another unique number. One frame alone that comes
    twice is none: a sender repeats it when it alone saw a bit error at its very end. While a second master asks,
    boards answer twice too: frames of such a poll and of the next are no sightings.
    """

    def __init__(self, slots: Slots, layout: Layout) -> None:
        self._slots = slots
        self.sightings: Ints = np.zeros(layout.module_shape, dtype=np.int64)
        """Shape (strings, modules); never written again."""
        self._seen: Bools = np.zeros(slots.nodes, dtype=bool)
        self._again: Bools = np.zeros(slots.count, dtype=bool)
        self._clean = True
        self._disturbed = 0
        """Polls, this one included, in which answers may be those to a second master."""

    def poll_opened(self) -> None:
        """Begin a poll."""
        self._disturbed = max(0, self._disturbed - 1)
        if not self._clean:
            self._seen.fill(False)
            self._again.fill(False)
            self._clean = True

    def note(self, nodes: Iterable[int]) -> None:
        """Note nodes of which a second one was heard."""
        new = [node for node in set(nodes) if 0 <= node < self._slots.boards and not self._seen[node]]
        if new:
            self._clean = False
            self._seen[new] = True
            sightings = self.sightings.copy()
            sightings.reshape(-1)[new] += 1
            self.sightings = sightings

    def look(self, found: Sorted, got: Bools, store: Words) -> None:
        """Look at sorted frames before they are taken; `got`, `store`: what their poll brought before them."""
        if (found.kind == Kind.OWN).any():
            self._disturbed = 2
        if self._disturbed:
            return
        slots, slot, place = self._slots, found.slot, np.arange(len(found.slot))
        of_board = (slot < slots.counted) & (slots.node[slot] < slots.boards)
        right = of_board & ((found.kind == Kind.SOUND) | (found.kind == Kind.LATE))
        first = np.full(slots.count, len(place))
        np.minimum.at(first, slot[right], place[right])
        first[got] = -1
        after = of_board & (place > first[slot])
        here = (first >= 0) & (first < len(place))
        content = store.copy()
        content[here] = found.data[first[here]]
        same = content[slot] == found.data
        other = after & ((right & ~same) | (found.kind == Kind.COUNTER))
        if (after & right & same).any():
            self._clean = False
            self._again[slot[after & right & same]] = True
        twice = self._again[slots.cells].reshape(slots.boards, -1).all(axis=1)
        self.note([*slots.node[slot[other]].tolist(), *np.flatnonzero(twice).tolist()])
