"""A real Mosquitto with the configuration, the ACL and the secrets of the compose file, and the real gateway on it."""

from __future__ import annotations

import json
import os
import re
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from tests.gateway.broker import MOSQUITTO, needs_mosquitto
from tests.gateway.control_end import ControlEnd, wait_for
from tests.programs import ROOT, Program, free_port, rack_file

pytestmark = needs_mosquitto

COMPOSE = ROOT / "deploy" / "compose"
OWN = "bmsd/v1/default/demo/rack-1"


def make_secrets(folder: Path, names: str = "") -> Path:
    """Run the script; return the folder that has one for each service."""
    folder.mkdir(exist_ok=True)
    words = ["sh", str(COMPOSE / "secrets.sh"), str(folder)]
    environment = {**os.environ, "BROKER_NAMES": names}
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return folder


class Site:
    """The broker with its secrets, on a port of this computer."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.secrets = make_secrets(folder / "secrets")

    def password(self, path: str) -> str:
        return (self.secrets / path).read_text().strip()

    def __enter__(self) -> Site:
        text = (COMPOSE / "mosquitto.conf").read_text()
        for inside, outside in (
            ("listener 8883", f"listener {self.port} 127.0.0.1"), ("/mosquitto/secrets", f"{self.secrets}/broker"),
            ("/mosquitto/config/mosquitto.acl", f"{self.folder}/acl"), ("/mosquitto/data/", f"{self.folder}/"),
        ):  # fmt: skip
            assert inside in text
            text = text.replace(inside, outside)
        (self.folder / "acl").write_bytes((COMPOSE / "mosquitto.acl").read_bytes())
        (self.folder / "acl").chmod(0o600)
        root = "user root\n" if os.geteuid() == 0 else ""  # else it gives up the right to read our keys
        (self.folder / "mosquitto.conf").write_text(root + text)
        assert MOSQUITTO is not None
        self._log = self.folder / "mosquitto.log"
        with open(self._log, "wb") as log:
            self._process = subprocess.Popen(
                [MOSQUITTO, "-c", str(self.folder / "mosquitto.conf")], stdout=log, stderr=log
            )
        wait_for(self._listens)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def _listens(self) -> bool:
        assert self._process.poll() is None, self._log.read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


class Client:
    """A client over TLS that keeps what it hears. `code` is the broker's answer to it, None: there was none."""

    def __init__(self, site: Site, user: str, password: str, name: str) -> None:
        self.heard: list[paho.MQTTMessage] = []
        self.code: Any = None
        self._answered, self._subscribed = threading.Event(), threading.Event()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, name, protocol=paho.MQTTv5)
        self._client.tls_set_context(ssl.create_default_context(cafile=str(site.secrets / "bmsd" / "ca.pem")))
        self._client.on_connect = self._connected
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = lambda _client, _data, message: self.heard.append(message)
        if user:
            self._client.username_pw_set(user, password)
        self._port = site.port

    def __enter__(self) -> Client:
        self._client.connect("localhost", self._port)
        self._client.loop_start()
        assert self._answered.wait(20.0)
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _connected(self, _client: Any, _data: Any, _flags: Any, code: Any, _properties: Any) -> None:
        self.code = self.code or code
        self._answered.set()

    def subscribe(self) -> None:
        self._client.subscribe("#", qos=1)
        assert self._subscribed.wait(20.0)

    def publish(self, topic: str) -> str:
        """Publish with an acknowledgement; return what the broker says to it."""
        said: list[str] = []
        self._client.on_publish = lambda _client, _data, _number, code, _properties: said.append(str(code))
        self._client.publish(topic, "x", qos=1)
        wait_for(lambda: said)
        return said[0]

    def state(self) -> str:
        """State in the newest status; empty when there is none."""
        told = [message for message in list(self.heard) if message.topic.endswith("/status")]
        return str(json.loads(told[-1].payload)["state"]) if told else ""

    def topics(self) -> set[str]:
        return {message.topic for message in list(self.heard)}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Site(tmp_path) as site:
        yield site


def gateway_file(site: Site) -> Path:
    """The MQTT table of the demo rack, with this broker and its secrets, for a rack of the tests."""
    table = re.search(r"^\[mqtt\]\n(.+?)\n\n", (COMPOSE / "demo.toml").read_text(), re.DOTALL | re.MULTILINE)
    assert table
    text = table[0].replace('host = "mosquitto"\nport = 8883', f'host = "localhost"\nport = {site.port}')
    text = text.replace("/run/secrets/bmsd", f"{site.secrets}/bmsd")
    config = rack_file(site.folder)
    config.write_text(f"{config.read_text()}[modbus]\nenabled = false\n[web]\nenabled = false\n{text}")
    return config


def test_the_gateway_publishes_and_the_reader_sees_it(site: Site) -> None:
    with (
        ControlEnd(site.folder),
        Client(site, "reader", site.password("authority/reader.password"), "reader") as reader,
        Program(site.folder, "gateway", "-c", gateway_file(site)) as gateway,
    ):
        reader.subscribe()
        gateway.wait_for(lambda: reader.state() == "online")
        gateway.wait_for(lambda: reader.topics() == {f"{OWN}/{kind}" for kind in ("status", "meta", "tel")})
        assert gateway.end() == 0
        wait_for(lambda: reader.state() == "offline")


def test_everybody_does_what_the_acl_grants_and_no_more(site: Site) -> None:
    own = site.password("bmsd/mqtt.password")
    with (
        Client(site, "reader", site.password("authority/reader.password"), "reader") as reader,
        Client(site, "rack-1", own, "rack") as rack,
    ):
        reader.subscribe()
        rack.subscribe()
        assert rack.publish(f"{OWN}/evt") == "Success"
        for topic in ("bmsd/v1/default/demo/rack-2/evt", "bmsd/v1/default/demo/rack-1x/evt", "elsewhere"):
            assert rack.publish(topic) == "Not authorized", topic
        assert reader.publish(f"{OWN}/evt") == "Not authorized"
        wait_for(lambda: reader.topics() == {f"{OWN}/evt"})
        assert rack.topics() == set(), "a rack reads nothing, not even its own"


def test_nobody_comes_in_without_a_password_or_without_tls(site: Site) -> None:
    own, others = site.password("bmsd/mqtt.password"), site.password("authority/reader.password")
    for user, password in (("", ""), ("rack-1", "wrong"), ("rack-1", others), ("reader", own), ("root", own)):
        with Client(site, user, password, "stranger") as stranger:
            assert str(stranger.code) == "Not authorized", user
    with socket.create_connection(("127.0.0.1", site.port), 20.0) as plain:
        plain.sendall(bytes.fromhex("101000044d5154540402003c000474657374"))
        try:
            answer = plain.recv(16)
        except ConnectionResetError:
            answer = b""
    assert answer[:1] != b"\x20", "a CONNACK in clear"


def test_secrets_are_made_once_are_for_their_owner_only_and_follow_the_names(tmp_path: Path) -> None:
    folder = make_secrets(tmp_path / "secrets")
    files = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert {str(path.relative_to(folder)) for path in files} == {
        "authority/ca.pem", "authority/ca.key", "authority/reader.password", "broker/server.pem", "broker/server.key",
        "broker/names", "broker/passwords", "bmsd/ca.pem", "bmsd/mqtt.password", "grafana/admin.password",
    }  # fmt: skip
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    make_secrets(folder)
    changed = {path.name for path, was in files.items() if path.read_bytes() != was}
    assert changed == {"passwords"}, "salted anew"
    make_secrets(folder, "DNS:gateway.example,IP:192.168.1.10")
    changed = {path.name for path, was in files.items() if path.read_bytes() != was}
    assert changed == {"passwords", "names", "server.pem", "server.key"}
    shown = ["openssl", "x509", "-in", str(folder / "broker" / "server.pem"), "-noout", "-ext", "subjectAltName"]
    assert "DNS:gateway.example" in subprocess.run(shown, capture_output=True, text=True, check=True).stdout


def short_lived(certificate: Path) -> None:
    """Put a certificate with five days left in this place."""
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-days", "5", "-subj", "/CN=old", "-keyout", str(certificate.with_suffix(".key")), "-out",
                    str(certificate)], check=True, capture_output=True)  # fmt: skip


@pytest.mark.parametrize("expiring", ["broker/server.pem", "authority/ca.pem"])
def test_what_is_about_to_expire_is_made_anew_and_passwords_stay(tmp_path: Path, expiring: str) -> None:
    folder = make_secrets(tmp_path / "secrets")
    password, authority = (folder / name for name in ("bmsd/mqtt.password", "bmsd/ca.pem"))
    before = password.read_text(), authority.read_text()
    short_lived(folder / expiring)
    make_secrets(folder)
    assert password.read_text() == before[0]
    assert (authority.read_text() == before[1]) == (expiring == "broker/server.pem")
    words = ["openssl", "verify", "-x509_strict", "-CAfile", str(authority), str(folder / "broker" / "server.pem")]
    subprocess.run(words, check=True, capture_output=True)
