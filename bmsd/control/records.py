"""What control says of itself: a record of every tick on the link, and events of what changed."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from bmsd.codec import record
from bmsd.config.load import fingerprint
from bmsd.control.audit import Audit
from bmsd.control.journal import Journal
from bmsd.core.contactors import State
from bmsd.core.tick import Outcome
from bmsd.link.server import LinkServer
from bmsd.model.catalogue import CATALOGUE
from bmsd.model.changes import changes
from bmsd.model.published import PROTOCOL, Hello, Published, StringStatus
from bmsd.model.request import Request
from bmsd.model.row import Level

if TYPE_CHECKING:
    from bmsd.control.composition import Checked
    from bmsd.control.rack_io import RackIO

_CLOSING = (State.CLOSING_MINUS, State.PRECHARGE, State.CLOSING_PLUS)
IDLE_A = 0.5
BLOCKED_EVERY_S = 10.0


class Records:
    """Publishes every tick on the link, and what changed from one to the next as events."""

    def __init__(self, rack: Checked, io: RackIO, journal: Journal) -> None:
        self._rack = rack
        self._io = io
        self._journal = journal
        self._audit = Audit(journal)
        self._server: LinkServer | None = None
        self._last: Published | None = None
        self._sequence = 0
        self._blocked = 0
        self._blocked_due_s = 0.0
        self.boot_id = uuid.uuid4().hex
        self._hello = _hello(rack, self.boot_id)

    def open(self) -> None:
        """Listen on the link. BusError when that is not possible."""
        link = self._rack.settings.link
        self._server = LinkServer(
            self._rack.link_socket,
            self._rack.service_socket,
            self._hello,
            takes=link.takes,
            groups=(link.group, link.service_group),
        )
        for note in self._server.notes:
            self._journal.say("link.group", "info", note)

    def reconfigured(self, rack: Checked) -> None:
        """From now on the rack has these settings: who opens the link is told their hash."""
        self._hello = replace(self._hello, configuration=fingerprint(rack.settings))
        if self._server:
            self._server.greet(self._hello)

    def requests(self, now_s: float) -> list[Request]:
        """What readers asked since the last tick; taken or refused, it is an event."""
        if self._server is None:
            return []
        requests = self._server.step()
        leases = self._last.leases if self._last else ()
        for answered in self._server.answered:
            self._audit.take(answered, leases, now_s)
        return requests

    def tell(self, outcome: Outcome, lateness_s: float) -> Published:
        """Publish this tick and what changed since the one before; return its record."""
        published = self._published(outcome, lateness_s)
        for event in changes(self._last, published):
            all_missing = {"missing": list(published.missing)} if event.kind == "rack.missing" else {}
            self._journal.add(event, **all_missing)
        self._last = published
        self._tell_blocked(outcome.snapshot.now_s)
        self._tell_events()
        if self._server:
            self._server.publish(published)
        return published

    def close(self) -> None:
        """Tell the last events and stop listening."""
        self._tell_events()
        if self._server:
            self._server.close()

    def _tell_blocked(self, now_s: float) -> None:
        """Say that the gates blocked frames: at once, then every 10 s while it goes on."""
        new = self._io.blocked_frames - self._blocked
        if new and now_s >= self._blocked_due_s:
            self._blocked, self._blocked_due_s = self._io.blocked_frames, now_s + BLOCKED_EVERY_S
            text = f"frames blocked by the transmit gate: {new}, since start {self._blocked}"
            self._journal.say("gate.blocked", "alarm", text, reasons=self._io.blocked_reasons)

    def _tell_events(self) -> None:
        if self._server:
            self._server.tell(self._journal.untold())

    def _published(self, outcome: Outcome, lateness_s: float) -> Published:
        self._sequence += 1
        return Published(
            sequence=self._sequence,
            lifecycle=lifecycle_of(outcome),
            snapshot=outcome.snapshot,
            estimate=outcome.estimate,
            faults=outcome.faults,
            charge_bounds=outcome.limits.charge,
            discharge_bounds=outcome.limits.discharge,
            command=outcome.command,
            vetoes=outcome.vetoes,
            strings=tuple(StringStatus(s.state.value, s.since_s, s.reason) for s in outcome.contactors),
            buses=self._io.bus_status(),
            missing=self._io.missing(outcome.snapshot.now_s),
            lateness_s=lateness_s,
            leases=outcome.memory.leases,
            events_forgotten=self._server.forgotten if self._server else 0,
        )


def _hello(rack: Checked, boot_id: str) -> Hello:
    layout = rack.plant.layout
    return Hello(
        PROTOCOL,
        boot_id,
        rack.plant.name,
        *(layout.strings, layout.modules, layout.cells, layout.sensors),
        version=_version(),
        configuration=fingerprint(rack.settings),
        catalogue=hashlib.sha256(record.encode(CATALOGUE)).hexdigest(),
        tick_s=rack.plant.timing.tick_s,
    )


def _version() -> str:
    """The version of this package; empty when it runs without having been installed, which stops nothing."""
    try:
        return version("bmsd")
    except PackageNotFoundError:
        return ""


def lifecycle_of(outcome: Outcome) -> str:
    """The state that a user sees: the first of these that is true."""
    states = [string.state for string in outcome.contactors]
    current_a = outcome.command.current_a
    if outcome.memory.stopping:
        return "stopping"
    if not outcome.started:
        return "initialising"
    if any(fault.level is Level.TRIP for fault in outcome.faults):
        return "fault"
    if any(state in _CLOSING for state in states):
        return "precharge"
    if State.CLOSED not in states:
        return "standby"
    if any(fault.level is Level.ALARM for fault in outcome.faults):
        return "derated"
    if current_a is None or abs(current_a) < IDLE_A:
        return "idle"
    return "charging" if current_a > 0.0 else "discharging"
