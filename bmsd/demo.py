"""The demo rack: simulator, control and gateway as the same processes that a rack runs, on buses of this computer."""

from __future__ import annotations

import json
import signal
import socket
import tempfile
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import FrameType

import typer

from bmsd.codec.plain import as_object
from bmsd.config.demo import CELLS, Outlets, demo_toml
from bmsd.config.load import parse
from bmsd.errors import BusError, ConfigError
from bmsd.fieldbus.unix_bus import Hub
from bmsd.link.client import LinkClient
from bmsd.model.layout import MAX_MODULES
from bmsd.model.published import Published
from bmsd.processes import STOP_WITHIN_S, Family, bmsd, running
from bmsd.screen import Screen, Silent, screen

START_WITHIN_S = 20.0
LOOK_EVERY_S = 0.2
LOCAL = "127.0.0.1"
FIRST_PORT, LAST_PORT = 8480, 8980
PORTS = 3
"""Of REST, Modbus and the embedded MQTT broker, one after the other."""


class _EndedError(Exception):
    """Ctrl-C, SIGTERM, the terminal is gone."""


@dataclass(frozen=True)
class _Demo:
    """The processes, and where they can be looked at."""

    family: Family
    folder: Path
    outlets: Outlets

    @property
    def link(self) -> Path:
        return self.folder / "link.sock"


def run_demo(
    *,
    strings: int,
    modules: int,
    seconds: float | None,
    as_json: bool,
    port_base: int | None = None,
    mqtt: str | None = None,
) -> None:
    """Run until Ctrl-C or for `seconds`. ConfigError for a rack that cannot be; BusError when a process ends itself.

    The processes are told apart from a rack's only by their configuration. `port_base` None: the first that are
    free; `mqtt` is a broker, HOST or HOST:PORT, None: the embedded one.
    """
    _check_size(strings, modules)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    with ExitStack() as stack:
        stack.enter_context(suppress(_EndedError))
        outlets = _outlets(port_base, mqtt, stack)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bmsd-demo-")))
        hubs = [Hub(folder / f"{bus}.sock") for bus in ("field", "inverter")]
        for hub in hubs:
            stack.callback(hub.stop)
        config = folder / "demo.toml"
        text = demo_toml(strings, modules, str(hubs[0].path), str(hubs[1].path), folder, outlets)
        config.write_text(text, encoding="utf-8")
        programs = {name: bmsd(name, config) for name in ("run", "gateway", "sim")}
        if outlets.broker == (LOCAL, outlets.web + 2) and mqtt is None:
            programs["broker"] = ["bmsd.broker", str(outlets.web + 2)]
        family = stack.enter_context(running(programs, folder / "log"))
        for hub in hubs:
            hub.start()
        demo = _Demo(family, folder, outlets)
        _watch(demo, _header(demo, strings, modules), seconds, as_json=as_json)


def _outlets(port_base: int | None, mqtt: str | None, stack: ExitStack) -> Outlets:
    """Where the gateway is to listen and to report. ConfigError when a port is taken or the broker is no address."""
    first = _free_ports(stack) if port_base is None else port_base
    taken = [port for port in range(first, first + PORTS) if not _is_free(port)]
    if taken:
        ports = ", ".join(map(str, taken))
        raise ConfigError([f"--port-base {first}: {ports} in use; expected {PORTS} free ports from there on"])
    if mqtt is None:
        broker = (LOCAL, first + 2) if find_spec("amqtt") else None
        return Outlets(first, first + 1, broker, "3.1.1")
    host, _, port = mqtt.partition(":")
    if not host or (port and not port.isdecimal()):
        raise ConfigError([f"--mqtt {mqtt}: expected a broker as HOST or HOST:PORT"])
    return Outlets(first, first + 1, (host, int(port or 1883)))


def _free_ports(stack: ExitStack) -> int:
    """First of so many free ports in a row, ours among demos until the end of `stack`. ConfigError when there are none.

    The gateway listens a second later only: what keeps another demo away meanwhile is a socket with the port's name.
    """
    for first in range(FIRST_PORT, LAST_PORT, 10):
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0bmsd-demo-{first}")
        except OSError:
            claim.close()
            continue
        stack.callback(claim.close)
        if all(_is_free(port) for port in range(first, first + PORTS)):
            return first
    raise ConfigError([f"no {PORTS} free ports between {FIRST_PORT} and {LAST_PORT}; name some with --port-base"])


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOCAL, port))
        except (OSError, OverflowError):
            return False
    return True


def _check_size(strings: int, modules: int) -> None:
    """Complain about a rack that is too large before anything starts."""
    if strings * modules > MAX_MODULES:
        count = f"{strings} strings of {modules} modules are {strings * modules} modules"
        raise ConfigError([f"demo: {count}; at most {MAX_MODULES} have an address on the bus"])
    parse(demo_toml(strings, modules, "/run/field", "/run/inverter", "/run"))


def _header(demo: _Demo, strings: int, modules: int) -> list[str]:
    shape = f"{strings} x {modules} x {CELLS} cells"
    web, broker = f"http://{LOCAL}:{demo.outlets.web}", demo.outlets.broker
    mqtt = f"{broker[0]}:{broker[1]}, topics bmsd/v1/#" if broker else "none: the package amqtt is not installed"
    return [
        f"Real control and gateway, simulated rack of {shape}. Ctrl-C ends it.",
        f"  REST:     {web}/api/v1/snapshot",
        f"  metrics:  {web}/metrics",
        f"  Modbus:   {LOCAL}:{demo.outlets.modbus}, unit 1 (bmsd points)",
        f"  MQTT:     {mqtt}",
        f"  records:  bmsd status --link {demo.link}",
        f"  log:      {demo.family.log}",
        "",
    ]


def _end(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    for again in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(again, signal.SIG_IGN)  # once is enough: the rack is stopped in order
    raise _EndedError


def _watch(demo: _Demo, header: list[str], seconds: float | None, *, as_json: bool) -> None:
    """Show every record until the time is over, then the orderly end; print the last one as JSON when asked to."""
    client = _connect(demo)
    shown: Screen = Silent() if as_json else screen(client.hello.name, header)
    ends_s = None if seconds is None else time.monotonic() + seconds
    newest: Published | None = None
    try:
        with suppress(_EndedError):
            while newest is None or ends_s is None or time.monotonic() < ends_s:
                demo.family.check_alive()
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
        code = demo.family.members["run"].wait(STOP_WITHIN_S)
        typer.echo("Stopped in order." if code == 0 else f"Control ended with exit code {code}.")


def _show_the_end(demo: _Demo, client: LinkClient, shown: Screen) -> None:
    """Ask control to leave and show its last records: it zeroes limits, waits for the current, opens in order."""
    control = demo.family.members["run"]
    if control.poll() is not None:
        return
    control.terminate()
    with suppress(BusError):  # the link closes with the process
        while control.poll() is None:
            shown.show(client.newest(timeout_s=STOP_WITHIN_S))


def _connect(demo: _Demo) -> LinkClient:
    until_s = time.monotonic() + START_WITHIN_S
    while True:
        demo.family.check_alive()
        try:
            return LinkClient(demo.link)
        except BusError:
            if time.monotonic() > until_s:
                raise
            time.sleep(0.1)
