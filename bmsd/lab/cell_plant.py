"""A rack of a single cell, so that one measured series runs through the code of the tick."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bmsd.config.cell_file import Envelope, Specification
from bmsd.model.cell import SOC_GRID, CellModel, CellSpec
from bmsd.model.layout import Layout
from bmsd.model.plant import (
    BalanceSettings,
    ChargeSettings,
    Curve,
    EstimationSettings,
    InverterSettings,
    LimitSettings,
    Plant,
    StringRatings,
    Timing,
)

NO_LIMIT_A = 1e6
POLL_S = 0.2
SLOW_S = 1000.0
SAME_SIZE = 1.25
"""A capacity further from that of the specification than this factor is another size of cell, not age or an error."""


def sheet(specification: Specification, capacity_ah: float) -> CellSpec:
    """The data sheet that this specification is."""
    model, envelope = _sized(specification.model, capacity_ah), specification.envelope
    return CellSpec(
        chemistry=model.chemistry,
        capacity_ah=capacity_ah,
        max_v=envelope.max_v,
        min_v=envelope.min_v,
        charge_max_a=envelope.charge_max_a or NO_LIMIT_A,
        discharge_max_a=envelope.discharge_max_a or NO_LIMIT_A,
        charge_min_degc=envelope.charge_min_degc,
        charge_max_degc=envelope.charge_max_degc,
        discharge_min_degc=envelope.discharge_min_degc,
        discharge_max_degc=envelope.discharge_max_degc,
        resistance_ohm=float(model.r0_ohm.mean() + model.rc_ohm[:, 0].mean()),
        ocv_soc=SOC_GRID,
        ocv_v=model.mid_v[0],
        ocv_half_gap_v=float(model.half_v.mean()),
        fitted=model,
    )


def _sized(model: CellModel, capacity_ah: float) -> CellModel:
    """The model of a cell of this size: a larger electrode of the same make has less resistance.

    Pairs slower than SLOW_S stand for the slow part of the hysteresis, which has no size.
    """
    factor = model.capacity_ah / capacity_ah
    if 1.0 / SAME_SIZE <= factor <= SAME_SIZE:
        return model
    pairs = np.where(model.rc_tau_s < SLOW_S, factor, 1.0)
    return replace(model, capacity_ah=capacity_ah, r0_ohm=model.r0_ohm * factor, rc_ohm=model.rc_ohm * pairs)


def plant(specification: Specification, capacity_ah: float, estimation: EstimationSettings | None = None) -> Plant:
    """A rack of this one cell. Its limits are those of the envelope."""
    envelope: Envelope = specification.envelope
    open_ = Curve((envelope.min_v, envelope.max_v), (1.0, 1.0))
    warm = Curve((-60.0, 100.0), (1.0, 1.0))
    return Plant(
        name=specification.model.name,
        layout=Layout(1, 1, 1, 1),
        cell=sheet(specification, capacity_ah),
        ratings=StringRatings(NO_LIMIT_A, NO_LIMIT_A, NO_LIMIT_A, 50.0, 0.048),
        timing=Timing(0.1, POLL_S, 1),
        limits=LimitSettings(open_, open_, warm, warm, 2.0, 2.0, 0.015, 1.0, 0.0),
        charge=ChargeSettings(envelope.max_v, envelope.max_v, envelope.min_v, 0.001, 0.0, 0.01),
        balance=BalanceSettings(False, envelope.max_v, 0.01, 1.0, 5.0),
        # nothing of the predictor is asked here
        estimation=estimation or EstimationSettings(0.01, 0.997, 0.003, 0.001, predictor=False),
        inverter=InverterSettings("pylontech_lv", {}, 1.0, 10.0, False, 60.0),
        thresholds={},
    )
