"""Sense wires, temperature sensors and the current sensor: what is out of order is named, what is unknown holds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bmsd.model.request import Reset, Role
from bmsd.model.snapshot import CURRENT_SENSOR_TEST, Reading
from tests import rack

PLANT = rack.plant()
CLOSED = rack.closed(PLANT)


def cells(kind: Reading) -> dict[str, Any]:
    """Cell 4 reads so."""
    reading = np.zeros(PLANT.layout.cell_shape, dtype=np.int64)
    reading[0, 0, 3] = kind
    return {"cell_reading": reading, "cell_v": np.where(reading == Reading.OK, 3.30, np.nan)}


def sensors(*kinds: Reading) -> dict[str, Any]:
    """The first sensors read so."""
    reading = np.zeros(PLANT.layout.sensor_shape, dtype=np.int64)
    reading[0, 0, : len(kinds)] = kinds
    return {"temperature_reading": reading, "temperature_degc": np.where(reading == Reading.OK, 25.0, np.nan)}


@pytest.mark.parametrize(
    ("kind", "code"), [(Reading.OPEN, "CEL-012"), (Reading.INVALID, "CEL-014"), (Reading.SHORT, "CEL-014")]
)
def test_a_cell_without_a_voltage_raises_the_row_of_its_cause_alone(kind: Reading, code: str) -> None:
    drive = rack.running(PLANT)
    first = drive.tick(**CLOSED, **cells(kind))
    assert first.command.ccl_a == first.command.dcl_a == 0.0
    outcome = drive.run(2.0, **CLOSED, **cells(kind))[-1]
    assert rack.codes(outcome) == {code}
    assert (outcome.faults[0].item, outcome.faults[0].count) == (4, 1)


@pytest.mark.parametrize("kind", [Reading.MISSING, Reading.INVALID])
def test_a_wire_is_whole_again_only_when_its_cell_is_measured(kind: Reading) -> None:
    drive, reset = rack.running(PLANT), (Reset("CEL-012", Role.OPERATOR),)
    drive.run(1.0, **CLOSED, **cells(Reading.OPEN))
    assert "CEL-012" in rack.codes(drive.tick(**CLOSED, **cells(kind), requests=reset))
    assert "CEL-012" not in rack.codes(drive.tick(**CLOSED, requests=reset))


@pytest.mark.parametrize(("kind", "code"), [(Reading.OPEN, "TMP-017"), (Reading.SHORT, "TMP-018")])
def test_a_sensor_out_of_order_is_a_warning_and_the_others_rule(kind: Reading, code: str) -> None:
    drive = rack.running(PLANT)
    outcome = drive.run(6.0, **CLOSED, **sensors(kind))[-1]
    assert rack.codes(outcome) == {code}
    assert (outcome.command.ccl_a, outcome.command.dcl_a) == (140.0, 200.0)
    assert rack.codes(drive.run(10.0, **CLOSED, **sensors(Reading.INVALID))[-1]) == {code}, "that says neither"
    assert rack.codes(drive.run(10.2, **CLOSED)[-1]) == set()


def test_readings_that_are_too_old_say_nothing_of_a_sensor() -> None:
    drive = rack.running(PLANT)
    drive.run(2.0, **CLOSED, **sensors(Reading.OPEN))
    assert "TMP-017" in rack.codes(drive.run(15.0, **CLOSED, temperature_age_s=3.1)[-1])


@pytest.mark.parametrize(
    ("left", "least", "enough"),
    [(2, 0.5, True), (1, 0.5, False), (3, 0.75, True), (2, 0.75, False), (1, 0.1, True), (0, 0.1, False)],
)
def test_the_coverage_is_judged_by_the_share_of_valid_sensors(left: int, least: float, enough: bool) -> None:
    plant = rack.plant(thresholds=rack.THRESHOLDS | {"temperature_coverage_min": least})
    drive = rack.running(plant)
    values = {**CLOSED, **sensors(*[Reading.OPEN] * (4 - left))}
    first = drive.tick(**values)
    assert (first.command.ccl_a > 0.0, first.command.dcl_a > 0.0) == (enough, enough), "the bound acts at once"
    assert "TMP-021" not in rack.codes(drive.run(4.8, **values)[-1])
    assert ("TMP-021" in rack.codes(drive.run(0.3, **values)[-1])) is not enough
    assert drive.run(58.0, 1.0, **values)[-1].command.close_plus[0]
    assert drive.run(4.0, 1.0, **values)[-1].command.close_plus[0] == enough


def test_a_board_that_is_silent_altogether_is_lost_not_without_sensors() -> None:
    silent = {"cell_v": np.nan, "cell_reading": rack.MISSING, "cell_age_s": 9.0, "temperature_degc": np.nan}
    assert rack.codes(rack.running(PLANT).run(8.0, **CLOSED, **silent)[-1]) == {"MOD-001"}
    without = {"temperature_degc": np.nan, "temperature_age_s": 9.0}
    assert rack.codes(rack.running(PLANT).run(8.0, **CLOSED, **without)[-1]) == {"TMP-021"}


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"current_a": np.nan}, "CUR-009"),
        ({"current_a": np.inf}, "CUR-009"),
        ({"unit_self_test": CURRENT_SENSOR_TEST}, "CUR-009"),
        ({"unit_self_test": CURRENT_SENSOR_TEST + 5}, "CUR-009"),
        ({"current_a": np.nan, "current_age_s": 0.9}, "CUR-008"),
        ({"current_a": np.nan, "current_age_s": np.nan}, "CUR-008"),
        ({"unit_self_test": 5}, None),
        ({"unit_self_test": -1}, None),
    ],
    ids=str,
)
def test_a_sensor_that_says_it_is_out_of_order_is_not_a_silent_unit(values: dict[str, Any], code: str | None) -> None:
    drive = rack.running(PLANT)
    first = drive.tick(**{**CLOSED, **values})
    assert (first.command.dcl_a == 0.0) is (code is not None)
    outcome = drive.run(2.0, **{**CLOSED, **values})[-1]
    assert rack.codes(outcome) == ({code} if code else set())
    assert outcome.command.close_plus[0]
    assert bool(drive.run(4.5, **{**CLOSED, **values})[-1].command.close_plus[0]) is (code is None)


@pytest.mark.parametrize("unknown", [{"unit_self_test": -1}, {"current_a": np.nan, "current_age_s": 0.9}], ids=str)
def test_a_current_sensor_is_in_order_again_when_it_says_so_and_somebody_acknowledges(unknown: dict[str, Any]) -> None:
    drive, reset = rack.running(PLANT), (Reset("CUR-009", Role.OPERATOR),)
    drive.run(1.0, **CLOSED, unit_self_test=CURRENT_SENSOR_TEST)
    assert "CUR-009" in rack.codes(drive.tick(**{**CLOSED, **unknown}, requests=reset))
    assert "CUR-009" in rack.codes(drive.run(5.0, **CLOSED)[-1])
    assert "CUR-009" not in rack.codes(drive.tick(**CLOSED, requests=reset))


def test_the_first_invalid_current_of_a_unit_that_has_just_started_latches_nothing() -> None:
    drive = rack.running(PLANT)
    assert rack.codes(drive.run(0.2, **CLOSED, current_a=np.nan)[-1]) == set()
    assert rack.codes(drive.run(1.0, **CLOSED)[-1]) == set()
