"""What both processes take of a small computer: wake-ups, memory, time to start, bytes written in a day."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TextIO

import pytest
import structlog

from bmsd.config.demo import Outlets, demo_toml
from bmsd.control.composition import checked
from bmsd.control.daemon import Control
from bmsd.errors import BusError
from bmsd.link.client import LinkClient
from bmsd.log import configure
from tests.bench.test_start_time import hub
from tests.programs import free_port

DAY_S = 86400.0
WATCHED_S = 10.0
SIMULATED_S = 1500.0
READY_GOAL_S, WRITTEN_GOAL_MB = 2.0, 50.0
JOURNAL_FACTOR = 10.0
"""What journald may write for each byte of a line, with its fields and indexes; assumed, and rather too much."""


class Measured:
    """A bmsd process, asked through /proc."""

    def __init__(self, *words: str) -> None:
        self.process = subprocess.Popen([sys.executable, "-m", "bmsd", *words], stderr=subprocess.DEVNULL)

    def __enter__(self) -> Measured:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def wake_ups(self) -> int:
        """How often its threads have slept and were woken."""
        total = 0
        for task in Path(f"/proc/{self.process.pid}/task").iterdir():
            with suppress(FileNotFoundError):
                total += int((task / "status").read_text().split("voluntary_ctxt_switches:")[1].split()[0])
        return total

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_mib(self) -> float:
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def waited_s(condition: Callable[[], bool], within_s: float = 30.0) -> float:
    """Return how long it took until this was true, s."""
    began_s = time.monotonic()
    while not condition():
        assert time.monotonic() - began_s < within_s
        time.sleep(0.002)
    return time.monotonic() - began_s


def listens(link: Path) -> bool:
    """Control is READY: its link takes readers."""
    with suppress(BusError):
        LinkClient(link).close()
        return True
    return False


def answers(url: str) -> bool:
    with suppress(OSError):
        return urllib.request.urlopen(url, timeout=5.0).status == 200
    return False


def said(what: str, values: dict[str, float]) -> None:
    print(f"\n{what}: " + ", ".join(f"{name} {value:.3g}" for name, value in values.items()), end="")


@pytest.mark.parametrize("alone", [True, False], ids=["silent buses", "a rack that runs"])
def test_wake_ups_memory_and_start(tmp_path: Path, alone: bool) -> None:
    field, inverter, config = (tmp_path / name for name in ("field.sock", "inverter.sock", "rack.toml"))
    outlets = Outlets(free_port(), free_port())
    config.write_text(demo_toml(1, 2, str(field), str(inverter), tmp_path, outlets))
    with ExitStack() as stack:
        stack.enter_context(hub(field))
        stack.enter_context(hub(inverter))
        if not alone:
            stack.enter_context(Measured("sim", "-c", str(config)))
        control = stack.enter_context(Measured("run", "-c", str(config)))
        ready_s = {"control": waited_s(lambda: listens(tmp_path / "link.sock"))}
        started_cpu_s = {"control": control.cpu_s()}
        gateway = stack.enter_context(Measured("gateway", "-c", str(config)))
        ready_s["gateway"] = waited_s(lambda: answers(f"http://127.0.0.1:{outlets.web}/health/live"))
        started_cpu_s["gateway"] = gateway.cpu_s()
        time.sleep(5.0)
        processes = {"control": control, "gateway": gateway}
        before = {name: (one.wake_ups(), one.cpu_s()) for name, one in processes.items()}
        time.sleep(WATCHED_S)
        for name, one in processes.items():
            woken, cpu_s = (one.wake_ups() - before[name][0]) / WATCHED_S, one.cpu_s() - before[name][1]
            start = {"ready_s": ready_s[name], "cpu_until_ready_s": started_cpu_s[name]}
            runs = {"wake_ups_per_s": woken, "cpu_percent": 100.0 * cpu_s / WATCHED_S}
            said(name, start | runs | {"resident_mib": one.resident_mib()})
            assert woken < (40.0 if alone or name == "gateway" else 100.0)
            assert one.resident_mib() < 100.0
            assert started_cpu_s[name] < READY_GOAL_S, "what a busy computer cannot lengthen"
    busy = os.getloadavg()[0] > len(os.sched_getaffinity(0))
    assert busy or ready_s["control"] < READY_GOAL_S


def test_bytes_written_in_a_day(tmp_path: Path) -> None:
    """Control on simulated time: it saves as often as in that time, and its lines are counted where they end."""
    config = tmp_path / "rack.toml"
    config.write_text(demo_toml(8, 4, str(tmp_path / "field"), str(tmp_path / "inverter"), tmp_path))
    lines = tmp_path / "log"
    with lines.open("w") as stream:
        state_bytes = written(config, stream)
    size = lines.stat().st_size
    structlog.reset_defaults()
    days = SIMULATED_S / DAY_S
    state_mb, journal_mb = state_bytes / days / 1e6, JOURNAL_FACTOR * size / 1e6
    said("written by control", {"state_mb_per_day": state_mb, "journal_mb_per_start": journal_mb})
    assert 0.0 < state_mb < WRITTEN_GOAL_MB / 2
    assert journal_mb < 1.0, "the lines of a start; a rack at rest adds none"
    assert json.loads(lines.read_text().splitlines()[-1])["event"] == "control.left"


def written(config: Path, stream: TextIO) -> float:
    """Return what this process hands to the disk while control runs for SIMULATED_S, without its log."""
    writer = configure("info", "json", stream)
    now_s = 1000.0
    control = Control(checked(config), clock=lambda: now_s)
    control.open(now_s)
    control.turn(now_s)
    end_s = now_s + SIMULATED_S
    before = disk_bytes()
    while now_s < end_s:
        now_s += 0.1
        control.turn(now_s)
    control.close()
    total = disk_bytes() - before
    writer.close()
    return total


def disk_bytes() -> int:
    words = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(words["write_bytes"])
