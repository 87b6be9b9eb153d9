"""One CAN bus as the daemon sees it: everything that waits is read at once, nothing is ever waited for.

Theory of operation. python-can opens the interface and sets the kernel's filters; after that the raw socket is
read and written directly, 16 bytes per frame. Whatever goes wrong with the wire is a state, not an exception:
the port is down, counts, and opens the interface again in `step` after growing pauses. A frame that cannot be
sent now is not sent at all; no queue of ours can let out an old frame later.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import math
import os
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import can
import numpy as np
from numpy.typing import NDArray

from bmsd.model.frame import ERROR_FLAG, EXTENDED_FLAG, RAW_FRAME, REMOTE_FLAG, Frame, RawFrames
from bmsd.model.snapshot import Buses

Interface = Literal["socketcan", "unix"]

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0
STEADY_S = 5.0
"""A bus that was up for this long starts again with the shortest pause."""
DRAIN_LIMIT = 2048
"""Frames read at once: half a second of a saturated 500 kbit/s bus; the rest is read next time."""

_CLASSIC_BYTES = RAW_FRAME.itemsize
_FD_BYTES = 72
_STRUCT = struct.Struct("<IB3x8s")
_BUFFER_BYTES = 1 << 20
_SO_RCVBUFFORCE = 33
"""As SO_RCVBUF, but over the system's maximum net.core.rmem_max; asm-generic/socket.h, Python has no name for it."""
_SO_MEMINFO, _MEMINFO = 55, struct.Struct("9I")
"""State of a socket; the last word counts what the kernel dropped because nobody read (linux/sock_diag.h)."""
_NOTHING: RawFrames = np.zeros(0, dtype=RAW_FRAME)
_BUS_OFF = 0x40
_RESTARTED = 0x100
"""Error classes in the identifier of an error frame, include/uapi/linux/can/error.h."""
_NO_ROOM = (errno.ENOBUFS, errno.EAGAIN, errno.EINTR)
_NOT_FOR_SEND = (errno.EINVAL, errno.EMSGSIZE)

# python-can logs an error at each try to open; here an absent bus is a state, said once in `last_error`.
logging.getLogger("can").setLevel(logging.CRITICAL)


class Filter(NamedTuple):
    """Identifiers to receive: those equal to `can_id` in the bits of `mask`."""

    can_id: int
    mask: int
    extended: bool


@dataclass
class PortCounts:
    """What passed a port since start, and what it dropped, by kind."""

    received: int = 0
    remote: int = 0
    error: int = 0
    fd: int = 0
    malformed: int = 0
    """Packets of no frame's size, or with a length over 8."""
    filtered: int = 0
    """Frames that the filter kept out (in the kernel they are not counted)."""
    left_waiting: int = 0
    """Times that more frames were waiting than are read at once."""
    overrun: int = 0
    """Frames that the kernel dropped because its buffer was full: the process was held up for long."""
    sent: int = 0
    not_sent: int = 0
    """Frames that found no room or no bus, and were dropped."""
    refused: int = 0
    """Frames handed to a listen-only port."""
    opened: int = 0
    lost: int = 0
    """Times that the interface went away."""


class CanPort:
    """One bus: `interface` "socketcan" with the name of the interface, or "unix" with the path of a hub.

    The port is closed until the first `step`. `filters` None receives everything. A listen-only port never sends.
    """

    def __init__(
        self,
        interface: Interface,
        channel: str,
        *,
        name: str = "",
        filters: Sequence[Filter] | None = None,
        listen_only: bool = False,
    ) -> None:
        self.interface = interface
        self.channel = channel
        self.name = name or channel
        self.listen_only = listen_only
        self.counts = PortCounts()
        self.bus_off = False
        self.last_error = ""
        """Why the port is or was down, for a person."""
        self.generation = 0
        """Changes whenever `fileno` does: a loop that waits on it registers anew."""
        self._filters = None if filters is None else tuple(filters)
        self._bus: Any = None
        self._socket: socket.socket | None = None
        self._now_s = -math.inf
        self._opened_s = -math.inf
        self._pause_s = FIRST_PAUSE_S
        self._due_s = -math.inf
        self._stalled_since_s: float | None = None
        self._overrun_seen = 0

    @property
    def up(self) -> bool:
        return self._socket is not None

    @property
    def due_s(self) -> float:
        """When `step` wants to try to open the bus; inf while it is up."""
        return math.inf if self.up else self._due_s

    def fileno(self) -> int:
        """Return the descriptor to wait on, -1 while the bus is down."""
        return -1 if self._socket is None else self._socket.fileno()

    def step(self, now_s: float) -> None:
        """Note the time; open the bus when it is down and its pause is over."""
        self._now_s = now_s
        if self.up or now_s < self._due_s:
            return
        if self._open():
            self._opened_s = now_s
        else:
            self._wait_longer()

    def drain(self, limit: int = DRAIN_LIMIT) -> RawFrames:
        """Return the data frames that wait, in order of arrival, at most `limit`; everything else is counted."""
        if self._socket is None:
            return _NOTHING
        self._note_overrun(self._socket)
        packets = self._read(self._socket, limit)
        if not packets:
            return _NOTHING
        buffer = b"".join(packets)
        if set(map(len, packets)) != {_CLASSIC_BYTES}:
            buffer = b"".join(self._classic(packets))
        frames: RawFrames = np.frombuffer(buffer, dtype=RAW_FRAME)
        frames = self._data_frames(frames)
        self.counts.received += len(frames)
        if self.bus_off and len(frames):
            self.bus_off = False
        return frames

    def send(self, frame: Frame) -> bool:
        """Send a frame now or not at all; return whether the kernel or the hub took it."""
        if self.listen_only:
            self.counts.refused += 1
            return False
        if self._socket is None:
            return self._not_sent()
        can_id = frame.can_id | (EXTENDED_FLAG if frame.extended else 0)
        try:
            packet = _STRUCT.pack(can_id, len(frame.data), frame.data)
            self._socket.send(packet, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except OSError as error:
            if error.errno not in (*_NO_ROOM, *_NOT_FOR_SEND):
                self._lost(error)
            return self._not_sent()
        self.counts.sent += 1
        self._stalled_since_s = None
        return True

    def send_stalled_s(self, now_s: float) -> float:
        """Return the time since which frames could not be sent, s; 0 when the last one was."""
        return 0.0 if self._stalled_since_s is None else max(0.0, now_s - self._stalled_since_s)

    def close(self) -> None:
        """Close the bus; the next `step` opens it again."""
        bus, self._bus, self._socket = self._bus, None, None
        if bus is not None:
            self.generation += 1
            bus.shutdown()

    def _open(self) -> bool:
        kernel = self.interface == "socketcan"
        settings: dict[str, Any] = {"fd": True} if kernel else {}
        if kernel and self._filters is not None:
            settings["can_filters"] = [
                {"can_id": wanted.can_id, "can_mask": wanted.mask, "extended": wanted.extended}
                for wanted in self._filters
            ]
        try:
            self._bus = can.Bus(interface=self.interface, channel=self.channel, **settings)
            raw: socket.socket = self._bus.socket
            make_room(raw, _BUFFER_BYTES)
            raw.setblocking(False)
            pending = raw.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if pending:
                raise OSError(pending, os.strerror(pending))
        except (OSError, can.CanError) as error:
            self.last_error = f"{self.channel}: {getattr(error, 'strerror', None) or error}"
            self.close()
            return False
        self._socket, self._overrun_seen = raw, 0
        self.generation += 1
        self.counts.opened += 1
        self.bus_off = False
        return True

    def _wait_longer(self) -> None:
        self._due_s = self._now_s + self._pause_s
        self._pause_s = min(2.0 * self._pause_s, LONGEST_PAUSE_S)

    def _lost(self, error: OSError) -> None:
        self.counts.lost += 1
        self.last_error = f"{self.channel}: {error.strerror or error}"
        self.close()
        if self._now_s - self._opened_s >= STEADY_S:
            self._pause_s = FIRST_PAUSE_S
        self._wait_longer()

    def _not_sent(self) -> bool:
        self.counts.not_sent += 1
        if self._stalled_since_s is None:
            self._stalled_since_s = self._now_s
        return False

    def _note_overrun(self, raw: socket.socket) -> None:
        """Count what the kernel dropped; asked once per drain, as a word with every frame would cost each of them."""
        dropped = kernel_drops(raw)
        self.counts.overrun += (dropped - self._overrun_seen) % (1 << 32)
        self._overrun_seen = dropped

    def _read(self, raw: socket.socket, limit: int) -> list[bytes]:
        packets: list[bytes] = []
        receive, keep = raw.recv, packets.append
        try:
            for _ in range(limit):
                keep(receive(_FD_BYTES + 1, socket.MSG_DONTWAIT))
            self.counts.left_waiting += 1
        except BlockingIOError:
            pass
        except OSError as error:
            self._lost(error)
        if packets and not packets[-1]:
            packets = [packet for packet in packets if packet]
            self._lost(OSError(errno.ECONNRESET, "the hub has gone"))
        return packets

    def _classic(self, packets: list[bytes]) -> list[bytes]:
        """Return the classic frames among the packets; count the others."""
        classic = [packet for packet in packets if len(packet) == _CLASSIC_BYTES]
        fd = sum(len(packet) == _FD_BYTES for packet in packets)
        self.counts.fd += fd
        self.counts.malformed += len(packets) - len(classic) - fd
        return classic

    def _data_frames(self, frames: RawFrames) -> RawFrames:
        """Return the frames that carry data and pass the filter; count the others, note what error frames say."""
        identifiers: NDArray[np.uint32] = frames["can_id"]
        good = (identifiers & np.uint32(ERROR_FLAG | REMOTE_FLAG)) == 0
        good &= frames["length"] <= 8
        if not good.all():
            error = (identifiers & np.uint32(ERROR_FLAG)) != 0
            remote = ~error & ((identifiers & np.uint32(REMOTE_FLAG)) != 0)
            self.counts.error += int(error.sum())
            self.counts.remote += int(remote.sum())
            self.counts.malformed += int((~good & ~error & ~remote).sum())
            for classes in identifiers[error]:
                self.bus_off = bool(classes & _BUS_OFF) or (self.bus_off and not classes & _RESTARTED)
            frames = frames[good]
        if self._filters is None or self.interface == "socketcan":
            return frames
        passes = _passes(frames["can_id"], self._filters)
        if passes.all():
            return frames
        self.counts.filtered += int(len(frames) - passes.sum())
        return frames[passes]


def make_room(raw: socket.socket, size: int) -> None:
    """Ask for a receive buffer of `size` bytes; over the system's maximum only with CAP_NET_ADMIN."""
    try:
        raw.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, size)
    except OSError:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)


def kernel_drops(raw: socket.socket) -> int:
    """Return the packets (modulo 2**32) that the kernel dropped for want of room since the socket was opened.

    0 where the kernel does not say so (before Linux 4.12).
    """
    with contextlib.suppress(OSError):
        state = raw.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size)
        if len(state) == _MEMINFO.size:
            return int(_MEMINFO.unpack(state)[-1])
    return 0


def _passes(identifiers: NDArray[np.uint32], filters: Sequence[Filter]) -> NDArray[np.bool_]:
    """Return which identifiers (flags included) pass any filter, as the kernel decides it."""
    passes = np.zeros(len(identifiers), dtype=bool)
    for wanted in filters:
        flag = EXTENDED_FLAG if wanted.extended else 0
        mask = np.uint32(wanted.mask | EXTENDED_FLAG)
        passes |= ((identifiers ^ np.uint32(wanted.can_id | flag)) & mask) == 0
    return passes


def frames_of(raw: RawFrames) -> list[Frame]:
    """Return raw frames one by one; for a bus with few frames."""
    return [
        Frame(can_id & (0x1FFFFFFF if can_id & EXTENDED_FLAG else 0x7FF), data.to_bytes(8, "little")[:length],
              bool(can_id & EXTENDED_FLAG))
        for can_id, length, _, data in raw.tolist()
    ]  # fmt: skip


def buses(ports: Sequence[CanPort], now_s: float, foreign_frames: Sequence[int] | None = None) -> Buses:
    """Return the buses' state for a snapshot, in the order of the ports; without `foreign_frames` there are none."""
    return Buses(
        names=tuple(port.name for port in ports),
        up=np.array([port.up for port in ports], dtype=bool),
        bus_off=np.array([port.bus_off for port in ports], dtype=bool),
        send_stalled_s=np.array([port.send_stalled_s(now_s) for port in ports], dtype=np.float64),
        foreign_frames=np.array(foreign_frames or [0] * len(ports), dtype=np.int64),
    )
