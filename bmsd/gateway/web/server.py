"""REST, WebSocket stream and metrics over HTTP: listens, serves until cancelled, ends in order."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import time
from collections.abc import Generator
from contextlib import contextmanager

import structlog
import uvicorn

from bmsd.config.gateway import GatewaySettings
from bmsd.gateway.feed import Feed
from bmsd.gateway.listening import BACKLOG, listening
from bmsd.gateway.standing import Standing
from bmsd.gateway.web.api import application
from bmsd.gateway.web.connections import Patience, StreamProtocol, capped
from bmsd.gateway.web.metrics import Metrics
from bmsd.gateway.web.recent import Recent
from bmsd.gateway.web.stream import Streams

log = structlog.get_logger()

END_S = 2
"""Time for answers under way when we are to end."""
PING_S = 20.0
"""A reader of the stream that does not answer a ping for this long is dropped."""
MOST_INBOUND_BYTES = 1024
MOST_HEAD_BYTES = 16384
SEND_BUFFER = 1 << 16
"""Bytes that wait in the kernel for a slow reader: what waits grows old."""
HEADERS = [("cache-control", "no-store"), ("x-content-type-options", "nosniff")]


class Server(uvicorn.Server):
    """uvicorn inside our loop: signals are ours."""

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


async def serve(settings: GatewaySettings, feed: Feed, standing: Standing) -> None:
    """Serve until cancelled. BusError when it cannot listen."""
    web = settings.web
    sockets = await listening("web", web.host, web.port, standing.given("web"), SEND_BUFFER)
    standing.serves("web")
    streams = Streams(feed, web.most_streams)
    metrics = Metrics(feed, streams, cells=web.cells_in_metrics)
    recent = Recent(feed)
    app = application(feed, recent, metrics, streams)
    gc.collect()
    gc.freeze()  # a full collection of what stays for good takes 60 ms, and all outputs wait for it
    config = uvicorn.Config(
        app, http=capped(web.most_clients, web.most_per_address),
        backlog=BACKLOG, ws=StreamProtocol,
        ws_max_size=MOST_INBOUND_BYTES, ws_ping_interval=PING_S, ws_ping_timeout=PING_S,
        ws_per_message_deflate=False, h11_max_incomplete_event_size=MOST_HEAD_BYTES, lifespan="off",
        proxy_headers=False, server_header=False, headers=HEADERS, access_log=False, log_config=None,
        timeout_graceful_shutdown=END_S,
    )  # fmt: skip
    _log_defects()
    server = Server(config)
    patience = Patience(server.server_state)
    async with asyncio.TaskGroup() as group:
        for work in (metrics.watch, recent.run, patience.run):
            group.create_task(work())
        log.info("web.listening", host=web.host, port=web.port)
        await _until_cancelled(server, sockets)


async def _until_cancelled(server: Server, sockets: list[socket.socket]) -> None:
    serving = asyncio.create_task(server.serve(sockets))
    try:
        await asyncio.shield(serving)
    finally:
        server.should_exit = True
        await serving
        for connection in list(server.server_state.connections):
            connection.transport.abort()


class Defects(logging.Handler):
    """Hands uvicorn's errors to our log, one in ten seconds; what a client does wrong is not our news."""

    EVERY_S = 10.0
    REFUSED = "ASGI callable returned without completing handshake."
    """What uvicorn says after every stream that we have refused with an answer."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self._next_s = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        cancelled = record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError)
        if record.getMessage() == self.REFUSED or cancelled:
            return
        if time.monotonic() >= self._next_s:
            self._next_s = time.monotonic() + self.EVERY_S
            log.error("web.defect", error=record.getMessage().strip(), exc_info=record.exc_info)


def _log_defects() -> None:
    logger = logging.getLogger("uvicorn")
    logger.propagate = False
    logger.handlers = [Defects()]
