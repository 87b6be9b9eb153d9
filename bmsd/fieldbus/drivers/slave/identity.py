"""Who answers at which address: unique number, type, versions, and when that was heard."""

from __future__ import annotations

import math

import numpy as np

from bmsd.fieldbus.drivers.slave import words as meaning
from bmsd.fieldbus.drivers.slave.slots import Slots
from bmsd.fieldbus.drivers.slave.words import VERSION_FIELDS, Words
from bmsd.model.snapshot import Bools, Floats, Ints

MODULE_BOARD, CONTACTOR_UNIT = 1, 2


class Identities:
    """Identification of all nodes, arrays (nodes,): boards, then units; -1 where not reported."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._wanted_type = np.where(np.arange(slots.nodes) < slots.boards, MODULE_BOARD, CONTACTOR_UNIT)
        self._uid: Ints = np.full(slots.nodes, -1, dtype=np.int64)
        self._cell_count: Ints = np.full(slots.nodes, -1, dtype=np.int64)
        self._version: Ints = np.full((slots.nodes, len(VERSION_FIELDS)), -1, dtype=np.int64)
        self._heard_s: Floats = np.full(slots.nodes, -math.inf)
        self.identified: Bools = np.zeros(slots.nodes, dtype=bool)

    @property
    def uid(self) -> Ints:
        return self._uid

    @property
    def cell_count(self) -> Ints:
        return self._cell_count

    def field(self, name: str) -> Ints:
        """Return one of VERSION_FIELDS of all nodes."""
        return self._version[:, VERSION_FIELDS.index(name)]

    def wrong_type(self, node: int) -> bool:
        """Whether a node says that it is something else than its address is for."""
        board_type = int(self.field("BoardType")[node])
        return board_type >= 0 and board_type != int(self._wanted_type[node])

    def take_uids(self, nodes: Ints, words: Words, now_s: float) -> list[int]:
        """Note unique numbers; another number at an address is another node, nothing is known of it yet.

        Return the nodes that had another number while it was still known: two speak there, or have just changed.
        """
        self._version = self._version.copy()
        self._uid, self._cell_count = self._uid.copy(), self._cell_count.copy()
        swapped = []
        for node, uid, cell_count in zip(nodes.tolist(), *(each.tolist() for each in meaning.uids(words)), strict=True):
            if self._uid[node] not in (-1, uid):
                swapped.append(node)
                self._version[node] = -1
            self._uid[node], self._cell_count[node] = uid, cell_count
        self._noted(nodes, now_s)
        return swapped

    def take_versions(self, nodes: Ints, words: Words, now_s: float) -> None:
        """Note types and versions."""
        self._version = self._version.copy()
        self._version[nodes] = meaning.versions(words)
        self._noted(nodes, now_s)

    def forget(self, nodes: Bools) -> None:
        """Forget nodes that are silent: whoever answers there next must say again who it is."""
        if nodes.any():
            self._uid = np.where(nodes, -1, self._uid)
            self._cell_count = np.where(nodes, -1, self._cell_count)
            self._version = np.where(nodes[:, None], -1, self._version)
            self._judge()

    def heard_before(self, time_s: float) -> Bools:
        """Return which nodes did not identify themselves since then."""
        return self._heard_s < time_s

    def _noted(self, nodes: Ints, now_s: float) -> None:
        self._heard_s[nodes] = now_s
        self._judge()

    def _judge(self) -> None:
        self.identified = (self._uid >= 0) & (self._version[:, 0] == self._wanted_type)
