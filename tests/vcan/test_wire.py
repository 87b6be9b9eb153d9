"""The ground the other vcan tests stand on: real interfaces, and can-utils that see what was really sent."""

from __future__ import annotations

import socket
import struct
import subprocess

import pytest

from tests.vcan.processes import Running, until
from tests.vcan.wire import (
    Candump,
    Seen,
    SendError,
    cangen,
    canplay,
    cansend,
    gaps_s,
    link_down,
    link_lost,
    link_up,
    nobody_acknowledges,
    parse,
)

pytestmark = pytest.mark.vcan


def is_up(interface: str) -> bool:
    shown = subprocess.run(["ip", "-o", "link", "show", interface], check=True, capture_output=True, text=True).stdout
    return "UP" in shown.split("<")[1].split(">")[0].split(",")


def test_both_interfaces_and_the_loopback_are_up() -> None:
    assert [is_up(name) for name in ("vcan0", "vcan1", "lo")] == [True, True, True]


def test_nothing_but_loopback_and_can_is_reachable() -> None:
    names = {name for _, name in socket.if_nameindex()}
    assert {"lo", "vcan0", "vcan1"} <= names
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outside, pytest.raises(OSError, match="unreachable"):
        outside.connect(("192.0.2.1", 9))


@pytest.mark.parametrize(
    ("line", "frame"),
    [
        ("(12.500000) vcan0 351#F401", Seen(12.5, "vcan0", 0x351, False, b"\xf4\x01")),
        ("(12.500000) vcan0 351#", Seen(12.5, "vcan0", 0x351, False, b"")),
        ("(12.500000) vcan0 00000351#00", Seen(12.5, "vcan0", 0x351, True, b"\x00")),
        ("(12.500000) vcan0 123#R8", Seen(12.5, "vcan0", 0x123, False, b"", remote=True)),
        ("(12.500000) vcan0 123##5112233", Seen(12.5, "vcan0", 0x123, False, b"\x11\x22\x33", fd=True)),
        ("(12.500000) vcan0 20000004#0000000000000000", Seen(12.5, "vcan0", 4, False, bytes(8), error=True)),
    ],
)
def test_a_line_of_candump_is_one_frame(line: str, frame: Seen) -> None:
    assert parse(line) == frame


def test_what_is_no_line_of_candump_is_refused() -> None:
    with pytest.raises(ValueError, match="not a line"):
        parse("vcan0  351   [2]  F4 01")


def test_candump_sees_every_kind_of_frame_that_cansend_sends() -> None:
    sent = ["351#F401", "1B500000#0011223344556677", "123#R", "124##1112233", "20000004#0000000000000000"]
    with Candump("vcan1") as seen:
        cansend("vcan1", *sent)
        seen.wait_for(lambda frame: frame.error, within_s=5.0, after=0)
    kinds = [(frame.can_id, frame.extended, frame.remote, frame.fd, frame.error) for frame in seen.frames]
    assert kinds == [
        (0x351, False, False, False, False),
        (0x1B500000, True, False, False, False),
        (0x123, False, True, False, False),
        (0x124, False, False, True, False),
        (0x4, False, False, False, True),
    ]
    assert [frame.data for frame in seen.frames[:2]] == [b"\xf4\x01", bytes.fromhex("0011223344556677")]


def test_the_two_interfaces_are_two_buses() -> None:
    with Candump("vcan0") as field, Candump("vcan1") as inverter:
        cansend("vcan0", "100#01")
        cansend("vcan1", "200#02")
        field.wait_for(0x100, within_s=5.0, after=0)
        inverter.wait_for(0x200, within_s=5.0, after=0)
    assert [[frame.can_id for frame in log.frames] for log in (field, inverter)] == [[0x100], [0x200]]


def test_candump_goes_on_after_the_link_was_down() -> None:
    with Candump("vcan0") as seen:
        with link_lost("vcan0"):
            assert not is_up("vcan0")
            with pytest.raises(SendError, match="Network is down"):
                cansend("vcan0", "101#")
        cansend("vcan0", "102#")
        seen.wait_for(0x102, within_s=5.0, after=0)
    assert [frame.can_id for frame in seen.frames] == [0x102]


def test_a_link_left_down_by_one_test() -> None:
    link_down("vcan1")
    assert not is_up("vcan1")


def test_is_up_again_in_the_next() -> None:
    assert is_up("vcan1")
    link_up("vcan1")  # twice is no error


def test_a_bus_that_nobody_acknowledges_fills_the_queue_and_then_refuses() -> None:
    with Candump("vcan0") as seen:
        with nobody_acknowledges("vcan0", queue=3):
            cansend("vcan0", "001#", "002#", "003#")
            with pytest.raises(SendError, match="No buffer space"):
                cansend("vcan0", "004#")
        cansend("vcan0", "005#")
        seen.wait_for(5, within_s=5.0, after=0)
    assert [frame.can_id for frame in seen.frames] == [1, 2, 3, 5]


def test_cangen_floods_until_the_end_of_its_block_and_candump_loses_nothing() -> None:
    with Candump("vcan0") as seen:
        with cangen("vcan0", "-g", "0", "-i", "-I", "7FF", "-L", "8"):
            until(lambda: seen.count > 2000, 30.0, "2000 frames of the flood")
        after = seen.count
        cansend("vcan0", "123#")
        seen.wait_for(0x123, within_s=10.0, after=after)
        assert seen.frames[-1].can_id == 0x123
        assert seen.silent_for(0.2)


def test_a_log_is_played_in_order() -> None:
    with Candump("vcan0") as seen:
        canplay("vcan0", [f"{number:03X}#{number:04X}" for number in range(200)])
        seen.wait_for(199, within_s=10.0, after=0)
    assert [frame.can_id for frame in seen.frames] == list(range(200))


def test_gaps_are_the_times_between_frames() -> None:
    frames = [Seen(at_s, "vcan0", 1, False, b"") for at_s in (1.0, 1.5, 2.25)]
    assert gaps_s(frames) == [0.5, 0.75]


def test_a_hung_process_goes_on_and_a_killed_one_is_gone() -> None:
    with Candump("vcan1") as seen, Running("cangen", "vcan1", "-g", "10", "-I", "10") as sender:
        seen.wait_for(0x10, within_s=5.0)
        sender.hang()
        until(lambda: seen.silent_for(0.2), 5.0, "silence of the hung sender")
        assert sender.alive
        sender.go_on()
        seen.wait_for(0x10, within_s=5.0)
        sender.kill()
        assert not sender.alive
        assert seen.silent_for(0.2)


def test_a_process_that_ends_before_it_says_something_is_reported_with_its_output() -> None:
    with Running("sh", "-c", "echo no such file; exit 3") as program, pytest.raises(AssertionError) as error:
        program.says("ready", within_s=10.0)
    assert "ended with 3" in str(error.value)
    assert "no such file" in str(error.value)


def test_processor_time_and_memory_of_a_process_are_its_own() -> None:
    busy = "data = bytearray(60_000_000)\nfor _ in range(300_000): pass\nprint('done')\nimport time; time.sleep(60)"
    with Running("python", "-c", busy) as program:
        program.says("done", within_s=30.0)
        assert program.resident_bytes() > 60_000_000
        used_s = program.cpu_s()
        assert 0.0 < used_s < 30.0


def test_a_kernel_filter_keeps_foreign_frames_away() -> None:
    with socket.socket(socket.AF_CAN, socket.SOCK_RAW, socket.CAN_RAW) as bus:
        bus.setsockopt(socket.SOL_CAN_RAW, socket.CAN_RAW_FILTER, struct.pack("=II", 0x350, 0x7F0))
        bus.bind(("vcan1",))
        bus.settimeout(5.0)
        cansend("vcan1", "100#", "355#", "200#", "35F#")
        received = [struct.unpack_from("=I", bus.recv(72))[0] for _ in range(2)]
        bus.setblocking(False)
        with pytest.raises(BlockingIOError):
            bus.recv(72)
    assert received == [0x355, 0x35F]
