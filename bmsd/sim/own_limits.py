"""When boards and contactor units act by themselves, for all of a rack at once; one by one they are in `boards`.

A module trips when a cell or a sensor has been beyond the board's limits for its delay, a unit on over-current and on
its inputs. Any trip of a board and any emergency stop opens all units. Trips are latched until they are reset.
"""

from __future__ import annotations

import numpy as np

from bmsd.model.layout import Layout
from bmsd.model.snapshot import Bools, Floats
from bmsd.sim.boards import (
    CELL_OVER_VOLTAGE,
    CELL_UNDER_VOLTAGE,
    OVER_TEMPERATURE,
    TRIP_NONE,
    ModuleBoardSettings,
)
from bmsd.sim.contactor_unit import EMERGENCY_STOP, INTERLOCK, OVER_CURRENT, OpenReason

_OF_UNITS = {OVER_CURRENT: OpenReason.OVER_CURRENT, INTERLOCK: OpenReason.INTERLOCK,
             EMERGENCY_STOP: OpenReason.EMERGENCY_STOP}  # fmt: skip


class OwnLimits:
    """Latched trips: `module_code` (strings, modules), `unit_code` (strings,), 0 none; `open` (strings,)."""

    def __init__(self, layout: Layout, board: ModuleBoardSettings, over_current_a: float) -> None:
        self.module_code = np.zeros(layout.module_shape, dtype=np.int64)
        self.unit_code = np.zeros(layout.strings, dtype=np.int64)
        self.open_reason = np.full(layout.strings, int(OpenReason.POWER_ON), dtype=np.int64)
        self._board = board
        self._over_current_a = over_current_a
        self._beyond_s = np.zeros((3, *layout.module_shape))
        self._stop = np.zeros(layout.strings, dtype=np.bool_)
        self._interlock = self._stop

    @property
    def open(self) -> Bools:
        """Units that keep their string open, (strings,)."""
        return np.asarray((self.unit_code != TRIP_NONE) | bool(self.module_code.any()))

    def inputs(self, emergency_stop: Bools, interlock: Bools) -> None:
        """Take what is pressed or pulled now."""
        self._stop, self._interlock = emergency_stop, interlock
        if emergency_stop.any():
            self._trip(np.ones_like(emergency_stop), EMERGENCY_STOP)
        if interlock.any():
            self._trip(interlock, INTERLOCK)

    def step(self, dt_s: float, cell_v: Floats, sensor_degc: Floats, string_a: Floats) -> None:
        """Let `dt_s` pass with these true values."""
        own = self._board
        beyond = np.stack(
            (
                cell_v.max(axis=2) > own.over_voltage_v,
                cell_v.min(axis=2) < own.under_voltage_v,
                sensor_degc.max(axis=2) > own.over_temperature_degc,
            )
        )
        if beyond.any() or self._beyond_s.any():
            self._beyond_s = np.where(beyond, self._beyond_s + dt_s, 0.0)
            for late, code in zip(
                self._beyond_s >= own.trip_delay_s,
                (CELL_OVER_VOLTAGE, CELL_UNDER_VOLTAGE, OVER_TEMPERATURE),
                strict=True,
            ):
                self.module_code[late & (self.module_code == TRIP_NONE)] = code
            if self.module_code.any():
                self.open_reason[:] = int(OpenReason.TRIP_FRAME)
        over = np.abs(string_a) > self._over_current_a
        if over.any():
            self._trip(over, OVER_CURRENT)

    def commanded(self, opened: Bools) -> None:
        """Note which strings were opened by command."""
        self.open_reason[opened & ~self.open] = int(OpenReason.COMMANDED)

    def reset(self) -> None:
        """Release every trip whose cause is gone."""
        self.module_code[~(self._beyond_s > 0.0).any(axis=0)] = TRIP_NONE
        if not (self.module_code.any() or self._stop.any()):
            self.unit_code[~self._interlock] = TRIP_NONE

    def _trip(self, units: Bools, code: int) -> None:
        fresh = units & (self.unit_code == TRIP_NONE)
        self.unit_code[fresh] = code
        self.open_reason[fresh] = int(_OF_UNITS[code])
