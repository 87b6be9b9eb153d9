"""What bmsd tells boards and contactor units: frames of one command, with the counters that they check."""

from __future__ import annotations

import math
from enum import IntEnum

import numpy as np

from bmsd.codec.dbc import encode
from bmsd.fieldbus.drivers.slave.slots import DATABASE
from bmsd.fieldbus.transmit_gate import Rule
from bmsd.model.command import Command
from bmsd.model.frame import Frame
from bmsd.model.layout import Layout
from bmsd.model.plant import Timing

HEARTBEAT_LEASE_S = 1.0
COMMAND_LEASE_S = 1.0
"""A unit without a valid command or heartbeat for this long acts by itself."""
BALANCE_EVERY_S = 1.0
_EARLY_S = 1e-6

_HEARTBEAT = DATABASE.get_message_by_name("Heartbeat")
_CONTACTORS = DATABASE.get_message_by_name("ContactorCommand")
_BALANCE = DATABASE.get_message_by_name("BalanceCommand")
_TRIP_RESET = DATABASE.get_message_by_name("TripReset")


_IDENTIFY_LEAST_S = 0.5
_TICK_LEAST_S = 0.0001
"""Ticks that were late follow one another as closely as they are computed; nothing is said twice in one."""
_SYNC_LEAST = 0.4


def rules(layout: Layout, timing: Timing, *, boards: bool = True) -> tuple[Rule, ...]:
    """Return everything that bmsd may send to a rack of this layout. SYNC and identification need no command.

    Not `boards`: those are somebody else's, only contactor units speak the slave protocol.
    """
    own = [address for string in layout.module_addresses for address in string] if boards else []
    units = list(layout.unit_addresses)
    sync_s = _SYNC_LEAST * timing.poll_s / timing.current_phases
    addressed = [("ContactorCommand", units), ("BalanceCommand", own), ("TripReset", own + units)]
    return (
        _rule("Sync", 0, sync_s, needs_command=False),
        _rule("IdentifyRequest", 0, _IDENTIFY_LEAST_S, needs_command=False),
        _rule("Heartbeat", 0, _TICK_LEAST_S),
        *(_rule(name, address, _TICK_LEAST_S) for name, addresses in addressed for address in addresses),
    )


def _rule(name: str, address: int, least_s: float, *, needs_command: bool = True) -> Rule:
    message = DATABASE.get_message_by_name(name)
    lengths = frozenset({message.length})
    return Rule(message.frame_id | address, True, lengths, least_s, needs_command=needs_command)


class ControlState(IntEnum):
    """What bmsd is doing."""

    INITIALISING = 0
    RUNNING = 1
    STOPPING = 2


class Commands:
    """Counters and times of what was sent; `frames` is called once for each finished tick.

    `balance_lease_s`: time for which a balancing command stands, whole seconds up to 255.
    """

    def __init__(self, layout: Layout, balance_lease_s: float) -> None:
        self._layout = layout
        self._boards = [address for string in layout.module_addresses for address in string]
        self._balance_lease_s = min(255, math.floor(balance_lease_s))
        self._beats = 0
        self._contactor_counter = dict.fromkeys(layout.unit_addresses, 0)
        self._balance_counter = dict.fromkeys(self._boards, 0)
        self._reset_counter = 0
        self._bleed = dict.fromkeys(self._boards, 0)
        self._balance_due_s: dict[int, float] = {}

    def frames(self, command: Command, now_s: float, state: ControlState = ControlState.RUNNING) -> list[Frame]:
        """Return the frames of a tick: heartbeat first, then contactors, trip resets, balancing.

        Balancing goes to each board once a second, boards one after the other, and at once when its cells change.
        """
        frames = [self._heartbeat(state)] if command.heartbeat else []
        frames += [self._contactors(command, int(string)) for string in np.flatnonzero(command.commanded)]
        frames += [self._trip_reset(address, code) for address, code in command.trip_resets]
        return frames + self._balancing(command, now_s)

    def _heartbeat(self, state: ControlState) -> Frame:
        self._beats = (self._beats + 1) % 256
        values = {"Counter": self._beats, "Lease": HEARTBEAT_LEASE_S, "ControlState": int(state)}
        return encode(_HEARTBEAT, values)

    def _contactors(self, command: Command, string: int) -> Frame:
        address = self._layout.unit_addresses[string]
        counter = self._contactor_counter[address] = (self._contactor_counter[address] + 1) % 16
        values = {
            "Counter": counter,
            "CloseMinus": int(command.close_minus[string]),
            "ClosePrecharge": int(command.close_precharge[string]),
            "ClosePlus": int(command.close_plus[string]),
            "InverterEnable": int(command.inverter_enable[string]),
            "Lease": COMMAND_LEASE_S,
        }
        return encode(_CONTACTORS, values, address)

    def _trip_reset(self, address: int, code: int) -> Frame:
        self._reset_counter = (self._reset_counter + 1) % 16
        return encode(_TRIP_RESET, {"TripCode": code, "Counter": self._reset_counter}, address)

    def _balancing(self, command: Command, now_s: float) -> list[Frame]:
        if not self._balance_due_s:
            share_s = BALANCE_EVERY_S / len(self._boards)
            self._balance_due_s = {address: now_s + k * share_s for k, address in enumerate(self._boards)}
        weights = 1 << np.arange(self._layout.cells)
        wanted = (command.balance.reshape(len(self._boards), -1) * weights).sum(axis=1).tolist()
        frames = []
        for address, cells in zip(self._boards, wanted, strict=True):
            if cells != self._bleed[address] or now_s + _EARLY_S >= self._balance_due_s[address]:
                frames.append(self._balance(address, cells, now_s))
        return frames

    def _balance(self, address: int, cells: int, now_s: float) -> Frame:
        """Write one balancing command and note when the next is due, on the board's own grid."""
        due_s = self._balance_due_s[address]
        if now_s + _EARLY_S >= due_s:
            late = math.floor((now_s + _EARLY_S - due_s) / BALANCE_EVERY_S)
            self._balance_due_s[address] = due_s + (late + 1) * BALANCE_EVERY_S
        self._bleed[address] = cells
        counter = self._balance_counter[address] = (self._balance_counter[address] + 1) % 16
        values = {"BalanceCells": cells, "Counter": counter, "Lease": self._balance_lease_s}
        return encode(_BALANCE, values, address)
