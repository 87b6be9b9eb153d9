"""The gateway process: the outputs that the configuration asks for, fed from one link, until SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog

from bmsd.config.gateway import GatewaySettings
from bmsd.config.load import load_gateway
from bmsd.errors import BmsdError
from bmsd.gateway.feed import Feed
from bmsd.gateway.reload import Reload
from bmsd.gateway.standing import Standing
from bmsd.log import configure
from bmsd.systemd.activation import given_sockets
from bmsd.systemd.notify import Notifier

log = structlog.get_logger()

Output = Callable[[GatewaySettings, Feed, Standing], Coroutine[Any, Any, None]]
"""Serves until it is cancelled, and says when it begins. BusError when it cannot, such as for a port that is taken."""
TELL_EVERY_S = 0.25


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
    writer = configure(settings.log.level, settings.log.format, identifier="bmsd-gateway")
    try:
        asyncio.run(_run(path, settings, given_sockets(("modbus", "web")), Notifier()))
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


async def _tell(manager: Notifier, standing: Standing, feed: Feed, link: str, reload: Reload) -> None:
    """Tell the service manager how the gateway is; a loop that is held up tells nothing."""
    ready = False
    while True:
        now_s = asyncio.get_running_loop().time()
        line = standing.sentence("" if feed.good() else f"control, which does not answer at {link}")
        line = "; ".join(filter(None, (reload.wrong, line)))
        if standing.complete and (not ready or reload.take_done()):
            ready = True
            manager.ready(line)
            if manager.error:
                log.warning("service.not_told", error=manager.error)
        manager.status(line)
        manager.alive(now_s)
        await asyncio.sleep(TELL_EVERY_S)


async def _run(
    path: Path, settings: GatewaySettings, given: Mapping[str, list[socket.socket]], manager: Notifier
) -> None:
    feed, wanted = Feed(Path(settings.link.socket)), outputs(settings)
    standing = Standing(wanted, given)
    for name in given.keys() - wanted.keys():
        log.warning("gateway.socket_not_served", output=name, remedy=f"{name}.enabled = true, or no socket unit for it")
    stop = asyncio.Event()
    error: Exception | None = None
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    reload = Reload(path, settings, manager)
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reload.ask)
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(feed.run(), name="feed")]
            for name, serve in wanted.items():
                tasks.append(group.create_task(serve(settings, feed, standing), name=name))
            log.info("gateway.running", outputs=list(wanted))
            telling = _tell(manager, standing, feed, settings.link.socket, reload)
            tasks.append(group.create_task(telling, name="manager"))
            await stop.wait()
            manager.stopping("asked to leave, stays for the last records of control")
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
