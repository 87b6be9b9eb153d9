"""What an unexpected frame is: every frame gets one kind, and only sound ones go further."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bmsd.codec.integrity import syndromes
from bmsd.fieldbus.drivers.slave.slots import ADDRESS_BITS, ADDRESS_MASK, DATABASE, Slots, message_id
from bmsd.model.frame import ERROR_FLAG, EXTENDED_FLAG, REMOTE_FLAG, RawFrames
from bmsd.model.snapshot import Ints

COUNTER_SHIFT = np.uint64(52)
PHASE_SHIFT = np.uint64(50)


class Kind(IntEnum):
    """Why a frame was dropped, or that it was not. The first one that fits is given."""

    SOUND = 0
    ERROR = 1
    REMOTE = 2
    FOREIGN = 3
    """No frame of this protocol: another identifier, or a standard one."""
    OWN = 4
    """A frame that only bmsd may send, from somebody else."""
    UNKNOWN_ADDRESS = 5
    LENGTH = 6
    CRC = 7
    COUNTER = 8
    """The number or phase is that of another SYNC."""
    LATE = 9
    """The answer to a poll that is closed, or to none of ours."""
    DUPLICATE = 10
    """The same frame once more."""
    CONFLICT = 11
    """Another content for what was already heard: two nodes with one address."""
    DISCOVERY = 12
    """Sound, from a node without an address."""
    TRIP = 13
    """Sound, a trip."""


KINDS = len(Kind)
_TYPE_MASK = (1 << 32 - 27) - 1


def _type_tables() -> tuple[NDArray[np.uint32], NDArray[np.bool_]]:
    identifiers = np.full(32, 0xFFFFFFFF, dtype=np.uint32)
    ours = np.zeros(32, dtype=bool)
    for message in DATABASE.messages:
        message_type = message.frame_id >> ADDRESS_BITS & _TYPE_MASK
        identifiers[message_type] = message.frame_id | EXTENDED_FLAG
        ours[message_type] = message.senders == ["bmsd"]
    return identifiers, ours


_IDENTIFIERS, _OURS = _type_tables()
_TRIP = message_id("Trip") >> ADDRESS_BITS & _TYPE_MASK
_DISCOVERY = message_id("Discovery") >> ADDRESS_BITS & _TYPE_MASK


class OpenSync(NamedTuple):
    """What an answer must carry now; `number` and `phase` None before the first SYNC."""

    number: int | None
    phase: int | None
    poll_open: bool


class Sorted(NamedTuple):
    """Frames with their kinds, slots and addresses, arrays (frames,)."""

    kind: Ints
    slot: Ints
    address: Ints
    data: NDArray[np.uint64]


def sort(frames: RawFrames, slots: Slots, sync: OpenSync) -> Sorted:
    """Return what each frame is. Duplicates are not looked for."""
    can_id = frames["can_id"]
    data = frames["data"]
    message_type = (can_id >> np.uint32(ADDRESS_BITS) & np.uint32(_TYPE_MASK)).astype(np.int64)
    slot = slots.slot_of[(can_id & np.uint32(0xFFFF)).astype(np.int64)]
    counted = slot < slots.counted
    kind = np.zeros(len(frames), dtype=np.int64)
    if sync.number is None:
        kind[counted] = Kind.LATE
    else:
        current = np.isin(slot, slots.currents)
        right = data >> COUNTER_SHIFT & np.uint64(0xF) == sync.number % 16
        if not sync.poll_open:
            kind[counted & ~current & right] = Kind.LATE
        kind[counted & ~right] = Kind.COUNTER
        kind[current & (data >> PHASE_SHIFT & np.uint64(3) != sync.phase)] = Kind.COUNTER
    kind[(slot == slots.unknown) & (message_type == _DISCOVERY)] = Kind.DISCOVERY
    kind[message_type == _TRIP] = Kind.TRIP
    kind[syndromes(frames) != 0] = Kind.CRC
    kind[frames["length"] != 8] = Kind.LENGTH
    anybody = (message_type == _TRIP) | (message_type == _DISCOVERY)
    kind[(slot == slots.unknown) & ~anybody] = Kind.UNKNOWN_ADDRESS
    kind[_OURS[message_type]] = Kind.OWN
    kind[can_id & np.uint32(~ADDRESS_MASK & 0xFFFFFFFF) != _IDENTIFIERS[message_type]] = Kind.FOREIGN
    kind[can_id & np.uint32(REMOTE_FLAG) != 0] = Kind.REMOTE
    kind[can_id & np.uint32(ERROR_FLAG) != 0] = Kind.ERROR
    return Sorted(kind, slot, (can_id & np.uint32(ADDRESS_MASK)).astype(np.int64), data)
