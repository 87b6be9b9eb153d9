"""Balancing by the ledger: at any state of charge, and stopped by everything that must stop it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bmsd.core.balancing import balance
from bmsd.core.estimation import ledger
from bmsd.model.balancing import Balancing
from bmsd.model.plant import Plant
from bmsd.model.snapshot import INPUTS, Input
from tests import rack

PLANT = rack.plant(strings=2)
SHAPE = PLANT.layout.cell_shape
BOTH = np.array([True, True])
HALF = np.full(SHAPE, 0.5)


def wanting(*cells: int, known: bool = True) -> Balancing:
    """The ledger wants these cells of the first string bled."""
    wanted = np.zeros(SHAPE, dtype=bool)
    wanted[0, 0, list(cells)] = True
    return replace(ledger.start(PLANT).balancing, wanted=wanted, known=np.array([known, known]))


def bleeds(
    *, plant: Plant = PLANT, known: Balancing | None = None, soc: Any = HALF, allowed: Any = BOTH, boards: Any = None,
    **values: Any,
) -> set[int]:  # fmt: skip
    """Cells of the first string that bleed; the ledger wants the fourth."""
    snap = rack.snapshot(plant, 100.0, **{"cell_v": 3.30, **values})
    told = balance(plant, snap, allowed, wanting(3) if known is None else known, soc, boards)
    assert not told[1].any()
    return set(np.flatnonzero(told[0, 0]).tolist())


@pytest.mark.parametrize("current_a", [-50.0, -1.0, 0.0, 1.0, 50.0])
def test_at_any_state_of_charge_and_whatever_flows(current_a):
    assert bleeds(current_a=current_a) == {3}


@pytest.mark.parametrize(
    ("setting", "currents"), [("idle", {-50.0, 50.0}), ("discharging", {0.0, 50.0})], ids=("idle", "discharging")
)
def test_settings_keep_it_to_some_of_the_time(setting, currents):
    plant = replace(PLANT, balance=replace(PLANT.balance, **{setting: False}))
    assert {amps for amps in (-50.0, 0.0, 50.0) if bleeds(plant=plant, current_a=amps)} == currents


def test_with_a_ledger_the_voltage_says_nothing():
    cell_v = np.full(SHAPE, 3.41)
    cell_v[0, 0, 7] = 3.45
    assert bleeds(cell_v=cell_v, current_a=10.0) == {3}
    assert bleeds(cell_v=cell_v, current_a=10.0, known=wanting(known=False)) == {7}
    assert bleeds(cell_v=cell_v, current_a=10.0, known=wanting(3, known=False)) == {7}


def test_each_string_goes_by_what_is_known_of_it():
    cell_v = np.full(SHAPE, 3.41)
    cell_v[1, 0, 7] = 3.45
    half = replace(wanting(3), known=np.array([True, False]))
    told = balance(PLANT, rack.snapshot(PLANT, 100.0, cell_v=cell_v, current_a=10.0), BOTH, half, HALF)
    assert np.argwhere(told).tolist() == [[0, 0, 3], [1, 0, 7]]


@pytest.mark.parametrize(("soc", "expected"), [(0.21, {3}), (0.19, set()), (np.nan, set())])
def test_a_cell_that_may_be_nearly_empty_is_not_bled(soc, expected):
    assert bleeds(soc=np.full(SHAPE, soc)) == expected


@pytest.mark.parametrize(("volts", "expected"), [(3.21, {3}), (3.19, set())])
def test_neither_is_one_whose_voltage_is_low(volts, expected):
    cell_v = np.full(SHAPE, 3.30)
    cell_v[0, 0, 3] = volts
    assert bleeds(cell_v=cell_v) == expected


def test_what_stops_bleeding_by_voltage_stops_it_too():
    unknown = np.full(SHAPE, 3.30)
    unknown[0, 0, 9] = np.nan
    assert bleeds(cell_v=unknown) == set()
    assert bleeds(current_a=np.nan) == set()
    assert bleeds(allowed=np.array([False, True])) == set()
    assert bleeds(trip_active=np.array([[True], [False]])) == set()
    assert bleeds(plant=replace(PLANT, balance=replace(PLANT.balance, enabled=False))) == set()


def test_the_cells_of_a_board_that_is_not_the_one_known_are_left_alone():
    assert bleeds(boards=np.array([[1001], [1002]])) == {3}
    assert bleeds(boards=np.array([[4711], [1002]])) == set()
    assert bleeds(boards=np.array([[1001], [1002]]), uid=np.array([[-1], [1002]])) == {3}, "it has not said yet"


def drive_wanting(**values: Any) -> rack.Drive:
    """A closed rack at rest whose ledger wants the fourth cell bled."""
    drive = rack.running(rack.plant(), **values)
    drive.memory = replace(drive.memory, estimation=rack.knowing(drive.plant, 0.5, 0.01))
    at = ledger.start(drive.plant)
    excess = np.zeros(drive.plant.layout.cell_shape)
    excess[0, 0, 3] = 14.0
    at = ledger.step(
        drive.plant, replace(at, excess_ah=excess, variance=np.full_like(excess, 0.25)), excess + 3.3, None
    )
    drive.memory = replace(drive.memory, estimation=replace(drive.memory.estimation, ledger=at))
    return drive


def test_the_tick_bleeds_by_the_ledger_at_rest_and_its_command_is_worked_off():
    drive = drive_wanting()
    bleeding = np.zeros(drive.plant.layout.cell_shape, dtype=bool)
    for _ in range(60):
        outcome = drive.tick(60.0, **rack.closed(drive.plant), balancing=bleeding)
        bleeding = outcome.command.balance
        assert np.argwhere(bleeding).tolist() == [[0, 0, 3]]
    known = outcome.estimate.balancing
    assert known.moved_ah[0, 0, 3] == pytest.approx(0.1, rel=0.03)
    assert known.todo_ah[0, 0, 3] == pytest.approx(13.9, abs=0.01)


PRESSED = np.full((1, len(INPUTS)), int(Input.ACTIVE))


@pytest.mark.parametrize(
    "values",
    [{"temperature_degc": 61.0}, {"cell_v": np.nan, "cell_reading": rack.MISSING}, {"inputs": PRESSED}],
    ids=("hot", "silent", "pressed"),
)
def test_a_string_that_is_to_open_is_not_bled(values):
    drive = drive_wanting()
    outcome = drive.run(8.0, **{**rack.closed(drive.plant), **values})[-1]
    assert not outcome.command.balance.any()
