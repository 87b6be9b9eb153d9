"""What a rack of real processes said while it ran: the link's records, and the inverter's side of its bus."""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import can

from bmsd.errors import BusError
from bmsd.fieldbus.unix_bus import Hub
from bmsd.link.client import LinkClient
from bmsd.model.published import Published
from tests.programs import Program, rack_file


class Told(NamedTuple):
    """What the inverter was told by one 0x351: when (monotonic s), V and A."""

    at_s: float
    cvl_v: float
    ccl_a: float
    dcl_a: float
    dvl_v: float


class Flags(NamedTuple):
    """What the inverter was told by one 0x35C."""

    at_s: float
    charge: bool
    discharge: bool


class Recording:
    """A simulated rack and its control as processes on two hubs, recorded from the moment they are started.

    `stop` ends them in order; leaving the block kills what is left.
    """

    def __init__(
        self, folder: Path, sim: str, *, strings: int = 1, modules: int = 1, cell: Mapping[str, float] | None = None
    ) -> None:
        folder.mkdir()
        self.folder = folder
        self._config = rack_file(folder, sim, strings=strings, modules=modules, cell=cell)
        self._stack = ExitStack()
        self._ended = threading.Event()
        self.records: list[Published] = []
        self.told: list[Told] = []
        self.flags: list[Flags] = []
        self.exit_codes: dict[str, int] = {}

    def __enter__(self) -> Recording:
        for name in ("field", "inverter"):
            self._stack.enter_context(Hub(self.folder / f"{name}.sock"))
        bus = self._stack.enter_context(can.Bus(interface="unix", channel=str(self.folder / "inverter.sock")))
        self.run = self._stack.enter_context(Program(self.folder, "run", "-c", self._config))
        client = self.run.wait_for(self._link)
        # the simulator's clock starts when control is there, however long that took
        self.sim = self._stack.enter_context(Program(self.folder, "sim", "-c", self._config))
        self._threads = [
            threading.Thread(target=self._read_link, args=(client,)),
            threading.Thread(target=self._read_bus, args=(bus,)),
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()
        self._stack.close()

    def stop(self) -> None:
        """End control, then the simulator, as a service manager does."""
        self.exit_codes = {"run": self.run.end()}
        time.sleep(0.3)
        self.exit_codes["sim"] = self.sim.end()

    @property
    def at_work(self) -> list[Published]:
        """The records from the first closed string on: before, boards are missing because nobody has started them."""
        first = next(i for i, r in enumerate(self.records) if any(s.state == "closed" for s in r.strings))
        return self.records[first:]

    @property
    def latest_tick_s(self) -> float:
        """By how much the worst tick came late, s: nothing but the load of the computer makes it."""
        ticks_s = [record.snapshot.now_s for record in self.at_work]
        return max(later - earlier for earlier, later in pairwise(ticks_s)) - 0.1

    @property
    def oldest_answer_s(self) -> float:
        """How old the freshest board's measurement ever was, s: a simulator that got no time to answer makes it so."""
        return max(float(record.snapshot.modules.cell_age_s.min()) for record in self.at_work)

    def codes(self) -> list[str]:
        """Return every fault in the order in which it was raised first."""
        return list(dict.fromkeys(fault.code for record in self.at_work for fault in record.faults))

    def first(self, code: str) -> Published:
        """Return the first record with this fault."""
        found = (record for record in self.at_work if code in {fault.code for fault in record.faults})
        record = next(found, None)
        assert record is not None, f"{code} was never raised, but {self.codes()}:\n{self.run.err}"
        return record

    def between(self, start_s: float, end_s: float) -> list[Told]:
        """Return what the inverter was told in this time (monotonic s)."""
        return [told for told in self.told if start_s <= told.at_s < end_s]

    def _link(self) -> LinkClient | None:
        try:
            return LinkClient(self.folder / "link.sock")
        except BusError:
            return None

    def _read_link(self, client: LinkClient) -> None:
        try:
            while not self._ended.is_set():
                self.records.append(client.next(timeout_s=5.0))
        except BusError:
            pass  # control has left
        finally:
            client.close()

    def _read_bus(self, bus: can.BusABC) -> None:
        while not self._ended.is_set():
            got = bus.recv(0.1)
            if got is None:
                continue
            at_s, data = time.monotonic(), bytes(got.data)
            if got.arbitration_id == 0x351:
                cvl, ccl, dcl, dvl = struct.unpack("<HhhH", data[:8])
                self.told.append(Told(at_s, cvl / 10, ccl / 10, dcl / 10, dvl / 10))
            elif got.arbitration_id == 0x35C:
                self.flags.append(Flags(at_s, bool(data[0] & 0x80), bool(data[0] & 0x40)))
