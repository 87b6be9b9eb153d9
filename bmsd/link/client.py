"""A reader's end of the link: the newest record of control, and requests with their answers."""

from __future__ import annotations

import socket
from pathlib import Path

from bmsd.errors import BusError, FrameError
from bmsd.link import wire
from bmsd.model.published import PROTOCOL, Hello, Published


class LinkClient:
    """A connection to control. BusError when nobody is there; FrameError when it speaks another protocol."""

    def __init__(self, path: Path, timeout_s: float = 2.0) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(timeout_s)
        try:
            self._socket.connect(str(path))
        except OSError as error:
            self._socket.close()
            raise BusError(f"{path}: bmsd does not answer here: {error.strerror}") from error
        try:
            self.hello = self._greeting()
        except Exception:
            self._socket.close()
            raise

    def _greeting(self) -> Hello:
        hello = self._receive()
        if not isinstance(hello, Hello) or hello.protocol != PROTOCOL:
            raise FrameError(f"{self._path}: the other end does not speak link protocol {PROTOCOL}")
        return hello

    def next(self, timeout_s: float) -> Published:
        """Wait for the next record: for those who want them all. BusError when none comes in time."""
        self._socket.settimeout(timeout_s)
        return self._published(self._receive())

    def newest(self, timeout_s: float) -> Published:
        """Wait for a record, then drain to the newest one. BusError when none comes in time."""
        self._socket.settimeout(timeout_s)
        newest = self._receive()
        self._socket.setblocking(False)
        try:
            while True:
                newest = self._receive()
        except BlockingIOError:
            pass
        except BusError:
            pass  # control left after this record: the next call says so
        return self._published(newest)

    def _published(self, message: wire.Message) -> Published:
        if not isinstance(message, Published):
            raise FrameError(f"{self._path}: a {type(message).__name__} came instead of a record")
        return message

    def ask(self, asked: wire.Asked, timeout_s: float = 2.0) -> wire.Answer:
        """Send a request and wait for its answer, passing over records."""
        self._socket.settimeout(timeout_s)
        self._socket.send(wire.pack(asked))
        while True:
            message = self._receive()
            if isinstance(message, wire.Answer):
                return message

    def fileno(self) -> int:
        """Return the socket's number, to wait on it together with others."""
        return self._socket.fileno()

    def send(self, message: wire.Asked | wire.Ack) -> None:
        """Send without waiting. BusError when control is gone or takes nothing now."""
        try:
            self._socket.send(wire.pack(message), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except OSError as error:
            raise BusError(f"{self._path}: bmsd takes nothing: {error}") from error

    def drain(self) -> list[wire.Message]:
        """Return all that waits, of the records only the newest. BusError when control is gone.

        What came before its end is returned first; the next call says that it is gone.
        """
        self._socket.setblocking(False)
        messages: list[wire.Message] = []
        newest: bytes | None = None
        try:
            while data := self._read():
                if data[0] == wire.Kind.PUBLISHED:
                    newest = data
                else:
                    messages.append(wire.unpack(data))
        except BlockingIOError:
            pass
        except BusError:
            if newest is None and not messages:
                raise
        return messages if newest is None else [*messages, wire.unpack(newest)]

    def close(self) -> None:
        self._socket.close()

    def _receive(self) -> wire.Message:
        message: wire.Message = wire.unpack(self._read())
        return message

    def _read(self) -> bytes:
        try:
            data = self._socket.recv(wire.MOST_MESSAGE_BYTES)
        except BlockingIOError:
            raise
        except OSError as error:
            raise BusError(f"{self._path}: no record from bmsd: {error}") from error
        if not data:
            raise BusError(f"{self._path}: bmsd has closed the link")
        return data
