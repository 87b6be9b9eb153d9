"""Modbus TCP for SCADA and EMS: listens, lets clients in, and drops those that do nothing."""

from __future__ import annotations

import asyncio
import socket
import time
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version

import structlog

from bmsd.codec.modbus import Access, Adu, RefusedError
from bmsd.config.gateway import GatewaySettings, Modbus
from bmsd.gateway.feed import Feed
from bmsd.gateway.listening import BACKLOG, listening
from bmsd.gateway.modbus.connection import Connection
from bmsd.gateway.modbus.counts import Counts
from bmsd.gateway.modbus.image import Image
from bmsd.gateway.modbus.writes import Order, Writes
from bmsd.gateway.standing import Standing

log = structlog.get_logger()

SWEEP_S = 1.0
STUCK_S = 10.0
"""A client that does not take its answers for this long is dropped."""


async def serve(settings: GatewaySettings, feed: Feed, standing: Standing) -> None:
    """Serve until cancelled. BusError when it cannot listen."""
    server = Server(settings.modbus, feed)
    await server.listen(standing.given("modbus"))
    standing.serves("modbus")
    async with asyncio.TaskGroup() as tasks:
        try:
            await server.run(tasks)
        finally:
            await server.close()


class Server:
    """All connections, and what they share. `counts` is for metrics."""

    def __init__(self, settings: Modbus, feed: Feed) -> None:
        self._settings = settings
        self._feed = feed
        self.counts = Counts()
        self.writes = Writes(settings, feed, time.monotonic)
        self.image = Image(feed, self.writes)
        self._connections: set[Connection] = set()
        self._said = 0

    async def listen(self, given: Sequence[socket.socket] = ()) -> None:
        """Take the port, or the given sockets; nobody is served before `run`. BusError when it cannot be had."""
        loop, settings = asyncio.get_running_loop(), self._settings
        self._listeners = [
            await loop.create_server(lambda: Connection(self), sock=one, backlog=BACKLOG, start_serving=False)
            for one in await listening("modbus", settings.host, settings.port, given)
        ]

    async def run(self, tasks: asyncio.TaskGroup) -> None:
        """Serve until cancelled; writes are tasks of this group."""
        self._tasks = tasks
        for listener in self._listeners:
            await listener.start_serving()
        log.info("modbus.listening", host=self._settings.host, port=self._settings.port)
        while True:
            await asyncio.sleep(SWEEP_S)
            self._sweep(asyncio.get_running_loop().time())

    async def close(self) -> None:
        """Leave the port and all clients."""
        for listener in self._listeners:
            listener.close()
        for connection in list(self._connections):
            connection.drop()
        for listener in self._listeners:
            await listener.wait_closed()

    def admit(self, connection: Connection) -> bool:
        """Whether there is room for this one: in all, and for its address."""
        others = Counter(other.peer for other in self._connections)
        full = len(self._connections) >= self._settings.most_clients
        if full or others[connection.peer] >= self._settings.most_per_address:
            self.counts.refused += 1
            return False
        self._connections.add(connection)
        self.counts.accepted += 1
        self.counts.connections = len(self._connections)
        return True

    def left(self, connection: Connection) -> None:
        """It is closed."""
        self._connections.discard(connection)
        self.counts.connections = len(self._connections)

    def carry_out(self, connection: Connection, adu: Adu, asked: Access, order: Order) -> None:
        """Begin a write."""
        self._tasks.create_task(self._write(connection, adu, asked, order))

    async def _write(self, connection: Connection, adu: Adu, asked: Access, order: Order) -> None:
        try:
            await self.writes.carry_out(order)
        except RefusedError as refused:
            connection.count_refused(refused, point=order.point.name, value=order.value)
            connection.done(adu, asked, refused)
            return
        self.counts.writes_taken += 1
        log.info("modbus.written", peer=order.peer, point=order.point.name, value=order.value, unit=order.point.unit)
        connection.done(adu, asked, None)

    def identity(self) -> dict[int, bytes]:
        """The objects of the device's identification: vendor, product, version, rack."""
        name = self._feed.hello.name if self._feed.hello is not None else ""
        words = {0: "bmsd", 1: "rack BMS", 2: version("bmsd"), 4: name}
        return {number: word.encode("ascii", "replace")[:64] for number, word in words.items() if word}

    def _sweep(self, now_s: float) -> None:
        """Drop who says nothing and who takes nothing; say how many were refused."""
        for connection in list(self._connections):
            if now_s - connection.moved_s > (STUCK_S if connection.stuck else self._settings.idle_s):
                self.counts.idle += 1
                log.debug("modbus.dropped", peer=connection.peer, stuck=connection.stuck)
                connection.drop()
        if self.counts.refused > self._said:
            log.warning("modbus.connections_refused", count=self.counts.refused - self._said)
            self._said = self.counts.refused
