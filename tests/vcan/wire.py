"""What an independent peer sees and does on a real CAN interface: can-utils and iproute2, none of bmsd's code."""

from __future__ import annotations

import fcntl
import re
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from tests.vcan.stall import METER

_LINE = re.compile(r"\((?P<stamp>[\d.]+)\) (?P<interface>\S+) (?P<id>[0-9A-F]+)#(?P<rest>\S*)")
_ERROR_FLAG = 0x20000000
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 0x1
_IFREQ = struct.Struct("16sh22x")


@dataclass(frozen=True)
class Seen:
    """One frame as candump wrote it. `at_s` is the kernel's stamp: wall clock, the same for all interfaces."""

    at_s: float
    interface: str
    can_id: int
    extended: bool
    data: bytes
    remote: bool = False
    fd: bool = False
    error: bool = False


def parse(line: str) -> Seen:
    """Return the frame of one line of the log format (`candump -L`); ValueError for anything else."""
    match = _LINE.fullmatch(line.strip())
    if match is None:
        raise ValueError(f"not a line of candump -L: {line!r}")
    digits, rest = match["id"], match["rest"]
    raw_id = int(digits, 16)
    error = len(digits) == 8 and bool(raw_id & _ERROR_FLAG)
    extended = len(digits) == 8 and not error
    fd, remote = rest.startswith("#"), rest.startswith("R")
    # An FD frame is ID##<flags><data>, flags one digit; a remote frame may carry its length after the R.
    data = b"" if remote else bytes.fromhex(rest[2:] if fd else rest)
    can_id = raw_id & ~_ERROR_FLAG if error else raw_id
    return Seen(float(match["stamp"]), match["interface"], can_id, extended, data, remote, fd, error)


class Candump:
    """candump running on one interface, its frames parsed as they come. Survives the link going down and up.

    Data, remote, FD and error frames are all seen. Leaving the `with` ends candump; the frames stay.
    """

    def __init__(self, interface: str) -> None:
        self.interface = interface
        self._seen: list[Seen] = []
        self._news = threading.Condition()

    def __enter__(self) -> Candump:
        receivers = _receivers(self.interface)
        # -D: stay when the link goes down. -r: room for a flood while this one CPU is busy elsewhere.
        command = ["candump", "-L", "-D", "-r", "4000000", f"{self.interface},0:0,#FFFFFFFF"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        deadline_s = time.monotonic() + 5.0
        while _receivers(self.interface) <= receivers:
            assert self._process.poll() is None, "candump ended at once"
            assert time.monotonic() < deadline_s, "candump did not open its socket within 5 s"
            time.sleep(0.005)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()
        self._reader.join()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._news:
                self._seen.append(parse(line))
                self._news.notify_all()

    @property
    def frames(self) -> list[Seen]:
        """All frames so far, oldest first."""
        with self._news:
            return list(self._seen)

    def of(self, can_id: int, after: int = 0) -> list[Seen]:
        """Frames with this identifier, leaving out the first `after` frames of the log (see `count`)."""
        return [frame for frame in self.frames[after:] if frame.can_id == can_id]

    @property
    def count(self) -> int:
        """How many frames there are: remember it, act, and ask `of`, `wait_for` only for what came after."""
        with self._news:
            return len(self._seen)

    def wait_for(self, wanted: int | Callable[[Seen], bool], within_s: float, after: int | None = None) -> Seen:
        """Return the first frame with this identifier (or for which this is true) that comes from now on.

        `after` counts from an earlier `count` instead. AssertionError when none comes within `within_s`, not counting
        the time that the computer lost meanwhile.
        """

        def fits(frame: Seen) -> bool:
            return frame.can_id == wanted if isinstance(wanted, int) else wanted(frame)

        began_s, deadline_s = time.time(), time.monotonic() + within_s
        with self._news:
            position = len(self._seen) if after is None else after
            while True:
                for frame in self._seen[position:]:
                    if fits(frame):
                        return frame
                position = len(self._seen)
                name = f"{wanted:X}" if isinstance(wanted, int) else "such"
                left_s = deadline_s - time.monotonic()
                if left_s <= 0:
                    left_s += METER.lost_s(began_s)
                assert left_s > 0, f"no {name} frame on {self.interface} within {within_s} s ({position} frames in all)"
                self._news.wait(left_s)

    def silent_for(self, span_s: float) -> bool:
        """Wait `span_s` and return whether no frame came meanwhile."""
        before = self.count
        time.sleep(span_s)
        return self.count == before


def gaps_s(frames: list[Seen]) -> list[float]:
    """Return the times between consecutive frames."""
    return [later.at_s - earlier.at_s for earlier, later in pairwise(frames)]


def _receivers(interface: str) -> int:
    """Return how many receive filters the kernel holds for the interface: how one knows that a socket is open."""
    lists = Path("/proc/net/can").glob("rcvlist_*")
    rows = (line.split() for file in lists for line in file.read_text().splitlines())
    return sum(1 for words in rows if len(words) > 2 and words[0] == interface)


class SendError(Exception):
    """The kernel did not take a frame; says why in cansend's words."""


def cansend(interface: str, *frames: str) -> None:
    """Send frames in cansend's notation: `351#F401`, `1B500000#0011`, `123#R`, `123##1112233`.

    Identifiers have three digits (11 bits) or eight (29 bits). Unlike bmsd's own way of sending, nothing checks
    what is sent. Raises SendError.
    """
    for frame in frames:
        sent = subprocess.run(["cansend", interface, frame], capture_output=True, text=True, check=False)
        if sent.returncode != 0:
            raise SendError(f"{interface} {frame}: {sent.stderr.strip() or sent.stdout.strip()}")


@contextmanager
def cangen(interface: str, *options: str) -> Iterator[None]:
    """Generate frames while the `with` lasts; options as for cangen: `-g`, `0`, `-I`, `351`, `-e`, ..."""
    process = subprocess.Popen(["cangen", interface, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
        assert process.poll() is None or "-n" in options, f"cangen ended by itself with {process.returncode}"
    finally:
        process.kill()
        process.wait()


def canplay(interface: str, lines: list[str]) -> None:
    """Send the frames of a `candump -L` log at once, as fast as the interface takes them."""
    log = "".join(f"(0.000000) {interface} {line}\n" for line in lines)
    subprocess.run(["canplayer", "-t", f"{interface}={interface}"], input=log, check=True, text=True)


def bring_up(interface: str) -> None:
    """As `link_up`, without a program: that takes half a second in the guest."""
    with socket.socket(socket.AF_CAN, socket.SOCK_RAW, socket.CAN_RAW) as any_socket:
        asked = fcntl.ioctl(any_socket, _SIOCGIFFLAGS, _IFREQ.pack(interface.encode(), 0))
        name, flags = _IFREQ.unpack(asked)
        if not flags & _IFF_UP:
            fcntl.ioctl(any_socket, _SIOCSIFFLAGS, _IFREQ.pack(name, flags | _IFF_UP))


def link_up(interface: str) -> None:
    _ip("link", "set", interface, "up")


def link_down(interface: str) -> None:
    _ip("link", "set", interface, "down")


@contextmanager
def link_lost(interface: str) -> Iterator[None]:
    """The interface is down while the `with` lasts."""
    link_down(interface)
    try:
        yield
    finally:
        link_up(interface)


@contextmanager
def nobody_acknowledges(interface: str, queue: int = 10) -> Iterator[None]:
    """The wire takes no frame while the `with` lasts, as with a cut cable: after `queue` frames senders are refused.

    The frames in the queue are not held back from listeners on this computer: the kernel shows them a frame as soon
    as it is queued, for a vcan has no controller that would report when it is sent. Refused ones are never seen.
    """
    # The queue's limit is in bytes of struct can_frame, 16 per classic frame.
    _tc("qdisc", "add", "dev", interface, "root", "handle", "1:", "plug", "limit", str(16 * queue))
    try:
        yield
    finally:
        _tc("qdisc", "change", "dev", interface, "handle", "1:", "root", "plug", "release_indefinite")
        _tc("qdisc", "del", "dev", interface, "root")


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def _tc(*words: str) -> None:
    subprocess.run(["tc", *words], check=True)
