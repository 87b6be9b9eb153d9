"""SYNCs of another master, for a bmsd that only listens: they open the polls that it does not ask for itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from bmsd.codec.dbc import Signals
from bmsd.codec.integrity import frame_crc
from bmsd.fieldbus.drivers.slave.slots import DATABASE, message_id
from bmsd.model.frame import EXTENDED_FLAG, RawFrames

_SYNC = Signals.of(DATABASE, ["Sync"])
_CAN_ID, _LENGTH = message_id("Sync"), DATABASE.get_message_by_name("Sync").length


class Overheard(NamedTuple):
    """A sound SYNC at this place of a batch."""

    place: int
    number: int
    phase: int
    slow_group: int


def overheard(frames: RawFrames) -> Iterator[Overheard]:
    """Yield the sound SYNCs among frames in order of arrival."""
    alike = (frames["can_id"] == np.uint32(_CAN_ID | EXTENDED_FLAG)) & (frames["length"] == _LENGTH)
    for place in np.flatnonzero(alike).tolist():
        data = frames["data"][place : place + 1]
        said = int(data[0]).to_bytes(8, "little")[:_LENGTH]
        if frame_crc(_CAN_ID, said[:-1]) == said[-1]:
            raw = dict(zip(_SYNC.names, _SYNC.raw(data).tolist(), strict=True))
            yield Overheard(place, raw["Number"], raw["Phase"], raw["SlowGroup"])
