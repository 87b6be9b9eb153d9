"""One connection of a Modbus client: requests are answered in order, a few each turn, so that nobody waits for a flood.

Memory is bounded: a fixed buffer in, and nothing more is read while a client does not read its answers.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Protocol, cast

import structlog

from bmsd.codec import modbus
from bmsd.codec.modbus import Access, Adu, Code, Function, Identify, RefusedError
from bmsd.errors import FrameError
from bmsd.gateway.modbus.counts import Counts
from bmsd.gateway.modbus.image import Image
from bmsd.gateway.modbus.writes import Order, Writes, plain_address
from bmsd.model.points import MAP_REGISTERS

log = structlog.get_logger()

REQUESTS_PER_TURN = 4
INPUT_BYTES = 2048
MOST_OUTPUT_BYTES = 16384
KERNEL_BYTES = 65536
"""What the kernel may hold for one client, of requests as of answers."""
MOST_WRITES_LOGGED = 10
"""Refused writes of one connection that are logged one by one."""
UNITS = frozenset((0, 1, 255))
SOCKET_OPTIONS = (
    (socket.SOL_SOCKET, socket.SO_RCVBUF, KERNEL_BYTES),
    (socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_BYTES),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
)


class House(Protocol):
    """What a connection needs of its server."""

    image: Image
    writes: Writes
    counts: Counts

    def admit(self, connection: Connection) -> bool:
        """Whether there is room for this one."""

    def left(self, connection: Connection) -> None:
        """It is closed."""

    def carry_out(self, connection: Connection, adu: Adu, asked: Access, order: Order) -> None:
        """Begin a write; the connection's `done` gets its end."""

    def identity(self) -> dict[int, bytes]:
        """The objects of the device's identification."""


class Connection(asyncio.BufferedProtocol):
    """Serves one client from its first byte to its last."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray(INPUT_BYTES)
        self._view = memoryview(self._buffer)
        self._start = self._end = 0
        self._writing = False
        """A write waits for control: what follows it waits, too."""
        self._full = False
        self._paused = False
        self._refused_writes = 0
        self.peer = ""
        self.moved_s = self._loop.time()
        """When a request came, or since when the client does not take its answers."""

    @property
    def stuck(self) -> bool:
        """Whether answers wait that the client does not take."""
        return self._full

    # --- asyncio's side -------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self.peer = plain_address(peer[0]) if peer else "0.0.0.0"
        if not self._house.admit(self):
            self._transport.close()
            return
        sock = transport.get_extra_info("socket")
        for option in SOCKET_OPTIONS:
            sock.setsockopt(*option)
        self._transport.set_write_buffer_limits(high=MOST_OUTPUT_BYTES)

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002
        self._house.left(self)
        if self._refused_writes > MOST_WRITES_LOGGED:
            log.warning("modbus.writes_refused", peer=self.peer, count=self._refused_writes)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        return self._view[self._end :]

    def buffer_updated(self, count: int) -> None:
        self._end += count
        self._work()

    def pause_writing(self) -> None:
        self._full = True
        self.moved_s = self._loop.time()

    def resume_writing(self) -> None:
        self._full = False
        self._loop.call_soon(self._work)  # to write from inside of here may end a transport twice

    def drop(self) -> None:
        """Close at once."""
        self._transport.abort()

    # --- requests -------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        """Answer what is there, but no more than one turn's share."""
        if self._writing or self._full or self._transport.is_closing():
            return
        answers: list[bytes] = []
        try:
            more = self._answer(answers)
        except FrameError as error:
            log.debug("modbus.not_modbus", peer=self.peer, error=str(error))
            self._house.counts.malformed += 1
            self._transport.write(b"".join(answers))
            self._transport.close()
            return
        if answers:
            self._transport.write(b"".join(answers))
            self.moved_s = self._loop.time()
        self._make_room()
        if more and not self._full:
            self._loop.call_soon(self._work)
        self._read_on(not (more or self._writing or self._full))

    def _answer(self, answers: list[bytes]) -> bool:
        """Add the answers of one turn; return whether there may be more to do at once."""
        registers = self._house.image.current()
        for _ in range(REQUESTS_PER_TURN):
            adu = modbus.take(self._view, self._start, self._end)
            if adu is None:
                return False
            self._start = adu.end
            self._house.counts.requests += 1
            pdu = self._pdu(adu, registers)
            if pdu is None:
                self._writing = True
                return False
            answers.append(modbus.answer(adu.transaction, adu.unit, pdu))
        return self._start < self._end

    def _make_room(self) -> None:
        """Move what is not complete to the front, before the buffer ends."""
        left = self._end - self._start
        if left == 0 or INPUT_BYTES - self._end < modbus.MOST_ADU_BYTES:
            self._buffer[:left] = self._buffer[self._start : self._end]
            self._start, self._end = 0, left

    def _read_on(self, on: bool) -> None:
        if on and self._paused:
            self._transport.resume_reading()
        elif not on and not self._paused:
            self._transport.pause_reading()
        self._paused = not on

    def _pdu(self, adu: Adu, registers: bytearray) -> bytes | None:
        """The answer; None when it comes later."""
        try:
            if adu.unit not in UNITS:
                raise RefusedError(Code.NO_SUCH_UNIT)
            asked = modbus.decode(adu.pdu)
            if isinstance(asked, Identify):
                return modbus.identification(asked, self._house.identity())
            data = _read(asked, registers)
            if asked.write is None:
                return modbus.registers_read(asked.function, data)
            order = self._order(asked, registers)
            self._house.carry_out(self, adu, asked, order)
            return None
        except RefusedError as refused:
            self._house.counts.exceptions[refused.code] += 1
            return modbus.refusal(adu.pdu[0], refused.code)

    def _order(self, asked: Access, registers: bytearray) -> Order:
        try:
            return self._house.writes.order(self.peer, asked, registers)
        except RefusedError as refused:
            self.count_refused(refused, write=asked.write)
            raise

    def count_refused(self, refused: RefusedError, **what: object) -> None:
        """Count a refused write, and log it while there are not many."""
        self._house.counts.writes_refused += 1
        self._refused_writes += 1
        if self._refused_writes <= MOST_WRITES_LOGGED:
            log.warning("modbus.write_refused", peer=self.peer, why=str(refused), answer=int(refused.code), **what)

    def done(self, adu: Adu, asked: Access, refused: RefusedError | None) -> None:
        """A write has come to its end."""
        self._writing = False
        if self._transport.is_closing():
            return
        if refused is not None:
            self._house.counts.exceptions[refused.code] += 1
            pdu = modbus.refusal(adu.pdu[0], refused.code)
        elif asked.function == Function.READ_WRITE:
            pdu = modbus.registers_read(asked.function, _read(asked, self._house.image.current()))
        else:
            pdu = modbus.written(adu.pdu)
        self._transport.write(modbus.answer(adu.transaction, adu.unit, pdu))
        self.moved_s = self._loop.time()
        self._work()


def _read(asked: Access, registers: bytearray) -> bytes:
    """The registers that are asked for; RefusedError outside the map."""
    if asked.read is None:
        return b""
    address, count = asked.read
    if address + count > MAP_REGISTERS:
        raise RefusedError(Code.ADDRESS)
    return bytes(registers[2 * address : 2 * (address + count)])
