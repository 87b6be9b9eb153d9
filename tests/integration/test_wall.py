"""Whatever happens to the gateway, control's ticks go on: real processes, from the outside."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.programs import Program, free_port, rack_file
from tests.watcher import Watcher

TICK_S = 0.1
WATCH_S = 4.0
READ_ALL = bytes.fromhex("000100000006010300640024")
"""Registers 100..135 of unit 1."""
GET = b"GET /metrics HTTP/1.1\r\nHost: rack\r\n\r\n"


@dataclass(frozen=True)
class Rack:
    """A rack whose string is closed, with its gateway."""

    link: Path
    gateway: Program
    ports: dict[str, int]


@pytest.fixture(scope="module")
def rack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rack]:
    folder = tmp_path_factory.mktemp("wall")
    (folder / "state").mkdir()
    ports = {"modbus": free_port(), "web": free_port()}
    config = rack_file(folder)
    config.write_text(config.read_text() + "".join(f"[{name}]\nport = {port}\n" for name, port in ports.items()))
    with ExitStack() as stack:
        stack.enter_context(Program(folder, "sim", "-c", config))
        control = stack.enter_context(Program(folder, "run", "-c", config))
        control.wait_for(lambda: "state=closed" in control.err)
        gateway = stack.enter_context(Program(folder, "gateway", "-c", config))
        gateway.wait_for(lambda: "link.open" in gateway.err and all(map(listens, ports.values())))
        yield Rack(folder / "link.sock", gateway, ports)
        assert control.end() == 0


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def answers(port: int, question: bytes) -> bytes:
    """What the gateway says to this."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as peer:
        peer.sendall(question)
        return peer.recv(1 << 16)


@contextmanager
def flood(ports: dict[str, int]) -> Iterator[None]:
    """Four connections to each port that ask without pause, half of which never read."""
    stop = threading.Event()

    def ask(port: int, question: bytes, reads: bool) -> None:
        while not stop.is_set():
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=0.5) as peer:
                while not stop.is_set():
                    peer.sendall(question * 20)
                    if reads:
                        peer.recv(1 << 16)

    questions = {"modbus": READ_ALL, "web": GET}
    threads = [
        threading.Thread(target=ask, args=(port, questions[name], number % 2 == 0))
        for name, port in ports.items()
        for number in range(4)
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@contextmanager
def stopped(gateway: Program) -> Iterator[None]:
    gateway.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        gateway.process.send_signal(signal.SIGCONT)


@contextmanager
def killed(gateway: Program) -> Iterator[None]:
    assert gateway.end(signal.SIGKILL) == -signal.SIGKILL
    yield


TROUBLES: dict[str, Callable[[Rack], object]] = {
    "flooded": lambda rack: flood(rack.ports),
    "stopped": lambda rack: stopped(rack.gateway),
    "killed": lambda rack: killed(rack.gateway),  # last: nobody starts it again
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_no_tick_is_lost_and_none_is_late_whatever_happens_to_the_gateway(rack: Rack, trouble: str) -> None:
    assert answers(rack.ports["modbus"], READ_ALL)[7] == 3
    assert answers(rack.ports["web"], GET).startswith(b"HTTP/1.1 200")
    with TROUBLES[trouble](rack), Watcher(rack.link) as seen:  # type: ignore[attr-defined]
        time.sleep(WATCH_S)
    assert len(seen.sequences) > WATCH_S / TICK_S / 2
    assert seen.sequences == list(range(seen.sequences[0], seen.sequences[0] + len(seen.sequences)))
    assert seen.codes & {"SYS-001", "SYS-019", "CUR-008", "MOD-001"} == set(), "no deadline was missed so that it shows"
