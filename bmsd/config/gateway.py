"""Settings of the gateway: who may ask it, where it listens, where it reports. Control never reads them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field

from bmsd.config.fields import Section, number, setting
from bmsd.config.schema import Link, Log, Rack, Settings

LOCAL = "127.0.0.1"


def _network(text: str) -> str:
    ip_network(text, strict=False)
    return text


def _host(text: str) -> str:
    """Refuse what can be neither a name nor an address; whether it is one, only the network knows."""
    if re.fullmatch(r"[0-9.]+|.*:.*", text):
        ip_address(text.partition("%")[0])
    elif not HOST_NAME.fullmatch(text):
        raise ValueError
    return text


_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
HOST_NAME = re.compile(rf"(?=.{{1,253}}$){_LABEL}(\.{_LABEL})*\.?")
HOST_FORM = 'a host name or an address such as "192.168.1.10"'
Host = Annotated[str, AfterValidator(_host)]
Network = Annotated[str, AfterValidator(_network)]
TopicWord = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]


class Modbus(Section):
    """Modbus TCP for SCADA and EMS. Read-only unless `writers` and `writable` say otherwise."""

    enabled: bool = setting("Whether it listens.", True)
    host: Host = setting("Address to listen on; 0.0.0.0 for all of IPv4.", LOCAL, form=HOST_FORM)
    port: int = number("Port; 502 is Modbus's own and needs the right to have it.", "", 1, 65535, 1502)
    most_clients: int = number("Connections at once; more are refused.", "", 1, 256, 32)
    most_per_address: int = number("Connections at once from one address.", "", 1, 256, 16)
    idle_s: float = number("A connection without a request for this long is closed.", "s", 5.0, 86400.0, 300.0)
    writers: list[Network] = setting(
        "Who may write; empty: nobody.", [], form='addresses or networks such as "192.168.1.20" or "10.0.5.0/24"'
    )
    writable: list[Literal["alarm_reset", "controller_heartbeat", "reserve_soc", "power_setpoint"]] = setting(
        "Points that they may write.", []
    )
    lease_s: float = number(
        "A written set-point lapses after this time, unless it is written again or its writer's heartbeat changes.",
        "s", 5.0, 3600.0, 60.0,
    )  # fmt: skip


class Mqtt(Section):
    """MQTT for telemetry and events."""

    enabled: bool = setting("Whether it connects.", False)
    host: Host = setting("Name or address of the broker.", LOCAL, form=HOST_FORM)
    port: int = number("Port of the broker; 8883 is usual with TLS.", "", 1, 65535, 1883)
    version: Literal["5", "3.1.1"] = setting("Version of the protocol.", "5")
    tenant: TopicWord = setting("Second part of every topic.", "default", form="letters, digits, _ . -")
    site: TopicWord = setting("Third part of every topic.", "site", form="letters, digits, _ . -")
    rack: TopicWord = setting("Fourth part of every topic; unique at the site.", "rack", form="letters, digits, _ . -")
    client_id: str = setting("Client id; empty: bmsd:TENANT:SITE:RACK.", "", max_length=64)
    period_s: float = number("Telemetry is sent this often.", "s", 0.2, 3600.0, 10.0)
    cells_every: int = number(
        "Every n-th telemetry message carries all cells; 1: every one, 0: none.", "", 0, 100000, 60
    )
    keepalive_s: int = number("The broker speaks our last will after 1.5 times this.", "s", 5, 600, 30)
    username: str = setting("User name; empty: none.", "")
    password_file: str = setting(
        "File with the password in its first line; empty: none. Of this and the other files a name without a slash is "
        "that of a credential of the unit (`LoadCredential=`).",
        "",
    )
    tls: bool = setting("Whether the connection is encrypted.", False)
    ca_file: str = setting("Certificates of the authorities to trust; empty: those of the system.", "")
    cert_file: str = setting("Our certificate, if the broker asks for one.", "")
    key_file: str = setting("Its private key.", "")


def mqtt_complaints(mqtt: Mqtt) -> list[str]:
    """Return what does not fit together: above all, what would send a password in clear by oversight."""
    lines = [
        f"mqtt.{name}: given, but mqtt.tls is false; expected mqtt.tls = true, or no such file"
        for name in ("ca_file", "cert_file", "key_file")
        if getattr(mqtt, name) and not mqtt.tls
    ]
    if mqtt.password_file and not mqtt.username:
        lines.append("mqtt.username: empty with mqtt.password_file given; expected the user whose password it is")
    for name, other in (("cert_file", "key_file"), ("key_file", "cert_file")):
        if getattr(mqtt, other) and not getattr(mqtt, name):
            lines.append(f"mqtt.{name}: empty with mqtt.{other} given; expected both or neither")
    return lines


class Web(Section):
    """REST, WebSocket stream and Prometheus metrics over HTTP. Read-only."""

    enabled: bool = setting("Whether it listens.", True)
    host: Host = setting("Address to listen on; 0.0.0.0 for all of IPv4.", LOCAL, form=HOST_FORM)
    port: int = number("Port to listen on.", "", 1, 65535, 8080)
    most_clients: int = number("Connections at once; more are closed.", "", 1, 1024, 64)
    most_per_address: int = number("Connections at once from one address.", "", 1, 1024, 32)
    most_streams: int = number("WebSocket readers at once; more are refused.", "", 1, 256, 16)
    cells_in_metrics: bool = setting("Whether /metrics has a series per cell and temperature sensor.", True)


class GatewaySettings(Section):
    """What the gateway reads of the file: the shared tables and its own. The rest is control's business."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    rack: Rack
    link: Link = Field(default_factory=Link)
    log: Log = Field(default_factory=Log)
    modbus: Modbus = Field(default_factory=Modbus)
    mqtt: Mqtt = Field(default_factory=Mqtt)
    web: Web = Field(default_factory=Web)


TAKEN_AS = {"alarm_reset": "reset", "reserve_soc": "reserve", "power_setpoint": "power"}
"""What control must take on its link (`link.takes`) for a point to be written."""


def outlets(settings: GatewaySettings) -> str:
    """Return where the gateway listens and reports, in one line for a person."""
    modbus, mqtt, web = settings.modbus, settings.mqtt, settings.web
    writes = f"{', '.join(modbus.writable)} may be written" if modbus.writers and modbus.writable else "read-only"
    lines = [
        f"Modbus on {modbus.host}:{modbus.port}, {writes}" if modbus.enabled else "no Modbus",
        f"REST and metrics on {web.host}:{web.port}" if web.enabled else "no REST",
        f"MQTT to {mqtt.host}:{mqtt.port}" if mqtt.enabled else "no MQTT",
    ]
    return f"gateway: {'; '.join(lines)}"


def notes(settings: GatewaySettings) -> Iterator[str]:
    """Yield what the file asks for in one place and does not allow in another."""
    modbus = settings.modbus
    if bool(modbus.writers) != bool(modbus.writable):
        given, lacking = ("writers", "writable") if modbus.writers else ("writable", "writers")
        yield f"modbus.{given}: given, but modbus.{lacking} is empty: nothing can be written"
    elif modbus.writers:
        wanted = {TAKEN_AS[point]: point for point in modbus.writable if point in TAKEN_AS}
        for what, point in wanted.items():
            if what not in settings.link.takes:
                yield f'modbus.writable: {point}, but link.takes lacks "{what}": control will refuse it'


class WholeFile(Settings):
    """Every table that a file may have: those of control and those of the gateway."""

    modbus: Modbus = Field(default_factory=Modbus)
    mqtt: Mqtt = Field(default_factory=Mqtt)
    web: Web = Field(default_factory=Web)


GATEWAY_TABLES = tuple(name for name in WholeFile.model_fields if name not in Settings.model_fields)
"""Tables that only the gateway reads."""
