"""A cable between the daemon's interface and a bus of the tests: it is pulled out, cut, spoilt and held up.

The daemon has one end of a vxcan pair; the kernel's CAN gateway (cangw) carries frames between the other end and a
vcan, where boards, inverter and candump are. Unlike on a vcan, what waits in a queue is not yet heard at the other end,
and an end whose other one is down has no carrier, like the interface of a controller that is bus-off.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress

EXTENDED = 0x80000000


class Cable:
    """`with Cable("can8", "vcan0") as cable`: can8 is the daemon's, can8p its other end."""

    def __init__(self, interface: str, bus: str) -> None:
        self.interface, self.bus, self.end = interface, bus, f"{interface}p"

    def __enter__(self) -> Cable:
        self.plug_in()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(subprocess.CalledProcessError):  # a story that failed left it out
            self.pull_out()

    def plug_in(self) -> None:
        """Make the interfaces and carry frames both ways."""
        _run("ip", "link", "add", self.interface, "type", "vxcan", "peer", "name", self.end)
        for name in (self.end, self.interface):
            _run("ip", "link", "set", name, "mtu", "72", "up")
        self._carry(self.end, self.bus)
        self._carry(self.bus, self.end)

    def pull_out(self) -> None:
        """Remove the interfaces; the kernel forgets what the gateway carried for them."""
        _run("ip", "link", "del", self.interface)

    @contextmanager
    def dropped_and_spoilt(self, both: tuple[int, int], spoilt: int) -> Iterator[None]:
        """Towards the daemon: identifiers that equal `both[0]` in the bits of `both[1]` are dropped, but `spoilt`.

        Of that one the last byte is changed: the CRC is wrong.
        """
        can_id, mask = (f"{word | EXTENDED:X}" for word in both)
        exactly = f"{spoilt | EXTENDED:X}:9FFFFFFF"
        others = ("-f", f"{can_id}~{mask}")
        changed = ("-f", exactly, "-m", "XOR:D:0.0.0000000000000001")
        self._carry(self.bus, self.end, *others)
        self._carry(self.bus, self.end, *changed)
        self._no_longer(self.bus, self.end)
        try:
            yield
        finally:
            self._carry(self.bus, self.end)
            self._no_longer(self.bus, self.end, *others)
            self._no_longer(self.bus, self.end, *changed)

    @contextmanager
    def doubled(self, can_id: int) -> Iterator[None]:
        """Frames of this identifier come to the daemon twice."""
        it = ("-f", f"{can_id | EXTENDED:X}:9FFFFFFF")
        self._carry(self.bus, self.end, *it)
        try:
            yield
        finally:
            self._no_longer(self.bus, self.end, *it)

    @contextmanager
    def no_carrier(self) -> Iterator[None]:
        """The other end is down."""
        _run("ip", "link", "set", self.end, "down")
        try:
            yield
        finally:
            _run("ip", "link", "set", self.end, "up")

    @staticmethod
    def _carry(source: str, target: str, *words: str) -> None:
        _run("cangw", "-A", "-s", source, "-d", target, "-e", *words)

    @staticmethod
    def _no_longer(source: str, target: str, *words: str) -> None:
        _run("cangw", "-D", "-s", source, "-d", target, "-e", *words)


def _run(*words: str) -> None:
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
