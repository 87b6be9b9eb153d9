"""journald as a process sees it: a datagram socket, read strictly by systemd.io/JOURNAL_NATIVE_PROTOCOL."""

from __future__ import annotations

import re
import socket
from pathlib import Path

FIELD = re.compile(rb"[A-Z0-9][A-Z0-9_]{0,63}")


class Journald:
    """Listens at a path; keeps the records."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records: list[dict[str, str]] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(str(path))

    def hear(self) -> list[dict[str, str]]:
        """Return all records until now."""
        while True:
            try:
                self.records.append(parsed(self._socket.recv(1 << 20)))
            except BlockingIOError:
                return self.records

    def of(self, kind: str) -> list[dict[str, str]]:
        """Return the records of this class until now."""
        return [record for record in self.hear() if record.get("BMSD_KIND") == kind]

    def close(self) -> None:
        self._socket.close()
        self.path.unlink()


def parsed(data: bytes) -> dict[str, str]:
    """Return the fields of a datagram; AssertionError when it is not to the letter."""
    fields: dict[str, str] = {}
    while data:
        head, newline, rest = data.partition(b"\n")
        assert newline
        name, equals, value = head.partition(b"=")
        if equals:
            data = rest
        else:
            length = int.from_bytes(rest[:8], "little")
            value, end, data = rest[8 : 8 + length], rest[8 + length : 9 + length], rest[9 + length :]
            assert (len(value), end) == (length, b"\n")
        assert FIELD.fullmatch(name), name
        assert name.decode() not in fields
        fields[name.decode()] = value.decode("utf-8")
    return fields
