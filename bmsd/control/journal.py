"""What happened since control's start, numbered: every event is a log line at once, and goes to the link's readers."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import structlog

from bmsd.clock import utc
from bmsd.model.catalogue import CATALOGUE
from bmsd.model.event import Event
from bmsd.model.host import ClockQuality

log = structlog.get_logger()

_NAMES = {row.code: row.name for row in CATALOGUE}
_NOT_LOGGED = ("now_s", "utc_s", "utc_quality", "kind")


class Journal:
    """Numbers events from 1. `clock` gives the monotonic time in s, `wall` the wall time and its quality."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], tuple[float | None, ClockQuality]] = utc,
    ) -> None:
        self._clock = clock
        self._wall = wall
        self._number = 0
        self._untold: list[Event] = []

    def say(self, kind: str, severity: str, text: str, **more: Any) -> None:
        """Add an event of now; `more` is for the log line only."""
        utc_s, quality = self._wall()
        self.add(Event(0, self._clock(), utc_s, kind, severity, text, utc_quality=quality), **more)

    def add(self, event: Event, **more: Any) -> None:
        """Add an event that has no number yet."""
        self._number += 1
        event = replace(event, number=self._number)
        self._untold.append(event)
        _log(event, more)

    def untold(self) -> list[Event]:
        """Return what was added since the last call."""
        events, self._untold = self._untold, []
        return events


def _log(event: Event, more: dict[str, Any]) -> None:
    say = {"info": log.info, "warning": log.warning}.get(event.severity, log.error)
    fields = {name: value for name, value in asdict(event).items() if value not in (None, "")}
    for name in _NOT_LOGGED:
        fields.pop(name, None)
    if event.code in _NAMES:
        fields["fault"] = _NAMES[event.code]
    say(event.kind, **fields, **more)
