"""`bmsd sim`: the simulated rack of a configuration on the buses that it names."""

from __future__ import annotations

import gc
import sys
import threading
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

from bmsd.config.load import load, plant, switches
from bmsd.config.schema import Settings
from bmsd.errors import BusError, ConfigError
from bmsd.fieldbus.unix_bus import Hub
from bmsd.sim.packing import prepare
from bmsd.sim.run import run
from bmsd.sim.scenario import SimSettings, load_settings


def run_file(path: Path, seconds: float | None) -> None:
    """Simulate until SIGTERM or Ctrl-C, or for `seconds`.

    A hub of the `unix` interface is started where none listens. ConfigError lists every complaint, also about
    the `[sim]` table.
    """
    settings = load(path)
    if not switches(settings):
        raise ConfigError(["fieldbus.driver: mapped without units; expected slave: no other boards can be simulated"])
    simulated = simulation(settings)
    prepare()
    gc.collect()
    gc.freeze()  # a full collection of what stays for good takes 20 ms, a time slot of a board 2.6 ms
    buses = (settings.fieldbus, settings.inverter)
    with ExitStack() as stack:
        for bus in buses:
            if bus.interface == "unix":
                _hub_where_none(Path(bus.channel), stack)
        field, inverter = ((bus.interface, bus.channel) for bus in buses)
        stop = threading.Event()
        if seconds is not None:
            timer = threading.Timer(seconds, stop.set)
            timer.daemon = True
            timer.start()
        run(simulated, field, inverter, stop, missing=_say)


def _say(missing: tuple[str, ...]) -> None:
    """Say on standard error which buses are waited for."""
    text = f"waits for {'; '.join(missing)}" if missing else "all buses are there"
    print(f"bmsd sim: {text}", file=sys.stderr, flush=True)  # noqa: T201


def simulation(settings: Settings) -> SimSettings:
    """Return the simulated rack: what its [sim] table leaves open is that of the configuration."""
    rack = plant(settings)
    simulated = load_settings(
        settings.sim,
        rack.layout,
        rack.cell.capacity_ah,
        capacitance_f=rack.ratings.bus_capacitance_f,
        precharge_ohm=rack.ratings.precharge_ohm,
    )
    return replace(simulated, chemistry=rack.cell.chemistry)


def _hub_where_none(path: Path, stack: ExitStack) -> None:
    """Start a hub, unless somebody's hub is there: then that is the bus."""
    with suppress(BusError):
        hub = Hub(path)
        hub.start()
        stack.callback(hub.stop)
