"""The daemon on interfaces that are removed and come back, without carrier, held up, spoilt; and on a recorded trace.

Error frames are written here by a program, for a vcan has no controller: they take the kernel's way to the daemon's
socket like those of a driver, but that a driver writes them so is not shown.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from bmsd.link.client import LinkClient
from bmsd.model.snapshot import Controller, Snapshot
from tests.vcan.cable import Cable
from tests.vcan.processes import until
from tests.vcan.slave_bus import UNIT, identifier
from tests.vcan.whole_rack import CLOSES_S, SET, WholeRack, allows, forbids, quick, room_s, told_of
from tests.vcan.wire import Candump, cansend, nobody_acknowledges

pytestmark = pytest.mark.vcan

CELLS_OF_1, CELLS_OF_2 = identifier("CellVoltages1", 1), identifier("CellVoltages1", 2)


@dataclass
class Cabled:
    """A rack on vcan0 and vcan1; its daemon is on can8 and can9."""

    whole: WholeRack
    field: Cable
    inverter: Cable


@pytest.fixture(scope="module")
def cabled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cabled]:
    folder = tmp_path_factory.mktemp("cabled")
    site = {"sim.inverter": {"charge_a": -60.0, "standby_w": 250.0}}
    boards = quick(folder / "boards", site)
    rack = quick(folder, {"fieldbus.channel": "can8", "inverter.channel": "can9"})
    with (
        Cable("can8", "vcan0") as field,
        Cable("can9", "vcan1") as inverter,
        Candump("vcan0") as seen_field,
        Candump("vcan1") as seen_inverter,
        boards.simulator() as simulator,
        rack.daemon() as daemon,
    ):
        whole = WholeRack(rack, seen_field, seen_inverter, daemon, simulator)
        yield Cabled(whole, field, inverter)
        whole.close()


@pytest.fixture
def well(cabled: Cabled) -> Iterator[Cabled]:
    """Limits allow current before the story: the rack is well again after the one before."""
    cabled.whole.inverter.wait_for(allows, within_s=CLOSES_S)
    yield cabled
    assert cabled.whole.daemon.alive
    assert cabled.whole.state().vetoes == ()


def filters(interface: str) -> list[tuple[int, int]]:
    """Return (identifier, mask) of all that the kernel gives to sockets on the interface, error frames left out."""
    files = [file for file in Path("/proc/net/can").glob("rcvlist_*") if file.name != "rcvlist_err"]
    rows = (line.split() for file in files for line in file.read_text().splitlines())
    return sorted((int(words[1], 16), int(words[2], 16)) for words in rows if words[:1] == [interface])


def test_the_kernel_gives_the_daemon_what_it_listens_to_and_nothing_else(well: Cabled) -> None:
    whole = well.whole
    assert filters("can8") == [(0x81B51000, 0x83FFF000)], "the slave protocol: any priority, message and address"
    told_to_it = sorted((can_id, 0xC00007FF & 0x800007FF) for can_id in (0x305, *SET))
    assert filters("can9") == told_to_it, "the keep-alive, and what only bmsd may say"
    errors = Path("/proc/net/can/rcvlist_err").read_text()
    assert sum(line.split()[:1] in (["can8"], ["can9"]) for line in errors.splitlines()) == 2

    fd, received = whole.dropped("field", "fd"), whole.state().buses[0].received
    began_s = time.monotonic()
    cansend(well.field.end, "123#0102", f"{CELLS_OF_1:X}##1" + "11" * 12, f"{CELLS_OF_1:X}#R")
    until(lambda: whole.dropped("field", "fd") == fd + 1, 3.0, "the FD frame is counted")
    assert whole.state().snapshot.buses.foreign_frames.tolist() == [0, 0], "its own frames are not heard as foreign"
    rate = (whole.state().buses[0].received - received) / (time.monotonic() - began_s)
    assert rate < 500.0
    assert whole.faults() <= {"MOD-015"}, "its first start"


def report(cable: Cable, classes: int, data: str = "00" * 8) -> None:
    """Let the daemon's socket have an error frame."""
    cansend(cable.end, f"{0x20000000 | classes:08X}#{data}")


def test_controllers_that_are_passive_bus_off_and_without_carrier_and_a_queue_that_stands(well: Cabled) -> None:
    whole = well.whole
    assert whole.state().snapshot.buses.controller.tolist() == [Controller.NOT_REPORTED] * 2
    report(well.field, 0x204, "0020000000008860")  # transmit passive, counters 136 and 96
    now = whole.state_when(lambda now: "CAN-002" in {fault.code for fault in now.faults}, 4.0, "error-passive")
    assert now.snapshot.buses.controller.tolist() == [Controller.PASSIVE, Controller.NOT_REPORTED]
    assert (now.snapshot.buses.transmit_errors[0], now.snapshot.buses.receive_errors[0]) == (136, 96)
    assert now.command.dcl_a > 0.0, "a warning takes nothing away"

    told = whole.inverter.count
    report(well.field, 0x40)
    off_s = time.time()
    zero = whole.inverter.wait_for(forbids, within_s=3.0, after=told)
    assert zero.at_s - off_s < 0.4 + room_s(off_s, zero.at_s)
    now = whole.state_when(lambda now: "CAN-001" in {fault.code for fault in now.faults}, 2.0, "bus-off")
    assert now.snapshot.buses.bus_offs.tolist() == [1, 0]
    report(well.field, 0x100)
    whole.state_when(lambda now: now.snapshot.buses.controller[0] == Controller.ACTIVE, 2.0, "restarted by the link")

    # the rest in the 10 s for which limits stay zero
    what_was_held_up_is_not_said_late(well)
    with well.inverter.no_carrier():  # no frame says so
        whole.state_when(
            lambda now: bool(now.snapshot.buses.bus_off[1]), 5.0, "an interface without carrier is bus-off"
        )
        sent = whole.state().buses[1].sent
        time.sleep(0.3)
        assert whole.state().buses[1].sent == sent, "nothing is handed to it"
    whole.state_when(lambda now: not now.snapshot.buses.bus_off.any(), 8.0, "the carrier is back")
    assert forbids(whole.inverter.wait_for(0x351, within_s=3.0)), "for 10 s"


def what_was_held_up_is_not_said_late(well: Cabled) -> None:
    whole = well.whole
    with nobody_acknowledges("can9", queue=100):
        whole.state_when(lambda now: "CAN-005" in {fault.code for fault in now.faults}, 4.0, "nothing gets out")
        time.sleep(1.0)
        told = whole.inverter.count
    until(lambda: len([f for f in whole.inverter.frames[told:] if f.can_id == 0x351]) >= 2, 5.0, "limits go out again")
    out = [frame for frame in whole.inverter.frames[told:] if frame.can_id in SET]
    late = [frame for frame in out if frame.at_s - out[0].at_s < 0.005]
    assert len(late) <= len(SET), "at most what was said in one instant, though the queue has room for 100"


def equal(one: Snapshot, other: Snapshot) -> bool:
    """Whether both say the same of cells, temperatures and string."""
    return all(
        np.array_equal(getattr(getattr(one, part), name), getattr(getattr(other, part), name))
        for part, name in (
            ("modules", "cell_v"), ("modules", "temperature_degc"), ("units", "current_a"), ("units", "string_v"),
            ("units", "plus"),
        )
    )  # fmt: skip


def test_a_recorded_trace_gives_a_daemon_that_only_listens_the_same_snapshots(cabled: Cabled, tmp_path: Path) -> None:
    """candump records the field bus for 4 s; canplayer plays it, with its gaps, to a second daemon on another bus."""
    whole, trace = cabled.whole, tmp_path / "trace.log"
    with trace.open("w") as file:
        recording = subprocess.Popen(["candump", "-L", "vcan0"], stdout=file)
        until_s = time.monotonic() + 4.0
        original = []
        while time.monotonic() < until_s:
            original.append(whole.state().snapshot)
        recording.terminate()
        recording.wait()
    listener = quick(
        tmp_path / "listener",
        {"fieldbus.channel": "vcan2", "fieldbus.listen_only": True, "inverter.channel": "vcan3"},
    )
    subprocess.run(["ip", "link", "add", "vcan2", "type", "vcan"], check=True)
    try:
        subprocess.run(["ip", "link", "set", "vcan2", "up"], check=True)
        with Candump("vcan2") as wire, listener.daemon() as daemon:
            daemon.says("control.running", within_s=20.0)
            client = LinkClient(listener.folder / "socket.sock")
            client.newest(5.0)
            with subprocess.Popen(["canplayer", "-I", str(trace), "vcan2=vcan0"]) as player:
                heard = []
                while player.poll() is None:
                    heard.append(client.newest(5.0).snapshot)
            client.close()
            assert daemon.alive
            played = len(trace.read_text().splitlines())
            until(lambda: wire.count >= played, 5.0, "the trace was on the bus")
            assert wire.silent_for(0.3)
            assert wire.count == played, "and nothing else"
    finally:
        subprocess.run(["ip", "link", "del", "vcan2"], check=True)
    whole_ones = [snapshot for snapshot in heard if np.isfinite(snapshot.modules.cell_v).all()]
    alike = [any(equal(snapshot, other) for other in original) for snapshot in whole_ones]
    assert len(whole_ones) > 15
    # a tick may fall between the frames of a poll, where the original's did not
    assert sum(alike) > 0.6 * len(alike), f"{sum(alike)} of {len(alike)}"


def test_frames_that_are_dropped_spoilt_doubled_and_late(well: Cabled) -> None:
    whole = well.whole
    doubles = whole.dropped("field", "protocol_duplicate")
    with well.field.doubled(CELLS_OF_1):  # all frames of a board twice would be a second board: MOD-003
        told = whole.inverter.count
        until(lambda: whole.dropped("field", "protocol_duplicate") > doubles + 5, 5.0, "they are counted")
        frames = [frame for frame in whole.inverter.frames[told:] if frame.can_id == 0x351]
        assert not any(forbids(frame) for frame in frames), f"and are no harm: {told_of(whole)}"

    told, crc = whole.inverter.count, whole.dropped("field", "protocol_crc")
    with well.field.dropped_and_spoilt((CELLS_OF_1, 0x1FFFFFFC), spoilt=CELLS_OF_2):
        zero = whole.inverter.wait_for(forbids, within_s=3.0, after=told)
        now = whole.state_when(
            lambda now: {"MOD-001", "MOD-007"} <= {fault.code for fault in now.faults}, 8.0, "silent and damaged"
        )
        assert whole.dropped("field", "protocol_crc") > crc + 3
        assert np.isnan(now.snapshot.modules.cell_v[0, :, :4]).all(), (
            "neither what is missing nor what is spoilt is known"
        )
        assert {(limit.ccl_a, limit.dcl_a) for _, limit in whole.told(since_s=zero.at_s)} == {(0.0, 0.0)}
    whole.inverter.wait_for(allows, within_s=CLOSES_S)

    told, late = (
        whole.inverter.count,
        whole.dropped("field", "protocol_late") + whole.dropped("field", "protocol_counter"),
    )
    with nobody_acknowledges(well.field.end, queue=1000):
        whole.inverter.wait_for(forbids, within_s=3.0, after=told)
        time.sleep(0.2)
    until(
        lambda: whole.dropped("field", "protocol_late") + whole.dropped("field", "protocol_counter") > late + 20,
        3.0, "what comes late is not believed",
    )  # fmt: skip


def test_interfaces_that_are_removed_and_come_back(well: Cabled) -> None:
    whole = well.whole
    told = whole.inverter.count
    well.field.pull_out()
    gone_s = time.time()
    zero = whole.inverter.wait_for(forbids, within_s=3.0, after=told)
    assert zero.at_s - gone_s < 0.4 + room_s(gone_s, zero.at_s)
    whole.state_when(lambda now: "CAN-009" in {fault.code for fault in now.faults}, 2.0, "it is a fault")
    whole.state_when(
        lambda now: any("can8" in said and "no CAN interface of this name" in said for said in now.missing),
        2.0, "down first, then gone",
    )  # fmt: skip
    well.field.plug_in()
    whole.state_when(lambda now: not now.missing, 10.0, "the new interface of the old name is used")

    well.inverter.pull_out()
    whole.state_when(lambda now: not now.snapshot.buses.up[1], 3.0, "the inverter's is gone")
    assert whole.state().snapshot.buses.up[0]
    whole.field.wait_for(identifier("ContactorCommand", UNIT), within_s=2.0)
    told = whole.inverter.count
    well.inverter.plug_in()
    assert forbids(whole.inverter.wait_for(0x351, within_s=8.0, after=told)), "nothing from before"
    whole.inverter.wait_for(allows, within_s=CLOSES_S)
