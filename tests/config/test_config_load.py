"""From a file to settings: whatever is in it, either settings come out or one list of complaints."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bmsd.config import load as loading
from bmsd.config.demo import demo_toml
from bmsd.config.described import sections
from bmsd.config.load import Option, check_inverter, checked, fingerprint, load, parse, plant
from bmsd.config.schema import Settings
from bmsd.errors import ConfigError
from bmsd.inverters.profile import profile_class
from tests.config.config_file import RIGHT, about, complaints, tables
from tests.reference_data import reference

GOOD = demo_toml(2, 2, "/tmp/field", "/tmp/inverter", "/tmp/state")


def refusal(text: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        parse(text, name="rack.toml")
    return caught.value.complaints


def file_refusal(path: Path) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        load(path)
    return caught.value.complaints


def test_a_file_becomes_settings(tmp_path):
    path = tmp_path / "rack.toml"
    path.write_text(GOOD)
    assert isinstance(load(path), Settings)
    assert load(str(path)) == load(path)


@pytest.mark.parametrize("prefix", [b"\xef\xbb\xbf", b""])
def test_windows_line_ends_and_a_byte_order_mark_do_no_harm(tmp_path, prefix):
    path = tmp_path / "rack.toml"
    path.write_bytes(prefix + GOOD.replace("\n", "\r\n").encode())
    assert load(path).rack.name == "demo"


def test_a_missing_file_a_folder_and_a_device_are_named(tmp_path):
    assert file_refusal(tmp_path / "no.toml") == (f"{tmp_path}/no.toml: no such file",)
    assert "is a folder" in file_refusal(tmp_path)[0]
    assert "is not a file" in file_refusal(Path("/dev/zero"))[0]
    os.mkfifo(tmp_path / "pipe")
    assert "is not a file" in file_refusal(tmp_path / "pipe")[0]
    assert "cannot be read" in file_refusal(tmp_path / "a\0b")[0]
    assert "cannot be read" in file_refusal(tmp_path / ("a" * 300))[0]


def test_a_file_that_cannot_be_read_says_why():
    assert file_refusal(Path("/proc/self/mem")) == ("/proc/self/mem: cannot be read: Input/output error",)


def test_another_encoding_is_named_with_its_line(tmp_path):
    path = tmp_path / "rack.toml"
    path.write_bytes("[rack]\nname = 'K\u00e4se'\n".encode("latin-1"))
    assert "line 2: not UTF-8, perhaps another encoding" in file_refusal(path)[0]
    path.write_bytes(GOOD.encode("utf-16"))
    assert "UTF-16" in file_refusal(path)[0]


def test_a_huge_file_is_refused_unread(tmp_path):
    path = tmp_path / "rack.toml"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    assert "more than 1048576 bytes" in file_refusal(path)[0]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("[rack]\nname = ", 2, "Invalid value"),
        ("[cell]\nmax_v = 3,65\n", 2, "decimal point"),
        ("[cell]\nmax_v = 3,65 # volts\n", 2, "decimal point"),
        ("[rack]\nname = 'a'\nname = 'b'\n", 3, "is it there twice?"),
        ("[rack]\nname = 'a'\n\n[rack]\n", 4, "is it there twice?"),
        ("[rack]\nname = 'a'\n[cell\n", 3, "[cell"),
        ("[rack]\r\nname = 'a'\r\nx\r\n", 3, 'in "x"'),
    ],
)
def test_a_mistake_in_the_toml_is_named_with_its_line(text, line, words):
    (complaint,) = refusal(text)
    assert complaint.startswith(f"rack.toml, line {line}: ")
    assert words in complaint
    assert "\n" not in complaint


def test_toml_that_ends_too_early_names_its_last_line():
    assert refusal("b = 1\na = [1,\n")[0].startswith("rack.toml, line 2: Invalid value at the end of the file")


def test_absurd_toml_is_a_complaint_too():
    assert "nested too deeply" in refusal("a = " + "[" * 100_000)[0]
    assert refusal("a = " + "1" * 5000)[0].startswith("rack.toml: not TOML")


def test_an_empty_file_asks_for_every_required_section():
    asked = {line.split(":")[0] for line in refusal("")}
    assert asked == {name for name in sections() if name in RIGHT}


def test_everything_that_is_wrong_is_told_in_one_go():
    lines = complaints({
        "rack.name": "", "cell.max_v": 3650, "cell.colour": "blue", "protection.over_current_alarm_share": 10,
        "limits.charge_by_temperature": {"degc": [1.0, 50.0], "share": [0.5, 0.0]}, "inverter.channel": "can0",
        "string.precharge_ohm": 100.0, "log.level": "loud", "balance": 3, "nonsense.a": 1,
        "inverter.options.bad": [1], "charge.absorption_v": 3.6,
    })  # fmt: skip
    expected = (
        "rack.name", "cell.max_v", "cell.colour", "protection.over_current_alarm_share", "balance", "log.level",
        "nonsense", "inverter.options.bad", "inverter.channel", "string.precharge_ohm", "charge.absorption_v",
        "limits.charge_by_temperature.share",
    )  # fmt: skip
    for path in expected:
        assert any(line.startswith(f"{path}:") for line in lines), path
    assert len(lines) == len(set(lines))


def test_a_complaint_is_one_printable_line_whatever_the_file_holds():
    nasty = {"a\nb": 1, "\x1b[31m": 2, "x" * 500: 3, "": 4}
    lines = complaints({"cell": {**RIGHT["cell"], **nasty}, "rack.name": "x\ny\x1b[0m" * 99})
    assert len(lines) == len(nasty) + 1
    for line in lines:
        assert line.isprintable()
        assert len(line) < 400


@dataclass(frozen=True)
class Choice:
    """An option as inverter profiles describe theirs."""

    name: str
    choices: tuple[Any, ...]
    most_v: tuple[float, ...] = ()

    @property
    def default(self) -> Any:
        return self.choices[0]

    def complaint(self, value: object) -> str | None:
        return None if value in self.choices else f"{self.name}: {value!r}: must be one of {self.choices}"


PROFILES: dict[str, Sequence[Option]] = {"pylontech_lv": (Choice("dlc", ("pad8", "exact")),), "sma_si": ()}


@pytest.mark.parametrize(
    ("profile", "options", "words"),
    [
        ("pylontech_lv", {}, None),
        ("pylontech_lv", {"dlc": "exact"}, None),
        ("pylontech_lv", {"dlc": "long"}, "inverter.options.dlc: 'long': must be one of"),
        ("pylontech_lv", {"dlx": "exact"}, "inverter.options.dlx: unknown option of pylontech_lv; did you mean dlc?"),
        ("sma_si", {"dlc": "exact"}, "inverter.options.dlc: unknown option of sma_si"),
        (
            "pylontec",
            {},
            'inverter.profile: "pylontec"; expected one of pylontech_lv, sma_si; did you mean pylontech_lv?',
        ),
        ("byd", {}, 'inverter.profile: "byd"; expected one of pylontech_lv, sma_si'),
    ],
)
def test_profile_and_options_are_checked_against_those_that_are_known(profile, options, words):
    lines = check_inverter(profile, options, PROFILES)
    assert (words is None) == (lines == [])
    assert words is None or lines[0].startswith(words)
    data = tables({"inverter.profile": profile, "inverter.options": options})
    if words is None:
        assert checked(data, PROFILES).inverter.options == options
    else:
        with pytest.raises(ConfigError) as caught:
            checked(data, PROFILES)
        assert list(caught.value.complaints) == lines


def test_a_wrong_profile_is_told_together_with_all_else():
    with pytest.raises(ConfigError) as caught:
        checked(tables({"inverter.profile": "byd", "cell.max_v": 36.5, "inverter.options.x": [1]}), PROFILES)
    assert [line.split(":")[0] for line in caught.value.complaints] == [
        "cell.max_v", "inverter.options.x", "inverter.profile"
    ]  # fmt: skip


def test_the_plant_has_what_the_file_says():
    changes = {
        "layout.module_addresses": [[1, 3], [2, 4]], "layout.unit_addresses": [66, 65],
        "limits.charge_by_temperature": {"degc": [2, 10, 45], "share": [0, 1, 0]},
        "protection.cell_over_voltage_warning_v": 3.56, "inverter.options": {"dlc": "exact"},
        "charge.absorption_v": 3.5, "string.precharge_ohm": 40, "cell.charge_max_a": 100, "timing.poll_s": 0.21,
    }  # fmt: skip
    rack = plant(checked(tables(changes)))
    assert rack.layout.cell_shape == (2, 2, 16)
    assert rack.layout.module_addresses == ((1, 3), (2, 4))
    assert rack.layout.unit_addresses == (66, 65)
    assert rack.limits.charge_by_temperature.x == (2.0, 10.0, 45.0)
    assert rack.limits.charge_by_temperature.share == (0.0, 1.0, 0.0)
    assert rack.limits.discharge_by_cell_v.x == (2.9, 3.0, 3.1, 3.2)
    assert rack.thresholds["cell_over_voltage_warning_v"] == 3.56
    assert rack.thresholds["hold_s"] == pytest.approx(3 * 0.21)
    assert rack.inverter.options == {"dlc": "exact"}
    assert rack.charge.absorption_v == 3.5
    assert rack.ratings.precharge_ohm == 40.0
    assert rack.string_charge_max_a == 100.0
    assert rack.string_discharge_max_a == 140.0
    assert all(isinstance(value, float) for value in rack.thresholds.values())


def test_addresses_are_counted_up_where_the_file_names_none():
    layout = plant(checked(tables())).layout
    assert layout.module_addresses == ((1, 2), (3, 4))
    assert layout.unit_addresses == (65, 66)


def test_settings_and_plant_have_the_same_fields():
    """A field that only one of both had would be a setting without effect, or an effect without a setting."""
    settings_, rack = checked(tables()), plant(checked(tables()))
    for section, part, other in (
        ("cell", rack.cell, {"specification"}),
        ("string", rack.ratings, set()),
        ("charge", rack.charge, set()),
        ("balance", rack.balance, set()),
        ("estimation", rack.estimation, set()),
        ("limits", rack.limits, {"temperature_error_k"}),
        ("inverter", rack.inverter, {"interface", "channel"}),
    ):
        assert set(getattr(settings_, section).model_dump()) - other == {field.name for field in fields(part)} - {
            "fitted"
        }


def test_the_lfp_table_is_a_rest_voltage_table():
    cell = plant(checked(tables())).cell
    assert cell.ocv_soc[0] == 0.0
    assert cell.ocv_soc[-1] == 1.0
    assert (np.diff(cell.ocv_soc) > 0).all()
    assert (np.diff(cell.ocv_v) > 0).all()
    assert np.interp(0.5, cell.ocv_soc, cell.ocv_v) == pytest.approx(3.308)
    given_ = plant(checked(tables({"cell.ocv_soc": [0, 1], "cell.ocv_v": [2.6, 3.4]}))).cell
    assert given_.ocv_v.tolist() == [2.6, 3.4]


def test_the_lfp_table_is_what_was_measured():
    """The table's inner points against the slow branches of the reference cell, both at C/30 and 25 degC."""
    series = np.load(reference("plett_a123/a123_ocv_P25.npz"))
    branches = [_branch(series, "s1", discharge=True), _branch(series, "s3", discharge=False)]
    for soc, ocv_v in zip(loading.LFP_OCV_SOC[1:-1], loading.LFP_OCV_V[1:-1], strict=True):
        middle_v = np.mean([np.interp(soc, z, v) for z, v in branches])
        assert middle_v == pytest.approx(ocv_v, abs=0.002), soc


def _branch(series: Any, name: str, *, discharge: bool) -> tuple[Any, Any]:
    """SoC (rising) and voltage of one slow branch; current is positive when discharging there."""
    t, i, v = (series[f"{name}_{what}"] for what in "tiv")
    moved = np.concatenate([[0.0], np.cumsum(np.diff(t) * np.abs(i[1:]))])
    running = i > 0.01 if discharge else i < -0.01
    part = moved[running] - moved[running][0]
    share = part / part[-1]
    return (1.0 - share[::-1], v[running][::-1]) if discharge else (share, v[running])


def test_files_that_mean_the_same_have_the_same_fingerprint():
    same = fingerprint(checked(tables({"timing.poll_s": 0.2})))
    assert same == fingerprint(checked(tables()))
    assert same != fingerprint(checked(tables({"timing.poll_s": 0.21})))
    assert same != fingerprint(checked(tables({"sim.soc0": 0.5})))
    assert len(same) == 64


# --- whatever is thrown at it, only ConfigError --------------------------------------------------------------------

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=10**300, max_value=10**400),
    st.floats(),
    st.text(max_size=20),
    st.dates(),
    st.datetimes(),
    st.times(),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)),
    max_leaves=10,
)


def judged(call: Any, *arguments: Any) -> None:
    """Settings or a list of printable lines come out, nothing else."""
    refused: tuple[str, ...] | None = None
    try:
        assert isinstance(call(*arguments), Settings)
    except ConfigError as error:
        refused = error.complaints
    assert refused is None or refused
    assert all(line.isprintable() for line in refused or ())


def _paths() -> list[str]:
    deep = [f"{name}.{field}" for name, model in sections().items() for field in model.model_fields]
    return [*sections(), *deep, "sim", "limits.charge_by_cell_v.cell_v", "limits.charge_by_cell_v.share"]


@given(st.dictionaries(st.sampled_from(_paths()), VALUES, max_size=5))
@settings(max_examples=150, deadline=None)
def test_any_value_at_any_place_is_judged(changes):
    data: dict[str, Any] = tables()
    for path, value in changes.items():
        *homes, name = path.split(".")
        table = data
        for home in homes:
            if not isinstance(table.get(home), dict):
                table[home] = {}
            table = table[home]
        table[name] = value
    judged(checked, data, PROFILES)


@given(st.dictionaries(st.text(max_size=8), VALUES, max_size=5))
@settings(max_examples=50, deadline=None)
def test_any_tables_are_judged(data):
    judged(checked, data, PROFILES)


@given(st.text(max_size=200))
@settings(max_examples=100, deadline=None)
def test_any_text_is_judged(text):
    judged(parse, text)


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_a_damaged_file_is_judged(data):
    start = data.draw(st.integers(0, len(GOOD)))
    end = data.draw(st.integers(start, min(start + 12, len(GOOD))))
    judged(parse, GOOD[:start] + data.draw(st.text(max_size=6)) + GOOD[end:])


@given(st.binary(max_size=200))
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_judged(tmp_path, data):
    path = tmp_path / "rack.toml"
    path.write_bytes(data)
    judged(load, path)


def test_the_demo_is_plain_toml_even_with_strange_paths():
    strange = '/tmp/a "b" \\ c'
    data = tomllib.loads(demo_toml(1, 1, strange, "/b", "/s"))
    assert data["fieldbus"]["channel"] == strange


@pytest.mark.parametrize(
    ("cells", "scale", "enough"),
    # 327.67 V / 3.65 V = 89.8 cells
    [(89, 0.01, True), (90, 0.01, False), (90, 0.1, True), (410, 0.1, True)],
)
def test_the_measured_voltage_of_the_rack_must_fit_into_its_frame(cells, scale, enough):
    profiles = {"pylontech_lv": profile_class("pylontech_lv").options_known}
    modules = next(m for m in range(cells // 24 or 1, cells + 1) if cells % m == 0 and cells // m <= 24)
    changes = {
        "layout.strings": 1, "layout.modules_per_string": modules, "layout.cells_per_module": cells // modules,
        "inverter.options": {"voltage_scale": scale},
    }  # fmt: skip
    try:
        checked(tables(changes), profiles)
        lines = []
    except ConfigError as error:
        lines = about("inverter.options.voltage_scale", list(error.complaints))
    assert (lines == []) is enough
    if not enough:
        assert lines == [
            "inverter.options.voltage_scale: 0.01; expected 0.1: 90 cells in series reach 328.5 V, and with 0.01 the "
            "protocol ends at 327.67 V"
        ]
    changes["inverter.options"] = {}
    if cells == 90:
        with pytest.raises(ConfigError, match=r"voltage_scale: 0\.01; expected 0\.1"):
            checked(tables(changes), profiles)
