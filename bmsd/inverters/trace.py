"""CAN traces as people have them: candump's lines in, JSON out, and the way back for the values of a battery."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from bmsd.errors import ConfigError, FrameError
from bmsd.inverters.profile import Profile
from bmsd.inverters.signals import SignalTable, Value
from bmsd.model.frame import ERROR_FLAG, Frame

LOG_EXAMPLE = "(1436509052.249713) can0 351#1002C012C012C201"
SCREEN_EXAMPLE = "can0  351   [8]  10 02 C0 12 C0 12 C2 01"

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_LOG = re.compile(r"\(\s*[0-9.]+\)\s+(\S+)\s+([0-9A-Fa-f]+)#(\S*)(?:\s+[RT])?\s*$")
_SCREEN = re.compile(
    r"\s*(?:\([0-9. :-]+\)\s+)?(\S+)\s+(?:[RT]X [B-] [E-]\s+)?([0-9A-Fa-f]+)\s+"
    r"(?:\[(\d{1,2})\]|\{(\d{1,2})\})(?:\s+(.*?))?\s*$"
)
_SCREEN_DATA = re.compile(r"((?:[0-9A-Fa-f]{2}(?:\s+|$))*)(.*)$")
_REMOTE_LOG = re.compile(r"R(?:[0-9A-Fa-f](?:_[9A-Fa-f])?)?$")
_RAW_LENGTH = re.compile(r"_[9A-Fa-f]$")
_ERROR_TEXT = re.compile(r"\t+[a-z].*$")
_FD_LENGTHS = frozenset((*range(9), 12, 16, 20, 24, 32, 48, 64))


class TraceFrame(NamedTuple):
    """One frame of a trace: its identifier as written (3 or 8 hex digits) and without flags, and what it is."""

    id_text: str
    can_id: int
    extended: bool
    data: bytes
    remote: bool = False
    fd: bool = False
    error: bool = False


class LineError(ValueError):
    """A line that is no frame: what is wrong with it."""


def read_line(line: str) -> TraceFrame | None:
    """Return the frame of a candump line, log or screen format; None for an empty one.

    Raises LineError that says what was expected.
    """
    if "\x1b" in line:
        line = _COLOUR.sub("", line)
    if found := _LOG.match(line):
        return _read_log(found[2], found[3])
    if found := _SCREEN.match(line):
        return _read_screen(found[2], found[3], found[4], found[5] or "")
    if not line.strip() or _ERROR_TEXT.match(line):
        return None
    raise LineError(f"expected a candump line such as {LOG_EXAMPLE!r} or {SCREEN_EXAMPLE!r}")


def write_line(frame: Frame, time_s: float = 0.0, interface: str = "can0") -> str:
    """Return the frame as `candump -L` writes it; `time_s` is seconds since 1970 or since any start."""
    whole, micro = divmod(round(time_s * 1_000_000), 1_000_000)
    can_id = f"{frame.can_id:08X}" if frame.extended else f"{frame.can_id:03X}"
    return f"({whole:010d}.{micro:06d}) {interface} {can_id}#{frame.data.hex().upper()}"


def _read_log(id_text: str, content: str) -> TraceFrame:
    if content.startswith("#"):
        if len(content) < 2 or content[1] not in "0123456789abcdefABCDEF":
            raise LineError("expected one hex digit of flags after '##' (CAN FD)")
        return _frame(id_text, _bytes(content[2:].replace(".", "")), fd=True)
    if content[:1] in ("R", "r"):
        if not _REMOTE_LOG.match(content.upper()):
            raise LineError(f"expected '#R' and a length for a remote frame, found '#{content}'")
        return _frame(id_text, b"", remote=True)
    return _frame(id_text, _bytes(_RAW_LENGTH.sub("", content).replace(".", "")))


def _read_screen(id_text: str, length_text: str | None, raw_text: str | None, content: str) -> TraceFrame:
    length = int(length_text if length_text is not None else raw_text or 0)
    if content.startswith("remote request"):
        return _frame(id_text, b"", remote=True)
    # candump writes the length of a classic frame with one digit, of an FD frame with two.
    fd = length_text is not None and len(length_text) == 2
    found = _SCREEN_DATA.match(content)
    pairs = found[1].split() if found else []
    rest = found[2] if found else content
    if rest and not rest.startswith(("'", '"', "ERRORFRAME")):
        raise LineError(f"expected {length} bytes as pairs of hex digits, found {_short(content)}")
    expected = length if raw_text is None else min(length, 8)
    if len(pairs) != expected:
        raise LineError(f"expected {expected} bytes after [{length}], found {len(pairs)}")
    return _frame(id_text, bytes.fromhex("".join(pairs)), fd=fd)


def _bytes(text: str) -> bytes:
    try:
        if len(text) % 2 == 0:
            return bytes.fromhex(text)
    except ValueError:
        pass
    raise LineError(f"expected data as pairs of hex digits, found {_short(text)}")


def _frame(id_text: str, data: bytes, remote: bool = False, fd: bool = False) -> TraceFrame:
    number = int(id_text, 16)
    extended = len(id_text) == 8
    error = extended and bool(number & ERROR_FLAG)
    can_id = number & ~ERROR_FLAG
    if len(id_text) not in (3, 8) or can_id > (0x1FFFFFFF if extended else 0x7FF):
        raise LineError(f"expected an identifier of 3 hex digits up to 7FF or 8 up to 1FFFFFFF, found {id_text}")
    if fd and len(data) not in _FD_LENGTHS:
        raise LineError(f"expected a length that CAN FD has, found {len(data)} bytes")
    if not fd and len(data) > 8:
        raise LineError(f"expected at most 8 bytes, found {len(data)}")
    return TraceFrame(id_text.upper(), can_id, extended, data, remote, fd, error)


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")


class Decoder:
    """Turns frames of a trace into JSON objects, by a profile or by any DBC. Equal frames are decoded once.

    A frame: `{"id":"351","signals":{...}}`, in `signals` the values in physical units, flags as booleans, named
    values as text, and the profile's remarks (lists of alarm names). Besides, where they apply: `out_of_range`
    (signals outside the range in the DBC), `short` (bytes are missing, their signals left out), `fd`. What cannot
    be decoded is kept: `data` in hex with `unknown` (identifier not in the DBC), `remote`, `error` (of the
    controller) or `undecodable` (why).
    """

    def __init__(self, table: SignalTable, remarks: Callable[[int, dict[str, Value]], dict[str, Value]]) -> None:
        self._table = table
        self._remarks = remarks
        self.json: Callable[[TraceFrame], str] = lru_cache(maxsize=65536)(self._json)

    @classmethod
    def of_profile(cls, profile: Profile) -> Decoder:
        """Return the decoder of an inverter protocol with its options."""
        return cls(profile.table, profile.remarks)

    @classmethod
    def of_dbc(cls, path: Path, id_mask: int | None = None) -> Decoder:
        """Return the decoder of a DBC; see SignalTable for `id_mask`. Raises ConfigError."""
        return cls(SignalTable(path, id_mask), lambda _can_id, _signals: {})

    def _json(self, frame: TraceFrame) -> str:
        return json.dumps(self.values(frame), separators=(",", ":"))

    def values(self, frame: TraceFrame) -> dict[str, object]:
        """Return the frame as the object that `json` writes."""
        shown: dict[str, object] = {"id": frame.id_text}
        if frame.remote:
            return shown | {"remote": True}
        raw = {"data": frame.data.hex().upper()}
        if frame.error:
            return shown | raw | {"error": True}
        extra: dict[str, object] = {"fd": True} if frame.fd else {}
        try:
            decoded = self._table.decode(frame.can_id, frame.extended, frame.data)
        except FrameError as error:
            return shown | raw | {"undecodable": str(error)} | extra
        if decoded is None:
            return shown | raw | {"unknown": True} | extra
        shown["signals"] = decoded.signals | self._remarks(frame.can_id, decoded.signals)
        if decoded.out_of_range:
            shown["out_of_range"] = list(decoded.out_of_range)
        if decoded.short:
            shown["short"] = True
        return shown | extra


def decode_lines(lines: Iterable[str], decoder: Decoder) -> Iterator[str]:
    """Yield one JSON object per frame, as the lines come.

    Lines that are no frame are collected and raised at the end as one ConfigError; all others are decoded.
    """
    complaints = []
    for number, line in enumerate(lines, start=1):
        try:
            frame = read_line(line)
        except LineError as error:
            complaints.append(f"line {number}: {_short(line.strip())}: {error}")
            continue
        if frame is not None:
            yield decoder.json(frame)
    if complaints:
        raise ConfigError(complaints)
