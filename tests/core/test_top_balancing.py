"""Balancing without a ledger: only near the top, while charging, and when everything of the string is known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bmsd.core.balancing import balance
from bmsd.core.estimation import ledger
from tests import rack

PLANT = rack.plant(strings=2)
BOTH = np.array([True, True])
NOTHING = ledger.start(PLANT).balancing
UNSURE = np.full(PLANT.layout.cell_shape, np.nan)


def bleeds(cells: dict[int, float], *, base_v: float = 3.41, current_a: Any = 10.0, allowed: Any = BOTH, **values: Any):
    """Cells of the first string that bleed."""
    cell_v = np.full(PLANT.layout.cell_shape, base_v)
    for index, volts in cells.items():
        cell_v[0, 0, index] = volts
    snap = rack.snapshot(PLANT, 100.0, cell_v=cell_v, current_a=current_a, **values)
    told = balance(PLANT, snap, allowed, NOTHING, UNSURE)
    assert not told[1].any()
    return set(np.flatnonzero(told[0, 0]).tolist())


def test_cells_above_the_start_and_the_band_bleed():
    assert bleeds({3: 3.43, 4: 3.4201, 5: 3.419}) == {3, 4}


def test_below_the_start_voltage_nothing_bleeds_however_large_the_spread():
    assert bleeds({3: 3.399, 4: 3.401}, base_v=3.30) == {4}


@pytest.mark.parametrize(
    ("current_a", "expected"), [(1.0, set()), (1.01, {3}), (0.0, set()), (-50.0, set()), (np.nan, set())]
)
def test_only_while_the_string_is_charged(current_a, expected):
    assert bleeds({3: 3.45}, current_a=current_a) == expected


def test_an_unknown_cell_anywhere_in_the_string_stops_it():
    assert bleeds({3: 3.45, 9: np.nan}) == set()


def test_a_string_that_is_not_allowed_and_a_tripped_board_do_not_bleed():
    assert bleeds({3: 3.45}, allowed=np.array([False, True])) == set()
    assert bleeds({3: 3.45}, trip_active=np.array([[True], [False]])) == set()


def test_switched_off_is_off():
    plant = replace(PLANT, balance=replace(PLANT.balance, enabled=False))
    snap = rack.snapshot(plant, 100.0, cell_v=3.45 + np.arange(32).reshape(2, 1, 16) * 1e-3, current_a=10.0)
    assert balance(PLANT, snap, BOTH, NOTHING, UNSURE).any()
    assert not balance(plant, snap, BOTH, NOTHING, UNSURE).any()


def test_in_the_tick_only_closed_healthy_strings_bleed():
    plant = rack.plant()
    drive = rack.running(plant)
    cells = np.full(plant.layout.cell_shape, 3.41)
    cells[0, 0, 3] = 3.44
    values = {**rack.closed(plant), "cell_v": cells, "current_a": 10.0}
    assert drive.tick(**values).command.balance.sum() == 1
    hot = drive.run(8.0, **values, temperature_degc=61.0)[-1]
    assert not hot.command.balance.any()
