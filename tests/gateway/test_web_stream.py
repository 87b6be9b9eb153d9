"""The stream over real WebSockets: each reader gets what it asked for, nobody waits for one that does not read."""

from __future__ import annotations

import base64
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, InvalidStatus
from websockets.sync.client import connect
from websockets.sync.connection import Connection

from bmsd.gateway.feed import STALE_S
from bmsd.gateway.web import connections, server
from tests.gateway.control_end import STEP_S, ControlEnd, record, wait_for
from tests.gateway.web_end import WebEnd


@pytest.fixture
def ends(tmp_path: Path) -> Iterator[tuple[ControlEnd, WebEnd]]:
    with ControlEnd(tmp_path, record(strings=8, modules=4)) as control, WebEnd(control.link, most_streams=3) as web:
        web.until_good()
        yield control, web


@pytest.fixture
def web(ends: tuple[ControlEnd, WebEnd]) -> WebEnd:
    return ends[1]


def reader(web: WebEnd, query: str = "every=0.1", **options: Any) -> Connection:
    return connect(f"{web.stream}?{query}", proxy=None, close_timeout=1, **options)


def take(stream: Connection) -> dict[str, Any]:
    return json.loads(stream.recv(timeout=20))


def until(stream: Connection, *, stale: bool) -> dict[str, Any]:
    """The next message that says so."""
    while (message := take(stream))["stale"] is not stale:
        pass
    return message


def silent_reader(web: WebEnd, query: str, room: int = 4096) -> socket.socket:
    """A reader that shakes hands and then neither reads nor answers pings."""
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
    raw.connect(("127.0.0.1", web.settings.web.port))
    key = base64.b64encode(os.urandom(16)).decode()
    raw.sendall(
        f"GET /api/v1/stream?{query} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
    )
    raw.settimeout(20)
    assert b" 101 " in raw.recv(32)
    return raw


def readers(web: WebEnd) -> int:
    text = web.client.get("/metrics").text
    time.sleep(0.1)
    return int(float(text.partition("\nbmsd_stream_readers ")[2].split()[0]))


def test_a_reader_gets_newer_records_at_its_own_pace(web: WebEnd) -> None:
    with reader(web, "every=0.3") as stream:
        began_s = time.monotonic()
        shown = [take(stream) for _ in range(4)]
        assert time.monotonic() - began_s >= 0.8
        numbers = [one["sequence"] for one in shown]
        assert numbers == sorted(set(numbers))
        assert all(one["age_s"] < STALE_S and one["boot_id"] == "boot-1" for one in shown)
        assert shown[0]["points"]["cell_min_v"] == 3.3
        assert len(shown[0]["strings"]) == 8
        assert shown[0]["faults"] == []
        assert "cells" not in shown[0]


def test_cells_come_when_they_are_asked_for(web: WebEnd) -> None:
    with reader(web, "every=0.1&cells=true") as stream, reader(web, "every=0.1") as other:
        assert np.array(take(stream)["cells"]["voltage_v"]).shape == (8, 4, 16)
        assert "cells" not in take(other)


def test_the_loss_of_control_is_told_at_once_also_to_a_slow_pace_and_so_is_its_return(
    ends: tuple[ControlEnd, WebEnd],
) -> None:
    control, web = ends
    with reader(web, "every=60") as stream:
        assert take(stream)["stale"] is False
        control.publishing = False
        web.until_stale()
        lost = take(stream)
        assert (lost["stale"], lost["cause"]) == (True, "silent")
        assert "points" not in lost
        web.late_s = 0.0
        control.publishing = True
        assert until(stream, stale=False)["points"]


def test_within_two_seconds_of_its_last_record_control_is_called_lost(ends: tuple[ControlEnd, WebEnd]) -> None:
    control, web = ends
    with reader(web) as stream:
        take(stream)
        control.publishing = False
        began_s = time.monotonic()
        until(stream, stale=True)
        assert time.monotonic() - began_s < STALE_S + 0.75


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("every=0.05", "greater than or equal to 0.1"), ("every=61", "less than or equal to 60"),
        ("every=nan", "every: 'nan'"), ("every=often", "valid number"), ("cells=perhaps", "valid boolean"),
        ("evry=1", "evry"),
    ],
)  # fmt: skip
def test_a_wrong_parameter_is_refused_with_the_reason(web: WebEnd, query: str, words: str) -> None:
    with pytest.raises(InvalidStatus) as refused:
        reader(web, query)
    assert refused.value.response.status_code == 422
    assert words in json.loads(refused.value.response.body)["detail"]


def test_too_many_readers_are_told_to_come_later(web: WebEnd) -> None:
    with ExitStack() as stack:
        within = [stack.enter_context(reader(web)) for _ in range(3)]
        for stream in within:
            take(stream)
        with reader(web) as fourth, pytest.raises(ConnectionClosed) as closed:
            fourth.recv(timeout=20)
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1013, "3 readers are here already")
        take(within[0])
    wait_for(lambda: readers(web) == 0)
    with reader(web) as stream:
        take(stream)


def test_a_page_of_another_origin_may_not_read_and_is_no_news(web: WebEnd) -> None:
    with capture_logs() as logs:
        with pytest.raises(InvalidStatus) as refused:
            reader(web, origin="http://elsewhere.example")
        assert refused.value.response.status_code == 403
        with reader(web, origin=web.base) as stream:
            take(stream)
    assert logs == []


def test_what_a_reader_says_is_ignored_and_much_of_it_ends_it(web: WebEnd) -> None:
    with reader(web) as stream:
        for _ in range(50):
            stream.send("{}")
            stream.send(b"\x00")
        take(stream)
        stream.send("x" * (server.MOST_INBOUND_BYTES + 1))
        with suppress(ConnectionClosedError):
            for _ in stream:
                pass
        assert stream.close_code == 1009


def test_a_reader_that_takes_nothing_holds_up_nobody_and_leaves_in_the_end(
    web: WebEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "PATIENCE_S", 2.0)
    with silent_reader(web, "every=0.1&cells=true") as silent, reader(web) as stream:
        assert readers(web) == 2
        for _ in range(20):
            assert take(stream)["age_s"] < 0.5
        wait_for(lambda: readers(web) == 1)  # before its ping is due
        take(stream)
        with suppress(ConnectionResetError):
            while silent.recv(1 << 16):
                pass  # TimeoutError when it is still open


def test_a_reader_that_pauses_misses_what_was_said_then_and_hears_what_is_new(web: WebEnd) -> None:
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.connect(("127.0.0.1", web.settings.web.port))
    with reader(web, "every=0.1&cells=true", sock=raw, max_queue=1) as stream:
        began_s = time.monotonic()
        first = take(stream)["sequence"]
        time.sleep(4.0)
        numbers = [take(stream)["sequence"] for _ in range(25)]
        steps = np.diff([first, *numbers])
        assert steps.min() >= 1
        assert steps.max() > 3.0 * np.median(steps), "a gap where the reader was paused"
        assert numbers[-1] - first > 0.5 * (time.monotonic() - began_s) / STEP_S, "and no delay afterwards"


def test_a_dead_reader_is_dropped_when_it_answers_no_ping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "PING_S", 0.3)
    with ControlEnd(tmp_path) as control, WebEnd(control.link) as web:
        web.until_good()
        with silent_reader(web, "every=60", room=1 << 16), reader(web, "every=0.1") as alive:
            assert readers(web) == 2
            wait_for(lambda: readers(web) == 1)
            time.sleep(1.0)
            assert readers(web) == 1, "who answers pings stays"
            take(alive)


def test_readers_that_vanish_leave_no_trace(web: WebEnd) -> None:
    for _ in range(10):
        raw = silent_reader(web, "every=0.1&cells=true")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        raw.close()
    wait_for(lambda: readers(web) == 0)
