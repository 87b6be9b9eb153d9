"""The real daemon under the highest load of the slave protocol, measured from outside; runs where vcan0 and vcan1 are.

python -m tests.bench.vcan_load [SECONDS]     (JSON on standard output)
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from bmsd.link.client import LinkClient
from tests.bench.light_rack import LAYOUT
from tests.vcan.processes import Running
from tests.vcan.rack_on_can import RackOnCan

WARM_UP_S = 4.0


def measure(seconds: float) -> dict[str, float]:
    """Return what the daemon used and what it received while 32 boards were polled for so long."""
    changes = {
        "layout.strings": LAYOUT.strings,
        "layout.modules_per_string": LAYOUT.modules,
        "log": {"format": "json"},
    }
    with tempfile.TemporaryDirectory() as folder:
        rack = RackOnCan(Path(folder), changes)
        with Running("python", "-m", "tests.bench.light_rack", "vcan0") as boards:
            boards.says("ready", within_s=60.0)
            with rack.daemon() as daemon:
                daemon.says("rack.complete", within_s=30.0)
                time.sleep(WARM_UP_S)
                return _watched(rack, boards, daemon, seconds)


def _watched(rack: RackOnCan, boards: Running, daemon: Running, seconds: float) -> dict[str, float]:
    client = LinkClient(rack.folder / "socket.sock")
    first = client.newest(5.0)
    cpu_s, boards_s, began_s = daemon.cpu_s(), boards.cpu_s(), time.monotonic()
    time.sleep(seconds)
    passed_s = time.monotonic() - began_s
    cpu_s, boards_s = daemon.cpu_s() - cpu_s, boards.cpu_s() - boards_s
    client.newest(5.0)
    last = client.newest(5.0)
    boards.stop()
    sent = json.loads(boards.output.splitlines()[-1])["sent"]
    time.sleep(0.3)
    client.newest(5.0)
    end = client.newest(5.0)
    field = end.buses[0]
    received_s = (last.buses[0].received - first.buses[0].received) / passed_s
    polls = (last.snapshot.modules.cell_sync - first.snapshot.modules.cell_sync) / 4
    drops = {kind: count for kind, count in field.dropped.items() if count}
    peak_kb = _status_kb(daemon, "VmHWM")
    client.close()
    return {
        "seconds": passed_s,
        "polls_per_s": float(polls.min()) / passed_s,
        "frames_per_s": received_s,
        "sent_by_boards": sent,
        "received": field.received,
        "dropped": sum(drops.values()),
        "unknown_cells": int(np.isnan(last.snapshot.modules.cell_v).sum()),
        "daemon_cpu_share": cpu_s / passed_s,
        "boards_cpu_share": boards_s / passed_s,
        "daemon_rss_mib": _status_kb(daemon, "VmRSS") / 1024,
        "daemon_peak_mib": peak_kb / 1024,
        "late_s": last.lateness_s,
    }


def _status_kb(running: Running, name: str) -> float:
    lines = Path(f"/proc/{running.process.pid}/status").read_text().splitlines()
    return float(next(line for line in lines if line.startswith(name)).split()[1])


if __name__ == "__main__":
    sys.stdout = sys.stderr  # what processes say at their end is not the result
    result = measure(float(sys.argv[1]) if len(sys.argv) > 1 else 20.0)
    sys.__stdout__.write("RESULT " + json.dumps(result) + "\n")
