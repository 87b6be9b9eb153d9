"""`bmsd points`: the register map as a person, a spreadsheet and a program read it."""

from __future__ import annotations

import csv
import json
import re
from html.parser import HTMLParser

from bmsd.model.points import listed, map_hash
from tests.programs import ROOT, bmsd

RACK = ROOT / "deploy" / "rack-8x16s.toml"


def test_the_table_names_every_point_once_and_fits_repeats_in_one_line() -> None:
    text = bmsd("points").stdout
    assert f"0x{map_hash():08X}" in text
    names = re.findall(r"^ *[\d-]+ 4\d{4} \w+ +w? +\S.*? ([a-z]\w+) {2,}", text, re.MULTILINE)
    assert len(names) == len(set(names)) > 150
    assert {"voltage_v", "string_n_state", "module_n_cell_m_mv", "fault_cel_001"} <= set(names)
    assert re.search(r"^1832-1855 41833 uint16 +mV +module_n_cell_m_mv +Voltage of cell m\.$", text, re.MULTILINE)
    assert re.search(r"^ +204 40205 int32 +w W +power_setpoint ", text, re.MULTILINE)


def test_json_is_a_list_of_every_point_with_what_a_program_needs() -> None:
    rows = json.loads(bmsd("points", "--json").stdout)
    assert [row["name"] for row in rows] == [point.name for point in listed()]
    by_name = {row["name"]: row for row in rows}
    assert by_name["current_a"] == {
        "name": "current_a", "unit": "A", "address": 102, "hex": "0x0066", "holding": 40103, "input": 30103,
        "registers": 2, "type": "float32", "writable": False, "low": None, "high": None,
        "meaning": "Rack current, positive charges.",
    }  # fmt: skip
    assert (by_name["reserve_soc"]["writable"], by_name["reserve_soc"]["high"]) == (True, 1000)


def test_csv_and_json_say_the_same_of_the_rack_of_a_file() -> None:
    rows = list(csv.DictReader(bmsd("points", "--csv", "-c", RACK).stdout.splitlines()))
    objects = json.loads(bmsd("points", "--json", "-c", RACK).stdout)
    assert [row["name"] for row in rows] == [row["name"] for row in objects]
    assert [int(row["address"]) for row in rows] == [row["address"] for row in objects]
    names = {row["name"] for row in rows}
    assert {"string_8_state", "module_8_cell_16_mv"} <= names
    assert not {"module_1_cell_17_mv", "module_9_cell_1_mv"} & names


class Cells(HTMLParser):
    """Counts rows and unclosed tags."""

    rows = 0
    open = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:  # noqa: ARG002
        self.rows += tag == "tr"
        self.open += tag in ("table", "tr", "td", "th")

    def handle_endtag(self, tag: str) -> None:
        self.open -= tag in ("table", "tr", "td", "th")


def test_html_has_a_row_for_every_point() -> None:
    text = bmsd("points", "--html").stdout
    parser = Cells()
    parser.feed(text)
    assert (parser.rows, parser.open) == (len(listed()) + 1, 0)
    assert "inverter&#x27;s side" in text


def test_two_forms_at_once_and_a_wrong_file_are_told() -> None:
    done = bmsd("points", "--csv", "--json")
    assert (done.returncode, done.stderr) == (2, "--csv --json: expected one of them\n")
    assert bmsd("points", "-c", "none.toml").returncode == 2
