"""Every query of every dashboard, asked of a real Prometheus and a real VictoriaMetrics that scrape a real rack.

The rack has what a dashboard must show: one string works, the other lacks a board, and so there are faults, something
missing, and a reason why a string is not closed. Beside it: a gateway without control, and a target that is nobody.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.pages import PAGES, queries, variables
from tests.deploy.stores import Store, needs_stores, scrape_file
from tests.programs import ROOT, Program, free_port

pytestmark = needs_stores

DEMO = ROOT / "deploy" / "compose" / "demo.toml"
MISHAP = '[[sim.mishap]]\nkind = "silent_board"\nstring = 2\nmodule = 2\n'
CHOSEN = {"$instance": "rack-1", "$string": ".*", "$module": ".*", "$site": ".*", "$__rate_interval": "5s"}
WITHIN_S = 120.0
SEEN_WITHIN_S = 15.0
"""A store shows what it has scraped a little later."""
STORES = ("prometheus", "victoria-metrics")


def rack(folder: Path) -> tuple[Path, int]:
    """The compose file's rack in this folder, with a dead board and without a broker, and its web port."""
    port = free_port()
    text = DEMO.read_text().replace("[mqtt]\nenabled = true", "[mqtt]\nenabled = false")
    for inside in ("/run/bmsd-bus", "/var/lib/bmsd", "/run/bmsd"):
        text = re.sub(rf'"{inside}(?=[/"])', f'"{folder}', text)
    text = text.replace('[web]\nhost = "0.0.0.0"', f"[web]\nport = {port}")
    text = text.replace('[modbus]\nhost = "0.0.0.0"', "[modbus]\nenabled = false")
    path = folder / "rack.toml"
    path.write_text(text + MISHAP)
    return path, port


def without_control(folder: Path) -> tuple[Path, int]:
    """A gateway whose control is not there, and its web port."""
    folder.mkdir()
    path, port = rack(folder)
    return path, port


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Store]]:
    """Both stores, once the rack is at what it stays at."""
    folder = tmp_path_factory.mktemp("rack")
    config, port = rack(folder)
    silent, silent_port = without_control(folder / "silent")
    others = [
        (f"127.0.0.1:{silent_port}", {"instance": "rack-silent", "site": "demo"}),
        (f"127.0.0.1:{free_port()}", {"instance": "rack-nobody", "site": "demo"}),
    ]
    scrape = scrape_file(folder, port, others)
    with ExitStack() as stack:
        for command in ("sim", "run", "gateway"):
            program = stack.enter_context(Program(folder, command, "-c", config))
        stack.enter_context(Program(folder, "gateway", "-c", silent))
        both = {name: stack.enter_context(Store(name, folder, scrape)) for name in STORES}
        settled = 'bmsd_string_state{string="1", state="closed"} and on () bmsd_fault_active{code="MOD-001"} == 1'
        for store in both.values():
            program.wait_for(partial(store.now, settled), WITHIN_S)
        yield both


def chosen(text: str) -> str:
    """The query with the choices of a reader in it."""
    for name, value in CHOSEN.items():
        text = text.replace(name, value)
    assert "$" not in text, text
    return text


def asked(store: Store, target: dict[str, Any]) -> list[dict[str, Any]]:
    """What this query of a panel gives, as Grafana asks it: now, or over time."""
    query = chosen(target["expr"])
    if target["instant"]:
        return store.now(query)
    end_s = time.time()
    return store.over(query, end_s - 10.0, end_s)


def legend(target: dict[str, Any], series: dict[str, Any]) -> str:
    """The name that Grafana gives this series."""

    def value(word: re.Match[str]) -> str:
        return str(series["metric"].get(word[1], ""))

    return re.sub(r"{{(\w+)}}", value, target["legendFormat"])


def complaint(panel: dict[str, Any], target: dict[str, Any], found: list[dict[str, Any]]) -> str:
    """What a reader of this panel would miss in what was found; empty: nothing."""
    if not found:
        return "no data"
    if target["format"] == "table":
        return ""
    labels = set().union(*(series["metric"] for series in found))
    lacking = set(re.findall(r"{{(\w+)}}", target["legendFormat"])) - labels
    if lacking:
        return f"no label {lacking}"
    if panel["type"] == "stat" and len(found) != 1:
        return f"one number is shown, there are {len(found)}"
    names = [legend(target, series) for series in found]
    if len(set(names)) != len(names) and target["legendFormat"] != "__auto":
        return f"two are called alike: {names}"
    return ""


@pytest.mark.parametrize("name", STORES)
@pytest.mark.parametrize("page", PAGES)
def test_every_query_returns_data_with_the_labels_that_its_panel_shows(
    stores: dict[str, Store], page: str, name: str
) -> None:
    until_s = time.monotonic() + SEEN_WITHIN_S
    for panel, target in queries(PAGES[page]):
        while wrong := complaint(panel, target, asked(stores[name], target)):
            assert time.monotonic() < until_s, f"{panel['title']}: {wrong}: {target['expr']}"
            time.sleep(0.2)


@pytest.mark.parametrize("name", STORES)
@pytest.mark.parametrize("page", PAGES)
def test_every_column_of_a_table_is_a_label_or_a_value(stores: dict[str, Store], page: str, name: str) -> None:
    for panel in PAGES[page]["panels"]:
        if panel["type"] != "table":
            continue
        fields: set[str] = set()
        for target in panel["targets"]:
            found = asked(stores[name], target)
            fields |= {"Value" if len(panel["targets"]) == 1 else f"Value #{target['refId']}"}
            fields |= set().union(*(series["metric"] for series in found))
        (include,) = [t for t in panel["transformations"] if t["id"] == "filterFieldsByName"]
        assert set(include["options"]["include"]["names"]) - {"Value"} <= fields, panel["title"]


@pytest.mark.parametrize("name", STORES)
def test_every_choice_has_its_values(stores: dict[str, Store], name: str) -> None:
    found = {
        variable["name"]: sorted(stores[name].label_values(chosen(variable["definition"])))
        for page in PAGES.values() for variable in variables(page)
    }  # fmt: skip
    assert found == {
        "instance": ["rack-1", "rack-silent"], "string": ["1", "2"], "module": ["1", "2"], "site": ["demo"],
    }  # fmt: skip


@pytest.mark.parametrize("name", STORES)
def test_the_worst_racks_come_first(stores: dict[str, Store], name: str) -> None:
    (table,) = [panel for panel in PAGES["fleet"]["panels"] if panel["title"] == "Worst first"]
    conditions = [(s["metric"]["instance"], float(s["value"][1])) for s in asked(stores[name], table["targets"][0])]
    assert conditions[:2] == [("rack-nobody", 5.0), ("rack-silent", 4.0)]
    assert conditions[2][0] == "rack-1"
    assert conditions[2][1] in (2.0, 3.0)
    assert len(conditions) == 3


@pytest.mark.parametrize("name", STORES)
def test_what_is_wrong_is_told_where_it_is(stores: dict[str, Store], name: str) -> None:
    store = stores[name]
    faults = {s["metric"]["code"]: s["metric"]["place"] for s in store.now('bmsd_fault_seconds{instance="rack-1"}')}
    assert faults["MOD-001"] == "string 2 module 2"
    assert [s["metric"]["part"] for s in store.now("bmsd_missing_part")] == ["module 2 of string 2 (address 4)"]
    assert {s["metric"]["string"] for s in store.now("bmsd_string_waiting")} == {"2"}
