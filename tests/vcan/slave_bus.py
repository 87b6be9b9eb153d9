"""The slave protocol as anyone reads it from dbc/slave.dbc: cantools and a published CRC, none of bmsd's code."""

from __future__ import annotations

import time

import cantools
from cantools.database import Database
from crccheck.crc import Crc8Autosar

from tests.vcan.rack_on_can import ROOT
from tests.vcan.wire import Candump, Seen, cansend

ADDRESS_MASK = 0x7F
UNIT = 65
"""Address of the contactor unit of the first string."""

_loaded = cantools.database.load_file(ROOT / "dbc" / "slave.dbc", frame_id_mask=0x1FFFFFFF & ~ADDRESS_MASK)
assert isinstance(_loaded, Database)
PROTOCOL: Database = _loaded


def identifier(message: str, address: int = 0) -> int:
    """Return the identifier of a message from (or, for commands, to) this address."""
    return int(PROTOCOL.get_message_by_name(message).frame_id) | address


def crc(can_id: int, data: bytes) -> int:
    """Return the CRC over identifier and data, which do not include it."""
    return int(Crc8Autosar.calc(can_id.to_bytes(4, "big") + data))


def sync(number: int, phase: int = 0, *, spoilt: int = 0) -> str:
    """Return a SYNC in cansend's notation; `spoilt` changes bits of its CRC."""
    message = PROTOCOL.get_message_by_name("Sync")
    data = message.encode({"Number": number, "Phase": phase, "SlowGroup": 1, "PollPeriod": 0.2, "Crc": 0})[:-1]
    data += bytes([crc(message.frame_id, data) ^ spoilt])
    return f"{message.frame_id:08X}#{data.hex().upper()}"


def signals(frame: Seen) -> dict[str, float]:
    """Return the signals of a frame by name; a wrong CRC is an AssertionError."""
    assert crc(frame.can_id, frame.data[:-1]) == frame.data[-1], "wrong CRC"
    decoded = PROTOCOL.get_message_by_frame_id(frame.can_id).decode(frame.data, decode_choices=False)
    assert isinstance(decoded, dict)
    return {name: float(value) for name, value in decoded.items()}  # type: ignore[arg-type]


def name_of(frame: Seen) -> str:
    return str(PROTOCOL.get_message_by_frame_id(frame.can_id).name)


class Poller:
    """A second master: asks boards and units with SYNCs of its own, for when bmsd does not."""

    def __init__(self, field: Candump, unit: int = UNIT) -> None:
        self._field = field
        self._unit = unit
        self._number = 0

    def ask(self) -> tuple[dict[str, float], dict[str, float]]:
        """Return Current and ContactorState of the unit, measured now."""
        before = self._field.count
        self._number = (self._number + 1) % 256
        cansend(self._field.interface, sync(self._number))
        current = self._field.wait_for(identifier("Current", self._unit), within_s=1.0, after=before)
        state = self._field.wait_for(identifier("ContactorState", self._unit), within_s=1.0, after=before)
        return signals(current), signals(state)

    def ask_for(self, seconds: float) -> list[tuple[float, dict[str, float], dict[str, float]]]:
        """Ask five times a second and return (seconds since the first question, Current, ContactorState)."""
        start_s = time.monotonic()
        answers = []
        while (since_s := time.monotonic() - start_s) < seconds:
            answers.append((since_s, *self.ask()))
            time.sleep(0.1)
        return answers
