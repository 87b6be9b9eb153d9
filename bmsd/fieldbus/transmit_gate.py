"""The only way to a bus: what may be sent, how often, and with which limits, judged from the bytes alone.

The gate shares no code with what wrote the frame. A frame that no rule allows, that comes too soon, whose
limits exceed the guarded command of the tick or the envelope of the hardware, or that closes a contactor which
the command does not close, is not sent; it is counted with its reason, and the fault row SYS-019 stands for it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from bmsd.errors import FrameError
from bmsd.model.command import Command
from bmsd.model.frame import Frame

COMMAND_STANDS_S = 1.0
"""A guarded command older than this allows nothing any more."""
_EARLY_S = 1e-6
_NOISE = 1e-6
"""V and A: a decoded limit is a float, its written value was a decimal number."""
_MOST_REASONS = 32
_EVERY_BIT = 0x1FFFFFFF


class Sender(Protocol):
    """A bus that sends a frame now or not at all."""

    def send(self, frame: Frame) -> bool:
        """Return whether the frame was sent."""


class DecodedLimits(Protocol):
    """Limits in the bytes of a frame, V and A, magnitudes; None: the frame does not carry it."""

    @property
    def cvl_v(self) -> float | None: ...
    @property
    def dvl_v(self) -> float | None: ...
    @property
    def ccl_a(self) -> float | None: ...
    @property
    def dcl_a(self) -> float | None: ...
    @property
    def charge_enabled(self) -> bool | None: ...
    @property
    def discharge_enabled(self) -> bool | None: ...


class DecodedContactors(Protocol):
    """What the bytes of a frame tell the contactor unit of one string to close."""

    @property
    def string(self) -> int: ...
    @property
    def close_minus(self) -> bool: ...
    @property
    def close_precharge(self) -> bool: ...
    @property
    def close_plus(self) -> bool: ...
    @property
    def inverter_enable(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Rule:
    """Frames whose identifier equals `can_id` in the bits of `mask` may be sent with these lengths in bytes.

    `min_interval_s` holds for each identifier by itself. `needs_command`: only while a guarded command stands.
    """

    can_id: int
    extended: bool
    lengths: frozenset[int]
    min_interval_s: float = 0.0
    mask: int = _EVERY_BIT
    needs_command: bool = True

    def covers(self, frame: Frame) -> bool:
        return frame.extended == self.extended and (frame.can_id ^ self.can_id) & self.mask == 0


@dataclass(frozen=True, slots=True)
class Envelope:
    """What the hardware stands, whatever anybody decides: rack totals, V and A, magnitudes."""

    cvl_v: float
    dvl_v: float
    ccl_a: float
    dcl_a: float


class TransmitGate:
    """The only caller of one bus's `send`.

    `decode_limits` reads the limits back from a frame's bytes, written independently of the encoder; with it an
    `envelope` is needed. `decode_contactors` reads what a frame closes, None where it is no contactor command. Both
    may raise FrameError: such a frame is not sent.
    """

    def __init__(
        self,
        port: Sender,
        rules: Iterable[Rule],
        *,
        decode_limits: Callable[[Frame], DecodedLimits] | None = None,
        envelope: Envelope | None = None,
        decode_contactors: Callable[[Frame], DecodedContactors | None] | None = None,
        listen_only: bool = False,
    ) -> None:
        if (decode_limits is None) != (envelope is None):
            raise ValueError("limits are checked with both their decoder and an envelope, or not at all")
        self._port = port
        self._rules = tuple(rules)
        self._exact = {(rule.can_id, rule.extended): rule for rule in reversed(self._rules) if rule.mask == _EVERY_BIT}
        self._decode_limits = decode_limits
        self._envelope = envelope
        self._decode_contactors = decode_contactors
        self._listen_only = listen_only
        self._command: Command | None = None
        self._command_s = -math.inf
        self._last_s: dict[tuple[int, bool], float] = {}
        self.reasons: Counter[str] = Counter()
        """Blocked frames by reason."""
        self.blocked = 0
        """Frames that were not let through since start."""
        self.sent = 0
        self.not_sent = 0
        """Frames that the bus did not take."""

    def allow(self, command: Command, now_s: float) -> None:
        """Take the guarded command of the tick that has just finished: frames may say no more than this."""
        self._command, self._command_s = command, now_s

    def send(self, frame: Frame, now_s: float) -> bool:
        """Send one frame if it may be sent; return whether the bus took it."""
        if self._listen_only:
            return False
        reason = self._objection(frame, now_s)
        if reason is not None:
            self._block(frame, reason)
            return False
        if not self._port.send(frame):
            self.not_sent += 1
            return False
        self._last_s[frame.can_id, frame.extended] = now_s
        self.sent += 1
        return True

    def _block(self, frame: Frame, reason: str) -> None:
        self.blocked += 1
        key = f"{frame.can_id:X}: {reason}"
        self.reasons[key if key in self.reasons or len(self.reasons) < _MOST_REASONS else "others"] += 1

    def _objection(self, frame: Frame, now_s: float) -> str | None:
        rule = self._exact.get((frame.can_id, frame.extended))
        rule = rule or next((rule for rule in self._rules if rule.covers(frame)), None)
        if rule is None:
            return "not on the list of what may be sent"
        if len(frame.data) not in rule.lengths:
            return f"{len(frame.data)} bytes long"
        passed_s = now_s - self._last_s.get((frame.can_id, frame.extended), -math.inf)
        if not passed_s >= rule.min_interval_s - _EARLY_S:
            return "too soon after the one before"
        command = self._command if now_s - self._command_s <= COMMAND_STANDS_S else None
        if rule.needs_command and command is None:
            return "no finished tick stands behind it"
        try:
            return self._too_much(frame, command)
        except FrameError as error:
            return str(error)

    def _too_much(self, frame: Frame, command: Command | None) -> str | None:
        """Return what the bytes say beyond the command or the envelope."""
        if self._decode_contactors is not None:
            contactors = self._decode_contactors(frame)
            if contactors is not None and closes_more(contactors, command):
                return "closes what the command does not"
        if self._decode_limits is None or self._envelope is None:
            return None
        return over(self._decode_limits(frame), command, self._envelope)


def closes_more(told: DecodedContactors, command: Command | None) -> bool:
    """Whether a contactor or the inverter's enable contact would close that the command leaves open.

    Opening always passes. Without a command nothing closes; nor does it for a string that the command does not know.
    """
    wanted = (
        (told.close_minus, "close_minus"),
        (told.close_precharge, "close_precharge"),
        (told.close_plus, "close_plus"),
        (told.inverter_enable, "inverter_enable"),
    )
    closing = [name for closes, name in wanted if closes]
    if not closing:
        return False
    if command is None or not 0 <= told.string < len(command.close_minus):
        return True
    return not all(getattr(command, name)[told.string] for name in closing)


def over(limits: DecodedLimits, command: Command | None, envelope: Envelope) -> str | None:
    """Return which limit says more than the command or the envelope allow, None when none does.

    A frame without limits passes. A value that is not a number is always over. Where the command has no voltage,
    the envelope's holds; it allows no current then.
    """
    sound = command is not None and command.fresh and command.cvl_v is not None and command.dvl_v is not None
    ccl_a = command.ccl_a if command is not None and sound and command.charge_enabled else 0.0
    dcl_a = command.dcl_a if command is not None and sound and command.discharge_enabled else 0.0
    cvl_v = command.cvl_v if command is not None and command.cvl_v is not None else envelope.cvl_v
    dvl_v = command.dvl_v if command is not None and command.dvl_v is not None else envelope.dvl_v
    if not _within(limits.ccl_a, ccl_a, envelope.ccl_a):
        return "charge current limit too high"
    if not _within(limits.dcl_a, dcl_a, envelope.dcl_a):
        return "discharge current limit too high"
    if not _within(limits.cvl_v, cvl_v, envelope.cvl_v):
        return "charge voltage limit too high"
    least_v = math.inf if limits.dvl_v is None else limits.dvl_v + _NOISE
    if not (least_v >= dvl_v and least_v >= envelope.dvl_v):
        return "discharge voltage limit too low"
    if limits.charge_enabled and not ccl_a > 0.0:
        return "charging enabled against the command"
    if limits.discharge_enabled and not dcl_a > 0.0:
        return "discharging enabled against the command"
    return None


def _within(value: float | None, command: float, envelope: float) -> bool:
    """Whether the value is absent, or between 0 and both bounds; never when anything is not a number."""
    return value is None or (0.0 <= value <= command + _NOISE and value <= envelope + _NOISE)
