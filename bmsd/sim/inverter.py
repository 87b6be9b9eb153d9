"""What a hybrid inverter does with the limits it is told: obeys late, holds the voltage, stops on silence.

Listens to the Pylontech low-voltage set (protocols: 0x351 limits, 0x35C flags) and says 0x305 once a second.
Parsed with struct, not with the project's own DBC: whoever wrote that could be wrong. Charging is positive.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, inf, pi, sin
from struct import unpack_from
from typing import Literal, Protocol

from bmsd.model.frame import Frame

LIMITS_ID, FLAGS_ID, KEEPALIVE_ID = 0x351, 0x35C, 0x305
CHARGE_ENABLE, DISCHARGE_ENABLE, FORCE_CHARGE = 0x80, 0x40, 0x30
_ENABLE_DROP_TAU_S = 0.05


class Wanted(Protocol):
    """What the site wants of the rack."""

    def at(self, time_s: float) -> float:
        """Return the wanted current at a time since start, A at the battery, positive charges."""


@dataclass(frozen=True)
class Profile:
    """The current that the site wants, A at the battery, positive charges.

    constant: `charge_a` (negative discharges). square: `charge_a`, then `discharge_a` (both magnitudes), each
    half a period. solar: day and night in one period: a half sine of `charge_a` by day, `discharge_a` by night.
    """

    kind: Literal["constant", "square", "solar"] = "constant"
    charge_a: float = 0.0
    discharge_a: float = 0.0
    period_s: float = 600.0

    def at(self, time_s: float) -> float:
        """Return the wanted current at a time since start, A."""
        if self.kind == "constant":
            return self.charge_a
        place = time_s / self.period_s % 1.0
        if self.kind == "square":
            return self.charge_a if place < 0.5 else -self.discharge_a
        return self.charge_a * sin(2.0 * pi * place) if place < 0.5 else -self.discharge_a


@dataclass(frozen=True)
class InverterSettings:
    """An inverter. Voltages in V of its DC terminals: it wakes above `wake_v`, sleeps below `sleep_v`.

    From waking on it needs `boot_s` before it draws `standby_w` and may run. `enable_wired`: it runs only
    while its enable contact is held. `silence_s`: no 0x351 for so long and it stops.
    """

    profile: Wanted = Profile()
    lag_s: float = 1.0
    silence_s: float = 3.0
    standby_w: float = 50.0
    bleed_ohm: float = 10_000.0
    wake_v: float = 46.4
    sleep_v: float = 40.0
    boot_s: float = 6.0
    enable_wired: bool = True
    keepalive: bool = True
    keepalive_s: float = 1.0
    force_charge_a: float = 20.0
    source_ohm: float = 0.01
    """Resistance of the rack as seen from the inverter: sets the gain of its voltage control."""


class Inverter:
    """One inverter on the rack's DC bus."""

    def __init__(self, settings: InverterSettings) -> None:
        self.settings = settings
        self.current_a = 0.0
        """DC current now, positive charges the battery."""
        self.ignores_limits = False
        """A mishap: whatever it is told, it does what the site wants."""
        self.frames_sent = 0
        self._limits: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
        self._limits_s = -inf
        self._flags = 0
        self._flags_s = -inf
        self._charge_room_a = 0.0
        self._discharge_room_a = 0.0
        self._awake_s = inf
        self._keepalive_due_s = -inf
        self._rack: tuple[float, float] | None = None

    @property
    def cvl_v(self) -> float:
        """Charge voltage last told, V."""
        return self._limits[0]

    @property
    def ccl_a(self) -> float:
        """Charge current limit last told, A."""
        return self._limits[1]

    @property
    def dcl_a(self) -> float:
        """Discharge current limit last told, A, magnitude."""
        return self._limits[2]

    @property
    def charge_enabled(self) -> bool:
        """Charge flag last told."""
        return bool(self._flags & CHARGE_ENABLE)

    @property
    def discharge_enabled(self) -> bool:
        """Discharge flag last told."""
        return bool(self._flags & DISCHARGE_ENABLE)

    @property
    def next_due_s(self) -> float:
        """When the next keep-alive is due."""
        return self._keepalive_due_s if self.settings.keepalive else inf

    def receive(self, frame: Frame, now_s: float) -> None:
        """Take one frame of the battery; foreign and short ones do nothing."""
        if frame.extended:
            return
        if frame.can_id == LIMITS_ID and len(frame.data) >= 6:
            cvl, ccl, dcl = unpack_from("<Hhh", frame.data)
            dvl = unpack_from("<H", frame.data, 6)[0] if len(frame.data) == 8 else 0
            self._told((0.1 * cvl, 0.1 * max(ccl, 0), 0.1 * max(dcl, 0), 0.1 * dvl), now_s)
        elif frame.can_id == FLAGS_ID and frame.data:
            self._flags, self._flags_s = frame.data[0], now_s

    def take(
        self, cvl_v: float, ccl_a: float, dcl_a: float, dvl_v: float, now_s: float, *, force_charge: bool = False
    ) -> None:
        """Take limits without a bus between: both enabled where they are above zero."""
        self._told((cvl_v, ccl_a, dcl_a, dvl_v), now_s)
        enabled = CHARGE_ENABLE * (ccl_a > 0.0) | DISCHARGE_ENABLE * (dcl_a > 0.0)
        self._flags, self._flags_s = enabled | FORCE_CHARGE * force_charge, now_s

    def _told(self, limits: tuple[float, float, float, float], now_s: float) -> None:
        self._limits, self._limits_s = limits, now_s

    def heard(self, now_s: float) -> bool:
        """Return whether the battery has told its limits lately."""
        return now_s - self._limits_s < self.settings.silence_s and now_s - self._flags_s < self.settings.silence_s

    def step(
        self,
        now_s: float,
        dt_s: float,
        since_start_s: float,
        bus_v: float,
        path: bool,
        enable: bool,
        rack: tuple[float, float] | None = None,
    ) -> None:
        """Move the current towards what may and shall flow during `dt_s`.

        `path`: a string is on the bus without precharge resistor. `enable`: the enable contact is held. `rack`:
        voltage (V) and resistance (ohm) that the rack will show at the end of the step; with it the voltage is held
        by the current that this needs, for steps that are too long for the controller.
        """
        self._rack = rack
        self._wake(now_s, bus_v)
        may_run = enable or not self.settings.enable_wired
        if not path or now_s - self._awake_s < self.settings.boot_s:
            self.current_a = self._charge_room_a = self._discharge_room_a = 0.0
            return
        target_a = self._target(now_s, dt_s, since_start_s, bus_v) if may_run else 0.0
        tau_s = self.settings.lag_s if may_run else _ENABLE_DROP_TAU_S
        stay = exp(-dt_s / tau_s) if tau_s > 0.0 else 0.0
        self.current_a = target_a + (self.current_a - target_a) * stay
        if abs(self.current_a) < 1e-3 and target_a == 0.0:
            self.current_a = 0.0

    def frames(self, now_s: float) -> list[Frame]:
        """Return the frames that are due: the keep-alive."""
        if not self.settings.keepalive or now_s < self._keepalive_due_s:
            return []
        late = now_s - self._keepalive_due_s > self.settings.keepalive_s
        self._keepalive_due_s = (now_s if late else self._keepalive_due_s) + self.settings.keepalive_s
        self.frames_sent += 1
        return [Frame(KEEPALIVE_ID, bytes(8), False)]

    def load_a(self, bus_v: float, now_s: float) -> float:
        """Return the standby current out of the bus, A: constant power once booted, a bleeder always."""
        load_a = bus_v / self.settings.bleed_ohm
        if now_s - self._awake_s >= self.settings.boot_s:
            load_a += self.settings.standby_w / max(bus_v, self.settings.sleep_v)
        return load_a

    def _wake(self, now_s: float, bus_v: float) -> None:
        if bus_v < self.settings.sleep_v:
            self._awake_s = inf
        elif bus_v >= self.settings.wake_v:
            self._awake_s = min(self._awake_s, now_s)

    def _target(self, now_s: float, dt_s: float, since_start_s: float, bus_v: float) -> float:
        wanted_a = self.settings.profile.at(since_start_s)
        if self.ignores_limits:
            return wanted_a
        heard = self.heard(now_s)
        cvl_v, ccl_a, dcl_a, dvl_v = self._limits
        ccl_a = ccl_a if heard and self.charge_enabled else 0.0
        dcl_a = dcl_a if heard and self.discharge_enabled else 0.0
        if heard and self._flags & FORCE_CHARGE:
            wanted_a = max(wanted_a, self.settings.force_charge_a)
        if self._rack is not None:
            emf_v, ohm = self._rack
            charge_a = min(max((cvl_v - emf_v) / ohm, 0.0), ccl_a)
            discharge_a = min(max((emf_v - dvl_v) / ohm, 0.0), dcl_a)
            return min(max(wanted_a, -discharge_a), charge_a)
        charge_a = self._room(dt_s, cvl_v - bus_v, ccl_a, charging=True)
        discharge_a = self._room(dt_s, bus_v - dvl_v, dcl_a, charging=False)
        return min(max(wanted_a, -discharge_a), charge_a)

    def _room(self, dt_s: float, distance_v: float, limit_a: float, *, charging: bool) -> float:
        """Return the current that keeps the voltage: PI on the distance to it, at most the limit."""
        gain = 1.0 / self.settings.source_ohm
        was_a = self._charge_room_a if charging else self._discharge_room_a
        room_a = min(max(was_a + 0.1 * gain * distance_v * dt_s, 0.0), limit_a)
        if charging:
            self._charge_room_a = room_a
        else:
            self._discharge_room_a = room_a
        return min(max(room_a + 0.3 * gain * distance_v, 0.0), limit_a)
