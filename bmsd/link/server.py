"""Control's end of the link: publishes each tick and takes requests, and never waits for anybody."""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from bmsd.errors import BusError, FrameError
from bmsd.link import wire
from bmsd.model.event import Event
from bmsd.model.published import Hello, Published
from bmsd.model.request import Request, Role

MOST_CLIENTS = 16
"""On each socket: readers of the link take no place from service; also how many are let in at once."""
MOST_REQUESTS = 10
MOST_EVENTS = 1024
"""Events that are kept for readers; the numbers of older ones are the gap that a late reader sees."""
SEND_BUFFER = 1 << 20


def _listen(path: Path) -> socket.socket:
    """Bind a socket file with mode 0660; a stale one is replaced, one with a live owner is not."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BusError(f"{path}: cannot make its directory: {error.strerror}") from error
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe, suppress(OSError):
        probe.connect(str(path))
        raise BusError(f"{path}: another bmsd listens here")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
    try:
        path.unlink(missing_ok=True)
        listener.bind(str(path))
        os.chmod(path, 0o660)
        listener.listen(MOST_CLIENTS)
    except OSError as error:
        listener.close()
        raise BusError(f"{path}: cannot listen: {error.strerror}") from error
    return listener


class LinkServer:
    """Two socket files: readers on `link`, service on `service`. Authority is who may open the file."""

    def __init__(self, link: Path, service: Path, hello: Hello) -> None:
        self._hello = wire.pack(hello)
        self._paths = (link, service)
        self._listeners = {_listen(link): False, _listen(service): True}
        self._clients: dict[socket.socket, bool] = {}
        self._events: deque[tuple[int, bytes]] = deque(maxlen=MOST_EVENTS)
        self._heard: dict[socket.socket, int] = {}
        """Number of the newest event that each reader of events was sent."""
        self.skipped = 0
        """Records that a full reader did not get."""

    def step(self) -> list[Request]:
        """Accept who waits and return the requests of this tick, at most ten."""
        for listener, service in self._listeners.items():
            with suppress(BlockingIOError):
                for _ in range(MOST_CLIENTS):
                    self._accept(listener.accept()[0], service)
        requests: list[Request] = []
        for client, service in list(self._clients.items()):
            if len(requests) >= MOST_REQUESTS:
                break
            requests += self._read(client, service)
        return requests

    def publish(self, published: Published) -> None:
        """Send the record to every reader that has room; encode it only when somebody reads."""
        if not self._clients:
            return
        data = wire.pack(published)
        for client in list(self._clients):
            if not self._send(client, data) and client in self._clients:
                self.skipped += 1

    def tell(self, events: Iterable[Event]) -> None:
        """Keep these events and send to every reader of events what it has not been sent, as far as it has room."""
        self._events.extend((event.number, wire.pack(event)) for event in events)
        for client, heard in list(self._heard.items()):
            for number, data in self._events:
                if number > heard:
                    if not self._send(client, data):
                        break
                    self._heard[client] = number

    def _send(self, client: socket.socket, data: bytes) -> bool:
        """Whether it was sent; a reader that is gone is dropped."""
        try:
            client.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return False
        except OSError:
            self._drop(client)
            return False
        return True

    def close(self) -> None:
        """Close all and remove the socket files."""
        for client in list(self._clients):
            self._drop(client)
        for listener in self._listeners:
            listener.close()
        for path in self._paths:
            path.unlink(missing_ok=True)

    def _accept(self, client: socket.socket, service: bool) -> None:
        if sum(other is service for other in self._clients.values()) >= MOST_CLIENTS:
            client.close()
            return
        client.setblocking(False)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        self._clients[client] = service
        try:
            client.send(self._hello, socket.MSG_NOSIGNAL)
        except OSError:
            self._drop(client)

    def _read(self, client: socket.socket, service: bool) -> list[Request]:
        try:
            data = client.recv(wire.MOST_REQUEST_BYTES + 1)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        if not data:
            self._drop(client)
            return []
        if data[0] == wire.Kind.ACK:
            self._acknowledged(client, data)
            return []
        answer, requests = self._judge(data, service)
        with suppress(OSError):
            client.send(wire.pack(answer), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        return requests

    def _acknowledged(self, client: socket.socket, data: bytes) -> None:
        """Begin to send events to this reader, and forget those that it says are safe with it."""
        try:
            ack = wire.unpack(data)
        except FrameError:
            self._drop(client)
            return
        self._heard.setdefault(client, 0)
        while self._events and self._events[0][0] <= ack.number:
            self._events.popleft()

    def _judge(self, data: bytes, service: bool) -> tuple[wire.Answer, list[Request]]:
        if not service:
            return wire.Answer(False, "requests are taken on the service socket only"), []
        if len(data) > wire.MOST_REQUEST_BYTES:
            return wire.Answer(False, f"longer than {wire.MOST_REQUEST_BYTES} bytes"), []
        try:
            asked = wire.unpack(data)
            if not isinstance(asked, wire.Asked):
                raise FrameError("only requests are taken here")
            return wire.Answer(True, "taken"), [wire.request_of(asked, Role.SERVICE)]
        except FrameError as error:
            return wire.Answer(False, str(error)), []

    def _drop(self, client: socket.socket) -> None:
        self._clients.pop(client, None)
        self._heard.pop(client, None)
        client.close()
