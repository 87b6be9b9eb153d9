"""[fieldbus.mapped] without its DBC: what belongs together, and what must be said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bmsd.config.load import board_map, checked, monitor_only, switches
from bmsd.config.mapping import OF_UNITS
from bmsd.model.board_map import Ask, Quantity, Source
from tests.config.config_file import about, complaints, tables

M = "fieldbus.mapped"
VALUES: list[dict[str, Any]] = [
    {"quantity": "cell_v", "message": "A", "signals": ["a{cell}"]},
    {"quantity": "temperature_degc", "message": "A", "signals": ["t{sensor}"]},
    {"quantity": "current_a", "message": "B", "signals": ["i"], "id_step": 1},
]
MAPPED: dict[str, Any] = {
    "fieldbus.driver": "mapped", f"{M}.dbc": "x.dbc", f"{M}.values": VALUES, f"{M}.current_sign": "charge_positive"
}  # fmt: skip
CONTACTORS = {"quantity": "contactors", "message": "C", "signals": ["c"], "id_step": 1}


def entry(number: int, **changes: Any) -> list[dict[str, Any]]:
    return [value | changes if place == number else value for place, value in enumerate(VALUES, start=1)]


def said(**changes: Any) -> list[str]:
    return complaints(MAPPED | {f"{M}.{name}": value for name, value in changes.items()})


def test_a_complete_map_is_right() -> None:
    assert said() == []


@pytest.mark.parametrize(
    ("path", "right", "wrong"),
    [
        ("dbc", {"dbc": "y"}, {"dbc": ""}),
        ("values", {}, {"values": VALUES[1:]}),
        ("values", {}, {"values": VALUES[:1] + VALUES[2:]}),
        ("values", {"values": VALUES[:2], "units": "slave", "current_sign": "not_measured"},
         {"values": VALUES[:2], "current_sign": "not_measured"}),
        ("current_sign", {"current_sign": "discharge_positive"}, {"current_sign": "not_measured"}),
        ("current_sign", {"values": VALUES[:2], "units": "slave", "current_sign": "not_measured"},
         {"values": VALUES[:2], "units": "slave"}),
        ("values.quantity", {}, {"units": "slave"}),
        ("values.factor", {"values": entry(1, factor=-0.001)}, {"values": entry(1, factor=0.0)}),
        ("values.open_value", {"values": [*VALUES, CONTACTORS | {"closed_value": 0, "open_value": 1}]},
         {"values": [*VALUES, CONTACTORS | {"closed_value": 0}]}),
        ("values.select_value", {"values": entry(1, select="S", select_value="1")}, {"values": entry(1, select="S")}),
        ("values.select_value", {}, {"values": entry(1, select_value="1")}),
        ("values.signals", {"values": entry(1, signals=["a", "b"])}, {"values": entry(3, signals=["a", "b"])}),
        ("values.items", {"values": entry(2, items=[1])}, {"values": entry(3, items=[1])}),
        ("values.modules", {"values": entry(2, modules=[1])}, {"values": entry(3, modules=[1])}),
        ("stale_s", {"stale_s": 0.6}, {"stale_s": 0.601}),
        ("temperature_stale_s", {"temperature_stale_s": 3.0}, {"temperature_stale_s": 3.01}),
        ("accept_unenforced", {"accept_unenforced": True, "values": [*VALUES, CONTACTORS]},
         {"accept_unenforced": True}),
    ],
)  # fmt: skip
def test_what_belongs_together(path: str, right: dict[str, Any], wrong: dict[str, Any]) -> None:
    assert said(**right) == []
    lines = about(f"{M}.{path}", said(**wrong))
    assert lines, said(**wrong)


def test_one_string_may_be_accepted_without_its_contactors() -> None:
    changes = MAPPED | {f"{M}.accept_unenforced": True, "layout.strings": 1}
    assert complaints(changes) == []


def test_a_map_that_no_driver_reads_is_refused() -> None:
    assert about(M, complaints({f"{M}.dbc": "x.dbc"})) == [
        'fieldbus.mapped: not used with fieldbus.driver "slave"; expected driver = "mapped"'
    ]
    assert about(M, complaints({"fieldbus.driver": "mapped"})) == []
    assert about(f"{M}.dbc", complaints({"fieldbus.driver": "mapped"}))


@pytest.mark.parametrize(
    ("changes", "monitors", "commands"),
    [
        ({}, True, False),
        ({"accept_unenforced": True, "values": [*VALUES, CONTACTORS]}, False, False),
        ({"units": "slave", "values": VALUES[:2], "current_sign": "not_measured"}, False, True),
    ],
)
def test_without_somebody_who_enforces_or_accepts_the_site_is_monitor_only(
    changes: dict[str, Any], monitors: bool, commands: bool
) -> None:
    found = checked(tables(MAPPED | {f"{M}.{name}": value for name, value in changes.items()}))
    assert monitor_only(found) is monitors
    assert switches(found) is commands
    assert not monitor_only(checked(tables()))
    assert switches(checked(tables()))


def test_the_section_becomes_the_map_with_its_file_beside_the_configuration() -> None:
    changes = {
        f"{M}.values": entry(
            1, items=[2, 3], per_message=4, id_step=2, factor=0.001, select="S", select_value="{cell}"
        ),
        f"{M}.requests": [{"id": 0x7F0, "data": "01 fF"}, {"id": 0x1FFFFFFF, "extended": True}],
        f"{M}.current_sign": "discharge_positive",
    }
    made = board_map(checked(tables(MAPPED | changes)).fieldbus.mapped, Path("/etc/bmsd"))
    assert made.dbc == Path("/etc/bmsd/x.dbc")
    assert made.sources[0] == Source(
        Quantity.CELL_V, "A", ("a{cell}",), items=(2, 3), per_message=4, id_step=2, factor=0.001, select="S",
        select_value="{cell}",
    )  # fmt: skip
    assert made.asks == (Ask(0x7F0, False, b"\x01\xff"), Ask(0x1FFFFFFF, True, b""))
    assert made.discharge_positive
    assert board_map(checked(tables(MAPPED | {f"{M}.dbc": "/a/b.dbc"})).fieldbus.mapped, Path("/x")).dbc == Path(
        "/a/b.dbc"
    )


def test_every_quantity_can_be_configured_and_those_of_units_are_quantities() -> None:
    for quantity in Quantity:
        values = [*VALUES, {"quantity": quantity.value, "message": "M", "signals": ["s"]}]
        assert about(f"{M}.values.quantity", said(values=values)) == []
    assert set(OF_UNITS) < {quantity.value for quantity in Quantity}


def test_a_mistake_inside_an_entry_is_found_by_its_number_and_its_name() -> None:
    lines = complaints(MAPPED | {f"{M}.values": [VALUES[0], VALUES[1] | {"mesage": "x"}, VALUES[2] | {"factor": "1"}]})
    assert "fieldbus.mapped.values, entry 2.mesage: unknown setting; did you mean message?" in lines
    assert any(line.startswith('fieldbus.mapped.values, entry 3.factor: "1"; expected a number') for line in lines)
    assert "written as [[fieldbus.mapped.values]]" in complaints(MAPPED | {f"{M}.values": [3]})[0]
