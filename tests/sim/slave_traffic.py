"""Frames as bmsd sends them, written with plain cantools for the tests of the simulator."""

from __future__ import annotations

import struct
from collections.abc import Iterable

from bmsd.model.frame import Frame
from bmsd.sim.packing import pack
from bmsd.sim.world import SimWorld

TICK_S = 0.1
SYNC_S = 0.05
SLOW_GROUPS = (1, 2, 1, 3, 0)


def sync(number: int = 0, phase: int = 0, slow_group: int = 0) -> Frame:
    signals = {"Number": number % 256, "Phase": phase, "SlowGroup": slow_group, "PollPeriod": 20}
    return pack("Sync", 0, signals)


def heartbeat(counter: int, lease: int = 10) -> Frame:
    return pack("Heartbeat", 0, {"Counter": counter % 256, "Lease": lease, "ControlState": 1})


def contactors(
    address: int, counter: int, minus: int, precharge: int, plus: int, enable: int = 0, lease: int = 10
) -> Frame:
    signals = {
        "Counter": counter % 16,
        "CloseMinus": minus,
        "ClosePrecharge": precharge,
        "ClosePlus": plus,
        "InverterEnable": enable,
        "Lease": lease,
    }
    return pack("ContactorCommand", address, signals)


def balance(address: int, counter: int, cells: int, lease: int = 3) -> Frame:
    return pack("BalanceCommand", address, {"BalanceCells": cells, "Counter": counter % 16, "Lease": lease})


def trip_reset(address: int, code: int, counter: int) -> Frame:
    return pack("TripReset", address, {"TripCode": code, "Counter": counter % 16})


def limits(cvl_v: float, ccl_a: float, dcl_a: float, dvl_v: float) -> Frame:
    data = struct.pack("<HhhH", round(10 * cvl_v), round(10 * ccl_a), round(10 * dcl_a), round(10 * dvl_v))
    return Frame(0x351, data, False)


def flags(byte: int = 0xC0) -> Frame:
    return Frame(0x35C, bytes((byte, 0)), False)


class Driver:
    """Plays bmsd for a world: polls, heartbeats, the contactor command that `close` and `enable` say."""

    def __init__(self, world: SimWorld, step_s: float = 0.0025) -> None:
        self.world = world
        self.step_s = step_s
        self.close = (0, 0, 0)
        self.enable = 0
        self.heartbeats = True
        self.commands = True
        self.told: list[Frame] | None = None
        self._count = 0

    @property
    def now_s(self) -> float:
        """The next instant to be stepped to."""
        return self._count * self.step_s

    def run(self, seconds: float, extra: Iterable[Frame] = ()) -> list[tuple[float, Frame]]:
        """Go on for some seconds; return the field frames with the time at which they were sent."""
        said: list[tuple[float, Frame]] = []
        first = list(extra)
        for _ in range(round(seconds / self.step_s)):
            now_s = self.now_s
            field, inverter = self._frames()
            out, _ = self.world.step(now_s, first + field, inverter)
            self._count += 1
            first = []
            said += [(now_s, frame) for frame in out]
        return said

    def close_contactors(self) -> None:
        """Precharge and close, as a controller does."""
        self.run(0.5)
        self.close, self.enable = (1, 1, 0), 0
        self.run(11.0)
        self.close = (1, 1, 1)
        self.run(0.2)
        self.close, self.enable = (1, 0, 1), 1
        self.run(0.5)

    def _frames(self) -> tuple[list[Frame], list[Frame]]:
        field: list[Frame] = []
        inverter: list[Frame] = []
        sync_steps, tick_steps = round(SYNC_S / self.step_s), round(TICK_S / self.step_s)
        if self._count % sync_steps == 0:
            number, phase = divmod(self._count // sync_steps, 4)
            field.append(sync(number, phase, SLOW_GROUPS[number % 5] if phase == 0 else 0))
        if self._count % tick_steps == 0:
            tick = self._count // tick_steps
            if self.heartbeats:
                field.append(heartbeat(tick))
            if self.commands:
                field += [contactors(unit.address, tick, *self.close, self.enable) for unit in self.world.units]
            if tick % 10 == 0 and self.told is not None:
                inverter += self.told
        return field, inverter
