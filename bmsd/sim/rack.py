"""What flows where: strings in parallel on one bus, their contactors, the inverter's capacitor.

Theory: a string is a voltage behind a resistance, i_s = (V - E_s) / R_s, positive when charging. Plus closes it
to the bus through the contactor, precharge through its resistor; without minus nothing flows. The bus is
the inverter's capacitor: C dV/dt = I_inverter - I_load - G V - sum i_s, G a load that is not the inverter's. With a
closed string its time constant is below a millisecond: a step is solved exactly (exponential), with E_s and the
sources held for the step, and the string currents are the exact means over the step. So the charges of a step always
add up, for any step. E_s and R_s are those that the cells will show at its end (`Cells.thevenin`): that keeps
strings in parallel from swinging against each other, however long it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, exp, pi
from typing import Protocol

import numpy as np

from bmsd.model.snapshot import Bools, Floats

MINUS, PRECHARGE, PLUS = 0, 1, 2


class Source(Protocol):
    """Cells of all strings, computed or played back."""

    cell_v: Floats

    @property
    def temperature_degc(self) -> Floats: ...
    @property
    def soc(self) -> Floats: ...
    @property
    def string_emf_v(self) -> Floats: ...
    @property
    def string_ohm(self) -> Floats: ...
    def thevenin(self, dt_s: float) -> tuple[Floats, Floats]: ...
    def step(self, dt_s: float, string_a: Floats, plus_closed: Bools, bleeding: Bools) -> Floats: ...
    def warm(self, k_per_s: Floats) -> None: ...
    def leak(self, conductance_s: Floats) -> None: ...


@dataclass(frozen=True)
class BusParameters:
    """Circuit around the strings. Ripple: amplitude in A of the whole rack while the inverter runs."""

    capacitance_f: float = 0.048
    precharge_ohm: float = 50.0
    cable_ohm: float = 0.8e-3
    contactor_ohm: float = 0.2e-3
    ripple_a: float = 0.0
    ripple_hz: float = 100.0


class Contactors:
    """Minus, precharge and plus of every string; arrays (strings, 3). Coils need time to move their contacts."""

    def __init__(self, strings: int, closing_s: float = 0.030, opening_s: float = 0.015) -> None:
        self.coil = np.zeros((strings, 3), dtype=np.bool_)
        self.closed = np.zeros((strings, 3), dtype=np.bool_)
        self.welded = np.zeros((strings, 3), dtype=np.bool_)
        """Will not open any more."""
        self.jammed = np.zeros((strings, 3), dtype=np.bool_)
        """Will not close any more."""
        self._closing_s = closing_s
        self._opening_s = opening_s
        self._moving_s = np.zeros((strings, 3))
        self._any_moving = False

    def step(self, dt_s: float) -> None:
        """Move the contacts towards their coils."""
        moving = self.coil != self.closed
        if not moving.any():
            if self._any_moving:
                self._moving_s[:] = 0.0
                self._any_moving = False
            return
        self._any_moving = True
        self._moving_s = np.where(moving, self._moving_s + dt_s, 0.0)
        there = moving & (self._moving_s >= np.where(self.coil, self._closing_s, self._opening_s) - 1e-9)
        held = (self.welded & self.closed) | (self.jammed & ~self.closed)
        self.closed = np.where(there & ~held, self.coil, self.closed)
        self._moving_s[there] = 0.0


class Rack:
    """Strings, contactors and bus."""

    def __init__(self, cells: Source, bus: BusParameters, cable_ohm: Floats | None = None) -> None:
        """`cable_ohm` (strings,): cables, fuse and busbars of each string; left out: the bus parameters' for all."""
        self.cells = cells
        self.bus = bus
        self.cable_ohm = bus.cable_ohm if cable_ohm is None else cable_ohm
        strings = cells.string_emf_v.shape[0]
        self.contactors = Contactors(strings)
        self.bus_v = 0.0
        self.string_a = np.zeros(strings)
        """Mean current of the last step, (strings,), positive charges."""
        self.peak_a = np.zeros(strings)
        """Highest current since start, magnitude, with the first instant of a closing: an inrush shows here."""
        self.load_s = 0.0
        """Conductance of a load across the bus that is not the inverter's, S."""
        self.mean_v = 0.0
        """Mean voltage of the bus over the last step, V: with the current, the energy."""
        self.path_j = 0.0
        """Heat of cables, contactors and precharge resistors so far, J."""
        self.load_j = 0.0
        """What such a load has turned into heat so far, J."""
        self._time_s = 0.0
        self._places = b""
        self._find_path()

    @property
    def plus_closed(self) -> Bools:
        """Strings that are on the bus without the precharge resistor, (strings,)."""
        closed = self.contactors.closed
        return closed[:, MINUS] & closed[:, PLUS]

    @property
    def path_ohm(self) -> Floats:
        """Resistance from the cells' terminals to the bus, (strings,); inf when open."""
        self._find_path()
        return self._path_ohm

    def _find_path(self) -> bool:
        """Bring the resistances up to where the contacts are; return whether they have moved."""
        closed = self.contactors.closed
        if (places := closed.tobytes()) == self._places:
            return False
        self._places = places
        through = np.where(
            closed[:, PLUS], self.bus.contactor_ohm, np.where(closed[:, PRECHARGE], self.bus.precharge_ohm, np.inf)
        )
        self._path_ohm: Floats = np.where(closed[:, MINUS], self.cable_ohm + through, np.inf)
        self._loss_ohm = np.where(np.isfinite(self._path_ohm), self._path_ohm, 0.0)
        return True

    @property
    def string_v(self) -> Floats:
        """Voltage of the cells at the battery side of the contactors, (strings,)."""
        cells_v: Floats = self.cells.cell_v.sum(axis=(1, 2))
        return cells_v + self.cable_ohm * self.string_a

    def equivalent(self, dt_s: float) -> tuple[float, float]:
        """Return voltage (V) and resistance (ohm) of the rack at its bus for a step; nan and inf with no string on it.

        A source that wants V at the end of the step must drive (V - voltage) / resistance.
        """
        emf_v, inner_ohm = self.cells.thevenin(dt_s)
        conductance = 1.0 / (inner_ohm + self.path_ohm)
        total = float(conductance.sum())
        return (float(conductance @ emf_v) / total, 1.0 / total) if total > 0.0 else (float("nan"), float("inf"))

    def step(self, dt_s: float, inverter_a: float, load_a: float, bleeding: Bools) -> None:
        """Let time pass: `inverter_a` into the bus (positive charges), `load_a` out of it, both for `dt_s`."""
        self.contactors.step(dt_s)
        if self._find_path():
            first_a = (self.bus_v - self.cells.string_emf_v) / (self.cells.string_ohm + self._path_ohm)
            self.peak_a = np.maximum(self.peak_a, np.abs(first_a))
        emf_v, inner_ohm = self.cells.thevenin(dt_s)
        before_v, before_ohm = self.cells.string_emf_v, self.cells.string_ohm
        conductance = 1.0 / (inner_ohm + self._path_ohm)
        total = float(conductance.sum())
        held_v, square_v = self._charge_bus(dt_s, inverter_a - load_a, total, float(conductance @ emf_v))
        mean_a = conductance * (held_v - emf_v)
        if self.bus.ripple_a != 0.0:
            mean_a = mean_a + self._ripple(dt_s, inverter_a, conductance)
        self.string_a = self.cells.step(dt_s, mean_a, self.plus_closed, bleeding)
        self.peak_a = np.maximum(self.peak_a, np.abs(self.string_a))
        square = self.string_a * self.string_a
        if square_v > 1e-9:
            square += conductance * conductance * square_v
        self.path_j += dt_s * float(np.dot(square, self._loss_ohm))
        # the voltage of the end was held for the whole step; the cells came to theirs from that of its begin
        cells_v = 0.5 * (before_v + self.cells.string_emf_v) + before_ohm * mean_a
        self.mean_v = float(conductance @ (cells_v + self._loss_ohm * mean_a)) / total if total > 0.0 else held_v
        if self.load_s > 0.0:
            self.load_j += dt_s * self.load_s * (self.mean_v * self.mean_v + square_v)
        self._time_s += dt_s

    def _charge_bus(self, dt_s: float, source_a: float, total: float, short_a: float) -> tuple[float, float]:
        """Move the bus voltage; return its mean over the step, V, and its mean square about that, V^2.

        `total`: conductance of all strings, S; `short_a`: what they would drive into a bus of 0 V.
        """
        total += self.load_s
        before_v, farad = self.bus_v, self.bus.capacitance_f
        if total <= 0.0:
            self.bus_v = max(before_v + source_a * dt_s / farad, 0.0)
            # an empty capacitor gives no more: the load had its voltage for a part of the step
            part = 1.0 if self.bus_v > 0.0 or source_a >= 0.0 else min(before_v * farad / (-source_a * dt_s), 1.0)
            return 0.5 * (before_v + self.bus_v) * part, 0.0
        end_v = (short_a + source_a) / total
        exponent = dt_s * total / farad
        stay = exp(-exponent)
        self.bus_v = end_v + (before_v - end_v) * stay
        mean = (1.0 - stay) / exponent
        square = 0.5 * mean * (1.0 + stay) - mean * mean
        return end_v + (before_v - end_v) * mean, (before_v - end_v) ** 2 * max(square, 0.0)

    def _ripple(self, dt_s: float, inverter_a: float, conductance: Floats) -> Floats:
        """Mean of the inverter's ripple over the step by string; strings share it by conductance."""
        if inverter_a == 0.0 or not self.plus_closed.any():
            return np.zeros_like(conductance)
        omega = 2.0 * pi * self.bus.ripple_hz
        swing = cos(omega * self._time_s) - cos(omega * (self._time_s + dt_s))
        return self.bus.ripple_a * swing / (omega * dt_s) * conductance / float(conductance.sum())
