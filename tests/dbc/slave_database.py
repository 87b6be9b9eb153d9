"""The slave protocol's DBC as the tests of this folder read it: plain cantools, and a CRC-8 of their own."""

from __future__ import annotations

from pathlib import Path

import cantools
from cantools.database.can import Database, Message

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "dbc"
SLAVE = FOLDER / "slave.dbc"
ADDRESS_MASK = 0x7F


def load(path: Path = SLAVE) -> Database:
    """Return the database, refusing overlaps and signals outside their message."""
    mask = 0x1FFFFFFF & ~ADDRESS_MASK if path == SLAVE else None
    database = cantools.database.load_file(str(path), frame_id_mask=mask, strict=True)
    assert isinstance(database, Database)
    return database


def attribute(source: Database | Message, name: str) -> int | str:
    """Return an attribute's value, its default when the database or message does not set it."""
    given = source.dbc.attributes
    if name in given:
        return _plain(given[name].value)
    return _plain(load().dbc.attribute_definitions[name].default_value)


def _plain(value: object) -> int | str:
    assert isinstance(value, int | str)
    return value


def group(message: Message) -> str:
    """Return fast, slow, command or event."""
    definition = message.dbc.attribute_definitions["Group"]
    chosen = message.dbc.attributes.get("Group")
    return str(definition.choices[int(chosen.value)] if chosen is not None else definition.default_value)


def by_node(message: Message) -> bool:
    """Whether module boards or contactor units send the message."""
    return "bmsd" not in message.senders


def crc8_autosar(data: bytes) -> int:
    """CRC-8/AUTOSAR bit by bit: polynomial 0x2F, start 0xFF, not reflected, final XOR 0xFF."""
    crc = 0xFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = ((crc << 1) ^ 0x2F if crc & 0x80 else crc << 1) & 0xFF
    return crc ^ 0xFF


def with_crc(can_id: int, data: bytes) -> bytes:
    """Return the data with its last byte replaced by the CRC over identifier and the bytes before it."""
    return data[:-1] + bytes([crc8_autosar(can_id.to_bytes(4, "big") + data[:-1])])
