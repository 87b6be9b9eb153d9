"""The demo rack: simulator and control as the same processes that a rack runs, on buses of this computer."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType

import typer
from rich.console import Console
from rich.live import Live

from bmsd.config.demo import demo_toml
from bmsd.errors import BusError
from bmsd.fieldbus.unix_bus import Hub
from bmsd.link.client import LinkClient
from bmsd.model.published import Published
from bmsd.status import as_object, table

START_WITHIN_S = 20.0
STOP_WITHIN_S = 12.0


class _EndedError(Exception):
    """Ctrl-C, SIGTERM."""


def run_demo(*, strings: int, modules: int, seconds: float | None, as_json: bool) -> None:
    """Run until Ctrl-C or for `seconds`. BusError when a process ends by itself.

    The processes are told apart from a rack's only by their configuration.
    """
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, _end)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bmsd-demo-")))
        for bus in ("field", "inverter"):
            stack.enter_context(_hub(folder / f"{bus}.sock"))
        config = folder / "demo.toml"
        config.write_text(
            demo_toml(strings, modules, str(folder / "field.sock"), str(folder / "inverter.sock"), folder),
            encoding="utf-8",
        )
        log = stack.enter_context(open(folder / "log", "w+", encoding="utf-8"))
        processes = {
            name: subprocess.Popen([sys.executable, "-m", "bmsd", name, "-c", str(config)], stderr=log, stdout=log)
            for name in ("sim", "run")
        }
        try:
            _watch(folder / "link.sock", processes, Path(log.name), seconds, as_json=as_json)
        except _EndedError:
            pass
        finally:
            _stop(processes)


def _end(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    raise _EndedError


@contextmanager
def _hub(path: Path) -> Iterator[None]:
    hub = Hub(path)
    hub.start()
    try:
        yield
    finally:
        hub.stop()


def _watch(
    link: Path, processes: dict[str, subprocess.Popen[bytes]], log: Path, seconds: float | None, *, as_json: bool
) -> None:
    """Show every record until the time is over; print the last one as JSON when asked to."""
    client = _connect(link, processes, log)
    ends_s = None if seconds is None else time.monotonic() + seconds
    newest: Published | None = None
    try:
        with Live(console=Console(stderr=as_json), refresh_per_second=4, screen=False, auto_refresh=False) as live:
            while ends_s is None or time.monotonic() < ends_s:
                _alive(processes, log)
                newest = client.newest(timeout_s=5.0)
                if not as_json:
                    live.update(table(client.hello.name, newest), refresh=True)
                time.sleep(0.2)
    finally:
        if as_json and newest is not None:
            typer.echo(json.dumps(as_object(newest), allow_nan=False))
        client.close()


def _connect(link: Path, processes: dict[str, subprocess.Popen[bytes]], log: Path) -> LinkClient:
    until_s = time.monotonic() + START_WITHIN_S
    while True:
        _alive(processes, log)
        try:
            return LinkClient(link)
        except BusError:
            if time.monotonic() > until_s:
                raise
            time.sleep(0.1)


def _alive(processes: dict[str, subprocess.Popen[bytes]], log: Path) -> None:
    for name, process in processes.items():
        if process.poll() is not None:
            last = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-20:])
            raise BusError(f"bmsd {name} ended with exit code {process.returncode}. It said last:\n{last}")


def _stop(processes: dict[str, subprocess.Popen[bytes]]) -> None:
    """Control leaves first: it zeroes limits, waits for the current and opens in order while the boards live."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in ("run", "sim"):
        process = processes[name]
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_WITHIN_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
