"""How tests marked `vcan` get their interfaces: in place when they are there, else all together in one guest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.guest import Kind, register
from tests.vcan.forks import FORKS
from tests.vcan.stall import METER
from tests.vcan.whole_rack import Stage
from tests.vcan.wire import bring_up

GUEST = Kind("vcan", Path(__file__).with_name("run"), inside="IN_VCAN", seconds=1200)


def pytest_configure(config: pytest.Config) -> None:
    register(config, GUEST)


@pytest.fixture(autouse=True)
def interfaces(request: pytest.FixtureRequest) -> None:
    """Both interfaces are up before each test, whatever the one before did."""
    if GUEST.wants(request.node):
        for name in ("vcan0", "vcan1"):
            bring_up(name)


@pytest.fixture(scope="session", autouse=True)
def _stalls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What the computer takes away is measured as long as there are tests: bounds and deadlines ask for it."""
    if GUEST.here:
        METER.start(GUEST.stalls_file(tmp_path_factory.mktemp("stalls")))
    yield
    if GUEST.here:
        METER.stop()


@pytest.fixture(scope="session", autouse=True)
def _forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Python programs start at once; see `forks`."""
    if GUEST.here:
        FORKS.start(tmp_path_factory.mktemp("forks") / "socket")
    yield
    if GUEST.here:
        FORKS.stop()


@pytest.fixture(scope="session")
def stage() -> Iterator[Stage]:
    """The rack that files share."""
    shared = Stage()
    yield shared
    shared.clear()


@pytest.fixture(scope="module", autouse=True)
def _one_rack_at_a_time(request: pytest.FixtureRequest) -> None:
    """A file that does not ask for the shared rack has the buses for itself."""
    if GUEST.here and not getattr(request.module, "SHARES_THE_RACK", False):
        request.getfixturevalue("stage").clear()
