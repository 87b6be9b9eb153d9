"""What balances the cells of a module: bleeders that conduct when told, and a shunting channel that acts by itself.

A bleeder turns the cell's energy into heat on the board; the board warms with one time constant and lets go above its
limit until it has cooled by a few kelvin. The active channel is that of the usual modules (one per module, voltage
driven): it takes `active_a` from the highest cell of the module and gives the lowest what its efficiency leaves, while
they are further apart than `active_start_v` (until `active_stop_v`) and the highest is above `active_above_v`. Energy,
not charge, is what it hands over: I_give = efficiency I_take V_high / V_low.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp

import numpy as np

from bmsd.model.snapshot import Bools, Floats

_COOLED_K = 5.0


@dataclass(frozen=True)
class BalancerParameters:
    """A module's board. `active_a` 0: it has no active channel. Resistance of the bleeders is the cells'."""

    active_a: float = 0.0
    active_efficiency: float = 0.85
    active_above_v: float = 3.40
    active_start_v: float = 0.005
    active_stop_v: float = 0.002
    board_k_per_w: float = 6.0
    board_tau_s: float = 120.0
    board_limit_degc: float = 85.0
    board_idle_k: float = 5.0
    """What the board is warmer than the air with nothing to do."""


class Balancers:
    """The boards of all modules, arrays (strings, modules)."""

    def __init__(self, shape: tuple[int, int, int], parameters: BalancerParameters, ambient_degc: float) -> None:
        self.parameters = parameters
        self.board_degc = np.full(shape[:2], ambient_degc + parameters.board_idle_k)
        self.hot = np.zeros(shape[:2], dtype=np.bool_)
        """Boards that have let go because they are too hot."""
        self.lost_j = 0.0
        """What the active channels have turned into heat so far, J."""
        self._shape = shape
        self._active = np.zeros(shape[:2], dtype=np.bool_)
        self._rows = np.arange(shape[0] * shape[1])

    def bleeding(self, wanted: Bools) -> Bools:
        """Return the bleeders that conduct of those that are `wanted`: none on a board that is too hot."""
        return np.asarray(wanted & ~self.hot[:, :, None]) if self.hot.any() else wanted

    def moved_a(self, cell_v: Floats, enabled: Bools | bool = True) -> Floats:
        """Return what the active channels put into the cells now, A. `enabled` (strings, modules)."""
        p = self.parameters
        moved = np.zeros(self._shape)
        if not p.active_a > 0.0:
            return moved
        high_v, low_v = cell_v.max(axis=2), cell_v.min(axis=2)
        apart = np.where(self._active, p.active_stop_v, p.active_start_v)
        self._active = (high_v - low_v > apart) & (high_v > p.active_above_v) & enabled & ~self.hot
        if self._active.any():
            flat, cells = moved.reshape(self._rows.size, -1), cell_v.reshape(self._rows.size, -1)
            take_a = np.where(self._active, p.active_a, 0.0).ravel()
            flat[self._rows, cells.argmin(axis=1)] += p.active_efficiency * take_a * (high_v / low_v).ravel()
            flat[self._rows, cells.argmax(axis=1)] -= take_a
        return moved

    def step(self, dt_s: float, cell_v: Floats, bleed_w: Floats | float, moved_a: Floats, air_degc: Floats) -> None:
        """Warm the boards: `bleed_w` (strings, modules) of their bleeders, and what active channels lose."""
        p = self.parameters
        power_w = np.asarray(bleed_w)
        if p.active_a > 0.0:
            lost_w = -(moved_a * cell_v).sum(axis=2)
            self.lost_j += dt_s * float(lost_w.sum())
            power_w = power_w + lost_w
        goal = air_degc + p.board_idle_k + p.board_k_per_w * power_w
        self.board_degc = goal + (self.board_degc - goal) * exp(-dt_s / p.board_tau_s)
        limit = np.where(self.hot, p.board_limit_degc - _COOLED_K, p.board_limit_degc)
        self.hot = self.board_degc > limit
