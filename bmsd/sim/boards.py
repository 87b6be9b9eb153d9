"""What a module board does by itself: measures at the SYNC, answers in its slot, bleeds by lease, trips alone.

Sans I/O, on its own clock: `measure` sets what its wires see, `receive` takes a frame, `step` returns the
frames that are due. Power-on state: no bleeding, heartbeat lost; a latched trip survives it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import exp, inf

import numpy as np
from numpy.typing import NDArray

from bmsd.model.frame import Frame
from bmsd.model.snapshot import Bools, Floats, Ints
from bmsd.sim.node import BALANCE_FORGET_S, Identity, Node, Standing
from bmsd.sim.packing import CELL_INVALID, SENSOR_INVALID, Received, pack, quantise, quantise_one

TRIP_NONE, CELL_OVER_VOLTAGE, CELL_UNDER_VOLTAGE, OVER_TEMPERATURE = 0, 1, 2, 3

SLOT_START_S = 0.004
SLOT_S = 0.0026
CELL_SCALE_V = 0.000625
CELL_HIGHEST = 8000
TEMPERATURE_SCALE, TEMPERATURE_OFFSET, TEMPERATURE_HIGHEST = 0.05, -100.0, 8000
CELLS_A_FRAME = 4
TEMPERATURES, MODULE_STATE, NODE_STATUS = 1, 2, 3


@dataclass(frozen=True)
class ModuleBoardSettings:
    """A board's own limits and times; they lie outside bmsd's and act without it."""

    over_voltage_v: float = 3.75
    under_voltage_v: float = 2.40
    over_temperature_degc: float = 65.0
    trip_delay_s: float = 1.0
    trip_period_s: float = 0.1
    sample_s: float = 0.05
    heartbeat_s: float = 1.0
    balance_lease_s: float = 60.0
    bleeder_limit_degc: float = 85.0
    bleeder_k_per_w: float = 6.0
    bleeder_tau_s: float = 120.0
    bleeder_w: float = 0.33


@dataclass
class Measured:
    """What the wires of one board carry now.

    `cell_v` (cells,) V and `sensor_degc` (sensors,); NaN: the board cannot tell. `cell_code` and
    `sensor_code` hold the raw code that the board reports instead of a value, 0: none. `module_v`, V, is
    measured by a divider of its own. `board_degc` is the air at the board.
    """

    cell_v: Floats
    sensor_degc: Floats
    module_v: float
    board_degc: float = 25.0
    cell_code: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    sensor_code: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))


class ModuleBoard(Node):
    """One module board."""

    addresses = range(1, 33)

    def __init__(self, address: int, identity: Identity, settings: ModuleBoardSettings | None = None) -> None:
        super().__init__(address, identity)
        self.settings = settings or ModuleBoardSettings()
        cells, sensors = identity.cells, identity.sensors
        self.trip_code = TRIP_NONE
        """The latched trip; with `trip_cell` it is kept without supply."""
        self.trip_cell = 0
        self.bleeder_degc = 25.0
        self._measured = Measured(np.full(cells, np.nan), np.full(sensors, np.nan), np.nan)
        self._sample_s = -inf
        self._power_on()

    def _power_on(self) -> None:
        cells, sensors = self.identity.cells, self.identity.sensors
        self.bleeding: Bools = np.zeros(cells, dtype=np.bool_)
        """Bleeders that conduct, (cells,)."""
        self._heartbeat = Standing(self.settings.heartbeat_s)
        self._balance = Standing(self.settings.balance_lease_s, BALANCE_FORGET_S)
        self._reset = Standing(0.0)
        self._wanted: Bools = np.zeros(cells, dtype=np.bool_)
        self._derated = False
        self._over_v_since: Floats = np.full(cells, inf)
        self._under_v_since: Floats = np.full(cells, inf)
        self._over_t_since: Floats = np.full(sensors, inf)
        self._trip_due_s = inf if self.trip_code == TRIP_NONE else -inf
        self._trip_repeat = 0

    @property
    def slot_s(self) -> float:
        """Start of this board's slot after a SYNC of phase 0, s."""
        return SLOT_START_S + SLOT_S * (self.address - 1)

    @property
    def next_due_s(self) -> float:
        """When the next frame is to be sent, inf when none waits."""
        return min(super().next_due_s, self._trip_due_s)

    def measure(self, measured: Measured) -> None:
        """Set what the wires carry; a SYNC latches it."""
        self._measured = measured

    def step(self, now_s: float) -> list[Frame]:
        """Return the frames that are due."""
        if now_s - self._sample_s >= self.settings.sample_s - 1e-9:
            self._sample(now_s)
        return self._trip_frames(now_s) + self._due(now_s)

    def _take(self, received: Received, now_s: float) -> None:
        signals = received.signals
        if received.name == "Sync":
            if signals["Phase"] == 0:
                self._answer(signals["Number"], signals["SlowGroup"], now_s)
        elif received.name == "Heartbeat":
            self._heartbeat.take(signals["Counter"], 0.1 * signals["Lease"], now_s)
        elif received.address != self.address:
            return
        elif received.name == "BalanceCommand":
            if self._balance.take(signals["Counter"], float(signals["Lease"]), now_s):
                bits = signals["BalanceCells"] >> np.arange(self.identity.cells)
                self._wanted = (bits & 1).astype(np.bool_)
        elif received.name == "TripReset" and self._reset.take(signals["Counter"], 0.0, now_s):
            self._release(signals["TripCode"])

    def _release(self, code: int) -> None:
        """Release the latched trip if its cause is known to be gone."""
        here = self._measured
        seen = here.sensor_degc if self.trip_code == OVER_TEMPERATURE else here.cell_v
        gone = np.isfinite(seen).all() and not any(beyond.any() for beyond in self._beyond())
        if code == self.trip_code and gone:
            self.trip_code, self.trip_cell, self._trip_due_s = TRIP_NONE, 0, inf

    def _beyond(self) -> tuple[Bools, Bools, Bools]:
        """Return which cells are too high, which too low, which sensors too hot; unknown ones are neither."""
        here, own = self._measured, self.settings
        return (
            here.cell_v >= own.over_voltage_v,
            here.cell_v <= own.under_voltage_v,
            here.sensor_degc >= own.over_temperature_degc,
        )

    def _sample(self, now_s: float) -> None:
        """The board's own round: bleeders, their heat, its own limits."""
        elapsed_s = min(now_s - self._sample_s, 3600.0)
        self._sample_s = now_s
        self._warm_bleeders(elapsed_s)
        too_high, too_low, too_hot = self._beyond()
        self._over_v_since = _since(too_high, self._over_v_since, now_s)
        self._under_v_since = _since(too_low, self._under_v_since, now_s)
        self._over_t_since = _since(too_hot, self._over_t_since, now_s)
        if self.trip_code == TRIP_NONE:
            self._judge(now_s)
        told = not (self._heartbeat.lost(now_s) or self._balance.lost(now_s))
        self.bleeding = self._wanted & (told and not self._derated and self.trip_code == TRIP_NONE)

    def _judge(self, now_s: float) -> None:
        limits = (
            (CELL_OVER_VOLTAGE, self._over_v_since),
            (CELL_UNDER_VOLTAGE, self._under_v_since),
            (OVER_TEMPERATURE, self._over_t_since),
        )
        for code, since in limits:
            if since.size and now_s - since.min() >= self.settings.trip_delay_s - 1e-9:
                self.trip_code, self.trip_cell = code, int(since.argmin()) + 1
                self._trip_due_s, self._trip_repeat = now_s, 0
                return

    def _warm_bleeders(self, elapsed_s: float) -> None:
        own = self.settings
        power_w = own.bleeder_w * float(self.bleeding.sum())
        end_degc = self._measured.board_degc + own.bleeder_k_per_w * power_w
        self.bleeder_degc = end_degc + (self.bleeder_degc - end_degc) * exp(-elapsed_s / own.bleeder_tau_s)
        release_degc = own.bleeder_limit_degc - (5.0 if self._derated else 0.0)
        self._derated = not self.bleeder_degc < release_degc

    def _trip_frames(self, now_s: float) -> list[Frame]:
        if now_s < self._trip_due_s - 1e-9:
            return []
        self._trip_due_s = next_trip_s(self._trip_due_s, now_s, self.settings.trip_period_s)
        signals = {"TripCode": self.trip_code, "CellNumber": self.trip_cell, "Repeat": self._trip_repeat}
        self._trip_repeat = (self._trip_repeat + 1) % 16
        return [pack("Trip", self.address, signals)]

    def _answer(self, number: int, slow_group: int, now_s: float) -> None:
        """Latch everything now and queue it for the slot."""
        self._drop("poll")
        counter, due_s = number % 16, now_s + self.slot_s
        here = self._measured
        cells = quantise(here.cell_v, CELL_SCALE_V, 0.0, CELL_HIGHEST, CELL_INVALID)
        for frame in self._quads("CellVoltages", "Cell{}Voltage", coded(cells, here.cell_code), CELL_INVALID, counter):
            self._send(due_s, frame, "poll")
        for frame in self._slow(slow_group, counter, now_s):
            self._send(due_s, frame, "poll")

    def _slow(self, group: int, counter: int, now_s: float) -> Iterable[Frame]:
        if group == TEMPERATURES:
            here = self._measured
            raw = quantise(here.sensor_degc, TEMPERATURE_SCALE, TEMPERATURE_OFFSET, TEMPERATURE_HIGHEST, SENSOR_INVALID)
            codes = coded(raw, here.sensor_code)
            return self._quads("Temperatures", "Sensor{}Temperature", codes, SENSOR_INVALID, counter)
        if group == MODULE_STATE:
            return (pack("ModuleState", self.address, self._module_state(counter, now_s)),)
        if group == NODE_STATUS:
            own = (self._measured.board_degc + 3.0, self.bleeder_degc)
            return (pack("NodeStatus", self.address, node_status(counter, *own)),)
        return ()

    def _quads(self, message: str, signal: str, raw: Ints, invalid: int, counter: int) -> Iterable[Frame]:
        """Pack values four to a frame; places without a wire read invalid."""
        values = raw.tolist()
        values += [invalid] * (-len(values) % CELLS_A_FRAME)
        for first in range(0, len(values), CELLS_A_FRAME):
            places = range(first, first + CELLS_A_FRAME)
            signals = {signal.format(place + 1): values[place] for place in places}
            signals["Counter"] = counter
            yield pack(f"{message}{first // CELLS_A_FRAME + 1}", self.address, signals)

    def _module_state(self, counter: int, now_s: float) -> dict[str, int]:
        return {
            "ModuleVoltage": quantise_one(self._measured.module_v, 0.002, 0.0, 65534, 65535),
            "BalanceActive": int((self.bleeding.astype(np.int64) << np.arange(self.identity.cells)).sum()),
            "CellCount": self.identity.cells,
            "TripActive": int(self.trip_code != TRIP_NONE),
            "HeartbeatLost": int(self._heartbeat.lost(now_s)),
            "LeaseExpired": int(self._balance.lost(now_s)),
            "BalanceDerated": int(self._derated),
            "Counter": counter,
        }


def node_status(counter: int, board_degc: float, balancer_degc: float) -> dict[str, int]:
    """Return the raw signals of NodeStatus of a healthy node at 24 V."""
    scale = (TEMPERATURE_SCALE, TEMPERATURE_OFFSET, TEMPERATURE_HIGHEST, SENSOR_INVALID)
    return {
        "SelfTest": 0,
        "BoardTemperature": quantise_one(board_degc, *scale),
        "BalancerTemperature": quantise_one(balancer_degc, *scale),
        "SupplyVoltage": 120,
        "BootMode": 0,
        "SelfTestDone": 1,
        "Counter": counter,
    }


def next_trip_s(due_s: float, now_s: float, period_s: float) -> float:
    """Return when the next frame of a trip is due; one that was late by a period or more begins a new grid."""
    return due_s + period_s if due_s + period_s > now_s else now_s + period_s


def coded(raw: Ints, code: Ints) -> Ints:
    """Return `raw` with the codes other than 0 in place of the values."""
    return np.where(code > 0, code, raw) if code.size else raw


def _since(beyond: NDArray[np.bool_], since: Floats, now_s: float) -> Floats:
    """Return since when each value has been beyond its limit without a break, inf when it is not."""
    return np.where(beyond, np.minimum(since, now_s), inf)
