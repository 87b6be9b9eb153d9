"""The installed services, with a simulated rack on vcan0 and vcan1, as a person at the rack meets them.

Only where systemd is PID 1 and all may be broken: the guest of tests/systemd/boot.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, cast

from bmsd.errors import BmsdError
from bmsd.link.client import LinkClient
from bmsd.link.wire import Asked
from bmsd.model.published import Published
from tests.vcan.processes import until
from tests.vcan.whole_rack import WholeRack, quick
from tests.vcan.wire import Candump

ROOT = Path(__file__).parents[2]
CONFIGURATION = Path("/etc/bmsd/bmsd.toml")
STATE = Path("/var/lib/bmsd")
VENV = Path("/opt/bmsd/venv")
LINK, SERVICE = Path("/run/bmsd/link.sock"), Path("/run/bmsd/service.sock")
STARTED_WITHIN_S = 180.0
"""Of a process in the guest, where Python starts as slowly as the computer is busy."""
FOLDER = Path("/run/rack-of-the-test")
SETTINGS: Mapping[str, Any] = {
    "state.directory": str(STATE),
    "link.socket": str(LINK),
    "link.service_socket": str(SERVICE),
    "link.group": "bmsd-link",
    "link.service_group": "bmsd-service",
    "log": {"format": "text"},
    "modbus": {"most_per_address": 32},
}


def run(*command: str | Path, fails: bool = False) -> str:
    """Run a command and return all that it says; AssertionError when it fails (or does not, where it has to)."""
    done = subprocess.run(
        [str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert (done.returncode != 0) is fails, f"{command} ended with {done.returncode}:\n{done.stdout}"
    return done.stdout


class Unit:
    """One unit of systemd."""

    def __init__(self, name: str) -> None:
        self.name = name

    def show(self, name: str) -> str:
        return run("systemctl", "show", "-P", name, self.name).strip()

    def start(self) -> None:
        run("systemctl", "start", self.name)

    def stop(self) -> None:
        run("systemctl", "stop", self.name)

    def signal(self, number: signal.Signals) -> None:
        run("systemctl", "kill", "--kill-whom=main", f"--signal={number.name}", self.name)

    @property
    def pid(self) -> int:
        """Its main process; 0: none."""
        return int(self.show("MainPID"))

    @property
    def alive(self) -> bool:
        return self.show("ActiveState") == "active"

    @property
    def restarts(self) -> int:
        return int(self.show("NRestarts"))

    def restarted(self, since: int, within_s: float = STARTED_WITHIN_S) -> None:
        """Wait until it is up again after more than so many restarts."""
        until(lambda: self.restarts > since and self.alive, within_s, f"{self.name} is up again")

    def journal(self, since_s: float) -> list[dict[str, Any]]:
        """Return what the journal has of it since then: its own lines and those of systemd."""
        run("journalctl", "--sync")
        # "--since" has whole seconds only
        lines = run("journalctl", "-o", "json", "-u", self.name, f"--since=@{int(since_s)}").splitlines()
        entries = (json.loads(line) for line in lines if line.startswith("{"))
        return [entry for entry in entries if int(entry["__REALTIME_TIMESTAMP"]) >= since_s * 1e6]

    def says(self, text: str, since_s: float, within_s: float = 10.0) -> None:
        """Wait until the journal has this of it."""
        until(
            lambda: any(text in str(entry["MESSAGE"]) for entry in self.journal(since_s)),
            within_s,
            f"{self.name} says {text!r}",
        )


CONTROL, GATEWAY = Unit("bmsd.service"), Unit("bmsd-gateway.service")


class Ticks:
    """Reads every record of control in a thread of its own: how late its ticks were."""

    def __enter__(self) -> Ticks:
        self.records: list[Published] = []
        self._client = LinkClient(LINK)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._client.close()

    def _read(self) -> None:
        while not self._ended.is_set():
            self.records.append(self._client.next(10.0))


class Served:
    """What runs, and what both wires say of it from the beginning."""

    def __init__(self, whole: WholeRack, stack: ExitStack) -> None:
        self.whole = whole
        self._stack = stack

    def boards(self) -> None:
        """The simulated rack is there from now on."""
        if self.whole.boards is None:
            self.whole.boards = self._stack.enter_context(self.whole.rack.simulator())

    def make_well(self) -> None:
        """Start what does not run, acknowledge what waits for it, and wait until the string is closed."""
        self.boards()
        self.configured()
        for unit in (CONTROL, GATEWAY):
            run("systemctl", "reset-failed", unit.name)
            unit.start()
        self.whole.close()
        until(self._closed, 90.0, "the string is closed")

    def wait_for_current(self) -> None:
        # SYS-001 of a computer that stood still holds limits at zero for 60 s
        self.whole.wait_for_current(lambda amps: abs(amps) > 10.0, within_s=90.0)

    def _closed(self) -> bool:
        now = self.whole.state()
        for fault in now.faults:
            if fault.latched:
                self.ask("reset", fault.code, "the test is over")
        if now.strings[0].state == "locked":
            self.ask("connect")
        return now.strings[0].state == "closed" and not any(fault.latched for fault in now.faults)

    def ask(self, what: str, code: str = "", reason: str = "") -> None:
        """Ask as service."""
        client = LinkClient(SERVICE)
        client.ask(Asked(what, code, reason))
        client.close()

    def state_when(self, fits: Callable[[Published], bool], within_s: float, what: str) -> Published:
        """Wait for a record that fits, through restarts of control."""

        def asked() -> Published | None:
            with suppress(BmsdError, OSError):
                record = self.whole.state()
                return record if fits(record) else None
            self.whole.close()
            return None

        found = until(asked, within_s, what)
        assert found is not None
        return found

    def configured(self) -> None:
        """The configuration is the one of this rack."""
        shutil.copy(self.whole.rack.file, CONFIGURATION)
        CONFIGURATION.chmod(0o644)


@contextmanager
def installed_rack() -> Iterator[Served]:
    """The Debian package installed, with the configuration of a quick rack."""
    run("dpkg", "--force-unsafe-io", "-i", *sorted((ROOT / "build").glob("bmsd_*-1_*.deb")))
    for unit in (CONTROL, GATEWAY):
        patient = Path(f"/run/systemd/system/{unit.name}.d/busy-computer.conf")
        patient.parent.mkdir(parents=True)
        patient.write_text(f"[Service]\nTimeoutStartSec={STARTED_WITHIN_S:.0f}\n")
    run("systemctl", "daemon-reload")
    FOLDER.mkdir()
    # the names under which the tests of tests/vcan know the sockets
    os.symlink(LINK, FOLDER / "socket.sock")
    os.symlink(SERVICE, FOLDER / "service_socket.sock")
    with ExitStack() as stack:
        field, inverter = (stack.enter_context(Candump(name)) for name in ("vcan0", "vcan1"))
        whole = WholeRack(quick(FOLDER, SETTINGS), field, inverter, cast(Any, CONTROL))
        stack.callback(whole.close)
        served = Served(whole, stack)
        served.configured()
        yield served
        for unit in (CONTROL, GATEWAY):
            if unit.alive:
                unit.stop()


def stamp_s(unit: Unit, name: str) -> float:
    """Return a time stamp of a unit as seconds of the wall clock."""
    shown = run("systemctl", "show", "--timestamp=us+utc", "-P", name, unit.name).strip()
    whole, _, fraction = shown.removesuffix(" UTC").partition(".")
    return time.mktime(time.strptime(whole, "%a %Y-%m-%d %H:%M:%S")) - time.timezone + float(f"0.{fraction}")
