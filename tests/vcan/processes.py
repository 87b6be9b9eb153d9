"""Programs under test as real processes: started, watched, stopped, hung and killed from outside."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from tests.vcan.forks import FORKS, Forked
from tests.vcan.stall import METER

Value = TypeVar("Value")


class Running:
    """One process; its standard output and error are kept together in `output`. Killed at the end of its `with`.

    with Running("bmsd", "run", "-c", str(file)) as daemon:
        daemon.says("ready", within_s=5.0)
    """

    def __init__(
        self, program: str, *arguments: str, environment: dict[str, str] | None = None, executed: bool = False
    ) -> None:
        """Python programs are forked (see `forks`) where that is possible, unless they are to be `executed`."""
        self._executed = executed
        self._command = [_installed(program), *arguments]
        self._environment = {**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})}

    def __enter__(self) -> Running:
        self._log = tempfile.NamedTemporaryFile(suffix=".log")
        self.process: subprocess.Popen[bytes] | Forked
        self.process = self._forked() or subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env=self._environment,
            start_new_session=True,
        )
        return self

    def _forked(self) -> Forked | None:
        if self._executed or "LD_PRELOAD" in self._environment:  # which takes effect when a program is executed
            return None
        return FORKS.start_process(self._command, self._environment, self._log.fileno())

    def __exit__(self, *_: object) -> None:
        self.kill()
        # pytest shows this beside a failed test.
        sys.stdout.write(f"--- {' '.join(self._command)}: ended with {self.process.returncode}\n{self.output}\n")
        self._log.close()

    @property
    def output(self) -> str:
        return Path(self._log.name).read_text(errors="replace")

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def says(self, text: str, within_s: float) -> None:
        """Wait until `text` is part of the output. AssertionError when it is not, or the process ended before."""

        def said() -> bool:
            ended = not self.alive
            if text in self.output:
                return True
            assert not ended, f"ended with {self.process.returncode} before saying {text!r}:\n{self.output}"
            return False

        until(said, within_s, f"the output has {text!r}")

    def stop(self, within_s: float = 10.0) -> int:
        """Ask it to end (SIGTERM) and return its exit code. TimeoutExpired when it does not obey."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(within_s)

    def interrupt(self, within_s: float = 10.0) -> int:
        """Ctrl-C, and the exit code. TimeoutExpired when it does not obey."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(within_s)

    def hang(self) -> None:
        """SIGSTOP: it no longer runs, its sockets and locks stay."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL, to it and to whatever it started; no clean-up of its own."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def cpu_s(self) -> float:
        """Return the processor time used so far, user and system."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_bytes(self) -> int:
        """Return the memory it holds now."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


def until(condition: Callable[[], Value], within_s: float, what: str) -> Value:
    """Ask `condition` again and again until it is true and return its value. AssertionError says `what` never was.

    Time that the computer lost meanwhile does not count.
    """
    began_s, deadline_s = time.time(), time.monotonic() + within_s
    while not (value := condition()):
        late_s = time.monotonic() - deadline_s
        assert late_s < 0.0 or late_s < METER.lost_s(began_s), f"not within {within_s} s: {what}"
        time.sleep(0.01)
    return value


def _installed(program: str) -> str:
    """Return the program of this interpreter's environment, else the name for the search path."""
    beside = Path(sys.executable).with_name(program)
    return str(beside) if beside.exists() else program
