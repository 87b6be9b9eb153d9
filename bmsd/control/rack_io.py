"""The edges of one rack: both buses, the boards on one, the inverter on the other, and the gates before them."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from bmsd.control.composition import Checked
from bmsd.fieldbus.bus import CanPort, Filter, PortCounts, buses, frames_of
from bmsd.fieldbus.drivers.slave.commands import Commands, ControlState
from bmsd.fieldbus.drivers.slave.read_back import contactor_order
from bmsd.fieldbus.drivers.slave.slots import ADDRESS_MASK, DATABASE, FILTERS, message_id
from bmsd.fieldbus.drivers.slave.sorting import Kind
from bmsd.fieldbus.poller import Poller
from bmsd.fieldbus.receive import Receiver
from bmsd.fieldbus.transmit_gate import Envelope, Rule, TransmitGate
from bmsd.inverters.port import InverterPort
from bmsd.model.command import Command
from bmsd.model.frame import Frame
from bmsd.model.plant import Plant
from bmsd.model.published import BusStatus
from bmsd.model.request import Request
from bmsd.model.snapshot import Host, Snapshot

_FREE = ("Sync", "IdentifyRequest")
_BOUND = ("Heartbeat", "ContactorCommand", "BalanceCommand", "TripReset")
_NO_DROP = ("received", "sent", "opened", "left_waiting")
_DROPPED = {
    kind: f"protocol_{kind.name.lower()}" for kind in Kind if kind not in (Kind.SOUND, Kind.DISCOVERY, Kind.TRIP)
}
"""What the receiver of the slave protocol drops, as it is called in the status of the field bus."""


class RackIO:
    """Everything that touches a wire. Sans waiting: each method does what is due now and returns."""

    def __init__(self, rack: Checked) -> None:
        settings, self._plant = rack.settings, rack.plant
        field, inverter = settings.fieldbus, settings.inverter
        self.field = CanPort(
            field.interface, field.channel, name="field", filters=FILTERS, listen_only=field.listen_only
        )
        rules = [Rule(*rule) for rule in rack.profile.transmit_rules]
        self._to_inverter_only = {(rule.can_id, rule.extended) for rule in rules}
        identifiers = [*rack.profile.receive_ids, *self._to_inverter_only]
        wanted = [Filter(can_id, 0x1FFFFFFF if wide else 0x7FF, wide) for can_id, wide in identifiers]
        self._listen_only = field.listen_only
        self.inverter = CanPort(
            inverter.interface, inverter.channel, name="inverter", filters=wanted, listen_only=field.listen_only
        )
        self._ports = (self.field, self.inverter)
        self._receiver = Receiver(self._plant.layout, self._plant.timing, listen_only=field.listen_only)
        self._poller = Poller(self._plant.timing, self._plant.layout)
        self._commands = Commands(self._plant.layout, self._plant.balance.lease_s)
        self._port = InverterPort(rack.profile, self._plant.inverter)
        self._field_gate = TransmitGate(
            self.field,
            _field_rules(),
            decode_contactors=partial(contactor_order, layout=self._plant.layout),
            listen_only=field.listen_only,
        )
        self._inverter_gate = TransmitGate(
            self.inverter,
            rules,
            decode_limits=rack.profile.decode_limits,
            envelope=_envelope(self._plant),
            listen_only=field.listen_only,
        )
        self._heard: list[Frame] = []
        self._foreign_to_inverter = 0

    @property
    def bus_count(self) -> int:
        return len(self._ports)

    @property
    def due_s(self) -> float:
        """When a SYNC or a paced frame is due."""
        return min(self._poller.due_s, self._port.due_s)

    @property
    def blocked_frames(self) -> int:
        """Frames that the gates did not let through since start."""
        return self._field_gate.blocked + self._inverter_gate.blocked

    @property
    def blocked_reasons(self) -> dict[str, int]:
        """Why frames were blocked, with their numbers."""
        return dict(self._field_gate.reasons + self._inverter_gate.reasons)

    def open(self, now_s: float) -> None:
        """Try to open both buses; one that is not there is tried again with growing pauses."""
        for port in self._ports:
            port.step(now_s)

    def receive(self, now_s: float) -> None:
        """Read all that waits on both buses."""
        self.open(now_s)
        frames = self.field.drain()
        if len(frames):
            self._receiver.feed(frames, now_s)
        for frame in frames_of(self.inverter.drain()):
            if (frame.can_id, frame.extended) in self._to_inverter_only:
                self._foreign_to_inverter += not self._listen_only
            else:
                self._heard.append(frame)

    def poll(self, now_s: float) -> None:
        """Send the SYNC and questions that are due. What was measured was measured when its SYNC went out."""
        frames = self._poller.step(now_s, self._receiver.unidentified(now_s))
        for index, frame in enumerate(frames):
            sent = self._field_gate.send(frame, now_s)
            if index == 0 and sent and self._poller.sync is not None:
                self._receiver.sync_sent(*self._poller.sync)

    def snapshot(self, now_s: float, period_s: float, requests: tuple[Request, ...], utc_s: float | None) -> Snapshot:
        """Return everything measured and requested as of now."""
        return Snapshot(
            now_s=now_s,
            modules=self._receiver.modules(now_s),
            units=self._receiver.units(now_s),
            buses=buses(self._ports, now_s, (self._receiver.foreign_frames, self._foreign_to_inverter)),
            host=Host(period_s, self.blocked_frames),
            inverter_age_s=self._port.inverter_age_s(now_s),
            requests=requests,
            utc_s=utc_s,
        )

    def send(self, now_s: float, command: Command, *, started: bool, stopping: bool) -> None:
        """Send what a finished tick decided. Before the start nothing but SYNC and questions is on the buses.

        Of a rack that another system controls the inverter is told nothing either.
        """
        if not started or self._listen_only:
            return
        self._field_gate.allow(command, now_s)
        self._inverter_gate.allow(command, now_s)
        state = ControlState.STOPPING if stopping else ControlState.RUNNING
        for frame in self._commands.frames(command, now_s, state):
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
        return (*down, *self._receiver.missing(now_s))

    def bus_status(self) -> tuple[BusStatus, ...]:
        """Return the counters of both buses; those of the field bus also say what no board's answer was."""
        field, inverter = (_status(port) for port in self._ports)
        counts = self._receiver.counts
        field.dropped.update({name: int(counts[kind]) for kind, name in _DROPPED.items()})
        return field, inverter

    def close(self) -> None:
        for port in self._ports:
            port.close()

    def _to_inverter(self, now_s: float, command: Command | None) -> None:
        heard, self._heard = self._heard, []
        for frame in self._port.step(now_s, command, heard):
            if not self._inverter_gate.send(frame, now_s):
                self._port.not_sent()


def contactors_open(snapshot: Snapshot) -> bool:
    """Whether all units that answer report open contactors."""
    units = snapshot.units
    answers = np.isfinite(units.state_age_s)
    return not bool((answers & (units.minus_output | units.plus_output | units.precharge_output)).any())


def _field_rules() -> list[Rule]:
    """Every message that bmsd may send to boards: free ones any time, the others only behind a finished tick."""
    rules = []
    for name in (*_FREE, *_BOUND):
        length = frozenset([DATABASE.get_message_by_name(name).length])
        mask = 0x1FFFFFFF & ~ADDRESS_MASK
        rules.append(Rule(message_id(name), True, length, mask=mask, needs_command=name in _BOUND))
    return rules


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
    return BusStatus(port.name, port.channel, counts.received, counts.sent, dropped)
