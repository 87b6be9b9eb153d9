"""Which cells bleed: by the ledger of charge, and while that does not know them by voltage near the top.

On LFP voltage tells charge only near the ends: 10 mV at half charge are 18 %. So a string whose cells the ledger knows
is balanced by charge, at any SoC; another one only near the top and while it is charged, where voltage is right.
"""

from __future__ import annotations

import numpy as np

from bmsd.model.balancing import Balancing
from bmsd.model.plant import Plant
from bmsd.model.snapshot import Bools, Floats, Ints, Snapshot


def balance(
    plant: Plant, snapshot: Snapshot, allowed: Bools, ledger: Balancing, cell_soc: Floats, boards: Ints | None = None
) -> Bools:
    """Return the cells to bleed, (strings, modules, cells). `allowed` (strings,) are the healthy, closed strings.

    `cell_soc`: how empty each cell may well be, NaN: unknown. `boards` (strings, modules): unique numbers of those that
    belong there, None: not known. An unknown cell or current anywhere in the string: nothing bleeds, and nothing on a
    board that has tripped, or is not the one that the ledger knows.
    """
    modules = snapshot.modules
    if not plant.balance.enabled:
        return np.zeros(modules.cell_v.shape, dtype=bool)
    measured = np.isfinite(modules.cell_v).all(axis=(1, 2)) & np.isfinite(snapshot.units.current_a)
    usable = (allowed & measured)[:, None] & ~modules.trip_active
    if boards is not None:
        usable &= (modules.uid <= 0) | (boards == modules.uid)
    found = np.where(
        ledger.known[:, None, None],
        _by_charge(plant, snapshot, ledger, cell_soc),
        _by_voltage(plant, snapshot),
    )
    return np.asarray(usable[:, :, None] & found, dtype=bool)


def _by_charge(plant: Plant, snapshot: Snapshot, ledger: Balancing, cell_soc: Floats) -> Bools:
    """What the ledger wants, as the string's current and the cell's charge allow."""
    settings, amps = plant.balance, snapshot.units.current_a
    with np.errstate(invalid="ignore"):
        discharging = amps < -settings.min_charge_a
        idle = ~discharging & ~(amps > settings.min_charge_a)
        allowed = ~(discharging & (not settings.discharging)) & ~(idle & (not settings.idle))
        full = (cell_soc >= settings.least_soc) & (snapshot.modules.cell_v >= settings.least_v)
    return np.asarray(ledger.wanted & full & allowed[:, None, None])


def _by_voltage(plant: Plant, snapshot: Snapshot) -> Bools:
    """Cells above the start voltage and more than the band above the lowest of their string, while it is charged."""
    settings, cell_v = plant.balance, snapshot.modules.cell_v
    with np.errstate(invalid="ignore"):
        charging = snapshot.units.current_a > settings.min_charge_a
        lowest_v = cell_v.min(axis=(1, 2), keepdims=True)
        high = (cell_v > settings.start_v) & (cell_v > lowest_v + settings.band_v)
    return np.asarray(high & charging[:, None, None])
