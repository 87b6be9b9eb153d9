"""aiomqtt's client with the two things that an honest publisher needs besides."""

from __future__ import annotations

import logging
import socket
from contextlib import suppress
from typing import Any

import aiomqtt
from paho.mqtt.reasoncodes import ReasonCode

QUIET = logging.getLogger("bmsd.mqtt")
QUIET.addHandler(logging.NullHandler())
QUIET.propagate = False
"""What aiomqtt would print beside our log; all of it comes as an error, too."""


class Client(aiomqtt.Client):
    """A client that knows what the broker refused, and that can leave without a goodbye.

    aiomqtt takes any PUBACK for success; in MQTT 5 it may say that the message was thrown away. MQTT 3.1.1 has no
    way to say it.
    """

    refusal = ""
    """Why the broker refused the last publication that it refused."""

    def _on_publish(self, client: Any, userdata: Any, mid: int, reason_code: ReasonCode, properties: Any) -> None:
        if reason_code.is_failure:
            self.refusal = str(reason_code)
        super()._on_publish(client, userdata, mid, reason_code, properties)

    def hang_up(self) -> None:
        """Cut the connection. Without our DISCONNECT the broker speaks the last will."""
        connection: Any = self._client.socket()
        if connection is not None:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        if self._disconnected.done() and not self._disconnected.cancelled():
            self._disconnected.exception()  # else asyncio complains that nobody has looked at it
