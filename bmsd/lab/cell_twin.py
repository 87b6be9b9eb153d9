"""A cell specification as the twin's cell and as the data sheet of a scenario's rack, both at 25 degC."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from bmsd.config.cell_file import WRITTEN_SOC, Specification, Surface
from bmsd.core.estimation.electrical import tables
from bmsd.model.cell import GRID, SOC_GRID, CellModel
from bmsd.model.snapshot import Floats

REFERENCE_DEGC = 25.0
"""The twin has its tables here; entropy and Arrhenius' law carry them to other temperatures."""
HALF = GRID // 2


def parameters(specification: Specification, capacity_ah: float) -> dict[str, Any]:
    """Return what `CellParameters` takes of a cell of this capacity; resistances fall with size."""
    model, at = specification.model, tables(specification.model, np.array([REFERENCE_DEGC]))
    size = capacity_ah / model.capacity_ah
    grid = tuple(SOC_GRID.tolist())
    surface = specification.surface
    if surface is None:
        surface = Surface(
            r0_ohm=at.r0_ohm[0].tolist(), rc_ohm=at.rc_ohm[0].tolist(), rc_tau_s=model.rc_tau_s.tolist(),
            soc_per_c=at.ahead_per_c.tolist(), tau_s=[model.diffusion_tau_s],
        )  # fmt: skip
    r0_ohm = np.array(surface.r0_ohm)
    return {
        "r0_ohm": float(r0_ohm[HALF]) / size,
        "r0_soc": grid,
        "r0_factor": _list(r0_ohm / r0_ohm[HALF]),
        "rc_ohm": _list(np.array(surface.rc_ohm) / size),
        "rc_tau_s": tuple(surface.rc_tau_s),
        "diffusion_soc_per_c": tuple(surface.soc_per_c),
        "diffusion_tau_s": tuple(surface.tau_s),
        "activation_k": model.activation_k,
        "hysteresis_gamma": model.gamma,
        "ocv_soc": grid,
        "ocv_v": _list(at.mid_v[0]),
        "gap_soc": grid,
        "gap_v": _list(2.0 * at.half_v[0]),
        "entropy_soc": grid,
        "entropy_v_per_k": _list(model.entropy_v_per_k),
    }


def as_known(specification: Specification, capacity_ah: float) -> CellModel:
    """Return what a core takes such a cell of the twin for: resistances fall with size as the twin's do."""
    model = specification.model
    size = capacity_ah / model.capacity_ah
    return replace(model, capacity_ah=capacity_ah, r0_ohm=model.r0_ohm / size, rc_ohm=model.rc_ohm / size)


def sheet(specification: Specification, capacity_ah: float) -> dict[str, Any]:
    """Return what a configuration's `[cell]` takes of it."""
    model, envelope = specification.model, specification.envelope
    at = tables(model, np.array([REFERENCE_DEGC]))
    size = capacity_ah / model.capacity_ah
    given_a = {name: amps for name in ("charge_max_a", "discharge_max_a") if (amps := getattr(envelope, name)) > 0.0}
    return {
        "chemistry": model.chemistry,
        "max_v": envelope.max_v,
        "min_v": envelope.min_v,
        "charge_min_degc": envelope.charge_min_degc,
        "charge_max_degc": envelope.charge_max_degc,
        "discharge_min_degc": envelope.discharge_min_degc,
        "discharge_max_degc": envelope.discharge_max_degc,
        "resistance_ohm": min(float(at.r0_ohm[0, HALF] + at.rc_ohm[0, 0]) / size, 0.1),
        "ocv_soc": list(_list(WRITTEN_SOC)),
        "ocv_v": list(_list(at.mid_v[0, ::2])),
        "ocv_half_gap_v": float(at.half_v[0].mean()),
        **given_a,
    }


def _list(values: Floats) -> tuple[float, ...]:
    return tuple(values.tolist())
