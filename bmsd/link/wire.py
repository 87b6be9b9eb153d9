"""Messages on the link: one byte that says what it is, then a record."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from bmsd.codec import record
from bmsd.errors import FrameError
from bmsd.model.event import Event
from bmsd.model.published import Hello, Published
from bmsd.model.request import Connect, Request, Reset, Role

MOST_REQUEST_BYTES = 4096
MOST_MESSAGE_BYTES = 1 << 20


class Kind(IntEnum):
    """What a message is."""

    HELLO = 1
    PUBLISHED = 2
    REQUEST = 3
    ANSWER = 4
    EVENT = 5
    ACK = 6


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it is written: `what` is reset, connect or disconnect; `code` and `reason` go with reset."""

    what: str
    code: str = ""
    reason: str = ""
    value: float | None = None
    lease_s: float | None = None
    source: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer to each request: whether it was taken, and why not."""

    taken: bool
    text: str


@dataclass(frozen=True, slots=True)
class Ack:
    """A reader wants events, and those up to this number are safe: they may be forgotten. 0: none yet."""

    number: int


Message = Hello | Published | Asked | Answer | Event | Ack
TYPES: dict[int, type[Any]] = {
    Kind.HELLO: Hello,
    Kind.PUBLISHED: Published,
    Kind.REQUEST: Asked,
    Kind.ANSWER: Answer,
    Kind.EVENT: Event,
    Kind.ACK: Ack,
}
_KIND_OF = {kind: number for number, kind in TYPES.items()}


def pack(message: Message) -> bytes:
    """Return the bytes of a message."""
    return bytes([_KIND_OF[type(message)]]) + record.encode(message)


def unpack(data: bytes) -> Any:
    """Return the message in these bytes. FrameError says what is wrong with them."""
    if not data or data[0] not in TYPES:
        known = sorted(int(kind) for kind in TYPES)
        raise FrameError(f"message kind {data[0] if data else 'none'} is not known, expected one of {known}")
    return record.decode(data[1:], TYPES[data[0]])


def request_of(asked: Asked, role: Role) -> Request:
    """Return what is asked as the core reads it. FrameError for a request that is not known."""
    if asked.what == "reset":
        if not asked.code:
            raise FrameError("reset needs a fault code, or 'all'")
        return Reset(asked.code, role, asked.reason)
    if asked.what in ("connect", "disconnect"):
        return Connect(asked.what == "connect")
    raise FrameError(f"request {asked.what!r} is not known, expected reset, connect or disconnect")
