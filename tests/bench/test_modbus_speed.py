"""Modbus requests per second and their latency, against libmodbus's C server in the same run.

The gateway is the real process, fed 10 times a second with the records of a rack of 512 cells. 32 clients in C each
have one request of 125 registers on its way.
"""

from __future__ import annotations

import os
import shutil
import socket
import statistics
import subprocess
import timeit
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from bmsd.codec.registers import Encoder
from tests.gateway import control_end
from tests.gateway.control_end import ControlEnd, wait_for
from tests.programs import Program, free_port

HERE = Path(__file__).parent
HEADER = Path("/usr/include/modbus/modbus.h")
CLIENTS, SECONDS, ROUNDS = 32, 2.0, 5
RATIO_WANTED, P99_WANTED_US = 0.5, 5000.0
RATIO_AT_LEAST, P99_AT_MOST_US = 0.3, 25000.0
"""What fails the bench: clients, floods and both servers share two cores, often with other work."""


class Speed(NamedTuple):
    """Requests per second; latencies in us."""

    per_s: float
    median_us: float
    p99_us: float


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the C programs."""
    if not HEADER.exists():
        pytest.skip("libmodbus-dev is not installed")
    folder = tmp_path_factory.mktemp("c")
    for name, libraries in (("modbus_server", ["-lmodbus"]), ("modbus_load", [])):
        source = HERE / f"{name}.c"
        options = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror"]
        subprocess.run([shutil.which("cc") or "gcc", *options, "-o", folder / name, source, *libraries], check=True)
    return folder


def test_a_record_becomes_registers_within_a_millisecond() -> None:
    published = control_end.record(strings=2, modules=16)
    encoder = Encoder(published)
    best_s = min(timeit.repeat(lambda: encoder.encode(published), number=20, repeat=20)) / 20
    print(f"\n512 cells to 5000 registers: {1e3 * best_s:.2f} ms, once for each record that is read")
    assert best_s < 2e-3


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The port of a running gateway."""
    monkeypatch.setattr(control_end, "STEP_S", 0.1)
    port = free_port()
    file = tmp_path / "rack.toml"
    with ControlEnd(tmp_path, control_end.record(strings=2, modules=16)) as control:
        file.write_text(
            f'[rack]\nname = "rack"\n[link]\nsocket = "{control.link}"\n[web]\nenabled = false\n'
            f"[modbus]\nport = {port}\nmost_clients = 128\nmost_per_address = 128\n"
        )
        with Program(tmp_path, "gateway", "-c", file) as process:
            process.wait_for(lambda: listens(port))
            yield port


@pytest.fixture
def libmodbus(built: Path) -> Iterator[int]:
    """The port of libmodbus's server."""
    port = free_port()
    process = subprocess.Popen([built / "modbus_server", str(port)], stdout=subprocess.DEVNULL)
    try:
        wait_for(lambda: listens(port))
        yield port
    finally:
        process.kill()
        process.wait()


def load(built: Path, port: int, clients: int = CLIENTS) -> Speed:
    done = subprocess.run(
        [built / "modbus_load", str(port), str(clients), str(SECONDS)],
        check=True, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    return Speed(*map(float, done.stdout.split()))


def middle(rounds: list[Speed]) -> Speed:
    return Speed(*(statistics.median(column) for column in zip(*rounds, strict=True)))


def test_half_as_many_requests_as_libmodbus(built: Path, gateway: int, libmodbus: int) -> None:
    print()
    for clients in (1, CLIENTS):
        ours, theirs = [], []
        for _ in range(ROUNDS):
            ours.append(load(built, gateway, clients))
            theirs.append(load(built, libmodbus, clients))
        ratio = statistics.median(a.per_s / b.per_s for a, b in zip(ours, theirs, strict=True))
        us, them = middle(ours), middle(theirs)
        print(
            f"{clients} clients: {us.per_s:.0f}/s, p99 {us.p99_us:.0f} us; libmodbus {them.per_s:.0f}/s, "
            f"p99 {them.p99_us:.0f} us; ratio {ratio:.2f} (wanted {RATIO_WANTED}); load {os.getloadavg()[0]:.1f}"
        )
    assert ratio >= RATIO_AT_LEAST


@pytest.mark.parametrize("connections", [1, 16])
def test_a_flood_does_not_shut_the_others_out(built: Path, gateway: int, connections: int) -> None:
    quiet, flooded = [], []
    for _ in range(ROUNDS):
        quiet.append(load(built, gateway))
        flood = subprocess.Popen([built / "modbus_load", str(gateway), str(connections), "60", "flood"])
        try:
            flooded.append(load(built, gateway))
        finally:
            flood.kill()
            flood.wait()
    print(
        f"\n{CLIENTS} clients while {connections} connections flood: {middle(flooded).per_s:.0f}/s, "
        f"p99 {middle(flooded).p99_us:.0f} us (wanted {P99_WANTED_US:.0f}); without: {middle(quiet).per_s:.0f}/s, "
        f"p99 {middle(quiet).p99_us:.0f} us; load {os.getloadavg()[0]:.1f}"
    )
    assert middle(flooded).p99_us <= P99_AT_MOST_US
