"""The demo rack: simulator and control as the same processes that a rack runs, on buses of this computer."""

from __future__ import annotations

import ctypes
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import typer

from bmsd.codec.plain import as_object
from bmsd.config.demo import CELLS, demo_toml
from bmsd.config.load import parse
from bmsd.errors import BusError, ConfigError
from bmsd.fieldbus.unix_bus import Hub
from bmsd.link.client import LinkClient
from bmsd.model.layout import MAX_MODULES
from bmsd.model.published import Published
from bmsd.screen import Screen, Silent, screen

START_WITHIN_S = 20.0
STOP_WITHIN_S = 12.0
LOOK_EVERY_S = 0.2
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of prctl(2)


class _EndedError(Exception):
    """Ctrl-C, SIGTERM, the terminal is gone."""


@dataclass(frozen=True)
class _Demo:
    """The processes by name, where they say what they do, and where control can be looked at."""

    processes: dict[str, subprocess.Popen[bytes]]
    log: Path
    link: Path

    def check_alive(self) -> None:
        """BusError with the last words of a process that ended by itself."""
        for name, process in self.processes.items():
            if process.poll() is not None:
                last = "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-20:])
                raise BusError(f"bmsd {name} ended with exit code {process.returncode}. It said last:\n{last}")


def run_demo(*, strings: int, modules: int, seconds: float | None, as_json: bool) -> None:
    """Run until Ctrl-C or for `seconds`. ConfigError for a rack that cannot be; BusError when a process ends itself.

    The processes are told apart from a rack's only by their configuration.
    """
    _check_size(strings, modules)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    with ExitStack() as stack:
        stack.enter_context(suppress(_EndedError))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bmsd-demo-")))
        hubs = [Hub(folder / f"{bus}.sock") for bus in ("field", "inverter")]
        for hub in hubs:
            stack.callback(hub.stop)
        demo = stack.enter_context(_started(folder, strings, modules))
        for hub in hubs:
            hub.start()
        _watch(demo, _header(demo, strings, modules), seconds, as_json=as_json)


def _check_size(strings: int, modules: int) -> None:
    """Complain about a rack that is too large before anything starts."""
    if strings * modules > MAX_MODULES:
        count = f"{strings} strings of {modules} modules are {strings * modules} modules"
        raise ConfigError([f"demo: {count}; at most {MAX_MODULES} have an address on the bus"])
    parse(demo_toml(strings, modules, "/run/field", "/run/inverter", "/run"))


def _header(demo: _Demo, strings: int, modules: int) -> list[str]:
    shape = f"{strings} x {modules} modules of {CELLS} cells"
    return [
        f"Real control, simulated rack: {shape}. Ctrl-C ends it.",
        f"  its records:  bmsd status --link {demo.link}",
        f"  its log:      {demo.log}",
        "",
    ]


def _end(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    for again in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(again, signal.SIG_IGN)  # once is enough: the rack is stopped in order
    raise _EndedError


@contextmanager
def _started(folder: Path, strings: int, modules: int) -> Iterator[_Demo]:
    """Both processes, for as long as the block lasts. Starts no thread before them: they are forked."""
    config = folder / "demo.toml"
    text = demo_toml(strings, modules, str(folder / "field.sock"), str(folder / "inverter.sock"), folder)
    config.write_text(text, encoding="utf-8")
    log = folder / "log"
    processes: dict[str, subprocess.Popen[bytes]] = {}
    try:
        with open(log, "wb") as said:
            for name in ("sim", "run"):
                processes[name] = subprocess.Popen(
                    [sys.executable, "-m", "bmsd", name, "-c", str(config)],
                    stdin=subprocess.DEVNULL,
                    stdout=said,
                    stderr=said,
                    process_group=0,  # the terminal's Ctrl-C is for the demo, which stops them in order
                    preexec_fn=_die_with_parent,
                )
        yield _Demo(processes, log, folder / "link.sock")
    finally:
        for name in ("run", "sim"):
            if name in processes:
                _stop(processes[name])


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGTERM)


def _watch(demo: _Demo, header: list[str], seconds: float | None, *, as_json: bool) -> None:
    """Show every record until the time is over, then the orderly end; print the last one as JSON when asked to."""
    client = _connect(demo)
    shown: Screen = Silent() if as_json else screen(client.hello.name, header)
    ends_s = None if seconds is None else time.monotonic() + seconds
    newest: Published | None = None
    try:
        with suppress(_EndedError):
            while newest is None or ends_s is None or time.monotonic() < ends_s:
                demo.check_alive()
                newest = client.newest(timeout_s=5.0)
                shown.show(newest)
                time.sleep(LOOK_EVERY_S)
        _show_the_end(demo, client, shown)
    finally:
        client.close()
        shown.close()
    if as_json and newest is not None:
        typer.echo(json.dumps(as_object(newest), allow_nan=False))
    elif not as_json:
        code = demo.processes["run"].wait(STOP_WITHIN_S)
        typer.echo("Stopped in order." if code == 0 else f"Control ended with exit code {code}.")


def _show_the_end(demo: _Demo, client: LinkClient, shown: Screen) -> None:
    """Ask control to leave and show its last records: it zeroes limits, waits for the current, opens in order."""
    control = demo.processes["run"]
    if control.poll() is not None:
        return
    control.terminate()
    with suppress(BusError):  # the link closes with the process
        while control.poll() is None:
            shown.show(client.newest(timeout_s=STOP_WITHIN_S))


def _connect(demo: _Demo) -> LinkClient:
    until_s = time.monotonic() + START_WITHIN_S
    while True:
        demo.check_alive()
        try:
            return LinkClient(demo.link)
        except BusError:
            if time.monotonic() > until_s:
                raise
            time.sleep(0.1)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End a process: by asking, after a while by force."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
