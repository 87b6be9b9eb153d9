"""A whole rack that runs on vcan0 and vcan1, quick enough for a story each, and what both wires say of it.

Only one rack at a time: two on one bus answer each other's questions.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bmsd.errors import BmsdError
from bmsd.link.client import LinkClient
from bmsd.link.wire import Asked
from bmsd.model.published import Published
from tests.vcan.processes import Running, until
from tests.vcan.rack_on_can import RackOnCan
from tests.vcan.slave_bus import PROTOCOL, UNIT, crc, identifier, signals
from tests.vcan.stall import METER
from tests.vcan.wire import Candump, Seen

SET = [0x351, 0x355, 0x356, 0x359, 0x35C, 0x35E]
KEEP_ALIVE = 0x305

# Two boards of eight cells. Only times are shortened: a smaller precharge resistor, an inverter that boots soon (but
# not during precharge), limits that rise as fast as the settings allow. The site charges with 60 A.
QUICK: Mapping[str, Any] = {
    "layout.modules_per_string": 2,
    "layout.cells_per_module": 8,
    "string.precharge_ohm": 5.0,
    "limits": {"hold_after_zero_s": 1.0, "rise_a_per_s_per_100a": 5.0},
    # SYS-001 keeps limits at zero for 60 s: here three times half a second, a computer that stands still longer.
    "protection.loop_late_periods": 5.0,
    "log": {"format": "json"},
    "sim.bus": {"precharge_ohm": 5.0},
    "sim.inverter": {"profile": "constant", "charge_a": 60.0, "boot_s": 1.5, "lag_s": 0.3},
}

# The guest has one CPU for everything, and candump's stamps are the kernel's: what a deadline of the safety goals
# says of the daemon gets this much more here, for processes that had to wait for their turn.
GUEST_S = 0.3

CLOSES_S = 60.0
"""In which strings close: when a reading comes late during an attempt, the next one follows 30 s later."""


def room_s(since_s: float, until_s: float) -> float:
    """Return what a bound of the daemon gets more here for an answer that took from then to then, wall clock.

    GUEST_S, and what the computer took away meanwhile from everybody: on a quiet machine nothing. A stall just before
    counts: what was asked may have been stamped in the middle of it.
    """
    return GUEST_S + METER.lost_s(since_s - 0.02, until_s + 0.02)


def packed(name: str, address: int, values: Mapping[str, Any]) -> tuple[int, bytes]:
    """Return identifier and data of a sound frame of the slave protocol, CRC included."""
    can_id = identifier(name, address)
    data = bytes(PROTOCOL.get_message_by_name(name).encode({**values, "Crc": 0}))[:-1]
    return can_id, data + bytes([crc(can_id, data)])


@dataclass(frozen=True)
class Limits:
    """What one 0x351 says, read as the protocol's table says: V, A, V."""

    cvl_v: float
    ccl_a: float
    dcl_a: float
    dvl_v: float


def limits(frame: Seen) -> Limits:
    cvl, ccl, dcl, dvl = struct.unpack("<HhhH", frame.data)
    return Limits(cvl / 10, ccl / 10, dcl / 10, dvl / 10)


def allows(frame: Seen) -> bool:
    return frame.can_id == 0x351 and limits(frame).ccl_a > 0


def forbids(frame: Seen) -> bool:
    return frame.can_id == 0x351 and limits(frame).ccl_a == 0 and limits(frame).dcl_a == 0


def order(frames: Sequence[Seen]) -> list[int]:
    """Return the identifiers of the battery's frames on vcan1; the inverter's own are left out."""
    return [frame.can_id for frame in frames if frame.can_id != KEEP_ALIVE]


class Talker:
    """A raw CAN socket that sends any frame at once, and knows nothing of queues, leases or good manners."""

    def __init__(self, interface: str) -> None:
        self._socket = socket.socket(socket.PF_CAN, socket.SOCK_RAW, socket.CAN_RAW)
        self._socket.bind((interface,))

    def __enter__(self) -> Talker:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, can_id: int, data: bytes, *, extended: bool = True) -> None:
        """Send a frame. OSError when the kernel does not take it."""
        flagged = can_id | (socket.CAN_EFF_FLAG if extended else 0)
        self._socket.send(struct.pack("<IB3x8s", flagged, len(data), data))

    def say(self, name: str, address: int = 0, **values: Any) -> None:
        """Send a sound frame of the slave protocol."""
        self.send(*packed(name, address, values))

    def sync(self, number: int, phase: int = 0, slow_group: int = 0) -> None:
        self.say("Sync", Number=number % 256, Phase=phase, SlowGroup=slow_group, PollPeriod=0.2)

    def listen(self, can_id: int, mask: int = 0x1FFFFFFF) -> None:
        """Receive only these, 29 bits."""
        wanted = struct.pack("=II", can_id | socket.CAN_EFF_FLAG, mask | socket.CAN_EFF_FLAG)
        self._socket.setsockopt(socket.SOL_CAN_RAW, socket.CAN_RAW_FILTER, wanted)

    def receive(self, timeout_s: float) -> Seen:
        """Wait for the next frame. TimeoutError when none comes."""
        self._socket.settimeout(timeout_s)
        can_id, length, data = struct.unpack("<IB3x8s", self._socket.recv(16))
        return Seen(0.0, "", can_id & 0x1FFFFFFF, bool(can_id & socket.CAN_EFF_FLAG), data[:length])


@dataclass
class WholeRack:
    """What runs, and both wires from the beginning. Times are candump's: wall clock, s."""

    rack: RackOnCan
    field: Candump
    inverter: Candump
    daemon: Running
    boards: Running | None = None
    mishaps: Path | None = None
    successors: ExitStack = field(default_factory=ExitStack)
    """Daemons that take the place of the first end with the rack."""
    _clients: list[LinkClient] = field(default_factory=list)

    # what the daemon says of itself

    def state(self, within_s: float = 5.0) -> Published:
        """Return the newest record of the daemon's link."""
        if not self._clients:
            self._clients.append(LinkClient(self.rack.folder / "socket.sock"))
        return self._clients[0].newest(within_s)

    def state_when(self, fits: Callable[[Published], bool], within_s: float, what: str) -> Published:
        """Wait for a record for which `fits` is true and return it."""

        def asked() -> Published | None:
            record = self.state()
            return record if fits(record) else None

        found = until(asked, within_s, what)
        assert found is not None
        return found

    def faults(self) -> set[str]:
        return {fault.code for fault in self.state().faults}

    def dropped(self, bus: str, kind: str) -> int:
        """Return a counter of a bus ("field", "inverter") as the status shows it."""
        return next(status.dropped[kind] for status in self.state().buses if status.name == bus)

    # what a test does to it

    def befall(self, *mishaps: Mapping[str, Any]) -> None:
        """Let these mishaps act from now on, in the place of those before; only for a rehearsed rack."""
        assert self.mishaps is not None
        draft = self.mishaps.with_suffix(".new")
        draft.write_text(json.dumps(mishaps))
        os.replace(draft, self.mishaps)

    def reset(self, code: str, reason: str = "looked into") -> None:
        """Ask as service to clear this fault until it is gone."""
        client = LinkClient(self.rack.folder / "service_socket.sock")
        try:
            until(
                lambda: client.ask(Asked("reset", code, reason)) and code not in self.faults(), 30.0, f"{code} clears"
            )
        finally:
            client.close()

    def restarted(self, daemon: Running) -> None:
        """Another daemon has taken the place of the one that was killed."""
        self.close()
        self.daemon = daemon

    def close(self) -> None:
        for client in self._clients:
            client.close()
        self._clients.clear()

    # what the wires say

    def currents_a(self, since_s: float = 0.0) -> list[tuple[float, float]]:
        """Return (time, A) of what the first unit said since then on vcan0; positive charges."""
        frames = [frame for frame in self.field.of(identifier("Current", UNIT)) if frame.at_s >= since_s]
        return [(frame.at_s, signals(frame)["Current"]) for frame in frames]

    def unit_states(self, since_s: float = 0.0) -> list[tuple[float, dict[str, float]]]:
        """Return (time, signals) of what the first unit said of its contactors since then."""
        frames = [frame for frame in self.field.of(identifier("ContactorState", UNIT)) if frame.at_s >= since_s]
        return [(frame.at_s, signals(frame)) for frame in frames]

    def commands(self, since_s: float = 0.0) -> list[tuple[float, dict[str, float]]]:
        """Return (time, signals) of the commands to the first unit since then."""
        frames = [frame for frame in self.field.of(identifier("ContactorCommand", UNIT)) if frame.at_s >= since_s]
        return [(frame.at_s, signals(frame)) for frame in frames]

    def told(self, since_s: float = 0.0) -> list[tuple[float, Limits]]:
        """Return (time, limits) of all 0x351 since then."""
        return [(frame.at_s, limits(frame)) for frame in self.inverter.of(0x351) if frame.at_s >= since_s]

    def wait_for_current(self, fits: Callable[[float], bool], within_s: float) -> Seen:
        """Wait until the first unit reports a current for which `fits` is true."""
        current = identifier("Current", UNIT)
        return self.field.wait_for(
            lambda frame: frame.can_id == current and fits(signals(frame)["Current"]), within_s=within_s
        )


def quick(folder: Path, changes: Mapping[str, Any] | None = None) -> RackOnCan:
    """Return the configuration of the quick rack; a changed table adds to that of QUICK."""
    merged: dict[str, Any] = {}
    for path, value in (*QUICK.items(), *(changes or {}).items()):
        merged[path] = {**merged.get(path, {}), **value} if isinstance(value, Mapping) else value
    folder.mkdir(exist_ok=True)
    return RackOnCan(folder, merged)


@contextmanager
def rehearsal(rack: RackOnCan, *mishaps: Mapping[str, Any]) -> Iterator[tuple[Running, Path]]:
    """The simulator of this rack with these mishaps from the start, and the file through which they change."""
    file = rack.folder / "mishaps.json"
    file.write_text(json.dumps(mishaps))
    with Running("python", "-m", "tests.vcan.rehearsal", str(rack.file), str(file)) as simulator:
        yield simulator, file


@contextmanager
def started(folder: Path, changes: Mapping[str, Any] | None = None, *, rehearsed: bool = False) -> Iterator[WholeRack]:
    """Simulator and daemon have been started; nothing is waited for."""
    rack = quick(folder, changes)
    with ExitStack() as stack:
        field, inverter = (stack.enter_context(Candump(name)) for name in ("vcan0", "vcan1"))
        mishaps = None
        if rehearsed:
            boards, mishaps = stack.enter_context(rehearsal(rack))
        else:
            boards = stack.enter_context(rack.simulator())
        whole = WholeRack(rack, field, inverter, stack.enter_context(rack.daemon()), boards, mishaps)
        stack.callback(whole.close)
        stack.enter_context(whole.successors)
        yield whole


@contextmanager
def running(
    folder: Path, changes: Mapping[str, Any] | None = None, *, rehearsed: bool = False, least_a: float = 20.0
) -> Iterator[WholeRack]:
    """Everything runs, the string is on the bus, current is allowed both ways and at least `least_a` flows."""
    with started(folder, changes, rehearsed=rehearsed) as whole:
        whole.inverter.wait_for(allows, within_s=CLOSES_S, after=0)
        if least_a > 0.0:
            whole.wait_for_current(lambda amps: abs(amps) >= least_a, within_s=30.0)
        yield whole


class Stage:
    """One rack for the stories of several files, which each leave it well; who finds it unwell gets another.

    A base load above 2 A keeps the contactors closed while heartbeats are missing, so that a story can go on.
    """

    CHANGES: Mapping[str, Any] = {"sim.inverter": {"charge_a": -60.0, "standby_w": 250.0}}

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._whole: WholeRack | None = None
        self._checked = False

    def rack(self, folder: Path) -> WholeRack:
        """Return the rack with limits and current; it lives in `folder` when it has to be started."""
        if self._whole is not None and not self._checked:
            with suppress(AssertionError):
                self.check()
        self._checked = False
        if self._whole is None:
            self._whole = self._stack.enter_context(running(folder, self.CHANGES, least_a=20.0))
        return self._whole

    def check(self) -> None:
        """Wait until the rack is well by itself, as after each story; AssertionError says in which state it stayed."""
        whole, began_s = self._whole, time.time()
        assert whole is not None
        try:
            assert whole.daemon.alive
            assert whole.boards is not None
            assert whole.boards.alive
            whole.inverter.wait_for(allows, within_s=CLOSES_S)
            assert whole.state().vetoes == ()
            self._checked = True
        except (AssertionError, BmsdError) as trouble:
            seen, late = told_of(whole), self._late(whole)
            self.clear()
            if late and METER.lost_s(began_s - 60.0) > 1.0:
                return  # SYS-001 stands for 60 s, and the computer was late indeed
            raise AssertionError(f"{trouble}; {seen}") from trouble

    @staticmethod
    def _late(whole: WholeRack) -> bool:
        try:
            return "SYS-001" in whole.faults()
        except BmsdError:
            return False

    def clear(self) -> None:
        """End the rack; the next story has one of its own."""
        self._whole = None
        self._stack.close()


def told_of(whole: WholeRack) -> str:
    """Return in words what the daemon says of a rack that is in trouble, and what the computer did meanwhile."""
    try:
        now = whole.state()
    except (AssertionError, BmsdError) as silent:
        return f"the daemon does not answer: {silent}"
    strings = [(string.state, string.reason) for string in now.strings]
    faults = [(fault.code, fault.latched) for fault in now.faults]
    lost_s = METER.lost_s(0.0)
    return f"{strings=} {faults=} {now.missing=} {now.vetoes=} {now.command=} {lost_s=:.2f}"
