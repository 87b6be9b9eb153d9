"""Metrics as Prometheus reads them: every point, base units, nothing that is not known, nothing that is too old."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import REGISTRY
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open_metrics
from prometheus_client.parser import text_string_to_metric_families as parse

from bmsd.gateway.web.metrics import FAMILIES, LOOP, MOST_AT_ONCE, NAMES, OWN, UNITS, Family, Own, of_point, point_name
from bmsd.gateway.web.metrics_page import PAGE, renewed
from bmsd.model.bound import Bound
from bmsd.model.catalogue import CATALOGUE
from bmsd.model.fault import Fault
from bmsd.model.point import Point, Type
from bmsd.model.points import POINTS, values
from bmsd.model.published import PROTOCOL, Hello, Published
from bmsd.model.row import Level
from bmsd.model.snapshot import Feedback
from tests.gateway.control_end import ControlEnd, record, wait_for
from tests.gateway.web_end import WebEnd
from tests.programs import ROOT

ROWS: tuple[Family | Own, ...] = (*FAMILIES, *OWN)
Series = dict[tuple[str, frozenset[tuple[str, str]]], float]
BASE_UNITS = {unit for unit, _ in UNITS.values() if unit} | {"ratio"}


def busy(strings: int = 2, modules: int = 2) -> Published:
    """A record in which every cell has another voltage, with an unknown cell, unknown contacts and a fault."""
    healthy = record(strings=strings, modules=modules)
    snapshot = healthy.snapshot
    cells = snapshot.modules.cell_v
    cells[:] = 3.2 + np.arange(cells.size).reshape(cells.shape) / 10000.0
    cells[0, 1, 3] = np.nan
    snapshot.modules.cell_age_s[1, 0] = np.inf
    feedback = np.full(strings, int(Feedback.OPEN))
    feedback[:2] = (Feedback.CLOSED, Feedback.UNKNOWN)
    units = replace(snapshot.units, minus=feedback, current_a=np.linspace(-10.0, 10.0, strings))
    fault = Fault("CEL-014", "cell_voltage_invalid", Level.ALARM, 1, 2, 4, None, 4.5, 1, True)
    return replace(healthy, snapshot=replace(snapshot, units=units), faults=(fault,))


@pytest.fixture
def ends(tmp_path: Path) -> Iterator[tuple[ControlEnd, WebEnd]]:
    with ControlEnd(tmp_path, busy()) as control, WebEnd(control.link) as web:
        web.until_good()
        yield control, web


@pytest.fixture
def web(ends: tuple[ControlEnd, WebEnd]) -> WebEnd:
    return ends[1]


def families(web: WebEnd) -> dict[str, Metric]:
    answer = web.client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    found = list(parse(answer.text))
    names = [family.name for family in found]
    assert len(names) == len(set(names)), "a family that is there twice"
    return {family.name: family for family in found}


def series(web: WebEnd) -> Series:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families(web).values() for sample in family.samples
    }  # fmt: skip


def value(found: Series, name: str, **labels: object) -> float:
    return found[name, frozenset((key, str(label)) for key, label in labels.items())]


def named(found: Series, name: str) -> list[frozenset[tuple[str, str]]]:
    return [labels for one, labels in found if one == name]


def test_every_point_is_a_metric_with_its_value_in_base_units_unless_it_is_not_known(web: WebEnd) -> None:
    found = families(web)
    expected = values(busy())
    assert {True, False} == {known is None for known in expected.values()}
    for point in POINTS:
        samples = [sample.value for sample in found[point_name(point).removesuffix("_total")].samples]
        known = expected[point.name]
        assert samples == ([] if known is None else [float(known) * UNITS[point.unit][1]]), point.name


@pytest.mark.parametrize(("unit", "name", "base"), [("kWh", "bmsd_x_joules", 7.2e6), ("%", "bmsd_x_ratio", 0.02)])
def test_a_point_in_another_unit_is_converted(unit: str, name: str, base: float) -> None:
    family = of_point(Point(f"x_{unit.lower()}".removesuffix("_%"), unit, 1, Type.FLOAT32, "X.", lambda _: 2.0))
    assert family.name == name
    ((labels, value),) = family.read(busy(), Hello(1, "b", "r", 1, 1, 1, 1))
    assert labels == ()
    assert value == pytest.approx(base)


def test_the_unit_of_every_point_is_known_and_every_name_given_is_of_a_point() -> None:
    assert {point.unit for point in POINTS} <= UNITS.keys()
    assert NAMES.keys() <= {point.name for point in POINTS}


def test_the_field_knows_the_names() -> None:
    names = {point.name: point_name(point) for point in POINTS}
    assert names["voltage_v"] == "bmsd_pack_voltage_volts"
    assert names["soc"] == "bmsd_pack_soc_ratio"
    assert names["charge_limit_a"] == "bmsd_charge_current_limit_amperes"
    assert names["temperature_max_degc"] == "bmsd_cell_temperature_max_celsius"
    assert names["cells_unknown"] == "bmsd_cells_unknown"


def test_names_follow_the_conventions() -> None:
    names = [row.name for row in ROWS] + [LOOP[0]]
    assert len(names) == len(set(names))
    for name in names:
        assert re.fullmatch(r"bmsd(_[a-z0-9]+)+", name), name
        words = name.split("_")
        assert not BASE_UNITS & set(words[1:-1]), f"{name}: the unit comes last"
        assert not {"v", "a", "s", "ms", "mv", "degc", "percent", "gauge", "counter", "count", "sum", "bucket"} & set(
            words
        )
    for row in ROWS:
        assert row.meaning.endswith("."), row.name


def test_every_cell_has_its_voltage_and_an_unknown_one_has_none(web: WebEnd) -> None:
    found = series(web)
    cells = busy().snapshot.modules.cell_v
    assert len(named(found, "bmsd_cell_voltage_volts")) == cells.size - 1
    for string, module, cell in np.ndindex(cells.shape):
        labels = {"string": string + 1, "module": module + 1, "cell": cell + 1}
        if not math.isnan(cells[string, module, cell]):
            assert value(found, "bmsd_cell_voltage_volts", **labels) == cells[string, module, cell]
    assert len(named(found, "bmsd_cell_temperature_celsius")) == 2 * 2 * 4


def test_a_rack_whose_cells_need_several_turns_to_write_is_complete_in_both_formats(tmp_path: Path) -> None:
    with ControlEnd(tmp_path, busy(8, 4)) as control, WebEnd(control.link) as web:
        web.until_good()
        cells = families(web)["bmsd_cell_voltage_volts"].samples
        assert len(cells) == 8 * 4 * 16 - 1 > 2 * MOST_AT_ONCE
        assert len({frozenset(sample.labels.items()) for sample in cells}) == len(cells)
        text = web.client.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"}).text
        found = {family.name: family for family in parse_open_metrics(text)}
        assert [sample.labels for sample in found["bmsd_cell_voltage_volts"].samples] == [c.labels for c in cells]


def test_series_per_cell_can_be_turned_off(tmp_path: Path) -> None:
    with ControlEnd(tmp_path, busy()) as control, WebEnd(control.link, cells_in_metrics=False) as web:
        web.until_good()
        found = families(web)
        assert not {"bmsd_cell_voltage_volts", "bmsd_cell_temperature_celsius"} & found.keys()
        assert found["bmsd_cell_voltage_max_volts"].samples
        assert found["bmsd_module_voltage_volts"].samples


def test_every_fault_is_0_or_1(web: WebEnd) -> None:
    found = series(web)
    assert len(named(found, "bmsd_fault_active")) == len(CATALOGUE)
    for row in CATALOGUE:
        raised = value(found, "bmsd_fault_active", code=row.code, level=row.level.name.lower())
        assert raised == (row.code == "CEL-014")


def test_contacts_that_are_not_known_have_no_series(web: WebEnd) -> None:
    found = series(web)
    assert value(found, "bmsd_contactor_closed", string=1, contactor="minus") == 1.0
    assert value(found, "bmsd_contactor_closed", string=2, contactor="plus") == 0.0
    assert frozenset({("string", "2"), ("contactor", "minus")}) not in named(found, "bmsd_contactor_closed")


def test_a_module_that_never_answered_has_no_age(web: WebEnd) -> None:
    found = series(web)
    assert value(found, "bmsd_module_age_seconds", string=1, module=2) == pytest.approx(0.1)
    assert frozenset({("string", "2"), ("module", "1")}) not in named(found, "bmsd_module_age_seconds")


def test_strings_and_buses_are_labelled(web: WebEnd) -> None:
    found = series(web)
    assert value(found, "bmsd_string_current_amperes", string=1) == -10.0
    assert value(found, "bmsd_string_current_amperes", string=2) == 10.0
    assert value(found, "bmsd_can_frames_total", bus="field", direction="received") == 1
    assert value(found, "bmsd_can_frames_total", bus="inverter", direction="sent") == 5
    assert value(found, "bmsd_can_dropped_frames_total", bus="field", reason="crc") == 3
    assert value(found, "bmsd_can_up", bus="inverter") == 1.0
    assert value(found, "bmsd_info", rack="rack", version="0.1.0", configuration="c0", catalogue="ca") == 1.0
    assert value(found, "bmsd_lifecycle", state="idle") == 1.0


def test_why_no_more_may_flow_is_a_label_and_what_every_cause_would_allow_a_value(web: WebEnd) -> None:
    found = series(web)
    bounds = named(found, "bmsd_limit_bound_amperes")
    for direction, given in (("charge", busy().charge_bounds), ("discharge", busy().discharge_bounds)):
        (binds,) = (dict(one) for one in named(found, "bmsd_limit_binding") if ("direction", direction) in one)
        assert (binds["source"], binds["reason"]) == (given[0].source, given[0].reason)
        assert value(found, "bmsd_limit_bound_amperes", **binds) == given[0].amps
        assert len([one for one in bounds if ("direction", direction) in one]) == len(given)


def test_a_limit_below_all_its_bounds_is_not_blamed_on_one_of_them() -> None:
    free = (Bound(100.0, "rated current for charging", "ratings", 0),)
    sent = replace(busy().command, ccl_a=0.0, dcl_a=100.0)
    published = replace(busy(), charge_bounds=free, discharge_bounds=free, command=sent)
    rated = ("discharge", "ratings", 1, "rated current for charging")
    assert set(read("bmsd_limit_binding", published)) == {
        ("charge", "unknown", "", "the data are not fresh"), rated,
    }  # fmt: skip
    vetoed = replace(published, vetoes=("charge limit 100.0 A: a cell is at 3.700 V",))
    assert set(read("bmsd_limit_binding", vetoed)) == {("charge", "guard", "", "taken back by the guard"), rated}


def test_a_raised_fault_says_where_and_for_how_long(web: WebEnd) -> None:
    found = series(web)
    labels = {"code": "CEL-014", "level": "alarm", "fault": "cell voltage invalid", "place": "string 1 module 2 cell 4"}
    assert value(found, "bmsd_fault_seconds", **labels) == 4.5
    assert len(named(found, "bmsd_fault_seconds")) == 1
    assert value(found, "bmsd_faults_latched") == 1.0


def test_balancing_cells_are_counted_by_module(tmp_path: Path) -> None:
    published = busy()
    published.command.balance[1, 0, :3] = True
    with ControlEnd(tmp_path, published) as control, WebEnd(control.link) as web:
        web.until_good()
        found = series(web)
    assert value(found, "bmsd_module_cells_balancing", string=2, module=1) == 3.0
    assert value(found, "bmsd_module_cells_balancing", string=1, module=1) == 0.0


def read(name: str, published: Published) -> dict[tuple[object, ...], float]:
    (family,) = (family for family in FAMILIES if family.name == name)
    samples = list(family.read(published, Hello(PROTOCOL, "b", "r", 1, 1, 1, 1)))
    assert len(dict(samples)) == len(samples), "a series that is there twice"
    return dict(samples)


def test_the_state_of_a_bus_has_its_own_metrics() -> None:
    healthy = busy()
    buses = replace(
        healthy.snapshot.buses, bus_off=np.array([True, False]), send_stalled_s=np.array([0.5, 0.0]),
        foreign_frames=np.array([0, 7]),
    )  # fmt: skip
    published = replace(healthy, snapshot=replace(healthy.snapshot, buses=buses))
    assert read("bmsd_can_bus_off", published) == {("field",): 1.0, ("inverter",): 0.0}
    assert read("bmsd_can_send_stalled_seconds", published) == {("field",): 0.5, ("inverter",): 0.0}
    assert read("bmsd_can_foreign_frames_total", published) == {("field",): 0.0, ("inverter",): 7.0}
    assert read("bmsd_can_up", published) == {("field",): 0.0, ("inverter",): 1.0}


def told(cells: int, amps: float, volts: float, left_s: int) -> Published:
    """A record whose sentences are full of numbers."""
    healthy = busy()
    bounds = (
        Bound(0.0, f"{cells} cell voltages unknown", "unknown", 0),
        Bound(amps, f"power set-point of modbus 10.0.0.{cells}, {left_s} s left", "power"),
        Bound(amps, "rated current for charging", "ratings", 0),
        Bound(0.0, "CEL-003 cell over voltage trip", "CEL-003", 1),
    )
    reason = f"{volts:.2f} V above the bus, at most 1.50 V: waits until it is charged, about {cells} min"
    strings = (replace(healthy.strings[0], reason=reason), replace(healthy.strings[1], reason=""))
    missing = (f"field bus can0: gone for {left_s} s", "module 1 of string 2 (address 3): answers no longer")
    return replace(healthy, charge_bounds=bounds, strings=strings, missing=missing)


def test_sentences_in_labels_are_always_the_same_whatever_the_numbers_and_whoever_asks() -> None:
    first, second = told(3, 12.0, 0.52, 30), told(7, 20.0, 1.75, 29)
    for name in ("bmsd_limit_bound_amperes", "bmsd_limit_binding", "bmsd_string_waiting", "bmsd_missing_part"):
        assert read(name, first).keys() == read(name, second).keys(), name
    found = read("bmsd_limit_bound_amperes", first)
    assert found["charge", "power", "", "power set-point"] == 12.0
    assert found["charge", "CEL-003", 2, "CEL-003 cell over voltage trip"] == 0.0
    assert read("bmsd_string_waiting", first) == {
        (1, "… V above the bus, at most … V: waits until it is charged, about … min"): 1.0
    }
    assert [part for (part,) in read("bmsd_missing_part", first)] == [
        "field bus can0",
        "module 1 of string 2 (address 3)",
    ]


def test_of_two_bounds_that_are_called_alike_the_tighter_one_is_shown() -> None:
    bounds = (Bound(5.0, "3 cell voltages unknown", "unknown", 0), Bound(2.0, "4 cell voltages unknown", "unknown", 0))
    found = read("bmsd_limit_bound_amperes", replace(busy(), charge_bounds=bounds, discharge_bounds=bounds[::-1]))
    assert set(found.values()) == {2.0}


def test_ticks_are_counted_by_how_long_they_took(web: WebEnd) -> None:
    wait_for(lambda: value(series(web), "bmsd_loop_duration_seconds_count") >= 3)
    found = series(web)
    count, total = (value(found, f"bmsd_loop_duration_seconds_{what}") for what in ("count", "sum"))
    assert total / count == pytest.approx(0.1)
    assert value(found, "bmsd_loop_duration_seconds_bucket", le="0.09") == 0.0
    assert value(found, "bmsd_loop_duration_seconds_bucket", le="0.11") == count
    assert value(found, "bmsd_loop_lateness_seconds") == 0.001


def test_when_control_is_lost_nothing_measured_is_left_and_the_age_grows(ends: tuple[ControlEnd, WebEnd]) -> None:
    control, web = ends
    assert value(series(web), "bmsd_up") == 1.0
    control.publishing = False
    web.until_stale()
    lost = families(web)
    assert lost.keys() & {row.name.removesuffix("_total") for row in FAMILIES} == set()
    assert lost["bmsd_up"].samples[0].value == 0.0
    before_s = lost["bmsd_record_age_seconds"].samples[0].value
    assert before_s > 2.0
    web.late_s += 5.0
    assert families(web)["bmsd_record_age_seconds"].samples[0].value >= before_s + 5.0
    control.publishing = True
    web.late_s = 0.0
    web.until_good()
    assert value(series(web), "bmsd_up") == 1.0


def test_without_control_the_gateway_speaks_of_itself(tmp_path: Path) -> None:
    with WebEnd(tmp_path / "link.sock") as web:
        found = series(web)
        assert value(found, "bmsd_up") == 0.0
        assert value(found, "bmsd_record_age_seconds") == math.inf
        assert value(found, "bmsd_link_connected") == 0.0
        assert value(found, "process_resident_memory_bytes") > 1e6
        assert value(found, "process_cpu_seconds_total") > 0.0


def test_the_registry_is_our_own(web: WebEnd) -> None:
    assert "python_info" not in families(web)
    assert not any(metric.name.startswith("bmsd") for metric in REGISTRY.collect())


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8"),
        ("text/plain", "text/plain; version=0.0.4; charset=utf-8"),
        ("application/openmetrics-text;version=1.0.0,text/plain;q=0.5", "application/openmetrics-text"),
        ("application/openmetrics-text; version=\xff.x; escaping=;;,=", "application/openmetrics-text"),
        ("*/*;q=nonsense;;;", "text/plain; version=0.0.4; charset=utf-8"),
    ],
)
def test_the_format_is_what_the_scraper_asks_for(web: WebEnd, accept: str, media_type: str) -> None:
    answer = web.client.get("/metrics", headers={b"accept": accept.encode("latin-1")})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith(media_type)
    open_metrics = media_type.startswith("application")
    assert list((parse_open_metrics if open_metrics else parse)(answer.text))
    assert answer.text.endswith("# EOF\n") == open_metrics


def test_the_page_has_every_metric() -> None:
    text = (ROOT / PAGE).read_text()
    assert text == renewed(text), "renew: python -m bmsd.gateway.web.metrics_page ."
    for name in [row.name for row in ROWS] + [LOOP[0]]:
        assert text.count(f"| `{name}` |") == 1
