"""The Modbus server of the gateway on a free port, and a client that speaks in bytes."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from bmsd.config.gateway import Modbus
from bmsd.gateway.feed import Feed
from bmsd.gateway.modbus.server import Server
from tests.programs import free_port

PATIENCE_S = 20.0


class Serving:
    """What a test sees of the server."""

    def __init__(self, server: Server, feed: Feed, port: int) -> None:
        self.server, self.feed, self.port = server, feed, port

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield Client(reader, writer)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


class Client:
    """Sends bytes, reads ADUs."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.transaction = 0

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def adu(self) -> tuple[int, int, bytes]:
        """The next answer: transaction, unit, PDU."""
        async with asyncio.timeout(PATIENCE_S):
            transaction, protocol, length, unit = struct.unpack(">HHHB", await self.reader.readexactly(7))
            assert protocol == 0
            return transaction, unit, await self.reader.readexactly(length - 1)

    async def ask(self, pdu: bytes | str, unit: int = 1) -> bytes:
        """The PDU of the answer to this PDU, which may be hexadecimal."""
        self.transaction += 1
        self.send(adu(self.transaction, pdu, unit))
        answered, its_unit, answer = await self.adu()
        assert (answered, its_unit) == (self.transaction & 0xFFFF, unit)
        return answer

    async def registers(self, address: int, count: int, function: int = 3) -> bytes:
        """The registers from there, two bytes each."""
        answer = await self.ask(struct.pack(">BHH", function, address, count))
        assert answer[:2] == bytes((function, 2 * count)), answer.hex()
        return answer[2:]

    async def closed(self) -> bool:
        """Whether the server closes the connection without another answer."""
        async with asyncio.timeout(PATIENCE_S):
            try:
                return await self.reader.read(1) == b""
            except ConnectionError:
                return True


def adu(transaction: int, pdu: bytes | str, unit: int = 1) -> bytes:
    """Return the bytes of a request; a PDU may be hexadecimal."""
    pdu = bytes.fromhex(pdu) if isinstance(pdu, str) else pdu
    return struct.pack(">HHHB", transaction & 0xFFFF, 0, len(pdu) + 1, unit) + pdu


@asynccontextmanager
async def serving(link: Path, **settings: Any) -> AsyncIterator[Serving]:
    """Serve what control says on this link, once there is a record."""
    feed = Feed(link)
    port = free_port()
    server = Server(Modbus.model_validate({"port": port, **settings}), feed)
    await server.listen()
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(feed.run()), tasks.create_task(server.run(tasks))]
        try:
            async with asyncio.timeout(PATIENCE_S):
                await feed.next()
            yield Serving(server, feed, port)
        finally:
            for task in running:
                task.cancel()
            await server.close()


async def until(what: Any) -> None:
    """Wait until this is true."""
    async with asyncio.timeout(PATIENCE_S):
        while not what():
            await asyncio.sleep(0.01)
