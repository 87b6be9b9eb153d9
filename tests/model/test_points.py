"""The register map: what is where, for ever."""

from __future__ import annotations

import csv
import inspect
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bmsd.control.records import lifecycle_of
from bmsd.core.contactors import State
from bmsd.errors import ConfigError
from bmsd.manual import renew
from bmsd.model import points
from bmsd.model.catalogue import CATALOGUE
from bmsd.model.fault import Fault
from bmsd.model.layout import MAX_CELLS, MAX_MODULES, MAX_SENSORS, MAX_STRINGS
from bmsd.model.points import MODULES, SINGLE, STRINGS, arrays, listed, values
from bmsd.model.row import Level
from bmsd.model.snapshot import Feedback, Reading
from bmsd.register_map import as_csv, moved
from tests.gateway.control_end import record

ROOT = Path(__file__).parents[2]
COMMITTED = ROOT / "docs" / "modbus-map.csv"


def test_no_two_points_share_a_register_or_a_name() -> None:
    taken = [address for point in listed() for address in range(point.address, point.address + point.registers)]
    assert len(taken) == len(set(taken))
    assert len({point.name for point in listed()}) == len(listed())
    assert max(taken) == points.MAP_REGISTERS - 1


def test_no_address_that_was_ever_given_moves() -> None:
    assert moved(COMMITTED.read_text()) == []


def test_a_point_that_moved_is_named(tmp_path: Path) -> None:
    text = COMMITTED.read_text()
    changed = text.replace("\ncurrent_a,A,102,", "\ncurrent_a,A,103,").replace("\nsoh,1,108,", "\nsohh,1,108,")
    assert moved(changed) == [
        "current_a: was 103 float32 A; is 102 float32 A",
        "sohh: was 108 float32 1; is gone",
    ]
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "simulator.md").write_text("")
    (tmp_path / "docs" / "modbus-map.csv").write_text(changed)
    with pytest.raises(ConfigError, match="current_a: was 103"):
        renew(tmp_path)
    assert (tmp_path / "docs" / "modbus-map.csv").read_text() == changed, "it stays as it was"


def test_a_point_that_is_new_is_no_complaint() -> None:
    lines = COMMITTED.read_text().splitlines()
    assert moved("\n".join(lines[:50] + lines[60:])) == []


def test_the_racks_block_is_where_it_always_was() -> None:
    assert [(point.name, point.address) for point in points.POINTS[:22]] == [
        ("voltage_v", 100), ("current_a", 102), ("soc", 104), ("soc_sigma", 106), ("soh", 108),
        ("charge_limit_a", 110), ("discharge_limit_a", 112), ("charge_voltage_limit_v", 114),
        ("discharge_voltage_limit_v", 116), ("cell_max_v", 118), ("cell_min_v", 120), ("temperature_max_degc", 122),
        ("temperature_min_degc", 124), ("oldest_measurement_s", 126), ("cells_unknown", 128), ("modules_online", 129),
        ("strings_connected", 130), ("faults", 131), ("fault_level", 132), ("charge_enabled", 133),
        ("discharge_enabled", 134), ("cells_balancing", 135),
    ]  # fmt: skip


def test_a_faults_address_follows_from_its_code_alone() -> None:
    """Whatever other rows there are: a new row moves no other."""
    address = {point.name: point.address for point in points.FAULTS}
    assert address["fault_cel_001"] == 341
    assert address["fault_cel_014"] == 354
    assert address["fault_tmp_001"] == 381
    assert address["fault_sys_019"] == 340 + 40 * 11 + 19
    new = replace(CATALOGUE[0], code="UPD-039", name="new")
    assert points._fault(new).address == 340 + 40 * 14 + 39 < 998
    with pytest.raises(AssertionError):
        points._fault(replace(new, code="UPD-040"))


def test_every_row_of_the_catalogue_has_its_register() -> None:
    assert len(points.FAULTS) == len(CATALOGUE)


def test_every_state_of_a_string_and_of_the_rack_has_a_number() -> None:
    assert {state.value for state in State} <= set(points.STRING_STATES)
    said = set(re.findall(r'return "(\w+)"|return "(\w+)" if .* else "(\w+)"', inspect.getsource(lifecycle_of)))
    words = {word for found in said for word in found if word} | {"discharging"}
    assert len(words) >= 9
    assert words <= set(points.LIFECYCLES)


def test_numbers_of_states_stay() -> None:
    assert points.STRING_STATES.index("closed") == 6
    assert points.LIFECYCLES.index("fault") == 7


def test_values_of_the_rack_are_by_name_and_small() -> None:
    found = values(record())
    assert set(found) == {point.name for point in points.POINTS}
    assert found["power_w"] == 0.0
    assert values(replace(record(), command=replace(record().command, voltage_v=None)))["power_w"] is None


@pytest.mark.parametrize(("strings", "modules", "cells", "sensors"), [(1, 1, 1, 1), (2, 4, 16, 4), (8, 32, 24, 8)])
def test_a_rack_lists_only_what_it_has(strings: int, modules: int, cells: int, sensors: int) -> None:
    names = {point.name for point in listed(strings, modules, cells, sensors)}
    assert sum(name.endswith("_mv") for name in names) == modules * cells
    assert sum(name.startswith("module_1_sensor_") for name in names) == sensors
    assert f"string_{strings}_state" in names
    assert f"string_{strings + 1}_state" not in names
    assert names <= {point.name for point in listed()}


def test_the_largest_rack_fits() -> None:
    assert STRINGS.base + STRINGS.stride * MAX_STRINGS == MODULES.base
    assert MODULES.base + MODULES.stride * MAX_MODULES == points.MAP_REGISTERS
    assert (MAX_CELLS, MAX_SENSORS) == (24, 8)


def test_writable_are_these_four_and_nothing_else() -> None:
    assert [(point.name, point.address, point.type) for point in listed() if point.writable] == [
        ("alarm_reset", 200, "uint16"), ("controller_heartbeat", 201, "uint16"), ("reserve_soc", 202, "uint16"),
        ("power_setpoint", 204, "int32"),
    ]  # fmt: skip


def test_the_map_has_another_hash_when_an_address_is_another() -> None:
    assert points.constants()["map_hash"] == points.map_hash()
    before = points.map_hash()
    points.map_hash.cache_clear()
    changed = replace(points.POINTS[0], address=99)
    original = points.SINGLE
    try:
        points.SINGLE = (changed, *[point for point in SINGLE if point.name != changed.name])
        assert points.map_hash() != before
    finally:
        points.SINGLE = original
        points.map_hash.cache_clear()
    assert points.map_hash() == before


def test_the_export_has_a_line_for_every_point() -> None:
    lines = list(csv.DictReader(as_csv(listed()).splitlines()))
    assert len(lines) == len(listed())
    assert {line["writable"] for line in lines} == {"yes", "no"}
    assert lines[0]["holding"] == "40001"


def with_modules(**changes: Any):
    found = record(strings=2, modules=3)
    return replace(found, snapshot=replace(found.snapshot, modules=replace(found.snapshot.modules, **changes)))


def test_extremes_name_their_place_and_pass_over_what_is_unknown() -> None:
    cell_v = np.full((2, 3, 16), 3.3)
    cell_v[1, 2, 4], cell_v[1, 0, 15], cell_v[0, 1] = 3.5, 3.1, np.nan
    cell_v[1, 2, 5] = np.nan
    reading = np.where(np.isnan(cell_v), int(Reading.MISSING), 0)
    found = with_modules(cell_v=cell_v, cell_reading=reading)
    strings, modules = arrays(found, STRINGS), arrays(found, MODULES)
    assert (strings["cell_max_v"][1], strings["cell_max_module"][1], strings["cell_max_cell"][1]) == (3.5, 3, 5)
    assert (strings["cell_min_v"][1], strings["cell_min_module"][1], strings["cell_min_cell"][1]) == (3.1, 1, 16)
    assert list(strings["cells_unknown"]) == [16, 1]
    assert list(strings["quality"]) == [1, 1]
    assert np.isnan(modules["cell_max_v"][0, 1])
    assert np.isnan(modules["cell_max_cell"][0, 1])
    assert (modules["quality"][0, 1], modules["quality"][0, 0], modules["quality"][1, 2]) == (1, 0, 1)
    assert values(found, SINGLE)["quality"] == 1


def test_nothing_known_is_a_quality_of_its_own() -> None:
    found = with_modules(cell_v=np.full((2, 3, 16), np.nan), temperature_degc=np.full((2, 3, 4), np.nan))
    assert (arrays(found, MODULES)["quality"] == 2).all()
    assert list(arrays(found, STRINGS)["quality"]) == [1, 1], "the current is known"
    units = replace(found.snapshot.units, current_a=np.full(2, np.nan))
    blind = replace(found, snapshot=replace(found.snapshot, units=units))
    assert list(arrays(blind, STRINGS)["quality"]) == [2, 2]
    assert values(blind, SINGLE)["quality"] == 2


def test_what_a_silent_node_said_last_is_not_repeated() -> None:
    silent = with_modules(
        module_v=np.full((2, 3), np.nan), state_age_s=np.full((2, 3), 2.1), trip_active=np.ones((2, 3), bool)
    )
    assert np.isnan(arrays(silent, MODULES)["trip_active"]).all()
    assert np.isnan(arrays(silent, MODULES)["balancing"]).all()
    held = with_modules(state_age_s=np.full((2, 3), 2.1))
    assert (arrays(held, MODULES)["trip_active"] == 0).all(), "control still goes by it"
    fresh = with_modules(module_v=np.full((2, 3), np.nan), state_age_s=np.full((2, 3), 2.0))
    assert (arrays(fresh, MODULES)["trip_active"] == 0).all()
    units = replace(held.snapshot.units, minus=np.full(2, int(Feedback.UNKNOWN)), state_age_s=np.array([2.1, np.inf]))
    gone = replace(held, snapshot=replace(held.snapshot, units=units))
    assert np.isnan(arrays(gone, STRINGS)["open_reason"]).all()
    assert np.isnan(arrays(gone, STRINGS)["minus_contactor"]).all()


def test_balancing_is_a_bit_for_each_cell() -> None:
    balancing = np.zeros((2, 3, 16), dtype=bool)
    balancing[1, 2, [0, 15]] = True
    assert arrays(with_modules(balancing=balancing), MODULES)["balancing"][1, 2] == 0x8001


def test_a_fault_is_counted_where_its_worst_subject_is() -> None:
    faults = (
        Fault("CEL-001", "a", Level.WARNING, 2, 3, 4, 3.6, 1.0, 7, False),
        Fault("CUR-003", "b", Level.TRIP, 2, None, None, None, 1.0, 1, True),
        Fault("SYS-001", "c", Level.ALARM, None, None, None, None, 1.0, 1, False),
    )
    found = replace(record(strings=2, modules=3), faults=faults)
    strings, modules = arrays(found, STRINGS), arrays(found, MODULES)
    assert (list(strings["faults"]), list(strings["fault_level"])) == ([0, 2], [0, 3])
    assert (modules["faults"].sum(), modules["faults"][1, 2], modules["fault_level"][1, 2]) == (1, 1, 1)
    single = values(found, SINGLE)
    assert (single["fault_cel_001"], single["fault_cur_003"], single["fault_cel_002"]) == (7, 1, 0)
    assert single["fault_level"] == 3


def test_a_fault_says_what_it_is() -> None:
    meaning = {point.name: point.meaning for point in points.FAULTS}
    assert meaning["fault_mod_001"] == "module lost (alarm, per module): how many have it, 0: none."
