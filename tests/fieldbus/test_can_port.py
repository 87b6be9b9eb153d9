from __future__ import annotations

import contextlib
import math
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import can
import numpy as np
import pytest

from bmsd.fieldbus.bus import CanPort, buses, frames_of
from bmsd.fieldbus.can_socket import Filter, make_room, memory
from bmsd.fieldbus.unix_bus import Hub
from bmsd.model.frame import Frame

SLAVE = Filter(0x01B51000, 0x03FFF000, True)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with Hub(tmp_path / "can0") as running:
        yield running


@pytest.fixture
def peer(hub: Hub) -> Iterator[can.BusABC]:
    with can.Bus(interface="unix", channel=hub.path) as bus:
        settled(hub, 1)
        yield bus


def settled(hub: Hub, clients: int) -> None:
    deadline = time.monotonic() + 5.0
    while hub.clients != clients and time.monotonic() < deadline:
        time.sleep(0.001)


def opened(hub: Hub, now_s: float = 0.0, **settings: object) -> CanPort:
    before = hub.clients
    port = CanPort("unix", hub.path, **settings)  # type: ignore[arg-type]
    port.step(now_s)
    settled(hub, before + 1)
    return port


def drained(port: CanPort, wanted: int, limit: int = 2048) -> np.ndarray:
    """Everything up to `wanted` frames; the hub is another thread, so this may take several drains."""
    deadline = time.monotonic() + 5.0
    parts = [port.drain(limit)]
    while sum(map(len, parts)) < wanted and time.monotonic() < deadline:
        time.sleep(0.001)
        parts.append(port.drain(limit))
    return np.concatenate(parts)


def message(number: int = 0, can_id: int = 0x11B51281) -> can.Message:
    return can.Message(arbitration_id=can_id, is_extended_id=True, data=number.to_bytes(8, "little"))


MARK = can.Message(arbitration_id=0x11B51FFF, is_extended_id=True, data=b"")


def test_everything_that_waits_is_read_at_once_and_in_order(hub: Hub, peer: can.BusABC) -> None:
    port = opened(hub)
    for number in range(300):
        peer.send(message(number), timeout=5.0)
    frames = drained(port, 300)
    assert frames["data"].tolist() == list(range(300))
    assert set(frames["can_id"].tolist()) == {0x91B51281}
    assert len(port.drain()) == 0


def test_a_flood_is_read_in_portions(hub: Hub, peer: can.BusABC) -> None:
    port = opened(hub)
    for number in range(250):
        peer.send(message(number), timeout=5.0)
    deadline = time.monotonic() + 5.0
    while hub.forwarded < 250 and time.monotonic() < deadline:
        time.sleep(0.001)
    assert [len(port.drain(100)) for _ in range(3)] == [100, 100, 50]
    assert port.counts.left_waiting == 2


def test_what_is_no_data_frame_is_counted_by_kind_and_dropped(hub: Hub, peer: can.BusABC) -> None:
    port = opened(hub)
    peer.send(can.Message(arbitration_id=0x11B51281, is_extended_id=True, is_remote_frame=True, dlc=8))
    peer.send(can.Message(arbitration_id=0x4, is_error_frame=True, dlc=8, data=bytes(8)))
    peer.send(can.Message(arbitration_id=0x11B51281, is_extended_id=True, is_fd=True, data=bytes(64)))
    peer.socket.send(bytes.fromhex("8112b591ff0000000000000000000000"))  # type: ignore[attr-defined]
    peer.send(message(5), timeout=5.0)
    assert drained(port, 1)["data"].tolist() == [5]
    counts = port.counts
    assert (counts.remote, counts.error, counts.fd, counts.malformed, counts.received) == (1, 1, 1, 1, 1)


def test_foreign_identifiers_are_kept_out_by_the_filter(hub: Hub, peer: can.BusABC) -> None:
    port = opened(hub, filters=[SLAVE, Filter(0x305, 0x7FF, False)])
    peer.send(message(1, 0x1FFFFFFF))
    peer.send(can.Message(arbitration_id=0x305, is_extended_id=True, data=b""))
    peer.send(can.Message(arbitration_id=0x305, is_extended_id=False, data=b""))
    peer.send(message(2))
    assert drained(port, 2)["can_id"].tolist() == [0x305, 0x91B51281]
    assert port.counts.filtered == 2


def test_a_sent_frame_arrives_as_it_was(hub: Hub, peer: can.BusABC) -> None:
    port = opened(hub)
    assert port.send(Frame(0x351, b"\x01\x02\x03", False))
    assert port.send(Frame(0x5B51080, b"\x04", True))
    heard = [peer.recv(timeout=5.0), peer.recv(timeout=5.0)]
    assert [(m.arbitration_id, m.is_extended_id, bytes(m.data)) for m in heard if m] == [
        (0x351, False, b"\x01\x02\x03"),
        (0x5B51080, True, b"\x04"),
    ]


def test_listen_only_sends_nothing(hub: Hub, peer: can.BusABC) -> None:
    port = opened(hub, listen_only=True)
    assert not port.send(Frame(0x351, b"\x01", False))
    peer.send(message(1))
    assert len(drained(port, 1)) == 1
    assert peer.recv(timeout=0.05) is None
    assert port.counts.refused == 1
    assert port.send_stalled_s(10.0) == 0.0


def test_sending_on_a_bus_that_is_down_is_false_and_the_stall_is_timed(tmp_path: Path) -> None:
    port = CanPort("unix", str(tmp_path / "nothing"))
    port.step(1.0)
    assert port.send_stalled_s(1.0) == 0.0
    assert not port.send(Frame(0x351, b"", False))
    port.step(1.5)
    assert not port.send(Frame(0x351, b"", False))
    assert port.send_stalled_s(1.5) == 0.5
    assert port.counts.not_sent == 2


def test_a_full_hub_drops_the_frame_and_keeps_the_port_up(hub: Hub) -> None:
    port = opened(hub)
    port.step(3.0)
    sent = 0
    client = next(iter(hub._clients))
    hub._pass_on = lambda *_: time.sleep(0.05)  # type: ignore[method-assign]
    with can.Bus(interface="unix", channel=hub.path):
        settled(hub, 2)
        while port.send(Frame(0x351, b"", False)) and sent < 100_000:
            sent += 1
        assert sent < 100_000
        assert port.up
        assert port.send_stalled_s(3.25) == 0.25
        assert client in hub._clients
        del hub.__dict__["_pass_on"]
        deadline = time.monotonic() + 10.0
        while not port.send(Frame(0x351, b"", False)) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert port.send_stalled_s(9.0) == 0.0


def test_pauses_grow_from_a_tenth_to_five_seconds_while_there_is_no_bus(tmp_path: Path) -> None:
    port = CanPort("unix", str(tmp_path / "nothing"))
    now_s, pauses = 100.0, []
    for _ in range(9):
        port.step(now_s)
        assert not port.up
        pauses.append(round(port.due_s - now_s, 6))
        port.step(port.due_s - 0.001)
        now_s = port.due_s
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]
    assert "no hub" in port.last_error
    assert not port.send(Frame(0x351, b"", False))
    assert len(port.drain()) == 0
    assert port.fileno() == -1


def test_an_interface_that_does_not_exist_is_a_state_and_no_exception() -> None:
    port = CanPort("socketcan", "nocan9")
    port.step(0.0)
    assert not port.up
    assert port.last_error.startswith("nocan9: ")


def test_a_bus_that_is_not_there_is_not_logged_at_each_try(caplog: pytest.LogCaptureFixture) -> None:
    port = CanPort("socketcan", "nocan9")
    for now_s in range(0, 60, 6):
        port.step(float(now_s))
    assert caplog.records == []


def test_what_the_kernel_drops_because_nobody_reads_is_known() -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as raw,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as far,
    ):
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.bind(("127.0.0.1", 0))
        assert memory(raw) == (0, 0)
        for _ in range(100):
            far.sendto(bytes(500), raw.getsockname())
        raw.setblocking(False)
        taken = 0
        with contextlib.suppress(BlockingIOError):
            while raw.recv(600):
                taken += 1
        assert 0 < memory(raw).dropped == 100 - taken


def test_room_is_made_with_or_without_privileges() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as raw:
        before = raw.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        make_room(raw, before // 4)
        assert raw.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == before // 4 * 2


def test_the_bus_comes_back_after_the_hub_was_away(tmp_path: Path) -> None:
    path = tmp_path / "can0"
    hub = Hub(path).start()
    port = opened(hub, now_s=10.0)
    generation = port.generation
    assert port.due_s == math.inf
    hub.stop()
    port.step(20.0)
    assert len(port.drain()) == 0
    assert not port.up
    assert port.generation != generation
    assert buses([port], 20.0).up.tolist() == [False]
    with Hub(path) as again:
        port.step(20.05)
        assert not port.up
        port.step(20.1)
        assert port.up
        settled(again, 1)
        with can.Bus(interface="unix", channel=str(path)) as peer:
            peer.send(message(9))
            assert drained(port, 1)["data"].tolist() == [9]
        port.close()


def test_frames_before_the_hub_went_are_still_read(tmp_path: Path) -> None:
    hub = Hub(tmp_path / "can0").start()
    port = opened(hub)
    with can.Bus(interface="unix", channel=hub.path) as peer:
        peer.send(message(4))
        deadline = time.monotonic() + 5.0
        while hub.forwarded < 1 and time.monotonic() < deadline:
            time.sleep(0.001)
    hub.stop()
    assert port.drain()["data"].tolist() == [4]
    assert not port.up


def test_bus_off_is_noted_until_the_controller_restarts_or_frames_arrive(hub: Hub, peer: can.BusABC) -> None:
    port = opened(hub)

    def after(*messages: can.Message) -> bool:
        errors = port.counts.error + sum(message.is_error_frame for message in messages)
        for sent in messages:
            peer.send(sent)
        deadline = time.monotonic() + 5.0
        while port.counts.error < errors and time.monotonic() < deadline:
            port.drain()
        return port.bus_off

    def error(classes: int) -> can.Message:
        return can.Message(arbitration_id=classes, is_error_frame=True, is_extended_id=False, data=bytes(8))

    assert not after(error(0x04))
    assert after(error(0x40))
    assert after(error(0x04))
    assert buses([port], 0.0).bus_off.tolist() == [True]
    assert not after(error(0x100))
    assert after(error(0x40))
    peer.send(message(1))
    drained(port, 1)
    assert not port.bus_off


def test_frames_can_be_had_one_by_one(hub: Hub, peer: can.BusABC) -> None:
    port = opened(hub)
    peer.send(can.Message(arbitration_id=0x305, is_extended_id=False, data=b"\x01\x02"))
    peer.send(message(3))
    assert frames_of(drained(port, 2)) == [
        Frame(0x305, b"\x01\x02", False),
        Frame(0x11B51281, b"\x03\0\0\0\0\0\0\0", True),
    ]
