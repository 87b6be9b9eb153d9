"""Voltages that boards and contactor units measure at dividers of their own, against the cells they are made of."""

from __future__ import annotations

import numpy as np

from bmsd.core.plausibility import beyond_cells_v
from bmsd.core.protection.evidence import Evidence, Reading, detector
from bmsd.model.snapshot import Bools, Floats


@detector
def module_voltage(evidence: Evidence) -> Reading:
    """How far the voltage of each module contradicts its cells beyond the tolerance, V."""
    modules, current_a = evidence.snapshot.modules, evidence.snapshot.units.current_a
    off_v = beyond_cells_v(evidence.plant, modules.module_v, modules.cell_v, current_a[:, None])
    value = np.where(_one_poll(evidence, modules.state_age_s), off_v, np.nan)
    return Reading(value.reshape(-1), new=evidence.new_cells.reshape(-1))


@detector
def string_voltage(evidence: Evidence) -> Reading:
    """How far string voltage, or bus voltage of a string in circuit, contradicts the cells beyond the tolerance, V."""
    units, strings = evidence.snapshot.units, len(evidence.in_circuit)
    cell_v = evidence.snapshot.modules.cell_v.reshape(strings, -1)
    string_off_v, bus_off_v = (
        beyond_cells_v(evidence.plant, measured_v, cell_v, units.current_a)
        for measured_v in (units.string_v, units.bus_v)
    )
    off_v = _worse(string_off_v, np.where(evidence.in_circuit, bus_off_v, string_off_v))
    one_poll = _one_poll(evidence, units.voltage_age_s[:, None]).all(axis=1)
    return Reading(np.where(one_poll, off_v, np.nan), new=np.logical_and.reduce(evidence.new_cells, axis=1))


def _worse(one: Floats, other: Floats) -> Floats:
    """The larger of both; when one is unknown the other can still be too much, but not good."""
    worse = np.fmax(one, other)
    return np.where(worse > 0.0, worse, one + other - worse)


def _one_poll(evidence: Evidence, age_s: Floats) -> Bools:
    """Whether these were latched with the cells of each module: a step of the current between two is no fault."""
    with np.errstate(invalid="ignore"):  # both may never have been measured
        apart_s = np.abs(evidence.snapshot.modules.cell_age_s - age_s)
    return np.asarray(apart_s < 0.5 * evidence.plant.timing.poll_s)
