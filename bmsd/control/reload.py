"""The configuration read again while control runs: off the loop, and only what may change takes effect."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bmsd.config.changed import Change, changes
from bmsd.control.composition import Checked, changed, checked
from bmsd.control.status_line import first
from bmsd.errors import ConfigError

REFUSED = "configuration.refused"
MOST_TOLD = 12
"""In an event; the log has all."""


@dataclass(frozen=True)
class Reloaded:
    """What came of it: the rack as it is from now on, what is new in it, and what in the file needs a restart.

    `complaints`: why nothing changed.
    """

    rack: Checked
    applied: tuple[Change, ...] = ()
    waiting: tuple[Change, ...] = ()
    complaints: tuple[str, ...] = ()


def reload(running: Checked) -> Reloaded:
    """Read the file of the running rack again. What was checked at the start is checked in the same way.

    So is the mixture with what needs a restart: it is what would be in force.
    """
    try:
        read = checked(running.path)
        found = list(changes(running.settings, read.settings))
        applied = [change for change in found if change.reloadable]
        waiting = [change for change in found if not change.reloadable]
        return Reloaded(changed(running, applied) if applied else running, tuple(applied), tuple(waiting))
    except ConfigError as error:
        return Reloaded(running, complaints=error.complaints)
    except Exception as error:  # control goes on with what it has, whatever it was
        return Reloaded(running, complaints=(f"{running.path}: not read: {type(error).__name__}: {error}",))


Told = tuple[str, str, str, dict[str, Any]]
"""Kind, severity, text of an event, and what only the log has."""


def told(found: Reloaded) -> list[Told]:
    """Return what is to be told of it."""
    if found.complaints:
        lines = found.complaints
        text = f"the configuration file is wrong, the settings before hold: {'; '.join(first(lines, MOST_TOLD))}"
        return [(REFUSED, "alarm", text, {"complaints": list(lines)})]
    events: list[Told] = []
    for kind, severity, text, what in (
        ("configuration.applied", "info", "settings changed", found.applied),
        ("configuration.waits", "warning", "changed in the file, and takes effect after a restart", found.waiting),
    ):
        if what:
            lines = tuple(map(str, what))
            events.append((kind, severity, f"{text}: {'; '.join(first(lines, MOST_TOLD))}", {"settings": list(lines)}))
    return events or [("configuration.unchanged", "info", "the configuration was read again: nothing has changed", {})]


class Reloader:
    """Reads in a thread, one file at a time; what is asked meanwhile is read afterwards."""

    def __init__(self, read: Callable[[Checked], Reloaded] = reload) -> None:
        self._read = read
        self._thread: threading.Thread | None = None
        self._found: Reloaded | None = None
        self._asked = False

    def ask(self) -> None:
        """Ask for the file to be read."""
        self._asked = True

    def step(self, running: Checked) -> Reloaded | None:
        """Begin what is asked for; return what was found since the last call."""
        if self._thread is not None:
            if self._thread.is_alive():
                return None
            self._thread = None
            return self._found
        if self._asked:
            self._asked = False
            thread = threading.Thread(target=self._run, args=(running,), name="reload", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:
                return Reloaded(running, complaints=(f"the file was not read: {error}; try again",))
            self._thread = thread
        return None

    def _run(self, running: Checked) -> None:
        self._found = self._read(running)
