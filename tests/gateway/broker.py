"""A real Mosquitto, and an independent client (paho) that keeps what it hears."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.gateway.control_end import wait_for
from tests.programs import free_port

MOSQUITTO = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
needs_mosquitto = pytest.mark.skipif(
    MOSQUITTO is None and os.environ.get("CI") != "true", reason="mosquitto is not installed: tests/tools/install"
)


class Broker:
    """Mosquitto on a port of 127.0.0.1 for as long as the block lasts. `lines` are added to its configuration."""

    def __init__(self, folder: Path, *lines: str, anonymous: bool = True) -> None:
        self.folder, self.port = folder, free_port()
        self.lines = list(lines)
        self._anonymous = anonymous

    def __enter__(self) -> Broker:
        assert MOSQUITTO is not None
        config = self.folder / "mosquitto.conf"
        user = ["user root"] if os.geteuid() == 0 else []  # else it gives up the right to read our keys
        anonymous = f"allow_anonymous {str(self._anonymous).lower()}"
        config.write_text("\n".join([*user, f"listener {self.port} 127.0.0.1", anonymous, *self.lines, ""]))
        self._log = open(self.folder / "mosquitto.log", "ab")
        self.process = subprocess.Popen([MOSQUITTO, "-c", str(config)], stdout=self._log, stderr=self._log)
        wait_for(self._listens)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self, number: signal.Signals = signal.SIGKILL) -> None:
        if self.process.poll() is None:
            self.process.send_signal(number)
        self.process.wait()
        self._log.close()

    def start(self) -> None:
        self.__enter__()

    def _listens(self) -> bool:
        assert self.process.poll() is None, (self.folder / "mosquitto.log").read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


def _no_constant(name: str) -> None:
    raise AssertionError(f"{name} is not JSON")


class Heard:
    """One message."""

    def __init__(self, message: paho.MQTTMessage) -> None:
        self.topic = message.topic
        self.kind = message.topic.rpartition("/")[2]
        self.retained = bool(message.retain)
        self.qos = message.qos
        self.at_s = time.monotonic()
        self.body: dict[str, Any] = json.loads(message.payload, parse_constant=_no_constant)


class Listener:
    """Hears everything below bmsd/. It comes back by itself; a `lasting` one finds what came while it was away."""

    def __init__(
        self, port: int, user: str = "", password: str = "", *, lasting: bool = False, name: str = "listener"
    ) -> None:
        self.everything: list[Heard] = []
        self._subscribed = threading.Event()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, name, protocol=paho.MQTTv5)
        self._client.on_connect = self._subscribe
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = lambda _client, _data, message: self.everything.append(Heard(message))
        self._client.reconnect_delay_set(1, 1)
        if user:
            self._client.username_pw_set(user, password)
        self._port, self._lasting = port, lasting

    def __enter__(self) -> Listener:
        kept = Properties(PacketTypes.CONNECT)
        kept.SessionExpiryInterval = 3600 if self._lasting else 0
        self._client.connect("127.0.0.1", self._port, clean_start=not self._lasting, properties=kept)
        self._client.loop_start()
        assert self._subscribed.wait(20.0)
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _subscribe(self, client: paho.Client, *_: Any) -> None:
        client.subscribe("bmsd/#", qos=1)

    def all(self, kind: str) -> list[Heard]:
        return [heard for heard in list(self.everything) if heard.kind == kind]

    def bodies(self, kind: str) -> list[dict[str, Any]]:
        return [heard.body for heard in self.all(kind)]

    def last(self, kind: str) -> dict[str, Any]:
        """The newest message of a kind, empty when there is none."""
        return (self.bodies(kind) or [{}])[-1]

    @property
    def state(self) -> str:
        return str(self.last("status").get("state", ""))

    def numbers(self) -> list[int]:
        """Numbers of the events heard, each once, in the order of their first coming."""
        return list(dict.fromkeys(body["number"] for body in self.bodies("evt")))


def retained(port: int, kind: str) -> dict[str, Any]:
    """What somebody who comes now is told at once."""
    with Listener(port, name="late") as late:
        wait_for(lambda: late.all(kind))
        first = late.all(kind)[0]
        assert first.retained
        return first.body


def certificates(folder: Path) -> None:
    """Write ca.pem, and server.pem, client.pem with their .key, signed by it; other.pem is a foreign authority."""

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    for name in ("ca", "other"):
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                "-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}")  # fmt: skip
    (folder / "names").write_text("subjectAltName=DNS:localhost\n")
    for name in ("server", "client"):
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")  # fmt: skip
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
                "-days", "2", "-out", f"{name}.pem", "-extfile", "names")  # fmt: skip


def encrypted(key: Path) -> Path:
    """Write this key once more, under a passphrase."""
    path = key.with_suffix(".locked")
    words = ["openssl", "ec", "-in", str(key), "-aes256", "-passout", "pass:secret", "-out", str(path)]
    subprocess.run(words, check=True, capture_output=True)
    return path


def passwords(folder: Path, **users: str) -> Path:
    """Write Mosquitto's password file and, for each user, USER.password for the gateway."""
    path = folder / "passwords"
    path.touch(mode=0o600)
    for user, password in users.items():
        subprocess.run(["mosquitto_passwd", "-b", str(path), user, password], check=True, capture_output=True)
        (folder / f"{user}.password").write_text(f"{password}\n")
    return path
