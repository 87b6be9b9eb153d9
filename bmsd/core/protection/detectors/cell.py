"""Cells: voltage, and whether it is known at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bmsd.core.protection.evidence import Evidence, Reading, detector, is_reading, per_cell, remembering
from bmsd.model.snapshot import Bools, Floats, Ints
from bmsd.model.snapshot import Reading as Kind

LOW_HOLD_S = 600.0
"""CEL-007: a cell may stay below the trip voltage without discharge for 10 minutes."""

JUMP_V, STEP_C = 0.050, 0.1
JUMP_SAMPLES = 5
"""CEL-011: two jumps within so many samples."""
LONGEST_SAMPLE_S = 5.0
"""Over a longer time a cell may well move that far."""


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
    return _leak(evidence, "self_discharge_ma", evidence.leaks.ma, evidence.leaks.sigma_ma)


@detector
def soft_short(evidence: Evidence) -> Reading:
    """The same over the last week, beyond what may wait."""
    return _leak(evidence, "soft_short_ma", evidence.leaks.week_ma, evidence.leaks.week_sigma_ma)


def _leak(evidence: Evidence, setting: str, leak_ma: Floats, sigma_ma: Floats) -> Reading:
    with np.errstate(invalid="ignore"):
        certain = leak_ma - 2.0 * sigma_ma > evidence.plant.thresholds[setting]
    # what is not known (any more: another module, a restart) is no leak, so that a latch of before can be acknowledged
    return Reading(np.nan_to_num(leak_ma).reshape(-1), gate=certain.reshape(-1))


@dataclass(frozen=True, slots=True)
class Jumps:
    """Cell voltages and string currents (of three samples, oldest first) as of the last sample; samples since the last
    jump of each cell, and since its last jump that came soon after another."""

    cell_v: Floats
    current_a: Floats
    ago: Ints
    twice: Ints


@remembering
def cell_jump(evidence: Evidence, was: Jumps | None) -> tuple[Reading, Any]:
    """1 where a cell jumped twice within JUMP_SAMPLES samples without a step of the current, else 0; NaN: unknown."""
    cell_v, amps = evidence.snapshot.modules.cell_v, evidence.snapshot.units.current_a
    if was is None:
        never = np.full(cell_v.shape, JUMP_SAMPLES)
        was = Jumps(cell_v, np.tile(amps, (3, 1)), never, never)
    elif evidence.new_cells.any():
        was = _sampled(evidence, was, cell_v, amps)
    value = np.where(np.isfinite(cell_v), was.twice < JUMP_SAMPLES, np.nan)
    return Reading(value.reshape(-1), new=per_cell(evidence.new_cells, evidence.plant)), was


def _sampled(evidence: Evidence, was: Jumps, cell_v: Floats, amps: Floats) -> Jumps:
    current_a = np.concatenate([was.current_a[1:], amps[None]])
    # a voltage may be older than the current beside it: a step of the sample before counts as well
    steady: Bools = np.ptp(current_a, axis=0) <= STEP_C * evidence.plant.cell.capacity_ah
    steady &= evidence.dt_s <= LONGEST_SAMPLE_S
    new = evidence.new_cells[:, :, None]
    jump = new & steady[:, None, None] & (np.abs(cell_v - was.cell_v) > JUMP_V)
    passed = new if evidence.dt_s <= LONGEST_SAMPLE_S else JUMP_SAMPLES * new
    twice = np.where(jump & (was.ago < JUMP_SAMPLES - 1), 0, was.twice + passed)
    return Jumps(np.where(new, cell_v, was.cell_v), current_a, np.where(jump, 0, was.ago + passed), twice)
