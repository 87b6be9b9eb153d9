"""The order in which frames came after a SYNC: with time slots it is nearly always that of the poll before.

What is known of a frame by its place in that order need not be looked up: a batch that continues the order is
recognised by one comparison of its identifiers, flags and lengths as bytes, and another one of its folded contents.
"""

from __future__ import annotations

import numpy as np

from bmsd.fieldbus.drivers.slave.slots import Slots, fold_tables
from bmsd.fieldbus.drivers.slave.words import Words
from bmsd.model.snapshot import Ints

_WORDS = 4
"""16-bit words of a frame's data."""
_TABLES = fold_tables()
_WITHOUT_PHASE = 4
"""Number of the table for the last word of frames whose phase does not count."""


class Order:
    """Frames in the order of one poll: slots (frames,), and what is precomputed for each place."""

    def __init__(self, slots: Slots, phase: int, headers: bytes, order: Ints) -> None:
        self._slots, self._phase = slots, phase
        self.headers, self.order = headers, order
        current = np.isin(order, slots.currents)
        self.only_currents = bool(current.all())
        self._index = np.zeros((_WORDS, len(order)), dtype=np.int64)
        """Where in the tables each data word is looked up: its own value with the number of the table above it."""
        lanes = self._index.view(np.uint16).reshape(_WORDS, len(order), _WORDS)
        self._values, number_of_table = lanes[:, :, 0], lanes[:, :, 1]
        number_of_table[...] = np.arange(_WORDS)[:, None]
        number_of_table[_WORDS - 1, ~current] = _WITHOUT_PHASE
        self._wanted: list[bytes] = [b""] * 16

    def fits(self, data: Words, start: int, number: int) -> bool:
        """Whether these data words, which came from place `start` on, have the right CRC, counter and phase."""
        end = start + len(data)
        self._values[:, start:end] = data.view(np.uint16).reshape(-1, _WORDS).T
        parts = _TABLES.take(self._index[:, start:end])
        pairs = parts[:2] ^ parts[2:]
        return bool((pairs[0] ^ pairs[1]).tobytes() == self._folded(number % 16)[2 * start : 2 * end])

    def _folded(self, counter: int) -> bytes:
        """Return what all data words must fold to under a SYNC of this number modulo 16."""
        wanted = self._wanted[counter]
        if not wanted:
            row = self._slots.expected(counter, self._phase, poll_open=True)[self.order]
            wanted = self._wanted[counter] = (row >> np.uint64(48)).astype(np.uint16).tobytes()
        return wanted


class Arrivals:
    """What came since the newest SYNC, against the order after the SYNC of the same phase and slow group before."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._known: dict[tuple[int, int], Order] = {}
        self._kind = (0, 0)
        self._order: Order | None = None
        self._place = 0
        self._headers: list[bytes] = []
        self._came: list[Ints] = []
        """Slots that came, batch by batch."""
        self._new = False

    def opened(self, phase: int, slow_group: int) -> None:
        """Begin anew with a SYNC: learn the order since the one before, when it was sound and another one."""
        if self._new and self._came:
            order, headers = np.concatenate(self._came), b"".join(self._headers)
            self._known[self._kind] = Order(self._slots, self._kind[0], headers, order)
        self._kind = (phase, slow_group)
        self._order = self._known.get(self._kind)
        self._place, self._headers, self._came, self._new = 0, [], [], False

    def slots_of(self, headers: bytes, data: Words, number: int, *, poll_open: bool) -> Ints | None:
        """Return the slots of a batch that continues the known order and is right under this SYNC, else None.

        That the slots were still empty is not looked at.
        """
        order, start = self._order, self._place
        if order is None or not (poll_open or order.only_currents):
            return None
        end = start + len(data)
        if order.headers[8 * start : 8 * end] != headers or not order.fits(data, start, number):
            return None
        return order.order[start:end]

    def took(self, headers: bytes, slots: Ints, *, known: bool) -> None:
        """Note that a batch was taken whole; `known`: it continued the known order."""
        self._place += len(slots)
        self._headers.append(headers)
        self._came.append(slots)
        self._new = self._new or not known

    def disturbed(self) -> None:
        """Note that something else came: the order since this SYNC is nothing to learn from."""
        self._order = None
        self._headers, self._came, self._new = [], [], False
