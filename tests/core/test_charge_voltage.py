"""The charge voltage limit: never zero, never a step below the pack, held by a stop."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bmsd.core.charge import ChargeMemory, voltages
from tests import rack

PLANT = rack.plant()
CONNECTED = np.array([True])


class Story:
    """The limit alone, tick by tick."""

    def __init__(self) -> None:
        self.memory = ChargeMemory()
        self.now_s = 100.0

    def see(self, pack_v, *, cell_v=3.30, current_a=0.0, stopped=False, dt_s=1.0):
        self.now_s += dt_s
        snap = rack.snapshot(PLANT, self.now_s, cell_v=cell_v, current_a=current_a)
        self.memory, volts = voltages(PLANT, self.memory, snap, pack_v, CONNECTED, stopped, dt_s)
        return volts.cvl_v


def test_the_limit_is_the_absorption_voltage():
    assert Story().see(52.8) == pytest.approx(16 * 3.45)


def test_nothing_known_is_nothing_said_and_later_unknown_keeps_the_last():
    story = Story()
    assert story.see(None) is None
    assert story.see(np.nan) is None
    limit_v = story.see(52.8)
    assert story.see(None) == limit_v


def test_the_first_limit_is_not_below_a_pack_that_is_already_higher():
    story = Story()
    assert story.see(56.5) >= 56.5 - 0.016 - 1e-9
    assert story.see(56.5) >= 56.5 - 0.032 - 1e-9


def test_a_cell_over_the_target_lowers_the_limit_to_the_pack_then_slowly():
    story = Story()
    cells = np.full(PLANT.layout.cell_shape, 3.40)
    cells[0, 0, 0], cells[0, 0, 1] = 3.65, 3.55
    story.see(54.95)
    assert story.see(54.95, cell_v=cells) == pytest.approx(55.2 - 0.3, abs=0.06)
    lower = [story.see(54.0, cell_v=np.full(PLANT.layout.cell_shape, 3.60)) for _ in range(5)]
    assert np.diff(lower) == pytest.approx([-0.016] * 4)


def test_the_excess_recovers_slowly():
    story = Story()
    cells = np.full(PLANT.layout.cell_shape, 3.40)
    cells[0, 0, 0] = 3.75
    for _ in range(30):
        story.see(54.9, cell_v=cells)
    low = story.see(54.9)
    seen = [story.see(54.8) for _ in range(5)]
    assert low < seen[-1] <= low + 5 * 0.016 + 1e-9


def test_a_stop_holds_the_limit_at_the_pack_voltage_of_its_moment():
    story = Story()
    story.see(54.0, current_a=100.0)
    assert story.see(54.0, current_a=100.0, stopped=True) == pytest.approx(54.0)
    assert story.see(54.4, current_a=80.0, stopped=True) == pytest.approx(54.0), "an inverter that goes on charging"
    assert story.see(53.3, stopped=True) == pytest.approx(54.0)
    assert story.see(53.3) == pytest.approx(54.16), "rises slowly afterwards"


def test_a_stop_during_a_discharge_does_not_dump_the_recovered_pack():
    story = Story()
    story.see(50.0, current_a=-150.0)
    assert story.see(50.0, current_a=-150.0, stopped=True) == pytest.approx(50.0)
    recovering = np.linspace(50.0, 53.0, 60)
    for pack_v in recovering:
        assert story.see(pack_v, stopped=True) >= pack_v - 0.06


def test_above_the_data_sheet_the_limit_stays_at_it():
    assert Story().see(16 * 3.70, cell_v=3.70) == pytest.approx(16 * 3.65)


PACKS = st.lists(
    st.tuples(
        st.one_of(st.none(), st.floats(40.0, 60.0)), st.floats(2.5, 3.75), st.floats(-200.0, 140.0), st.booleans(),
        st.sampled_from([0.0, 0.01, 0.1, 1.0]),
    ),
    min_size=1, max_size=30,
)  # fmt: skip


@given(PACKS)
@settings(max_examples=100, deadline=None)
def test_it_is_never_zero_and_never_steps_below_the_pack(steps):
    story, last_v = Story(), None
    for pack_v, cell_v, current_a, stopped, dt_s in steps:
        limit_v = story.see(pack_v, cell_v=cell_v, current_a=current_a, stopped=stopped, dt_s=dt_s)
        if limit_v is None:
            assert last_v is None
            continue
        assert 16 * 2.80 <= limit_v <= 16 * 3.65
        if pack_v is not None and limit_v < pack_v and limit_v < 16 * 3.65 - 1e-9:
            lowest = pack_v if last_v is None else min(last_v, pack_v)
            assert limit_v >= lowest - 0.016 * dt_s - 1e-9
        last_v = limit_v


def test_a_fault_of_an_open_string_does_not_hold_the_limit_of_the_closed_ones():
    plant = rack.plant(strings=2)
    drive = rack.Drive(plant)
    values: dict[str, Any] = {name: np.array([True, False]) for name in ("minus_output", "plus_output")}
    values |= {"minus": np.array([1, 0]), "plus": np.array([1, 0]), "bus_v": 52.8, "unit_trip_code": np.array([0, 9])}
    cells = np.full(plant.layout.cell_shape, 3.30)
    cells[1, 0, 0] = 3.70
    outcome = drive.run(80.0, 1.0, **values, cell_v=cells)[-1]
    assert "CEL-003" in rack.codes(outcome)
    assert outcome.command.ccl_a == 140.0
    assert outcome.command.cvl_v == pytest.approx(55.2)
