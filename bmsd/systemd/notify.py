"""What the service manager is told of this process: sd_notify(3), and never waiting for it.

What finds no room waits here, in order, until the next call. A sign of life does not wait: it is sent at once or not
at all, for an old one would speak for a process that may hang by then.
"""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from collections.abc import Mapping

LONGEST_STATUS = 400
MOST_WAITING = 16
LONGEST_ALIVE_PAUSE_S = 0.5
"""Between two signs of life, where the manager does not ask for more: a fourth of its patience, at most this."""


class Notifier:
    """Tells the manager that set NOTIFY_SOCKET and WATCHDOG_USEC in this environment; without one, nobody."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._address = _address(environment.get("NOTIFY_SOCKET", ""))
        self.patience_s = _patience_s(environment)
        """The manager kills a process that shows no sign of life for this long; None: it does not look."""
        self._pause_s = min(LONGEST_ALIVE_PAUSE_S, (self.patience_s or 0.0) / 4.0)
        self._alive_due_s = 0.0
        self._waiting: deque[bytes] = deque(maxlen=MOST_WAITING)
        self._socket = _datagrams() if self._address else None
        self._status = ""
        self.error = ""
        """Why the manager could not be told the last thing; empty: it could, or there is none."""

    def ready(self, status: str) -> None:
        """Say that the process serves."""
        self._say("READY=1", status)

    def status(self, status: str) -> None:
        """Say how it is, in a sentence; said again only when it changes."""
        if status != self._status:
            self._waiting = deque((one for one in self._waiting if not one.startswith(b"STATUS=")), MOST_WAITING)
            self._say("", status)
        self._flushed()

    def reloading(self) -> None:
        """Say that the configuration is read again; `ready` ends that."""
        self._say(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}", self._status)

    def stopping(self, status: str) -> None:
        """Say that the process leaves: from now on nobody looks for signs of life."""
        self._say("STOPPING=1", status)

    def alive(self, now_s: float) -> None:
        """Give a sign of life when one is due at this monotonic time."""
        if self.patience_s is not None and now_s >= self._alive_due_s:
            self._alive_due_s = now_s + self._pause_s
            if self._flushed():
                self._sent(b"WATCHDOG=1")

    def _say(self, words: str, status: str) -> None:
        self._status = status
        line = " ".join(status.split())
        line = line if len(line) <= LONGEST_STATUS else f"{line[:LONGEST_STATUS]}..."
        self._waiting.append("\n".join(filter(None, (words, f"STATUS={line}"))).encode())
        self._flushed()

    def _flushed(self) -> bool:
        """Send what waits; whether nothing waits any more."""
        while self._waiting and self._sent(self._waiting[0]):
            self._waiting.popleft()
        return not self._waiting

    def _sent(self, message: bytes) -> bool:
        """Whether this is done with: sent, or to nobody. False: there was no room for it now."""
        if self._socket is None:
            return True
        try:
            self._socket.sendto(message, socket.MSG_NOSIGNAL, self._address)
        except BlockingIOError:
            return False
        except OSError as error:
            self.error = f"the service manager cannot be told: NOTIFY_SOCKET {self._address}: {error.strerror}"
        else:
            self.error = ""
        return True


def _address(text: str) -> str:
    """Return the address of the manager's socket; empty when there is none that can be reached this way."""
    return f"\0{text[1:]}" if text.startswith("@") else text if text.startswith("/") else ""


def _datagrams() -> socket.socket:
    return socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)


def _patience_s(environment: Mapping[str, str]) -> float | None:
    """Return how long the manager waits for a sign of life of this process."""
    usec, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if not usec.isdecimal() or int(usec) == 0 or (pid and pid != str(os.getpid())):
        return None
    return int(usec) / 1e6
