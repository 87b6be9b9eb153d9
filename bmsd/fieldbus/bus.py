"""One CAN bus as the daemon sees it: everything that waits is read at once, nothing is ever waited for.

Theory of operation. The kernel keeps away what no filter wants; the raw socket is read and written directly, 16 bytes
per frame. Whatever goes wrong with the wire is a state, not an exception: the port is down, counts, and opens the
interface again in `step` after growing pauses. The interface itself is never touched: a controller that is bus-off is
restarted by its link (`restart-ms`), and the socket lives through it.

A frame that cannot be sent now is not sent at all, and none is put behind frames that have been waiting in the kernel's
queue: what comes out when a dead bus comes back is at most what was said in one instant, whatever the queue's length.
"""

from __future__ import annotations

import errno
import math
import socket
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bmsd.fieldbus.can_error import ControllerHealth
from bmsd.fieldbus.can_socket import Filter, has_carrier, memory, open_can, open_hub, remedy
from bmsd.model.frame import ERROR_FLAG, EXTENDED_FLAG, RAW_FRAME, REMOTE_FLAG, Frame, RawFrames
from bmsd.model.snapshot import Buses, Controller, Ints

Interface = Literal["socketcan", "unix"]

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0
STEADY_S = 5.0
"""A bus that was up for this long starts again with the shortest pause."""
DRAIN_LIMIT = 2048
"""Frames read at once: half a second of a saturated 500 kbit/s bus; the rest is read next time."""
MOST_QUEUED = 64
"""Frames that may wait in the kernel to be sent: several ticks of the largest rack."""
LONGEST_QUEUED_S = 0.2
"""Behind frames that have waited this long nothing is put any more."""
CARRIER_EVERY_S = 1.0
CARRIER_SETTLES_S = 2.5
"""The kernel may be this late to say that an interface runs again."""

_CLASSIC_BYTES = RAW_FRAME.itemsize
_FD_BYTES = 72
_STRUCT = struct.Struct("<IB3x8s")
_NOTHING: RawFrames = np.zeros(0, dtype=RAW_FRAME)
_NO_ROOM = (errno.ENOBUFS, errno.EAGAIN, errno.EINTR)
_NOT_FOR_SEND = (errno.EINVAL, errno.EMSGSIZE)


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
    no_room: int = 0
    """Frames that were not sent because the transmit queue was full, or did not move."""
    not_sent: int = 0
    """Frames that were not sent because there was no bus, or its controller was bus-off."""
    refused: int = 0
    """Frames handed to a listen-only port."""
    opened: int = 0
    lost: int = 0
    """Times that the interface went away."""


class CanPort:
    """One bus: `interface` "socketcan" with the name of the interface, or "unix" with the path of a hub.

    The port is closed until the first `step`. `filters` None receives everything. A listen-only port never sends.
    Not more than about `most_queued` frames wait in the kernel. `bitrate` is for what a person is told.
    """

    def __init__(
        self,
        interface: Interface,
        channel: str,
        *,
        name: str = "",
        filters: Sequence[Filter] | None = None,
        listen_only: bool = False,
        most_queued: int = MOST_QUEUED,
        bitrate: int = 500_000,
    ) -> None:
        self.interface = interface
        self.channel = channel
        self.name = name or channel
        self.listen_only = listen_only
        self.counts = PortCounts()
        self.health = ControllerHealth()
        self.last_error = ""
        """Why the port is or was down, for a person."""
        self.generation = 0
        """Changes whenever `fileno` does: a loop that waits on it registers anew."""
        self._filters = None if filters is None else tuple(filters)
        self._most_queued = most_queued
        self._bitrate = bitrate
        self._socket: socket.socket | None = None
        self._now_s = -math.inf
        self._opened_s = -math.inf
        self._pause_s = FIRST_PAUSE_S
        self._due_s = -math.inf
        self._stalled_since_s: float | None = None
        self._queued_since_s: float | None = None
        self._overrun_seen = 0
        self._heard = False
        self._carrier_due_s = -math.inf
        self._runs = True
        self._bus_off_s = -math.inf

    @property
    def up(self) -> bool:
        return self._socket is not None

    @property
    def bus_off(self) -> bool:
        """Whether the controller has left the bus, as far as it or the interface says."""
        return self.health.state is Controller.BUS_OFF

    @property
    def due_s(self) -> float:
        """When `step` wants to try to open the bus; inf while it is up."""
        return math.inf if self.up else self._due_s

    def fileno(self) -> int:
        """Return the descriptor to wait on, -1 while the bus is down."""
        return -1 if self._socket is None else self._socket.fileno()

    def step(self, now_s: float) -> None:
        """Note the time; open the bus when it is down and its pause is over; once a second see whether it runs."""
        self._now_s = now_s
        if self._socket is not None:
            if now_s >= self._carrier_due_s:
                self._see_carrier(self._socket)
        elif now_s >= self._due_s:
            if self._open():
                self._opened_s = now_s
            else:
                self._wait_longer()

    def drain(self, limit: int = DRAIN_LIMIT) -> RawFrames:
        """Return the data frames that wait, in order of arrival, at most `limit`; everything else is counted."""
        if self._socket is None:
            return _NOTHING
        self._note_memory(self._socket)
        packets = self._read(self._socket, limit)
        if not packets:
            return _NOTHING
        buffer = b"".join(packets)
        if set(map(len, packets)) != {_CLASSIC_BYTES}:
            buffer = b"".join(self._classic(packets))
        frames: RawFrames = np.frombuffer(buffer, dtype=RAW_FRAME)
        frames = self._data_frames(frames)
        if len(frames):
            self.counts.received += len(frames)
            self._heard = True
            self.health.works()
        return frames

    def send(self, frame: Frame) -> bool:
        """Send a frame now or not at all; return whether the kernel or the hub took it."""
        if self.listen_only:
            self.counts.refused += 1
            return False
        if self._socket is None or self.bus_off:
            self.counts.not_sent += 1
            return self._stalled()
        if self._queue_stands():
            self.counts.no_room += 1
            return self._stalled()
        can_id = frame.can_id | (EXTENDED_FLAG if frame.extended else 0)
        try:
            packet = _STRUCT.pack(can_id, len(frame.data), frame.data)
            self._socket.send(packet, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except OSError as error:
            self._refused(error)
            return self._stalled()
        self.counts.sent += 1
        self._stalled_since_s = None
        return True

    def send_stalled_s(self, now_s: float) -> float:
        """Return the time since which nothing could be sent, s: nothing was taken, or what was taken waits."""
        stalled_s = 0.0 if self._stalled_since_s is None else now_s - self._stalled_since_s
        queued_s = now_s - self._queued_since_s if self._queued_since_s is not None and self._queue_stands() else 0.0
        return max(0.0, stalled_s, queued_s)

    def unheard_s(self, now_s: float) -> float:
        """Return the time for which the bus is open and nothing at all was received, s; else 0."""
        return 0.0 if self._heard or not self.up else max(0.0, now_s - self._opened_s)

    def close(self) -> None:
        """Close the bus; the next `step` opens it again."""
        raw, self._socket = self._socket, None
        if raw is not None:
            self.generation += 1
            raw.close()

    def _open(self) -> bool:
        try:
            if self.interface == "socketcan":
                self._socket = open_can(self.channel, self._filters, self._most_queued)
            else:
                self._socket = open_hub(self.channel)
        except OSError as error:
            self._note_error(error)
            return False
        self.generation += 1
        self.counts.opened += 1
        self.health.opened()
        self._overrun_seen, self._queued_since_s, self._heard, self._runs = 0, None, False, True
        self._see_carrier(self._socket)
        return True

    def _note_error(self, error: OSError) -> None:
        kernel = self.interface == "socketcan"
        advice = remedy(error, self.channel, self._bitrate) if kernel else "no hub answers there"
        self.last_error = f"{self.channel}: {error.strerror or error}" + (f"; {advice}" if advice else "")

    def _see_carrier(self, raw: socket.socket) -> None:
        """An interface that is up but does not run belongs to a controller that is bus-off, whoever saw it happen.

        Twice seen: one that has just come up may not run yet.
        """
        self._carrier_due_s = self._now_s + CARRIER_EVERY_S
        if self.interface != "socketcan":
            return
        ran, self._runs = self._runs, has_carrier(raw, self.channel)
        if not self._runs and not ran:
            self._bus_off_s = self._now_s
            self.health.lost_carrier()
        elif self._runs and self._now_s - self._bus_off_s > CARRIER_SETTLES_S:
            self.health.works()

    def _wait_longer(self) -> None:
        self._due_s = self._now_s + self._pause_s
        self._pause_s = min(2.0 * self._pause_s, LONGEST_PAUSE_S)

    def _lost(self, error: OSError) -> None:
        self.counts.lost += 1
        self._note_error(error)
        self.close()
        if self._now_s - self._opened_s >= STEADY_S:
            self._pause_s = FIRST_PAUSE_S
        self._wait_longer()

    def _refused(self, error: OSError) -> None:
        """Count a frame that the kernel did not take."""
        if error.errno in _NO_ROOM:
            self.counts.no_room += 1
            return
        self.counts.not_sent += 1
        if error.errno not in _NOT_FOR_SEND:
            self._lost(error)

    def _stalled(self) -> bool:
        if self._stalled_since_s is None:
            self._stalled_since_s = self._now_s
        return False

    def _queue_stands(self) -> bool:
        return self._queued_since_s is not None and self._now_s - self._queued_since_s >= LONGEST_QUEUED_S

    def _note_memory(self, raw: socket.socket) -> None:
        """Count what the kernel dropped, see whether frames wait to be sent; asked once per drain, not per frame."""
        state = memory(raw)
        self.counts.overrun += (state.dropped - self._overrun_seen) % (1 << 32)
        self._overrun_seen = state.dropped
        if not state.waiting or self.interface != "socketcan":
            self._queued_since_s = None
        elif self._queued_since_s is None:
            self._queued_since_s = self._now_s

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
            if error.any():
                self.health.take(frames[error])
                self._bus_off_s = self._now_s if self.bus_off else self._bus_off_s
            frames = frames[good]
        if self._filters is None or self.interface == "socketcan":
            return frames
        passes = passes_any(frames["can_id"], self._filters)
        if passes.all():
            return frames
        self.counts.filtered += int(len(frames) - passes.sum())
        return frames[passes]


def passes_any(identifiers: NDArray[np.uint32], filters: Sequence[Filter]) -> NDArray[np.bool_]:
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


def buses(
    ports: Sequence[CanPort],
    now_s: float,
    foreign_frames: Sequence[int] | None = None,
    malformed_frames: Sequence[int] | None = None,
) -> Buses:
    """Return the buses' state for a snapshot, in the order of the ports.

    `foreign_frames` and `malformed_frames` are what the protocols on the buses have found, none without them.
    """
    none = [0] * len(ports)
    found = [
        extra + port.counts.remote + port.counts.fd + port.counts.malformed
        for port, extra in zip(ports, malformed_frames or none, strict=True)
    ]

    def ints(values: Iterable[int | None]) -> Ints:
        return np.array([-1 if value is None else value for value in values], dtype=np.int64)

    return Buses(
        names=tuple(port.name for port in ports),
        up=np.array([port.up for port in ports], dtype=bool),
        bus_off=np.array([port.bus_off for port in ports], dtype=bool),
        send_stalled_s=np.array([port.send_stalled_s(now_s) for port in ports], dtype=np.float64),
        foreign_frames=ints(foreign_frames or none),
        controller=ints(port.health.state for port in ports),
        transmit_errors=ints(port.health.transmit_errors for port in ports),
        receive_errors=ints(port.health.receive_errors for port in ports),
        bus_errors=ints(port.health.bus_errors for port in ports),
        no_ack=ints(port.health.no_ack for port in ports),
        bus_offs=ints(port.health.bus_offs for port in ports),
        lost_frames=ints(port.counts.overrun + port.health.overflows for port in ports),
        malformed_frames=ints(found),
        unheard_s=np.array([port.unheard_s(now_s) for port in ports], dtype=np.float64),
    )
