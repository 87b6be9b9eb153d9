"""The guard alone: whatever the command says, nothing unsafe leaves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bmsd.config import orders
from bmsd.core.guard import RECOVERY_V, guard
from bmsd.model.command import Command
from tests import rack

PLANT = rack.plant()
YES, NO = np.array([True]), np.array([False])


def command(**changes: Any) -> Command:
    """Limits of 100 A through the one closed string."""
    good = Command(
        cvl_v=55.2, dvl_v=44.8, ccl_a=100.0, dcl_a=100.0, charge_enabled=True, discharge_enabled=True, close_minus=YES,
        close_precharge=NO, close_plus=YES, inverter_enable=YES, commanded=YES, balance=np.zeros((1, 1, 16), bool),
        heartbeat=True, force_charge=True, fresh=True,
    )  # fmt: skip
    return replace(good, **changes)


def leaves(order: Command | None = None, **values: Any) -> Command:
    order = order or command()
    guarded = guard(PLANT, order, rack.snapshot(PLANT, 100.0, **values))
    names = ("ccl_a", "dcl_a", "cvl_v", "dvl_v")
    same = all(getattr(guarded.command, name) == getattr(order, name) for name in names)
    assert same or guarded.vetoes, "nothing is taken in silence"
    return guarded.command


def flows(safe: Command) -> tuple[bool, bool]:
    assert safe.charge_enabled is (safe.ccl_a > 0.0)
    assert safe.discharge_enabled is (safe.dcl_a > 0.0)
    assert not safe.force_charge or safe.charge_enabled
    return safe.ccl_a > 0.0, safe.dcl_a > 0.0


def cell(volts: float) -> dict[str, Any]:
    cells = np.full(PLANT.layout.cell_shape, 3.30)
    cells[0, 0, 9] = volts
    return {"cell_v": cells}


def sensor(degc: float) -> dict[str, Any]:
    sensors = np.full(PLANT.layout.sensor_shape, 25.0)
    sensors[0, 0, 3] = degc
    return {"temperature_degc": sensors}


def test_a_safe_command_passes_unchanged():
    order = command()
    guarded = guard(PLANT, order, rack.snapshot(PLANT, 100.0))
    assert guarded.vetoes == ()
    assert guarded.command == order


@pytest.mark.parametrize(
    ("amps", "passes"),
    [(0.0, False), (140.0, True), (140.001, False), (-0.001, False), (np.nan, False), (np.inf, False)],
)
def test_a_charge_limit_outside_the_ratings_becomes_zero(amps, passes):
    assert flows(leaves(command(ccl_a=amps))) == (passes, True)


@pytest.mark.parametrize(("amps", "passes"), [(200.0, True), (200.001, False), (-1.0, False), (np.nan, False)])
def test_a_discharge_limit_outside_the_ratings_becomes_zero(amps, passes):
    assert flows(leaves(command(dcl_a=amps))) == (True, passes)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (cell(3.649), (True, True)), (cell(3.65), (False, True)), (cell(4.2), (False, True)),
        (cell(2.501), (True, True)), (cell(2.50), (True, False)), (cell(2.0), (True, False)),
        (cell(1.999), (False, False)), (cell(0.0), (False, False)), (cell(-1.0), (False, False)),
        (cell(np.nan), (False, False)),
        (sensor(0.0), (True, True)), (sensor(-0.1), (False, True)), (sensor(55.0), (True, True)),
        (sensor(55.1), (False, True)), (sensor(60.0), (False, True)), (sensor(60.1), (False, False)),
        (sensor(-20.0), (False, True)), (sensor(-20.1), (False, False)), (sensor(np.nan), (True, True)),
        ({"temperature_degc": np.nan}, (False, False)), ({"current_a": np.nan}, (False, False)),
        ({"cell_age_s": 1.0}, (True, True)), ({"cell_age_s": 1.001}, (False, False)),
        ({"cell_age_s": np.nan}, (False, False)), ({"current_age_s": 1.001}, (False, False)),
        ({"current_age_s": np.inf}, (False, False)), ({"unit_state_age_s": 1.001}, (False, False)),
    ],
    ids=lambda value: str(value)[:60],
)  # fmt: skip
def test_this_ticks_measurements_decide(values, expected):
    assert flows(leaves(**values)) == expected


def test_the_last_line_of_a_recovery_charge_is_below_all_that_can_be_configured():
    assert RECOVERY_V == orders.DEEP_DISCHARGE_MARGIN_V


@pytest.mark.parametrize(
    ("volts", "charges"), [(2.45, True), (2.21, True), (2.19, False), (2.0, False), (1.9, False), (0.6, False)]
)
def test_a_cell_below_its_lowest_voltage_is_charged_until_it_is_deeply_discharged(volts, charges):
    deep = rack.THRESHOLDS | {"cell_deep_discharge_v": 2.2}
    plant = rack.plant(thresholds=deep)
    outcome = rack.running(plant).tick(**rack.closed(plant), **cell(volts))
    assert flows(outcome.command) == (charges, False)
    assert outcome.vetoes == (), "the protections know it before the guard"


@pytest.mark.parametrize(
    "changes",
    [
        {"close_minus": NO}, {"close_plus": NO}, {"close_precharge": YES}, {"fresh": False},
        {"cvl_v": None, "dvl_v": None}, {"charge_enabled": False, "discharge_enabled": False},
    ],
    ids=lambda value: str(list(value)),
)  # fmt: skip
def test_no_limits_without_a_closed_string_fresh_data_voltages_and_flags(changes):
    assert flows(leaves(command(**changes))) == (False, False)


@pytest.mark.parametrize("volts", [39.9, 58.41, 0.0, np.nan, np.inf, -50.0])
def test_a_voltage_outside_the_data_sheet_takes_its_limit_with_it(volts):
    safe = leaves(command(cvl_v=volts))
    assert safe.cvl_v is None
    assert flows(safe) == (False, True)
    safe = leaves(command(dvl_v=volts))
    assert safe.dvl_v is None
    assert flows(safe) == (True, False)


def test_only_the_closed_strings_count():
    plant = rack.plant(strings=2)
    both, first = np.array([True, True]), np.array([True, False])
    cells = np.full(plant.layout.cell_shape, 3.30)
    cells[1, 0, 0] = np.nan
    snap = rack.snapshot(plant, 100.0, cell_v=cells)
    order = command(close_minus=first, close_plus=first, close_precharge=~both, balance=np.zeros((2, 1, 16), bool))
    assert guard(plant, order, snap).vetoes == ()
    assert guard(plant, replace(order, ccl_a=140.1), snap).command.ccl_a == 0.0
    closed = replace(order, close_minus=both, close_plus=both)
    assert guard(plant, closed, snap).command.dcl_a == 0.0
    healthy = rack.snapshot(plant, 100.0)
    assert guard(plant, replace(closed, ccl_a=280.0), healthy).command.ccl_a == 280.0


ANY = st.one_of(st.floats(), st.floats(-10.0, 300.0))
VOLTS = st.one_of(st.none(), st.floats(), st.floats(35.0, 60.0))
FLAG = st.booleans()
SEEN = st.fixed_dictionaries(
    {},
    optional={
        "cell_v": st.one_of(st.floats(), st.floats(2.4, 3.7)),
        "temperature_degc": st.one_of(st.floats(), st.floats(-25.0, 65.0)),
        "current_a": st.floats(),
        "cell_age_s": st.one_of(st.floats(), st.floats(0.0, 2.0)),
        "current_age_s": st.one_of(st.floats(), st.floats(0.0, 2.0)),
    },
)


@given(ANY, ANY, VOLTS, VOLTS, st.tuples(*[FLAG] * 7), SEEN)
@settings(max_examples=300, deadline=None)
def test_whatever_is_ordered_and_seen_nothing_unsafe_leaves(ccl, dcl, cvl, dvl, flags, seen):
    minus, precharge, plus = (np.array([flag]) for flag in flags[:3])
    order = command(
        ccl_a=ccl, dcl_a=dcl, cvl_v=cvl, dvl_v=dvl, close_minus=minus, close_precharge=precharge, close_plus=plus,
        charge_enabled=flags[3], discharge_enabled=flags[4], fresh=flags[5], force_charge=flags[6],
    )  # fmt: skip
    safe = leaves(order, **seen)
    charges, discharges = flows(safe)
    assert 0.0 <= safe.ccl_a <= 140.0
    assert 0.0 <= safe.dcl_a <= 200.0
    assert safe.cvl_v is None or 40.0 <= safe.cvl_v <= 58.4
    assert safe.dvl_v is None or 40.0 <= safe.dvl_v <= 58.4
    if charges or discharges:
        assert (minus[0], plus[0], precharge[0], flags[5]) == (True, True, False, True)
        assert seen.get("cell_age_s", 0.0) <= 1.0
        assert seen.get("current_age_s", 0.0) <= 1.0
    if charges:
        assert safe.cvl_v is not None
        assert 2.0 <= seen.get("cell_v", 3.3) < 3.65
        assert 0.0 <= seen.get("temperature_degc", 25.0) <= 55.0
    if discharges:
        assert safe.dvl_v is not None
        assert seen.get("cell_v", 3.3) > 2.50
        assert -20.0 <= seen.get("temperature_degc", 25.0) <= 60.0
