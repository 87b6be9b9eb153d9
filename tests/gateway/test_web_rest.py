"""REST over real HTTP against the real server: what control said, its age, and never what is too old."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from bmsd.codec.plain import as_object
from bmsd.gateway.feed import STALE_S
from bmsd.gateway.web import shapes
from bmsd.model.bound import Bound
from bmsd.model.catalogue import CATALOGUE
from bmsd.model.fault import Fault
from bmsd.model.points import POINTS, values
from bmsd.model.published import Published
from bmsd.model.row import Level
from bmsd.model.snapshot import Feedback, Reading
from tests.gateway.control_end import ControlEnd, event, record, wait_for
from tests.gateway.web_end import WebEnd
from tests.programs import ROOT

MEASURED = ("/api/v1/snapshot", "/api/v1/limits", "/api/v1/faults", "/api/v1/points", "/api/v1/layout", "/health")
ALWAYS = ("/api/v1/catalogue", "/api/v1/events", "/health/live", "/metrics", "/openapi.json")


def ill() -> Published:
    """A record with an unknown cell, a module that never answered, unknown contacts, faults, bounds and a veto."""
    healthy = record()
    modules, units = healthy.snapshot.modules, healthy.snapshot.units
    modules.cell_v[1, 0, 2] = np.nan
    modules.cell_reading[1, 0, 2] = Reading.OPEN
    modules.cell_age_s[1, 1] = np.inf
    units = replace(
        units, current_a=np.array((-12.5, 3.0)), minus=np.array((Feedback.OPEN, Feedback.UNKNOWN)),
        plus=np.array((Feedback.CLOSED, Feedback.OPEN)),
    )  # fmt: skip
    return replace(
        healthy,
        snapshot=replace(healthy.snapshot, units=units, utc_s=1_700_000_000.25),
        faults=(
            Fault("CEL-014", "cell_voltage_invalid", Level.ALARM, 2, 1, 3, None, 4.5, 1, True),
            Fault("NEW-999", "of_a_newer_control", Level.TRIP, None, None, None, 1.5, 2.0, 1, False),
        ),
        charge_bounds=(Bound(0.0, "cell not known", "CEL-014", 1), Bound(70.0, "temperature", "charge_by_temperature")),
        vetoes=("charge limit of a string that is open",),
    )


@pytest.fixture
def ends(tmp_path: Path) -> Iterator[tuple[ControlEnd, WebEnd]]:
    with ControlEnd(tmp_path, ill()) as control, WebEnd(control.link) as web:
        web.until_good()
        yield control, web


@pytest.fixture
def web(ends: tuple[ControlEnd, WebEnd]) -> WebEnd:
    return ends[1]


def test_the_snapshot_shows_the_rack_with_null_for_what_is_not_known(web: WebEnd) -> None:
    shown = web.get("/api/v1/snapshot")
    assert np.array(shown["cells"]["voltage_v"], dtype=float).shape == (2, 2, 16)
    assert shown["cells"]["voltage_v"][1][0][1:4] == [3.3, None, 3.3]
    assert shown["cells"]["reading"][1][0][1:4] == ["ok", "open", "ok"]
    assert shown["module_age_s"][1] == [0.1, None]
    assert [one["string"] for one in shown["strings"]] == [1, 2]
    assert [one["current_a"] for one in shown["strings"]] == [-12.5, 3.0]
    assert shown["strings"][0]["contactors"] == {"minus": "open", "plus": "closed", "precharge": "open"}
    assert shown["strings"][1]["contactors"]["minus"] is None
    assert shown["points"]["cell_min_v"] == 3.3


def test_the_shape_in_the_schema_is_the_shape_of_the_record() -> None:
    shown = {**as_object(ill()), "age_s": 0.1, "boot_id": "b", "utc": None, "utc_quality": "unset"}
    shapes.Snapshot.model_validate(shown, extra="forbid")


@pytest.mark.parametrize("path", [*MEASURED, "/api/v1/events"])
def test_every_answer_says_which_instant_it_shows(web: WebEnd, path: str) -> None:
    shown = web.get(path)
    assert 0.0 <= shown["age_s"] < STALE_S
    assert shown["sequence"] > 1
    assert shown["boot_id"] == "boot-1"
    assert shown["utc"] == "2023-11-14T22:13:20.250Z"


def test_the_next_answer_shows_a_newer_record(web: WebEnd) -> None:
    first = web.get("/api/v1/limits")["sequence"]
    wait_for(lambda: web.get("/api/v1/limits")["sequence"] > first)


def test_limits_come_with_every_bound_in_controls_order(web: WebEnd) -> None:
    shown = web.get("/api/v1/limits")
    assert shown["charge"]["bounds"] == [
        {"amps": 0.0, "reason": "cell not known", "source": "CEL-014", "string": 2},
        {"amps": 70.0, "reason": "temperature", "source": "charge_by_temperature", "string": None},
    ]
    command = ill().command
    assert shown["charge"]["limit_a"] == command.ccl_a
    assert shown["discharge"]["limit_a"] == command.dcl_a
    assert (shown["charge_voltage_limit_v"], shown["discharge_voltage_limit_v"]) == (command.cvl_v, command.dvl_v)
    assert shown["vetoes"] == ["charge limit of a string that is open"]


def test_a_voltage_limit_that_is_not_sent_is_null(tmp_path: Path) -> None:
    silent = ill()
    silent = replace(silent, command=replace(silent.command, cvl_v=None, dvl_v=None))
    with ControlEnd(tmp_path, silent) as control, WebEnd(control.link) as web:
        web.until_good()
        assert web.get("/api/v1/limits")["charge_voltage_limit_v"] is None


def test_faults_come_with_the_words_of_the_catalogue(web: WebEnd) -> None:
    known, unknown = web.get("/api/v1/faults")["faults"]
    row = next(row for row in CATALOGUE if row.code == "CEL-014")
    assert (known["means"], known["does"], known["remedy"]) == (row.means, row.does, row.remedy)
    assert known["level"] == "alarm"
    assert (known["string"], known["module"], known["item"], known["value"]) == (2, 1, 3, None)
    assert known["latched"]
    assert unknown["code"] == "NEW-999"
    assert (unknown["level"], unknown["means"], unknown["latch"]) == ("trip", None, None)


def test_the_catalogue_has_every_row(web: WebEnd) -> None:
    shown = web.get("/api/v1/catalogue")["rows"]
    assert [(row["code"], row["latch"]) for row in shown] == [(row.code, row.latch.value) for row in CATALOGUE]


def test_every_point_is_there_with_its_value(web: WebEnd) -> None:
    shown = {point["name"]: point for point in web.get("/api/v1/points")["points"]}
    expected = values(ill())
    assert list(shown) == [point.name for point in POINTS]
    for point in POINTS:
        assert shown[point.name]["value"] == expected[point.name]
        assert (shown[point.name]["unit"], shown[point.name]["address"]) == (point.unit, point.address)


def test_the_layout_is_what_control_said_of_itself(web: WebEnd) -> None:
    shown = web.get("/api/v1/layout")
    assert (shown["strings"], shown["modules"], shown["cells"], shown["sensors"]) == (2, 2, 16, 4)
    assert (shown["rack"], shown["version"], shown["configuration"]) == ("rack", "0.1.0", "c0")


def test_events_can_be_followed_by_number(ends: tuple[ControlEnd, WebEnd]) -> None:
    control, web = ends
    control.tell(event(number) for number in range(1, 8))
    wait_for(lambda: len(web.get("/api/v1/events")["events"]) == 7)
    shown = web.get("/api/v1/events", since=2, most=3)
    assert [one["number"] for one in shown["events"]] == [3, 4, 5]
    assert shown["more"]
    shown = web.get("/api/v1/events", since=5, most=2)
    assert [one["number"] for one in shown["events"]] == [6, 7]
    assert not shown["more"]
    assert [one["number"] for one in web.get("/api/v1/events", most=2)["events"]] == [6, 7]
    assert shown["events"][0]["utc"] == "2023-11-14T22:13:20.000Z"
    assert shown["events"][0]["text"] == "event 6"


def test_events_of_an_earlier_start_stay_and_are_not_mixed_up_with_those_of_this_one(tmp_path: Path) -> None:
    with WebEnd(tmp_path / "link.sock") as web:
        for boot_id in ("first", "second"):
            with ControlEnd(tmp_path, boot_id=boot_id) as control:
                web.until_good()
                control.tell([event(1), event(2)])
                wait_for(lambda: [one["boot_id"] for one in web.get("/api/v1/events")["events"]].count(boot_id) == 2)  # noqa: B023
            wait_for(lambda: not web.feed.connected)
        shown = web.get("/api/v1/events")
        assert [(one["boot_id"], one["number"]) for one in shown["events"]] == [
            ("first", 1), ("first", 2), ("second", 1), ("second", 2),
        ]  # fmt: skip
        assert [one["boot_id"] for one in web.get("/api/v1/events", since=1)["events"]] == ["second"]


@pytest.mark.parametrize("path", MEASURED)
def test_a_record_that_is_too_old_is_never_shown(ends: tuple[ControlEnd, WebEnd], path: str) -> None:
    control, web = ends
    control.publishing = False
    web.until_stale()
    shown = web.get(path, 503)
    assert web.client.get(path).headers["content-type"] == "application/problem+json"
    assert shown["cause"] == "silent"
    assert shown["age_s"] > STALE_S
    assert shown["boot_id"] == "boot-1"
    shapes.Stale.model_validate(shown, extra="forbid")


@pytest.mark.parametrize("path", ALWAYS)
def test_what_is_true_without_control_stays_there(ends: tuple[ControlEnd, WebEnd], path: str) -> None:
    control, web = ends
    control.publishing = False
    web.until_stale()
    assert web.client.get(path).status_code == 200


def test_events_say_that_control_is_lost(ends: tuple[ControlEnd, WebEnd]) -> None:
    control, web = ends
    assert web.get("/api/v1/events")["stale"] is False
    control.publishing = False
    web.until_stale()
    assert web.get("/api/v1/events")["stale"] is True


def test_without_control_the_cause_is_named(tmp_path: Path) -> None:
    with WebEnd(tmp_path / "link.sock") as web:
        shown = web.get("/health", 503)
        assert (shown["cause"], shown["age_s"], shown["sequence"]) == ("never_reached", None, None)
        with ControlEnd(tmp_path):
            web.until_good()
        wait_for(lambda: not web.feed.connected)
        web.until_stale()
        assert web.get("/health", 503)["cause"] == "link_lost"
        web.late_s = 0.0
        with ControlEnd(tmp_path, boot_id="boot-2"):
            wait_for(lambda: web.client.get("/health").json()["boot_id"] == "boot-2")
            web.until_good()


@pytest.mark.parametrize(
    ("method", "path", "status", "words"),
    [
        ("GET", "/api/v1/nothing", 404, "/openapi.json"),
        ("GET", "/api/v1/snapshot/", 404, "nothing is at"),
        ("POST", "/api/v1/limits", 405, "GET"),
        ("DELETE", "/metrics", 405, "GET"),
        ("GET", "/api/v1/events?since=x", 422, "since: 'x'; input should be a valid integer"),
        ("GET", "/api/v1/events?since=-1", 422, "greater than or equal to 0"),
        ("GET", "/api/v1/events?most=1001", 422, "less than or equal to 1000"),
        ("GET", "/api/v1/events?sinse=1", 422, "sinse"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_in_one_shape(web: WebEnd, method: str, path: str, status: int, words: str) -> None:
    answer = web.client.request(method, path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.headers.get("allow") == "GET") == (status == 405)
    shown = answer.json()
    shapes.Problem.model_validate(shown, extra="forbid")
    assert shown["status"] == status
    assert words in shown["detail"]


@pytest.mark.parametrize("body", [b"x", b"x" * 10_000_000])
def test_a_body_is_refused_unread(web: WebEnd, body: bytes) -> None:
    try:
        assert web.client.request("POST", "/api/v1/limits", content=body).status_code == 413
    except httpx.NetworkError:  # the connection was closed while we were still writing
        assert len(body) > 1
    web.until_good()


def test_a_defect_is_an_answer_and_one_line_in_the_log(
    web: WebEnd, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(web.feed, "good", lambda: "no record")
    capfd.readouterr()
    for _ in range(3):
        assert web.get("/api/v1/limits", 500)["detail"] == "a defect of bmsd; its log has more"
    said = "".join(capfd.readouterr())
    assert said.count("web.defect") == 1
    assert "'str' object has no attribute 'command'" in said
    monkeypatch.undo()
    web.until_good()


def test_answers_are_not_kept_and_nothing_is_allowed_to_other_origins(web: WebEnd) -> None:
    headers = web.client.get("/api/v1/snapshot", headers={"origin": "http://elsewhere"}).headers
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"
    assert "access-control-allow-origin" not in headers
    assert "server" not in headers


def test_no_page_loads_anything_from_elsewhere(web: WebEnd) -> None:
    for path in ("/docs", "/redoc", "/docs/oauth2-redirect", "/"):
        assert web.client.get(path).status_code == 404
    assert "<script" not in web.client.get("/openapi.json").text


def test_the_schema_tells_unit_and_meaning(web: WebEnd) -> None:
    found = web.get("/openapi.json")["components"]["schemas"]
    units = {"_v": "V", "_a": "A", "_s": "s", "_degc": "degC"}
    for name, shape in found.items():
        for field, about in shape.get("properties", {}).items():
            unit = next((unit for ending, unit in units.items() if field.endswith(ending)), None)
            if unit:
                assert about.get("unit") == unit, f"{name}.{field}"
                assert about["description"], f"{name}.{field}"
    assert found["Points"]["properties"].keys() == {point.name for point in POINTS}


def test_the_whole_interface_is_in_the_schema(web: WebEnd) -> None:
    paths: dict[str, Any] = web.get("/openapi.json")["paths"]
    assert set(paths) == {*MEASURED, *ALWAYS} - {"/openapi.json"}
    for path in MEASURED:
        assert "503" in paths[path]["get"]["responses"]


def test_the_page_names_every_path(web: WebEnd) -> None:
    text = (ROOT / "docs" / "rest.md").read_text()
    for path in (*web.get("/openapi.json")["paths"], "/api/v1/stream", "/openapi.json"):
        assert text.count(f"| `{path}` |") == 1, path
