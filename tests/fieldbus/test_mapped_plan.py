"""A map that does not fit its DBC or its rack is refused, all of it at once, by entry and with what was meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mapped_board import LAYOUT, VALUES, mapping, planned

from bmsd.errors import ConfigError
from bmsd.fieldbus.drivers.mapped.names import PlaceError, expand, targets
from bmsd.fieldbus.drivers.mapped.plan import plan
from bmsd.fieldbus.drivers.mapped.suits import Reach
from bmsd.model.board_map import Quantity, Source
from bmsd.model.frame import EXTENDED_FLAG
from bmsd.model.layout import Layout
from tests.third_party_board import DBC

REACH: Reach = {
    Quantity.CELL_V: (2.5, 3.75), Quantity.TEMPERATURE_DEGC: (-20.0, 60.0), Quantity.CURRENT_A: (-175.0, 175.0)
}  # fmt: skip


def changed(quantity: str, **changes: Any) -> list[dict[str, Any]]:
    """The entries with one of them changed."""
    return [{**value, **changes} if value["quantity"] == quantity else value for value in VALUES]


def refused(values: list[dict[str, Any]] | None = None, layout: Layout = LAYOUT, **settings: Any) -> list[str]:
    """What is said of a map, without the section's name; empty when it fits."""
    try:
        plan(mapping(values, **settings), layout, REACH)
    except ConfigError as error:
        return [line.removeprefix("fieldbus.mapped.") for line in error.complaints]
    return []


def test_the_example_fits() -> None:
    assert refused() == []


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (changed("cell_v", message="Board_1_Cels"),
         "values, entry 1.message: Board_1_Cels is not in mapped-board.dbc; did you mean Board_1_Cells?"),
        (changed("temperature_degc", signals=["Senser_{sensor}"]),
         "values, entry 2.signals: Senser_1 is not in Board_1_Temperatures; did you mean Sensor_1?"),
        (changed("current_a", signals=["xyz"]),
         "values, entry 3.signals: xyz is not in Pack; "
         "known: PackCurrent, PackVoltage, MainContactors, Alive, Checksum"),
        (changed("cell_v", signals=["Cell_{cel:02d}_Voltage"]),
         "values, entry 1.signals: no place {cel:02d}; did you mean cell?"),
        (changed("current_a", signals=["{module}"]),
         "values, entry 3.signals: no place {module}; known: string, string0"),
        (changed("cell_v", message="Board_{block}_Cells"),
         "values, entry 1.message: no place {block}; {block} needs per_message"),
        (changed("cell_v", signals=["Cell_{cell:02d"]),
         "values, entry 1.signals: Cell_{cell:02d: expected places such as {cell} or {cell:02d}"),
        (changed("cell_v", id_step=0),
         "values, entry 1.signals: Cell_01_Voltage in Board_1_Cells (100h, page 0) is both cell 1 of module 1 of "
         "string 1 and cell 1 of module 2 of string 1; expected names that differ, or id_step"),
        (changed("temperature_degc", signals=["Sensor_1"]),
         "values, entry 2.signals: Sensor_1 in Board_1_Temperatures (110h) is both sensor 1 of module 1 of string 1 "
         "and sensor 2 of module 1 of string 1; expected names that differ, or id_step"),
        (changed("cell_v", id_step=0x700),
         "values, entry 1.id_step: cell 1 of module 2 of string 1 would have the identifier 800; expected at most 7FF"),
        (changed("cell_v", id_step=0x10),
         "values, entry 2.id_step: sensor 1 of module 1 of string 1 would have the identifier 110 of Board_1_Cells"),
        (changed("cell_v", factor=1.0),
         "values, entry 1.signals: Cell_01_Voltage in Board_1_Cells is in mV by the DBC; expected factor = 0.001"),
        (changed("string_v", signals=["PackCurrent"]),
         "values, entry 4.signals: PackCurrent in Pack is in A by the DBC; expected V"),
        (changed("cell_v", factor=0.0021),
         "values, entry 1.signals: Cell_01_Voltage in Board_1_Cells is in mV by the DBC; expected factor = 0.001"),
        (changed("cell_v", factor=0.0005),
         "values, entry 1.signals: Cell_01_Voltage in Board_1_Cells tells 0 to 3 V; expected at least 2.5 to 3.75 V, "
         "so that protections see what they protect from"),
        (changed("contactors", closed_value=4),
         "values, entry 5.signals: MainContactors in Pack cannot be closed_value 4"),
        (changed("contactors", open_value=4),
         "values, entry 5.signals: MainContactors in Pack cannot be open_value 4"),
        (changed("cell_v", strings=[2]), "values, entry 1.strings: 2; the rack has 1 (layout)"),
        (changed("cell_v", modules=[3]), "values, entry 1.modules: 3; the rack has 2 (layout)"),
        (changed("cell_v", items=[17]), "values, entry 1.items: 17; a module has 16 (layout)"),
        (changed("cell_v", items=[1, 2]),
         "values: cell_v: nothing measures cell 3 of module 1 of string 1 and 27 more"),
        (changed("cell_v", signals=["Cell_01_Voltage", "Cell_02_Voltage"]),
         "values, entry 1.signals: 2 names; expected one with places, or 16, one for each item"),
        ([*VALUES, {**VALUES[3], "signals": ["PackCurrent"], "quantity": "current_a"}],
         "values, entry 6.quantity: string 1 is measured by another entry, too"),
        (changed("current_a", select="Alive", select_value="x"),
         "values, entry 3.select: select_value 'x'; expected a whole number"),
        (changed("current_a", select="Alife", select_value="1"),
         "values, entry 3.select: Alife is not in the message; did you mean Alive?"),
        (changed("current_a", select="Alive", select_value="256"),
         "values, entry 3.select: Alive cannot say 256, or is not in every frame itself"),
        (changed("cell_v", select="Page", select_value="{cell0}"),
         "values, entry 1.select: Cell_02_Voltage is not there when Page is 1"),
    ],
)  # fmt: skip
def test_every_mistake_is_named_with_its_entry_and_what_was_expected(values: list[dict[str, Any]], said: str) -> None:
    lines = refused(values)
    assert said in lines, lines


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"alive_signal": "Alife"}, "alive_signal: Alife is in none of the messages that are used"),
        ({"checksum_signal": "MainContactors"}, "checksum_signal: MainContactors in Pack: expected a whole byte"),
        ({"alive_signal": "Cell_01_Voltage"},
         "alive_signal: Cell_01_Voltage in Board_1_Cells: expected a whole number that is in every frame"),
        ({"requests": [{"id": 0x800}]}, "requests, entry 1.id: 800h; expected at most 7FFh, or extended = true"),
        ({"requests": [{"id": 0x101}]},
         "requests, entry 1.id: 101h is Board_1_Cells, which the boards send; expected another"),
        ({"requests": [{"id": 0x0DB51200, "extended": True}], "units": "slave"},
         "requests, entry 1.id: DB51200h belongs to the contactor units' protocol; expected another"),
    ],
)  # fmt: skip
def test_what_belongs_to_the_whole_map_is_checked_too(settings: dict[str, Any], said: str) -> None:
    assert said in refused(**settings)


def test_all_mistakes_are_told_at_once_and_what_repeats_is_counted() -> None:
    values = changed("cell_v", signals=["Zelle_{cell}"])
    values = [{**v, "message": "Pak"} if v["quantity"] in ("current_a", "string_v") else v for v in values]
    lines = refused(values, alive_signal="no", requests=[{"id": 0x900}])
    assert [line.split(":")[0] for line in lines] == [
        *["values, entry 1.signals"] * 5, "values, entry 3.message", "values, entry 4.message", "alive_signal",
        "requests, entry 1.id",
    ]  # fmt: skip
    assert lines[4] == "values, entry 1.signals: and 12 more like these"


def test_boards_on_the_identifiers_of_the_units_cannot_share_their_bus(tmp_path: Path) -> None:
    dbc = tmp_path / "x.dbc"
    dbc.write_text(DBC.read_text().replace("2566848016", str(0x80000000 | 0x19B51081)))
    assert refused(dbc=dbc) == []
    assert "units: Pack has an identifier of the contactor units' own protocol" in refused(dbc=dbc, units="slave")


@pytest.mark.parametrize("content", ["", "nonsense", 'BO_ 1 A: 8 B\n SG_ X : 0|8@1+ (1,0) [0|0] "" B\n SG_', None])
def test_a_file_that_is_no_dbc_is_one_complaint(content: str | None, tmp_path: Path) -> None:
    dbc = tmp_path / "bad.dbc"
    if content is not None:
        dbc.write_text(content)
    (line,) = refused(dbc=dbc)
    assert "bad.dbc" in line


def test_a_can_fd_message_is_refused(tmp_path: Path) -> None:
    dbc = tmp_path / "fd.dbc"
    dbc.write_text(DBC.read_text().replace("Pack: 8 Board", "Pack: 12 Board"))
    assert any("12 bytes; expected at most 8" in line for line in refused(dbc=dbc))


def test_a_signal_for_several_pages_needs_to_know_which(tmp_path: Path) -> None:
    dbc = tmp_path / "multi.dbc"
    text = DBC.read_text() + "\nSG_MUL_VAL_ 256 Cell_01_Voltage Page 0-0, 9-9;\n"
    dbc.write_text(text)
    assert "values, entry 1.select: Cell_01_Voltage is there for 2 values of Page; say which" in refused(dbc=dbc)


@pytest.mark.parametrize(
    ("pattern", "numbers", "name"),
    [
        ("Cell_{cell:02d}_V", {"cell": 7}, "Cell_07_V"),
        ("Cell_{cell:2}", {"cell": 7}, "Cell_ 7"),
        ("M{module}C{cell0}", {"module": 3, "cell0": 0}, "M3C0"),
        ("plain", {}, "plain"),
    ],
)
def test_places_are_filled(pattern: str, numbers: dict[str, int], name: str) -> None:
    assert expand(pattern, numbers) == name


@pytest.mark.parametrize(
    "pattern", ["{cell.__class__}", "{cell!r}", "{cell:>9}", "{}", "{cell:{cell}}", "{{cell}}", "}"]
)
def test_nothing_else_than_numbers_is_filled_in(pattern: str) -> None:
    with pytest.raises(PlaceError):
        expand(pattern, {"cell": 1})


def test_numbers_count_within_module_string_rack_and_message() -> None:
    source = Source(Quantity.CELL_V, "", (), per_message=4)
    found = {target.place: target for target in targets(source, Layout(2, 3, 6, 1))}
    assert len(found) == 36
    last = found[35]
    assert last.name == "cell 6 of module 3 of string 2"
    wanted = {"string": 2, "module": 3, "board": 6, "cell": 6, "string_cell": 18, "block": 2, "string_block": 5}
    assert {name: last.numbers[name] for name in wanted} == wanted
    assert (last.numbers["cell0"], last.numbers["block0"], last.repeat) == (5, 1, 5)


def test_messages_by_block_and_lists_of_names_and_a_message_for_each_module(tmp_path: Path) -> None:
    """The styles that the example does not show: one message per block, per module, and names one by one."""
    dbc = tmp_path / "blocks.dbc"
    parts = ['VERSION ""\nNS_ :\nBS_:\nBU_: B\n']
    for module in (1, 2):
        for block in (1, 2):
            parts.append(f"BO_ {100 * module + block} Module_{module}_Cells_{block}: 8 B\n")
            parts += [
                f' SG_ V{cell:03d} : {16 * k}|16@1+ (0.001,0) [0|0] "V" B\n'
                for k, cell in enumerate(range(4 * block - 3, 4 * block + 1))
            ]
        parts.append(f"BO_ {900 + module} Temp_{module}: 8 B\n")
        parts += [f' SG_ {name} : {8 * k}|8@1+ (1,-40) [0|0] "degC" B\n' for k, name in enumerate(("Left", "Right"))]
    parts.append('BO_ 950 Amps: 8 B\n SG_ I : 0|16@1- (0.1,0) [0|0] "A" B\n')
    dbc.write_text("".join(parts))
    values = [
        {
            "quantity": "cell_v",
            "message": "Module_{module}_Cells_{block}",
            "signals": ["V{cell:03d}"],
            "per_message": 4,
        },
        {"quantity": "temperature_degc", "message": "Temp_{module}", "signals": ["Left", "Right"]},
        {"quantity": "current_a", "message": "Amps", "signals": ["I"]},
    ]
    made = planned(Layout(1, 2, 8, 2), values=values, dbc=dbc)
    assert sorted(made.heard) == [101, 102, 201, 202, 901, 902, 950]
    cells = made.columns[Quantity.CELL_V].slot.tolist()
    assert [made.slots[slot] for slot in cells[::4]] == [
        "Module_1_Cells_1 (65h)", "Module_1_Cells_2 (66h)", "Module_2_Cells_1 (C9h)", "Module_2_Cells_2 (CAh)",
    ]  # fmt: skip


def test_extended_and_standard_identifiers_are_told_apart() -> None:
    assert 0x18FEFE10 | EXTENDED_FLAG in planned().heard
    assert 0x18FEFE10 not in planned().heard


def test_without_a_unit_in_the_dbc_steps_that_are_too_coarse_show_a_missing_factor(tmp_path: Path) -> None:
    dbc = tmp_path / "unitless.dbc"
    dbc.write_text(DBC.read_text().replace('"mV"', '""'))
    said = "Cell_01_Voltage in Board_1_Cells has steps of 0.1 V; expected at most 0.02 V: is a factor missing?"
    assert f"values, entry 1.signals: {said}" in refused(changed("cell_v", factor=1.0), dbc=dbc)
    assert refused(dbc=dbc) == []


@pytest.mark.parametrize(("encoding", "unit"), [("cp1252", "°C"), ("utf-8", "°C"), ("cp1252", "C")])
def test_degrees_are_degrees_however_the_dbc_writes_them(encoding: str, unit: str, tmp_path: Path) -> None:
    dbc = tmp_path / "degrees.dbc"
    dbc.write_text(DBC.read_text().replace('"degC"', f'"{unit}"'), encoding=encoding)
    assert refused(dbc=dbc) == []
    dbc.write_text(DBC.read_text().replace('"degC"', '"°F"'), encoding=encoding)
    said = "values, entry 2.signals: Sensor_1 in Board_1_Temperatures is in"
    assert any(line.startswith(said) and line.endswith("expected degC") for line in refused(dbc=dbc))
