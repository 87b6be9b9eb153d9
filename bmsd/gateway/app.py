"""The gateway process: the outputs that the configuration asks for, fed from one link, until SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog

from bmsd.config.gateway import GatewaySettings
from bmsd.config.load import load_gateway
from bmsd.errors import BmsdError
from bmsd.gateway.feed import Feed
from bmsd.log import configure

log = structlog.get_logger()

Output = Callable[[GatewaySettings, Feed], Coroutine[Any, Any, None]]
"""Serves until it is cancelled. BusError when it cannot, such as for a port that is taken."""


def outputs(settings: GatewaySettings) -> dict[str, Output]:
    """Return the outputs that are wanted; what is not wanted is not even imported."""
    wanted: dict[str, Output] = {}
    if settings.modbus.enabled:
        from bmsd.gateway.modbus.server import serve as modbus

        wanted["modbus"] = modbus
    if settings.mqtt.enabled:
        from bmsd.gateway.mqtt.publisher import serve as mqtt

        wanted["mqtt"] = mqtt
    if settings.web.enabled:
        from bmsd.gateway.web.server import serve as web

        wanted["web"] = web
    return wanted


def run_file(path: Path) -> int:
    """Run the gateway of this configuration until SIGTERM or SIGINT; return its exit code.

    ConfigError when its tables are wrong, BusError when it cannot listen.
    """
    settings = load_gateway(path)
    writer = configure(settings.log.level, settings.log.format)
    try:
        asyncio.run(_run(settings))
    finally:
        writer.close()
    return 0


LAST_RECORDS_S = 10.0
NOTICE_S = 0.5
"""Told to stop together with control, the gateway gives it this long to say that it leaves."""


async def _control_left(feed: Feed) -> None:
    """Stay while control leaves, so that its last records are told, but not longer than 10 s."""
    with suppress(TimeoutError):
        async with asyncio.timeout(LAST_RECORDS_S):
            await asyncio.sleep(NOTICE_S)
            while feed.connected and feed.newest is not None and feed.newest.lifecycle == "stopping":
                await asyncio.sleep(0.05)


async def _run(settings: GatewaySettings) -> None:
    feed = Feed(Path(settings.link.socket))
    stop = asyncio.Event()
    error: Exception | None = None
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(feed.run(), name="feed")]
            for name, serve in outputs(settings).items():
                tasks.append(group.create_task(serve(settings, feed), name=name))
            log.info("gateway.running", outputs=[task.get_name() for task in tasks[1:]])
            await stop.wait()
            log.info("gateway.stopping")
            await _control_left(feed)
            for task in tasks:
                task.cancel()
    except* BmsdError as failed:
        error = failed
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    if error is not None:
        raise error
    log.info("gateway.left")
