"""How many frames came from whom, and how many of them were bad."""

from __future__ import annotations

import numpy as np

from bmsd.fieldbus.drivers.slave.slots import Slots
from bmsd.fieldbus.drivers.slave.sorting import KINDS, Kind, Sorted
from bmsd.model.layout import Layout
from bmsd.model.snapshot import Ints

_OF_A_NODE = (Kind.CRC, Kind.COUNTER, Kind.LATE, Kind.LENGTH)


class FrameCounts:
    """Frames since start. Arrays that went into a snapshot are never written again."""

    def __init__(self, layout: Layout, slots: Slots) -> None:
        self._slots, self._shape = slots, layout.module_shape
        self.kinds: Ints = np.zeros(KINDS, dtype=np.int64)
        """Frames that were not taken as a measurement, by `Kind`."""
        self._crc: Ints = np.zeros(slots.nodes, dtype=np.int64)
        self._counter: Ints = np.zeros(slots.nodes, dtype=np.int64)
        self.frames: Ints = np.zeros(self._shape, dtype=np.int64)
        """Frames of module boards, good or bad, shape (strings, modules); so are the next two."""
        self._shape_errors()

    def _shape_errors(self) -> None:
        boards = self._slots.boards
        self.crc_errors = self._crc[:boards].reshape(self._shape)
        self.counter_errors = self._counter[:boards].reshape(self._shape)
        self.unit_crc_errors = self._crc[boards:]

    def per_node(self, nodes: Ints) -> Ints:
        """Return how often each node occurs."""
        return np.bincount(nodes, minlength=self._slots.nodes)

    def per_board(self, nodes: Ints) -> Ints:
        """Return how often each board occurs, shape (strings, modules)."""
        return self.per_node(nodes)[: self._slots.boards].reshape(self._shape)

    def add_sorted(self, found: Sorted) -> None:
        """Count frames that were sorted; sound measurements are counted when their poll closes."""
        kind, node = found.kind, self._slots.node[found.slot]
        self.kinds = self.kinds + np.bincount(kind[kind != Kind.SOUND], minlength=KINDS)
        bad = (node >= 0) & np.isin(kind, _OF_A_NODE)
        identifying = (kind == Kind.SOUND) & (found.slot >= self._slots.counted)
        self.frames = self.frames + self.per_board(node[bad | identifying])
        self._crc = self._crc + self.per_node(node[bad & (kind == Kind.CRC)])
        self._counter = self._counter + self.per_node(node[bad & (kind == Kind.COUNTER)])
        self._shape_errors()

    def add_repeated(self, slots: Ints, conflicting: int) -> None:
        """Count frames whose slot had been filled before."""
        kinds = self.kinds.copy()
        kinds[Kind.CONFLICT] += conflicting
        kinds[Kind.DUPLICATE] += len(slots) - conflicting
        self.kinds = kinds
        self.frames = self.frames + self.per_board(self._slots.node[slots])
