"""When which frame goes to the inverter, and how long ago it was heard.

Theory of operation. A finished tick hands in its command; in between `step` is called without one, for pacing.
Every period a *set* of all frames opens on absolute times and goes out one frame after the other, 20 ms apart.
When the newest command allows less than what the inverter was last told, the limit frames become *urgent*: they
go out at once, 5 ms after the frame before at the earliest, and never sooner after their own predecessor than the
profile's interval. Whatever goes out has the values of the newest finished tick. When no tick has finished for
250 ms, everything that waits is dropped: no timer speaks for a hung tick.

Sending starts with the first command that is fresh, or that comes with a measured pack voltage: a rack that has
never been complete says zero limits with the alarm INTERNAL for as long as its voltage is measured. When commands
are no longer fresh (or nothing is measured any more), zero limits with that alarm are sent for
`zero_before_silence_s`, then nothing until they are fresh again: the inverter's own time-out acts then. Losing the
inverter's keep-alive changes nothing here; the core judges its age.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from bmsd.errors import ConfigError
from bmsd.inverters.profile import Limits, Profile
from bmsd.model.command import Command
from bmsd.model.frame import Frame
from bmsd.model.plant import InverterSettings
from bmsd.model.row import Alarm

PACE_S = 0.020
"""Between frames of a set: listeners with two receive buffers lose frames of a burst."""
LEAST_GAP_S = 0.005
"""Between any two frames."""
TICK_EXPIRES_S = 0.250
"""Longest time for which a finished tick speaks."""


class InverterPort:
    """One inverter: `step` returns what to send now, at most one frame; call it again at `due_s`."""

    def __init__(self, profile: Profile, settings: InverterSettings) -> None:
        self.profile = profile
        self._settings = settings
        self._inhibit_s = {rule.can_id: rule.min_interval_s for rule in profile.transmit_rules}
        least_s = max([len(self._inhibit_s) * PACE_S, *self._inhibit_s.values()])
        if not settings.period_s >= least_s:
            raise ConfigError(
                [f"inverter.period_s: {settings.period_s}: must be at least {least_s:g} s for {profile.name}"]
            )
        self._frames: dict[int, Frame] = {}
        self._newest: Command | None = None
        self._last_sound: Command | None = None
        """The newest command whose voltage limits were based on a measurement; None: nothing may be said yet."""
        self._was_fresh = False
        self._tick_s = -math.inf
        self._stale_since_s: float | None = None
        self._set_opens_s: float | None = None
        self._waiting: list[int] = []
        self._urgent: list[int] = []
        self._sent_s: dict[int, float] = {}
        self._last_frame_s = -math.inf
        self._told = self._told_before = Limits()
        self._heard_s = -math.inf

    def step(self, now_s: float, command: Command | None, received: Sequence[Frame]) -> list[Frame]:
        """Take a finished tick's command (None between ticks) and received frames; return the frame to send now.

        `now_s` is monotonic and never goes back.
        """
        if any(self.profile.is_keepalive(frame) for frame in received):
            self._heard_s = now_s
        if command is not None:
            self._take(now_s, command)
        if not self._speaking(now_s):
            self._waiting, self._urgent, self._set_opens_s = [], [], None
            return []
        self._open_set(now_s)
        can_id = self._next(now_s)
        return [] if can_id is None else [self._send(now_s, can_id)]

    def not_sent(self) -> None:
        """Say that the frame of the last step did not reach the bus: a tighter limit is tried again."""
        self._told = self._told_before

    @property
    def due_s(self) -> float:
        """When `step` should be called again though no tick finished; inf when only a tick can bring something."""
        times = [self._free_s(can_id, LEAST_GAP_S) for can_id in self._urgent]
        times += [self._free_s(can_id, PACE_S) for can_id in self._waiting[:1]]
        if self._set_opens_s is not None:
            times.append(self._set_opens_s)
        due_s = min(times, default=math.inf)
        return due_s if self._speaking(due_s) else math.inf

    def inverter_age_s(self, now_s: float) -> float:
        """Return the time since the inverter's last keep-alive, inf when never heard."""
        return now_s - self._heard_s

    @property
    def silent(self) -> bool:
        """Whether nothing is sent: nothing was ever measured, or data are stale for too long."""
        return not self._speaking(self._tick_s)

    def _take(self, now_s: float, command: Command) -> None:
        self._tick_s = now_s
        self._frames = {frame.can_id: frame for frame in self.profile.frames(command)}
        complete = all(can_id in self._frames for can_id in self.profile.limit_ids)
        fresh = command.fresh and complete
        self._was_fresh = self._was_fresh or fresh
        measured = complete and command.voltage_v is not None
        if fresh or (measured and not self._was_fresh):
            self._stale_since_s = None
            self._last_sound = command
        elif self._stale_since_s is None:
            self._stale_since_s = now_s
        if not fresh:
            command = self._stopped(command)
            self._frames = {frame.can_id: frame for frame in self.profile.frames(command)}
        self._newest = command
        wanted = Limits()
        for can_id in self.profile.limit_ids:
            if can_id in self._frames:
                wanted = wanted.updated(self.profile.decode_limits(self._frames[can_id]))
        if wanted.tighter_than(self._told):
            self._urgent = list(self.profile.limit_ids)

    def _complete(self, command: Command) -> bool:
        """Whether every limit frame can be written: its voltages are known and within range."""
        return len(self.profile.limit_frames(command)) == len(self.profile.limit_ids)

    def _stopped(self, command: Command) -> Command:
        """Return zero limits; a voltage that the command does not have is the last good one.

        A stop is zero current, flags off and a sane CVL: without 351 the inverter would keep its last limits. A voltage
        that the command does have stays, for the transmit gate lets no other pass: the last good one may be laxer.
        """
        stopped = replace(
            command,
            ccl_a=0.0,
            dcl_a=0.0,
            charge_enabled=False,
            discharge_enabled=False,
            force_charge=False,
            full_charge_requested=False,
            alarms=command.alarms | {Alarm.INTERNAL},
        )
        if self._last_sound is None or self._complete(stopped):
            return stopped
        sound = replace(stopped, cvl_v=self._last_sound.cvl_v, dvl_v=self._last_sound.dvl_v)
        own_cvl, own_dvl = replace(sound, cvl_v=command.cvl_v), replace(sound, dvl_v=command.dvl_v)
        return next((stop for stop in (own_cvl, own_dvl) if self._complete(stop)), sound)

    def _speaking(self, now_s: float) -> bool:
        if self._last_sound is None or not now_s - self._tick_s <= TICK_EXPIRES_S:
            return False
        return self._stale_since_s is None or now_s - self._stale_since_s < self._settings.zero_before_silence_s

    def _open_set(self, now_s: float) -> None:
        """Queue all frames when a period is over; after a pause the absolute times start anew."""
        if self._set_opens_s is None or now_s - self._set_opens_s > TICK_EXPIRES_S:
            self._set_opens_s = now_s
        if now_s >= self._set_opens_s:
            self._set_opens_s += self._settings.period_s
            self._waiting += [can_id for can_id in self._frames if can_id not in self._waiting]

    def _next(self, now_s: float) -> int | None:
        """Return the frame that may go now: urgent ones as they get free, the set strictly in its order."""
        self._urgent = [can_id for can_id in self._urgent if can_id in self._frames]
        self._waiting = [can_id for can_id in self._waiting if can_id in self._frames]
        for can_id in self._urgent:
            if now_s >= self._free_s(can_id, LEAST_GAP_S):
                return can_id
        for can_id in self._waiting[:1]:
            if now_s >= self._free_s(can_id, PACE_S):
                return can_id
        return None

    def _free_s(self, can_id: int, gap_s: float) -> float:
        sent_s = self._sent_s.get(can_id, -math.inf)
        return max(self._last_frame_s + gap_s, sent_s + self._inhibit_s[can_id])

    def _send(self, now_s: float, can_id: int) -> Frame:
        frame = self._agreeing(can_id)
        self._sent_s[can_id] = self._last_frame_s = now_s
        self._waiting = [other for other in self._waiting if other != can_id]
        self._urgent = [other for other in self._urgent if other != can_id]
        self._told_before = self._told
        self._told = self._told.updated(self.profile.decode_limits(frame))
        return frame

    def _agreeing(self, can_id: int) -> Frame:
        """Return the newest frame; its enable flags are held back while the amperes last sent were zero.

        A limit that rises between 351 and 35C of one set would else enable what 351 still forbids.
        """
        frame = self._frames[can_id]
        if self._newest is None or can_id not in self.profile.limit_ids[1:]:
            return frame
        held = replace(
            self._newest,
            charge_enabled=self._newest.charge_enabled and bool(self._told.ccl_a),
            discharge_enabled=self._newest.discharge_enabled and bool(self._told.dcl_a),
        )
        return next(other for other in self.profile.frames(held) if other.can_id == can_id)
