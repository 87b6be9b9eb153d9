"""`bmsd sim` with mishaps that begin when a test says so: it reads them from a file whenever that changes.

python -m tests.vcan.rehearsal CONFIG MISHAPS     (MISHAPS: JSON, a list of tables as in [[sim.mishap]])
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from bmsd.config.load import load, plant
from bmsd.sim.mishap import Mishap
from bmsd.sim.run import run
from bmsd.sim.scenario import load_settings
from bmsd.sim.world import SimWorld


def rehearse(config: Path, mishaps: Path) -> None:
    """Simulate the rack of the configuration on its buses until SIGTERM."""
    settings = load(config)
    rack = plant(settings)
    simulated = load_settings(settings.sim, rack.layout, rack.cell.capacity_ah)
    read_ns = 0

    def watch(world: SimWorld) -> None:
        nonlocal read_ns
        written_ns = mishaps.stat().st_mtime_ns if mishaps.exists() else 0
        if written_ns != read_ns:
            read_ns = written_ns
            world.befall([Mishap(**table) for table in json.loads(mishaps.read_text())])
            print("now:", mishaps.read_text(), flush=True)  # noqa: T201 - shown beside a failed test

    field, inverter = ((bus.interface, bus.channel) for bus in (settings.fieldbus, settings.inverter))
    run(simulated, field, inverter, watch=watch)


if __name__ == "__main__":
    rehearse(Path(sys.argv[1]), Path(sys.argv[2]))
