"""What is known of the charge: string and rack follow the weakest cell, what the first empty one leaves and what the
first full one takes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bmsd.core.estimation.soc import SocMemory
from bmsd.model.plant import Plant
from bmsd.model.snapshot import Bools, Floats

BIAS_FLOOR_C = 0.0005
"""An offset is never told better than this: a table that is wrong at a knee, and the charge lost in charging."""


@dataclass(frozen=True, slots=True)
class ChargeState:
    """What is known of the charge; the fields are those of model.estimate.Estimate."""

    cell_soc: Floats
    cell_soc_sigma: Floats
    cell_capacity_ah: Floats
    string_soc: Floats
    string_soc_sigma: Floats
    soc: float | None
    soc_sigma: float | None
    current_bias_a: Floats
    current_bias_sigma_a: Floats
    string_left_ah: Floats
    string_room_ah: Floats


def charge_state(plant: Plant, memory: SocMemory, in_circuit: Bools, capacity_share: Floats | float) -> ChargeState:
    """What this memory says; `capacity_share`: capacity of each cell over the nominal one.

    The rack's SoC is that of the strings (strings,) that are in circuit, without one that of all.
    """
    strings, nominal_ah = plant.layout.strings, plant.cell.capacity_ah
    soc, sigma = memory.soc, memory.sigma
    capacity_ah = np.full(soc.shape, nominal_ah * capacity_share)
    left = (soc * capacity_ah).reshape(strings, -1).min(axis=1)
    room = ((1.0 - soc) * capacity_ah).reshape(strings, -1).min(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        string_soc = np.where(left + room > 0.0, left / (left + room), np.nan)
    string_sigma = sigma.reshape(strings, -1).max(axis=1)
    counts = in_circuit if in_circuit.any() else np.ones(strings, dtype=bool)
    known = bool(np.isfinite(string_soc[counts]).all())
    belief = memory.belief
    return ChargeState(
        cell_soc=soc,
        cell_soc_sigma=sigma,
        cell_capacity_ah=capacity_ah,
        string_soc=string_soc,
        string_soc_sigma=string_sigma,
        soc=float(string_soc[counts].mean()) if known else None,
        soc_sigma=float(string_sigma[counts].max()) if known else None,
        current_bias_a=np.where(memory.begun, belief.bias_c * nominal_ah, np.nan),
        current_bias_sigma_a=np.where(memory.begun, np.hypot(belief.bias_sigma_c, BIAS_FLOOR_C) * nominal_ah, np.nan),
        string_left_ah=left,
        string_room_ah=room,
    )
