"""The stream: a summary of the newest record to each reader, as often as it asks and as it can take it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field
from starlette.websockets import WebSocket, WebSocketDisconnect

from bmsd.codec import plain
from bmsd.gateway.feed import Feed
from bmsd.gateway.web.instant import instant
from bmsd.gateway.web.problem import problem, stale
from bmsd.model.published import Published

LOOK_S = 0.1
"""Between looks whether control is lost."""
TRY_AGAIN_LATER = 1013


class StreamQuery(BaseModel):
    """What is wanted of the stream."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    every: float = Field(1.0, ge=0.1, le=60.0)
    cells: bool = False


class Streams:
    """All readers of the stream, at most `most`."""

    def __init__(self, feed: Feed, most: int) -> None:
        self._feed = feed
        self._most = most
        self._written: Published | None = None
        self._bodies: dict[bool, str] = {}
        self.readers = 0
        self.refused = 0
        """Readers refused since start because there were too many."""

    async def serve(self, websocket: WebSocket, query: StreamQuery) -> None:
        """Serve one reader until it leaves."""
        if not _same_origin(websocket):
            await websocket.send_denial_response(problem(403, "a page of another origin may not read the stream"))
            return
        await websocket.accept()
        if self.readers >= self._most:
            self.refused += 1
            await websocket.close(TRY_AGAIN_LATER, f"{self._most} readers are here already")
            return
        self.readers += 1
        try:
            await self._serve(websocket, query)
        finally:
            self.readers -= 1

    async def _serve(self, websocket: WebSocket, query: StreamQuery) -> None:
        async with asyncio.TaskGroup() as group:
            telling = group.create_task(self._tell(websocket, query))
            while (await websocket.receive())["type"] != "websocket.disconnect":
                await asyncio.sleep(LOOK_S)  # what it says is ignored; while we sleep, nothing more is read of it
            telling.cancel()

    async def _tell(self, websocket: WebSocket, query: StreamQuery) -> None:
        """Send until the reader is gone. While it takes nothing, records are skipped."""
        with suppress(WebSocketDisconnect, RuntimeError):  # uvicorn's RuntimeError: it has begun to close
            async for message in self._messages(query):
                await websocket.send_text(message)

    async def _messages(self, query: StreamQuery) -> AsyncIterator[str]:
        """Yield a message every so often, and at once when control is lost or back."""
        loop = asyncio.get_running_loop()
        while True:
            published = self._feed.good()
            yield self._summary(published, query.cells)
            due_s = loop.time() + query.every
            while loop.time() < due_s and (self._feed.good() is None) == (published is None):
                await asyncio.sleep(min(LOOK_S, max(0.0, due_s - loop.time())))

    def _summary(self, published: Published | None, cells: bool) -> str:
        if published is None:
            return json.dumps({"stale": True, **stale(self._feed)})
        when = json.dumps({"stale": False, **instant(self._feed)})
        return f"{when[:-1]}, {self._body(published, cells)[1:]}"

    def _body(self, published: Published, cells: bool) -> str:
        """Return what the record says, written once for all readers."""
        if self._written is not published:
            self._written, self._bodies = published, {}
        if cells not in self._bodies:
            self._bodies[cells] = json.dumps(summary(published, cells=cells), allow_nan=False)
        return self._bodies[cells]


def summary(published: Published, *, cells: bool) -> dict[str, Any]:
    """Return points, strings and faults of a record; `cells` adds voltages, temperatures and balancing."""
    shown = {
        "lifecycle": published.lifecycle,
        "points": plain.points(published),
        "strings": plain.strings(published),
        "faults": [plain.fault(fault) for fault in published.faults],
    }
    if cells:
        modules = published.snapshot.modules
        shown["cells"] = {
            "voltage_v": plain.plain(modules.cell_v),
            "temperature_degc": plain.plain(modules.temperature_degc),
            "balancing": plain.plain(published.command.balance),
        }
    return shown


def _same_origin(websocket: WebSocket) -> bool:
    """Whether this is no browser, or a page of this very host: a browser lets any page open a WebSocket."""
    origin = websocket.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == websocket.headers.get("host")
