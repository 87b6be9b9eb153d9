"""Telemetry and events over MQTT.

One connection after the other, each with four tasks: the state of the rack, telemetry, events, and watching for the
end of the connection. One message at a time is on its way. Only the broker's PUBACK makes an event safe; while the
broker is away events wait in their lane, and telemetry, which is worth less the older it is, is not kept.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import aiomqtt
import structlog

from bmsd.config.gateway import GatewaySettings, Mqtt
from bmsd.errors import ConfigError
from bmsd.gateway.feed import Feed
from bmsd.gateway.mqtt import payloads
from bmsd.gateway.mqtt.access import access
from bmsd.gateway.mqtt.client import QUIET, Client
from bmsd.gateway.mqtt.reasons import explained
from bmsd.gateway.mqtt.topics import Topics
from bmsd.gateway.standing import Standing
from bmsd.model.event import Event
from bmsd.model.published import Hello, Published

log = structlog.get_logger()

LOST_S = 1.0
"""Control is lost when its newest record is older: the broker is to know within 2 s."""
LOOK_S = 0.1
SHORTEST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 120.0
ANSWER_S = 10.0
"""The broker has this long for each answer."""
FAREWELL_S = 2.0
REFUSED_PAUSE_S = 30.0
"""An event that the broker refuses is offered again after this."""
VERSIONS = {"5": aiomqtt.ProtocolVersion.V5, "3.1.1": aiomqtt.ProtocolVersion.V311}
FAILURES = (aiomqtt.MqttError, OSError, UnicodeError, ConfigError)
"""What ends a connection and not the gateway. UnicodeError is a host name that cannot be one; ConfigError a
certificate that was good at the start."""


async def serve(settings: GatewaySettings, feed: Feed, standing: Standing) -> None:
    """Publish until cancelled. ConfigError when password or certificates cannot be read at the start."""
    publisher = Publisher(settings.mqtt, feed)
    standing.serves("mqtt", publisher.lacks)
    await publisher.run()


class Publisher:
    """Publishes what the feed has; how often that worked is in its attributes. Each connection is a task of its own.

    Between connections it pauses at random, for `shortest_s` up to twice as long each time, at most `longest_s`: the
    racks of a site must not return to their broker all at once.
    """

    def __init__(
        self,
        mqtt: Mqtt,
        feed: Feed,
        *,
        shortest_s: float = SHORTEST_PAUSE_S,
        longest_s: float = LONGEST_PAUSE_S,
        answer_s: float = ANSWER_S,
    ) -> None:
        self._mqtt = mqtt
        self._feed = feed
        self._lane = feed.lane(acknowledging=True)  # never left: that would acknowledge what is still in it
        self._topics = Topics.of(mqtt)
        self._shortest_s, self._longest_s, self._answer_s = shortest_s, longest_s, answer_s
        self._turn = asyncio.Lock()
        self._said = ""
        self._refused_topics: set[str] = set()
        self._delivered_s = time.monotonic()
        self._telemetry_sent = 0
        self.connected = False
        self.connects = 0
        """Times that the broker took us in, since start."""
        self.sent = 0
        """Messages that the broker has acknowledged, since start."""
        self.refused = 0
        """Messages that the broker has thrown away and said so, since start."""
        self.missed = 0
        """Telemetry messages that were due and did not arrive, since start; counted when one arrives again."""
        access(mqtt)
        if mqtt.username and not mqtt.tls:
            log.warning("mqtt.in_clear", broker=self.broker, remedy="mqtt.tls = true: anybody on the way can read it")

    @property
    def broker(self) -> str:
        return f"{self._mqtt.host}:{self._mqtt.port}"

    @property
    def dropped_events(self) -> int:
        """Events that had to be forgotten before the broker took them, here or in control, since start."""
        return self._lane.dropped + self._feed.lost_events

    @property
    def reconnects(self) -> int:
        return max(0, self.connects - 1)

    def lacks(self) -> str:
        """Return why nothing is published now; empty when the broker has us."""
        return "" if self.connected else f"broker {self.broker}: {self._said or 'not reached yet'}"

    async def run(self) -> None:
        """Keep the connection; ends by cancellation only."""
        attempt = 0
        while True:
            began_s = time.monotonic()
            try:
                await asyncio.create_task(self._connection())
            except FAILURES as error:
                failure: Exception = error
            _leave_if_cancelled()
            steady = time.monotonic() - began_s > self._longest_s
            attempt = 1 if steady else attempt + 1
            pause_s = random.uniform(self._shortest_s, longest_pause_s(attempt, self._shortest_s, self._longest_s))
            self._say(failure, pause_s)
            await asyncio.sleep(pause_s)

    def _say(self, failure: Exception, pause_s: float) -> None:
        """Log a failure that is not the one logged before."""
        what, remedy = explained(failure, self._mqtt)
        if what != self._said:
            self._said = what
            log.warning("mqtt.lost", broker=self.broker, error=what, remedy=remedy, retry_s=round(pause_s, 1))

    async def _connection(self) -> None:
        """Publish over one connection until its end, which is an error."""
        client = self._client()
        try:
            async with client:
                self._opened()
                try:
                    _leave_if_cancelled()
                    await self._publish(client)
                except asyncio.CancelledError:
                    await self._farewell(client)
                    raise
                except BaseException:
                    client.hang_up()
                    raise
        except FAILURES:
            client.hang_up()
            raise
        finally:
            self.connected = False

    def _client(self) -> Client:
        mqtt = self._mqtt
        found = access(mqtt)
        return Client(
            mqtt.host,
            mqtt.port,
            username=mqtt.username or None,
            password=found.password,
            logger=QUIET,
            identifier=mqtt.client_id or f"bmsd:{mqtt.tenant}:{mqtt.site}:{mqtt.rack}",
            protocol=VERSIONS[mqtt.version],
            will=aiomqtt.Will(self._topics.status, payloads.encode(payloads.will(mqtt.rack)), qos=1, retain=True),
            timeout=self._answer_s,
            keepalive=mqtt.keepalive_s,
            max_queued_incoming_messages=1,  # we subscribe to nothing: what comes is not asked for
            tls_context=found.tls,
        )

    def _opened(self) -> None:
        self.connected = True
        self.connects += 1
        self._said = ""
        self._refused_topics.clear()
        log.info("mqtt.connected", broker=self.broker, topics=self._topics.status.removesuffix("status") + "#")

    async def _publish(self, client: Client) -> None:
        failed: Exception | None = None
        try:
            async with asyncio.TaskGroup() as group:
                for task in (self._watch, self._say_state, self._say_telemetry, self._say_events):
                    group.create_task(task(client))
        except* FAILURES as errors:
            failed = errors.exceptions[0]
        if failed is not None:
            raise failed

    async def _watch(self, client: Client) -> None:
        """Wait for the end of the connection. Nothing is subscribed, so nothing comes."""
        async for _ in client.messages:
            pass

    async def _say_state(self, client: Client) -> None:
        said: tuple[str, str] | None = None
        described: Hello | None = None
        while True:
            state, hello = self._state(), self._feed.hello
            if state != said:
                await self._send(client, self._topics.status, partial(self._status, *state), retain=True)
                said = state
            if hello is not None and hello != described:
                described = hello
                about = partial(payloads.meta, self._mqtt.rack, hello, self._mqtt.period_s)
                await self._send(client, self._topics.meta, about, retain=True)
            await asyncio.sleep(LOOK_S)

    def _state(self) -> tuple[str, str]:
        """The state to say, and the boot id of control."""
        boot_id = self._feed.hello.boot_id if self._feed.hello else ""
        return ("control_lost" if self._fresh() is None else "online"), boot_id

    def _status(self, state: str, boot_id: str) -> dict[str, Any]:
        reason = "" if state == "online" else f"control published nothing for {LOST_S:g} s"
        return payloads.status(self._mqtt.rack, state, reason, boot_id or None)

    def _fresh(self) -> Published | None:
        return self._feed.newest if self._feed.age_s() <= LOST_S else None

    async def _say_telemetry(self, client: Client) -> None:
        due_s = time.monotonic()
        while True:
            await asyncio.sleep(due_s - time.monotonic())
            while self._fresh() is None:
                await asyncio.sleep(LOOK_S)
            sent = await self._send(client, self._topics.tel, self._telemetry)
            if sent is not None:
                self.missed += sent["gap"]
                self._telemetry_sent += 1
                self._delivered_s = time.monotonic()
            due_s += self._mqtt.period_s
            if due_s < time.monotonic():
                due_s = time.monotonic() + self._mqtt.period_s

    def _telemetry(self) -> dict[str, Any] | None:
        """The newest record; None when control was lost while it waited for its turn."""
        fresh, every = self._fresh(), self._mqtt.cells_every
        if fresh is None or self._feed.hello is None:
            return None
        return payloads.telemetry(
            self._mqtt.rack,
            self._feed.hello.boot_id,
            fresh,
            self._feed.age_s(),
            cells=every > 0 and self._telemetry_sent % every == 0,
            gap=self._gap(),
            dropped_events=self.dropped_events,
        )

    def _gap(self) -> int:
        """Telemetry messages that were due since the last that arrived, without the one that is due now."""
        return max(0, round((time.monotonic() - self._delivered_s) / self._mqtt.period_s) - 1)

    async def _say_events(self, client: Client) -> None:
        while True:
            event = await self._lane.next()
            taken = False
            try:
                taken = await self._send(client, self._topics.evt, partial(self._event, event)) is not None
            finally:
                if not taken:
                    self._lane.put_back(event)
            if taken:
                self._lane.done(event)
            else:
                await asyncio.sleep(REFUSED_PAUSE_S)

    def _event(self, event: Event) -> dict[str, Any]:
        return payloads.event(self._mqtt.rack, self._lane.boot_id, event, self.dropped_events)

    async def _send(
        self, client: Client, topic: str, build: Callable[[], dict[str, Any] | None], *, retain: bool = False
    ) -> dict[str, Any] | None:
        """Publish what `build` gives when it is our turn, and return it; None when the broker does not have it."""
        async with self._turn:
            payload = build()
            if payload is None:
                return None
            client.refusal = ""
            await client.publish(topic, payloads.encode(payload), qos=1, retain=retain)
            refusal = client.refusal
        _leave_if_cancelled()
        if refusal:
            self._note_refusal(topic, refusal)
            return None
        self.sent += 1
        return payload

    def _note_refusal(self, topic: str, refusal: str) -> None:
        self.refused += 1
        if topic not in self._refused_topics:
            self._refused_topics.add(topic)
            remedy = "allow this user to write it in the broker's access list"
            log.error("mqtt.refused", broker=self.broker, topic=topic, error=refusal, remedy=remedy)

    async def _farewell(self, client: Client) -> None:
        """Say that we leave: after a goodbye the broker does not speak the last will."""
        offline = payloads.status(self._mqtt.rack, "offline", "the gateway was stopped", None)
        try:
            await client.publish(self._topics.status, payloads.encode(offline), qos=1, retain=True, timeout=FAREWELL_S)
        except aiomqtt.MqttError:
            client.hang_up()


def longest_pause_s(attempt: int, shortest_s: float, longest_s: float) -> float:
    """Return the upper end of the pause after this attempt, which counts from 1."""
    return min(longest_s, shortest_s * 2.0 ** min(attempt, 32))


def _leave_if_cancelled() -> None:
    """Obey a cancellation that asyncio.wait_for of Python 3.11, which aiomqtt uses, may have swallowed.

    Not for a task in which a TaskGroup has failed: there 3.11 leaves a cancellation behind that was none.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
