"""Messages on the link: one byte that says what it is, then the message."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from bmsd.codec import packed, record
from bmsd.errors import FrameError
from bmsd.model.catalogue import CATALOGUE
from bmsd.model.event import Event
from bmsd.model.published import Hello, Published
from bmsd.model.request import Connect, Power, Release, Request, Reserve, Reset, Role, complaint, may_reset

MOST_REQUEST_BYTES = 4096
MOST_MESSAGE_BYTES = 1 << 20
MOST_SOURCE, MOST_REASON = 64, 400
"""Characters of who asks and why."""
WORDS = ("reset", "connect", "disconnect", "reserve", "power", "release")
LEASED = ("reserve", "power")
GROUPS = ("trip", "contactors")
"""What can be reset beside rows of the catalogue, by service only."""
_ROWS = {row.code: row for row in CATALOGUE}


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
    """A request as it is written: `what` is one of WORDS; `source` says who asks, such as "modbus 10.0.0.5".

    `code` and `reason` go with reset. `value` (SoC 0..1, or W, positive charges) and `lease_s` go with reserve and
    power; release takes one of these two as `code`.
    """

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


@dataclass(frozen=True, slots=True)
class Answered:
    """A request with its answer, for the audit. `asked` None: it was none; `uid` is the user at the other end."""

    role: Role
    uid: int
    asked: Asked | None
    answer: Answer

    @property
    def who(self) -> str:
        """Who asked: what it says of itself, and the user that the system knows."""
        source = self.asked.source if self.asked else ""
        known = f"{self.role.value}, uid {self.uid}"
        return f"{source} ({known})" if source and not _unfit(source, MOST_SOURCE) else f"somebody ({known})"

    @property
    def what(self) -> str:
        """What was asked, in a few words."""
        asked = self.asked
        if asked is None:
            return "something that is no request"
        words = [asked.what if asked.what in WORDS else repr(asked.what)]
        words += [asked.code if asked.code.isprintable() else repr(asked.code)] if asked.code else []
        if asked.value is not None:
            words.append(f"{asked.value:g}" + (f" for {asked.lease_s:g} s" if asked.lease_s is not None else ""))
        return " ".join(words) + (f", because {asked.reason!r}" if asked.reason else "")


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
    """Return the bytes of a message: its kind, then its fields, of records by position and of all others by name."""
    kind = _KIND_OF[type(message)]
    body: bytes = (packed if kind == Kind.PUBLISHED else record).encode(message)
    return bytes([kind]) + body


def unpack(data: bytes) -> Any:
    """Return the message in these bytes. FrameError says what is wrong with them."""
    if not data or data[0] not in TYPES:
        known = sorted(int(kind) for kind in TYPES)
        raise FrameError(f"message kind {data[0] if data else 'none'} is not known, expected one of {known}")
    return (packed if data[0] == Kind.PUBLISHED else record).decode(data[1:], TYPES[data[0]])


def request_of(asked: Asked, role: Role) -> Request:
    """Return what is asked as the core reads it. FrameError says why it is not taken."""
    for name, text, most in (("source", asked.source, MOST_SOURCE), ("reason", asked.reason, MOST_REASON)):
        if _unfit(text, most):
            raise FrameError(f"{name}: expected at most {most} printable characters")
    if asked.what == "reset":
        return _reset(asked, role)
    if asked.what in ("connect", "disconnect"):
        return Connect(asked.what == "connect", asked.source)
    if asked.what in LEASED:
        return _leased(asked)
    if asked.what == "release":
        if asked.code not in LEASED:
            raise FrameError(f"release {asked.code!r}: expected {' or '.join(LEASED)}")
        return Release(asked.code, asked.source)
    raise FrameError(f"request {asked.what!r} is not known, expected one of {', '.join(WORDS)}")


def _unfit(text: str, most: int) -> bool:
    return len(text) > most or not text.isprintable()


def _reset(asked: Asked, role: Role) -> Reset:
    code, row = asked.code, _ROWS.get(asked.code)
    if not code:
        raise FrameError("reset needs a fault code, or 'all'")
    if row is None and code not in ("all", *GROUPS):
        raise FrameError(f"fault {code!r} is not known, expected all, {', '.join(GROUPS)} or a code of `bmsd faults`")
    if code in GROUPS and role is not Role.SERVICE:
        raise FrameError(f"{code} is reset by service only")
    if row is not None and not may_reset(row, role, asked.reason):
        raise FrameError(f"{code} is acknowledged by service, with a reason")
    return Reset(code, role, asked.reason, asked.source)


def _leased(asked: Asked) -> Reserve | Power:
    if asked.value is None or asked.lease_s is None:
        raise FrameError(f"{asked.what} needs a value and lease_s, for how many seconds it holds")
    request = (Reserve if asked.what == "reserve" else Power)(asked.value, asked.lease_s, asked.source)
    if wrong := complaint(request):
        raise FrameError(wrong)
    return request
