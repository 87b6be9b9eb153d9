"""Cells: voltage, and whether it is known at all."""

from __future__ import annotations

import numpy as np

from bmsd.core.protection.evidence import Evidence, Reading, detector, is_reading, per_cell
from bmsd.model.snapshot import Floats
from bmsd.model.snapshot import Reading as Kind

LOW_HOLD_S = 600.0
"""CEL-007: a cell may stay below the trip voltage without discharge for 10 minutes."""


@detector
def cell_voltage(evidence: Evidence) -> Reading:
    """Voltage of each cell, V."""
    return Reading(evidence.snapshot.modules.cell_v.reshape(-1), new=per_cell(evidence.new_cells, evidence.plant))


@detector
def cell_under_voltage_trip(evidence: Evidence) -> Reading:
    """Voltage of each cell, V; without a discharge above 0.02C the delay is 10 minutes."""
    current_a = evidence.snapshot.units.current_a
    discharging = ~(current_a >= -evidence.plant.current_floor_a)  # an unknown current counts as a discharge
    delay_s = per_cell(np.where(discharging, 0.5, LOW_HOLD_S), evidence.plant)
    reading = cell_voltage(evidence)
    return Reading(reading.value, new=reading.new, delay_s=delay_s)


@detector
def cell_invalid(evidence: Evidence) -> Reading:
    """1 where the board answers but the cell's reading is not a voltage, 0 where it is.

    NaN without an answer, and at an open wire, which is a fault of its own.
    """
    kind = evidence.snapshot.modules.cell_reading
    unknown = (kind == Kind.MISSING) | (kind == Kind.OPEN)
    value = np.where(unknown, np.nan, (kind != Kind.OK).astype(np.float64))
    return Reading(value.reshape(-1), new=per_cell(evidence.new_cells, evidence.plant))


@detector
def sense_wire_open(evidence: Evidence) -> Reading:
    """1 where the board found the cell's sense wire open, 0 where the cell is measured; else NaN."""
    value = is_reading(evidence.snapshot.modules.cell_reading, Kind.OPEN)
    return Reading(value.reshape(-1), new=per_cell(evidence.new_cells, evidence.plant))


@detector
def self_discharge(evidence: Evidence) -> Reading:
    """What each cell drains itself by, mA; counts where it is that much by two standard deviations."""
    leaks = evidence.leaks
    return _leak(evidence, "self_discharge_ma", *(() if leaks is None else (leaks.ma, leaks.sigma_ma)))


@detector
def soft_short(evidence: Evidence) -> Reading:
    """The same over the last week, beyond what may wait."""
    leaks = evidence.leaks
    return _leak(evidence, "soft_short_ma", *(() if leaks is None else (leaks.week_ma, leaks.week_sigma_ma)))


def _leak(evidence: Evidence, setting: str, *known: Floats) -> Reading:
    if not known:
        return Reading(np.full(evidence.plant.layout.cell_shape, np.nan).reshape(-1))
    leak_ma, sigma_ma = (values.reshape(-1) for values in known)
    with np.errstate(invalid="ignore"):
        certain = leak_ma - 2.0 * sigma_ma > evidence.plant.thresholds[setting]
    return Reading(leak_ma, gate=certain)
