"""A service manager as a process sees it: the datagram socket of sd_notify(3), read strictly."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path

KNOWN = {"READY", "RELOADING", "STOPPING", "STATUS", "WATCHDOG", "MONOTONIC_USEC"}


class Manager:
    """Listens at a path, or at an abstract address when the text begins with "@"."""

    def __init__(self, address: Path | str, patience_s: float | None = None) -> None:
        self._address, self._patience_s = str(address), patience_s
        self.messages: list[dict[str, str]] = []
        """Everything that was told, in order."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind("\0" + self._address[1:] if self._address.startswith("@") else self._address)

    @property
    def environment(self) -> Mapping[str, str]:
        """What the manager gives to the process."""
        watchdog = {} if self._patience_s is None else {"WATCHDOG_USEC": f"{1e6 * self._patience_s:.0f}"}
        return {"NOTIFY_SOCKET": self._address, **watchdog}

    def hear(self) -> list[dict[str, str]]:
        """Return what was told since the last call."""
        new: list[dict[str, str]] = []
        while True:
            try:
                data = self._socket.recv(65536)
            except BlockingIOError:
                self.messages += new
                return new
            pairs = [line.split("=", 1) for line in data.decode().split("\n")]
            message = dict(pairs)
            assert len(message) == len(pairs)
            assert set(message) <= KNOWN
            assert len(data) <= 4096
            new.append(message)

    def told(self, name: str) -> list[str]:
        """Return all values of this variable until now."""
        self.hear()
        return [message[name] for message in self.messages if name in message]

    def close(self) -> None:
        self._socket.close()
        if not self._address.startswith("@"):
            os.unlink(self._address)
