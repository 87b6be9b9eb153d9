"""bmsd as its users run it: real processes, from the outside."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import pytest

ROOT = Path(__file__).parents[1]
PATIENCE_S = 60.0
"""For what takes no time on an idle computer and some on a busy one."""

T = TypeVar("T")


def needs(there: object, why: str) -> pytest.MarkDecorator:
    """Skip tests that lack something; with CI=true they run and fail: nothing may be hidden there."""
    return pytest.mark.skipif(not there and os.environ.get("CI") != "true", reason=why)


def bmsd(
    *arguments: object, stdin: str = "", environment: Mapping[str, str] | None = None, within_s: float = PATIENCE_S
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, in the checkout."""
    return subprocess.run(
        command(*arguments),
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "80", **(environment or {})},
        timeout=within_s,
    )


def command(*arguments: object) -> list[str]:
    """Return the command line: the installed program of this interpreter's environment, else the module."""
    beside = Path(sys.executable).with_name("bmsd")
    program = [str(beside)] if beside.exists() else [sys.executable, "-m", "bmsd"]
    return [*program, *(str(argument) for argument in arguments)]


class Program:
    """One process for as long as the block lasts; what it says is in files."""

    def __init__(self, folder: Path, *arguments: object, environment: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self._arguments = arguments
        self._environment = {**os.environ, "COLUMNS": "80", **(environment or {})}
        name = f"{arguments[0]}-{time.monotonic_ns()}"
        self._out, self._err = folder / f"{name}.out", folder / f"{name}.err"

    def __enter__(self) -> Program:
        with open(self._out, "wb") as out, open(self._err, "wb") as err:
            self.process = subprocess.Popen(
                command(*self._arguments), stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=ROOT,
                env=self._environment,
            )  # fmt: skip
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    @property
    def out(self) -> str:
        return self._out.read_text(errors="replace")

    @property
    def err(self) -> str:
        return self._err.read_text(errors="replace")

    def end(self, number: signal.Signals = signal.SIGTERM, within_s: float = PATIENCE_S) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(within_s)

    def wait_for(self, what: Callable[[], T], within_s: float = PATIENCE_S) -> T:
        """Return the first true value of `what`; AssertionError when the process ends or time is over before."""
        until_s = time.monotonic() + within_s
        while not (value := what()):
            assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.out}{self.err}"
            assert time.monotonic() < until_s, f"not within {within_s} s:\n{self.out}{self.err}"
            time.sleep(0.02)
        return value


def free_port() -> int:
    """A port of 127.0.0.1 that nobody has now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def rack_file(
    folder: Path,
    sim: str = "soc0 = 0.5",
    *,
    strings: int = 1,
    modules: int = 1,
    cell: Mapping[str, float] | None = None,
    link: str = "",
) -> Path:
    """Write a rack on socket hubs in `folder` that closes within a second and raises its limits fast.

    `sim` is what its [sim] table holds, `cell` replaces entries of the data sheet, `link` is added to [link].
    """
    sheet: dict[str, float] = {
        "capacity_ah": 280.0, "max_v": 3.65, "min_v": 2.5, "charge_max_a": 140.0, "discharge_max_a": 140.0,
        "charge_min_degc": 0.0, "charge_max_degc": 55.0, "discharge_min_degc": -20.0, "discharge_max_degc": 60.0,
        "resistance_ohm": 0.00025,
    }  # fmt: skip
    sheet.update(cell or {})
    path = folder / "rack.toml"
    path.write_text(f"""\
[rack]
name = "rack"
[layout]
strings = {strings}
modules_per_string = {modules}
cells_per_module = 16
sensors_per_module = 4
[cell]
chemistry = "lfp"
{chr(10).join(f"{name} = {value}" for name, value in sheet.items())}
[string]
fuse_a = 200.0
contactor_a = 250.0
contactor_break_a = 1000.0
precharge_ohm = 10.0
bus_capacitance_f = 0.002
[limits]
rise_a_per_s_per_100a = 5.0
hold_after_zero_s = 1.0
leave_zero_share = 0.1
[fieldbus]
interface = "unix"
channel = "{folder / "field.sock"}"
[inverter]
interface = "unix"
channel = "{folder / "inverter.sock"}"
profile = "pylontech_lv"
[state]
directory = "{folder / "state"}"
[link]
socket = "{folder / "link.sock"}"
service_socket = "{folder / "service.sock"}"
{link}
[sim]
{sim}
[sim.unit]
over_current_a = 300.0
[sim.bus]
capacitance_f = 0.002
precharge_ohm = 10.0
""")
    return path
