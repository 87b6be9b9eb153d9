"""How tests marked `systemd` get a systemd: all together in one guest, where they may install, break and remove."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.guest import Kind, register
from tests.systemd.served import CONTROL, GATEWAY, Served, installed_rack, run
from tests.vcan.stall import METER

ROOT = Path(__file__).parents[2]


def _packages() -> str:
    """Make what the guest installs; it has no network."""
    surroundings = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    for command in (["make", "--no-print-directory", "deb"], ["tests/systemd/next-versions"]):
        made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=surroundings)
        if made.returncode != 0:
            return f"{' '.join(command)} failed:\n{made.stdout}{made.stderr}"
    return ""


GUEST = Kind("systemd", Path(__file__).with_name("boot"), "IN_SYSTEMD", seconds=1800, memory="2G", prepare=_packages)


def pytest_configure(config: pytest.Config) -> None:
    register(config, GUEST)


@pytest.fixture(scope="session", autouse=True)
def _stalls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What the computer takes away from everybody; control, which is before everybody else, takes nothing from it."""
    if GUEST.here:
        METER.start(GUEST.stalls_file(tmp_path_factory.mktemp("stalls")), priority=80)
    yield
    if GUEST.here:
        METER.stop()


@pytest.fixture(scope="session")
def served() -> Iterator[Served]:
    """The installed package, its rack simulated, both wires watched; nothing of bmsd runs yet."""
    with installed_rack() as rack:
        yield rack


@pytest.fixture
def running(served: Served) -> Served:
    """Both services run, current flows."""
    served.make_well()
    return served


@pytest.fixture(autouse=True)
def _journal() -> Iterator[None]:
    """What the services said meanwhile is shown beside a failure."""
    began_s = time.time()
    yield
    if GUEST.here:
        for unit in (CONTROL, GATEWAY):
            sys.stdout.write(
                run("systemctl", "show", "-p", "ActiveState,SubState,Result,NRestarts,StatusText", unit.name)
            )
        sys.stdout.write(run("journalctl", "--no-pager", "-o", "short-precise", f"--since=@{int(began_s)}"))
