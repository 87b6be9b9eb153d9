"""How long after exec the inverter hears the first frame, with a simulated rack that is already there."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bmsd.config.demo import demo_toml
from bmsd.fieldbus.unix_bus import Hub, UnixBus

GOAL_S = 3.0


@contextmanager
def process(*words: str) -> Iterator[subprocess.Popen[bytes]]:
    running = subprocess.Popen([sys.executable, "-m", "bmsd", *words], stderr=subprocess.DEVNULL)
    try:
        yield running
    finally:
        running.kill()
        running.wait()


@contextmanager
def hub(path: Path) -> Iterator[None]:
    bus = Hub(path)
    bus.start()
    try:
        yield
    finally:
        bus.stop()


def heard(bus: UnixBus, can_id: int, within_s: float) -> float:
    """Wait for a frame and return when it came, monotonic, s."""
    until_s = time.monotonic() + within_s
    while time.monotonic() < until_s:
        message = bus.recv(0.2)
        if message is not None and message.arbitration_id == can_id:
            return time.monotonic()
    raise AssertionError(f"no {can_id:X} within {within_s} s")


def test_the_first_safe_frame_comes_within_three_seconds_of_exec(tmp_path: Path) -> None:
    field, inverter, config = (tmp_path / name for name in ("field.sock", "inverter.sock", "rack.toml"))
    config.write_text(demo_toml(1, 2, str(field), str(inverter), tmp_path))
    with ExitStack() as stack:
        stack.enter_context(hub(field))
        stack.enter_context(hub(inverter))
        listener = UnixBus(str(inverter))
        stack.callback(listener.shutdown)
        stack.enter_context(process("sim", "-c", str(config)))
        heard(listener, 0x305, within_s=20.0)  # the simulator is there
        taken_s = []
        for _ in range(3):
            began_s = time.monotonic()
            with process("run", "-c", str(config)):
                taken_s.append(heard(listener, 0x351, within_s=20.0) - began_s)
            while listener.recv(0.1) is not None:  # the inverter goes on saying 305 each second
                pass
    print("\nfirst frame after exec, s:", ", ".join(f"{seconds:.2f}" for seconds in taken_s))
    assert min(taken_s) <= GOAL_S, "the best of three: this machine may be busy with others"
