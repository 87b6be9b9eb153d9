"""Trip frames: who sent one, what the newest says, and whether a state is older than it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from bmsd.fieldbus.drivers.slave import words as meaning
from bmsd.fieldbus.drivers.slave.slots import Slots
from bmsd.fieldbus.drivers.slave.words import Words
from bmsd.model.snapshot import Bools, Floats, Ints

WITHOUT_CODE = 4
"""A trip frame that names no cause counts as a failed self-test."""


@dataclass(frozen=True, slots=True)
class Trip:
    """Trip frames of one address: what the newest says, when the first and the newest were heard."""

    code: int
    cell: int
    first_s: float
    last_s: float


class Trips:
    """Trip frames of all addresses since start; a state from a SYNC before the newest does not take it back."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self.by_address: dict[int, Trip] = {}
        """Also of nodes that this rack does not know."""
        self._heard_s: Floats = np.full(slots.nodes, -math.inf)
        self._code: Ints = np.full(slots.nodes, -1, dtype=np.int64)
        self._newest_s = -math.inf

    def take(self, addresses: Ints, words: Words, now_s: float) -> None:
        """Note sound trip frames, arrays (frames,)."""
        codes, cells = meaning.trips(words)
        codes = np.where(codes == 0, WITHOUT_CODE, codes)
        for address, code, cell in zip(addresses.tolist(), codes.tolist(), cells.tolist(), strict=True):
            first_s = self.by_address[address].first_s if address in self.by_address else now_s
            self.by_address[address] = Trip(code, cell, first_s, now_s)
            if address in self._slots.addresses:
                node = self._slots.addresses.index(address)
                self._heard_s[node], self._code[node] = now_s, code
        self._newest_s = now_s

    @property
    def board_codes(self) -> Ints:
        """Code of each board's newest trip frame, shape (boards,); -1: none was heard."""
        return self._code[: self._slots.boards]

    def boards_since(self, at_s: float) -> Bools:
        """Return which boards have sent a trip frame at or after `at_s`, shape (boards,)."""
        return np.asarray(self._heard_s[: self._slots.boards] >= at_s)

    def units_since(self, at_s: float) -> tuple[Bools, Ints] | None:
        """Return which units have sent a trip frame at or after `at_s`, and its code; None: nobody has."""
        boards = self._slots.boards
        return None if self._newest_s < at_s else (self._heard_s[boards:] >= at_s, self._code[boards:])
