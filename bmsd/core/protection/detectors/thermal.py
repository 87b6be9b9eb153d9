"""Cell temperatures."""

from __future__ import annotations

from bmsd.core.protection.evidence import Evidence, Reading, detector, per_sensor


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
    limit_a = evidence.threshold("over_current_floor_c") * evidence.one_c_a
    charging = ~(evidence.snapshot.units.current_a <= limit_a)
    reading = temperature(evidence)
    return Reading(reading.value, gate=per_sensor(charging, evidence.plant), new=reading.new)
