"""Records for journald in its own protocol, systemd.io/JOURNAL_NATIVE_PROTOCOL: fields in one datagram."""

from __future__ import annotations

import os
import re
import socket
import struct
import sys
from collections.abc import Mapping

SOCKET = "/run/systemd/journal/socket"
LONGEST_VALUE = 16384
MOST_BYTES = 65536
"""Of one datagram, well below what the kernel takes by default; fields that do not fit are left out."""
LONGEST_NAME = 64
_LENGTH = struct.Struct("<Q")


def stderr_is_journal(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether standard error of this process goes to journald: JOURNAL_STREAM of systemd.exec(5) says which file."""
    try:
        found = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return environment.get("JOURNAL_STREAM", "") == f"{found.st_dev}:{found.st_ino}"


def listens() -> bool:
    """Whether journald is there."""
    return os.path.exists(SOCKET)


def encode(fields: Mapping[str, str]) -> bytes:
    """Return the datagram of these fields. Names are made valid, values that are too long are cut."""
    parts: list[bytes] = []
    room = MOST_BYTES
    for name, text in fields.items():
        part = _field(_name(name), text.encode("utf-8", "replace"))
        if len(part) <= room:
            parts.append(part)
            room -= len(part)
    return b"".join(parts)


def _name(name: str) -> bytes:
    valid = re.sub(r"[^A-Z0-9_]", "_", name.upper()).lstrip("_0123456789")
    return valid[:LONGEST_NAME].encode()


def _field(name: bytes, value: bytes) -> bytes:
    if len(value) > LONGEST_VALUE:
        value = value[:LONGEST_VALUE] + b"..."
    if b"\n" in value:
        return name + b"\n" + _LENGTH.pack(len(value)) + value + b"\n"
    return name + b"=" + value + b"\n"


class Journal:
    """Sends records to journald. A stalled journald holds up the caller: call it where that does no harm."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

    def send(self, datagram: bytes) -> None:
        """Send one record. OSError when journald is not there."""
        self._socket.sendto(datagram, socket.MSG_NOSIGNAL, SOCKET)
