"""Who is connected: never too many, and nobody who does nothing.

uvicorn bounds neither: a connection that never sends a request, or never reads its answer, would stay for ever.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

LOOK_S = 1.0
PATIENCE_S = 10.0
"""A request must be there, and an answer must move, within this time."""


def capped(most: int, most_per_address: int) -> type[H11Protocol]:
    """Return the protocol of connections, which are closed at once beyond these numbers."""

    class Capped(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            addresses = Counter(address(connection) for connection in self.connections)
            if len(self.connections) > most or addresses[address(self)] > most_per_address:
                transport.abort()

    return Capped


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
