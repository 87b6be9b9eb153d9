"""Simulated days of the unmodified programs: simulator, control and gateway on vcan, watched from outside.

python -m tests.soak.days DAYS FOLDER     (writes samples.csv and result.json there; exit code 1: something is wrong)

It is meant for a kernel in which time passes only while everybody sleeps (`run`): the clocks of all processes agree, a
tick is never late, and what is wrong after a day is wrong with bmsd. The site is a solar one: charged by day until the
rack is full, within the first three hours, and discharged by night. Nothing fails in it, so nothing may be reported.
"""

from __future__ import annotations

import csv
import json
import socket
import struct
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from bmsd.config.load import load
from bmsd.config.schema import Settings
from bmsd.link.client import LinkClient
from tests.vcan.processes import Running, until
from tests.vcan.rack_on_can import RackOnCan

DAY_S = 86400.0
SAMPLE_S = 600.0
SETTLED_S = 1800.0
"""Memory that is taken in this time after the start is no growth: caches fill, the first save is made."""
MOST_GROWTH_MIB_PER_DAY = 1.0
A_FEW_PAGES_MIB = 0.25
"""What a straight line makes of a step of this size in a short run is no growth."""
MOST_WRITTEN_MIB_PER_DAY = 50.0
MOST_DRIFT = 1e-4
"""Of ticks and polls against the clock, after the first sample."""
SITE = {
    "log": {"format": "json"},
    "sim.soc0": 0.9,
    "sim.inverter": {"profile": "solar", "charge_a": 30.0, "discharge_a": 17.0, "period_s": DAY_S},
    "modbus.port": 1502,
}


@dataclass(frozen=True)
class Sample:
    """One moment. Memory in MiB, written bytes since start, `saved_s`: age of the state file."""

    at_s: float
    ticks: int
    polls: float
    soc: float
    current_a: float
    lifecycle: str
    control_mib: float
    gateway_mib: float
    simulator_mib: float
    control_written: int
    gateway_written: int
    saved_s: float
    told_ticks: int
    """Ticks as a Modbus client reads them from the gateway."""


class Site:
    """Everything that runs, and how it is looked at."""

    def __init__(self, rack: RackOnCan, simulator: Running, control: Running, gateway: Running) -> None:
        self.rack, self.simulator, self.control, self.gateway = rack, simulator, control, gateway

    def sample(self, began_s: float) -> Sample:
        """Look once. AssertionError when a process has ended."""
        for process in (self.simulator, self.control, self.gateway):
            assert process.alive, process.output[-2000:]
        client = LinkClient(self.rack.folder / "socket.sock")
        record = client.newest(5.0)
        client.close()
        state = self.rack.folder / "state.bin"
        return Sample(
            at_s=time.monotonic() - began_s,
            ticks=record.sequence,
            polls=float(record.snapshot.modules.cell_sync.min()) / 4.0,
            soc=float(record.estimate.soc or np.nan),
            current_a=float(record.command.current_a or np.nan),
            lifecycle=record.lifecycle,
            control_mib=self.control.resident_bytes() / 2**20,
            gateway_mib=self.gateway.resident_bytes() / 2**20,
            simulator_mib=self.simulator.resident_bytes() / 2**20,
            control_written=written(self.control),
            gateway_written=written(self.gateway),
            saved_s=time.time() - state.stat().st_mtime,
            told_ticks=sequence_of_gateway(),
        )


def written(process: Running) -> int:
    """Return the bytes that the process has written to files, terminals and pipes; sockets do not count."""
    lines = Path(f"/proc/{process.process.pid}/io").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("wchar")).split()[1])


def sequence_of_gateway() -> int:
    """Return the point `sequence` as it is read over Modbus TCP."""
    with socket.create_connection(("127.0.0.1", 1502), timeout=10.0) as connection:
        connection.sendall(struct.pack(">HHHBBHH", 1, 0, 6, 1, 4, 0, 2))
        return int(struct.unpack(">I", connection.recv(64)[9:13])[0])


def wrong(samples: Sequence[Sample], log: str, settings: Settings) -> Iterator[str]:
    """Yield what is not as it must be, one sentence each."""
    tick_s, poll_s = settings.timing.tick_s, settings.timing.poll_s
    for line in log.splitlines():
        event = json.loads(line) if line.startswith("{") else {"event": line}
        if event["event"] in ("fault.raised", "guard.veto", "gate.blocked", "state.not_saved") or "event" not in event:
            yield f"control said: {line}"
    first, last = samples[0], samples[-1]
    span_s = last.at_s - first.at_s
    for name, period_s in (("ticks", tick_s), ("polls", poll_s)):
        drift_s = (getattr(last, name) - getattr(first, name)) * period_s - span_s
        if not abs(drift_s) < MOST_DRIFT * span_s + period_s:
            yield f"{name} are {drift_s:.2f} s ahead after {span_s:.0f} s"
    for sample in samples:
        if not sample.saved_s <= settings.state.save_period_s + 5.0:
            yield f"at {sample.at_s:.0f} s the state was {sample.saved_s:.0f} s old"
        if not abs(sample.told_ticks - sample.ticks) <= 5:
            yield f"at {sample.at_s:.0f} s the gateway told tick {sample.told_ticks} of {sample.ticks}"
        if sample.lifecycle not in ("idle", "charging", "discharging"):
            yield f"at {sample.at_s:.0f} s the rack was {sample.lifecycle}"
    for name in ("control_mib", "gateway_mib"):
        settled = [getattr(sample, name) for sample in samples if sample.at_s >= SETTLED_S]
        if len(settled) < 2:
            yield f"too short a run to tell whether {name} grows"
        elif growth(samples, name) >= MOST_GROWTH_MIB_PER_DAY and settled[-1] - settled[0] > A_FEW_PAGES_MIB:
            yield f"{name} grows by {growth(samples, name):.2f} MiB a day"
    for name in ("control_written", "gateway_written"):
        if not per_day(samples, name) / 2**20 < MOST_WRITTEN_MIB_PER_DAY:
            yield f"{name}: {per_day(samples, name) / 2**20:.1f} MiB a day"


def growth(samples: Sequence[Sample], name: str) -> float:
    """Return the slope of a straight line through the settled samples, MiB per day."""
    settled = [sample for sample in samples if sample.at_s >= SETTLED_S]
    if len(settled) < 2:
        return float("nan")
    return float(np.polyfit([s.at_s / DAY_S for s in settled], [getattr(s, name) for s in settled], 1)[0])


def per_day(samples: Sequence[Sample], name: str) -> float:
    """Return what was written, bytes per day."""
    first, last = samples[0], samples[-1]
    return (getattr(last, name) - getattr(first, name)) * DAY_S / (last.at_s - first.at_s)


def live(days: float, folder: Path) -> int:
    """Let the site run for so many days; return the exit code."""
    home = Path("/tmp/soak")
    home.mkdir()
    rack = RackOnCan(home, SITE)
    samples: list[Sample] = []
    with (folder / "samples.csv").open("w", buffering=1, newline="") as kept:
        table = csv.DictWriter(kept, [field.name for field in fields(Sample)])
        table.writeheader()
        with rack.simulator() as simulator, rack.daemon() as control:
            control.says('"state": "closed"', within_s=120.0)
            with Running("bmsd", "gateway", "-c", str(rack.file)) as gateway:
                site = Site(rack, simulator, control, gateway)
                until(lambda: _answers(), 60.0, "the gateway answers")
                began_s = time.monotonic()
                while not samples or samples[-1].at_s < days * DAY_S:
                    time.sleep(SAMPLE_S)
                    samples.append(site.sample(began_s))
                    table.writerow(asdict(samples[-1]))
                    sys.stdout.write(f"day {samples[-1].at_s / DAY_S:.3f}: {samples[-1].lifecycle}\n")
                    sys.stdout.flush()
                faults = list(wrong(samples, control.output, load(rack.file)))
                faults += [] if control.stop(20.0) == 0 else [f"control ended with {control.process.returncode}"]
    _conclude(samples, faults, folder)
    return 1 if faults else 0


def _answers() -> bool:
    try:
        return sequence_of_gateway() > 0
    except OSError:
        return False


def _conclude(samples: Sequence[Sample], faults: Sequence[str], folder: Path) -> None:
    result = {
        "days": samples[-1].at_s / DAY_S,
        "control_growth_mib_per_day": growth(samples, "control_mib"),
        "gateway_growth_mib_per_day": growth(samples, "gateway_mib"),
        "control_mib": samples[-1].control_mib,
        "gateway_mib": samples[-1].gateway_mib,
        "control_written_mib_per_day": per_day(samples, "control_written") / 2**20,
        "gateway_written_mib_per_day": per_day(samples, "gateway_written") / 2**20,
        "soc_lowest": min(sample.soc for sample in samples),
        "soc_highest": max(sample.soc for sample in samples),
        "wrong": list(faults),
    }
    (folder / "result.json").write_text(json.dumps(result, indent=1) + "\n")
    sys.stdout.write(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(live(float(sys.argv[1]), Path(sys.argv[2])))
