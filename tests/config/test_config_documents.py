"""What is printed from the settings is current, and every example is right."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from bmsd.config.demo import demo_toml
from bmsd.config.described import settings
from bmsd.config.export import REFERENCE, SCHEMA, json_schema, reference_markdown
from bmsd.config.load import load, parse, plant
from bmsd.errors import ConfigError
from bmsd.inverters.profile import profile_class, profile_names
from bmsd.sim.scenario import load_settings

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "deploy").glob("*.toml"))
PROFILES = {name: profile_class(name).options_known for name in profile_names()}


def test_the_reference_page_is_current():
    assert (ROOT / REFERENCE).read_text() == reference_markdown(), "renew: python -m bmsd.config.export ."


def test_the_json_schema_is_current():
    assert (ROOT / SCHEMA).read_text() == json_schema(), "renew: python -m bmsd.config.export ."


def test_the_export_writes_both_files(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "deploy").mkdir()
    subprocess.run([sys.executable, "-m", "bmsd.config.export", str(tmp_path)], cwd=ROOT, check=True)
    assert (tmp_path / REFERENCE).read_text() == reference_markdown()
    assert (tmp_path / SCHEMA).read_text() == json_schema()


def test_the_reference_page_has_every_setting_with_its_range_and_meaning():
    rows = {}
    section = ""
    for line in reference_markdown().splitlines():
        if line.startswith("## ["):
            section = line[4:-1]
        elif line.startswith("| `"):
            rows[f"{section}.{line.split('`')[1]}"] = line
    assert set(rows) == {path for path in settings() if "." in path}
    for path, row in rows.items():
        assert settings()[path].meaning in row
        assert settings()[path].range in row
        assert row.count(" | ") == 4, "a cell with a bar in it would break the table"


def test_the_json_schema_knows_range_unit_and_strictness_of_every_number():
    schema = json.loads(json_schema())
    for path, one in settings().items():
        if one.kind not in ("number", "whole number"):
            continue
        *homes, name = path.split(".")
        model = schema
        for home in homes:
            target = model["properties"][home]
            target = target.get("items", target)
            model = schema["$defs"][(target.get("$ref") or target["allOf"][0]["$ref"]).rpartition("/")[2]]
        found = model["properties"][name]
        assert (found["minimum"], found["maximum"]) == (one.low, one.high)
        assert found["unit"] == one.unit
        assert found["description"] == one.meaning
        assert model["additionalProperties"] is False
        assert (name in model.get("required", [])) == one.required


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_loads_with_its_profile_and_its_simulated_rack(path):
    found = load(path, PROFILES)
    rack = plant(found)
    assert load_settings(found.sim, rack.layout, rack.cell.capacity_ah).layout == rack.layout


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_is_commented_for_an_integrator(path):
    lines = path.read_text().splitlines()
    comments = [line for line in lines if line.startswith("#")]
    assert lines[0].startswith("# ")
    assert len(comments) >= 8
    assert max(map(len, lines)) <= 120


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_what_an_example_comments_out_is_right_as_well(path):
    text = re.sub(r"(?m)^# (\w+ = )", r"\1", path.read_text())
    assert plant(parse(text, PROFILES))


def test_the_examples_are_there():
    assert {path.name for path in EXAMPLES} >= {"rack-16s-lfp.toml", "rack-8x16s.toml", "vcan.toml"}
    assert load(ROOT / "deploy" / "rack-8x16s.toml").layout.strings == 8
    assert load(ROOT / "deploy" / "vcan.toml").fieldbus.channel == "vcan0"


@pytest.mark.parametrize(("strings", "modules"), [(1, 1), (2, 3), (8, 4), (1, 25)])
def test_the_demo_of_any_size_is_right(strings, modules):
    found = parse(demo_toml(strings, modules, "/run/f", "/run/i", Path("/run/state")), PROFILES)
    rack = plant(found)
    assert rack.layout.module_shape == (strings, modules)
    assert load_settings(found.sim, rack.layout, rack.cell.capacity_ah).layout == rack.layout
    assert found.state.directory == "/run/state"
    assert found.link.socket == "/run/state/link.sock"


@pytest.mark.parametrize(
    ("strings", "modules", "words"), [(9, 1, "1..8"), (0, 1, "1..8"), (8, 5, "at most 32"), (1, 26, "1500 V")]
)
def test_a_demo_that_is_too_large_is_refused_like_any_file(strings, modules, words):
    with pytest.raises(ConfigError, match=re.escape(words)):
        parse(demo_toml(strings, modules, "/run/f", "/run/i", "/run/state"))


def test_every_setting_in_an_example_is_a_known_one():
    """A guard for this very test file: the examples are read as TOML, not only through the checks."""
    for path in EXAMPLES:
        for section, table in tomllib.loads(path.read_text()).items():
            if section != "sim":
                assert all(f"{section}.{name}" in settings() for name in table)
