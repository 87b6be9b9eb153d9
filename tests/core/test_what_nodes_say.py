"""What boards and contactor units found by themselves takes the current from a closed string."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests import rack

FINDINGS: list[tuple[dict[str, Any], str]] = [
    ({"unit_trip_code": np.array([3, 0])}, "trip of its contactor unit: over temperature"),
    ({"trip_active": np.array([[False, True], [False, False]])}, "trip of a module board"),
    ({"inputs": np.array([[0, 0, 0, 1, 0, 0], [0] * 6])}, "an input of its contactor unit is active"),
    ({"unit_state_age_s": np.array([np.inf, 0.1])}, "state of its contactors unknown"),
]


@pytest.mark.parametrize(("found", "reason"), FINDINGS)
def test_it_bounds_both_limits_to_zero_in_the_same_tick(found: dict[str, Any], reason: str) -> None:
    plant = rack.plant(strings=2, modules=2)
    drive = rack.running(plant)
    assert drive.tick(**rack.closed(plant)).command.dcl_a > 0.0
    outcome = drive.tick(**rack.closed(plant) | found)
    assert (outcome.command.ccl_a, outcome.command.dcl_a) == (0.0, 0.0)
    assert reason in {bound.reason for bound in (*outcome.limits.charge, *outcome.limits.discharge)}
    assert outcome.vetoes == ()


def test_an_input_that_is_not_fitted_takes_nothing() -> None:
    plant = rack.plant(strings=2, modules=2)
    drive = rack.running(plant)
    assert drive.tick(**rack.closed(plant), inputs=np.full((2, 6), 2)).command.dcl_a > 0.0
