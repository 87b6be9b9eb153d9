from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import can
import pytest

from bmsd.errors import BusError
from bmsd.fieldbus.unix_bus import Hub, to_message, to_packet


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with Hub(tmp_path / "can0") as running:
        yield running


def client(hub: Hub) -> can.BusABC:
    before = hub.clients
    bus = can.Bus(interface="unix", channel=hub.path)
    deadline = time.monotonic() + 5.0
    while hub.clients == before and time.monotonic() < deadline:
        time.sleep(0.001)
    return bus


def frame(number: int) -> can.Message:
    return can.Message(arbitration_id=0x11B51281, is_extended_id=True, data=number.to_bytes(8, "little"))


def test_everybody_but_the_sender_hears_a_frame(hub: Hub) -> None:
    with client(hub) as one, client(hub) as two, client(hub) as three:
        one.send(frame(7))
        for bus in (two, three):
            heard = bus.recv(timeout=5.0)
            assert heard is not None
            assert heard.arbitration_id == 0x11B51281
            assert bytes(heard.data) == frame(7).data
        assert one.recv(timeout=0.05) is None


def test_a_burst_of_300_frames_arrives_whole_and_in_order(hub: Hub) -> None:
    with client(hub) as sender, client(hub) as reader:
        for number in range(300):
            sender.send(frame(number), timeout=5.0)
        heard = [reader.recv(timeout=5.0) for _ in range(300)]
        assert [int.from_bytes(message.data, "little") for message in heard if message] == list(range(300))
        assert hub.lost == 0


def test_a_client_that_does_not_read_loses_frames_and_holds_up_nobody(hub: Hub) -> None:
    with client(hub) as sender, client(hub), client(hub) as reader:
        for number in range(20_000):
            sender.send(frame(number), timeout=5.0)
            if number % 100 == 99:
                for _ in range(100):
                    assert reader.recv(timeout=5.0) is not None
        assert hub.lost > 0


@pytest.mark.parametrize(
    "message",
    [
        can.Message(arbitration_id=0x351, is_extended_id=False, data=b"\x01\x02"),
        can.Message(arbitration_id=0x1FFFFFFF, is_extended_id=True, data=b""),
        can.Message(arbitration_id=0x12, is_extended_id=False, is_remote_frame=True, dlc=5),
        can.Message(arbitration_id=0x40, is_error_frame=True, dlc=8, data=bytes(8)),
        can.Message(arbitration_id=0x12, is_fd=True, bitrate_switch=True, data=bytes(range(64))),
    ],
    ids=["standard", "no data", "remote", "error", "fd"],
)
def test_every_kind_of_frame_passes_unchanged(message: can.Message) -> None:
    heard = to_message(to_packet(message))
    assert heard is not None
    assert heard.equals(message, timestamp_delta=None, check_channel=False)


def test_a_classic_frame_is_16_bytes_and_an_fd_frame_72() -> None:
    assert to_packet(frame(1)).hex() == "8112b591080000000100000000000000"
    assert len(to_packet(can.Message(is_fd=True, data=bytes(12)))) == 72


def test_packets_that_are_no_frames_are_counted_and_dropped(hub: Hub) -> None:
    with client(hub) as sender, client(hub) as reader:
        for length in (1, 15, 17, 71, 73, 500):
            sender.socket.send(bytes(length))  # type: ignore[attr-defined]
        sender.send(frame(1))
        assert reader.recv(timeout=5.0) is not None
        assert hub.malformed == 6


def test_a_client_that_vanishes_disturbs_nobody(hub: Hub) -> None:
    with client(hub) as one, client(hub) as two:
        client(hub).shutdown()
        one.send(frame(3))
        assert two.recv(timeout=5.0) is not None


def test_a_hub_that_goes_is_an_error_for_its_clients_and_no_hang(tmp_path: Path) -> None:
    hub = Hub(tmp_path / "can0").start()
    bus = client(hub)
    hub.stop()
    with pytest.raises(can.CanError):
        bus.recv(timeout=5.0)
    with pytest.raises(can.CanError):
        bus.send(frame(1), timeout=5.0)
    bus.shutdown()
    with Hub(tmp_path / "can0") as again, client(again) as one, client(again) as two:
        one.send(frame(1))
        assert two.recv(timeout=5.0) is not None


def test_without_a_hub_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(can.CanInitializationError, match="no hub"):
        can.Bus(interface="unix", channel=str(tmp_path / "nothing"))


def test_the_file_of_a_dead_hub_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "can0"
    dead = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    dead.bind(str(path))
    dead.close()
    with Hub(path):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o660
    assert not path.exists()


def test_a_living_hub_is_not_replaced(hub: Hub) -> None:
    with pytest.raises(BusError, match="another hub"):
        Hub(hub.path)


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "can0"
    path.write_text("precious")
    with pytest.raises(BusError):
        Hub(path)
    assert path.read_text() == "precious"


def test_the_hub_runs_as_a_process_and_ends_on_sigterm(tmp_path: Path) -> None:
    path = tmp_path / "can0"
    process = subprocess.Popen([sys.executable, "-m", "bmsd.fieldbus.unix_bus", str(path)])
    try:
        deadline = time.monotonic() + 10.0
        while not path.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        with can.Bus(interface="unix", channel=str(path)) as bus:
            bus.send(frame(1))
    finally:
        process.terminate()
    assert process.wait(timeout=10.0) == 0
    assert not path.exists()
