"""The edges of one rack: both buses, the boards on one, the inverter on the other, and the gates before them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from bmsd.control.composition import Checked
from bmsd.core.contactors.sequence import STILL_A
from bmsd.fieldbus.bus import CanPort, PortCounts, buses, frames_of
from bmsd.fieldbus.can_error import ERROR_KINDS
from bmsd.fieldbus.can_socket import Filter
from bmsd.fieldbus.field import field
from bmsd.fieldbus.transmit_gate import Envelope, Rule, TransmitGate
from bmsd.inverters.port import InverterPort
from bmsd.model.command import Command
from bmsd.model.frame import Frame
from bmsd.model.host import ClockQuality, Host
from bmsd.model.plant import Plant
from bmsd.model.published import BusStatus
from bmsd.model.request import Request
from bmsd.model.snapshot import Snapshot

MOST_QUEUED_LIMITS = 6
"""Frames to the inverter that may wait in the kernel: a set."""
SILENT_S = 1.0
_NO_DROP = ("received", "sent", "opened", "left_waiting")


class RackIO:
    """Everything that touches a wire. Sans waiting: each method does what is due now and returns."""

    def __init__(self, rack: Checked) -> None:
        settings, self._plant = rack.settings, rack.plant
        bus, inverter = settings.fieldbus, settings.inverter
        self._boards = field(self._plant, rack.plan, listen_only=bus.listen_only)
        self.field = CanPort(
            bus.interface,
            bus.channel,
            name="field",
            filters=self._boards.filters,
            listen_only=bus.listen_only,
            bitrate=bus.bitrate,
        )
        rules = [Rule(*rule) for rule in rack.profile.transmit_rules]
        self._to_inverter_only = {(rule.can_id, rule.extended) for rule in rules}
        identifiers = [*rack.profile.receive_ids, *self._to_inverter_only]
        self._listen_only = bus.listen_only
        self.inverter = CanPort(
            inverter.interface,
            inverter.channel,
            name="inverter",
            filters=[Filter.exactly(*identifier) for identifier in identifiers],
            listen_only=bus.listen_only,
            most_queued=MOST_QUEUED_LIMITS,
        )
        self._ports = (self.field, self.inverter)
        self._port = InverterPort(rack.profile, self._plant.inverter)
        self._field_gate = TransmitGate(
            self.field,
            self._boards.rules,
            decode_contactors=self._boards.order,
            listen_only=bus.listen_only,
        )
        self._inverter_gate = TransmitGate(
            self.inverter,
            rules,
            decode_limits=rack.profile.decode_limits,
            envelope=_envelope(self._plant),
            listen_only=bus.listen_only,
        )
        self._heard: list[Frame] = []
        self._received_s = -math.inf
        self._foreign_to_inverter = 0

    @property
    def bus_count(self) -> int:
        return len(self._ports)

    @property
    def due_s(self) -> float:
        """When a question to the boards, a paced frame or the next try to open a bus is due."""
        return min(self._boards.due_s, self._port.due_s, *(port.due_s for port in self._ports))

    @property
    def readable(self) -> list[CanPort]:
        """The buses that frames may come from."""
        return [port for port in self._ports if port.up]

    @property
    def blocked_frames(self) -> int:
        """Frames that the gates did not let through since start."""
        return self._field_gate.blocked + self._inverter_gate.blocked

    @property
    def blocked_reasons(self) -> dict[str, int]:
        """Why frames were blocked, with their numbers."""
        return dict(self._field_gate.reasons + self._inverter_gate.reasons)

    def silent(self, now_s: float) -> bool:
        """Whether no frame has come for a while: then nothing needs to be looked for until one does."""
        return now_s - self._received_s > SILENT_S

    def open(self, now_s: float) -> None:
        """Try to open both buses; one that is not there is tried again with growing pauses."""
        for port in self._ports:
            port.step(now_s)

    def receive(self, now_s: float) -> None:
        """Read all that waits on both buses."""
        self.open(now_s)
        frames = self.field.drain()
        if len(frames):
            self._received_s = now_s
            self._boards.feed(frames, now_s)
        for frame in frames_of(self.inverter.drain()):
            self._received_s = now_s
            if (frame.can_id, frame.extended) in self._to_inverter_only:
                self._foreign_to_inverter += not self._listen_only
            else:
                self._heard.append(frame)

    def poll(self, now_s: float) -> None:
        """Send the questions that are due. What is answered was measured when its question went out."""
        for frame in self._boards.questions(now_s):
            if self._field_gate.send(frame, now_s):
                self._boards.asked(frame, now_s)

    def snapshot(
        self, now_s: float, host: Host, requests: tuple[Request, ...], utc: tuple[float | None, ClockQuality]
    ) -> Snapshot:
        """Return everything measured and requested as of now."""
        return Snapshot(
            now_s=now_s,
            modules=self._boards.modules(now_s),
            units=self._boards.units(now_s),
            buses=buses(
                self._ports,
                now_s,
                foreign_frames=(self._boards.foreign_frames, self._foreign_to_inverter),
                malformed_frames=(self._boards.malformed_frames, 0),
            ),
            host=host,
            inverter_age_s=self._port.inverter_age_s(now_s),
            requests=requests,
            utc_s=utc[0],
            utc_quality=utc[1],
        )

    def send(self, now_s: float, command: Command, *, started: bool, stopping: bool) -> None:
        """Send what a finished tick decided. Before the start nothing but questions is on the buses.

        Of a rack that another system controls the inverter is told nothing either.
        """
        if not started or self._listen_only:
            return
        self._field_gate.allow(command, now_s)
        self._inverter_gate.allow(command, now_s)
        for frame in self._boards.commands(command, now_s, stopping=stopping):
            self._field_gate.send(frame, now_s)
        self._to_inverter(now_s, command)

    def pace(self, now_s: float) -> None:
        """Send the inverter frame that is due between ticks."""
        if now_s >= self._port.due_s or self._heard:
            self._to_inverter(now_s, None)

    def send_stop(self, now_s: float, command: Command) -> bool:
        """Tell the inverter zero limits at once: the last words of a process that found a defect in itself.

        Return whether all of it went out; a limit frame may not follow its predecessor sooner than its interval.
        """
        stop = replace(command, ccl_a=0.0, dcl_a=0.0, charge_enabled=False, discharge_enabled=False, fresh=False)
        self._inverter_gate.allow(stop, now_s)
        sent = [self._inverter_gate.send(frame, now_s) for frame in self._port.profile.limit_frames(stop)]
        return all(sent)

    def missing(self, now_s: float) -> tuple[str, ...]:
        """Return what is not there, one sentence each."""
        down = [
            f"{port.name} bus {port.last_error or port.channel + ' is down'}" for port in self._ports if not port.up
        ]
        return (*down, *self._boards.missing(now_s))

    def bus_status(self) -> tuple[BusStatus, ...]:
        """Return the counters of both buses; those of the field bus also say what no board's answer was."""
        status, inverter = (_status(port) for port in self._ports)
        status.dropped.update(self._boards.counts)
        return status, inverter

    def may_end(self, snapshot: Snapshot) -> bool:
        """Whether all units that answer report open contactors; where nobody switches, whether no current is known."""
        units = snapshot.units
        if not self._boards.switches:
            return not bool((np.abs(units.current_a) >= STILL_A).any())
        answers = np.isfinite(units.state_age_s)
        closed = answers & (units.minus_output | units.plus_output | units.precharge_output)
        return not bool(closed.any())

    def close(self) -> None:
        for port in self._ports:
            port.close()

    def _to_inverter(self, now_s: float, command: Command | None) -> None:
        heard, self._heard = self._heard, []
        for frame in self._port.step(now_s, command, heard):
            if not self._inverter_gate.send(frame, now_s):
                self._port.not_sent()


def _envelope(plant: Plant) -> Envelope:
    """What the hardware stands as a whole: all strings together."""
    cells, strings = plant.layout.cells_in_series, plant.layout.strings
    return Envelope(
        cvl_v=plant.cell.max_v * cells,
        dvl_v=plant.cell.min_v * cells,
        ccl_a=plant.string_charge_max_a * strings,
        dcl_a=plant.string_discharge_max_a * strings,
    )


def _status(port: CanPort) -> BusStatus:
    counts: PortCounts = port.counts
    dropped = {kind: count for kind, count in vars(counts).items() if kind not in _NO_DROP}
    errors = {kind: count for kind, count in vars(port.health).items() if kind in ERROR_KINDS}
    return BusStatus(port.name, port.channel, counts.received, counts.sent, dropped, errors)
