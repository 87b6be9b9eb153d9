"""A contactor unit on a bench, for the tests of the simulator."""

from __future__ import annotations

from slave_traffic import contactors, heartbeat, sync

from bmsd.model.frame import Frame
from bmsd.sim.contactor_unit import ContactorUnit, ContactorUnitSettings, Wires
from bmsd.sim.node import CONTACTOR_UNIT, Identity
from bmsd.sim.packing import Received, pack, unpack

ADDRESS = 65
STEP_S = 0.01
OPEN = (0, 0, 0)
CLOSED = (1, 0, 1)


class Bench:
    """A contactor unit on a bench: heartbeats and commands ten times a second, a current through its shunt."""

    def __init__(self, settings: ContactorUnitSettings | None = None, address: int = ADDRESS) -> None:
        self.unit = ContactorUnit(address, Identity(0xB5D000020001, CONTACTOR_UNIT), settings)
        self.unit.wires = Wires()
        self.amps = 0.0
        self.close = OPEN
        self.enable = 0
        self.heartbeats = True
        self.commands = True
        self.ticks = 0
        self.count = 0

    @property
    def now_s(self) -> float:
        return self.count * STEP_S

    def run(self, seconds: float) -> list[tuple[float, Received]]:
        said = []
        for _ in range(round(seconds / STEP_S)):
            self.count += 1
            self.unit.measure_current(self.amps, STEP_S)
            if self.count % 10 == 0:
                self.ticks += 1
                if self.heartbeats:
                    self.unit.receive(heartbeat(self.ticks), self.now_s)
                if self.commands:
                    self.unit.receive(contactors(self.unit.address, self.ticks, *self.close, self.enable), self.now_s)
            said += [(self.now_s, one) for frame in self.unit.step(self.now_s) if (one := unpack(frame)) is not None]
        return said

    def closed(self, amps: float = 50.0) -> Bench:
        """Close, with a current flowing; the last heartbeat and command were at `now_s`."""
        self.run(0.3)
        self.close, self.enable = CLOSED, 1
        self.run(0.3)
        self.amps = amps
        self.run(1.0)
        assert self.unit.coil.tolist() == [True, False, True]
        assert self.unit.enable
        return self

    def state(self) -> Received:
        self.unit.receive(sync(), self.now_s)
        return {one.name: one for one in map(unpack, self.unit.step(self.now_s + 0.2)) if one}["ContactorState"]


def until_open(bench: Bench, seconds: float) -> float:
    """Return the time from now until the coils drop, inf when they do not."""
    start_s = bench.now_s
    for _ in range(round(seconds / STEP_S)):
        bench.run(STEP_S)
        if not bench.unit.coil.any():
            return bench.now_s - start_s
    return float("inf")


def spoil_crc(frame: Frame) -> Frame:
    return frame._replace(data=frame.data[:-1] + bytes((frame.data[-1] ^ 0x80,)))


def trip(address: int = 3, code: int = 1) -> Frame:
    return pack("Trip", address, {"TripCode": code, "CellNumber": 5, "Repeat": 0})
