"""Modbus without waiting: a TCP stream to requests, requests to what they ask, answers to bytes.

Sources: Modbus Application Protocol V1.1b3, Modbus Messaging on TCP/IP V1.0b. All is big-endian.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import IntEnum
from struct import Struct
from typing import NamedTuple

from bmsd.errors import FrameError

MOST_READ = 125
MOST_WRITTEN = 123
MOST_WRITTEN_IN_BOTH = 121
"""Registers that one request may read, write, and write when it also reads."""
MOST_ADU_BYTES = 260
_HEADER = Struct(">HHHB")
_HEADER_BYTES = 7
_PAIR = Struct(">HH")
_MASK = Struct(">HHH")
_MANY = Struct(">HHB")
_BOTH = Struct(">HHHHB")


class Code(IntEnum):
    """Why a request was refused."""

    FUNCTION = 0x01
    ADDRESS = 0x02
    VALUE = 0x03
    FAILURE = 0x04
    BUSY = 0x06
    NO_SUCH_UNIT = 0x0B


class Function(IntEnum):
    """What is asked, as far as a device without coils can do it."""

    READ_HOLDING = 3
    READ_INPUT = 4
    WRITE_ONE = 6
    WRITE_MANY = 16
    MASK_WRITE = 22
    READ_WRITE = 23
    IDENTIFY = 43


class RefusedError(Exception):
    """The request gets this exception code as its answer."""

    def __init__(self, code: Code, why: str = "") -> None:
        super().__init__(why or code.name.lower())
        self.code = code


class Adu(NamedTuple):
    """One request of a stream; `end` is where the next one begins."""

    transaction: int
    unit: int
    pdu: bytes
    end: int


class Access(NamedTuple):
    """A request for registers. `read` and `write` are (address, count); `data` what to write, 2 bytes each.

    A write with masks has no data: and-mask and or-mask are in `masks`.
    """

    function: int
    read: tuple[int, int] | None = None
    write: tuple[int, int] | None = None
    data: bytes = b""
    masks: tuple[int, int] | None = None


class Identify(NamedTuple):
    """A request for the device's identification: 1 basic, 2 regular, 3 extended, 4 one object."""

    level: int
    first: int


def take(data: bytearray | memoryview, start: int, end: int) -> Adu | None:
    """Return the request that begins at `start`, None while it is not complete.

    FrameError for what is no Modbus: the connection cannot be trusted to begin anew anywhere.
    """
    if end - start < _HEADER_BYTES:
        return None
    transaction, protocol, length, unit = _HEADER.unpack_from(data, start)
    if protocol != 0 or not 2 <= length <= MOST_ADU_BYTES - 6:
        raise FrameError(f"protocol {protocol}, length {length}; expected 0, 2..{MOST_ADU_BYTES - 6}")
    after = start + 6 + length
    if after > end:
        return None
    return Adu(transaction, unit, bytes(data[start + _HEADER_BYTES : after]), after)


def answer(transaction: int, unit: int, pdu: bytes) -> bytes:
    """Return the bytes of an answer."""
    return _HEADER.pack(transaction, 0, len(pdu) + 1, unit) + pdu


def refusal(function: int, code: Code) -> bytes:
    """Return the PDU of an exception."""
    return bytes((function | 0x80, code))


def decode(pdu: bytes) -> Access | Identify:
    """Return what a request asks. RefusedError for functions that are not there, and for counts that cannot be."""
    function = pdu[0]
    if function in (Function.READ_HOLDING, Function.READ_INPUT):
        if len(pdu) != 5:
            raise RefusedError(Code.VALUE, "length")
        read = _PAIR.unpack_from(pdu, 1)
        if not 1 <= read[1] <= MOST_READ:
            raise RefusedError(Code.VALUE, "count")
        return Access(function, read)
    try:
        decoder = _DECODERS[function]
    except KeyError:
        raise RefusedError(Code.FUNCTION) from None
    return decoder(pdu)


def _write_one(pdu: bytes) -> Access:
    _length(pdu, 5)
    return Access(pdu[0], None, (_PAIR.unpack_from(pdu, 1)[0], 1), pdu[3:])


def _write_many(pdu: bytes) -> Access:
    if len(pdu) < 6:
        raise RefusedError(Code.VALUE, "length")
    address, count, size = _MANY.unpack_from(pdu, 1)
    return Access(pdu[0], None, (address, count), _data(pdu, 6, count, size, MOST_WRITTEN))


def _mask_write(pdu: bytes) -> Access:
    _length(pdu, 7)
    address, and_mask, or_mask = _MASK.unpack_from(pdu, 1)
    return Access(pdu[0], None, (address, 1), masks=(and_mask, or_mask))


def _read_write(pdu: bytes) -> Access:
    if len(pdu) < 10:
        raise RefusedError(Code.VALUE, "length")
    address, count, to, written, size = _BOTH.unpack_from(pdu, 1)
    if not 1 <= count <= MOST_READ:
        raise RefusedError(Code.VALUE, "count")
    return Access(pdu[0], (address, count), (to, written), _data(pdu, 10, written, size, MOST_WRITTEN_IN_BOTH))


def _identify(pdu: bytes) -> Identify:
    if len(pdu) < 2 or pdu[1] != _MEI_IDENTIFY:
        raise RefusedError(Code.FUNCTION)
    _length(pdu, 4)
    if not 1 <= pdu[2] <= 4:
        raise RefusedError(Code.VALUE, "read device id code")
    return Identify(pdu[2], pdu[3])


_MEI_IDENTIFY = 14
_DECODERS: dict[int, Callable[[bytes], Access | Identify]] = {
    Function.WRITE_ONE: _write_one,
    Function.WRITE_MANY: _write_many,
    Function.MASK_WRITE: _mask_write,
    Function.READ_WRITE: _read_write,
    Function.IDENTIFY: _identify,
}


def _length(pdu: bytes, expected: int) -> None:
    if len(pdu) != expected:
        raise RefusedError(Code.VALUE, "length")


def _data(pdu: bytes, start: int, count: int, size: int, most: int) -> bytes:
    if not 1 <= count <= most or size != 2 * count or len(pdu) != start + size:
        raise RefusedError(Code.VALUE, "count")
    return pdu[start:]


def registers_read(function: int, data: bytes) -> bytes:
    """Return the PDU of an answer with registers."""
    return bytes((function, len(data))) + data


def written(pdu: bytes) -> bytes:
    """Return the PDU that says that a write was done: its first fields, or all of one without a length of its own."""
    return pdu[:5] if pdu[0] == Function.WRITE_MANY else pdu


CONFORMITY = 0x82
"""Regular objects, also one at a time."""


def identification(asked: Identify, objects: Mapping[int, bytes]) -> bytes:
    """Return the PDU with the device's objects: 0..2 are the basic ones, up to 0x7F the regular ones.

    RefusedError for a single object that is not there. All objects fit in one answer.
    """
    if asked.level == 4:
        if asked.first not in objects:
            raise RefusedError(Code.ADDRESS)
        shown = [asked.first]
    else:
        shown = [number for number in sorted(objects) if number < (3 if asked.level == 1 else 0x80)]
        shown = [number for number in shown if number >= asked.first] or shown
    body = b"".join(bytes((number, len(objects[number]))) + objects[number] for number in shown)
    return bytes((Function.IDENTIFY, _MEI_IDENTIFY, asked.level, CONFORMITY, 0, 0, len(shown))) + body
