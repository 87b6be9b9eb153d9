"""Cell temperatures."""

from __future__ import annotations

import numpy as np

from bmsd.core.protection.evidence import Evidence, Reading, detector, is_reading, per_sensor
from bmsd.model.snapshot import Reading as Kind


@detector
def temperature(evidence: Evidence) -> Reading:
    """Temperature of each sensor, degC."""
    value = evidence.snapshot.modules.temperature_degc.reshape(-1)
    return Reading(value, new=per_sensor(evidence.new_temperatures, evidence.plant))


@detector
def temperature_charging(evidence: Evidence) -> Reading:
    """Temperature of each sensor, degC, counted only while its string is charged with more than 0.02C.

    An unknown current counts as a charge.
    """
    charging = ~(evidence.snapshot.units.current_a <= evidence.plant.current_floor_a)
    reading = temperature(evidence)
    return Reading(reading.value, gate=per_sensor(charging, evidence.plant), new=reading.new)


@detector
def sensor_open(evidence: Evidence) -> Reading:
    """1 where the sensor's wire is open, 0 where it is measured; else NaN."""
    return _sensor_is(evidence, Kind.OPEN)


@detector
def sensor_short(evidence: Evidence) -> Reading:
    """1 where the sensor is shorted, 0 where it is measured; else NaN."""
    return _sensor_is(evidence, Kind.SHORT)


def _sensor_is(evidence: Evidence, kind: Kind) -> Reading:
    value = is_reading(evidence.snapshot.modules.temperature_reading, kind)
    return Reading(value.reshape(-1), new=per_sensor(evidence.new_temperatures, evidence.plant))


@detector
def temperature_coverage(evidence: Evidence) -> Reading:
    """Share of each module's sensors that give a temperature; NaN while the board sends no cells either."""
    modules = evidence.snapshot.modules
    share = np.isfinite(modules.temperature_degc).mean(axis=2)
    answers = modules.cell_age_s <= evidence.plant.timing.hold_s
    return Reading(np.where(answers, share, np.nan).reshape(-1))
