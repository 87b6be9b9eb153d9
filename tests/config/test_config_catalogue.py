"""The catalogue's thresholds and the settings of [protection] are the same names, and each of them is used."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import bmsd.core
import bmsd.model.plant
from bmsd.config.load import checked, plant
from bmsd.config.schema import Protection
from bmsd.core.protection.step import Rows
from bmsd.model.catalogue import CATALOGUE
from tests.config.config_file import tables

DERIVED = {"hold_s"}
NAMED = {name for row in CATALOGUE for name in (row.trip, row.clear) if isinstance(name, str)}


def core_sources() -> list[ast.Module]:
    """All that may ask for a threshold: the core, and the plant that it is given."""
    folder, of_plant = Path(bmsd.core.__path__[0]), Path(bmsd.model.plant.__file__)
    return [ast.parse(path.read_text()) for path in (*sorted(folder.rglob("*.py")), of_plant)]


def core_strings() -> set[str]:
    """Every text in the core's code."""
    nodes = (node for module in core_sources() for node in ast.walk(module))
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def core_asks() -> set[str]:
    """Names that the core looks up: `thresholds["name"]` and `threshold("name")`."""
    asked: set[str] = set()
    for node in (node for module in core_sources() for node in ast.walk(module)):
        match node:
            case ast.Subscript(value=ast.Attribute(attr="thresholds"), slice=ast.Constant(value=str() as name)):
                asked.add(name)
            case ast.Call(func=ast.Attribute(attr="threshold"), args=[ast.Constant(value=str() as name)]):
                asked.add(name)
    return asked


def test_every_threshold_that_a_row_names_is_a_setting():
    assert NAMED - set(Protection.model_fields) == DERIVED


def test_every_threshold_that_the_core_asks_for_is_a_setting():
    assert "cell_plausible_min_v" in core_asks()
    assert core_asks() <= set(Protection.model_fields) | DERIVED


def test_every_setting_of_protection_is_used():
    assert set(Protection.model_fields) - NAMED - core_strings() == set()


def test_the_plant_has_exactly_these_thresholds():
    assert set(plant(checked(tables())).thresholds) == set(Protection.model_fields) | DERIVED


def test_the_whole_catalogue_compiles_with_a_configuration():
    thresholds = plant(checked(tables())).thresholds
    for row in CATALOGUE:
        rows = Rows.of([row], thresholds)
        assert rows.trip.shape == (1, 1)


@pytest.mark.parametrize("row", [row for row in CATALOGUE if isinstance(row.trip, str)], ids=lambda row: row.code)
def test_defaults_clear_on_the_good_side(row):
    thresholds = plant(checked(tables())).thresholds
    clear = thresholds[row.clear] if isinstance(row.clear, str) else row.clear
    trip = thresholds[row.trip]
    assert clear == trip if row.clear == row.trip else clear > trip if row.below else clear < trip


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cell_over_voltage_warning_v", 3.55), ("cell_over_voltage_alarm_v", 3.60), ("cell_over_voltage_trip_v", 3.65),
        ("cell_over_voltage_critical_v", 3.75), ("cell_under_voltage_warning_v", 3.00),
        ("cell_under_voltage_alarm_v", 2.90), ("cell_under_voltage_trip_v", 2.80), ("cell_deep_discharge_v", 2.50),
        ("cell_over_voltage_warning_clear_v", 3.50), ("cell_over_voltage_alarm_clear_v", 3.45),
        ("cell_over_voltage_trip_clear_v", 3.40), ("cell_under_voltage_warning_clear_v", 3.10),
        ("cell_under_voltage_alarm_clear_v", 3.10), ("cell_under_voltage_trip_clear_v", 3.00),
        ("charge_temperature_high_warning_degc", 45.0), ("charge_temperature_high_alarm_degc", 50.0),
        ("charge_temperature_high_trip_degc", 55.0), ("temperature_high_warning_degc", 50.0),
        ("temperature_high_alarm_degc", 55.0), ("temperature_high_trip_degc", 60.0),
        ("charge_temperature_low_warning_degc", 5.0), ("charge_temperature_low_alarm_degc", 1.0),
        ("charge_temperature_low_trip_degc", 0.0), ("temperature_low_warning_degc", -10.0),
        ("temperature_low_alarm_degc", -20.0), ("over_current_trip_factor", 1.25), ("over_current_floor_c", 0.02),
        ("over_current_warning_share", 0.05), ("over_current_alarm_share", 0.10), ("loop_late_periods", 3.0),
        ("cell_plausible_min_v", 0.5), ("cell_plausible_max_v", 5.0), ("hold_s", 0.6),
    ],
)  # fmt: skip
def test_the_defaults_are_those_of_the_design(name, value):
    assert plant(checked(tables())).thresholds[name] == pytest.approx(value)
