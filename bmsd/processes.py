"""Several processes of bmsd that live and die together: the demo's, and those of `bmsd up`."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from bmsd.errors import BusError

STOP_WITHIN_S = 12.0
LAST_WORDS = 20
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of prctl(2)


@dataclass(frozen=True)
class Family:
    """Processes by name. `log` is the file with what they say, None: they say it themselves."""

    members: dict[str, subprocess.Popen[bytes]]
    log: Path | None

    def ended(self) -> str | None:
        """Return the name of one that has ended, None while all run."""
        return next((name for name, process in self.members.items() if process.poll() is not None), None)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to all."""
        for process in self.members.values():
            process.send_signal(number)

    def check_alive(self) -> None:
        """BusError with the last words of a process that ended by itself."""
        name = self.ended()
        if name is None:
            return
        words = f"bmsd {name} ended with exit code {self.members[name].returncode}."
        if self.log is not None:
            lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
            words += " It said last:\n" + "\n".join(lines[-LAST_WORDS:])
        raise BusError(words)


@contextmanager
def running(modules: Mapping[str, Sequence[str]], log: Path | None = None, speaks: str = "") -> Iterator[Family]:
    """Run these Python modules (name -> module and arguments) for as long as the block lasts.

    They are stopped in the order in which they are named. Starts no thread: they are forked. The one that `speaks`
    tells the service manager for all of them.
    """
    members: dict[str, subprocess.Popen[bytes]] = {}
    with ExitStack() as stack:
        said = None if log is None else stack.enter_context(open(log, "wb"))
        stack.callback(_stop_all, members)
        for name, arguments in modules.items():
            members[name] = _start(arguments, said, _environment(name == speaks))
        yield Family(members, log)


def bmsd(command: str, config: Path) -> list[str]:
    """Return module and arguments of a command with this configuration."""
    return ["bmsd", command, "-c", str(config)]


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process: by asking, after a while by force."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(STOP_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _stop_all(members: Mapping[str, subprocess.Popen[bytes]]) -> None:
    for process in members.values():
        stop(process)


def _environment(speaks: bool) -> dict[str, str]:
    """Return our environment without what the service manager meant for this process alone."""
    ours = {"WATCHDOG_PID", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"}
    if not speaks:
        ours |= {"NOTIFY_SOCKET", "WATCHDOG_USEC"}
    return {name: value for name, value in os.environ.items() if name not in ours}


def _start(arguments: Sequence[str], said: IO[bytes] | None, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=said,
        stderr=said,
        env=environment,
        process_group=0,  # the terminal's Ctrl-C is for the parent, which stops them in order
        preexec_fn=_die_with_parent,
    )


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGTERM)
