"""The field bus's side of a rack: what its boards and units are sent, and what they say, whatever they speak.

`SlaveField` polls boards and contactor units of the slave protocol. `MappedField` hears boards that a DBC describes,
asks them where they must be asked, and has contactor units of the slave protocol beside them, or none: then nothing
switches, and no heartbeat and no command exists.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

import numpy as np

from bmsd.fieldbus.bus import passes_any
from bmsd.fieldbus.can_socket import Filter
from bmsd.fieldbus.drivers.mapped import Receiver as MappedReceiver
from bmsd.fieldbus.drivers.mapped.plan import Plan
from bmsd.fieldbus.drivers.slave import Receiver as SlaveReceiver
from bmsd.fieldbus.drivers.slave.commands import Commands, ControlState, rules
from bmsd.fieldbus.drivers.slave.read_back import ContactorOrder, contactor_order
from bmsd.fieldbus.drivers.slave.slots import ADDRESS_MASK, FILTERS, message_id
from bmsd.fieldbus.drivers.slave.sorting import Kind
from bmsd.fieldbus.poller import Poller
from bmsd.fieldbus.transmit_gate import Rule
from bmsd.model.command import Command
from bmsd.model.frame import EXTENDED_FLAG, Frame, RawFrames
from bmsd.model.plant import Plant
from bmsd.model.snapshot import Modules, Units

_DROPPED = {
    kind: f"protocol_{kind.name.lower()}" for kind in Kind if kind not in (Kind.SOUND, Kind.DISCOVERY, Kind.TRIP)
}
"""What the receiver of the slave protocol drops, as it is called in the status of the field bus."""
MOST_FILTERS = 256
"""The kernel takes 512 of them; beyond this many identifiers everything is received."""
LEAST_ASK_SHARE = 0.4
"""Of a poll's time: requests never follow one another more closely."""
_EARLY_S = 1e-6


class Field(Protocol):
    """What is on the field bus. Sans I/O; times in s of one monotonic clock."""

    filters: tuple[Filter, ...] | None
    """What is received, None: everything."""
    rules: tuple[Rule, ...]
    """All that may be sent."""
    switches: bool
    """Whether there are contactor units to command."""

    @property
    def due_s(self) -> float:
        """When `questions` has something to send; inf when never."""

    @property
    def counts(self) -> Mapping[str, int]:
        """Frames that were dropped since start, by kind."""

    @property
    def foreign_frames(self) -> int:
        """Frames received since start that only bmsd may send."""

    @property
    def malformed_frames(self) -> int:
        """Frames received since start with an identifier of ours and a length or content that it never has."""

    def questions(self, now_s: float) -> list[Frame]:
        """Return what to ask now."""

    def asked(self, frame: Frame, now_s: float) -> None:
        """Note that a question went out."""

    def feed(self, frames: RawFrames, now_s: float) -> None:
        """Take the frames of one drain. Never raises for what is in them."""

    def modules(self, now_s: float) -> Modules: ...
    def units(self, now_s: float) -> Units: ...
    def missing(self, now_s: float) -> list[str]: ...

    def commands(self, command: Command, now_s: float, *, stopping: bool) -> list[Frame]:
        """Return the frames of a finished tick."""

    def order(self, frame: Frame) -> ContactorOrder | None:
        """Return what a frame tells a contactor unit, read back from its bytes; FrameError when that is unclear."""


class SlaveField:
    """Boards and contactor units of the slave protocol."""

    filters: tuple[Filter, ...] | None = FILTERS
    switches = True

    def __init__(self, plant: Plant, *, listen_only: bool = False) -> None:
        self._plant = plant
        self._receiver = SlaveReceiver(plant.layout, plant.timing, listen_only=listen_only)
        self._poller = Poller(plant.timing, plant.layout)
        self._commands = Commands(plant.layout, plant.balance.lease_s)
        self._first: Frame | None = None
        self.rules = rules(plant.layout, plant.timing)

    @property
    def due_s(self) -> float:
        return self._poller.due_s

    @property
    def counts(self) -> Mapping[str, int]:
        return {name: int(self._receiver.counts[kind]) for kind, name in _DROPPED.items()}

    @property
    def foreign_frames(self) -> int:
        return self._receiver.foreign_frames

    @property
    def malformed_frames(self) -> int:
        return int(self._receiver.counts[Kind.LENGTH])

    def questions(self, now_s: float) -> list[Frame]:
        frames = self._poller.step(now_s, self._unidentified(now_s))
        self._first = frames[0] if frames else None
        return frames

    def _unidentified(self, now_s: float) -> tuple[int, ...]:
        return self._receiver.unidentified(now_s)

    def asked(self, frame: Frame, now_s: float) -> None:
        """A poll is measured when its SYNC, the first frame, went out."""
        del now_s
        if frame is self._first and self._poller.sync is not None:
            self._receiver.sync_sent(*self._poller.sync)

    def feed(self, frames: RawFrames, now_s: float) -> None:
        self._receiver.feed(frames, now_s)

    def modules(self, now_s: float) -> Modules:
        return self._receiver.modules(now_s)

    def units(self, now_s: float) -> Units:
        return self._receiver.units(now_s)

    def missing(self, now_s: float) -> list[str]:
        return self._receiver.missing(now_s)

    def commands(self, command: Command, now_s: float, *, stopping: bool) -> list[Frame]:
        state = ControlState.STOPPING if stopping else ControlState.RUNNING
        return self._commands.frames(command, now_s, state)

    def order(self, frame: Frame) -> ContactorOrder | None:
        return contactor_order(frame, self._plant.layout)


class UnitsField(SlaveField):
    """Contactor units of the slave protocol on a bus without boards of it."""

    def __init__(self, plant: Plant, *, listen_only: bool = False) -> None:
        super().__init__(plant, listen_only=listen_only)
        self._addresses = plant.layout.unit_addresses
        self.rules = rules(plant.layout, plant.timing, boards=False)

    def _unidentified(self, now_s: float) -> tuple[int, ...]:
        return tuple(address for address in super()._unidentified(now_s) if address in self._addresses)

    def missing(self, now_s: float) -> list[str]:
        return [sentence for sentence in super().missing(now_s) if sentence.startswith("contactor unit")]

    def commands(self, command: Command, now_s: float, *, stopping: bool) -> list[Frame]:
        resets = tuple(reset for reset in command.trip_resets if reset[0] in self._addresses)
        command = replace(command, balance=np.zeros_like(command.balance), trip_resets=resets)
        balance = message_id("BalanceCommand")
        frames = super().commands(command, now_s, stopping=stopping)
        return [frame for frame in frames if frame.can_id & ~ADDRESS_MASK != balance]


class MappedField:
    """Boards that a DBC describes, with contactor units of the slave protocol beside them, or without."""

    def __init__(self, plant: Plant, plan: Plan, *, listen_only: bool = False) -> None:
        self._receiver = MappedReceiver(plant.layout, plant.timing, plan)
        self._units = UnitsField(plant, listen_only=listen_only) if plan.board_map.contactor_units else None
        self._asks = [Frame(ask.can_id, ask.data, ask.extended) for ask in plan.board_map.asks]
        self._poll_s, self._due_s = plant.timing.poll_s, -math.inf
        self.switches = self._units is not None
        self.rules = self._allowed()
        self.filters = _filters(plan, self._units)

    def _allowed(self) -> tuple[Rule, ...]:
        least_s = LEAST_ASK_SHARE * self._poll_s
        asks = dict.fromkeys((ask.can_id, ask.extended, len(ask.data)) for ask in self._asks)
        own = [
            Rule(can_id, extended, frozenset({length}), 0.0 if self._repeats(can_id) else least_s, needs_command=False)
            for can_id, extended, length in asks
        ]
        return (*own, *(self._units.rules if self._units else ()))

    def _repeats(self, can_id: int) -> bool:
        """Whether several requests of one poll have this identifier."""
        return sum(ask.can_id == can_id for ask in self._asks) > 1

    @property
    def due_s(self) -> float:
        own = self._due_s if self._asks else math.inf
        return min(own, self._units.due_s) if self._units else own

    @property
    def counts(self) -> Mapping[str, int]:
        own = {f"boards_{kind}": number for kind, number in self._receiver.counts.items()}
        return {**own, **(self._units.counts if self._units else {})}

    @property
    def foreign_frames(self) -> int:
        return self._units.foreign_frames if self._units else 0

    @property
    def malformed_frames(self) -> int:
        own = self._receiver.counts["length"] + self._receiver.counts["selector"]
        return own + (self._units.malformed_frames if self._units else 0)

    def questions(self, now_s: float) -> list[Frame]:
        frames = self._units.questions(now_s) if self._units else []
        if self._asks and now_s + _EARLY_S >= self._due_s:
            # on a grid, so that lateness does not add up; a new one where the next request would come too soon
            late = not now_s - self._due_s < 0.5 * self._poll_s
            self._due_s = (now_s if late else self._due_s) + self._poll_s
            frames = [*frames, *self._asks]
        return frames

    def asked(self, frame: Frame, now_s: float) -> None:
        """Boards have measured when they were asked, at the earliest with the first request."""
        if self._asks and frame is self._asks[0]:
            self._receiver.sync_sent(0, 0, 0, now_s)
        elif self._units:
            self._units.asked(frame, now_s)

    def feed(self, frames: RawFrames, now_s: float) -> None:
        """Give each side its own; what is neither's is counted with the boards'."""
        if self._units is None:
            self._receiver.feed(frames, now_s)
            return
        theirs = passes_any(frames["can_id"], FILTERS)
        self._units.feed(frames[theirs], now_s)
        self._receiver.feed(frames[~theirs], now_s)

    def modules(self, now_s: float) -> Modules:
        return self._receiver.modules(now_s)

    def units(self, now_s: float) -> Units:
        return self._units.units(now_s) if self._units else self._receiver.units(now_s)

    def missing(self, now_s: float) -> list[str]:
        return self._receiver.missing(now_s) + (self._units.missing(now_s) if self._units else [])

    def commands(self, command: Command, now_s: float, *, stopping: bool) -> list[Frame]:
        return self._units.commands(command, now_s, stopping=stopping) if self._units else []

    def order(self, frame: Frame) -> ContactorOrder | None:
        return self._units.order(frame) if self._units else None


def field(plant: Plant, plan: Plan | None, *, listen_only: bool = False) -> Field:
    """Return the field of a rack: mapped boards where there is a plan of them."""
    if plan is None:
        return SlaveField(plant, listen_only=listen_only)
    return MappedField(plant, plan, listen_only=listen_only)


def _filters(plan: Plan, units: UnitsField | None) -> tuple[Filter, ...] | None:
    if len(plan.heard) > MOST_FILTERS:
        return None
    own = [Filter.exactly(flagged & 0x1FFFFFFF, bool(flagged & EXTENDED_FLAG)) for flagged in plan.heard]
    return (*own, *((units.filters or ()) if units else ()))
