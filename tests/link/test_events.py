"""Events on the link: in order, in their own lane, bounded; readers that lie about what they have."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from bmsd.codec import record
from bmsd.link import wire
from bmsd.link.server import MOST_ACKS_AT_ONCE, MOST_EVENTS, MOST_EVENTS_AT_ONCE, LinkServer
from bmsd.model.event import Event
from bmsd.model.published import PROTOCOL, Hello


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "link.sock"


@pytest.fixture
def server(path: Path) -> Iterator[LinkServer]:
    server = LinkServer(path, path.with_name("service.sock"), Hello(PROTOCOL, "boot", "rack", 1, 1, 16, 4))
    yield server
    server.close()


class Reader:
    """A raw end of the link, its hello read."""

    def __init__(self, server: LinkServer, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.connect(str(path))
        self.socket.setblocking(False)
        self._server = server
        server.step()
        assert isinstance(wire.unpack(self.socket.recv(4096)), Hello)

    def acknowledges(self, number: object) -> None:
        """Send an acknowledgement, of which the number may be anything, and let the server take it."""
        self.socket.send(bytes([wire.Kind.ACK]) + record.encode({"number": number}))
        self._server.step()
        self._server.tell(())

    def heard(self) -> list[int]:
        """Return the numbers of the events that wait here."""
        numbers = []
        try:
            while data := self.socket.recv(1 << 16):
                numbers.append(wire.unpack(data).number)
        except BlockingIOError:
            pass
        return numbers

    @property
    def dropped(self) -> bool:
        try:
            return self.socket.recv(1 << 16) == b""
        except BlockingIOError:
            return False
        except ConnectionResetError:
            return True


def told(server: LinkServer, first: int, last: int) -> None:
    """Tell these events, as ticks do."""
    for number in range(first, last + 1):
        server.tell([Event(number, 1.0, None, "fault.raised", "warning", f"event {number}")])


def later_reader(server: LinkServer, path: Path) -> list[int]:
    """Return what somebody who comes now is told within a few ticks."""
    reader = Reader(server, path)
    reader.acknowledges(0)
    for _ in range(MOST_EVENTS // MOST_EVENTS_AT_ONCE + 1):
        server.tell(())
    heard = reader.heard()
    reader.socket.close()
    server.step()
    return heard


def test_who_does_not_ask_for_events_gets_none(server: LinkServer, path: Path) -> None:
    reader = Reader(server, path)
    told(server, 1, 3)
    assert reader.heard() == []


def test_a_reader_gets_what_is_not_acknowledged_yet_and_then_the_new_ones(server: LinkServer, path: Path) -> None:
    told(server, 1, 5)
    reader = Reader(server, path)
    reader.acknowledges(3)
    assert reader.heard() == [4, 5]
    told(server, 6, 7)
    assert reader.heard() == [6, 7]
    assert later_reader(server, path) == [4, 5, 6, 7]


def test_a_reader_that_never_acknowledges_costs_the_oldest_events_only(server: LinkServer, path: Path) -> None:
    silent = Reader(server, path)
    silent.acknowledges(0)
    gateway = Reader(server, path)
    gateway.acknowledges(0)
    told(server, 1, 10)
    gateway.acknowledges(10)
    assert later_reader(server, path) == [], "who never acknowledges keeps nothing for others"
    told(server, 11, MOST_EVENTS + 30)
    assert later_reader(server, path) == list(range(31, MOST_EVENTS + 31)), "the gap in the numbers says what is lost"


def test_what_is_forgotten_before_a_reader_had_it_is_counted(server: LinkServer, path: Path) -> None:
    told(server, 1, MOST_EVENTS)
    assert server.forgotten == 0
    told(server, MOST_EVENTS + 1, MOST_EVENTS + 5)
    assert server.forgotten == 5, "nobody was there"
    gateway = Reader(server, path)
    gateway.acknowledges(MOST_EVENTS + 5)
    told(server, MOST_EVENTS + 6, 2 * MOST_EVENTS + 5)
    assert server.forgotten == 5, "what is safe is not lost"


@pytest.mark.parametrize("number", [4, 1_000_000, 2**63, 2**64 - 1, -1, -(2**63), "3", 1.0, None, True])
def test_a_reader_that_acknowledges_what_was_never_told_is_dropped_and_nothing_is_forgotten(
    server: LinkServer, path: Path, number: object
) -> None:
    told(server, 1, 3)
    liar = Reader(server, path)
    liar.acknowledges(number)
    assert liar.dropped
    assert later_reader(server, path) == [1, 2, 3]


def test_an_event_is_kept_until_every_reader_that_acknowledges_has_it(server: LinkServer, path: Path) -> None:
    one, other = Reader(server, path), Reader(server, path)
    told(server, 1, 9)
    one.acknowledges(2)
    other.acknowledges(9)
    assert later_reader(server, path) == [3, 4, 5, 6, 7, 8, 9]
    one.acknowledges(5)
    one.acknowledges(1)
    assert later_reader(server, path) == [6, 7, 8, 9], "an older number takes nothing back"


def test_a_request_is_taken_past_the_acknowledgements_before_it_but_not_past_any_number(
    server: LinkServer, path: Path
) -> None:
    reader = Reader(server, path)
    told(server, 1, 3 * MOST_ACKS_AT_ONCE)
    request = wire.pack(wire.Asked("reset", "all"))
    for acknowledgements, steps in ((MOST_ACKS_AT_ONCE - 1, 1), (2 * MOST_ACKS_AT_ONCE, 3)):
        for number in range(1, acknowledgements + 1):
            reader.socket.send(wire.pack(wire.Ack(number)))
        reader.socket.send(request)
        answered: list[wire.Answered] = []
        for _ in range(steps):
            assert not answered
            server.step()
            answered += server.answered
        assert len(answered) == 1


def test_a_late_reader_is_told_a_bounded_number_in_one_tick(server: LinkServer, path: Path) -> None:
    told(server, 1, 3 * MOST_EVENTS_AT_ONCE)
    reader = Reader(server, path)
    reader.acknowledges(0)
    assert len(reader.heard()) == MOST_EVENTS_AT_ONCE
    server.tell(())
    assert len(reader.heard()) == MOST_EVENTS_AT_ONCE


def test_a_reader_without_room_gets_its_events_when_it_reads_again(server: LinkServer, path: Path) -> None:
    reader = Reader(server, path)
    reader.acknowledges(0)
    for number in range(1, MOST_EVENTS + 1):
        server.tell([Event(number, 1.0, None, "fault.raised", "warning", "x" * 4000)])
    heard = reader.heard()
    assert 0 < len(heard) < MOST_EVENTS
    for _ in range(MOST_EVENTS // MOST_EVENTS_AT_ONCE + 1):
        server.tell(())
        heard += reader.heard()
    assert heard == list(range(1, MOST_EVENTS + 1))
