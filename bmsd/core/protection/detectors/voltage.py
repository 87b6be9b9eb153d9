"""Voltages that boards and contactor units measure at dividers of their own, against the cells they are made of."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bmsd.core.plausibility import beyond_cells_v
from bmsd.core.protection.evidence import Evidence, Reading, detector, remembering, worse
from bmsd.model.snapshot import Bools, Floats, Ints


@detector
def module_voltage(evidence: Evidence) -> Reading:
    """How far the voltage of each module contradicts its cells beyond the tolerance, V."""
    modules, current_a = evidence.snapshot.modules, evidence.snapshot.units.current_a
    off_v = beyond_cells_v(evidence.plant, modules.module_v, modules.cell_v, current_a[:, None])
    value = np.where(_one_poll(evidence, modules.state_age_s), off_v, np.nan)
    return Reading(value.reshape(-1), new=evidence.new_cells.reshape(-1))


@dataclass(frozen=True, slots=True)
class Past:
    """The cells that were compared last, and the string currents of the hold time that runs and of the one before."""

    counted: Ints
    low_a: Floats
    high_a: Floats
    since_s: float

    @classmethod
    def start(cls, evidence: Evidence) -> Past:
        now_a = np.stack([evidence.snapshot.units.current_a] * 2)
        return cls(np.full(evidence.new_cells.shape, -1, dtype=np.int64), now_a, now_a, 0.0)

    def next(self, evidence: Evidence) -> Past:
        """With the currents of now."""
        now_a, since_s = evidence.snapshot.units.current_a, self.since_s + evidence.dt_s
        low_a = np.stack([np.fmin(self.low_a[0], now_a), self.low_a[1]])
        high_a = np.stack([np.fmax(self.high_a[0], now_a), self.high_a[1]])
        if since_s < evidence.plant.timing.hold_s:
            return Past(self.counted, low_a, high_a, since_s)
        return Past(self.counted, np.stack([now_a, low_a[0]]), np.stack([now_a, high_a[0]]), 0.0)

    def swing_a(self) -> Floats:
        """(strings,): by how much the current has changed meanwhile."""
        return np.asarray(np.fmax.reduce(self.high_a) - np.fmin.reduce(self.low_a))


@remembering
def string_voltage(evidence: Evidence, was: Past | None) -> tuple[Reading, Past]:
    """How far string voltage, or bus voltage of a string in circuit, contradicts the cells beyond the tolerance, V.

    Boards that are not polled with the units measure at other times: the current may have changed in between, and
    what that drops is tolerated, too. A comparison is a new one when every module has been measured since the last.
    """
    units, modules, plant = evidence.snapshot.units, evidence.snapshot.modules, evidence.plant
    past = (was or Past.start(evidence)).next(evidence)
    cell_v = modules.cell_v.reshape(len(evidence.in_circuit), -1)
    string_off_v, bus_off_v = (
        beyond_cells_v(plant, measured_v, cell_v, units.current_a) for measured_v in (units.string_v, units.bus_v)
    )
    off_v = worse(string_off_v, np.where(evidence.in_circuit, bus_off_v, string_off_v))
    one_poll = _one_poll(evidence, units.voltage_age_s[:, None]).all(axis=1)
    swing_v = past.swing_a() * plant.cell.resistance_ohm * plant.layout.cells_in_series
    value = off_v - np.where(one_poll, 0.0, swing_v)
    new = (modules.cell_sync != past.counted).all(axis=1) & np.isfinite(value)
    return Reading(value, new=new), replace(past, counted=np.where(new[:, None], modules.cell_sync, past.counted))


def _one_poll(evidence: Evidence, age_s: Floats) -> Bools:
    """Whether these were latched with the cells of each module: a step of the current between two is no fault."""
    with np.errstate(invalid="ignore"):  # both may never have been measured
        apart_s = np.abs(evidence.snapshot.modules.cell_age_s - age_s)
    return np.asarray(apart_s < 0.5 * evidence.plant.timing.poll_s)
