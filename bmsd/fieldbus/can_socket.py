"""Raw sockets of a CAN bus, and what the kernel tells of them: opened, with what is to be received, and never set up.

Bringing an interface up or choosing its bit rate needs CAP_NET_ADMIN and is the system's: here it is only named as the
remedy. An interface may be classic or CAN FD; FD frames are asked for so that they can be counted.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import struct
from collections.abc import Sequence
from typing import NamedTuple

from bmsd.model.frame import EXTENDED_FLAG, REMOTE_FLAG

_CAN_RAW_ERR_FILTER = 2
"""linux/can/raw.h"""
_SO_RCVBUFFORCE = 33
"""As SO_RCVBUF, but over the system's maximum net.core.rmem_max; asm-generic/socket.h, Python has no name for it."""
_SO_MEMINFO, _MEMINFO = 55, struct.Struct("9I")
"""State of a socket (linux/sock_diag.h); of its words: 2, bytes that wait to be sent; 8, packets that were dropped."""
_SIOCGIFFLAGS, _IFF_RUNNING = 0x8913, 0x40
_IFREQ = struct.Struct("16sh22x")
_FILTER = struct.Struct("=II")
BUFFER_BYTES = 1 << 20
_FRAME_COST_BYTES = 768
"""What the kernel counts for a frame that waits to be sent."""
ERRORS = 0x3FF & ~0x2
"""Error frames to receive: all classes of linux/can/error.h but a lost arbitration, which is no error."""


class Filter(NamedTuple):
    """Identifiers to receive: those equal to `can_id` in the bits of `mask`."""

    can_id: int
    mask: int
    extended: bool

    @classmethod
    def exactly(cls, can_id: int, extended: bool) -> Filter:
        """Return the filter of one identifier."""
        return cls(can_id, 0x1FFFFFFF if extended else 0x7FF, extended)

    def packed(self) -> bytes:
        """Return the kernel's struct can_filter; remote frames pass, so that they can be counted."""
        flag = EXTENDED_FLAG if self.extended else 0
        return _FILTER.pack(self.can_id | flag, self.mask & ~REMOTE_FLAG | EXTENDED_FLAG)


class Memory(NamedTuple):
    """What a socket holds: bytes that wait to be sent, packets (modulo 2**32) dropped because nobody read them."""

    waiting: int
    dropped: int


def open_can(channel: str, filters: Sequence[Filter] | None, most_queued: int) -> socket.socket:
    """Return a socket on an interface that is up. OSError when there is none.

    What a filter does not want never arrives: filters are set before the socket belongs to an interface. Own frames
    are not received. Not more than about `most_queued` frames wait to be sent.
    """
    raw = socket.socket(socket.AF_CAN, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.CAN_RAW)
    try:
        if filters is not None:
            raw.setsockopt(socket.SOL_CAN_RAW, socket.CAN_RAW_FILTER, b"".join(wanted.packed() for wanted in filters))
        raw.setsockopt(socket.SOL_CAN_RAW, _CAN_RAW_ERR_FILTER, ERRORS)
        raw.setsockopt(socket.SOL_CAN_RAW, socket.CAN_RAW_FD_FRAMES, 1)
        # the kernel doubles what is asked, and gives no less than 4608 bytes: six frames
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, most_queued * _FRAME_COST_BYTES // 2)
        raw.bind((channel,))
        return _ready(raw)
    except OSError:
        raw.close()
        raise


def open_hub(path: str) -> socket.socket:
    """Return a socket on a hub (see `unix_bus`). OSError when none answers."""
    raw = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    try:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
        raw.connect(path)
        return _ready(raw)
    except OSError:
        raw.close()
        raise


def _ready(raw: socket.socket) -> socket.socket:
    make_room(raw, BUFFER_BYTES)
    raw.setblocking(False)
    pending = raw.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if pending:  # an interface that is down can be bound, and says so here
        raise OSError(pending, os.strerror(pending))
    return raw


def make_room(raw: socket.socket, size: int) -> None:
    """Ask for a receive buffer of `size` bytes; over the system's maximum only with CAP_NET_ADMIN."""
    try:
        raw.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, size)
    except OSError:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)


def memory(raw: socket.socket) -> Memory:
    """Return what the socket holds; nothing where the kernel does not say so (before Linux 4.12)."""
    with contextlib.suppress(OSError):
        state = raw.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size)
        if len(state) == _MEMINFO.size:
            words = _MEMINFO.unpack(state)
            return Memory(words[2], words[8])
    return Memory(0, 0)


def has_carrier(raw: socket.socket, channel: str) -> bool:
    """Whether the interface runs: a controller that is bus-off has no carrier. True when the kernel does not say.

    Not instantly right: the kernel takes up to a second to note either change.
    """
    try:
        asked = _IFREQ.pack(channel.encode(), 0)
        return bool(_IFREQ.unpack(fcntl.ioctl(raw, _SIOCGIFFLAGS, asked))[1] & _IFF_RUNNING)
    except (OSError, struct.error):
        return True


def remedy(error: OSError, channel: str, bitrate: int) -> str:
    """Return what a person can do about a CAN interface that cannot be opened; empty when that is not known."""
    if error.errno == errno.ENETDOWN:
        return f"as root: ip link set {channel} up type can bitrate {bitrate} restart-ms 100"
    if error.errno == errno.ENODEV:
        return "no CAN interface of this name: see `ip link`, and whether its driver or overlay is loaded"
    if error.errno in (errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT, errno.EPERM, errno.EACCES):
        return "the kernel has no SocketCAN (modprobe can-raw), or the sandbox of this process forbids AF_CAN"
    return ""
