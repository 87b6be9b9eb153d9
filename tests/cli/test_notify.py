"""What a service manager is told: by real processes on a real socket, and how the sentence is made."""

from __future__ import annotations

import os
import re
import signal
import socket
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from bmsd.systemd.notify import Notifier
from tests.programs import Program, bmsd, free_port, rack_file
from tests.service_manager import Manager

PATIENCE_S = 2.0


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(tmp_path / "notify", PATIENCE_S)
    yield manager
    manager.close()


def test_control_is_ready_without_its_buses_and_names_what_is_missing_until_it_is_there(
    manager: Manager, tmp_path: Path
) -> None:
    config = rack_file(tmp_path)
    with Program(tmp_path, "run", "-c", config, environment=manager.environment) as run:
        run.wait_for(lambda: "1" in manager.told("READY"))
        assert (tmp_path / "link.sock").exists()
        run.wait_for(lambda: any("missing: field bus" in line for line in manager.told("STATUS")))
        run.wait_for(lambda: manager.told("WATCHDOG"))
        line = manager.told("STATUS")[-1]
        assert f"inverter bus {tmp_path}/inverter.sock" in line
        assert line.startswith("initialising, ")
        with Program(tmp_path, "sim", "-c", config):
            run.wait_for(lambda: "missing" not in manager.told("STATUS")[-1])
            assert re.match(r"\w+, SoC \d+ %, limits: charge \d+ A, discharge \d+ A, ", manager.told("STATUS")[-1])
            assert run.end() == 0
    manager.hear()
    stopping = next(number for number, message in enumerate(manager.messages) if "STOPPING" in message)
    assert "strings open in order" in manager.messages[stopping]["STATUS"]
    assert stopping > next(number for number, message in enumerate(manager.messages) if "READY" in message)
    lines = manager.told("STATUS")
    assert all(line != then for line, then in pairwise(lines))


def test_signs_of_life_stop_with_the_ticks_and_are_no_more_than_asked_for(manager: Manager, tmp_path: Path) -> None:
    with Program(tmp_path, "run", "-c", rack_file(tmp_path), environment=manager.environment) as run:
        run.wait_for(lambda: manager.told("WATCHDOG"))
        began_s = time.monotonic()
        before = len(manager.told("WATCHDOG"))
        run.wait_for(lambda: len(manager.told("WATCHDOG")) >= before + 4)
        assert time.monotonic() - began_s > 1.2
        run.process.send_signal(signal.SIGSTOP)
        time.sleep(0.2)
        manager.hear()
        time.sleep(1.0)
        assert manager.hear() == []


def test_without_a_watchdog_no_sign_of_life_is_given(tmp_path: Path) -> None:
    manager = Manager(f"@bmsd-test-{os.getpid()}")
    with Program(tmp_path, "run", "-c", rack_file(tmp_path), environment=manager.environment) as run:
        run.wait_for(lambda: "1" in manager.told("READY"))
        run.wait_for(lambda: len(manager.told("STATUS")) > 1)
        time.sleep(0.5)
        assert manager.told("WATCHDOG") == []
    manager.close()


def test_the_gateway_is_ready_when_it_listens_and_names_control_and_broker(manager: Manager, tmp_path: Path) -> None:
    config = rack_file(tmp_path)
    web, modbus, broker = free_port(), free_port(), free_port()
    config.write_text(
        f"{config.read_text()}\n[web]\nport = {web}\n[modbus]\nport = {modbus}\n"
        f"[mqtt]\nenabled = true\nport = {broker}\n"
    )
    with Program(tmp_path, "gateway", "-c", config, environment=manager.environment) as gateway:
        gateway.wait_for(lambda: "1" in manager.told("READY"))
        for port in (web, modbus):
            socket.create_connection(("127.0.0.1", port), timeout=5.0).close()
        line = next(message["STATUS"] for message in manager.messages if "READY" in message)
        assert line.startswith(f"missing: control, which does not answer at {tmp_path}/link.sock; mqtt: broker ")
        assert line.endswith("serves modbus, mqtt, web")
        gateway.wait_for(lambda: "nobody listens there" in manager.told("STATUS")[-1])
        gateway.wait_for(lambda: len(manager.told("WATCHDOG")) > 1)
        with Program(tmp_path, "run", "-c", config):
            gateway.wait_for(lambda: manager.told("STATUS")[-1].startswith("missing: mqtt: broker"))
        assert gateway.end() == 0
    assert manager.told("STOPPING") == ["1"]


def test_of_control_and_gateway_together_control_tells_and_both_read_the_file_again(
    manager: Manager, tmp_path: Path
) -> None:
    config = rack_file(tmp_path)
    config.write_text(f"{config.read_text()}\n[web]\nport = {free_port()}\n[modbus]\nport = {free_port()}\n")
    given = {**manager.environment, "WATCHDOG_PID": "1", "LISTEN_PID": "1", "LISTEN_FDS": "2"}
    with Program(tmp_path, "up", "-c", config, environment=given) as up:
        up.wait_for(lambda: manager.told("READY") and manager.told("WATCHDOG") and "web.listening" in up.err)
        up.process.send_signal(signal.SIGHUP)
        up.wait_for(lambda: up.err.count("configuration.unchanged") == 2)
        assert manager.told("RELOADING") == ["1"]
        assert not any("serves" in line for line in manager.told("STATUS"))
        assert up.end() == 0


@pytest.mark.parametrize("command", ["run", "gateway"])
def test_why_it_cannot_serve_is_its_last_status(command: str, manager: Manager, tmp_path: Path) -> None:
    config = rack_file(tmp_path)
    config.write_text(config.read_text().replace('name = "rack"', "").replace("[layout]", "[layout]\ncels = 1"))
    assert bmsd(command, "-c", config, environment=manager.environment).returncode == 78
    assert manager.told("READY") == []
    (status,) = manager.told("STATUS")
    assert status.startswith(f"the configuration {config} is wrong: rack.name: missing; expected ")
    assert status.endswith("(and 1 more)") == (command == "run")


def test_who_is_aborted_says_where_it_was(tmp_path: Path) -> None:
    with Program(tmp_path, "run", "-c", rack_file(tmp_path)) as run:
        run.wait_for(lambda: "control.running" in run.err)
        assert run.end(signal.SIGABRT) == -signal.SIGABRT
    assert "daemon.py" in run.err.partition("Fatal Python error: Aborted")[2]


def test_what_finds_no_room_comes_later_in_order_but_old_signs_of_life_do_not(tmp_path: Path) -> None:
    manager = Manager(tmp_path / "notify", PATIENCE_S)
    notifier = Notifier(manager.environment)
    full = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")})
    for number in range(1000):  # as many as the socket takes, and some more
        full.status(f"fill {number}")
    notifier.ready("it serves")
    notifier.alive(0.0)
    notifier.status("first")
    notifier.status("second")
    assert len(manager.hear()) < 1000
    assert not any("READY" in message or "WATCHDOG" in message for message in manager.messages)
    notifier.status("second")
    assert manager.hear() == [{"READY": "1", "STATUS": "it serves"}, {"STATUS": "second"}]
    notifier.alive(1.0)
    assert manager.hear() == [{"WATCHDOG": "1"}]
    manager.close()
    notifier.alive(2.0)
    assert "cannot be told" in notifier.error


@pytest.mark.parametrize(
    ("environment", "patience_s"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "2000000"}, 2.0),
        ({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": str(os.getpid())}, 2.0),
        ({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_of_another_process_is_not_ours(environment: dict[str, str], patience_s: float | None) -> None:
    assert Notifier(environment).patience_s == patience_s


def test_a_status_is_one_line_and_not_too_long(tmp_path: Path) -> None:
    manager = Manager(tmp_path / "notify")
    Notifier(manager.environment).status("one\nREADY=1 " + "x" * 5000)
    (message,) = manager.hear()
    assert message["STATUS"].startswith("one READY=1 x")
    assert len(message["STATUS"]) < 500
    manager.close()
