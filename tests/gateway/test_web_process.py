"""The gateway as its users run it: a process of its own beside control, with its web output only."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from bmsd.gateway.feed import STALE_S
from tests.gateway.control_end import ControlEnd
from tests.gateway.web_end import free_port
from tests.programs import Program, bmsd, rack_file

MOST_MIB = 180
"""What control and gateway may take together."""


def gateway_file(folder: Path, **web: object) -> Path:
    """A rack whose gateway serves web only."""
    path = rack_file(folder)
    table = "\n".join(f"{name} = {json.dumps(value)}" for name, value in {"port": free_port(), **web}.items())
    path.write_text(f"{path.read_text()}[modbus]\nenabled = false\n[web]\n{table}\n")
    return path


def base(config: Path) -> str:
    port = config.read_text().rpartition("port = ")[2].split()[0]
    return f"http://127.0.0.1:{port}"


def ask(config: Path, path: str) -> httpx.Response | None:
    """The answer, None while nobody listens."""
    try:
        return httpx.get(base(config) + path, timeout=20.0, trust_env=False)
    except httpx.TransportError:
        return None


def status(config: Path, path: str = "/health") -> int:
    answer = ask(config, path)
    return answer.status_code if answer else 0


def resident_mib(program: Program) -> float:
    text = Path(f"/proc/{program.process.pid}/status").read_text()
    return int(text.partition("VmRSS:")[2].split()[0]) / 1024.0


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, Program, ControlEnd]]:
    config = gateway_file(tmp_path)
    with ControlEnd(tmp_path) as control, Program(tmp_path, "gateway", "-c", config) as gateway:
        gateway.wait_for(lambda: status(config) == 200)
        yield config, gateway, control


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_in_order_with_readers_connected(
    served: tuple[Path, Program, ControlEnd], number: signal.Signals
) -> None:
    config, gateway, _ = served
    url = base(config).replace("http", "ws") + "/api/v1/stream?every=0.1"
    with connect(url, proxy=None) as stream:
        stream.recv(timeout=20)
        began_s = time.monotonic()
        assert gateway.end(number) == 0
        assert time.monotonic() - began_s < 10.0
        with suppress(ConnectionClosed):
            while stream.recv(timeout=20):
                pass
        assert stream.close_code == 1012
    assert "gateway.left" in gateway.err
    assert "Traceback" not in gateway.err
    assert status(config) == 0


def test_it_ends_in_order_with_one_connected_who_reads_nothing(served: tuple[Path, Program, ControlEnd]) -> None:
    config, gateway, _ = served
    with socket.socket() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.connect(("127.0.0.1", int(base(config).rpartition(":")[2])))
        raw.settimeout(2.0)
        with suppress(TimeoutError):
            raw.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 200)
        assert gateway.end() == 0
    assert "Traceback" not in gateway.err


def test_a_killed_gateway_comes_back_on_its_port_and_control_does_not_notice(
    served: tuple[Path, Program, ControlEnd], tmp_path: Path
) -> None:
    config, gateway, control = served
    with connect(base(config).replace("http", "ws") + "/api/v1/stream", proxy=None) as stream:
        stream.recv(timeout=20)
        gateway.end(signal.SIGKILL)
    with Program(tmp_path, "gateway", "-c", config) as again:
        again.wait_for(lambda: status(config) == 200)
        assert control._thread.is_alive()


def test_a_gateway_that_was_stopped_shows_nothing_old_when_it_goes_on(
    served: tuple[Path, Program, ControlEnd],
) -> None:
    config, gateway, control = served
    gateway.process.send_signal(signal.SIGSTOP)
    control.publishing = False
    time.sleep(STALE_S + 0.5)
    gateway.process.send_signal(signal.SIGCONT)
    assert status(config) == 503
    control.publishing = True
    gateway.wait_for(lambda: status(config) == 200)


def test_connections_that_come_and_go_do_not_fill_the_table_of_open_files(
    served: tuple[Path, Program, ControlEnd],
) -> None:
    config, gateway, _ = served
    where = ("127.0.0.1", int(base(config).rpartition(":")[2]))
    until_s = time.monotonic() + 2.0

    def flood() -> None:
        while time.monotonic() < until_s:
            with socket.socket() as raw, suppress(OSError):
                raw.settimeout(1.0)
                raw.connect(where)
                raw.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")

    floods = [threading.Thread(target=flood) for _ in range(4)]
    for one in floods:
        one.start()
    most = 0
    while time.monotonic() < until_s:
        most = max(most, len(os.listdir(f"/proc/{gateway.process.pid}/fd")))
        time.sleep(0.02)
    for one in floods:
        one.join()
    assert most < 250
    gateway.wait_for(lambda: status(config) == 200)


def test_requests_leave_no_lines_in_the_log(served: tuple[Path, Program, ControlEnd]) -> None:
    config, gateway, _ = served
    before = gateway.err.count("\n")
    for path in ("/health", "/nothing", "/metrics", "/api/v1/events?since=x"):
        assert status(config, path)
    assert gateway.err.count("\n") == before


def test_a_taken_port_and_an_unknown_address_end_it_with_a_sentence(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        ended = bmsd("gateway", "-c", gateway_file(tmp_path, port=port))
    assert ended.returncode == 1
    assert f"127.0.0.1 port {port}" in ended.stderr
    assert "the port is taken" in ended.stderr
    assert "Traceback" not in ended.stderr
    ended = bmsd("gateway", "-c", gateway_file(tmp_path, host="192.0.2.1"))
    assert ended.returncode == 1
    assert "no such address" in ended.stderr


def test_when_control_is_killed_it_is_called_lost_within_two_seconds(tmp_path: Path) -> None:
    config = gateway_file(tmp_path)
    with (
        Program(tmp_path, "sim", "-c", config) as sim,
        Program(tmp_path, "run", "-c", config) as run,
        Program(tmp_path, "gateway", "-c", config) as gateway,
    ):
        sim.wait_for((tmp_path / "field.sock").exists)
        run.wait_for((tmp_path / "link.sock").exists)
        gateway.wait_for(lambda: status(config) == 200)
        gateway.wait_for(lambda: (answer := ask(config, "/api/v1/snapshot")) and not answer.json()["missing"])
        for path in ("/metrics", "/openapi.json", "/api/v1/snapshot"):
            assert status(config, path) == 200
        took_mib = resident_mib(run), resident_mib(gateway)
        assert sum(took_mib) < MOST_MIB, took_mib
        os.kill(run.process.pid, signal.SIGKILL)
        killed_s = time.monotonic()
        gateway.wait_for(lambda: status(config) == 503)
        assert time.monotonic() - killed_s < STALE_S + 0.5
        metrics = ask(config, "/metrics")
        assert metrics is not None
        assert "\nbmsd_up 0.0\n" in metrics.text
        assert "bmsd_pack_voltage_volts" not in metrics.text
        answer = ask(config, "/api/v1/limits")
        assert answer is not None
        assert answer.json()["cause"] == "link_lost"
        with Program(tmp_path, "run", "-c", config):
            gateway.wait_for(lambda: status(config) == 200)
