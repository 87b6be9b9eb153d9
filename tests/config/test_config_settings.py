"""Every setting of the schema: its range, its type, its unit; a new field is tested by being there."""

from __future__ import annotations

import math
from typing import Any

import pytest

from bmsd.config.changed import changes, with_changes
from bmsd.config.described import Setting, section_of, sections, settings
from bmsd.config.fields import Section
from bmsd.config.gateway import GatewaySettings, WholeFile
from bmsd.config.load import checked
from bmsd.config.schema import Settings
from tests.config.config_file import GONE, about, complaints, tables

ALL = list(settings().values())
NUMBERS = [one for one in ALL if one.kind in ("number", "whole number")]
LISTS = [one for one in ALL if one.kind.startswith("list")]
NUMBER_LISTS = [one for one in LISTS if one.low is not None]
TEXT_LISTS = [one for one in LISTS if one.low is None and "text" in one.kind]
TEXTS = [one for one in ALL if one.kind == "text"]
UNIT_OF_SUFFIX = {
    "_v": "V", "_a": "A", "_ah": "Ah", "_s": "s", "_degc": "degC", "_ohm": "ohm", "_f": "F", "_share": "share",
    "_soc": "share", "_c": "C", "_k": "K", "_v_per_s": "V/s", "_j_per_k": "J/K",
}  # fmt: skip


def named(found: list[Setting]) -> Any:
    return pytest.mark.parametrize("one", found, ids=lambda one: one.path)


def in_range(one: Setting) -> tuple[float, float]:
    assert one.low is not None
    assert one.high is not None
    return one.low, one.high


def as_value(one: Setting, number: float) -> float | int:
    return int(number) if one.kind == "whole number" else number


def in_list(one: Setting, value: Any) -> Any:
    """A list around this entry as deep as the setting's."""
    return [[value]] if one.kind.startswith("list of list") else [value, value]


def refused_as_value(one: Setting, value: Any) -> bool:
    """Whether the setting itself is refused, not only for how it goes with others."""
    allowed = (one.expected, one.expected_entry)
    return any(
        line.split("; expected ", 1)[-1].startswith(allowed) for line in about(one.path, complaints({one.path: value}))
    )


def test_the_right_tables_are_right():
    assert complaints({}) == []


def test_no_kind_of_setting_escapes_these_tests():
    others = {one.path for one in ALL if one not in NUMBERS + LISTS + TEXTS}
    tables_ = {
        "inverter.options",
        "fieldbus.mapped",
        "sim",
        *(f"limits.{d}_by_{by}" for d in ("charge", "discharge") for by in ("cell_v", "temperature")),
    }
    switches = {
        "balance.discharging", "balance.enabled", "balance.idle", "estimation.predictor", "fieldbus.listen_only",
        "fieldbus.mapped.accept_unenforced", "fieldbus.mapped.requests.extended",
        "heartbeat_output.feedback_active_low", "inverter.keepalive_required",
        "modbus.enabled", "mqtt.enabled", "mqtt.tls", "web.cells_in_metrics", "web.enabled",
    }  # fmt: skip
    assert others == tables_ | switches


@named(NUMBERS)
def test_a_number_has_a_range_and_its_ends_belong_to_it(one):
    low, high = in_range(one)
    assert low < high
    assert not refused_as_value(one, as_value(one, low))
    assert not refused_as_value(one, as_value(one, high))


@named(NUMBERS)
def test_a_number_beyond_its_range_is_refused(one):
    low, high = in_range(one)
    whole = one.kind == "whole number"
    assert refused_as_value(one, int(low) - 1 if whole else math.nextafter(low, -math.inf))
    assert refused_as_value(one, int(high) + 1 if whole else math.nextafter(high, math.inf))


@named(NUMBERS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, True, False, "1", [1.0], {}, 10**400], ids=str)
def test_what_is_not_a_number_is_refused(one, value):
    assert refused_as_value(one, value)


@named([one for one in NUMBERS if one.kind == "number" and math.ceil(one.low or 0.0) <= (one.high or 0.0)])
def test_a_whole_number_may_stand_for_a_number(one):
    assert not refused_as_value(one, math.ceil(in_range(one)[0]))


@named([one for one in NUMBERS if one.kind == "whole number"])
def test_a_fraction_is_not_a_whole_number(one):
    assert refused_as_value(one, in_range(one)[0] + 0.5)
    assert refused_as_value(one, float(in_range(one)[0]))


@named(NUMBER_LISTS)
def test_entries_of_a_list_are_bounded_and_named_by_their_place(one):
    low, high = in_range(one)
    for bad in (math.nan, "1", True, as_value(one, low) - 1, as_value(one, high) + 1):
        lines = about(one.path, complaints({one.path: in_list(one, bad)}))
        assert any(f"{one.path}, entry 1" in line for line in lines), (bad, lines)


@named(TEXT_LISTS)
def test_an_entry_of_a_list_of_texts_is_a_text(one):
    for bad in (1, True, {}, *(["no such word"] if one.choices else [])):
        lines = about(one.path, complaints({one.path: [bad]}))
        assert any(f"{one.path}, entry 1" in line and one.expected_entry in line for line in lines), (bad, lines)


@named(LISTS)
def test_a_list_is_not_a_single_value(one):
    assert refused_as_value(one, 1.0)
    assert refused_as_value(one, "1")


@named([one for one in LISTS if one.longest is not None])
def test_a_list_has_a_length(one):
    entry: Any = {} if one.kind == "list of tables" else "x" if one.low is None else one.low
    assert refused_as_value(one, [entry] * (one.longest + 1))
    if one.shortest:
        assert refused_as_value(one, [entry] * (one.shortest - 1))


@named(TEXTS)
def test_a_text_is_not_a_number_and_a_choice_is_one_of_its_words(one):
    wrong: list[Any] = [1, True, ["a"], {}]
    for bad in wrong:
        assert refused_as_value(one, bad)
    if one.choices:
        assert refused_as_value(one, "no such word")
        assert all(refused_as_value(one, shouted) for shouted in map(str.upper, one.choices) if shouted.isalpha())
        assert all(not refused_as_value(one, choice) for choice in one.choices)


@named([one for one in ALL if one.kind == "true or false"])
def test_a_switch_is_true_or_false(one):
    for bad in (1, 0, "true", "yes"):
        assert refused_as_value(one, bad)
    assert not refused_as_value(one, True)
    assert not refused_as_value(one, False)


@named([one for one in ALL if one.required and one.path.count(".") == 1])
def test_what_is_required_is_asked_for_by_name(one):
    lines = about(one.path, complaints({one.path: GONE}))
    assert len(lines) == 1
    assert "missing" in lines[0]
    assert one.meaning in lines[0]


@named([one for one in ALL if one.low is not None and not one.required and not one.kind.startswith("list")])
def test_defaults_lie_inside_their_range(one):
    low, high = in_range(one)
    assert low <= one.default <= high


@named(NUMBERS + LISTS)
def test_the_unit_is_that_of_the_name(one):
    suffix = max((s for s in UNIT_OF_SUFFIX if one.name.endswith(s)), key=len, default=None)
    if suffix is not None and one.name != "rise_a_per_s_per_100a":
        assert one.unit == UNIT_OF_SUFFIX[suffix], one.path


@named(ALL)
def test_every_setting_says_what_it_means(one):
    assert one.meaning.endswith(".")
    assert len(one.meaning) > 10


def test_what_protects_a_particular_cell_has_no_default():
    cell = [one for one in ALL if one.section == "cell" and not one.name.startswith(("ocv_", "spec"))]
    ratings = [settings()[f"string.{name}"] for name in ("fuse_a", "contactor_a", "contactor_break_a")]
    assert len(cell) == 11
    assert all(one.required for one in [*cell, *ratings])


def test_layout_and_cell_data_are_never_reloadable():
    assert [
        one.path
        for one in ALL
        if one.reloadable
        and one.section in ("layout", "cell", "string", "timing", "fieldbus", "inverter", "state", "link")
    ] == []
    assert settings()["protection.cell_over_voltage_trip_v"].reloadable
    assert settings()["limits.charge_by_cell_v.share"].reloadable


@pytest.mark.parametrize("section", [name for name in sections() if name in tables()])
def test_a_missing_section_is_named_with_what_it_must_have(section):
    lines = about(section, complaints({section: GONE}))
    assert len(lines) == 1
    for name, info in sections()[section].model_fields.items():
        assert not info.is_required() or name in lines[0]


@pytest.mark.parametrize("section", sections())
@pytest.mark.parametrize("value", [1, "text", True, [], [{}]], ids=repr)
def test_a_section_is_a_table(section, value):
    assert "expected a section" in about(section, complaints({section: value}))[0]


def levels() -> list[str]:
    """Paths of all tables that have fixed settings."""
    deep = [
        f"{name}.{field}"
        for name, model in sections().items()
        for field, info in model.model_fields.items()
        if section_of(info)
    ]
    return [*sections(), *deep]


@pytest.mark.parametrize("level", levels())
def test_an_unknown_setting_is_refused_at_every_level(level):
    lines = about(f"{level}.no_such_setting", complaints({f"{level}.no_such_setting": 1}))
    assert len(lines) == 1
    assert "unknown setting" in lines[0]


@named([one for one in ALL if one.path.count(".") == 1])
def test_a_misspelt_setting_finds_its_nearest(one):
    wrong = f"{one.section}.{one.name[:-1]}x" if len(one.name) > 4 else f"{one.section}.{one.name}x"
    line = about(wrong, complaints({wrong: 1}))[0]
    assert "did you mean" in line or (one.section != "protection" and "known:" in line)


def test_an_unknown_section_is_refused_and_a_setting_outside_its_section_is_sent_home():
    assert about("protecton", complaints({"protecton": {}})) == ["protecton: unknown section; did you mean protection?"]
    assert about("fuse_a", complaints({"fuse_a": 3})) == ["fuse_a: unknown section; it belongs in [string]"]
    assert about("charge.fuse_a", complaints({"charge.fuse_a": 3}))[0].endswith("it belongs in [string]")
    assert "unknown section" in about("gateway", complaints({"gateway": {}}))[0]


def test_the_schema_and_its_description_have_the_same_settings():
    paths = {f"{name}.{field}" for name, model in sections().items() for field in model.model_fields}
    assert paths <= set(settings())
    assert set(WholeFile.model_fields) == {*sections(), "sim"}


@pytest.mark.parametrize(
    ("path", "value", "hint"),
    [
        ("cell.max_v", 3650, "3.65, if 3650 is in mV"),
        ("cell.resistance_ohm", 0.25, "0.00025, if 0.25 is in mohm"),
        ("cell.capacity_ah", 280000, "280, if 280000 is in mAh"),
        ("cell.charge_max_degc", 131, "55, if 131 is in degF"),
        ("cell.discharge_min_degc", 253.15, "-20, if 253.15 is in K"),
        ("string.bus_capacitance_f", 48, "0.048, if 48 is in mF"),
        ("string.bus_capacitance_f", 48000, "0.048, if 48000 is in uF"),
        ("limits.max_charge_soc", 90, "0.9, if 90 is in percent"),
        ("timing.poll_s", 200, "0.2, if 200 is in ms"),
        ("state.save_period_s", 5, "300, if 5 is in minutes"),
        ("limits.charge_by_cell_v.cell_v", [3400, 3500], "3.4, if 3400 is in mV"),
        ("limits.charge_by_cell_v.share", [100, 0], "1, if 100 is in percent"),
        ("cell.max_v", "3.65", "no quotes"),
        ("cell.max_v", "3,65 V", "no quotes"),
        ("log.level", "warn", 'did you mean "warning"'),
        ("fieldbus.interface", "SocketCAN", 'did you mean "socketcan"'),
    ],
)
def test_a_likely_slip_is_named(path, value, hint):
    lines = about(path, complaints({path: value}))
    assert hint in lines[0]


def leaves(model, prefix=""):
    for name, info in model.model_fields.items():
        inner = info.annotation
        if isinstance(inner, type) and issubclass(inner, Section):
            yield from leaves(inner, f"{prefix}{name}.")
        else:
            yield prefix + name


def test_of_every_setting_that_may_differ_it_is_known_whether_it_needs_a_restart():
    for model in (Settings, GatewaySettings):
        assert set(leaves(model)) - {"sim"} <= set(settings())


def test_what_differs_is_named_and_put_into_the_tables_that_were_given():
    running = checked(tables())
    curve = {"cell_v": [3.40, 3.45, 3.50, 3.55], "share": [1.0, 0.2, 0.05, 0.0]}
    read = checked(tables({"string.fuse_a": 180.0, "limits.charge_by_cell_v": curve, "log.level": "debug"}))
    found = list(changes(running, read))
    assert [(str(change), change.reloadable) for change in found] == [
        ("string.fuse_a 180.0 (was 200.0)", False),
        ("limits.charge_by_cell_v.share [1.0, 0.2, 0.05, 0.0] (was [1.0, 0.25, 0.05, 0.0])", True),
        ('log.level "debug" (was "info")', True),
    ]
    mixed = checked(with_changes(running, [change for change in found if change.reloadable]))
    assert mixed.string == running.string
    assert (mixed.limits, mixed.log) == (read.limits, read.log)
    assert list(changes(running, running)) == []
