"""Currents: against what was allowed, against the hard limits, and whether they are known."""

from __future__ import annotations

import numpy as np

from bmsd.core.protection.evidence import Evidence, Reading, detector, worse
from bmsd.model.snapshot import CURRENT_SENSOR_TEST, Floats


def _excess(evidence: Evidence, share_name: str, *, charge: bool) -> float:
    """Rack current beyond what was allowed within the inverter's lag, plus max(share of it, 0.02C), A."""
    sent_a = evidence.sent_charge_a if charge else evidence.sent_discharge_a
    current_a = evidence.rack_current_a if charge else -evidence.rack_current_a
    margin_a = max(evidence.plant.thresholds[share_name] * sent_a, evidence.plant.current_floor_a)
    return current_a - sent_a - margin_a


def _over_cell_limit(evidence: Evidence, *, charge: bool) -> float:
    """Largest known string current beyond the cells' data sheet plus 0.02C, A; NaN when none is known."""
    cell = evidence.plant.cell
    limit_a = cell.charge_max_a if charge else cell.discharge_max_a
    current_a = evidence.snapshot.units.current_a if charge else -evidence.snapshot.units.current_a
    return float(np.fmax.reduce(current_a) - limit_a - evidence.plant.current_floor_a)


def _rack(value: float | Floats, evidence: Evidence) -> Reading:
    return Reading(np.array([value]), new=np.array([bool(evidence.new_currents.any())]))


@detector
def charge_over_warning(evidence: Evidence) -> Reading:
    """Charge current beyond the limits sent, A."""
    return _rack(_excess(evidence, "over_current_warning_share", charge=True), evidence)


@detector
def charge_over_alarm(evidence: Evidence) -> Reading:
    """Charge current beyond the limits sent or beyond the cells' limit, A."""
    excess = _excess(evidence, "over_current_alarm_share", charge=True)
    return _rack(worse(excess, _over_cell_limit(evidence, charge=True)), evidence)


@detector
def discharge_over_warning(evidence: Evidence) -> Reading:
    """Discharge current beyond the limits sent, A."""
    return _rack(_excess(evidence, "over_current_warning_share", charge=False), evidence)


@detector
def discharge_over_alarm(evidence: Evidence) -> Reading:
    """Discharge current beyond the limits sent or beyond the cells' limit, A."""
    excess = _excess(evidence, "over_current_alarm_share", charge=False)
    return _rack(worse(excess, _over_cell_limit(evidence, charge=False)), evidence)


@detector
def charge_share(evidence: Evidence) -> Reading:
    """Charge current of each string as a share of its hard limit."""
    value = evidence.snapshot.units.current_a / evidence.plant.string_charge_max_a
    return Reading(value, new=evidence.new_currents)


@detector
def discharge_share(evidence: Evidence) -> Reading:
    """Discharge current of each string as a share of its hard limit."""
    value = -evidence.snapshot.units.current_a / evidence.plant.string_discharge_max_a
    return Reading(value, new=evidence.new_currents)


@detector
def current_age(evidence: Evidence) -> Reading:
    """Age of the newest current of each string, valid or not, s."""
    age_s = evidence.snapshot.units.current_age_s
    return Reading(np.where(np.isnan(age_s), np.inf, age_s))


@detector
def current_sensor_error(evidence: Evidence) -> Reading:
    """1 where a unit answers with an invalid current or a failed self-test of its sensor, 0 where all is well.

    NaN while it does not answer, or has not said how its self-test went. Boards that obey nobody here never say that:
    their valid current is good.
    """
    units = evidence.snapshot.units
    answers = units.current_age_s <= evidence.plant.timing.hold_s
    failed = (units.self_test > 0) & (units.self_test & CURRENT_SENSOR_TEST != 0)
    wrong = failed | (answers & np.isnan(units.current_a))
    unknown = ~answers | ((units.self_test < 0) & evidence.plant.switches)
    return Reading(np.where(wrong, 1.0, np.where(unknown, np.nan, 0.0)), new=evidence.new_currents)
