"""Sockets that listen for an output: its own, or those that the service manager has opened for it."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Sequence

import structlog

from bmsd.errors import BusError

log = structlog.get_logger()

BACKLOG = 32
"""Also how many connections are let in at once before anybody else gets a turn."""
ANY = ("0.0.0.0", "::")
REMEDIES = {
    errno.EADDRINUSE: "the port is taken; stop who has it (ss -ltnp), or set another [{table}] port",
    errno.EADDRNOTAVAIL: "this computer has no such address; set [{table}] host to one of `ip address`, or to 0.0.0.0",
    errno.EACCES: "not allowed; let a socket unit with FileDescriptorName={table} open it, or set a [{table}] port of "
    "1024 or more",
}


async def listening(
    table: str, host: str, port: int, given: Sequence[socket.socket] = (), send_buffer: int = 0
) -> list[socket.socket]:
    """Return sockets that listen: the given ones, else one on each address of this host.

    `table` is that of the settings; `send_buffer` are the bytes that may wait for a slow reader, 0: as the system has
    it. BusError says what to do when there is none.
    """
    if given:
        _compare(table, host, port, given)
        sockets = list(given)
    else:
        sockets = await _own(table, host, port)
    for one in sockets:
        one.setblocking(False)
        if send_buffer:  # connections inherit it
            one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        one.listen(BACKLOG)
    return sockets


def _compare(table: str, host: str, port: int, given: Sequence[socket.socket]) -> None:
    """Say so when the sockets are not those of the settings: what the manager has opened is what is served."""
    where = [one.getsockname()[:2] for one in given]
    text = ", ".join(f"{address} port {number}" for address, number in where)
    if any(number != port or not _same(host, address) for address, number in where):
        log.warning("gateway.other_address", output=table, serves=text, configured=f"{host} port {port}")
    else:
        log.info("gateway.given_address", output=table, serves=text)


def _same(host: str, address: str) -> bool:
    return host == address or (host in ANY and address in ANY)


async def _own(table: str, host: str, port: int) -> list[socket.socket]:
    where = f"{table}: {host} port {port}"
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (OSError, ValueError) as error:  # ValueError: a text that can be no host
        raise BusError(f"{where}: {host!r} is no address of a computer ({error}); correct [{table}] host") from error
    sockets: list[socket.socket] = []
    try:
        for family, *_, address in dict.fromkeys(found):
            sockets.append(_bound(family, address))
    except OSError as error:
        for one in sockets:
            one.close()
        reason = REMEDIES.get(error.errno or 0, "correct [{table}] host and port").format(table=table)
        raise BusError(f"{where}: cannot listen ({error.strerror}): {reason}") from error
    return sockets


def _bound(family: int, address: tuple[object, ...]) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # so that asyncio turns Nagle off
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind(address)
        bound.listen(BACKLOG)
    except OSError:
        bound.close()
        raise
    return bound
