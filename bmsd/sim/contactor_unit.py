"""What a contactor unit does by itself: counts charge, drives contactors by lease, opens without being asked.

Sans I/O, on its own clock. Power-on state: everything open; a latched trip survives it. After power-on, and after
the unit opened by itself, it obeys a command to close only after it has seen one to open everything: a controller
that slept through the opening must not throw a charged string onto a dead bus. It counts only when no cause to
open stands, and a command to close while a trip is latched takes it back.

Without heartbeat, or without a contactor command, for its lease (1.0 s at most): inverter enable is dropped, then
the contactors open at |I| < 2 A, at the latest 5.0 s after the last heartbeat or command (1.5 s where no
enable contact is fitted). Until then a returning heartbeat undoes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from math import exp, inf, isinf, isnan, nan

import numpy as np

from bmsd.model.frame import Frame
from bmsd.model.snapshot import Bools, Feedback, Input
from bmsd.sim.boards import NODE_STATUS, next_trip_s, node_status
from bmsd.sim.node import Identity, Node, Standing
from bmsd.sim.packing import Received, pack, quantise_one
from bmsd.sim.rack import MINUS, PLUS, PRECHARGE

FIRST_ADDRESS = 65
CURRENT_SLOT_S = 0.0004
STATE_SLOT_START_S = 0.088
STATE_SLOT_S = 0.001
CURRENT_HIGHEST = 131071
CURRENT_INVALID = -131072
SELF_TEST, OVER_CURRENT, INTERLOCK, EMERGENCY_STOP = 4, 5, 6, 7
_CALM_TAU_S = 0.03
TRIP_SILENT_S = 0.5
"""Time without a trip frame of any node after which a trip may be reset."""


class OpenReason(IntEnum):
    """Why the contactors opened last."""

    COMMANDED = 0
    HEARTBEAT_LOST = 1
    TRIP_FRAME = 2
    OVER_CURRENT = 3
    INTERLOCK = 4
    EMERGENCY_STOP = 5
    COIL_SUPPLY = 6
    LEASE_EXPIRED = 7
    POWER_ON = 8


@dataclass(frozen=True)
class ContactorUnitSettings:
    """A unit's own limits and times. Current in A, magnitude."""

    over_current_a: float = 300.0
    over_current_s: float = 0.150
    interlock_s: float = 0.100
    lease_s: float = 1.0
    calm_a: float = 2.0
    open_latest_s: float = 5.0
    open_latest_without_enable_s: float = 1.5
    enable_fitted: bool = True
    trip_period_s: float = 0.1
    coil_lowest_v: float = 16.0
    shunt_offset_a: float = 0.0
    shunt_gain: float = 1.0


@dataclass
class Wires:
    """What the wires of one unit carry now: A positive charging, V, contact positions (minus, precharge, plus)."""

    bus_v: float = 0.0
    string_v: float = 0.0
    coil_v: float = 24.0
    closed: Bools = field(default_factory=lambda: np.zeros(3, dtype=np.bool_))
    feedback_fitted: bool = True
    feedback_lost: Bools = field(default_factory=lambda: np.zeros(3, dtype=np.bool_))
    board_degc: float = 25.0
    interlock: Input = Input.OK
    fuse: Input = Input.OK
    insulation: Input = Input.OK
    smoke: Input = Input.OK
    door: Input = Input.OK
    emergency_stop: Input = Input.OK


class ContactorUnit(Node):
    """One contactor unit."""

    addresses = range(FIRST_ADDRESS, FIRST_ADDRESS + 8)

    def __init__(self, address: int, identity: Identity, settings: ContactorUnitSettings | None = None) -> None:
        super().__init__(address, identity)
        self.settings = settings or ContactorUnitSettings()
        self.trip_code = 0
        """The latched trip; with `trip_source` and an emergency stop it is kept without supply."""
        self.trip_source = 0
        self._stopped = False
        self.wires = Wires()
        self._power_on()

    def _power_on(self) -> None:
        self.coil: Bools = np.zeros(3, dtype=np.bool_)
        """Driven coils: minus, precharge, plus."""
        self.enable = False
        """The hard-wired inverter enable contact."""
        self.open_reason = OpenReason.POWER_ON
        self.opened_under_load = False
        self.charge_as = 0.0
        """Net charge since power-on as the unit counts it."""
        self._heartbeat = Standing(self.settings.lease_s)
        self._command = Standing(self.settings.lease_s)
        self._reset = Standing(0.0)
        self._wanted: Bools = np.zeros(3, dtype=np.bool_)
        self._wanted_enable = False
        self._armed = False
        self._current_a = 0.0
        self._latched_as = 0.0
        self._latched_s = inf
        self._over_since_s = inf
        self._interlock_since_s = inf
        self._trip_heard_s = nan
        """When a trip frame was heard last; whoever has just started may have missed one."""
        self._trip_due_s = -inf if self._stopped else inf
        self._trip_repeat = 0

    @property
    def slot_s(self) -> float:
        """Start of this unit's slot for its slow frames after a SYNC of phase 0, s."""
        return STATE_SLOT_START_S + STATE_SLOT_S * (self.address - FIRST_ADDRESS)

    @property
    def next_due_s(self) -> float:
        """When the next frame is to be sent, inf when none waits."""
        return min(super().next_due_s, self._trip_due_s)

    def measure_current(self, mean_a: float, dt_s: float) -> None:
        """Count the charge of the last `dt_s`: `mean_a` is the true mean current, positive charges."""
        seen_a = mean_a * self.settings.shunt_gain + self.settings.shunt_offset_a
        self.charge_as += seen_a * dt_s
        self._current_a = seen_a + (self._current_a - seen_a) * exp(-dt_s / _CALM_TAU_S)

    def step(self, now_s: float) -> list[Frame]:
        """Act and return the frames that are due."""
        if isnan(self._trip_heard_s):
            self._trip_heard_s = now_s
        self._protect(now_s)
        self._supervise(now_s)
        return self._trip_frames(now_s) + self._due(now_s)

    # what the unit decides

    def _protect(self, now_s: float) -> None:
        own, wires = self.settings, self.wires
        over = not abs(self._current_a) <= own.over_current_a
        self._over_since_s = min(self._over_since_s, now_s) if over else inf
        broken = wires.interlock == Input.ACTIVE
        self._interlock_since_s = min(self._interlock_since_s, now_s) if broken else inf
        if wires.emergency_stop == Input.ACTIVE:
            self._trip(EMERGENCY_STOP, self.address, OpenReason.EMERGENCY_STOP)
            if not self._stopped:
                self._stopped, self._trip_due_s = True, now_s
        if now_s - self._interlock_since_s >= own.interlock_s - 1e-9:
            self._trip(INTERLOCK, self.address, OpenReason.INTERLOCK)
        if now_s - self._over_since_s >= own.over_current_s - 1e-9:
            self._trip(OVER_CURRENT, self.address, OpenReason.OVER_CURRENT)
        if wires.coil_v < own.coil_lowest_v:
            self._open(OpenReason.COIL_SUPPLY)

    def _supervise(self, now_s: float) -> None:
        lost = [
            (standing.valid_s, reason)
            for standing, reason in (
                (self._heartbeat, OpenReason.HEARTBEAT_LOST),
                (self._command, OpenReason.LEASE_EXPIRED),
            )
            if standing.lost(now_s)
        ]
        if lost:
            self.enable = False
            since_s, reason = min(lost)
            calm = abs(self._current_a) < self.settings.calm_a
            if calm or now_s - since_s >= self._open_latest_s - 1e-9:
                self._open(reason)
        elif self._armed and self.trip_code == 0:
            if self.coil[[MINUS, PLUS]].any() and not self._wanted[[MINUS, PLUS]].any():
                self._note_opening(OpenReason.COMMANDED)
            self.coil = self._wanted.copy()
            self.enable = self._wanted_enable and self.settings.enable_fitted

    @property
    def _open_latest_s(self) -> float:
        own = self.settings
        return own.open_latest_s if own.enable_fitted else own.open_latest_without_enable_s

    def _trip(self, code: int, source: int, reason: OpenReason) -> None:
        if self.trip_code == 0:
            self.trip_code, self.trip_source = code, source
        self._open(reason)

    def _open(self, reason: OpenReason) -> None:
        if self.coil.any():
            self._note_opening(reason)
        self.coil = np.zeros(3, dtype=np.bool_)
        self.enable = False
        self._armed = False

    def _note_opening(self, reason: OpenReason) -> None:
        self.open_reason = reason
        self.opened_under_load = not abs(self._current_a) < self.settings.calm_a

    # what the unit hears

    def _take(self, received: Received, now_s: float) -> None:
        signals = received.signals
        if received.name == "Sync":
            self._answer(signals, now_s)
        elif received.name == "Heartbeat":
            self._heartbeat.take(signals["Counter"], 0.1 * signals["Lease"], now_s)
        elif received.name == "Trip":
            self._trip_heard_s = now_s
            self._trip(signals["TripCode"] or SELF_TEST, received.address, OpenReason.TRIP_FRAME)
        elif received.address != self.address:
            return
        elif received.name == "ContactorCommand":
            if self._command.take(signals["Counter"], 0.1 * signals["Lease"], now_s):
                self._obey((signals["CloseMinus"], signals["ClosePrecharge"], signals["ClosePlus"]))
                self._wanted_enable = bool(signals["InverterEnable"])
        elif received.name == "TripReset" and self._reset.take(signals["Counter"], 0.0, now_s):
            self._release(signals["TripCode"], now_s)

    def _obey(self, wanted: tuple[int, int, int]) -> None:
        self._wanted = np.array(wanted, dtype=np.bool_)
        if not self._wanted.any():
            self._armed = True
        elif self.trip_code != 0:
            self._armed = False

    def _release(self, code: int, now_s: float) -> None:
        """Release the latched trip if nobody sends one any more and no own cause is left or unknown."""
        quiet = now_s - self._trip_heard_s >= TRIP_SILENT_S
        inputs = {self.wires.emergency_stop, self.wires.interlock}
        calm = inputs <= {Input.OK, Input.NOT_FITTED} and isinf(self._over_since_s)
        if code == self.trip_code and quiet and calm:
            self.trip_code, self.trip_source = 0, 0
            self._stopped, self._trip_due_s = False, inf

    @property
    def _may_move(self) -> bool:
        return not self.coil.any()

    # what the unit says

    def _trip_frames(self, now_s: float) -> list[Frame]:
        """An emergency stop at one unit opens all: it is said like a board's trip."""
        if now_s < self._trip_due_s - 1e-9:
            return []
        self._trip_due_s = next_trip_s(self._trip_due_s, now_s, self.settings.trip_period_s)
        signals = {"TripCode": EMERGENCY_STOP, "CellNumber": 0, "Repeat": self._trip_repeat}
        self._trip_repeat = (self._trip_repeat + 1) % 16
        return [pack("Trip", self.address, signals)]

    def _answer(self, sync: Mapping[str, int], now_s: float) -> None:
        number, phase = sync["Number"], sync["Phase"]
        self._send(now_s + CURRENT_SLOT_S * (self.address - FIRST_ADDRESS), self._current_frame(number, phase, now_s))
        if phase != 0:
            return
        self._drop("poll")
        counter, due_s = number % 16, now_s + self.slot_s
        self._send(due_s, pack("StringVoltages", self.address, self._voltages(counter)), "poll")
        self._send(due_s, pack("ContactorState", self.address, self._state(counter, now_s)), "poll")
        if sync["SlowGroup"] == NODE_STATUS:
            degc = self.wires.board_degc
            self._send(due_s, pack("NodeStatus", self.address, node_status(counter, degc + 3.0, degc)), "poll")

    def _current_frame(self, number: int, phase: int, now_s: float) -> Frame:
        """Latch the charge counter; the current is its change since the SYNC before over the time."""
        elapsed_s = now_s - self._latched_s
        raw = CURRENT_INVALID
        if elapsed_s > 0.0:
            mean_a = (self.charge_as - self._latched_as) / elapsed_s
            raw = min(max(round(mean_a / 0.02), -CURRENT_HIGHEST), CURRENT_HIGHEST)
        self._latched_as, self._latched_s = self.charge_as, now_s
        charge = round(self.charge_as * 100.0) % 2**32
        signals = {"Charge": charge, "Current": raw, "Phase": phase, "Counter": number % 16}
        return pack("Current", self.address, signals)

    def _voltages(self, counter: int) -> dict[str, int]:
        return {
            "BusVoltage": quantise_one(self.wires.bus_v, 0.002, 0.0, 1048574, 1048575),
            "StringVoltage": quantise_one(self.wires.string_v, 0.002, 0.0, 1048574, 1048575),
            "CoilSupply": quantise_one(self.wires.coil_v, 0.01, 0.0, 4094, 4095),
            "Counter": counter,
        }

    def _state(self, counter: int, now_s: float) -> dict[str, int]:
        wires = self.wires
        contacts = [
            int(Feedback.UNKNOWN) if lost else int(closed) if wires.feedback_fitted else int(Feedback.NOT_FITTED)
            for closed, lost in zip(wires.closed, wires.feedback_lost, strict=True)
        ]
        return {
            "MinusFeedback": contacts[MINUS],
            "PlusFeedback": contacts[PLUS],
            "PrechargeFeedback": contacts[PRECHARGE],
            "MinusOutput": int(self.coil[MINUS]),
            "PlusOutput": int(self.coil[PLUS]),
            "PrechargeOutput": int(self.coil[PRECHARGE]),
            "InverterEnableOutput": int(self.enable),
            "Interlock": int(wires.interlock),
            "Fuse": int(wires.fuse),
            "Insulation": int(wires.insulation),
            "Smoke": int(wires.smoke),
            "Door": int(wires.door),
            "EmergencyStop": int(wires.emergency_stop),
            "HeartbeatLost": int(self._heartbeat.lost(now_s)),
            "LeaseExpired": int(self._command.lost(now_s)),
            "TripCode": self.trip_code,
            "TripSource": self.trip_source,
            "OpenReason": int(self.open_reason),
            "OpenedUnderLoad": int(self.opened_under_load),
            "Counter": counter,
        }
