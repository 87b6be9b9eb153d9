"""Who is connected: never too many, and nobody who does nothing.

uvicorn bounds neither: a connection that never sends a request, or never reads its answer, would stay for ever.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState

LOOK_S = 1.0
PATIENCE_S = 10.0
"""A request must be there, and an answer must move, within this time."""
MOST_SAID_BYTES, SAID_BYTES_PER_S = 8192, 256.0
"""A reader of the stream answers pings and has little else to say: this much at once, and this much all the time."""
MOST_UNSENT_BYTES = 1 << 18
"""More than any message of the stream with what uvicorn lets wait before it."""
MOST_PARTS = 64
"""Frames of one message: an empty one is no bytes, so that a limit of bytes does not count it."""


def capped(most: int, most_per_address: int) -> type[H11Protocol]:
    """Return the protocol of connections, which are closed at once beyond these numbers."""

    class Capped(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            addresses = Counter(address(connection) for connection in self.connections)
            if len(self.connections) > most or addresses[address(self)] > most_per_address:
                transport.abort()

    return Capped


class StreamProtocol(WebSocketsSansIOProtocol):
    """A connection of the stream that ends who says much: uvicorn answers every ping, also when nobody takes it."""

    _said_bytes, _since_s = 0.0, 0.0

    def data_received(self, data: bytes) -> None:
        if self.handshake_complete and self._says_much(len(data)):
            self.transport.abort()
            return
        super().data_received(data)
        if len(self.frames) > MOST_PARTS or self.transport.get_write_buffer_size() > MOST_UNSENT_BYTES:
            self.transport.abort()

    def _says_much(self, count: int) -> bool:
        now_s = self.loop.time()
        still = max(0.0, self._said_bytes - (now_s - self._since_s) * SAID_BYTES_PER_S)
        self._said_bytes, self._since_s = still + count, now_s
        return self._said_bytes > MOST_SAID_BYTES


def address(connection: Any) -> str:
    """Return the address of the other end."""
    return connection.client[0] if connection.client else ""


class Patience:
    """Ends connections on which nothing moves."""

    def __init__(self, state: ServerState) -> None:
        self._state = state
        self._seen: dict[Any, tuple[Any, float]] = {}

    async def run(self) -> None:
        """Look every second, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(LOOK_S)
            self.look(loop.time())

    def look(self, now_s: float) -> None:
        """Abort every connection that has stood still for too long."""
        seen = {}
        for connection in list(self._state.connections):
            stands = _stands_at(connection)
            was, since_s = self._seen.get(connection, (None, now_s))
            seen[connection] = (stands, since_s if stands == was else now_s)
            if stands is not None and now_s - seen[connection][1] >= PATIENCE_S:
                connection.transport.abort()
        self._seen = seen


def _stands_at(connection: Any) -> tuple[object, int] | None:
    """Where a connection is: its request, and the bytes that it has not taken. None: it may stay so.

    A reader of the stream that takes everything may stay; a connection without a request, or with half of one, may not.
    """
    unsent = connection.transport.get_write_buffer_size()
    if isinstance(connection, H11Protocol):
        return connection.cycle, unsent
    return (None, unsent) if unsent else None
