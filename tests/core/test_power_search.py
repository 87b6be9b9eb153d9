"""What the search for the power finds, against a bisection over the voltage at the end, anywhere a cell may be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bmsd.core.estimation import electrical, power
from bmsd.core.estimation.polarisation import Polarisation
from bmsd.core.estimation.power import HORIZONS_S, Ahead
from tests import rack

MODEL = rack.plant().cell.model
NO_A = np.zeros((1, len(HORIZONS_S), 1))


def cell(
    degc: float, soc: float, sigma: float, factor: float, amps: float, mean_a: float, cell_v: float, limit_v: float,
    direction: int, share: float = 1.0, sigmas: float = power.ONE_SIDED,
) -> Ahead:  # fmt: skip
    """A cell in a string that carries `amps`, after `mean_a` for some minutes."""
    tables = electrical.tables(MODEL, np.array([degc]))
    one = np.ones((1, 1, 1))
    known = power.Cells(
        cell_v * one, soc * one, sigma * one, factor * one, 0.05 * one, share * MODEL.capacity_ah * one,
        tables.ahead_per_c * mean_a / MODEL.capacity_ah,
    )  # fmt: skip
    polarised = Polarisation(
        np.array([[amps, 0.5 * (amps + mean_a), mean_a]]), np.array([mean_a]), np.zeros(1), np.zeros(1), np.zeros(1)
    )
    return power.ahead(MODEL, tables, polarised, np.array([amps]), known, limit_v, direction, sigmas)


def most(of: Ahead, limit_v: float, most_a: float) -> np.ndarray:
    """The largest currents (horizons,) up to which a cell ends within its limit: looked for step by step."""

    def within(amps: np.ndarray) -> np.ndarray:
        return of.direction * (power.end_v(of, amps) - limit_v) <= 0.0

    room = (1.0 - of.edge if of.direction > 0 else of.edge)[:, None, :]
    top, low, alive = np.minimum(room / of.per_a, most_a), NO_A, np.ones_like(NO_A, dtype=bool)
    for part in np.linspace(0.0, 1.0, 201) ** 2:
        alive &= within(part * top)
        low = np.where(alive, part * top, low)
    high = np.where(alive, top, low + 0.02 * top)
    for _ in range(50):
        middle = 0.5 * (low + high)
        low, high = np.where(within(middle), middle, low), np.where(within(middle), high, middle)
    return low[0, :, 0]


@settings(max_examples=300, deadline=None)
@given(
    degc=st.floats(-30.0, 60.0),
    soc=st.one_of(st.floats(0.0, 1.0), st.floats(0.0, 0.05), st.floats(0.95, 1.0)),
    sigma=st.floats(0.0, 0.5),
    factor=st.floats(0.2, 5.0),
    amps=st.floats(-250.0, 250.0),
    mean_a=st.floats(-250.0, 250.0),
    cell_v=st.floats(2.3, 3.8),
    direction=st.sampled_from([1, -1]),
    share=st.floats(0.5, 1.1),
)
# a load has just stopped, or goes on, beside the limit of an empty cell in the cold
@example(-23.443, 0.00317, 0.2359, 0.5518, -162.68, -133.24, 2.7054, -1, 1.0)
@example(-20.47, 0.09, 0.0784, 0.26, -208.83, -183.45, 2.505, -1, 1.0)
# an hour of charging, from empty, over the knee below
@example(27.0, 0.0, 8e-5, 0.4725, 201.3, 192.7, 2.869, 1, 1.0)
@example(6.6, 0.0, 2e-5, 0.92, 126.9, 91.4, 2.901, 1, 1.0)
def test_the_power_is_what_a_bisection_finds_and_never_more(
    degc: float, soc: float, sigma: float, factor: float, amps: float, mean_a: float, cell_v: float, direction: int,
    share: float,
) -> None:  # fmt: skip
    limit_v = 3.65 if direction > 0 else 2.5
    of = cell(degc, soc, sigma, factor, amps, mean_a, cell_v, limit_v, direction, share)
    found, could = power.least(of, limit_v, 250.0).amps[0], most(of, limit_v, 250.0)
    left_v = direction * (limit_v - power.end_v(of, found[None, :, None]))[0, :, 0]
    assert np.isfinite(found).all()
    assert (found >= 0.0).all()
    assert (left_v[found > 0.0] >= -1e-9).all(), "the cell would end beyond its limit"
    assert (found <= could + 0.01 + 0.001 * could).all(), "a lower current would end beyond the limit"
    close = (found >= 0.97 * could - 0.02) | (left_v <= 0.0021)
    assert close.all(), (found, could, left_v)


@pytest.mark.parametrize(("direction", "soc", "mean_a"), [(-1, 0.02, -150.0), (1, 0.99, 150.0)])
def test_beside_its_limit_the_power_of_a_cell_goes_to_zero_and_does_not_jump_there(direction, soc, mean_a):
    """In the cold, with a surface that is far ahead: it comes back while the current is lower."""
    limit_v = 3.65 if direction > 0 else 2.5
    volts = limit_v + direction * np.linspace(-0.3, 0.3, 601)
    ends = [cell(-20.0, soc, 0.02, 0.5, mean_a, mean_a, cell_v, limit_v, direction) for cell_v in volts]
    found = np.array([power.least(of, limit_v, 250.0).amps[0, 1] for of in ends])
    away = np.abs(volts - limit_v) > 0.01  # at the limit it changes which edge of the resistance is the worse one
    steps = np.abs(np.diff(found))[away[1:] & away[:-1]]
    assert found.max() > 10.0
    assert found.min() == 0.0
    assert steps.max() < 5.0


@pytest.mark.parametrize("direction", [1, -1])
def test_a_surface_that_comes_back_is_trusted_no_further_than_it_is_known(direction):
    """Without a current: by the worse edge of what it is ahead by, coming back from the limit or towards it."""
    soc, limit_v, cell_v = (0.985, 3.65, 3.6) if direction > 0 else (0.015, 2.5, 2.6)
    for mean_a in (100.0, -100.0):
        exact, safe = (
            direction * power.end_v(cell(25.0, soc, 0.0, 1.0, 0.0, mean_a, cell_v, limit_v, direction, 1.0, s), NO_A)
            for s in (0.0, power.ONE_SIDED)
        )
        assert (safe >= exact).all()
