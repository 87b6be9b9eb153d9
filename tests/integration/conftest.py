"""The racks of these tests run side by side, each with its own processes; the tests read what they said."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from measured import K2, PLETT
from recording import Recording

from tests.programs import bmsd
from tests.reference_data import FOLDER, reference

MEASURED_CELL = {"charge_max_a": 100.0, "discharge_max_a": 110.0, "resistance_ohm": 0.001}
MISHAPS = """
[sim.inverter]
charge_a = 20.0
[[sim.mishap]]
kind = "offset"
cell = 3
value = 0.32
start_s = 12.0
end_s = 14.0
[[sim.mishap]]
kind = "hot_cell"
cell = 7
value = 174.0
start_s = 8.0
end_s = 17.5
"""
LOSSES = """
[[sim.mishap]]
kind = "silent_board"
string = 2
module = 2
start_s = 12.0
[[sim.mishap]]
kind = "emergency_stop"
string = 1
start_s = 17.0
"""
SCENARIOS: dict[str, tuple[float, dict[str, Any]]] = {
    "mishaps": (22.0, {"sim": MISHAPS}),
    "losses": (18.0, {"sim": LOSSES, "strings": 2, "modules": 2}),
    "overcharge": (8.0, {"sim": K2["overcharge"].table, "cell": MEASURED_CELL | {"capacity_ah": 26.0}}),
    "glitch": (11.0, {"sim": K2["glitch"].table, "cell": MEASURED_CELL | {"capacity_ah": 26.0}}),
    "drive": (9.0, {"sim": PLETT.table, "cell": MEASURED_CELL | {"capacity_ah": 20.5}}),
}
"""For how long each runs once a string is closed, s, and what it is."""
ATTEMPTS, LATE_S, OLD_S = 4, 0.12, 0.45
AT_ONCE = 3
"""Racks that run at the same time: each is two processes, and two cores must not look like a slow rack."""
NEEDS_REFERENCE = ("overcharge", "glitch", "drive")


class Racks:
    """Recordings by name; `get` waits until the rack has been stopped."""

    def __init__(self, folder: Path) -> None:
        self._pool = ThreadPoolExecutor(AT_ONCE)
        self._recordings: dict[str, Future[Recording]] = {}
        for name, (seconds, rack) in SCENARIOS.items():
            if name in NEEDS_REFERENCE and not FOLDER.is_dir():
                continue
            self._recordings[name] = self._pool.submit(_record, folder / name, seconds, rack)
        self.demo = self._pool.submit(bmsd, "demo", "--for", 12, "--strings", 2, "--modules", 2, "--json")

    def get(self, name: str) -> Recording:
        if name not in self._recordings:
            reference()
        return self._recordings[name].result()

    def close(self) -> None:
        self._pool.shutdown()


def _record(folder: Path, seconds: float, rack: dict[str, Any]) -> Recording:
    """Record a rack; again when the computer was so busy that ticks came late or no board got to answer."""
    for attempt in range(ATTEMPTS):
        with Recording(folder.with_name(f"{folder.name}{attempt}"), **rack) as recording:
            recording.run.wait_for(lambda log=recording.run: "state=closed" in log.err)
            time.sleep(seconds)
            recording.stop()
        if recording.latest_tick_s <= LATE_S and recording.oldest_answer_s <= OLD_S:
            break
    return recording


@pytest.fixture(scope="session")
def racks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Racks]:
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, -10)  # whatever else runs here must not look like a slow rack
    running = Racks(tmp_path_factory.mktemp("racks"))
    yield running
    running.close()
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, 0)


@pytest.fixture
def mishaps(racks: Racks) -> Recording:
    return racks.get("mishaps")


@pytest.fixture
def losses(racks: Racks) -> Recording:
    return racks.get("losses")


@pytest.fixture
def overcharge(racks: Racks) -> Recording:
    return racks.get("overcharge")


@pytest.fixture
def glitch(racks: Racks) -> Recording:
    return racks.get("glitch")


@pytest.fixture
def drive(racks: Racks) -> Recording:
    return racks.get("drive")


@pytest.fixture(params=list(SCENARIOS))
def any_rack(racks: Racks, request: pytest.FixtureRequest) -> Recording:
    return racks.get(request.param)


@pytest.fixture
def demo(racks: Racks) -> subprocess.CompletedProcess[str]:
    return racks.demo.result()
