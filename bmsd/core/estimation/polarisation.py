"""What the current alone does to the cells of a string: RC pairs and hysteresis, and what is not known of them.

All cells of a string carry the same current, so one state per string serves all its cells. A pair follows its filtered
current x: x <- a x + (1 - a) i, a = exp(-dt / tau). Hysteresis h goes to the sign of the current with the charge moved
and stays at rest: h <- e h + (1 - e) sgn(i), e = exp(-gamma |i| dt / Q) (G. Plett's enhanced self-correcting model).
The rest voltage is that of the particles' surface, which runs ahead of their mean with the current of the last minutes
(the first mode of diffusion): nothing on the plateau, and most of what a load does to the voltage near empty.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bmsd.model.cell import CellModel
from bmsd.model.snapshot import Floats

REST_C = 1.0 / 200.0
"""Below this current a cell rests."""
UNKNOWN_H = 0.7
"""Standard deviation of a hysteresis nobody knows: it lies between -1 and 1."""
UNKNOWN_V = 0.010
"""What a load before the first reading may have left in a cell, V."""


@dataclass(frozen=True, slots=True)
class Polarisation:
    """By string: filtered currents in A of the pairs (strings, pairs) and of the diffusion, hysteresis -1..1, its
    sigma, V the past may have left."""

    rc_a: Floats
    diffusing_a: Floats
    h: Floats
    h_sigma: Floats
    doubt_v: Floats


def start(model: CellModel, strings: int) -> Polarisation:
    """Cells that were never seen."""
    pairs = len(model.rc_tau_s)
    return Polarisation(
        np.zeros((strings, pairs)), np.zeros(strings), np.zeros(strings), np.full(strings, UNKNOWN_H),
        np.full(strings, UNKNOWN_V),
    )  # fmt: skip


def step(model: CellModel, was: Polarisation, current_a: Floats, dt_s: float) -> Polarisation:
    """Return the state after `dt_s` with this current (strings,), A; NaN: what it does is not known."""
    unknown = np.isnan(current_a)
    amps = np.where(unknown, 0.0, current_a)
    keep = np.exp(-dt_s / model.rc_tau_s)
    rate = np.abs(amps) / model.capacity_ah
    stay = np.exp((-model.gamma * dt_s / 3600.0) * np.where(rate > REST_C, rate, 0.0))
    ahead = np.exp(-dt_s / model.diffusion_tau_s)
    fade = np.exp(-dt_s / model.error_tau_s)
    return Polarisation(
        rc_a=keep * was.rc_a + (1.0 - keep) * amps[:, None],
        diffusing_a=ahead * was.diffusing_a + (1.0 - ahead) * amps,
        h=stay * was.h + (1.0 - stay) * np.sign(amps),
        h_sigma=np.where(unknown, np.maximum(was.h_sigma, UNKNOWN_H), stay * was.h_sigma),
        doubt_v=np.where(unknown, UNKNOWN_V, fade * was.doubt_v),
    )
