"""Python programs that start at once: forked off a process that has imported everything already.

In the guest a page fault and a system call are dear, and a program's imports take 3 to 4 s of its only CPU. A fork
takes a few hundredths, and is from then on a process like any other: own memory, own sockets, no parent that matters.
What is forked has not been executed anew; who wants that says so (`Running(..., executed=True)`).

python -m tests.vcan.forks SOCKET
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

IMPORTED = (
    "bmsd.cli", "bmsd.control.daemon", "bmsd.inverters.pylontech_lv", "bmsd.show", "bmsd.simulate", "bmsd.status",
    "can.interfaces.socketcan", "encodings.cp1252", "encodings.utf_8_sig", "numpy.ma", "tests.vcan.rehearsal",
    "typer._adapters",
)  # fmt: skip
"""What the programs would import while they run, too."""
_PR_SET_CHILD_SUBREAPER = 36


class Forked:
    """A process as subprocess.Popen has them. The caller is its reaper: it must be the one who started the `Forks`."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        until_s = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if until_s is not None and time.monotonic() >= until_s:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
            time.sleep(0.01)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


class Forks:
    """The process that is forked. Until `start` there is none, and `start_process` returns None."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._listener: socket.socket | None = None
        self._socket: socket.socket | None = None

    def start(self, path: Path) -> None:
        """Let it import; the first job waits until it has."""
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(path))
        self._listener.listen(1)
        self._process = subprocess.Popen([sys.executable, "-m", "tests.vcan.forks", str(path)])

    def stop(self) -> None:
        """End the process; those that were forked off it live on."""
        assert self._process is not None
        for one in (self._socket, self._listener):
            if one is not None:
                one.close()
        self._process.kill()
        self._process.wait()
        self._process = self._listener = self._socket = None

    def start_process(self, command: list[str], environment: dict[str, str], output: int) -> Forked | None:
        """Start `bmsd ...` or `python -m module ...`; None for anything else, or without a process to fork."""
        name = Path(command[0]).name
        if self._listener is None or not (name == "bmsd" or (name == "python" and command[1:2] == ["-m"])):
            return None
        if self._socket is None:
            self._listener.settimeout(60.0)
            self._socket, _ = self._listener.accept()
        job = json.dumps({"command": [name, *command[1:]], "environment": environment, "folder": str(Path.cwd())})
        socket.send_fds(self._socket, [job.encode()], [output])
        return Forked(int(self._socket.recv(64)))


FORKS = Forks()
"""The one of this run; tests/vcan/conftest.py starts it where the interfaces are."""


def serve(path: str) -> dict[str, Any] | None:
    """Fork for each job that is asked for. Returns None at the end, and the job in the process that is to do it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as asker:
        asker.connect(path)
        while asker.recv(1, socket.MSG_PEEK):
            message, (output,), _, _ = socket.recv_fds(asker, 1 << 16, 1)
            if not _forked_off(asker):
                _speak_to(output)
                return dict(json.loads(message))
            os.close(output)
        return None


def _forked_off(asker: socket.socket) -> bool:
    """Fork, and tell the asker the process. True in the one that goes on serving, False in the new one.

    The one between them has ended by then, so that the asker is the reaper of the new one.
    """
    read, write = os.pipe()
    middle = os.fork()
    if middle:
        os.close(write)
        os.waitpid(middle, 0)
        asker.send(os.read(read, 64))
        os.close(read)
        return True
    os.close(read)
    pid = os.fork()
    if pid:
        os.write(write, str(pid).encode())
        os._exit(0)
    os.close(write)
    os.setsid()
    return False


def _speak_to(output: int) -> None:
    """Read nothing, and write to `output`."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, source in enumerate((nothing, output, output)):
        os.dup2(source, number)
    os.close(nothing)
    os.close(output)


def _do(job: dict[str, Any]) -> None:
    name, *arguments = job["command"]
    os.chdir(job["folder"])
    os.environ.clear()
    os.environ.update(job["environment"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if name == "bmsd":
        sys.argv = [name, *arguments]
        importlib.import_module("bmsd.cli").main()
    else:
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    for module in IMPORTED:
        importlib.import_module(module)
    gc.freeze()  # what is shared stays so
    with suppress(KeyboardInterrupt):
        job = serve(sys.argv[1])
    if job is not None:
        sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115 - as unbuffered as PYTHONUNBUFFERED
        sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
        _do(job)
