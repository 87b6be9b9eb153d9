"""An inverter that is not heard: a warning, and zero limits only where its keep-alive is required."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests import rack

USUAL = rack.plant()
REQUIRED = replace(USUAL, inverter=replace(USUAL.inverter, keepalive_required=True))
CLOSED = rack.closed(USUAL)
WARNED, LOST = {"INV-001"}, {"INV-001", "INV-006"}


@pytest.mark.parametrize(
    ("age_s", "usual", "required"),
    [
        (0.0, set(), set()), (10.0, set(), set()), (10.1, WARNED, WARNED), (60.0, WARNED, WARNED),
        (60.1, WARNED, LOST), (1e6, WARNED, LOST),
    ],
)  # fmt: skip
def test_silence_warns_at_10_s_and_is_a_loss_at_the_time_out_where_required(
    age_s: float, usual: set[str], required: set[str]
) -> None:
    for plant, expected in ((USUAL, usual), (REQUIRED, required)):
        outcome = rack.running(plant).run(1.0, **CLOSED, inverter_age_s=age_s)[-1]
        assert rack.codes(outcome) == expected
        limits = (outcome.command.ccl_a, outcome.command.dcl_a)
        assert limits == ((0.0, 0.0) if expected == LOST else (140.0, 200.0))
        assert outcome.command.close_plus[0], "contactors stay closed"
        assert outcome.command.fresh, "limits are sent on"


def test_the_configured_time_out_counts() -> None:
    plant = replace(USUAL, inverter=replace(REQUIRED.inverter, keepalive_timeout_s=20.0))
    assert rack.codes(rack.running(plant).tick(**CLOSED, inverter_age_s=19.9)) == WARNED
    assert rack.codes(rack.running(plant).tick(**CLOSED, inverter_age_s=20.1)) == LOST


@pytest.mark.parametrize("never", [np.inf, np.nan])
def test_an_inverter_that_was_never_heard_need_not_send_a_keep_alive(never: float) -> None:
    assert rack.codes(rack.Drive(USUAL).run(200.0, 1.0, **CLOSED, inverter_age_s=never)[-1]) == set()


@pytest.mark.parametrize("never", [np.inf, np.nan])
def test_where_it_is_required_it_has_the_time_from_the_start(never: float) -> None:
    drive = rack.Drive(REQUIRED)
    first: dict[str, int] = {}
    for second in range(70):
        for code in rack.codes(drive.tick(1.0, **CLOSED, inverter_age_s=never)):
            first.setdefault(code, second)
    assert first == {"INV-001": 11, "INV-006": 61}


def test_it_clears_by_itself_when_the_inverter_is_heard_again() -> None:
    drive = rack.running(REQUIRED)
    drive.tick(**CLOSED, inverter_age_s=100.0)
    outcome = drive.tick(**CLOSED, inverter_age_s=0.0)
    assert rack.codes(outcome) == set()
    assert drive.run(80.0, 1.0, **CLOSED)[-1].command.dcl_a == 200.0
