"""The dashboards against Grafana's JSON model, against the metrics there are, and against what built them."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import pytest
import yaml

from bmsd.gateway.web.metrics import FAMILIES, LOOP, OWN
from tests.deploy.pages import FILES, GRAFANA, PAGES, panels, queries, variables

KINDS = {"stat", "timeseries", "state-timeline", "table", "bargauge"}
FIELDS = {
    "id", "uid", "title", "description", "tags", "schemaVersion", "version", "editable", "graphTooltip", "timezone",
    "refresh", "time", "timepicker", "fiscalYearStartMonth", "annotations", "links", "templating", "panels",
}  # fmt: skip
PANEL_FIELDS = {
    "id", "type", "title", "description", "datasource", "gridPos", "fieldConfig", "options", "transformations",
    "targets",
}  # fmt: skip
COLOURS = {"green", "yellow", "orange", "red", "blue", "gray"}
OF_OTHERS = {"up", "process_resident_memory_bytes"}
"""What the store makes of every scrape, and what Prometheus's client counts."""
SUFFIX = {"volt": "volts", "amp": "amperes", "celsius": "celsius", "watt": "watts", "s": "seconds", "bytes": "bytes"}
"""Unit of a panel -> how the names of its metrics end."""
WORDS = {
    "sum", "max", "min", "by", "rate", "sort", "sort_desc", "topk", "bottomk", "count", "vector", "or", "on",
    "histogram_quantile",
}  # fmt: skip


def metrics(query: str) -> set[str]:
    """Names of the metrics in this query."""
    query = re.sub(r"\{.*?\}|\[.*?\]|\b(by|on) \(.*?\)", "", query)
    return set(re.findall(r"[a-z_]{2,}", query)) - WORDS


def test_the_files_are_what_the_pages_say() -> None:
    build = "import build; print(*(f'{name}\\0{text}' for name, text in build.texts().items()), sep='\\1', end='')"
    done = subprocess.run([sys.executable, "-c", build], cwd=GRAFANA, capture_output=True, text=True, check=True)
    built = dict(entry.split("\0") for entry in done.stdout.split("\1"))
    assert built == {file.name: file.read_text() for file in FILES}, "renew: python deploy/grafana/build.py"


def test_the_dashboards_are_those_that_the_documentation_names() -> None:
    assert set(PAGES) == {"rack", "cells", "can", "fleet"}
    assert len({page["uid"] for page in PAGES.values()}) == len(PAGES)


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_a_dashboard_has_the_fields_of_the_classic_model(page: dict[str, Any]) -> None:
    assert page.keys() == FIELDS
    assert page["id"] is None, "Grafana gives the number"
    assert re.fullmatch(r"[a-z-]{8,40}", page["uid"])
    assert page["schemaVersion"] == 39
    assert page["graphTooltip"] in (0, 1, 2)
    assert page["description"].endswith(".")
    for panel in panels(page):
        assert panel.keys() == PANEL_FIELDS, panel["title"]
        assert panel["type"] in KINDS
        assert [t["refId"] for t in panel["targets"]] == [chr(ord("A") + n) for n in range(len(panel["targets"]))]
        for target in panel["targets"]:
            assert target["instant"] != target["range"]
            assert (target["format"] == "table") == (panel["type"] == "table")


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_panels_have_numbers_of_their_own_and_lie_beside_each_other(page: dict[str, Any]) -> None:
    numbers = [panel["id"] for panel in page["panels"]]
    assert len(set(numbers)) == len(numbers)
    taken: dict[tuple[int, int], str] = {}
    for panel in page["panels"]:
        place = panel["gridPos"]
        assert place["x"] >= 0
        assert place["x"] + place["w"] <= 24
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert taken.setdefault((x, y), panel["title"]) is panel["title"], "two panels in one place"


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_every_panel_says_what_it_shows_and_in_what_unit(page: dict[str, Any]) -> None:
    titles = [panel["title"] for panel in panels(page)]
    assert len(set(titles)) == len(titles)
    for panel in panels(page):
        assert panel["description"].endswith("."), panel["title"]
        defaults = panel["fieldConfig"]["defaults"]
        suffix = SUFFIX.get(defaults["unit"])
        for target in panel["targets"] if suffix else ():
            assert all(re.search(rf"_{suffix}(_bucket)?$", name) for name in metrics(target["expr"])), panel["title"]


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_thresholds_begin_with_everything_and_rise(page: dict[str, Any]) -> None:
    for panel in panels(page):
        steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
        assert steps[0]["value"] is None
        values = [step["value"] for step in steps[1:]]
        assert values == sorted(values), panel["title"]
        assert {step["color"] for step in steps} <= COLOURS


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_queries_ask_for_metrics_that_bmsd_has_of_the_racks_that_are_chosen(page: dict[str, Any]) -> None:
    known = {row.name for row in FAMILIES} | {row.name for row in OWN} | {f"{LOOP[0]}_bucket"} | OF_OTHERS
    choices = {variable["name"] for variable in variables(page)}
    for panel, target in queries(page):
        query = target["expr"]
        assert metrics(query), query
        assert metrics(query) <= known, f"{panel['title']}: {metrics(query) - known}"
        braces = re.findall(r"[a-z]\{(.*?)\}", query)
        assert len(braces) >= len(metrics(query))
        for brace in braces:
            assert 'instance="$instance"' in brace or 'site=~"$site"' in brace, query
        assert set(re.findall(r"\$([a-z]+)", query)) <= choices, query
    assert {variable["definition"] for variable in variables(page)}


def test_every_metric_that_says_what_is_wrong_is_on_a_page() -> None:
    """A metric of this kind that is on no page would be looked at by nobody."""
    shown = set().union(*(metrics(target["expr"]) for page in PAGES.values() for _, target in queries(page)))
    telling = (
        "fault",
        "limit",
        "vetoes",
        "missing",
        "waiting",
        "unknown",
        "can_",
        "crc",
        "stale",
        "blocked",
        "lateness",
    )
    wanted = {row.name for row in FAMILIES if any(word in row.name for word in telling)}
    assert wanted - shown == {"bmsd_fault_active", "bmsd_faults"}, "of these bmsd_fault_seconds tells more"


def test_a_link_leads_to_a_page_that_there_is() -> None:
    urls = re.findall(r'"/d/([a-z-]+)', "".join(file.read_text() for file in FILES))
    assert urls
    assert set(urls) <= {page["uid"] for page in PAGES.values()}


def test_grafana_is_given_the_data_source_and_the_folder_of_the_dashboards() -> None:
    folder = GRAFANA / "provisioning"
    (source,) = yaml.safe_load((folder / "datasources" / "bmsd.yaml").read_text())["datasources"]
    assert (source["type"], source["url"], source["isDefault"]) == (
        "prometheus", "http://victoria-metrics:8428", True,
    )  # fmt: skip
    (provider,) = yaml.safe_load((folder / "dashboards" / "bmsd.yaml").read_text())["providers"]
    services = yaml.safe_load((GRAFANA.parent / "compose.yaml").read_text())["services"]
    mounts = dict(volume.split(":")[:2] for volume in services["grafana"]["volumes"])
    assert mounts["./grafana/dashboards"] == provider["options"]["path"]
    assert mounts["./grafana/provisioning"] == "/etc/grafana/provisioning"
    home = services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{provider['options']['path']}/fleet.json"
