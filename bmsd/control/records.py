"""What control says of itself: the link's records, and log lines about what changed."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import structlog

from bmsd.core.contactors import State
from bmsd.core.tick import Outcome
from bmsd.link.server import LinkServer
from bmsd.model.catalogue import Level
from bmsd.model.fault import Fault
from bmsd.model.published import PROTOCOL, Hello, Published, StringStatus
from bmsd.model.request import Request

if TYPE_CHECKING:
    from bmsd.control.composition import Checked
    from bmsd.control.rack_io import RackIO

log = structlog.get_logger()

_CLOSING = (State.CLOSING_MINUS, State.PRECHARGE, State.CLOSING_PLUS)
IDLE_A = 0.5


class Records:
    """Publishes every tick on the link and logs what changed from one to the next."""

    def __init__(self, rack: Checked, io: RackIO) -> None:
        self._rack = rack
        self._io = io
        self._server: LinkServer | None = None
        self._sequence = 0
        self._missing: tuple[str, ...] = ()
        self._lifecycle = ""
        self._blocked = 0
        self.boot_id = uuid.uuid4().hex

    def open(self) -> None:
        """Listen on the link. BusError when that is not possible."""
        layout = self._rack.plant.layout
        shape = (layout.strings, layout.modules, layout.cells, layout.sensors)
        hello = Hello(PROTOCOL, self.boot_id, self._rack.plant.name, *shape)
        self._server = LinkServer(self._rack.link_socket, self._rack.service_socket, hello)

    def requests(self) -> list[Request]:
        """What readers asked since the last tick."""
        requests = self._server.step() if self._server else []
        for request in requests:
            log.info("request.taken", request=str(request))
        return requests

    def tell(self, outcome: Outcome, before: Outcome | None, lateness_s: float) -> None:
        """Publish this tick and log what changed since the one before."""
        missing = self._io.missing(outcome.snapshot.now_s)
        lifecycle = lifecycle_of(outcome)
        self._log(outcome, before, missing, lifecycle)
        self._sequence += 1
        if self._server is None:
            return
        self._server.publish(
            Published(
                sequence=self._sequence,
                lifecycle=lifecycle,
                snapshot=outcome.snapshot,
                estimate=outcome.estimate,
                faults=outcome.faults,
                charge_bounds=outcome.limits.charge,
                discharge_bounds=outcome.limits.discharge,
                command=outcome.command,
                vetoes=outcome.vetoes,
                strings=tuple(StringStatus(s.state.value, s.since_s, s.reason) for s in outcome.contactors),
                buses=self._io.bus_status(),
                missing=missing,
                lateness_s=lateness_s,
            )
        )

    def close(self) -> None:
        if self._server:
            self._server.close()

    def _log(self, outcome: Outcome, before: Outcome | None, missing: tuple[str, ...], lifecycle: str) -> None:
        was = {fault.code: fault for fault in before.faults} if before else {}
        now = {fault.code: fault for fault in outcome.faults}
        for code in now.keys() - was.keys():
            _say_raised(now[code])
        for code in was.keys() - now.keys():
            log.info("fault.cleared", code=code, fault=was[code].name)
        if missing != self._missing:
            log.info("rack.missing", missing=list(missing)) if missing else log.info("rack.complete")
            self._missing = missing
        if lifecycle != self._lifecycle:
            log.info("rack.state", state=lifecycle)
            self._lifecycle = lifecycle
        if outcome.vetoes and (before is None or not before.vetoes):
            log.error("guard.veto", vetoes=list(outcome.vetoes))
        if self._io.blocked_frames != self._blocked:
            self._blocked = self._io.blocked_frames
            log.error("gate.blocked", frames=self._blocked, reasons=self._io.blocked_reasons)
        for index, string in enumerate(outcome.contactors):
            last = before.contactors[index] if before else None
            if last is None or last.state is not string.state:
                log.info("string.state", string=index + 1, state=string.state.value, reason=string.reason)


def _say_raised(fault: Fault) -> None:
    say = log.warning if fault.level <= Level.WARNING else log.error
    say(
        "fault.raised",
        code=fault.code,
        fault=fault.name,
        severity=fault.level.name.lower(),
        string=fault.string,
        module=fault.module,
        item=fault.item,
        value=fault.value,
        subjects=fault.count,
    )


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
