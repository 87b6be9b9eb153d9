"""Frames written by hand from physical values: what is asked is what is written, or it is said."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from bmsd.errors import ConfigError
from bmsd.inverters.encode import ALARM_NAMES, KEYS, encode_object
from bmsd.inverters.profile import load_profile, options_from_text
from bmsd.inverters.trace import Decoder, decode_lines
from bmsd.model.row import Alarm

GOLDEN = list(csv.DictReader(Path(__file__).with_name("pylontech_lv_golden.csv").open()))
FULL: dict[str, Any] = {
    "cvl_v": 56.8,
    "ccl_a": 100,
    "dcl_a": 120.05,
    "dvl_v": 44.81,
    "soc": 0.88,
    "soh": 0.94,
    "voltage_v": 49.86,
    "current_a": -27,
    "temperature_degc": 36.3,
    "modules_online": 6,
    "manufacturer": "PYLON",
    "charge_enabled": True,
    "discharge_enabled": True,
    "force_charge": False,
    "full_charge_requested": False,
    "alarms": [],
    "warnings": ["high_voltage", "contactor"],
}


def encoded(values: Any, **options: Any) -> tuple[list[str], list[str]]:
    text = values if isinstance(values, str) else json.dumps(values)
    return encode_object(text, "pylontech_lv", {"dlc": "exact", **options})


def complaints(values: Any, **options: Any) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        encoded(values, **options)
    return caught.value.complaints


def test_a_full_object_becomes_the_full_set_as_candump_writes_it() -> None:
    assert set(FULL) == set(KEYS)
    lines, notes = encoded(FULL)
    assert lines == [
        "(0000000000.000000) can0 351#3802E803B004C101",
        "(0000000000.020000) can0 355#58005E00",
        "(0000000000.040000) can0 356#7A13F2FE6B01",
        "(0000000000.060000) can0 359#0000020806504E",
        "(0000000000.080000) can0 35C#C000",
        "(0000000000.100000) can0 35E#50594C4F4E202020",
    ]
    assert notes == []


def test_eight_bytes_are_the_default_length() -> None:
    lines = encode_object(json.dumps(FULL), "pylontech_lv").lines
    assert lines[1].endswith("355#58005E0000000000")
    assert all(len(line.split("#")[1]) == 16 for line in lines)


@pytest.mark.parametrize("row", GOLDEN, ids=lambda row: f"{row['can_id']}-{row['data']}")
def test_golden_values_become_exactly_their_frame(row: dict[str, str]) -> None:
    lines, notes = encoded(row["values"])
    assert [line.split()[-1] for line in lines] == [f"{row['can_id']}#{row['data']}"]
    assert len(notes) == 5


def test_a_missing_key_leaves_out_its_frame_and_says_so() -> None:
    lines, notes = encoded({key: value for key, value in FULL.items() if key not in ("soh", "cvl_v", "current_a")})
    assert [line.split()[-1][:3] for line in lines] == ["359", "35C", "35E"]
    assert notes == [
        "351 not written: cvl_v not given",
        "355 not written: soh not given",
        "356 not written: current_a not given",
    ]


def test_null_is_not_known() -> None:
    assert encoded({"soc": None, "soh": 1})[1][1] == "355 not written: soc not given"


def test_lists_and_requests_that_are_missing_are_not_raised() -> None:
    lines, _ = encoded({"modules_online": 2, "charge_enabled": True, "discharge_enabled": False})
    assert [line.split()[-1] for line in lines] == ["359#0000000002504E", "35C#8000"]


def test_limits_and_flags_are_made_to_agree_and_it_is_said() -> None:
    lines, notes = encoded(FULL | {"charge_enabled": False, "force_charge": True, "dcl_a": 0.04})
    assert lines[0].endswith("351#380200000000C101")
    assert lines[4].endswith("35C#0000")
    assert [note.split(", so that")[0] for note in notes] == [
        "ccl_a: 100 written as 0.0",
        "dcl_a: 0.04 written as 0.0",
        "discharge_enabled: true written as false",
        "force_charge: true written as false",
    ]


def test_a_force_charge_during_high_voltage_is_refused_with_a_note() -> None:
    _, notes = encoded(FULL | {"force_charge": True, "alarms": ["high_voltage"]})
    assert notes == ["force_charge: true written as false, so that limits, flags and requests agree"]
    assert encoded(FULL | {"force_charge": True})[0][4].endswith("35C#F000")


def test_every_alarm_name_can_be_written() -> None:
    assert list(ALARM_NAMES) == [alarm.value for alarm in Alarm]
    for name in ALARM_NAMES:
        lines, _ = encoded({"modules_online": 1, "alarms": [name]})
        assert not lines[0].endswith("359#0000000001504E")


def test_options_change_the_bytes_and_the_range() -> None:
    high = {"voltage_v": 812.3, "current_a": 0, "temperature_degc": 20}
    assert complaints(high) == ("voltage_v: 812.3: must be -327.68 to 327.67 V",)
    assert encoded(high, voltage_scale=0.1)[0][0].endswith("356#BB1F0000C800")
    assert encoded({"manufacturer": "SHEnergy"})[0][0].endswith("35E#5348456E65726779")


def test_all_complaints_come_at_once() -> None:
    text = """{"cvl_v": NaN, "dvl_v": 1e999, "ccl_a": -5, "dcl_a": true, "soc": 88, "soh": "good", "color": 1,
        "voltage_v": 400, "current_a": [], "modules_online": 2.5, "manufacturer": "ÄÖÜ", "charge_enabled": 1,
        "alarms": ["high_voltage", "fire", 3], "warnings": "none", "temperature_degc": 20, "temperature_degc": 21}"""
    found = complaints(text, dlc="7")
    named = {complaint.split(":")[0] for complaint in found}
    wrong = {"cvl_v", "dvl_v", "ccl_a", "dcl_a", "soc", "soh", "color", "voltage_v", "current_a", "modules_online"}
    assert named == wrong | {"manufacturer", "charge_enabled", "alarms", "warnings", "temperature_degc"} | {
        "inverter option dlc"
    }
    assert len(found) == len(named)
    told = "\n".join(found)
    for part in (
        "ccl_a: -5: must be 0 to 3276.7 A",
        "soc: 88: must be 0 to 1",
        "color: unknown; known are cvl_v, ccl_a,",
        '"fire", 3: unknown; known are general, high_voltage',
        "temperature_degc: given twice",
        "cvl_v: NaN: must be a finite number",
        "must be one of pad8, exact",
    ):
        assert part in told


@pytest.mark.parametrize("text", ["", "{", "nonsense", "[1, 2]", "3", "null", '"text"', "[" * 100_000, "9" * 5000])
def test_what_is_no_json_object_is_one_complaint(text: str) -> None:
    assert len(complaints(text)) == 1


@pytest.mark.parametrize("key", ["cvl_v", "ccl_a", "dcl_a", "dvl_v", "voltage_v", "current_a", "temperature_degc"])
def test_the_ends_of_a_range_are_inside_it(key: str) -> None:
    profile = load_profile("pylontech_lv")
    can_id = next(can_id for can_id, names in profile.needs.items() if key in names)
    signal = profile.table.messages[can_id, False].get_signal_by_name(key)
    assert signal.minimum is not None
    assert signal.maximum is not None
    for end, beyond in ((signal.minimum, signal.minimum - 0.001), (signal.maximum, signal.maximum + 0.001)):
        assert encoded(FULL | {key: end})[0]
        assert len(complaints(FULL | {key: beyond})) == 1


def test_options_of_a_command_line_get_their_types() -> None:
    known = load_profile("pylontech_lv").options_known
    texts = ["dlc=exact", "zero_current_raw=1", "voltage_scale=0.1", "manufacturer=A=B", "x=1"]
    assert options_from_text(known, texts) == {
        "dlc": "exact",
        "zero_current_raw": 1,
        "voltage_scale": 0.1,
        "manufacturer": "A=B",
        "x": "1",
    }
    with pytest.raises(ConfigError, match="'dlc': expected NAME=VALUE"):
        options_from_text(known, ["dlc"])


tenths = st.integers(1, 32767).map(lambda raw: raw / 10)
full_objects = st.fixed_dictionaries(
    {
        "cvl_v": tenths,
        "ccl_a": tenths,
        "dcl_a": tenths,
        "dvl_v": tenths,
        "soc": st.integers(0, 100).map(lambda percent: percent / 100),
        "soh": st.integers(0, 100).map(lambda percent: percent / 100),
        "voltage_v": st.integers(-32768, 32767).map(lambda raw: raw / 100),
        "current_a": st.integers(-32768, 32767).map(lambda raw: raw / 10),
        "temperature_degc": st.integers(-1000, 3000).map(lambda raw: raw / 10),
        "modules_online": st.integers(0, 255),
        "manufacturer": st.text("ABCxyz 0123-", min_size=1, max_size=8).filter(lambda text: text == text.rstrip()),
        "charge_enabled": st.just(True),
        "discharge_enabled": st.just(True),
        "force_charge": st.just(False),
        "full_charge_requested": st.booleans(),
        "alarms": st.just(["low_voltage"]),
        "warnings": st.just([]),
    }
)


@hypothesis_settings(deadline=None)
@given(full_objects)
def test_what_is_written_reads_back_as_the_same_values(values: dict[str, Any]) -> None:
    lines, notes = encoded(values)
    assert not notes
    shown: dict[str, Any] = {}
    for text in decode_lines(lines, Decoder.of_profile(load_profile("pylontech_lv"))):
        shown |= json.loads(text)["signals"]
    assert {key: shown[key] for key in values} == values
