from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from bmsd.config.load import parse
from bmsd.errors import ConfigError
from bmsd.model.layout import Layout
from bmsd.sim.inverter import Profile
from bmsd.sim.mishap import KINDS
from bmsd.sim.scenario import default_settings, load_settings
from bmsd.simulate import simulation

TEXT = """
[sim]
strings = 2
modules = 3
cells = 16
sensors = 4
capacity_ah = 100
seed = 7
soc0 = 0.8
ambient_degc = 10

[sim.inverter]
profile = "square"
charge_a = 50.0
discharge_a = 30
period_s = 60
lag_s = 10

[sim.unit]
shunt_offset_a = 0.3

[sim.playback]
source = "k2_hppc_20c"
speed = 10

[[sim.mishap]]
kind = "lost"
module = 2
start_s = 5
end_s = 6.5

[[sim.mishap]]
kind = "welded_contactor"
contact = "minus"
end_s = inf
"""


def test_a_table_becomes_settings() -> None:
    settings = load_settings(tomllib.loads(TEXT)["sim"])
    assert settings.layout == Layout(2, 3, 16, 4)
    assert settings.cell.capacity_ah == 100.0
    assert (settings.seed, settings.soc0, settings.ambient_degc) == (7, 0.8, 10.0)
    assert isinstance(settings.inverter.profile, Profile)
    assert settings.inverter.profile.discharge_a == 30.0
    assert settings.inverter.lag_s == 10.0
    assert settings.inverter.wake_v == pytest.approx(2.9 * 48)
    assert settings.unit.shunt_offset_a == 0.3
    assert settings.unit.over_current_a == pytest.approx(110.0)
    assert settings.playback is not None
    assert settings.playback.speed == 10.0
    assert [(m.kind, m.module, m.end_s) for m in settings.mishaps] == [
        ("lost", 2, 6.5),
        ("welded_contactor", 0, float("inf")),
    ]


def test_layout_and_capacity_come_from_the_daemons_configuration_unless_named() -> None:
    layout = Layout(1, 4, 8, 2, module_addresses=((5, 6, 7, 8),))
    settings = load_settings({}, layout, 280.0)
    assert settings.layout is layout
    assert settings.cell.capacity_ah == 280.0
    assert load_settings({"modules": 2, "capacity_ah": 50.0}, layout, 280.0).layout == Layout(1, 2, 8, 2)


def test_bus_and_precharge_come_from_the_daemons_configuration_unless_named() -> None:
    layout = Layout(1, 4, 8, 2)
    known = {"capacitance_f": 0.144, "precharge_ohm": 20.0}
    told = load_settings({}, layout, 280.0, **known).bus
    assert (told.capacitance_f, told.precharge_ohm) == (0.144, 20.0)
    own = load_settings({"bus": {"precharge_ohm": 10.0, "cable_ohm": 0.002}}, layout, 280.0, **known).bus
    assert (own.capacitance_f, own.precharge_ohm, own.cable_ohm) == (0.144, 10.0, 0.002)
    alone = load_settings({"bus": {"capacitance_f": 0.01}}, layout, 280.0).bus
    assert (alone.capacitance_f, alone.precharge_ohm) == (0.01, 50.0)


@pytest.mark.parametrize(("sim", "precharge_ohm"), [("", 20.0), ("[sim.bus]\nprecharge_ohm = 7.0\n", 7.0)])
def test_the_simulation_of_a_file_has_the_bus_and_the_precharge_of_its_string(sim: str, precharge_ohm: float) -> None:
    text = (Path(__file__).parents[2] / "deploy" / "rack-8x16s.toml").read_text()
    bus = simulation(parse(f"{text}\n{sim}")).bus
    assert (bus.capacitance_f, bus.precharge_ohm) == (0.144, precharge_ohm)


def test_an_empty_table_is_the_default_rack() -> None:
    layout = Layout(1, 4, 8, 2)
    assert load_settings({}, layout, 280.0) == default_settings(layout, 280.0)


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ({"seeed": 1}, "sim.seeed: unknown setting"),
        ({"soc0": 1.2}, "sim.soc0: Input should be less than or equal to 1 (is 1.2)"),
        ({"soc0": "half"}, "sim.soc0: Input should be a valid number"),
        ({"soc0": float("nan")}, "sim.soc0"),
        ({"seed": True}, "sim.seed"),
        ({"inverter": {"lagg_s": 1}}, "sim.inverter.lagg_s: unknown setting"),
        ({"inverter": {"profile": "lunar"}}, "sim.inverter.profile"),
        ({"bus": {"precharge_ohm": 0}}, "sim.bus.precharge_ohm"),
        ({"mishap": [{}]}, "sim.mishap.1.kind: missing"),
        ({"mishap": [{"kind": "fire"}]}, "unknown kind 'fire'"),
        ({"mishap": [{"kind": "lost", "start_s": 5, "end_s": 5}]}, "is not after"),
        ({"soc0_by_string": [0.5, 0.4]}, "sim.soc0_by_string: has 2, the rack has 1 strings"),
        ({"soc0_by_string": [1.2]}, "sim.soc0_by_string.1"),
        ({"mishap": [{"kind": "lost", "module": 3}]}, "sim.mishap.1.module: is 3, the rack has 2"),
        ({"mishap": [{"kind": "lost", "contact": "earth"}]}, "sim.mishap.1.contact"),
        ({"playback": {}}, "sim.playback.source: missing"),
        ({"strings": 8, "modules": 5}, "sim.modules: 40 modules in all, at most 32"),
    ],
)
def test_a_wrong_setting_is_named_with_its_path(table: dict[str, object], complaint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(table, Layout(1, 2, 16, 4), 100.0)
    assert any(complaint in one for one in caught.value.complaints), caught.value.complaints


def test_everything_is_complained_about_at_once() -> None:
    table = {"soc0": -1, "nonsense": 2, "inverter": {"lag_s": -1}, "mishap": [{"kind": "lost", "cell": 99}]}
    with pytest.raises(ConfigError) as caught:
        load_settings(table, Layout(1, 2, 16, 4), 100.0)
    assert len(caught.value.complaints) == 4


def test_a_rack_without_shape_and_capacity_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings({"strings": 1})
    text = str(caught.value)
    assert all(name in text for name in ("sim.modules", "sim.cells", "sim.sensors", "sim.capacity_ah"))


def test_an_unknown_kind_of_mishap_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings({"mishap": [{"kind": "fire"}]}, Layout(1, 2, 16, 4), 100.0)
    assert all(kind in str(caught.value) for kind in KINDS)
