"""What contactor units say of their inputs, and which trips they have latched by themselves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bmsd.core.protection.evidence import Evidence, Reading, detector
from bmsd.model.snapshot import INPUTS, TRIP_CODES, Input


def _found(evidence: Evidence, inputs: Sequence[str], trip: str) -> Reading:
    """1 where one of these inputs is active or the unit has this trip latched, 0 where neither is so.

    An input that is not fitted finds nothing; one that the unit cannot tell is unknown.
    """
    units = evidence.snapshot.units
    seen = units.inputs[:, [INPUTS.index(name) for name in inputs]]
    active = (seen == Input.ACTIVE).any(axis=1) | (units.trip_code == TRIP_CODES.index(trip))
    unknown = ((seen != Input.OK) & (seen != Input.NOT_FITTED)).any(axis=1) | (units.trip_code < 0)
    return Reading(np.where(active, 1.0, np.where(unknown, np.nan, 0.0)), new=evidence.new_states)


@detector
def fuse_blown(evidence: Evidence) -> Reading:
    """1 where the string's fuse has blown."""
    return _found(evidence, ["fuse"], "fuse")


@detector
def interlock_open(evidence: Evidence) -> Reading:
    """1 where the interlock loop or a door is open."""
    return _found(evidence, ["interlock", "door"], "interlock")


@detector
def emergency_stop(evidence: Evidence) -> Reading:
    """1 where the emergency stop is pressed or has not been released yet."""
    return _found(evidence, ["emergency_stop"], "emergency stop")


@detector
def insulation_low(evidence: Evidence) -> Reading:
    """1 where the insulation monitor reports a fault."""
    return _found(evidence, ["insulation"], "insulation")


@detector
def smoke(evidence: Evidence) -> Reading:
    """1 where smoke is reported."""
    return _found(evidence, ["smoke"], "smoke")


_NAMED = [TRIP_CODES.index(name) for name in ("none", "interlock", "emergency stop", "smoke", "insulation", "fuse")]


@detector
def unit_tripped(evidence: Evidence) -> Reading:
    """Code of a unit's latched trip that no other row stands for, 0 without one."""
    code = evidence.snapshot.units.trip_code
    return Reading(np.where(code < 0, np.nan, np.where(np.isin(code, _NAMED), 0.0, code)), new=evidence.new_states)
