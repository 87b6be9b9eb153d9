"""Control's end of the link for tests of the gateway: the real server, stepped by a thread, real records."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from bmsd.core import memory
from bmsd.core.protection.protect import Protections
from bmsd.core.tick import tick
from bmsd.link.server import LinkServer
from bmsd.model.event import Event
from bmsd.model.published import PROTOCOL, BusStatus, Hello, Published, StringStatus
from bmsd.model.request import Request
from tests import rack as racks

STEP_S = 0.02


def record(sequence: int = 1, *, strings: int = 2, modules: int = 2, now_s: float | None = None) -> Published:
    """What a tick of a healthy rack published at this monotonic time (default: now)."""
    plant = racks.plant(strings, modules)
    protections = Protections.of(plant, 2)
    snapshot = racks.snapshot(plant, time.monotonic() if now_s is None else now_s)
    before = replace(memory.start(plant, protections), commissioned=snapshot.modules.uid)
    outcome = tick(plant, protections, before, snapshot)
    return Published(
        sequence, "idle", outcome.snapshot, outcome.estimate, outcome.faults, outcome.limits.charge,
        outcome.limits.discharge, outcome.command, outcome.vetoes,
        tuple(StringStatus(s.state.value, s.since_s, s.reason) for s in outcome.contactors),
        (BusStatus("field", "vcan0", 1, 2, {"crc": 3}), BusStatus("inverter", "vcan1", 4, 5, {})), (), 0.001,
    )  # fmt: skip


def event(number: int, kind: str = "fault.raised") -> Event:
    """An event of this number."""
    return Event(number, 1.0, 1_700_000_000.0, kind, "warning", f"event {number}", code="CEL-001", string=1)


class ControlEnd:
    """The link of a control process whose rack stays as it is, for as long as the block lasts.

    `published` is sent again and again as a new record of now while `publishing`; `requests` are those taken.
    """

    def __init__(self, folder: Path, published: Published | None = None, boot_id: str = "boot-1") -> None:
        self.link, self.service = folder / "link.sock", folder / "service.sock"
        self.published = published or record()
        strings, modules, cells = self.published.snapshot.modules.cell_v.shape
        sensors = self.published.snapshot.modules.temperature_degc.shape[2]
        shape = (strings, modules, cells, sensors)
        self.hello = Hello(PROTOCOL, boot_id, "rack", *shape, version="0.1.0", configuration="c0", catalogue="ca")
        self.publishing = True
        self.requests: list[Request] = []
        self._tell: list[Event] = []
        self._stop = threading.Event()

    def tell(self, events: Iterable[Event]) -> None:
        """Publish these events."""
        self._tell += events

    def __enter__(self) -> ControlEnd:
        self.server = LinkServer(self.link, self.service, self.hello)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.server.close()

    def _run(self) -> None:
        sequence = self.published.sequence
        while not self._stop.wait(STEP_S):
            self.requests += self.server.step()
            events, self._tell = self._tell, []
            self.server.tell(events)
            if self.publishing:
                sequence += 1
                snapshot = replace(self.published.snapshot, now_s=time.monotonic())
                self.server.publish(replace(self.published, sequence=sequence, snapshot=snapshot))


def wait_for(what: Callable[[], object], within_s: float = 20.0) -> None:
    """Wait until this is true; AssertionError when it does not become so."""
    until_s = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < until_s, "it did not become true in time"
        time.sleep(0.01)
