"""CanPort on a real interface: what the kernel does when the wire misbehaves, and what the port makes of it.

The clock is moved by hand; only the kernel's own delivery is waited for.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from bmsd.fieldbus.bus import FIRST_PAUSE_S, LONGEST_PAUSE_S, LONGEST_QUEUED_S, CanPort, buses, frames_of
from bmsd.fieldbus.can_socket import Filter
from bmsd.model.frame import Frame
from tests.vcan.processes import until
from tests.vcan.wire import Candump, cangen, canplay, cansend, link_down, link_lost, link_up, nobody_acknowledges

pytestmark = pytest.mark.vcan


@contextmanager
def opened(
    channel: str = "vcan0", filters: list[Filter] | None = None, *, listen_only: bool = False, now_s: float = 100.0
) -> Iterator[CanPort]:
    port = CanPort("socketcan", channel, filters=filters, listen_only=listen_only)
    port.step(now_s)
    assert port.up, port.last_error
    try:
        yield port
    finally:
        port.close()


def drained(port: CanPort, count: int) -> list[Frame]:
    """Drain until `count` frames have come, and once more: no frame may follow."""
    frames: list[Frame] = []

    def enough() -> bool:
        frames.extend(frames_of(port.drain()))
        return len(frames) >= count

    until(enough, 10.0, f"{count} frames")
    return frames + frames_of(port.drain())


def ids(frames: list[Frame]) -> list[int]:
    return [frame.can_id for frame in frames]


def test_all_frames_that_wait_are_read_at_once_and_in_order() -> None:
    count = 500  # an eighth of a second of a saturated bus; the kernel's default limit holds about 550
    with opened() as port, Candump("vcan0") as seen:
        canplay("vcan0", [f"{0x18000000 + number:08X}#{number:04X}" for number in range(count)])
        seen.wait_for(0x18000000 + count - 1, within_s=20.0, after=0)
        raw = port.drain()
        assert len(raw) == count
        assert len(port.drain()) == 0
    assert frames_of(raw) == [Frame(0x18000000 + number, number.to_bytes(2, "big"), True) for number in range(count)]
    assert port.counts.received == count


def test_what_is_sent_is_what_another_program_receives() -> None:
    sent = [Frame(0x351, bytes(range(8)), False), Frame(0x1B500081, b"\x01", True), Frame(0x7FF, b"", False)]
    with opened() as port, Candump("vcan0") as seen:
        assert [port.send(frame) for frame in sent] == [True, True, True]
        seen.wait_for(0x7FF, within_s=5.0, after=0)
        assert len(port.drain()) == 0, "a port does not hear itself"
    assert [Frame(frame.can_id, frame.data, frame.extended) for frame in seen.frames] == sent


def test_the_kernel_keeps_frames_away_that_no_filter_wants() -> None:
    filters = [Filter(0x1B500000, 0x1FFF0000, extended=True), Filter(0x305, 0x7FF, extended=False)]
    with opened(filters=filters) as port:
        cansend("vcan0", "1B501234#01", "00000305#02", "305#03", "306#04", "1A501234#05", "1B50FFFF#06")
        frames = drained(port, 3)
    assert frames == [Frame(0x1B501234, b"\x01", True), Frame(0x305, b"\x03", False), Frame(0x1B50FFFF, b"\x06", True)]
    assert port.counts.filtered == 0


def test_remote_fd_and_error_frames_are_counted_and_never_become_data() -> None:
    with opened() as port:
        cansend("vcan0", "351#0102", "351#R", "351#R8", "352##1112233", "352##0" + "AA" * 64)
        cansend("vcan0", "20000004#0000000000000000", "353#03")
        frames = drained(port, 2)
        counts = port.counts
    assert frames == [Frame(0x351, b"\x01\x02", False), Frame(0x353, b"\x03", False)]
    assert (counts.remote, counts.fd, counts.malformed) == (2, 2, 0)
    assert counts.received == 2
    assert port.bus_off is False


def test_the_link_going_down_is_a_state_and_the_port_opens_again_when_it_is_up() -> None:
    now_s = 100.0
    with opened(now_s=now_s) as port:
        generation = port.generation
        with link_lost("vcan0"):
            assert len(port.drain()) == 0
            assert not port.up
            assert port.fileno() == -1
            assert port.counts.lost == 1
            assert "vcan0" in port.last_error
            assert port.due_s == now_s + FIRST_PAUSE_S
            assert port.send(Frame(0x351, b"", False)) is False
        port.step(now_s + FIRST_PAUSE_S - 0.001)
        assert not port.up
        port.step(now_s + FIRST_PAUSE_S)
        assert port.up
        assert port.generation > generation
        cansend("vcan0", "123#07")
        assert drained(port, 1) == [Frame(0x123, b"\x07", False)]


def test_while_the_link_stays_down_the_pauses_grow_to_their_limit() -> None:
    link_down("vcan0")
    port = CanPort("socketcan", "vcan0")
    now_s, pauses = 100.0, []
    for _ in range(9):
        port.step(now_s)
        assert not port.up, "an interface that is down is not open"
        pauses.append(round(port.due_s - now_s, 6))
        now_s = port.due_s
    assert pauses[:3] == [FIRST_PAUSE_S, 2 * FIRST_PAUSE_S, 4 * FIRST_PAUSE_S]
    assert pauses[-1] == LONGEST_PAUSE_S
    link_up("vcan0")
    port.step(now_s)
    assert port.up
    port.close()


def test_sending_on_a_link_that_went_down_closes_the_port_and_sends_nothing_later() -> None:
    with opened() as port, Candump("vcan0") as seen:
        with link_lost("vcan0"):
            assert port.send(Frame(0x351, b"\x01", False)) is False
            assert not port.up
        port.step(port.due_s)
        assert port.send(Frame(0x352, b"\x02", False)) is True
        seen.wait_for(0x352, within_s=5.0, after=0)
    assert [frame.can_id for frame in seen.frames] == [0x352]
    assert (port.counts.sent, port.counts.not_sent) == (1, 1)


def test_an_interface_that_is_taken_out_and_put_back() -> None:
    def ip(*words: str) -> None:
        subprocess.run(["ip", "link", *words], check=True)

    ip("add", "vcan9", "type", "vcan")
    ip("set", "vcan9", "up")
    with opened("vcan9") as port:
        ip("del", "vcan9")
        port.drain()
        assert not port.up
        port.step(port.due_s)
        assert not port.up
        assert "no CAN interface of this name" in port.last_error
        ip("add", "vcan9", "type", "vcan")
        ip("set", "vcan9", "up")
        try:
            port.step(port.due_s)
            assert port.up
            cansend("vcan9", "123#")
            assert ids(drained(port, 1)) == [0x123]
        finally:
            ip("del", "vcan9")


def test_a_bus_that_acknowledges_nothing_is_up_but_stalled() -> None:
    with opened(now_s=100.0) as port, Candump("vcan0") as seen:
        with nobody_acknowledges("vcan0", queue=4):
            taken = [port.send(Frame(0x100 + number, b"", False)) for number in range(7)]
            assert taken == [True] * 4 + [False] * 3
            assert port.up, "a full queue is no reason to open the bus again"
            assert port.counts.no_room == 3
            assert port.send_stalled_s(100.0) == 0.0
            port.step(100.75)
            assert port.send(Frame(0x1FF, b"", False)) is False
            assert buses([port], 101.0).send_stalled_s.tolist() == [1.0], "counted from the first refusal"
        assert port.send(Frame(0x200, b"", False)) is True
        assert port.send_stalled_s(102.0) == 0.0
        seen.wait_for(0x200, within_s=5.0, after=0)
    assert [frame.can_id for frame in seen.frames] == [0x100, 0x101, 0x102, 0x103, 0x200], (
        "no refused frame comes later"
    )


def test_nothing_is_put_behind_frames_that_have_been_waiting() -> None:
    with opened(now_s=100.0) as port, Candump("vcan0") as seen:
        with nobody_acknowledges("vcan0", queue=1000):
            assert port.send(Frame(0x100, b"", False))
            port.drain()  # sees that it waits
            port.step(100.0 + LONGEST_QUEUED_S - 0.01)
            assert port.send(Frame(0x101, b"", False)), "of the same instant"
            port.step(100.0 + LONGEST_QUEUED_S)
            assert port.send(Frame(0x102, b"", False)) is False
            assert port.counts.no_room == 1
            assert port.send_stalled_s(100.5) == 0.5, "since the first one waits"
        port.drain()
        assert port.send_stalled_s(100.5) == pytest.approx(0.5 - LONGEST_QUEUED_S), "since it was refused"
        assert port.send(Frame(0x103, b"", False)) is True
        assert port.send_stalled_s(101.0) == 0.0
        seen.wait_for(0x103, within_s=5.0, after=0)
    assert ids([Frame(frame.can_id, b"", False) for frame in seen.frames]) == [0x100, 0x101, 0x103]


def test_only_a_few_frames_wait_where_only_a_few_may() -> None:
    with nobody_acknowledges("vcan0", queue=1000):
        port = CanPort("socketcan", "vcan0", most_queued=6)
        port.step(100.0)
        taken = [port.send(Frame(0x100, bytes(8), False)) for _ in range(20)]
        port.close()
    assert 4 <= sum(taken) <= 8
    assert not any(taken[sum(taken) :])


def test_bus_off_and_restart_as_a_driver_reports_them() -> None:
    with opened() as port:
        cansend("vcan0", "20000040#0000000000000000")
        until(_after_draining(port, lambda: port.bus_off), 5.0, "bus off noted")
        assert buses([port], 100.0).bus_off.tolist() == [True]
        cansend("vcan0", "20000100#0000000000000000")
        until(_after_draining(port, lambda: not port.bus_off), 5.0, "restart noted")
        assert port.counts.error == 2


def test_a_listen_only_port_hears_and_never_sends() -> None:
    with opened(listen_only=True) as port, Candump("vcan0") as seen:
        assert port.send(Frame(0x351, b"", False)) is False
        cansend("vcan0", "123#")
        assert ids(drained(port, 1)) == [0x123]
        seen.wait_for(0x123, within_s=5.0, after=0)
    assert [frame.can_id for frame in seen.frames] == [0x123]
    assert port.counts.refused == 1


def test_a_flood_is_read_in_bounded_portions_and_the_rest_is_there_next_time() -> None:
    with opened() as port, Candump("vcan0") as seen:
        with cangen("vcan0", "-g", "0", "-i", "-m", "-D", "r", "-L", "r"):
            until(lambda: seen.count > 1000, 30.0, "a flood of every kind of frame")
            portion = port.drain(100)
            assert len(portion) <= 100
            assert port.counts.left_waiting == 1
        until(lambda: _emptied(port), 10.0, "the end of the flood")
        cansend("vcan0", "123#99")
        assert drained(port, 1) == [Frame(0x123, b"\x99", False)]
        assert port.up
    assert port.counts.remote > 0
    assert port.counts.fd > 0


def _emptied(port: CanPort) -> bool:
    """Drain and return whether that was all: a drain may give no data frame and still leave some waiting."""
    before = port.counts.left_waiting
    port.drain()
    return port.counts.left_waiting == before


def _after_draining(port: CanPort, condition: Callable[[], bool]) -> Callable[[], bool]:
    def asked() -> bool:
        port.drain()
        return condition()

    return asked
