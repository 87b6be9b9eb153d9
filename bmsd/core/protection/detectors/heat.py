"""Heat and sag that nothing explains, and temperatures against each other: one broken sensor warns, two signs trip.

The residuals are those of core/estimation/predictor.py. Where it is switched off, or does not know, nothing is
claimed: a sign that is not known is no vote, and a row that needs it holds what it is.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bmsd.core.estimation.known import lower_median
from bmsd.core.protection.evidence import Evidence, Reading, detector, remembering, worse
from bmsd.model.snapshot import INPUTS, Bools, Floats, Input

WARM_K = 1.5
"""Kelvins that nothing explains: more than one step of a sensor that reads whole degrees."""
APART_K, ALIKE_K = 8.0, 7.0
SAG_V, FALL_V = 0.020, 0.100
STRONG_K_PER_MIN, BURST_K_PER_S = 5.0, 1.0
STRONG_S = 20.0
"""A step that all sensors of a board show at once, a plug that makes contact again, looks like STRONG_K_PER_MIN for
less than a part of the window of rates."""
LOST_AFTER_S = 120.0
"""A module that falls silent within this time after it was too warm is a sign."""


@detector
def unexplained_heat(evidence: Evidence) -> Reading:
    """Of each sensor, K beyond what nothing explains, or beyond what a cell may be above its neighbours."""
    excess_k = worse(evidence.residuals.sensor_k - WARM_K, _above_others(evidence) - APART_K)
    alone = np.isnan(evidence.residuals.sensor_k) & np.isfinite(evidence.snapshot.modules.temperature_degc)
    # the predictor is off or new: the neighbours alone judge
    value = np.where(alone, _above_others(evidence) - APART_K, excess_k)
    return Reading(value.reshape(-1))


@detector
def unexplained_heating(evidence: Evidence) -> Reading:
    """Rate of each sensor that nothing explains, K/min; counted only with a second sign in its module."""
    second = _warm_beside(evidence) | _sags(evidence, SAG_V)[:, :, None]
    value = _or_off(evidence, evidence.residuals.heating_k_per_min)
    return Reading(value.reshape(-1), gate=second.reshape(-1))


@detector
def fast_heating(evidence: Evidence) -> Reading:
    """1 where a module heats very fast by two signs, else 0; NaN without any rate."""
    residuals = evidence.residuals
    burst = residuals.burst_k_per_s >= BURST_K_PER_S
    others = _warm_beside(evidence) | (_sags(evidence, SAG_V) | _gas(evidence))[:, :, None]
    at_once = (burst & others).any(axis=2)
    strong = _strong(evidence)
    known = np.isfinite(residuals.heating_k_per_min).any(axis=2) | np.isfinite(residuals.burst_k_per_s).any(axis=2)
    value = _or_off(evidence, np.where(known, (at_once | strong).astype(np.float64), np.nan))
    return Reading(value.reshape(-1), delay_s=np.where(at_once, 3.0, STRONG_S).reshape(-1))


@remembering
def runaway_signs(evidence: Evidence, was: Floats | None) -> tuple[Reading, Any]:
    """How many of four signs each module shows: fast heat, a fall of a cell, gas, silence after a warning."""
    residuals = evidence.residuals
    fast = (residuals.burst_k_per_s >= BURST_K_PER_S).any(axis=2) | _strong(evidence)
    since_s = np.full(fast.shape, np.inf) if was is None else was + evidence.dt_s
    since_s = np.where((residuals.sensor_k >= WARM_K).any(axis=2), 0.0, since_s)
    silent = ~(evidence.snapshot.modules.cell_age_s <= evidence.plant.timing.hold_s)
    signs = (fast, _sags(evidence, FALL_V), _gas(evidence), silent & (since_s <= LOST_AFTER_S))
    return Reading(np.sum(signs, axis=0, dtype=np.float64).reshape(-1)), since_s


@detector
def temperature_spread(evidence: Evidence) -> Reading:
    """Highest minus lowest known temperature of each string, K."""
    degc = evidence.snapshot.modules.temperature_degc
    flat = degc.reshape(degc.shape[0], -1)
    return Reading(np.fmax.reduce(flat, axis=1) - np.fmin.reduce(flat, axis=1))


@detector
def temperature_alone(evidence: Evidence) -> Reading:
    """By how much each sensor differs from the others of its module, K."""
    return Reading(np.abs(_above_others(evidence)).reshape(-1))


def _above_others(evidence: Evidence) -> Floats:
    """Temperature above the median of the other known sensors of the module (of the string where it has one each).

    Where all are alike, above the lowest of them. Without another one: unknown is nothing to compare with, 0.
    """
    degc = evidence.snapshot.modules.temperature_degc
    strings, _, sensors = degc.shape
    group = degc if sensors > 1 else degc.reshape(strings, 1, -1)
    low, high = np.fmin.reduce(group, axis=2), np.fmax.reduce(group, axis=2)
    if not (high - low > ALIKE_K).any():
        return np.asarray(group - low[:, :, None]).reshape(degc.shape)
    size = group.shape[2]
    others = np.where(np.eye(size, dtype=bool), np.nan, group[:, :, None, :])
    apart = group - lower_median(others)
    return np.where(np.isnan(apart), group - group, apart).reshape(degc.shape)


def _or_off(evidence: Evidence, value: Floats) -> Floats:
    """The value; 0 where nothing is predicted: a latch of before can be acknowledged."""
    return value if evidence.plant.estimation.predictor else np.zeros_like(value)


def _warm_beside(evidence: Evidence) -> Bools:
    """Of each sensor: whether another one of its module is warmer than anything explains."""
    warm = evidence.residuals.sensor_k >= WARM_K
    return np.asarray(warm.sum(axis=2, keepdims=True) - warm > 0)


def _strong(evidence: Evidence) -> Bools:
    """(strings, modules): whether two sensors heat very fast."""
    return np.asarray((evidence.residuals.heating_k_per_min > STRONG_K_PER_MIN).sum(axis=2) >= 2)


def _sags(evidence: Evidence, volts: float) -> Bools:
    """(strings, modules): whether a cell has fallen by so much unexplained."""
    return np.asarray((evidence.residuals.sag_v >= volts).any(axis=2))


def _gas(evidence: Evidence) -> Bools:
    """(strings, modules): whether gas or smoke is reported at the string."""
    active = evidence.snapshot.units.inputs[:, INPUTS.index("smoke")] == Input.ACTIVE
    return np.broadcast_to(active[:, None], evidence.plant.layout.module_shape)
