"""The gateway as a process among clients that mean no good, while one that does goes on reading."""

from __future__ import annotations

import random
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from serving import adu, free_port

from tests.gateway.control_end import ControlEnd
from tests.programs import Program

READ = adu(0, "0300640024")[2:]


class WellBehaved(threading.Thread):
    """Reads the rack's block every few milliseconds and remembers how long each took, in s."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self.times: list[float] = []
        self.failed: Exception | None = None
        self.enough = threading.Event()
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=20)

    def run(self) -> None:
        try:
            while not self.enough.wait(0.002):
                self._read(len(self.times) & 0xFFFF)
        except (OSError, AssertionError) as error:
            self.failed = error
        self._socket.close()

    def _read(self, number: int) -> None:
        began = time.monotonic()
        self._socket.sendall(struct.pack(">H", number) + READ)
        answer = b""
        while len(answer) < 9 + 72:
            data = self._socket.recv(4096)
            assert data, "it was dropped"
            answer += data
        assert answer[:9] == struct.pack(">HHHBBB", number, 0, 75, 1, 3, 72)
        assert struct.unpack_from(">f", answer, 9)[0] == pytest.approx(105.6)
        self.times.append(time.monotonic() - began)


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[tuple[Program, int]]:
    port = free_port()
    file = tmp_path / "rack.toml"
    with ControlEnd(tmp_path) as control:
        file.write_text(
            f'[rack]\nname = "rack"\n[link]\nsocket = "{control.link}"\n[web]\nenabled = false\n'
            f'[modbus]\nport = {port}\nmost_clients = 12\nwriters = ["127.0.0.1"]\n'
            'writable = ["alarm_reset", "controller_heartbeat", "reserve_soc", "power_setpoint"]\n'
        )
        with Program(tmp_path, "gateway", "-c", file) as process:
            process.wait_for(lambda: answers(port))
            yield process, port


def answers(port: int) -> bool:
    """Whether the rack is served."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        client.sendall(adu(1, "0300000001"))
        return client.recv(100)[-2:] != b"\xff\xff"
    return False


@pytest.fixture
def reader(gateway: tuple[Program, int]) -> Iterator[WellBehaved]:
    """A client that must not notice anything."""
    found = WellBehaved(gateway[1])
    found.start()
    yield found
    found.enough.set()
    found.join()
    assert found.failed is None
    assert len(found.times) > 20


def ends_well(process: Program) -> None:
    """The process has not stumbled, and leaves when it is told to."""
    assert process.end() == 0
    assert "Traceback" not in process.err
    assert "Exception" not in process.err


def hostile(chance: random.Random) -> bytes:
    """A request that no honest client sends, or only by mistake."""
    good = adu(chance.randrange(0x10000), chance.choice(GOOD), chance.choice((0, 1, 255)))
    match chance.randrange(6):
        case 0:
            return chance.randbytes(chance.randrange(1, 300))
        case 1:
            return good[: chance.randrange(1, len(good))]
        case 2:
            spoiled = bytearray(good)
            for _ in range(chance.randrange(1, 5)):
                spoiled[chance.randrange(len(spoiled))] = chance.randrange(256)
            return bytes(spoiled)
        case 3:
            return adu(0, chance.randbytes(chance.randrange(1, 253)), chance.randrange(256))
        case 4:
            return struct.pack(">HHHB", 0, 0, chance.choice((0, 1, 2, 253, 254, 255, 0xFFFF)), 1) + chance.randbytes(9)
        case _:
            return good * chance.randrange(1, 200)


GOOD = ("030000007d", "0300640024", "0600ca0001", "1000cc00020400000001", "1600ca00000001", "2b0e0100", "0100000001")


def test_a_thousand_hostile_requests(gateway: tuple[Program, int], reader: WellBehaved) -> None:
    process, port = gateway
    chance = random.Random(20261126)
    for _ in range(1000):
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as client:
            client.sendall(hostile(chance))
            if chance.random() < 0.3:
                client.settimeout(0.02)
                client.recv(1000)
            if chance.random() < 0.2:  # leave with a reset instead of an end
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    process.wait_for(lambda: answers(port))
    reader.enough.set()
    reader.join()
    ends_well(process)


def test_clients_that_flood_and_never_read(gateway: tuple[Program, int], reader: WellBehaved) -> None:
    process, port = gateway
    burst = b"".join(adu(number, "030000007d") for number in range(500))
    clients = [socket.create_connection(("127.0.0.1", port), timeout=5) for _ in range(8)]
    until_s = time.monotonic() + 2.0
    for client in clients:
        client.setblocking(False)
    while time.monotonic() < until_s:
        for client in clients:
            with suppress(BlockingIOError):
                client.send(burst)
        time.sleep(0.001)
    before = len(reader.times)
    time.sleep(0.3)
    assert len(reader.times) > before, "the one that reads is still served"
    memory_kb = int(Path(f"/proc/{process.process.pid}/status").read_text().split("VmRSS:")[1].split()[0])
    for client in clients:
        client.close()
    assert memory_kb < 250_000
    reader.enough.set()
    reader.join()
    ends_well(process)


def test_connections_that_come_and_go(gateway: tuple[Program, int], reader: WellBehaved) -> None:
    process, port = gateway
    kept = []
    for number in range(400):
        with suppress(OSError):
            client = socket.create_connection(("127.0.0.1", port), timeout=5)
            if number % 3:
                client.close()
            else:
                kept.append(client)
    before = len(reader.times)
    time.sleep(0.2)
    assert len(reader.times) > before
    for client in kept:
        client.close()
    process.wait_for(lambda: answers(port))
    reader.enough.set()
    reader.join()
    ends_well(process)
