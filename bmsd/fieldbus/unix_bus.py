"""A CAN bus inside one computer: a hub on an AF_UNIX SEQPACKET socket, and the python-can interface `unix`.

Each packet is the kernel's `struct can_frame` (16 bytes, 72 for CAN FD), so that whoever reads a raw SocketCAN
socket reads this one too. The hub forwards every packet to all other clients and never waits: a client that does
not read loses frames, and that is counted. Nobody on another computer or without access to the socket's file can
take part.

    python -m bmsd.fieldbus.unix_bus /run/bmsd/can0        a hub until it is stopped
    can.Bus(interface="unix", channel="/run/bmsd/can0")    a client
"""

from __future__ import annotations

import contextlib
import os
import select
import selectors
import signal
import socket
import stat
import struct
import sys
import threading
import time
from types import TracebackType
from typing import Any

import can

from bmsd.errors import BusError
from bmsd.model.frame import ERROR_FLAG, EXTENDED_FLAG, REMOTE_FLAG

CLASSIC_BYTES = 16
FD_BYTES = 72
_HEADER = struct.Struct("<IBBxB")
_FD_FLAG = 0x04
_BIT_RATE_SWITCH = 0x01
_ERROR_STATE = 0x02
_BUFFER_BYTES = 1 << 20
"""Asked of the kernel on both sides: about 1300 frames, several polls of the largest rack."""
_SOCKET_MODE = 0o660


def _roomy(sock: socket.socket) -> None:
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        sock.setsockopt(socket.SOL_SOCKET, option, _BUFFER_BYTES)


class Hub:
    """Forwards frames between the clients of one socket, in a thread of its own.

    Raises BusError when the socket cannot be had, also because another hub already serves it.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self.forwarded = 0
        self.lost = 0
        """Frames that a client did not get because it did not read."""
        self.malformed = 0
        """Packets that are not a CAN frame; not forwarded."""
        self._listener = _listen(self.path)
        self._clients: set[socket.socket] = set()
        self._wake_read, self._wake_write = socket.socketpair()
        self._thread: threading.Thread | None = None

    @property
    def clients(self) -> int:
        return len(self._clients)

    def start(self) -> Hub:
        """Serve in a thread; return the hub."""
        self._thread = threading.Thread(target=self.serve, name=f"can hub {self.path}", daemon=True)
        self._thread.start()
        return self

    def serve(self) -> None:
        """Forward frames until `stop`."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._wake_read, selectors.EVENT_READ)
            while True:
                ready = [key.fileobj for key, _ in selector.select()]
                if self._wake_read in ready:
                    break
                for sock in ready:
                    if sock is self._listener:
                        self._accept(selector)
                    elif isinstance(sock, socket.socket) and sock in self._clients:
                        self._forward(sock, selector)
        for client in list(self._clients):
            client.close()
        self._clients.clear()

    def stop(self) -> None:
        """End the thread, let all clients go and remove the socket's file."""
        with contextlib.suppress(OSError):
            self._wake_write.send(b"x")
        if self._thread is not None:
            self._thread.join()
        for sock in (self._listener, self._wake_read, self._wake_write):
            sock.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)

    def __enter__(self) -> Hub:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def _accept(self, selector: selectors.BaseSelector) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:
            return
        client.setblocking(False)
        _roomy(client)
        self._clients.add(client)
        selector.register(client, selectors.EVENT_READ)

    def _forward(self, sender: socket.socket, selector: selectors.BaseSelector) -> None:
        """Forward what the client has sent, at most 64 packets, so that no client holds up the others."""
        for _ in range(64):
            try:
                packet = sender.recv(FD_BYTES + 1)
            except BlockingIOError:
                return
            except OSError:
                packet = b""
            if not packet:
                self._drop(sender, selector)
                return
            if len(packet) not in (CLASSIC_BYTES, FD_BYTES):
                self.malformed += 1
                continue
            for client in list(self._clients):
                if client is not sender:
                    self._pass_on(client, packet, selector)

    def _pass_on(self, client: socket.socket, packet: bytes, selector: selectors.BaseSelector) -> None:
        try:
            client.send(packet, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except (BlockingIOError, InterruptedError):
            self.lost += 1
        except OSError:
            self._drop(client, selector)
        else:
            self.forwarded += 1

    def _drop(self, client: socket.socket, selector: selectors.BaseSelector) -> None:
        self._clients.discard(client)
        with contextlib.suppress(KeyError, ValueError):
            selector.unregister(client)
        client.close()


def _listen(path: str) -> socket.socket:
    """Return a listening socket; the file that a dead hub left behind is replaced, a living one is an error.

    The file appears under its name only when the hub can be connected to.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    hidden = f"{path}.{os.getpid()}"
    try:
        if os.path.exists(path):
            _refuse_living(path)
        listener.bind(hidden)
        os.chmod(hidden, _SOCKET_MODE)
        listener.listen(64)
        listener.setblocking(False)
        os.rename(hidden, path)
    except OSError as error:
        listener.close()
        with contextlib.suppress(OSError):
            os.unlink(hidden)
        raise BusError(f"{path}: cannot open the hub: {error.strerror or error}") from error
    except BusError:
        listener.close()
        raise
    return listener


def _refuse_living(path: str) -> None:
    if not stat.S_ISSOCK(os.stat(path).st_mode):
        raise BusError(f"{path}: is there already and is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return
    raise BusError(f"{path}: another hub is running there")


class UnixBus(can.BusABC):
    """Client of a `Hub`, python-can's interface `unix`; `channel` is the path of the hub's socket.

    Raises can.CanInitializationError when no hub answers; every later failure is a can.CanOperationError,
    also that the hub has gone: the caller opens a new bus. `socket` is the raw SEQPACKET socket.
    """

    def __init__(self, channel: str, can_filters: Any = None, fd: bool = False, **kwargs: Any) -> None:
        self.channel_info = f"unix channel '{channel}'"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            _roomy(self.socket)
            self.socket.connect(os.fspath(channel))
            self.socket.setblocking(False)
        except OSError as error:
            self.socket.close()
            self._is_shutdown = True
            raise can.CanInitializationError(f"{channel}: no hub there: {error.strerror}", error.errno) from error
        self._can_protocol = can.CanProtocol.CAN_FD if fd else can.CanProtocol.CAN_20
        super().__init__(channel=channel, can_filters=can_filters, **kwargs)

    def fileno(self) -> int:
        return self.socket.fileno()

    def send(self, msg: can.Message, timeout: float | None = None) -> None:
        """Send a frame, waiting at most `timeout` s (None: not at all) for room."""
        packet = to_packet(msg)
        try:
            if timeout:
                select.select([], [self.socket], [], timeout)
            self.socket.send(packet, socket.MSG_NOSIGNAL)
        except OSError as error:
            raise can.CanOperationError(f"{self.channel_info}: {error.strerror}", error.errno) from error

    def _recv_internal(self, timeout: float | None) -> tuple[can.Message | None, bool]:
        try:
            if not select.select([self.socket], [], [], timeout)[0]:
                return None, False
            packet = self.socket.recv(FD_BYTES)
        except BlockingIOError:
            return None, False
        except (OSError, ValueError) as error:
            raise can.CanOperationError(f"{self.channel_info}: {error}") from error
        if not packet:
            raise can.CanOperationError(f"{self.channel_info}: the hub has gone")
        return to_message(packet), False

    def shutdown(self) -> None:
        super().shutdown()
        self.socket.close()


def to_packet(message: can.Message) -> bytes:
    """Return the kernel's struct of a frame."""
    can_id = message.arbitration_id
    can_id |= EXTENDED_FLAG if message.is_extended_id else 0
    can_id |= REMOTE_FLAG if message.is_remote_frame else 0
    can_id |= ERROR_FLAG if message.is_error_frame else 0
    data = bytes(message.data)
    if not message.is_fd:
        length = message.dlc if message.is_remote_frame else len(data)
        return _HEADER.pack(can_id, length, 0, 0) + data.ljust(8, b"\0")
    flags = _FD_FLAG | message.bitrate_switch * _BIT_RATE_SWITCH | message.error_state_indicator * _ERROR_STATE
    return _HEADER.pack(can_id, len(data), flags, 0) + data.ljust(64, b"\0")


def to_message(packet: bytes) -> can.Message | None:
    """Return the frame of a packet, None when its length is none of a frame's."""
    if len(packet) not in (CLASSIC_BYTES, FD_BYTES):
        return None
    can_id, length, flags, _ = _HEADER.unpack_from(packet)
    fd = len(packet) == FD_BYTES
    extended = bool(can_id & EXTENDED_FLAG)
    length = min(length, 64 if fd else 8)
    return can.Message(
        timestamp=time.time(),
        arbitration_id=can_id & (0x1FFFFFFF if extended else 0x7FF),
        is_extended_id=extended,
        is_remote_frame=bool(can_id & REMOTE_FLAG),
        is_error_frame=bool(can_id & ERROR_FLAG),
        is_fd=fd,
        bitrate_switch=fd and bool(flags & _BIT_RATE_SWITCH),
        error_state_indicator=fd and bool(flags & _ERROR_STATE),
        dlc=length,
        data=b"" if can_id & REMOTE_FLAG else packet[8 : 8 + length],
    )


def main(arguments: list[str]) -> int:
    """Serve a hub until SIGTERM or SIGINT."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m bmsd.fieldbus.unix_bus PATH\n")
        return 2
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    try:
        hub = Hub(arguments[0]).start()
    except BusError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    stopped.wait()
    hub.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
