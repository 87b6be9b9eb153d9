"""Control's link over real sockets: records, requests and their answers, slow and hostile readers."""

from __future__ import annotations

import grp
import os
import resource
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bmsd.codec import record
from bmsd.core import memory
from bmsd.core.protection.protect import Protections
from bmsd.core.tick import tick
from bmsd.errors import BusError, FrameError
from bmsd.link import wire
from bmsd.link.client import LinkClient
from bmsd.link.server import MOST_CLIENTS, LinkServer
from bmsd.model.points import POINTS, values
from bmsd.model.published import PROTOCOL, BusStatus, Hello, Published, StringStatus
from bmsd.model.request import Connect, Power, Release, Request, Reserve, Reset, Role, Shutdown
from tests import rack as racks


def published(sequence: int, strings: int = 2, modules: int = 16) -> Published:
    plant = racks.plant(strings, modules)
    protections = Protections.of(plant, 2)
    outcome = tick(plant, protections, memory.start(plant, protections), racks.snapshot(plant, 10.0))
    return Published(
        sequence, "idle", outcome.snapshot, outcome.estimate, outcome.faults, outcome.limits.charge,
        outcome.limits.discharge, outcome.command, outcome.vetoes,
        tuple(StringStatus(s.state.value, s.since_s, s.reason) for s in outcome.contactors),
        (BusStatus("field", "vcan0", 1, 2, {"crc": 3}),), ("module 1 of string 1",), 0.001,
    )  # fmt: skip


@pytest.fixture
def paths(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "link.sock", tmp_path / "service.sock"


@pytest.fixture
def server(paths: tuple[Path, Path]) -> Iterator[LinkServer]:
    server = LinkServer(*paths, Hello(PROTOCOL, "boot", "rack", 2, 16, 16, 4))
    yield server
    server.close()


def connected(server: LinkServer, path: Path) -> LinkClient:
    """A client connects while the server steps: hello is sent on accept."""
    raw = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    raw.close()
    import threading

    box: list[LinkClient] = []
    thread = threading.Thread(target=lambda: box.append(LinkClient(path)))
    thread.start()
    while thread.is_alive():
        server.step()
        thread.join(0.005)
    return box[0]


def test_a_reader_gets_hello_and_the_newest_record(server: LinkServer, paths: tuple[Path, Path]) -> None:
    client = connected(server, paths[0])
    for sequence in (1, 2, 3):
        server.publish(published(sequence))
    newest = client.newest(1.0)
    assert client.hello.name == "rack"
    assert newest.sequence == 3
    assert values(newest) == values(published(3))
    assert newest.snapshot.modules.cell_v.dtype == np.float64
    client.close()


def test_a_reader_that_sleeps_never_holds_control(server: LinkServer, paths: tuple[Path, Path]) -> None:
    client = connected(server, paths[0])
    record = published(1)
    for _ in range(500):
        server.publish(record)
    assert server.skipped > 0
    assert client.newest(1.0).sequence == 1
    client.close()


def test_service_asks_and_is_answered(server: LinkServer, paths: tuple[Path, Path]) -> None:
    client = connected(server, paths[1])
    client._socket.send(wire.pack(wire.Asked("reset", "CEL-003", "cell exchanged")))
    assert server.step() == [Reset("CEL-003", Role.SERVICE, "cell exchanged")]
    client._socket.send(wire.pack(wire.Asked("disconnect")))
    assert server.step() == [Connect(False)]
    client.close()


NAN, INF = float("nan"), float("inf")
EMS = "modbus 10.0.0.5"
TAKEN: list[tuple[list[str], wire.Asked, Request]] = [
    (["reset"], wire.Asked("reset", "CEL-003", source=EMS), Reset("CEL-003", Role.OPERATOR, source=EMS)),
    (["reset"], wire.Asked("reset", "all", source=EMS), Reset("all", Role.OPERATOR, source=EMS)),
    (["reserve"], wire.Asked("reserve", value=0.25, lease_s=3600.0, source=EMS), Reserve(0.25, 3600.0, EMS)),
    (["power"], wire.Asked("power", value=-4000, lease_s=1, source=EMS), Power(-4000.0, 1.0, EMS)),
    (["power"], wire.Asked("release", "power", source=EMS), Release("power", EMS)),
]


@pytest.mark.parametrize(("takes", "asked", "request_"), TAKEN)
def test_readers_may_ask_what_control_is_set_to_take_and_nothing_else(
    paths: tuple[Path, Path], takes: list[str], asked: wire.Asked, request_: Request
) -> None:
    every = ["reset", "reserve", "power"]
    for allowed, taken in ((takes, True), ([one for one in every if one not in takes], False), ([], False)):
        server = LinkServer(*paths, Hello(PROTOCOL, "boot", "rack", 2, 16, 16, 4), takes=allowed)
        client = connected(server, paths[0])
        client.send(asked)
        assert server.step() == ([request_] if taken else [])
        answer = client._receive()
        assert isinstance(answer, wire.Answer)
        assert answer.taken is taken
        assert taken or "not taken on this socket" in answer.text
        (answered,) = server.answered
        assert (answered.asked, answered.answer) == (asked, answer)
        assert EMS in answered.who
        client.close()
        server.close()


@pytest.mark.parametrize(
    "asked",
    [
        wire.Asked("connect"), wire.Asked("disconnect"), wire.Asked("reset", "trip"), wire.Asked("reset", "contactors"),
        wire.Asked("reset", "CEL-004", "with a reason"), wire.Asked("release", "reset"), wire.Asked("release", ""),
        wire.Asked("shutdown"), wire.Asked(""),
    ],
)  # fmt: skip
def test_what_is_for_service_is_not_taken_from_readers_whatever_they_may_ask(
    paths: tuple[Path, Path], asked: wire.Asked
) -> None:
    server = LinkServer(*paths, Hello(PROTOCOL, "", "", 2, 16, 16, 4), takes=["reset", "reserve", "power"])
    client = connected(server, paths[0])
    client.send(asked)
    assert server.step() == []
    assert not server.answered[0].answer.taken
    client.close()
    server.close()


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (wire.Asked("power", value=NAN, lease_s=10.0), "power nan: expected a number -10000000..10000000 W"),
        (wire.Asked("power", value=INF, lease_s=10.0), "power inf"),
        (wire.Asked("power", value=-1.1e7, lease_s=10.0), "power -11000000.0"),
        (wire.Asked("power", value=1.0, lease_s=0.9), "lease_s 0.9: expected a number 1..3600 s"),
        (wire.Asked("power", value=1.0, lease_s=3600.1), "lease_s 3600.1"),
        (wire.Asked("power", value=1.0, lease_s=NAN), "lease_s nan"),
        (wire.Asked("power", value=1.0, lease_s=INF), "lease_s inf"),
        (wire.Asked("power", value=1.0), "needs a value and lease_s"),
        (wire.Asked("power", lease_s=10.0), "needs a value and lease_s"),
        (wire.Asked("reserve", value=1.01, lease_s=10.0), "reserve 1.01: expected a state of charge 0..1"),
        (wire.Asked("reserve", value=-0.01, lease_s=10.0), "reserve -0.01"),
        (wire.Asked("reserve", value=NAN, lease_s=10.0), "reserve nan"),
        (wire.Asked("reset", "CEL-004"), "by service, with a reason"),
        (wire.Asked("reset", "XYZ-001", "seen"), "'XYZ-001' is not known"),
        (wire.Asked("reset", "all", "x" * 401), "reason: expected at most 400 printable characters"),
        (wire.Asked("connect", source="x" * 65), "source: expected at most 64 printable characters"),
        (wire.Asked("connect", source="\x1b[2J"), "source: expected at most 64 printable characters"),
    ],
)
def test_what_is_out_of_range_is_refused_with_a_sentence(
    server: LinkServer, paths: tuple[Path, Path], asked: wire.Asked, says: str
) -> None:
    client = connected(server, paths[1])
    client.send(asked)
    assert server.step() == []
    answer = client._receive()
    assert isinstance(answer, wire.Answer)
    assert says in answer.text
    assert (server.answered[0].who + server.answered[0].what).isprintable()
    client.close()


def test_a_reader_may_not_reset(server: LinkServer, paths: tuple[Path, Path]) -> None:
    client = connected(server, paths[0])
    client._socket.send(wire.pack(wire.Asked("reset", "all", "x")))
    assert server.step() == []
    answer = wire.unpack(client._socket.recv(4096))
    assert not answer.taken
    client.close()


@pytest.mark.parametrize(
    "data", [b"\x00", b"\x03", b"\x03\xc1", b"\xff" * 5000, wire.pack(wire.Asked("open the door")), b"\x02\x80"]
)
def test_a_hostile_request_is_answered_and_nothing_happens(
    server: LinkServer, paths: tuple[Path, Path], data: bytes
) -> None:
    client = connected(server, paths[1])
    client._socket.send(data)
    assert server.step() == []
    assert not wire.unpack(client._socket.recv(8192)).taken
    client.close()


def test_at_most_ten_requests_a_tick_are_taken(server: LinkServer, paths: tuple[Path, Path]) -> None:
    clients = [connected(server, paths[1]) for _ in range(12)]
    for client in clients:
        client._socket.send(wire.pack(wire.Asked("connect")))
    assert len(server.step()) == 10
    assert len(server.step()) == 2
    for client in clients:
        client.close()


@pytest.mark.usefixtures("server")
def test_the_link_does_not_take_over_a_living_one(paths: tuple[Path, Path]) -> None:
    with pytest.raises(BusError, match="another bmsd listens"):
        LinkServer(*paths, Hello(PROTOCOL, "", "", 1, 1, 1, 1))


def test_nobody_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(BusError, match="does not answer"):
        LinkClient(tmp_path / "none.sock")


def test_a_record_with_a_wrong_type_names_its_field() -> None:
    from bmsd.codec import record

    with pytest.raises(FrameError, match=r"Hello\.strings"):
        record.decode(
            record.encode(
                {"protocol": 1, "boot_id": "", "name": "", "strings": "two", "modules": 1, "cells": 1, "sensors": 1}
            ),
            Hello,
        )


def test_points_have_unique_names_and_addresses_that_do_not_overlap() -> None:
    assert len({point.name for point in POINTS}) == len(POINTS)
    taken = [address for point in POINTS for address in range(point.address, point.address + point.registers)]
    assert len(taken) == len(set(taken))


def test_a_record_with_any_request_reaches_its_readers(server: LinkServer, paths: tuple[Path, Path]) -> None:
    """Also that of a process which is told to leave: `bmsd status` must be able to show how it does."""
    client = connected(server, paths[0])
    asked = (
        Shutdown(),
        Connect(False),
        Reset("all", Role.SERVICE, "seen"),
        Connect(True),
        Reset("trip", Role.OPERATOR),
        Reserve(0.25, 60.0, "modbus 10.0.0.5"),
        Power(-4000.0, 30.0, "modbus 10.0.0.5"),
        Release("power"),
    )
    record = published(1)
    server.publish(replace(record, snapshot=replace(record.snapshot, requests=asked)))
    assert client.newest(timeout_s=1.0).snapshot.requests == asked
    client.close()


@pytest.mark.parametrize("field", ["what", "code", "reason"])
def test_an_array_where_a_text_belongs_is_refused_and_breaks_nothing(
    server: LinkServer, paths: tuple[Path, Path], field: str
) -> None:
    client = connected(server, paths[1])
    plain = {"what": "reset", "code": "all", "reason": "seen"} | {field: np.zeros(3)}
    client._socket.send(bytes([wire.Kind.REQUEST]) + record.encode(plain))
    assert server.step() == []
    answer = client._receive()
    assert isinstance(answer, wire.Answer)
    assert not answer.taken
    assert f"Asked.{field}" in answer.text
    client.close()


def test_readers_take_no_place_from_service(server: LinkServer, paths: tuple[Path, Path]) -> None:
    readers = [connected(server, paths[0]) for _ in range(MOST_CLIENTS)]
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as one_more:
        one_more.connect(str(paths[0]))
        server.step()
        assert one_more.recv(100) == b""
    service = connected(server, paths[1])
    for client in (*readers, service):
        client.close()


def test_the_socket_files_belong_to_their_groups_and_nobody_else_may_open_them(paths: tuple[Path, Path]) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may give a file to any group")
    groups = ("daemon", "mail")
    before = os.umask(0)
    try:
        server = LinkServer(*paths, Hello(PROTOCOL, "", "", 1, 1, 1, 1), groups=groups)
    finally:
        assert os.umask(before) == 0
    assert server.notes == []
    for path, group in zip(paths, groups, strict=True):
        found = path.stat()
        assert (found.st_gid, found.st_mode & 0o777) == (grp.getgrnam(group).gr_gid, 0o660)
    server.close()


def test_a_group_that_does_not_exist_is_said_and_the_link_works(paths: tuple[Path, Path]) -> None:
    server = LinkServer(*paths, Hello(PROTOCOL, "", "", 1, 1, 1, 1), groups=("no-such-group", ""))
    (note,) = server.notes
    assert note.startswith(
        f"{paths[0]}: there is no group no-such-group (groupadd --system no-such-group); user {os.geteuid()} and group "
    )
    assert [path.stat().st_mode & 0o777 for path in paths] == [0o660, 0o660]
    connected(server, paths[0]).close()
    server.close()


def test_who_has_no_room_for_an_answer_is_dropped_and_does_not_take_the_next_for_it(
    server: LinkServer, paths: tuple[Path, Path]
) -> None:
    client = connected(server, paths[1])
    record = published(1)
    while not server.skipped:
        server.publish(record)
    client.send(wire.Asked("disconnect"))
    assert server.step() == [Connect(False)], "what was asked is done, whether or not the answer arrives"
    client.drain()
    with pytest.raises(BusError, match="closed the link"):
        client.drain()
    client.close()


def test_a_computer_without_a_free_file_lets_nobody_in_and_ends_nothing(
    server: LinkServer, paths: tuple[Path, Path]
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    client.connect(str(paths[0]))
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        assert server.step() == []
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    server.step()
    client.settimeout(1.0)
    assert isinstance(wire.unpack(client.recv(wire.MOST_MESSAGE_BYTES)), Hello)
    client.close()
