"""`bmsd up`: control and gateway together, for a container; the end of either ends both."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from types import FrameType

from bmsd.control.composition import checked_whole
from bmsd.processes import bmsd, running

LOOK_EVERY_S = 0.05


def run_file(path: Path) -> int:
    """Run both until SIGTERM or SIGINT, or until one ends; return the exit code of the one that ended first.

    ConfigError when any part of the configuration is wrong. Control is stopped first: the gateway tells its end. It is
    also control that tells a service manager how both are. SIGHUP is passed on.
    """
    checked_whole(path)
    asked = False

    def ask(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        nonlocal asked
        asked = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ask)
    programs = {"run": bmsd("run", path), "gateway": bmsd("gateway", path)}
    with running(programs, speaks="run") as family:
        signal.signal(signal.SIGHUP, lambda *_: family.send(signal.SIGHUP))
        while not asked and family.ended() is None:
            time.sleep(LOOK_EVERY_S)
        ended = family.ended()
        first = _exit_code(family.members[ended].returncode) if ended else 0
    # neither may end by itself: 0 would say that all was well
    return (first or 1) if ended else max(_exit_code(process.returncode) for process in family.members.values())


def _exit_code(returned: int) -> int:
    """Return the exit code as a shell tells it: 128 and the signal of a process that a signal ended."""
    return 128 - returned if returned < 0 else returned
