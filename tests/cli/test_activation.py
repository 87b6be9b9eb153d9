"""A gateway whose sockets and secrets come from the service manager."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from bmsd.systemd.activation import given_sockets
from bmsd.systemd.credentials import secret_file
from tests.programs import PATIENCE_S, ROOT, command, free_port, rack_file

READ_UNIT = bytes.fromhex("000100000006010303e80001")


def launched(names: str, sockets: list[socket.socket], config: Path) -> subprocess.Popen[str]:
    numbers = [one.fileno() for one in sockets]
    return subprocess.Popen(
        [sys.executable, str(ROOT / "tests" / "launcher.py"), names, ",".join(map(str, numbers)),
         *command("gateway", "-c", config)],
        pass_fds=numbers, stderr=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip


def test_it_serves_at_the_given_sockets_and_says_where_they_are_not_the_settings(tmp_path: Path) -> None:
    modbus, web = socket.create_server(("127.0.0.1", 0)), socket.create_server(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in (modbus, web)]
    config, unused = rack_file(tmp_path), free_port()
    config.write_text(f"{config.read_text()}[modbus]\nport = {unused}\n[web]\nport = {ports[1]}\n")
    with launched("modbus,web", [modbus, web], config) as gateway:
        modbus.close()
        web.close()
        with socket.create_connection(("127.0.0.1", ports[0]), timeout=PATIENCE_S) as client:
            client.sendall(READ_UNIT)
            assert client.recv(64)[:2] == READ_UNIT[:2]
        assert (
            httpx.get(f"http://127.0.0.1:{ports[1]}/health/live", timeout=PATIENCE_S, trust_env=False).status_code
            == 200
        )
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", unused))
        gateway.send_signal(signal.SIGTERM)
        said = gateway.communicate(timeout=PATIENCE_S)[1]
    assert gateway.returncode == 0
    assert re.search(rf"warning.*gateway.other_address .*configured='127.0.0.1 port {unused}' output=modbus", said)
    assert re.search(rf"info.*gateway.given_address .*output=web serves='127.0.0.1 port {ports[1]}'", said)


def test_sockets_that_it_cannot_serve_stop_it_with_all_complaints(tmp_path: Path) -> None:
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    silent = socket.socket()
    with launched("modbus,web,http", [datagrams, silent, silent], rack_file(tmp_path)) as gateway:
        said = gateway.communicate(timeout=PATIENCE_S)[1].splitlines()
    assert gateway.returncode == 78
    assert [line for line in said if line.startswith("socket")] == [
        "socket 'modbus' of the service manager (descriptor 3): not a stream socket; expected ListenStream=",
        "socket 'web' of the service manager (descriptor 4): does not listen; expected Accept=no",
        "socket 'http' of the service manager (descriptor 5): expected FileDescriptorName=modbus or web",
    ]
    datagrams.close()
    silent.close()


def test_sockets_of_another_process_are_not_ours() -> None:
    assert given_sockets(("modbus",), {"LISTEN_PID": "1", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "modbus"}) == {}
    assert given_sockets(("modbus",), {}) == {}
    assert given_sockets(("modbus",), {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "0"}) == {}


def test_a_secret_is_a_credential_when_its_name_has_no_slash(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("secret")
    given = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert secret_file("password", given) == tmp_path / "password"
    assert secret_file("/etc/bmsd/password", given) == Path("/etc/bmsd/password")
    assert secret_file("./password", given) == Path("password")
    with pytest.raises(FileNotFoundError) as caught:
        secret_file("pasword", given)
    assert caught.value.strerror == f"no such credential in {tmp_path}, which has password"
    with pytest.raises(FileNotFoundError, match="LoadCredential"):
        secret_file("password", {})


def test_the_gateway_names_a_credential_that_there_is_not(tmp_path: Path) -> None:
    config = rack_file(tmp_path)
    config.write_text(f'{config.read_text()}[mqtt]\nenabled = true\nusername = "rack"\npassword_file = "broker"\n')
    done = subprocess.run(
        command("gateway", "-c", config), capture_output=True, text=True, cwd=ROOT, timeout=PATIENCE_S, check=False,
        env={**os.environ, "CREDENTIALS_DIRECTORY": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 78
    assert f"mqtt.password_file: broker: no such credential in {tmp_path}, which has " in done.stderr
