"""What every node of the field bus does: command validity, identification, a queue of frames in time slots."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from math import inf

from bmsd.model.frame import Frame
from bmsd.model.snapshot import CHEMISTRIES
from bmsd.sim.packing import Received, crc8, pack, unpack

UNADDRESSED = 126
FORGET_S = 1.0
"""Silence after which the last counter no longer counts as a repetition: a restarted sender may begin anywhere."""
BALANCE_FORGET_S = 3.0
"""The same for balancing commands, which come only once a second."""

MODULE_BOARD, CONTACTOR_UNIT = 1, 2


class Standing:
    """Whether a leased command stands.

    A frame with the counter of the one before is not valid, be that one valid or not: a stuck sender goes on
    sending what it sent when it died. A lease counts from the arrival and never for longer than `longest_s`.
    """

    def __init__(self, longest_s: float, forget_s: float = FORGET_S) -> None:
        self.valid_s = -inf
        """Arrival of the last valid frame."""
        self._longest_s, self._forget_s = longest_s, forget_s
        self._until_s = -inf
        self._counter = -1
        self._heard_s = -inf

    def take(self, counter: int, lease_s: float, now_s: float) -> bool:
        """Return whether this frame is valid, and remember it."""
        repeated = counter == self._counter and now_s - self._heard_s < self._forget_s
        self._counter, self._heard_s = counter, now_s
        if repeated:
            return False
        self.valid_s = now_s
        self._until_s = now_s + min(lease_s, self._longest_s)
        return True

    def lost(self, now_s: float) -> bool:
        """Return whether nothing stands any more."""
        return not now_s < self._until_s


@dataclass(frozen=True)
class Identity:
    """What a node says about itself."""

    uid: int
    board_type: int
    cells: int = 0
    sensors: int = 0
    chemistry: int = CHEMISTRIES.index("lfp")
    hardware: int = 1
    firmware: tuple[int, int] = (1, 0)
    boot_counter: int = 1


class Node(ABC):
    """A node with an address, its outgoing queue and its answers to identification."""

    addresses = range(1, 127)

    def __init__(self, address: int, identity: Identity) -> None:
        self.address = address
        self.identity = identity
        self._queue: list[tuple[float, int, str, Frame]] = []
        self._sequence = 0

    def restart(self) -> None:
        """Boot anew, as after a moment without supply; address, wires and a latched trip stay what they were."""
        self.identity = replace(self.identity, boot_counter=(self.identity.boot_counter + 1) % 65536)
        self._queue = []
        self._power_on()

    @abstractmethod
    def _power_on(self) -> None:
        """Take the power-on state: everything open, nothing bleeding, nothing heard of bmsd."""

    def receive(self, frame: Frame, now_s: float) -> None:
        """Take one frame from the bus; what is foreign, damaged or not for this node does nothing."""
        received = unpack(frame)
        if received is None:
            return
        if received.name == "IdentifyRequest":
            self._identify(received.signals["Target"], now_s)
        elif received.name == "AssignAddress":
            self._assign(received)
        elif self.address != UNADDRESSED:
            self._take(received, now_s)

    @abstractmethod
    def step(self, now_s: float) -> list[Frame]:
        """Act and return the frames that are due."""

    @abstractmethod
    def _take(self, received: Received, now_s: float) -> None:
        """Obey a valid frame of bmsd or of another node."""

    def _send(self, due_s: float, frame: Frame, group: str = "") -> None:
        self._sequence += 1
        heappush(self._queue, (due_s, self._sequence, group, frame))

    def _drop(self, group: str) -> None:
        """Forget queued frames of a group: a new SYNC ends the poll before it."""
        if any(entry[2] == group for entry in self._queue):
            self._queue = sorted(entry for entry in self._queue if entry[2] != group)

    def _due(self, now_s: float) -> list[Frame]:
        frames = []
        while self._queue and self._queue[0][0] <= now_s:
            frames.append(heappop(self._queue)[3])
        return frames

    @property
    def next_due_s(self) -> float:
        """When the next frame is to be sent, inf when none waits."""
        return self._queue[0][0] if self._queue else inf

    @property
    @abstractmethod
    def slot_s(self) -> float:
        """Start of this node's time slot after a SYNC of phase 0."""

    def _identify(self, target: int, now_s: float) -> None:
        me = self.identity
        if self.address == UNADDRESSED:
            if target == UNADDRESSED:
                low = crc8(me.uid.to_bytes(6, "little")) & 0x7F
                frame = pack("Discovery", low, {"Uid": me.uid, "BoardType": me.board_type})
                self._send(now_s + 0.001 * (1 + low), frame)
            return
        if target not in (0, self.address):
            return
        due_s = now_s + self.slot_s
        self._send(due_s, pack("IdentityUid", self.address, {"Uid": me.uid, "CellCount": me.cells}))
        version = {
            "BoardType": me.board_type,
            "Chemistry": me.chemistry,
            "SensorCount": me.sensors,
            "HardwareRevision": me.hardware,
            "FirmwareMajor": me.firmware[0],
            "FirmwareMinor": me.firmware[1],
            "BootCounter": me.boot_counter,
        }
        self._send(due_s, pack("IdentityVersion", self.address, version))

    def _assign(self, received: Received) -> None:
        address = received.signals["Address"]
        mine = received.signals["Uid"] == self.identity.uid and address in self.addresses
        if mine and self._may_move:
            self.address = address

    @property
    def _may_move(self) -> bool:
        """Whether the node may take another address now."""
        return True
