"""Which identifier of the slave protocol is expected from whom, and where its eight bytes are kept.

Every frame that a rack of this layout can send has one place, its slot. The low 16 bits of an identifier (version,
message, address) lead to the slot by one table; that all the rest of a frame is as it must be is one comparison
of 64 bits per frame: identifier with its flags, length, CRC syndrome, counter and, for a current, its phase.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from bmsd.codec.dbc import load
from bmsd.codec.integrity import data_tables, identifier_syndrome
from bmsd.fieldbus.can_socket import Filter
from bmsd.model.frame import EXTENDED_FLAG
from bmsd.model.layout import Layout
from bmsd.model.snapshot import Ints

ADDRESS_BITS = 7
ADDRESS_MASK = 0x7F
DATABASE = load("slave", ADDRESS_BITS)
FILTERS = (Filter(0x01B51000, 0x03FFF000, True),)
"""Every frame of version 1 of the protocol, whatever its priority."""

PER_FRAME = 4
"""Cells or sensors in one frame."""
UNIT_MESSAGES = ("Current", "StringVoltages", "ContactorState")

_IDENTIFIER_MASK = np.uint64(0xFF_FFFF_FFFF)
_LENGTH_SHIFT = 32
_SYNDROME_SHIFT = 48
_CRC_MASK, _COUNTER_SHIFT, _PHASE_SHIFT = 0x00FF, 8, 12
_COUNTER_MASK, _PHASE_MASK = 0x0F00, 0x3000
_NEVER = np.uint64(0xFF << _LENGTH_SHIFT)
"""A length that no frame has."""


def message_id(name: str) -> int:
    """Return the 29-bit identifier of a message with address 0."""
    return int(DATABASE.get_message_by_name(name).frame_id)


def cell_messages(cells: int) -> tuple[str, ...]:
    """Return the messages that carry so many cells."""
    return tuple(f"CellVoltages{k + 1}" for k in range(-(-cells // PER_FRAME)))


def temperature_messages(sensors: int) -> tuple[str, ...]:
    """Return the messages that carry so many sensors."""
    return tuple(f"Temperatures{k + 1}" for k in range(-(-sensors // PER_FRAME)))


@cache
def fold_tables() -> NDArray[np.uint16]:
    """Return what each data word adds to the check of its frame, five tables of 65536 one after the other.

    Bits 0..7: CRC syndrome; from the last word also the counter in bits 8..11 and the phase in bits 12..13. The fifth
    table is the one of the last word without the phase.
    """
    tables = data_tables().astype(np.uint16)
    word = np.arange(65536, dtype=np.uint16)
    tables[3] |= (word >> np.uint16(4) & np.uint16(0xF)) << np.uint16(_COUNTER_SHIFT)
    without_phase = tables[3].copy()
    tables[3] |= (word >> np.uint16(2) & np.uint16(0x3)) << np.uint16(_PHASE_SHIFT)
    return np.concatenate([*tables, without_phase])


MOST_AT_ONCE = 4096
"""Frames that `Slots.matching` takes at once."""
_OFFSETS = np.tile(np.arange(4, dtype=np.int64) * 65536, MOST_AT_ONCE)


class Slots:
    """Slots of a rack, numbered so that what is decoded together lies together.

    cells (boards, frames), temperatures (boards, frames), board state (boards,), units (strings, 3), node status
    (boards + units,): frames with a counter, answers to a SYNC; then identification (2, boards + units). The last
    slot is for everything unknown. Nodes are counted boards first, string after string, then units.
    """

    def __init__(self, layout: Layout) -> None:
        boards = [address for string in layout.module_addresses for address in string]
        self.addresses: tuple[int, ...] = (*boards, *layout.unit_addresses)
        self.boards, self.units, self.nodes = len(boards), layout.strings, len(self.addresses)
        self.cell_messages = cell_messages(layout.cells)
        self.temperature_messages = temperature_messages(layout.sensors)
        nodes = range(self.nodes)
        board_nodes, unit_nodes = nodes[: self.boards], nodes[self.boards :]
        self._pairs: list[tuple[str, int]] = []
        self.cells = self._add(self.cell_messages, board_nodes)
        self.temperatures = self._add(self.temperature_messages, board_nodes)
        self.board_state = self._add(("ModuleState",), board_nodes)
        self.unit_words = self._add(UNIT_MESSAGES, unit_nodes)
        self.node_status = self._add(("NodeStatus",), nodes)
        self.counted = len(self._pairs)
        self.identity_uid = self._add(("IdentityUid",), nodes)
        self.identity_version = self._add(("IdentityVersion",), nodes)
        self.unknown = len(self._pairs)
        self.count = self.unknown + 1
        self.currents = np.arange(self.unit_words.start, self.unit_words.stop, len(UNIT_MESSAGES))
        self.node = np.array([node for _, node in self._pairs] + [-1], dtype=np.int64)
        self.message_names = tuple(name for name, _ in self._pairs)
        self._fill_tables()

    def _add(self, names: Sequence[str], nodes: Sequence[int]) -> slice:
        """Give every message of every node a slot, node after node."""
        start = len(self._pairs)
        self._pairs += [(name, node) for node in nodes for name in names]
        return slice(start, len(self._pairs))

    def _fill_tables(self) -> None:
        self.slot_of = np.full(65536, self.unknown, dtype=np.int64)
        self._expected = np.full(self.count, _NEVER, dtype=np.uint64)
        self.mask = np.full(self.count, _IDENTIFIER_MASK, dtype=np.uint64)
        for slot, can_id in self._identifiers():
            self.slot_of[can_id & 0xFFFF] = slot
            header = can_id | EXTENDED_FLAG | 8 << _LENGTH_SHIFT
            self._expected[slot] = header | identifier_syndrome(can_id) << _SYNDROME_SHIFT
        syndrome = np.full(self.count, _CRC_MASK, dtype=np.uint64)
        syndrome[: self.counted] |= np.uint64(_COUNTER_MASK)
        syndrome[self.currents] |= np.uint64(_PHASE_MASK)
        self.mask |= syndrome << np.uint64(_SYNDROME_SHIFT)
        self._rows: dict[tuple[int, int, bool], NDArray[np.uint64]] = {}

    def _identifiers(self) -> Iterator[tuple[int, int]]:
        for slot, (name, node) in enumerate(self._pairs):
            yield slot, message_id(name) | self.addresses[node]

    def expected(self, number: int, phase: int, poll_open: bool) -> NDArray[np.uint64]:
        """Return what each slot's frame must be under this SYNC; see `check`.

        While no poll is open only currents are expected. Identification is never expected here: it is rare.
        """
        key = (number % 16, phase, poll_open)
        row = self._rows.get(key)
        if row is None:
            row = self.nothing()
            open_slots = np.arange(self.counted) if poll_open else self.currents
            row[open_slots] = self._expected[open_slots] ^ np.uint64(key[0] << _COUNTER_SHIFT + _SYNDROME_SHIFT)
            row[self.currents] ^= np.uint64(phase << _PHASE_SHIFT + _SYNDROME_SHIFT)
            self._rows[key] = row
        return row

    def matching(
        self, words: NDArray[np.uint64], data: NDArray[np.uint64], expected: NDArray[np.uint64]
    ) -> Ints | None:
        """Return the slots of frames (as 64-bit `words`, and their `data`) when each is as expected, else None.

        Per frame one word must vanish: bits 0..39 identifier, flags and length, 48..63 CRC, counter and phase.
        """
        slot = self.slot_of.take(words.view(np.uint16)[0::8])
        parts = fold_tables().take(data.view(np.uint16) + _OFFSETS[: 4 * len(data)]).view(np.uint32)
        folded = (parts[0::2] ^ parts[1::2]).view(np.uint16)
        differs = expected.take(slot)
        differs ^= words[0::2] & _IDENTIFIER_MASK
        top = differs.view(np.uint16)[3::4]
        top ^= folded[0::2]
        top ^= folded[1::2]
        differs &= self.mask.take(slot)
        return None if np.count_nonzero(differs) else slot

    def nothing(self) -> NDArray[np.uint64]:
        """Return the row that no frame fits: before the first SYNC nothing is expected."""
        return np.full(self.count, _NEVER, dtype=np.uint64)
