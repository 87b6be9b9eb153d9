"""How the publisher gets in, and what it says and does when it does not."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from amqtt.broker import Broker as Embedded
from paho.mqtt.client import MQTTMessage
from structlog.testing import capture_logs

from bmsd.errors import ConfigError
from bmsd.gateway.feed import Feed
from bmsd.gateway.mqtt.publisher import Publisher, longest_pause_s
from tests.gateway.broker import Broker, Listener, certificates, encrypted, free_port, needs_mosquitto, passwords
from tests.gateway.control_end import ControlEnd, event
from tests.gateway.test_mqtt_messages import VERSIONS, publishing, settings, until

ACL = "user rack\ntopic write bmsd/v1/default/site/rack/#\nuser reader\ntopic read bmsd/#\n"


@VERSIONS
@needs_mosquitto
async def test_tls_with_a_certificate_of_ours_and_a_password(tmp_path: Path, version: str) -> None:
    certificates(tmp_path)
    users = passwords(tmp_path, rack="secret", reader="other")
    (tmp_path / "acl").write_text(ACL)
    lines = (
        f"cafile {tmp_path}/ca.pem", f"certfile {tmp_path}/server.pem", f"keyfile {tmp_path}/server.key",
        "require_certificate true", f"password_file {users}", f"acl_file {tmp_path}/acl",
    )  # fmt: skip
    with Broker(tmp_path, *lines, anonymous=False) as broker, ControlEnd(tmp_path) as control:
        mqtt = settings(
            broker.port, host="localhost", version=version, tls=True, ca_file=str(tmp_path / "ca.pem"),
            cert_file=str(tmp_path / "client.pem"), key_file=str(tmp_path / "client.key"),
            username="rack", password_file=str(tmp_path / "rack.password"),
        )  # fmt: skip
        async with publishing(mqtt, Feed(control.link)) as publisher:
            control.tell([event(1)])
            await until(lambda: not control.server._events and publisher.sent >= 5)
        assert publisher.refused == 0


def log_of(logs: list[Any], name: str) -> dict[str, Any]:
    return next((entry for entry in logs if entry["event"] == name), {})


async def failing(folder: Path, **changes: Any) -> dict[str, Any]:
    """What is logged about a connection that fails; the feed must go on meanwhile."""
    with ControlEnd(folder) as control, capture_logs() as logs:
        feed = Feed(control.link)
        async with publishing(settings(**changes), feed, answer_s=0.5) as publisher:
            await until(lambda: log_of(logs, "mqtt.lost"))
            records = feed.records
            await asyncio.sleep(0.5)
            assert feed.records > records
            assert not publisher.connected
        assert len([entry for entry in logs if entry["event"] == "mqtt.lost"]) == 1, "said once, tried often"
    lost = log_of(logs, "mqtt.lost")
    assert lost["broker"] == f"{changes.get('host', '127.0.0.1')}:{changes['port']}"
    return lost


async def test_nobody_listens(tmp_path: Path) -> None:
    lost = await failing(tmp_path, port=free_port())
    assert lost["error"] == "nobody listens there"
    assert "mqtt.port" in lost["remedy"]


@pytest.mark.parametrize("host", ["broker.invalid"])
async def test_an_unknown_host(tmp_path: Path, host: str) -> None:
    lost = await failing(tmp_path, port=1883, host=host)
    assert f"mqtt.host {host} has no address" in lost["error"]


@needs_mosquitto
@VERSIONS
async def test_a_wrong_password_is_said_and_a_right_one_taken_without_a_restart(tmp_path: Path, version: str) -> None:
    users = passwords(tmp_path, rack="right")
    file = tmp_path / "rack.password"
    file.write_text("wrong\n")
    mqtt = {"version": version, "username": "rack", "password_file": str(file)}
    with Broker(tmp_path, f"password_file {users}", anonymous=False) as broker:
        lost = await failing(tmp_path, port=broker.port, **mqtt)
        assert lost["error"] in ("Not authorized", "Bad user name or password")
        assert "mqtt.password_file" in lost["remedy"]
        with ControlEnd(tmp_path) as control:
            async with publishing(settings(broker.port, **mqtt), Feed(control.link)) as publisher:
                await asyncio.sleep(0.3)
                assert not publisher.connected
                file.write_text("right\n")
                await until(lambda: publisher.connected)


@needs_mosquitto
@pytest.mark.parametrize("anonymous", [False, True])
async def test_it_leaves_at_whatever_moment_it_is_told_to(tmp_path: Path, anonymous: bool) -> None:
    """Python 3.11's wait_for may answer a cancellation with what arrives at the same moment."""
    users = passwords(tmp_path, rack="right")
    with Broker(tmp_path, f"password_file {users}", anonymous=anonymous) as broker, ControlEnd(tmp_path) as control:
        feed = Feed(control.link)
        following = asyncio.create_task(feed.run())
        await feed.next()
        for tenth_ms in range(100):
            publisher = Publisher(settings(broker.port), feed, shortest_s=0.001, longest_s=0.002)
            task = asyncio.create_task(publisher.run())
            await asyncio.sleep(tenth_ms * 1e-4)
            task.cancel()
            assert (await asyncio.wait([task], timeout=20.0))[0], f"still there after {tenth_ms / 10:g} ms"
        following.cancel()


@needs_mosquitto
async def test_an_authority_or_a_name_that_is_not_the_brokers(tmp_path: Path) -> None:
    certificates(tmp_path)
    lines = (f"certfile {tmp_path}/server.pem", f"keyfile {tmp_path}/server.key")
    with Broker(tmp_path, *lines) as broker:
        ca, other = str(tmp_path / "ca.pem"), str(tmp_path / "other.pem")
        lost = await failing(tmp_path, port=broker.port, host="localhost", tls=True, ca_file=other)
        assert "certificate is not trusted" in lost["error"]
        assert "mqtt.ca_file" in lost["remedy"]
        lost = await failing(tmp_path, port=broker.port, tls=True, ca_file=ca)
        assert "127.0.0.1" in lost["error"]
        assert "mqtt.host" in lost["remedy"]


@needs_mosquitto
async def test_a_broker_without_tls_where_tls_is_wanted_and_the_other_way_round(tmp_path: Path) -> None:
    certificates(tmp_path)
    with Broker(tmp_path) as broker:
        lost = await failing(tmp_path, port=broker.port, tls=True, ca_file=str(tmp_path / "ca.pem"))
        assert "mqtt.tls" in lost["remedy"] or "no TLS" in lost["error"]
    with Broker(tmp_path, f"certfile {tmp_path}/server.pem", f"keyfile {tmp_path}/server.key") as broker:
        lost = await failing(tmp_path, port=broker.port)
        assert "mqtt.tls" in lost["remedy"]


@pytest.mark.parametrize("tls", [False, True])
async def test_a_peer_that_takes_the_connection_and_says_nothing(tmp_path: Path, tls: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        lost = await failing(tmp_path, port=silent.getsockname()[1], tls=tls)
    assert lost["error"] == "no answer in time"
    assert "mqtt.version" in lost["remedy"]


@needs_mosquitto
async def test_a_broker_that_stops_answering_is_left_and_found_again(tmp_path: Path) -> None:
    """Its answers get lost on the way, and nothing is closed. What it is told must not be a goodbye: it is offline."""
    with Broker(tmp_path) as broker, ControlEnd(tmp_path) as control, Listener(broker.port) as listener:
        proxy = Proxy(broker.port)
        async with proxy, publishing(settings(proxy.port), Feed(control.link), answer_s=0.5) as publisher:
            await until(lambda: publisher.connected and listener.state == "online")
            proxy.silent = True
            control.tell([event(1)])
            await until(lambda: not publisher.connected)
            assert len(control.server._events) == 1
            await until(lambda: listener.state == "offline")
            proxy.silent = False
            await until(lambda: listener.numbers() == [1] and listener.state == "online")
            assert publisher.reconnects >= 1


class Proxy:
    """Passes bytes between a client and a broker; while `silent`, nothing of the broker's, and nobody new."""

    def __init__(self, port: int) -> None:
        self._broker_port = port
        self.port = free_port()
        self.silent = False

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._meet, "127.0.0.1", self.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.silent:
            writer.close()
            return
        inner, outer = await asyncio.open_connection("127.0.0.1", self._broker_port)
        await asyncio.gather(self._pass(reader, outer, asked=True), self._pass(inner, writer, asked=False))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, asked: bool) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(4096):
                if asked or not self.silent:
                    writer.write(data)
        writer.close()


@needs_mosquitto
async def test_a_refused_event_is_kept_until_the_access_list_allows_it(tmp_path: Path) -> None:
    """Only version 5 of the protocol can say that a message was refused."""
    acl, users = tmp_path / "acl", passwords(tmp_path, rack="secret")
    topic = "topic write bmsd/v1/default/site/rack"
    acl.write_text(f"user rack\n{topic}/status\n{topic}/meta\n{topic}/tel\n")
    broker = Broker(tmp_path, f"password_file {users}", f"acl_file {acl}", anonymous=False)
    mqtt = {"username": "rack", "password_file": str(tmp_path / "rack.password")}
    with ControlEnd(tmp_path) as control, broker, capture_logs() as logs:
        async with publishing(settings(broker.port, **mqtt), Feed(control.link)) as publisher:
            control.tell([event(1)])
            await until(lambda: publisher.refused)
            assert publisher.connected
            refused = log_of(logs, "mqtt.refused")
            assert refused["topic"] == "bmsd/v1/default/site/rack/evt"
            assert "access list" in refused["remedy"]
            assert len(control.server._events) == 1
            acl.write_text(f"user rack\n{topic}/#\n")
            broker.stop()
            broker.start()
            await until(lambda: not control.server._events)


@needs_mosquitto
@VERSIONS
async def test_a_rack_cannot_speak_for_another_one(tmp_path: Path, version: str) -> None:
    """The example of docs/mqtt.md: a user writes below the rack of its own name. Only version 5 can tell it so."""
    users = passwords(tmp_path, rack1="one", reader="other")
    (tmp_path / "acl").write_text("pattern write bmsd/v1/acme/s1/%u/#\nuser reader\ntopic read bmsd/v1/acme/#\n")
    mqtt = {
        "version": version, "tenant": "acme", "site": "s1", "username": "rack1",
        "password_file": str(tmp_path / "rack1.password"),
    }  # fmt: skip
    with (
        Broker(tmp_path, f"password_file {users}", f"acl_file {tmp_path}/acl", anonymous=False) as broker,
        Listener(broker.port, "reader", "other") as listener,
    ):
        with ControlEnd(tmp_path) as control:
            async with publishing(settings(broker.port, rack="rack2", **mqtt), Feed(control.link)) as publisher:
                await until(lambda: publisher.refused + publisher.sent >= 4)
                assert (publisher.refused == 0) == (version == "3.1.1")
            async with publishing(settings(broker.port, rack="rack1", **mqtt), Feed(control.link)):
                await until(lambda: listener.state == "online")
        assert {heard.topic.split("/")[4] for heard in listener.everything} == {"rack1"}


@needs_mosquitto
async def test_two_racks_with_one_name_are_told_to_have_two(tmp_path: Path) -> None:
    with Broker(tmp_path) as broker, ControlEnd(tmp_path) as control, capture_logs() as logs:
        mqtt = settings(broker.port)
        async with publishing(mqtt, Feed(control.link)), publishing(mqtt, Feed(control.link)):
            await until(lambda: any("same id" in entry.get("remedy", "") for entry in logs))


async def test_the_embedded_broker_of_the_demo(tmp_path: Path) -> None:
    port = free_port()
    plugins = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}
    broker = Embedded({"listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}}, "plugins": plugins})
    await broker.start()
    try:
        with ControlEnd(tmp_path) as control:
            control.tell([event(1)])
            async with publishing(settings(port, version="3.1.1"), Feed(control.link)) as publisher:
                await until(lambda: not control.server._events and publisher.sent >= 6)
            assert publisher.connects == 1
    finally:
        await broker.shutdown()


async def test_what_a_broker_sends_unasked_is_not_kept(tmp_path: Path) -> None:
    client = Publisher(settings(free_port()), Feed(tmp_path / "link.sock"))._client()
    for _ in range(1000):
        client._on_message(client._client, None, MQTTMessage(topic=b"a"))
    assert len(client.messages) <= 1


def test_pauses_double_up_to_the_longest() -> None:
    assert [longest_pause_s(attempt, 1.0, 120.0) for attempt in (1, 2, 6, 7, 8, 10**6)] == [2, 4, 64, 120, 120, 120]


async def test_all_files_that_cannot_be_used_are_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "nonsense").write_text("no certificate")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    missing = str(tmp_path / "missing")
    cases: list[tuple[dict[str, str], list[str]]] = [
        ({"password_file": missing, "ca_file": missing}, ["mqtt.password_file", "mqtt.ca_file"]),
        ({"password_file": str(tmp_path), "key_file": missing, "cert_file": missing},
         ["mqtt.password_file", "mqtt.cert_file", "mqtt.key_file"]),
        ({"password_file": str(tmp_path / "empty"), "ca_file": str(tmp_path / "nonsense")},
         ["mqtt.password_file", "mqtt.ca_file"]),
        ({"password_file": str(tmp_path / "binary")}, ["mqtt.password_file"]),
        ({"cert_file": str(tmp_path / "nonsense"), "key_file": str(tmp_path / "nonsense")}, ["mqtt.cert_file"]),
    ]  # fmt: skip
    for files, expected in cases:
        with pytest.raises(ConfigError) as wrong:
            Publisher(settings(1883, tls=True, username="rack", **files), Feed(tmp_path / "link.sock"))
        assert [line.partition(":")[0] for line in wrong.value.complaints] == expected
        assert all("expected" in line for line in wrong.value.complaints)


async def test_a_key_with_a_passphrase_is_refused_and_asks_nobody(tmp_path: Path) -> None:
    certificates(tmp_path)
    key = encrypted(tmp_path / "client.key")
    files = {"cert_file": str(tmp_path / "client.pem"), "key_file": str(key)}
    with pytest.raises(ConfigError, match="no passphrase"):
        Publisher(settings(1883, tls=True, **files), Feed(tmp_path / "link.sock"))


@needs_mosquitto
async def test_a_certificate_that_vanishes_later_does_not_end_the_gateway(tmp_path: Path) -> None:
    certificates(tmp_path)
    ca = tmp_path / "ca.pem"
    broker = Broker(tmp_path, f"certfile {tmp_path}/server.pem", f"keyfile {tmp_path}/server.key")
    with ControlEnd(tmp_path) as control, capture_logs() as logs:
        mqtt = settings(broker.port, host="localhost", tls=True, ca_file=str(ca))
        async with publishing(mqtt, Feed(control.link)) as publisher:
            ca.rename(tmp_path / "away")
            await until(lambda: any("mqtt.ca_file" in entry.get("error", "") for entry in logs))
            (tmp_path / "away").rename(ca)
            with broker:
                await until(lambda: publisher.sent)


async def test_a_password_in_clear_is_warned_of(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("secret\n")
    with capture_logs() as logs:
        mqtt = settings(1883, username="rack", password_file=str(tmp_path / "password"))
        Publisher(mqtt, Feed(tmp_path / "link.sock"))
    assert "mqtt.tls" in log_of(logs, "mqtt.in_clear")["remedy"]
    assert "secret" not in str(logs)
