"""bmsd-gateway.service killed, flooded and out of memory: control does not notice."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from tests.systemd.served import CONTROL, GATEWAY, STARTED_WITHIN_S, Served, Ticks, Unit, run
from tests.vcan.processes import until
from tests.vcan.slave_bus import identifier
from tests.vcan.stall import METER
from tests.vcan.wire import gaps_s

pytestmark = pytest.mark.systemd

TICK_S = 0.1
MODBUS, WEB = 1502, 8080
READ = bytes.fromhex("000100000006010400000064")
"""100 input registers of unit 1."""
ASK = b"GET /metrics HTTP/1.1\r\nHost: rack\r\n\r\n"


@contextmanager
def undisturbed(served: Served) -> Iterator[None]:
    """What control sends meanwhile is as regular as ever, and it is the same process."""
    pid, restarts, wires = CONTROL.pid, CONTROL.restarts, served.whole.field.count
    began_s = time.time()
    with Ticks() as ticks:
        yield
    beats = served.whole.field.of(identifier("Heartbeat"), after=wires)
    assert len(beats) > 20
    longest_s = max(gaps_s(beats))
    assert longest_s < 1.5 * TICK_S + METER.lost_s(began_s), "SYS-001 would be raised from 1.5 periods on"
    latest_s = max(record.lateness_s for record in ticks.records)
    assert latest_s < 0.5 * TICK_S + METER.lost_s(began_s)
    assert "SYS-001" not in {fault.code for record in ticks.records for fault in record.faults}
    assert (CONTROL.pid, CONTROL.restarts) == (pid, restarts)


class Flood:
    """As many requests as the guest can make: eight clients that never wait for an answer before the next question."""

    def __init__(self) -> None:
        self._ended = threading.Event()
        self.answers = 0
        self._threads = [
            threading.Thread(target=self._ask, args=(port, question))
            for port, question in ((MODBUS, READ), (WEB, ASK))
            for _ in range(4)
        ]

    def __enter__(self) -> Flood:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, port: int, question: bytes) -> None:
        while not self._ended.is_set():
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=2.0) as client:
                while not self._ended.is_set():
                    client.sendall(question * 4)
                    self.answers += bool(client.recv(65536))


def test_killed_it_comes_back_and_the_sockets_of_control_stay(running: Served) -> None:
    restarts = GATEWAY.restarts
    with undisturbed(running):
        GATEWAY.signal(signal.SIGKILL)
        GATEWAY.restarted(restarts)


def test_flooded_it_keeps_the_flood_to_itself(running: Served) -> None:
    with undisturbed(running), Flood() as flood:
        time.sleep(6.0)
    assert flood.answers > 0, "it served meanwhile, as far as control left it the processor"


def test_out_of_memory_it_alone_is_killed(running: Served) -> None:
    restarts, began_s = GATEWAY.restarts, time.time()
    with undisturbed(running):
        run("systemctl", "set-property", "--runtime", GATEWAY.name, "MemoryMax=8M", "MemoryHigh=infinity")
        GATEWAY.says("oom-kill", began_s, within_s=60.0)
        run("systemctl", "set-property", "--runtime", GATEWAY.name, "MemoryMax=256M", "MemoryHigh=224M")
        GATEWAY.restarted(restarts)


@pytest.mark.usefixtures("running")
def test_without_control_it_goes_on_and_says_so() -> None:
    pid = GATEWAY.pid
    CONTROL.stop()
    try:
        until(lambda: "control, which does not answer" in GATEWAY.show("StatusText"), 10.0, "its status says so")
        assert (GATEWAY.alive, GATEWAY.pid) == (True, pid)
    finally:
        CONTROL.start()
    until(lambda: GATEWAY.show("StatusText") == "serves modbus, web", 10.0, "it has control again")
    assert GATEWAY.pid == pid


def test_modbus_on_its_own_port_is_handed_over_by_systemd(running: Served) -> None:
    port = Unit("bmsd-gateway-modbus.socket")
    with undisturbed(running):
        GATEWAY.stop()
        port.start()
        try:
            with socket.create_connection(("127.0.0.1", 502), timeout=STARTED_WITHIN_S) as client:
                client.sendall(READ)  # the first connection starts it
                answer = client.recv(1024)
            assert answer[:2] == READ[:2]
            assert len(answer) == 9 + 200
            until(lambda: GATEWAY.alive, STARTED_WITHIN_S, "its other outputs serve, too")
        finally:
            port.stop()
            GATEWAY.stop()
