"""What the broker's readers hear, with a real Mosquitto and a real end of control."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bmsd.config.gateway import Mqtt
from bmsd.gateway.feed import Feed
from bmsd.gateway.mqtt.publisher import Publisher
from bmsd.model.points import POINTS
from tests.gateway.broker import Broker, Listener, needs_mosquitto, retained
from tests.gateway.control_end import ControlEnd, event, record
from tests.programs import ROOT

pytestmark = needs_mosquitto
VERSIONS = pytest.mark.parametrize("version", ["5", "3.1.1"])


def settings(port: int, **changes: Any) -> Mqtt:
    return Mqtt(**{"enabled": True, "port": port, "period_s": 0.2, **changes})


@asynccontextmanager
async def publishing(mqtt: Mqtt, feed: Feed, answer_s: float = 10.0) -> AsyncIterator[Publisher]:
    """Feed and publisher, running; pauses are short."""
    publisher = Publisher(mqtt, feed, shortest_s=0.05, longest_s=0.2, answer_s=answer_s)
    tasks = [asyncio.create_task(feed.run()), asyncio.create_task(publisher.run())]
    try:
        yield publisher
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task


async def until(what: Callable[[], object], within_s: float = 20.0) -> None:
    async with asyncio.timeout(within_s):
        while not what():
            await asyncio.sleep(0.01)


@VERSIONS
async def test_who_comes_late_is_told_state_and_description_at_once(tmp_path: Path, version: str) -> None:
    with Broker(tmp_path) as broker, ControlEnd(tmp_path) as control:
        mqtt = settings(broker.port, version=version, tenant="acme", site="s1", rack="r1")
        async with publishing(mqtt, Feed(control.link)) as publisher:
            await until(lambda: publisher.sent >= 4)
            status = await asyncio.to_thread(retained, broker.port, "status")
            meta = await asyncio.to_thread(retained, broker.port, "meta")
        assert (status["state"], status["boot_id"], status["reason"]) == ("online", "boot-1", "")
        assert meta["layout"] == {
            "strings": 2, "modules_per_string": 2, "cells_per_module": 16, "sensors_per_module": 4,
        }  # fmt: skip
        assert (meta["version"], meta["configuration"], meta["catalogue"]) == ("0.1.0", "c0", "ca")
        assert meta["points"]["voltage_v"]["unit"] == "V"


@VERSIONS
async def test_telemetry_is_one_message_with_all_points(tmp_path: Path, version: str) -> None:
    with Broker(tmp_path) as broker, ControlEnd(tmp_path) as control, Listener(broker.port) as listener:
        async with publishing(settings(broker.port, version=version), Feed(control.link)):
            await until(lambda: len(listener.all("tel")) >= 4)
    first, *_, last = listener.all("tel")
    assert first.topic == "bmsd/v1/default/site/rack/tel"
    assert (first.retained, first.qos) == (False, 1)
    assert last.body["points"].keys() == {point.name for point in POINTS}
    assert [string["state"] for string in last.body["strings"]] == [s.state for s in control.published.strings]
    assert last.body["sequence"] > first.body["sequence"]
    assert last.body["age_s"] < 1.0
    assert last.body["utc_quality"] in ("synchronised", "unsynchronised", "unknown")
    assert (last.body["gap"], last.body["dropped_events"]) == (0, 0)


async def test_what_is_not_known_is_null(tmp_path: Path) -> None:
    published = record()
    cell_v = published.snapshot.modules.cell_v.copy()
    cell_v[0, 0, 3] = np.nan
    modules = replace(published.snapshot.modules, cell_v=cell_v)
    published = replace(published, snapshot=replace(published.snapshot, modules=modules))
    with Broker(tmp_path) as broker, ControlEnd(tmp_path, published) as control, Listener(broker.port) as listener:
        async with publishing(settings(broker.port), Feed(control.link)):
            await until(lambda: listener.all("tel"))
    cells = listener.bodies("tel")[0]["cell_v"]
    assert cells[0][0][3] is None
    assert cells[0][0][2] == pytest.approx(cell_v[0, 0, 2], abs=1e-4)
    assert listener.bodies("tel")[0]["points"]["cells_unknown"] == 1


@pytest.mark.parametrize(("every", "carry"), [(0, [0, 0, 0, 0]), (1, [1, 1, 1, 1]), (3, [1, 0, 0, 1])])
async def test_cells_come_with_every_nth_message(tmp_path: Path, every: int, carry: list[int]) -> None:
    with Broker(tmp_path) as broker, ControlEnd(tmp_path) as control, Listener(broker.port) as listener:
        async with publishing(settings(broker.port, cells_every=every), Feed(control.link)):
            await until(lambda: len(listener.all("tel")) >= 4)
    messages = listener.bodies("tel")[:4]
    assert ["cell_v" in message for message in messages] == [bool(one) for one in carry]
    assert ["temperature_degc" in message for message in messages] == [bool(one) for one in carry]


@VERSIONS
async def test_control_forgets_an_event_only_when_the_broker_has_it(tmp_path: Path, version: str) -> None:
    broker = Broker(tmp_path)
    with ControlEnd(tmp_path) as control:
        async with publishing(settings(broker.port, version=version), Feed(control.link)) as publisher:
            await until(lambda: publisher._feed.newest)
            control.tell(event(number) for number in (1, 2, 3))
            await until(lambda: publisher._feed._heard_number == 3)
            assert len(control.server._events) == 3
            with broker, Listener(broker.port) as listener:
                await until(lambda: not control.server._events)
                await until(lambda: len(listener.numbers()) == 3)
    assert listener.numbers() == [1, 2, 3]
    first = listener.all("evt")[0]
    assert (first.qos, first.retained) == (1, False)
    assert (first.body["boot_id"], first.body["code"], first.body["string"]) == ("boot-1", "CEL-001", 1)
    assert first.body["utc"] == "2023-11-14T22:13:20.000Z"


async def test_events_of_a_control_process_that_ended_keep_its_boot_id(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    async with publishing(settings(broker.port), Feed(tmp_path / "link.sock")) as publisher:
        feed = publisher._feed
        with ControlEnd(tmp_path) as control:
            await until(lambda: feed.connected)
            control.tell(event(number) for number in (1, 2, 3))
            await until(lambda: feed._heard_number == 3)
        with ControlEnd(tmp_path, boot_id="boot-2") as control:
            await until(lambda: feed.hello is not None and feed.hello.boot_id == "boot-2")
            control.tell([event(1), event(2)])
            await until(lambda: feed._heard_number == 2)
            assert feed._acknowledged == 0
            with broker, Listener(broker.port) as listener:
                await until(lambda: not control.server._events)
                await until(lambda: len(listener.all("evt")) >= 5)
    seen = [(body["boot_id"], body["number"]) for body in listener.bodies("evt")]
    assert list(dict.fromkeys(seen)) == [("boot-1", 1), ("boot-1", 2), ("boot-1", 3), ("boot-2", 1), ("boot-2", 2)]


async def test_a_new_control_process_is_described_anew(tmp_path: Path) -> None:
    with Broker(tmp_path) as broker, Listener(broker.port) as listener:
        async with publishing(settings(broker.port), Feed(tmp_path / "link.sock")):
            with ControlEnd(tmp_path):
                await until(lambda: listener.last("meta").get("boot_id") == "boot-1")
            with ControlEnd(tmp_path, boot_id="boot-2"):
                await until(lambda: listener.last("meta").get("boot_id") == "boot-2")
                await until(lambda: listener.last("status").get("boot_id") == "boot-2" and listener.state == "online")


async def test_silent_control_is_said_within_2_s_and_no_old_value_is_sent(tmp_path: Path) -> None:
    with Broker(tmp_path) as broker, ControlEnd(tmp_path) as control, Listener(broker.port) as listener:
        async with publishing(settings(broker.port), Feed(control.link)) as publisher:
            await until(lambda: listener.state == "online" and listener.all("tel"))
            control.publishing, silent_s = False, time.monotonic()
            await until(lambda: listener.state == "control_lost")
            assert listener.all("status")[-1].at_s - silent_s < 2.0
            assert await asyncio.to_thread(retained, broker.port, "status") == listener.last("status")
            before = len(listener.all("tel"))
            await asyncio.sleep(1.0)
            assert len(listener.all("tel")) == before
            control.publishing = True
            await until(lambda: listener.state == "online" and len(listener.all("tel")) > before)
            assert listener.bodies("tel")[before]["gap"] >= 4
            assert publisher.missed >= 4


def heard(feed: Feed, number: int) -> bool:
    return feed._heard_number == number


async def test_events_that_had_to_be_dropped_are_said(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    with ControlEnd(tmp_path) as control:
        async with publishing(settings(broker.port), Feed(control.link)) as publisher:
            await until(lambda: publisher._feed.newest)
            for start in (1, 601):
                control.tell(event(number) for number in range(start, start + 600))
                await until(partial(heard, publisher._feed, start + 599))
            with broker, Listener(broker.port) as listener:
                await until(lambda: 1200 in listener.numbers())
    dropped = publisher.dropped_events
    assert dropped == listener.bodies("evt")[0]["dropped_events"] > 0
    assert listener.numbers() == list(range(dropped + 1, 1201))


def documented(kind: str) -> dict[str, Any]:
    """The example of this message in the page."""
    page = (ROOT / "docs" / "mqtt.md").read_text()
    found = re.search(rf"^### {kind}\n\n```json\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert found
    return json.loads(found[1])


def keys(value: Any) -> Any:
    """The keys of an object, and of those in it; points are a choice of many in the page."""
    if isinstance(value, list):
        return keys(value[0]) if value and isinstance(value[0], dict) else None
    if not isinstance(value, dict):
        return None
    return {key: None if key == "points" else keys(inner) for key, inner in value.items()}


async def test_the_page_shows_the_messages_as_they_are(tmp_path: Path) -> None:
    with Broker(tmp_path) as broker, ControlEnd(tmp_path) as control, Listener(broker.port) as listener:
        async with publishing(settings(broker.port), Feed(control.link)):
            control.tell([event(1)])
            await until(lambda: all(listener.all(kind) for kind in ("status", "meta", "tel", "evt")))
            await until(lambda: listener.state == "online")
    for kind in ("status", "meta", "tel", "evt"):
        real, shown = listener.bodies(kind)[0], documented(kind)
        assert keys(real) == keys(shown)
        assert real.get("points", {}).keys() >= shown.get("points", {}).keys()
        assert real["schema"] == shown["schema"]
