"""Why there is no connection, and what the technician can do about it."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator

from aiomqtt.exceptions import MqttCodeError
from paho.mqtt.reasoncodes import ReasonCode

from bmsd.config.gateway import Mqtt

USERS = "compare mqtt.username and the first line of mqtt.password_file with the broker's users and access list"
ANSWERS = {
    0x80: "see the broker's log; has another client the same id (mqtt.rack, mqtt.client_id)?",
    0x84: 'mqtt.version: try "3.1.1"',
    0x85: "mqtt.client_id: the broker does not take this one",
    0x86: USERS,
    0x87: USERS,  # Mosquitto says this of a wrong password, too
    0x8E: "another client has the same id: give every rack its own mqtt.rack or mqtt.client_id",
}
"""By MQTT 5's reason codes; paho translates those of 3.1.1."""
UNSPECIFIED = 0x80
BROKEN = "the connection broke"
SILENT = (
    "is this the port of an MQTT broker, and mqtt.tls what it expects there? "
    'A broker without MQTT 5 needs mqtt.version = "3.1.1"'
)


def explained(error: BaseException, mqtt: Mqtt) -> tuple[str, str]:
    """Return what happened and what to do."""
    for cause in _causes(error):
        code = cause.rc if isinstance(cause, MqttCodeError) else None
        if isinstance(code, ReasonCode):
            return BROKEN if code.value == UNSPECIFIED else str(code), ANSWERS.get(code.value, "see the broker's log")
        if isinstance(cause, socket.gaierror | UnicodeError):
            return f"mqtt.host {mqtt.host} has no address: {cause}", "check mqtt.host and this computer's name service"
        if isinstance(cause, ssl.SSLCertVerificationError):
            what = f"the broker's certificate is not trusted: {cause.verify_message}"
            return what, "mqtt.ca_file must hold the broker's authority, and mqtt.host be a name in its certificate"
        if isinstance(cause, ssl.SSLError):
            what = f"no TLS with the broker: {cause.reason or cause}"
            return what, "check mqtt.port, and mqtt.cert_file if the broker asks for certificates"
        if isinstance(cause, ConnectionRefusedError):
            return "nobody listens there", "check mqtt.host and mqtt.port, and whether the broker runs"
    if "timed out" in str(error):
        return "no answer in time", SILENT
    if isinstance(error, MqttCodeError):
        return BROKEN, ANSWERS[UNSPECIFIED]
    return str(error), SILENT


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and those below it; aiomqtt hides them from the traceback, but keeps them."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
