"""The daemon on buses that fail: cut, full, flooded, and with somebody else who speaks in its name."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import pytest

from tests.vcan.slave_bus import ADDRESS_MASK, PROTOCOL, UNIT, identifier, signals
from tests.vcan.stall import METER
from tests.vcan.whole_rack import CLOSES_S, GUEST_S, Stage, Talker, WholeRack, allows, forbids, room_s
from tests.vcan.wire import cangen, link_lost, nobody_acknowledges

pytestmark = pytest.mark.vcan

SHARES_THE_RACK = True
STALE_S = 0.6


@pytest.fixture
def whole(stage: Stage, tmp_path: Path) -> Iterator[WholeRack]:
    """Before and after each story the rack is well: it heals by itself."""
    yield stage.rack(tmp_path)
    stage.check()


def test_buses_go_down_and_come_back(whole: WholeRack) -> None:
    told, lost = whole.inverter.count, whole.dropped("field", "lost")
    with link_lost("vcan0"):
        down_s = time.time()
        zero = whole.inverter.wait_for(forbids, within_s=3.0, after=told)
        assert zero.at_s - down_s < 0.4 + room_s(down_s, zero.at_s), "the next tick, and the inhibit time of 0x351"
        whole.state_when(lambda now: "CAN-009" in {f.code for f in now.faults}, 2.0, "the fault is raised")
        assert any("field bus" in sentence for sentence in whole.state().missing)
        time.sleep(0.7)
        up_s = time.time()
    assert whole.dropped("field", "lost") > lost
    whole.state_when(lambda now: not now.missing, 10.0, "all is there again")
    between = [limit for at_s, limit in whole.told(since_s=zero.at_s) if at_s < up_s]
    assert {(limit.ccl_a, limit.dcl_a) for limit in between} == {(0.0, 0.0)}
    an_inverter_bus_that_takes_no_frame_and_one_that_is_down(whole)


def an_inverter_bus_that_takes_no_frame_and_one_that_is_down(whole: WholeRack) -> None:
    """Nobody acknowledges: the queue fills, the kernel says ENOBUFS. An old limit never comes later.

    Right after the story of vcan0: the limits come back only once, 10 s after the last refused frame.
    """
    with nobody_acknowledges("vcan1", queue=4):
        whole.state_when(lambda now: now.snapshot.buses.send_stalled_s[1] > 0.3, 6.0, "frames are refused")
        assert "CAN-005" in whole.faults()
        assert whole.state().command.dcl_a == 0.0
        whole.state_when(lambda now: not now.command.heartbeat, 3.0, "limits could not be sent for 1 s")
        beats = whole.field.count
        time.sleep(0.4)
        assert whole.field.of(identifier("Heartbeat"), after=beats) == [], "the heartbeat is withheld"
        told = whole.inverter.count
    assert forbids(whole.inverter.wait_for(0x351, within_s=5.0, after=told))
    whole.state_when(lambda now: now.command.heartbeat, 3.0, "the heartbeat is back")
    with link_lost("vcan1"):
        whole.state_when(lambda now: "CAN-009" in {f.code for f in now.faults}, 2.0, "the fault is raised")
        time.sleep(0.4)
        whole.field.wait_for(identifier("Heartbeat"), within_s=0.7)  # boards are still told that bmsd lives
        told = whole.inverter.count
    assert forbids(whole.inverter.wait_for(0x351, within_s=8.0, after=told)), "nothing from before"


@contextmanager
def noise(interface: str, gap_s: float = 0.001) -> Iterator[None]:
    """Frames of our identifier range: any priority, type, address, length; remote, standard and extended ones.

    But none that only bmsd may send: a single one of those stops the rack, which is another story.
    """
    ended = Event()
    draw = random.Random(5)
    own = {message.frame_id for message in PROTOCOL.messages if message.senders == ["bmsd"]}

    def talk() -> None:
        with Talker(interface) as other:
            while not ended.is_set():
                base = identifier("Sync") & ~0x1C00FFFF
                can_id = base | draw.getrandbits(3) << 26 | 1 << 12 | draw.getrandbits(12)
                if can_id & ~ADDRESS_MASK in own:
                    continue
                other.send(can_id, draw.randbytes(draw.randrange(9)), extended=draw.random() < 0.9)
                ended.wait(gap_s)

    thread = Thread(target=talk)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def test_noise_and_floods_on_both_buses_are_counted_and_lose_nothing(whole: WholeRack) -> None:
    before = {bus.name: bus for bus in whole.state().buses}
    frames, syncs = whole.state().snapshot.modules.frames.copy(), whole.field.of(identifier("Sync"))
    began_s, records = time.time(), []
    with (
        cangen("vcan0", "-g", "4", "-i", "-m", "-I", "r", "-L", "r", "-D", "r"),
        cangen("vcan0", "-g", "7", "-i", "-e", "-R", "-I", f"{identifier('CellVoltages1', 1):X}"),
        cangen("vcan1", "-g", "4", "-i", "-m", "-I", "123", "-L", "r", "-D", "r"),
        noise("vcan0"),
    ):
        until_s = time.monotonic() + 5.0
        while time.monotonic() < until_s:
            records.append(whole.state())
    now = whole.state()
    lost_s = METER.lost_s(began_s - STALE_S)
    polled = len(whole.field.of(identifier("Sync"))) - len(syncs)
    asked = polled / 4 * 2
    assert now.snapshot.modules.frames.min() - frames.min() > 0.9 * asked - 10 * lost_s, "cells of nearly every poll"
    after = {bus.name: bus for bus in now.buses}
    counted = {kind: count - before["field"].dropped[kind] for kind, count in after["field"].dropped.items()}
    share = max(0.1, 1.0 - lost_s / 5.0)
    assert counted["remote"] > 100 * share
    assert sum(counts for kind, counts in counted.items() if kind.startswith("protocol_")) > 500 * share
    assert after["inverter"].received >= before["inverter"].received

    assert max(record.lateness_s for record in records) < 0.1 + GUEST_S + lost_s, "ticks are on time"
    oldest_s = [max(record.snapshot.modules.cell_age_s.max(), record.snapshot.units.current_age_s.max())
                for record in records]  # fmt: skip
    assert max(oldest_s) < STALE_S + lost_s, "no module and no current was ever stale"
    if max(oldest_s) < STALE_S:  # else the computer stood still, and zero is what the daemon has to say
        assert min(record.command.dcl_a for record in records) > 0.0, "limits stood"
        spoken = {fault.code for fault in now.faults} - {"MOD-015"}  # its first start
        assert spoken == {"CAN-010"}, "remote frames and lengths that are none of ours"


def test_a_second_master_stops_the_rack_and_is_never_believed(whole: WholeRack) -> None:
    """Somebody with our identifiers: SYNCs, heartbeats, commands to close everything."""
    before = whole.dropped("field", "protocol_own")
    told = whole.inverter.count
    began_s = time.time()
    with Talker("vcan0") as other:
        for number in range(30):
            other.say("Heartbeat", Counter=number % 16, Lease=1.0, ControlState=1)
            other.say("ContactorCommand", UNIT, CloseMinus=1, ClosePrecharge=0, ClosePlus=1, InverterEnable=1,
                      Counter=number % 16, Lease=1.0)  # fmt: skip
            other.sync(number * 7, number % 4)
            time.sleep(0.1)
    whole.state_when(
        lambda _: whole.dropped("field", "protocol_own") - before >= 85, 2.0, "nearly all of the 90 are counted"
    )
    zero = whole.inverter.wait_for(forbids, within_s=2.0, after=told)
    assert zero.at_s - began_s < 0.5 + room_s(began_s, zero.at_s)
    later = [limit for at_s, limit in whole.told(since_s=zero.at_s)]
    assert {(limit.ccl_a, limit.dcl_a) for limit in later} == {(0.0, 0.0)}
    assert "CAN-011" in whole.faults()
    assert whole.state().strings[0].state == "closed"
    status = whole.rack.status()
    assert status is not None
    field = next(bus for bus in status["buses"] if bus["name"] == "field")
    assert field["dropped"]["protocol_own"] - before >= 85, "and the command shows the same"
    whole.reset("CAN-011", "taken off the bus")


def test_a_second_board_with_an_address_of_ours_takes_away_what_is_known(whole: WholeRack) -> None:
    """It answers each poll like board 1, with sound frames and better cells: neither of the two is used."""
    told = whole.inverter.count
    conflicts = whole.dropped("field", "protocol_conflict")
    ended = Event()

    def answer() -> None:
        with Talker("vcan0") as other:
            other.listen(identifier("Sync"))
            while not ended.is_set():
                sync = signals(other.receive(2.0))
                if sync["Phase"] == 0:
                    values = {f"Cell{cell}Voltage": 3.30 for cell in range(1, 5)}
                    other.say("CellVoltages1", 1, **values, Counter=int(sync["Number"]) % 16)

    twin = Thread(target=answer)
    twin.start()
    began_s = time.time()
    try:
        zero = whole.inverter.wait_for(forbids, within_s=3.0, after=told)
        assert zero.at_s - began_s < 1.0 + room_s(began_s, zero.at_s), "like a board that fell silent"
        time.sleep(1.0)
        after = [limit for at_s, limit in whole.told(since_s=zero.at_s)]
        assert {(limit.ccl_a, limit.dcl_a) for limit in after} == {(0.0, 0.0)}
        assert whole.state().snapshot.modules.cell_age_s[0, 0] > 0.6
        assert whole.dropped("field", "protocol_conflict") > conflicts
    finally:
        ended.set()
        twin.join()
    whole.reset("MOD-003", "the second board has another address now")
    # a frame repeated as it was is no harm
    duplicates = whole.dropped("field", "protocol_duplicate")
    for _ in range(10):
        echo(0.5)
        if whole.dropped("field", "protocol_duplicate") - duplicates >= 3:
            break
    assert whole.dropped("field", "protocol_duplicate") - duplicates >= 3
    whole.inverter.wait_for(allows, within_s=CLOSES_S)


def echo(seconds: float) -> None:
    """Say again what board 1 says, frame by frame."""
    with Talker("vcan0") as other:
        other.listen(identifier("CellVoltages1", 1))
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s:
            frame = other.receive(2.0)
            other.send(frame.can_id, frame.data)
