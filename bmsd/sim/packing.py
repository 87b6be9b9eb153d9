"""How the simulated nodes write and read frames of the slave protocol: plain cantools and a CRC of their own."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any, NamedTuple

import cantools
import numpy as np
from numpy.typing import NDArray

from bmsd.model.frame import Frame

ADDRESS_MASK = 0x7F
MESSAGE_MASK = 0x1FFFFFFF & ~ADDRESS_MASK

CELL_INVALID = 8191
CELL_OPEN_WIRE = 8190
SENSOR_OPEN = 8189
SENSOR_SHORT = 8190
SENSOR_INVALID = 8191


def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte << 1) ^ 0x2F if byte & 0x80 else byte << 1
        table.append(byte & 0xFF)
    return tuple(table)


_CRC = _crc_table()


def crc8(data: bytes) -> int:
    """Return the CRC-8/AUTOSAR of `data`: polynomial 0x2F, start and final XOR 0xFF, no reflection."""
    crc = 0xFF
    for byte in data:
        crc = _CRC[crc ^ byte]
    return crc ^ 0xFF


@cache
def _database() -> Any:
    text = files("bmsd").joinpath("dbc", "slave.dbc").read_text(encoding="utf-8")
    return cantools.database.load_string(text, database_format="dbc", frame_id_mask=MESSAGE_MASK)


@cache
def _by_name(name: str) -> Any:
    return _database().get_message_by_name(name)


@cache
def _by_id() -> dict[int, Any]:
    return {message.frame_id & MESSAGE_MASK: message for message in _database().messages}


def prepare() -> None:
    """Read the DBC now (0.2 s), so that the first answer is not late for it."""
    for message in _by_id().values():
        message.encode(dict.fromkeys(message.signal_tree, 0), scaling=False, padding=False, strict=False)


class Received(NamedTuple):
    """One valid frame: the message's name, the address in its identifier, its signals as raw integers."""

    name: str
    address: int
    signals: Mapping[str, int]


def pack(name: str, address: int, signals: Mapping[str, int]) -> Frame:
    """Return the frame of a message with its CRC. `signals` are raw integers, all but Crc."""
    message = _by_name(name)
    can_id = message.frame_id | address
    data: bytes = message.encode({**signals, "Crc": 0}, scaling=False, padding=False, strict=False)
    body = data[:-1]
    return Frame(can_id, body + bytes((crc8(can_id.to_bytes(4, "big") + body),)), True)


@lru_cache(maxsize=256)
def unpack(frame: Frame) -> Received | None:
    """Return the signals of a frame, or None: foreign, of another length or with a wrong CRC."""
    message = _by_id().get(frame.can_id & MESSAGE_MASK) if frame.extended else None
    if message is None or len(frame.data) != message.length:
        return None
    if crc8(frame.can_id.to_bytes(4, "big") + frame.data[:-1]) != frame.data[-1]:
        return None
    signals = message.decode(frame.data, decode_choices=False, scaling=False)
    return Received(message.name, frame.can_id & ADDRESS_MASK, signals)


def quantise(value: NDArray[np.float64], scale: float, offset: float, highest: int, invalid: int) -> NDArray[np.int64]:
    """Return raw integers, rounded to nearest and held inside 0..highest; NaN becomes `invalid`."""
    known = np.isfinite(value)
    raw = np.rint((np.where(known, value, offset) - offset) / scale)
    return np.where(known, np.clip(raw, 0, highest), invalid).astype(np.int64)


def quantise_one(value: float, scale: float, offset: float, highest: int, invalid: int) -> int:
    """Return the raw integer of one value; see `quantise`."""
    if not np.isfinite(value):
        return invalid
    return int(min(max(round((value - offset) / scale), 0), highest))
