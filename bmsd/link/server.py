"""Control's end of the link: publishes each tick and takes requests, and never waits for anybody."""

from __future__ import annotations

import grp
import os
import socket
import struct
from collections import deque
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
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
MOST_EVENTS_AT_ONCE = 50
"""To one reader in one tick: a reader that comes late takes no time from control."""
MOST_ACKS_AT_ONCE = 16
"""Of one reader in one tick."""
SEND_BUFFER = 1 << 20
_PEER = struct.Struct("3i")  # struct ucred: pid, uid, gid


def _listen(path: Path) -> socket.socket:
    """Bind a socket file that nobody else may open yet; a stale one is replaced, one with a live owner is not."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BusError(f"{path}: cannot make its directory: {error.strerror}; {_remedy(path)}") from error
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe, suppress(OSError):
        probe.connect(str(path))
        raise BusError(f"{path}: another bmsd listens here; stop it, or give each its own sockets in [link]")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
    try:
        path.unlink(missing_ok=True)
        before = os.umask(0o177)
        try:
            listener.bind(str(path))
        finally:
            os.umask(before)
        listener.listen(MOST_CLIENTS)
    except OSError as error:
        listener.close()
        raise BusError(f"{path}: cannot listen: {error.strerror}; {_remedy(path)}") from error
    return listener


def _remedy(path: Path) -> str:
    user = f"user {os.geteuid()}"
    return f"make {path.parent} a directory that {user} can write (RuntimeDirectory= of the unit), or correct [link]"


def _open_to(path: Path, group: str) -> str:
    """Let this group open the socket file; return a sentence when it cannot be given to the group."""
    refused = ""
    try:
        if group:
            os.chown(path, -1, grp.getgrnam(group).gr_gid)
    except KeyError:
        refused = f"there is no group {group} (groupadd --system {group})"
    except OSError as error:
        refused = f"it cannot be given to group {group}: {error.strerror} (SupplementaryGroups={group})"
    os.chmod(path, 0o660)
    owner = path.stat()
    return f"{path}: {refused}; user {owner.st_uid} and group {owner.st_gid} may open it" if refused else ""


@dataclass(slots=True)
class _Client:
    """One connection. `heard` is the number of the newest event that it was sent, None: it wants no events.

    `acknowledged` is the number up to which events are safe with it, 0: it acknowledges nothing.
    """

    role: Role
    uid: int
    heard: int | None = None
    acknowledged: int = 0


class LinkServer:
    """Two socket files: readers on `link`, service on `service`. Authority is who may open the file."""

    def __init__(
        self,
        link: Path,
        service: Path,
        hello: Hello,
        *,
        takes: Collection[str] = (),
        groups: tuple[str, str] = ("", ""),
    ) -> None:
        """`takes` are the requests that are taken on `link`, out of reset, reserve and power; on `service` all are.

        `groups` may open the two files; empty: the group of the process.
        """
        self._takes = takes
        self._hello = wire.pack(hello)
        self._paths = (link, service)
        self._listeners = {_listen(link): Role.OPERATOR, _listen(service): Role.SERVICE}
        self.notes = [note for path, group in zip(self._paths, groups, strict=True) if (note := _open_to(path, group))]
        """What is not as it was set, in sentences."""
        self._clients: dict[socket.socket, _Client] = {}
        self._events: deque[tuple[int, bytes]] = deque(maxlen=MOST_EVENTS)
        self._newest_event = 0
        self.skipped = 0
        """Records that a full reader did not get."""
        self.answered: list[wire.Answered] = []
        """Requests of the last step with their answers."""

    def greet(self, hello: Hello) -> None:
        """Tell this to whoever comes from now on."""
        self._hello = wire.pack(hello)

    def step(self) -> list[Request]:
        """Accept who waits and return the requests of this tick: at most ten, one of each client, service first."""
        for listener, role in self._listeners.items():
            with suppress(OSError):  # nobody waits, or the computer has no file left for one more: no reason to end
                for _ in range(MOST_CLIENTS):
                    self._accept(listener.accept()[0], role)
        self.answered = []
        requests: list[Request] = []
        for connection, client in sorted(self._clients.items(), key=lambda item: item[1].role is not Role.SERVICE):
            if len(requests) >= MOST_REQUESTS:
                break
            taken = self._read(connection, client)
            if taken is not None:
                requests.append(taken)
            if taken is not None and connection in self._clients:
                self._clients[connection] = self._clients.pop(connection)  # whoever waited comes first next time
        return requests

    def publish(self, published: Published) -> None:
        """Send the record to every reader that has room; encode it only when somebody reads."""
        if not self._clients:
            return
        data = wire.pack(published)
        for connection in list(self._clients):
            if not self._send(connection, data) and connection in self._clients:
                self.skipped += 1

    def tell(self, events: Iterable[Event]) -> None:
        """Keep these events and send to every reader of events what it has not been sent, as far as it has room."""
        for event in events:
            self._events.append((event.number, wire.pack(event)))
            self._newest_event = event.number
        for connection, client in list(self._clients.items()):
            if client.heard is not None and client.heard < self._newest_event:
                self._tell(connection, client, client.heard)

    def _tell(self, connection: socket.socket, client: _Client, heard: int) -> None:
        waiting = (one for one in self._events if one[0] > heard)
        for number, data in islice(waiting, MOST_EVENTS_AT_ONCE):
            if not self._send(connection, data):
                break
            client.heard = number

    def _send(self, connection: socket.socket, data: bytes) -> bool:
        """Whether it was sent; a reader that is gone is dropped."""
        try:
            connection.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return False
        except OSError:
            self._drop(connection)
            return False
        return True

    def close(self) -> None:
        """Close all and remove the socket files."""
        for connection in list(self._clients):
            self._drop(connection)
        for listener in self._listeners:
            listener.close()
        for path in self._paths:
            path.unlink(missing_ok=True)

    def _accept(self, connection: socket.socket, role: Role) -> None:
        if sum(other.role is role for other in self._clients.values()) >= MOST_CLIENTS:
            connection.close()
            return
        connection.setblocking(False)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        _, uid, _ = _PEER.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
        self._clients[connection] = _Client(role, uid)
        try:
            connection.send(self._hello, socket.MSG_NOSIGNAL)
        except OSError:
            self._drop(connection)

    def _read(self, connection: socket.socket, client: _Client) -> Request | None:
        """Return the client's next request, past a bounded number of acknowledgements: it does not wait for them."""
        for _ in range(MOST_ACKS_AT_ONCE):
            data = self._receive(connection)
            if not data:
                return None
            if data[0] != wire.Kind.ACK:
                return self._take(connection, client, data)
            self._acknowledged(connection, client, data)
        return None

    def _receive(self, connection: socket.socket) -> bytes:
        """Return the next message, empty when there is none; a client that is gone is dropped."""
        try:
            data = connection.recv(wire.MOST_REQUEST_BYTES + 1)
        except BlockingIOError:
            return b""
        except OSError:
            data = b""
        if not data:
            self._drop(connection)
        return data

    def _take(self, connection: socket.socket, client: _Client, data: bytes) -> Request | None:
        asked, answer, request = self._judge(data, client.role)
        self.answered.append(wire.Answered(client.role, client.uid, asked, answer))
        if not self._send(connection, wire.pack(answer)):
            self._drop(connection)  # with one answer missing, it would take each later one for that of another request
        return request

    def _acknowledged(self, connection: socket.socket, client: _Client, data: bytes) -> None:
        """Begin to send events to this reader; forget those that are safe with every reader that acknowledges.

        Who acknowledges what was never told is not a reader to rely on: it is dropped.
        """
        try:
            number = wire.unpack(data).number
        except FrameError:
            number = -1
        if not 0 <= number <= self._newest_event:
            self._drop(connection)
            return
        client.heard = max(client.heard or 0, number)
        client.acknowledged = max(client.acknowledged, number)
        safe = min((one.acknowledged for one in self._clients.values() if one.acknowledged), default=0)
        while self._events and self._events[0][0] <= safe:
            self._events.popleft()

    def _judge(self, data: bytes, role: Role) -> tuple[wire.Asked | None, wire.Answer, Request | None]:
        """Return what these bytes ask, the answer, and the request when it is taken."""
        asked: wire.Asked | None = None
        try:
            if len(data) > wire.MOST_REQUEST_BYTES:
                raise FrameError(f"longer than {wire.MOST_REQUEST_BYTES} bytes")
            message = wire.unpack(data)
            if not isinstance(message, wire.Asked):
                raise FrameError("only requests are taken here")
            asked = message
            if role is not Role.SERVICE and (asked.code if asked.what == "release" else asked.what) not in self._takes:
                takes = ", ".join(self._takes) or "no request: it is for reading only"
                raise FrameError(f"not taken on this socket, which takes {takes}")
            return asked, wire.Answer(True, "taken"), wire.request_of(asked, role)
        except FrameError as error:
            return asked, wire.Answer(False, str(error)), None

    def _drop(self, connection: socket.socket) -> None:
        self._clients.pop(connection, None)
        connection.close()
