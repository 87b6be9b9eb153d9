"""When the rack is asked what: SYNCs on absolute times, and identification while somebody is unknown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from bmsd.codec.dbc import encode
from bmsd.fieldbus.drivers.slave.slots import DATABASE
from bmsd.model.frame import Frame
from bmsd.model.layout import Layout
from bmsd.model.plant import Timing

SLOW_ROTATION = (1, 2, 1, 3, 0)
"""Slow groups of five polls: temperatures, module state, temperatures, node status, none."""
IDENTIFY_EVERY_S = 1.0
EVERYBODY, UNADDRESSED = 0, 126
_ASK_UNADDRESSED_EVERY = 5
_SHIFT_START, _SHIFT_TAPS = 0xACE1, 0xB400
"""A 16-bit shift register, x^16 + x^14 + x^13 + x^11 + 1: it comes back to its start after 65535 polls, 3.6 h."""
_EARLY_S = 1e-6
"""A step this much before its time is on time: sums of floats are not exact."""

_SYNC = DATABASE.get_message_by_name("Sync")
_IDENTIFY = DATABASE.get_message_by_name("IdentifyRequest")


class Sync(NamedTuple):
    """A SYNC that goes out at `at_s`: the arguments of `Receiver.sync_sent`."""

    number: int
    phase: int
    slow_group: int
    at_s: float


class Poller:
    """Polls a rack on the grid of its first step: poll, phase and slow group follow from the time.

    Lateness does not add up, and what was missed while the process was held up is skipped, not made up for. The
    number goes up by one or two from poll to poll, irregularly: were it to come back after a fixed time, as
    nodes echo only four bits of it, frames that something holds back for just that time would pass as fresh.
    """

    def __init__(self, timing: Timing, layout: Layout) -> None:
        if timing.slow_groups != len(SLOW_ROTATION):
            raise ValueError(f"slow groups rotate over {len(SLOW_ROTATION)} polls, not {timing.slow_groups}")
        if not 1 <= timing.current_phases <= 4:
            raise ValueError(f"a poll has 1 to 4 current phases, not {timing.current_phases}")
        self._phases = timing.current_phases
        self._period_s = timing.poll_s / timing.current_phases
        self._poll_s = timing.poll_s
        self._addresses = {address for string in layout.module_addresses for address in string}
        self._addresses |= set(layout.unit_addresses)
        self._start_s: float | None = None
        self._next = 0
        self._poll, self._number, self._shift = 0, 0, _SHIFT_START
        self._identify_s = -math.inf
        self._requests = 0
        self.sync: Sync | None = None
        """The SYNC among the frames of the last step, None when it had none."""

    @property
    def due_s(self) -> float:
        """When `step` has something to send."""
        return -math.inf if self._start_s is None else self._start_s + self._next * self._period_s

    def step(self, now_s: float, unidentified: Sequence[int] = ()) -> list[Frame]:
        """Return what to send now; `unidentified` are addresses that have not said who they are.

        Drain the bus before this and hand `sync` to the receiver when its frame, the first, has been sent.
        """
        self.sync = None
        if self._start_s is None:
            self._start_s = now_s
        if not now_s + _EARLY_S >= self.due_s:
            return []
        slot = self._slot(now_s - self._start_s)
        if slot is None:
            return []
        poll, phase = divmod(slot, self._phases)
        slow_group = SLOW_ROTATION[poll % len(SLOW_ROTATION)]
        number = self._number_of(poll)
        self.sync = Sync(number, phase, slow_group, now_s)
        values = {"Number": number, "Phase": phase, "SlowGroup": slow_group, "PollPeriod": self._poll_s}
        frames = [encode(_SYNC, values)]
        if phase == self._phases // 2:
            frames += self._identify(now_s, [address for address in unidentified if address in self._addresses])
        return frames

    def _number_of(self, poll: int) -> int:
        """Return the number of this poll, another one than that of the poll before."""
        if poll != self._poll:
            self._poll, extra = poll, self._shift & 1
            self._shift = self._shift >> 1 ^ (_SHIFT_TAPS if extra else 0)
            self._number = (self._number + 1 + extra) % 256
        return self._number

    def _slot(self, passed_s: float) -> int | None:
        """Return which SYNC goes out now, None when it is so late that it would disturb the next poll.

        Two SYNCs are at least half a period apart: what would come sooner is left out, but never the next phase 0.
        """
        slot = max(self._next, math.floor((passed_s + _EARLY_S) / self._period_s))
        self._next = slot + 1
        if passed_s - slot * self._period_s <= self._period_s / 2:
            return slot
        if self._next % self._phases == 0:
            return None
        self._next += 1
        return slot

    def _identify(self, now_s: float, unidentified: list[int]) -> list[Frame]:
        """Ask a single node by its address, several at once, and now and then those that have no address yet."""
        if not unidentified:
            self._requests = 0
            return []
        if now_s + _EARLY_S - self._identify_s < IDENTIFY_EVERY_S:
            return []
        self._identify_s = now_s
        self._requests += 1
        target = unidentified[0] if len(unidentified) == 1 else EVERYBODY
        if self._requests % _ASK_UNADDRESSED_EVERY == 0:
            target = UNADDRESSED
        return [encode(_IDENTIFY, {"Target": target})]
