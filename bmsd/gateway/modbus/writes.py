"""What SCADA and EMS may write: who, which points, within which bounds, and for how long it holds.

Nothing is answered before control took it. A set-point is a lease: it lapses unless its writer writes it again, or
another number into `controller_heartbeat`, within the time of the lease. One writer's heartbeat keeps nobody else's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv6Address, ip_address, ip_network
from typing import ClassVar

import structlog

from bmsd.codec.modbus import Access, Code, RefusedError
from bmsd.config.gateway import Modbus
from bmsd.gateway.feed import SILENT, Feed
from bmsd.link import wire
from bmsd.model.point import Point, Type
from bmsd.model.points import CONTROLS, MAP_REGISTERS
from bmsd.model.published import Published

log = structlog.get_logger()

MOST_WAITING = 8
"""Writes that control has not answered yet; more are told that it is busy."""


@dataclass(frozen=True, slots=True)
class Order:
    """A write that may be done: this raw value into this point, for this address."""

    peer: str
    point: Point
    value: int


@dataclass(frozen=True, slots=True)
class Lease:
    """A set-point that control took at `since_s`. `heartbeat`: what its writer's was when it was renewed last."""

    order: Order
    since_s: float
    until_s: float
    heartbeat: int | None = None


def plain_address(text: str) -> str:
    """Return an address without scope; IPv4 that came through an IPv6 socket as IPv4."""
    address = ip_address(text.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


class Writes:
    """Takes writes to control. `clock` gives the monotonic time in s."""

    def __init__(self, settings: Modbus, feed: Feed, clock: Callable[[], float]) -> None:
        self._writers = [ip_network(text, strict=False) for text in settings.writers]
        self._writable = [point for point in CONTROLS if point.name in settings.writable]
        self._lease_s = settings.lease_s
        self._feed = feed
        self._clock = clock
        self._held: dict[str, Lease] = {}
        self._heartbeat: int | None = None
        self._boot_id = ""
        self._waiting = 0
        self._under_way: Counter[str] = Counter()
        """Writes of each point that control has not answered yet."""

    def may(self, peer: str) -> bool:
        """Whether this address may write anything."""
        address = ip_address(peer)
        return bool(self._writable) and any(address in network for network in self._writers)

    def order(self, peer: str, asked: Access, registers: bytearray) -> Order:
        """Return what a request wants to write; RefusedError when it may not, or not so."""
        if not self.may(peer):
            raise RefusedError(Code.FUNCTION, "not one of the writers")
        assert asked.write is not None
        point = self._point(*asked.write)
        data = asked.data
        if asked.masks is not None:
            was = int.from_bytes(registers[2 * point.address : 2 * point.address + 2])
            data = (was & asked.masks[0] | asked.masks[1] & ~asked.masks[0] & 0xFFFF).to_bytes(2)
        value = int.from_bytes(data, signed=point.type in (Type.INT16, Type.INT32))
        if not point.low <= value <= point.high:
            raise RefusedError(Code.VALUE, f"{point.name}: {value}; expected {point.low}..{point.high}")
        return Order(peer, point, value)

    def _point(self, address: int, count: int) -> Point:
        """The one point that these registers are."""
        if address + count > MAP_REGISTERS:
            raise RefusedError(Code.ADDRESS, f"registers {address}..{address + count - 1} are outside the map")
        for point in self._writable:
            if (point.address, point.registers) == (address, count):
                return point
            if address < point.address + point.registers and point.address < address + count:
                raise RefusedError(Code.VALUE, f"{point.name}: write all of it, and nothing else with it")
        raise RefusedError(Code.ADDRESS, f"registers {address}..{address + count - 1} may not be written")

    async def carry_out(self, order: Order) -> None:
        """Do it. RefusedError when control does not take it or does not answer; then nothing has changed."""
        if self._feed.good() is None:
            raise RefusedError(Code.FAILURE, "control is silent")
        if self._waiting >= MOST_WAITING:
            raise RefusedError(Code.BUSY, "too many writes wait for control")
        self._waiting += 1
        self._under_way[order.point.name] += 1
        try:
            await self._ways[order.point.name](self, order)
        finally:
            self._waiting -= 1
            self._under_way[order.point.name] -= 1

    def in_force(self, record: Published) -> tuple[int | None, ...]:
        """What the writable points read now, in the order of the table."""
        if not self._held and self._heartbeat is None and not record.leases:
            return _NOTHING
        self._forget(record)
        known = {"alarm_reset": 0, "controller_heartbeat": self._heartbeat, **self._set_points(record)}
        return tuple(known.get(point.name) for point in CONTROLS)

    def _set_points(self, record: Published) -> dict[str, int]:
        """Those in force: as control says, where it does; until it does, as it took them from us."""
        now_s = self._clock()
        said = {lease.what: lease.value for lease in record.leases if now_s < lease.until_s}
        known = {name: lease.order.value for name, lease in self._held.items()}
        for name, (what, many) in _SET_POINTS.items():
            if name not in known and what in said:
                known[name] = round(said[what] * many)
        return known

    def _forget(self, record: Published | None) -> None:
        """Drop what has lapsed, what another request has taken the place of, and all when control was started anew."""
        hello = self._feed.hello
        if hello is not None and hello.boot_id != self._boot_id:
            self._boot_id = hello.boot_id
            self._held.clear()
        now_s = self._clock()
        self._held = {
            name: lease
            for name, lease in self._held.items()
            if now_s < lease.until_s and not _replaced(name, lease, record)
        }

    async def _reset(self, order: Order) -> None:
        source = _source(order)
        await self._ask(wire.Asked(what="reset", code="all", reason=source, source=source))

    async def _beat(self, order: Order) -> None:
        self._forget(self._feed.newest)
        for name in list(self._held):
            lease = self._held.get(name)  # while one is renewed, another writer may take the next
            if lease is None or self._under_way[name]:
                continue  # a newer set-point is on its way: to renew this one after it would bring it back
            if lease.order.peer == order.peer and lease.heartbeat != order.value:
                await self._lease(lease.order)
                if name in self._held:
                    self._held[name] = replace(self._held[name], heartbeat=order.value)
        self._heartbeat = order.value

    async def _lease(self, order: Order) -> None:
        self._forget(self._feed.newest)
        name, asked_s = order.point.name, self._clock()
        what, many = _SET_POINTS[name]
        asked = wire.Asked(what=what, value=order.value / many, lease_s=self._lease_s, source=_source(order))
        try:
            await self._ask(asked)
        except _SilentError:
            self._held.pop(name, None)  # it may have been taken or not: what is in force is not known
            raise
        self._held[name] = Lease(order, self._clock(), asked_s + self._lease_s)

    async def _ask(self, asked: wire.Asked) -> None:
        answer = await self._feed.ask(asked)
        if answer is SILENT:
            raise _SilentError(Code.FAILURE, answer.text)
        if not answer.taken:
            raise RefusedError(Code.FAILURE, f"control refused: {answer.text}")

    _ways: ClassVar[Mapping[str, Callable[[Writes, Order], Awaitable[None]]]] = {
        "alarm_reset": _reset,
        "controller_heartbeat": _beat,
        "reserve_soc": _lease,
        "power_setpoint": _lease,
    }


class _SilentError(RefusedError):
    """Control did not answer."""


_NOTHING: tuple[int | None, ...] = tuple(0 if point.name == "alarm_reset" else None for point in CONTROLS)
_SET_POINTS = {"reserve_soc": ("reserve", 1000), "power_setpoint": ("power", 1)}
"""What control calls them, and how many in the register make 1 of the share, 1 W."""


def _replaced(name: str, lease: Lease, record: Published | None) -> bool:
    """Whether a record later than this lease knows another one, or none."""
    if record is None or record.snapshot.now_s <= lease.since_s:
        return False
    what, many = _SET_POINTS[name]
    ours = (what, lease.order.value, _source(lease.order))
    return ours not in [(one.what, round(one.value * many), one.source) for one in record.leases]


def _source(order: Order) -> str:
    return f"modbus {order.peer}"
