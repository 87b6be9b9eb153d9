"""Who floods, dawdles or reads nothing is ended; others are served meanwhile."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest

from bmsd.errors import BusError
from bmsd.gateway.listening import listening
from bmsd.gateway.web import connections
from bmsd.gateway.web.server import MOST_HEAD_BYTES
from tests.gateway.control_end import ControlEnd, record, wait_for
from tests.gateway.web_end import WebEnd, free_port

PATIENCE_S = 1.0


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WebEnd]:
    monkeypatch.setattr(connections, "PATIENCE_S", PATIENCE_S)
    monkeypatch.setattr(connections, "LOOK_S", 0.1)
    rack = record(strings=8, modules=4)
    with ControlEnd(tmp_path, rack) as control, WebEnd(control.link, most_clients=12, most_per_address=8) as web:
        web.until_good()
        yield web


def open_from(web: WebEnd, address: str = "127.0.0.2", room: int | None = None) -> socket.socket:
    """A connection from another address of this computer."""
    raw = socket.socket()
    if room:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
    raw.bind((address, 0))
    raw.connect(("127.0.0.1", web.settings.web.port))
    raw.settimeout(20)
    return raw


def ended(raw: socket.socket) -> bool:
    """Wait for its end; whatever comes before is thrown away. TimeoutError when it stays open."""
    with suppress(ConnectionResetError):
        while raw.recv(1 << 16):
            pass
    return True


@pytest.mark.parametrize(
    "sent",
    [
        b"", b"GET /health HTTP/1.1\r\nHost: x\r\nX-Slow: ", b"GET /health HTTP/1.1\r\nHost: x\r\n\r\nGET /hea",
        b"POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc",
    ],
    ids=["nothing", "half a head", "half a head after a request", "half a body"],
)  # fmt: skip
def test_who_does_not_finish_a_request_is_ended(web: WebEnd, sent: bytes) -> None:
    with open_from(web) as raw:
        began_s = time.monotonic()
        raw.sendall(sent)
        assert ended(raw)
        assert time.monotonic() - began_s < PATIENCE_S + 10.0


def test_who_drips_a_head_is_ended_however_busy_it_is(web: WebEnd) -> None:
    with open_from(web) as raw:
        raw.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        began_s = time.monotonic()
        with suppress(ConnectionResetError, BrokenPipeError):
            while time.monotonic() < began_s + 30.0:
                raw.sendall(b"x")
                time.sleep(0.1)
        assert time.monotonic() < began_s + 20.0


def test_who_asks_for_much_and_reads_nothing_is_ended(web: WebEnd) -> None:
    with open_from(web, room=4096) as raw:
        raw.settimeout(5.0)
        with suppress(TimeoutError, ConnectionResetError, BrokenPipeError):
            raw.sendall(b"GET /api/v1/snapshot HTTP/1.1\r\nHost: x\r\n\r\n" * 500)
        began_s = time.monotonic()
        wait_for(lambda: address_count(web, "127.0.0.2") == 0)
        assert time.monotonic() - began_s < PATIENCE_S + 10.0


def address_count(web: WebEnd, address: str) -> int:
    """Connections from this address to the server, as the kernel counts them."""
    wanted = "".join(f"{int(part):02X}" for part in reversed(address.split(".")))
    port = f"{web.settings.web.port:04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[1].endswith(f":{port}") and row[2].startswith(wanted) and row[3] == "01" for row in rows)


def test_who_asks_again_and_again_on_one_connection_stays(web: WebEnd) -> None:
    with open_from(web) as raw:
        until_s = time.monotonic() + 3.0 * PATIENCE_S
        while time.monotonic() < until_s:
            raw.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = b""
            while not answer.endswith(b'{"status":"live"}'):
                part = raw.recv(4096)
                assert part, "it was ended"
                answer += part
            time.sleep(0.4)


def test_a_flood_from_one_address_leaves_room_for_another(web: WebEnd) -> None:
    with ExitStack() as stack:
        flood = [stack.enter_context(open_from(web)) for _ in range(40)]
        for _ in range(20):
            assert web.get("/health")["status"] == "good"
        time.sleep(0.2)
        assert address_count(web, "127.0.0.2") <= 8
        assert all(ended(raw) for raw in flood)


def test_there_are_never_more_connections_than_allowed(web: WebEnd) -> None:
    with ExitStack() as stack:
        addresses = [f"127.0.0.{number}" for number in range(2, 12)]
        for _ in range(3):
            for address in addresses:
                stack.enter_context(open_from(web, address))
        time.sleep(0.2)
        assert sum(address_count(web, address) for address in addresses) <= 12
    wait_for(lambda: sum(address_count(web, address) for address in addresses) == 0)
    web.until_good()


def test_a_head_that_is_too_long_is_refused(web: WebEnd) -> None:
    with open_from(web) as raw:
        with suppress(ConnectionResetError, BrokenPipeError):
            raw.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 8 * MOST_HEAD_BYTES)
        assert ended(raw)
    web.until_good()


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"GET\r\n\r\n", b"\x00" * 100, b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)  # fmt: skip
def test_what_is_no_request_ends_that_connection_only(
    web: WebEnd, sent: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    with open_from(web) as raw:
        raw.sendall(sent)
        assert ended(raw)
    web.until_good()
    said = capfd.readouterr()
    assert "Invalid HTTP" not in said.out + said.err, "a client's errors do not fill the log"


def stream_from(web: WebEnd) -> socket.socket:
    """A reader of the stream that takes next to nothing."""
    raw = open_from(web, room=4096)
    raw.sendall(
        b"GET /api/v1/stream HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    assert raw.recv(32).startswith(b"HTTP/1.1 101")
    return raw


@pytest.mark.parametrize(
    "frame",
    [b"\x89\xfd\0\0\0\0" + b"x" * 125, b"\x89\x80\0\0\0\0", b"\x8a\x80\0\0\0\0"],
    ids=["pings", "empty pings", "pongs that nobody asked for"],
)
def test_a_reader_of_the_stream_who_floods_is_ended(web: WebEnd, frame: bytes) -> None:
    with stream_from(web) as raw:
        with suppress(ConnectionResetError, BrokenPipeError):
            for _ in range(1000):
                raw.sendall(frame * 1000)
            raise AssertionError("all of it was taken")
        wait_for(lambda: address_count(web, "127.0.0.2") == 0)


def test_a_message_of_endless_empty_parts_ends_its_reader(web: WebEnd) -> None:
    with stream_from(web) as raw, suppress(ConnectionResetError, BrokenPipeError):
        began_s = time.monotonic()
        raw.sendall(b"\x01\x80\0\0\0\0" + b"\x00\x80\0\0\0\0" * connections.MOST_PARTS)
        assert ended(raw)
        assert time.monotonic() - began_s < 10.0


def test_a_reader_of_the_stream_may_ping(web: WebEnd) -> None:
    with stream_from(web) as raw:
        for _ in range(20):
            raw.sendall(b"\x89\x84\0\0\0\0ping")
            time.sleep(0.1)
        assert address_count(web, "127.0.0.2") == 1


def test_many_at_once_are_all_answered(web: WebEnd) -> None:
    async def ask() -> list[int]:
        limits = httpx.Limits(max_connections=6)
        async with httpx.AsyncClient(base_url=web.base, limits=limits, timeout=60.0, trust_env=False) as client:
            paths = ["/metrics", "/api/v1/snapshot", "/api/v1/points"] * 10
            return [answer.status_code for answer in await asyncio.gather(*(client.get(path) for path in paths))]

    assert asyncio.run(ask()) == [200] * 30


async def test_a_name_stands_for_all_its_addresses() -> None:
    sockets = await listening("web", "localhost", free_port())
    try:
        assert "127.0.0.1" in [one.getsockname()[0] for one in sockets]
    finally:
        for one in sockets:
            one.close()


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("192.0.2.1", "this computer has no such address"), ("no.such.name.invalid", "is no address of a computer"),
        ("a" * 300, "is no address of a computer"), ("::g", "is no address of a computer"),
        ("a\0", "is no address of a computer"),
    ],
)  # fmt: skip
async def test_an_address_that_is_none_is_named_with_what_to_do(host: str, words: str) -> None:
    with pytest.raises(BusError, match=words) as caught:
        await listening("web", host, 8080)
    assert f"{host} port 8080" in str(caught.value)
    assert "[web]" in str(caught.value)


async def test_a_taken_port_is_named_with_what_to_do() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(BusError, match=f"127.0.0.1 port {port}: .* the port is taken; .*another \\[web\\] port"):
            await listening("web", "127.0.0.1", port)
