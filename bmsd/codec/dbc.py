"""Where the signals of a DBC lie in a frame, as arrays: many frames are decoded without a loop per signal."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple, cast

import cantools
import numpy as np
from cantools.database.can import Database, Message, Signal
from numpy.typing import NDArray

from bmsd.codec.integrity import frame_crc
from bmsd.errors import ConfigError
from bmsd.model.frame import Frame

CRC_SIGNAL = "Crc"
_WHOLE_STATEMENT = re.compile(
    r'^$|;$|^(BU_|BS_|NS_)|^BO_ \d+ \w+ *: *\d+ \w+$|^SG_ .*: *\d+\|\d+@[01][+-] *\(.+\) *\[.*\] *"[^"]*" *\w.*$'
)
"""Last line of a DBC that was not cut off: the parser of cantools drops an unfinished last statement silently."""
_TABLE_BITS = 16


@cache
def load(name: str, address_bits: int = 0) -> Database:
    """Return the DBC `name` of the package; the lowest `address_bits` of its identifiers are an address.

    Raises FileNotFoundError for an unknown name.
    """
    text = files("bmsd").joinpath("dbc", f"{name}.dbc").read_text(encoding="utf-8")
    mask = 0x1FFFFFFF & ~((1 << address_bits) - 1)
    database = cantools.database.load_string(text, database_format="dbc", frame_id_mask=mask)
    return cast(Database, database)


def load_file(path: Path) -> Database:
    """Return the definitions of a DBC file; raises ConfigError with one complaint when it cannot be used."""
    try:
        text = path.read_text(encoding="cp1252", errors="replace")
        database = cantools.database.load_string(text, database_format="dbc")
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror or error}"]) from None
    except (cantools.Error, ValueError, KeyError, TypeError, IndexError, AttributeError, ArithmeticError) as error:
        # cantools raises its own errors and textparser's and, for a file that parses but contradicts itself,
        # whatever its reader stumbles over.
        raise ConfigError([f"{path}: not a valid DBC: {one_line(error)}"]) from None
    last = text.rstrip().rsplit("\n", 1)[-1].strip()
    if not _WHOLE_STATEMENT.search(last):
        raise ConfigError([f"{path}: not a valid DBC: it ends within a statement: {last[-60:]!r}"])
    if not isinstance(database, Database) or not database.messages:
        raise ConfigError([f"{path}: not a valid DBC: it defines no frame"])
    return database


def one_line(error: BaseException) -> str:
    """Return what an error says, on one line and not too long."""
    return " ".join(str(error).split())[:300] or type(error).__name__


@dataclass(frozen=True)
class Signals:
    """Some signals of some messages, arrays (signals,); `words` are the messages' data as 64-bit integers.

    `word` says which of the words holds the signal, `low` and `high` are the raw values of its range: what lies
    outside (the codes for open, short, invalid) is not a number.
    """

    names: tuple[str, ...]
    word: NDArray[np.intp]
    start: NDArray[np.uint64]
    mask: NDArray[np.uint64]
    sign: NDArray[np.int64]
    scale: NDArray[np.float64]
    offset: NDArray[np.float64]
    low: NDArray[np.int64]
    high: NDArray[np.int64]

    @classmethod
    def of(cls, database: Database, messages: Sequence[str], names: Sequence[tuple[str, str]] | None = None) -> Signals:
        """Lay out the signals `names` (message, signal), all of the messages by default; word k is `messages[k]`."""
        if names is None:
            names = [(name, signal.name) for name in messages for signal in database.get_message_by_name(name).signals]
        return cls.placed(database, [(message, signal, messages.index(message)) for message, signal in names])

    @classmethod
    def placed(cls, database: Database, places: Sequence[tuple[str, str, int]]) -> Signals:
        """Lay out signals (message, signal, word): the same signal of many nodes has a word for each of them."""
        known: dict[tuple[str, str], Signal] = {}
        for message, name, _ in places:
            if (message, name) not in known:
                known[message, name] = database.get_message_by_name(message).get_signal_by_name(name)
                _check(known[message, name])
        found = [known[message, name] for message, name, _ in places]
        raw_ranges = [_raw_range(signal) for signal in found]
        return cls(
            names=tuple(signal.name for signal in found),
            word=np.array([word for _, _, word in places], dtype=np.intp),
            start=np.array([signal.start for signal in found], dtype=np.uint64),
            mask=np.array([(1 << signal.length) - 1 for signal in found], dtype=np.uint64),
            sign=np.array([1 << (signal.length - 1) if signal.is_signed else 0 for signal in found], dtype=np.int64),
            scale=np.array([signal.scale for signal in found], dtype=np.float64),
            offset=np.array([signal.offset for signal in found], dtype=np.float64),
            low=np.array([low for low, _ in raw_ranges], dtype=np.int64),
            high=np.array([high for _, high in raw_ranges], dtype=np.int64),
        )

    def __getitem__(self, columns: slice) -> Signals:
        """Return some of the signals; `words` stay the same."""
        return Signals(
            names=self.names[columns],
            word=self.word[columns],
            start=self.start[columns],
            mask=self.mask[columns],
            sign=self.sign[columns],
            scale=self.scale[columns],
            offset=self.offset[columns],
            low=self.low[columns],
            high=self.high[columns],
        )

    @cached_property
    def _signed(self) -> tuple[slice, NDArray[np.int64]] | None:
        """Where signed signals lie, with their sign bits."""
        span = _span(self.sign != 0)
        return None if span is None else (span, self.sign[span])

    @cached_property
    def _shifted(self) -> tuple[slice, NDArray[np.float64]] | None:
        """Where signals with an offset lie, with their offsets."""
        span = _span(self.offset != 0)
        return None if span is None else (span, self.offset[span])

    @cached_property
    def _low_checked(self) -> tuple[slice, NDArray[np.int64]] | None:
        """Where a raw value can be below the range: 0 is the least raw value of most signals."""
        span = _span((self.low > 0) | (self.sign != 0))
        return None if span is None else (span, self.low[span])

    def index(self, name: str) -> int:
        """Return the column of a signal."""
        return self.names.index(name)

    def raw(self, words: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return raw values (..., signals) of data words (..., messages)."""
        bits = words.take(self.word, axis=-1)
        np.right_shift(bits, self.start, bits)
        np.bitwise_and(bits, self.mask, bits)
        raw = bits.view(np.int64)
        if self._signed is not None:
            span, sign = self._signed
            part = raw[..., span]
            part ^= sign
            part -= sign
        return raw

    def physical(self, raw: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return physical values of the raw values (..., signals); NaN outside the signal's range."""
        return self.measured(raw)[0]

    def measured(self, raw: NDArray[np.int64]) -> tuple[NDArray[np.float64], int]:
        """Return physical values as `physical` does, and how many of them are NaN."""
        value = raw.astype(np.float64)
        value *= self.scale
        if self._shifted is not None:
            span, offset = self._shifted
            part = value[..., span]
            part += offset
        outside = raw > self.high
        if self._low_checked is not None:
            span, low = self._low_checked
            below = outside[..., span]
            below |= raw[..., span] < low
        unknown = int(np.count_nonzero(outside))
        if unknown:
            value[outside] = np.nan
        return value, unknown

    def value_table(self, name: str) -> NDArray[np.float64]:
        """Return the physical value of every raw value of an unsigned signal of at most 16 bits; NaN outside."""
        column = self.index(name)
        raw = np.arange(self._table_size(column), dtype=np.int64)
        return self[column : column + 1].physical(raw[:, None])[:, 0]

    def code_table(self, name: str, codes: Mapping[int, int], outside: int) -> NDArray[np.int64]:
        """Return 0 for every raw value within range, what `codes` says for its keys, `outside` for the rest."""
        column = self.index(name)
        raw = np.arange(self._table_size(column), dtype=np.int64)
        table = np.where((raw < self.low[column]) | (raw > self.high[column]), outside, 0)
        for code, meaning in codes.items():
            table[code] = meaning
        return table

    def _table_size(self, column: int) -> int:
        size = int(self.mask[column]) + 1
        if self.sign[column] or size > 1 << _TABLE_BITS:
            raise ValueError(f"{self.names[column]}: signed or too long for a table")
        return size


def choices(database: Database, message: str, signal: str) -> dict[str, int]:
    """Return the raw value of each named value of a signal; empty without names."""
    found: Mapping[int, Any] = database.get_message_by_name(message).get_signal_by_name(signal).choices or {}
    return {str(name): int(raw) for raw, name in found.items()}


def encode(message: Message, values: Mapping[str, Any], address: int = 0) -> Frame:
    """Return the frame of a message: physical values or named ones, `address` in its identifier, its CRC at the end.

    Signals that are not given are 0. Raises ValueError for a signal that the message does not have, or a value
    outside its signal's range.
    """
    known = _writable(message)
    unknown = sorted(values.keys() - known.keys())
    if unknown:
        raise ValueError(f"{message.name} has no signal {', '.join(unknown)}")
    raw = {name: _raw_value(signal, values.get(name, 0)) for name, signal in known.items()}
    data = bytes(message.encode(raw, scaling=False, padding=False, strict=False))
    can_id = message.frame_id | address
    if CRC_SIGNAL in known:
        data = data[:-1] + bytes([frame_crc(can_id, data[:-1])])
    return Frame(can_id, data, message.is_extended_frame)


def _span(chosen: NDArray[np.bool_]) -> slice | None:
    """Return the shortest slice that covers everything chosen, None when nothing is."""
    where = np.flatnonzero(chosen)
    return slice(int(where[0]), int(where[-1]) + 1) if len(where) else None


def _check(signal: Signal) -> None:
    if signal.byte_order != "little_endian" or signal.is_float or signal.is_multiplexer or signal.multiplexer_ids:
        raise ValueError(f"{signal.name}: only plain little-endian integers are decoded in bulk")


def _raw_range(signal: Signal) -> tuple[int, int]:
    """Return least and greatest raw value of the signal's range, its whole length when it has none."""
    least = -(1 << (signal.length - 1)) if signal.is_signed else 0
    most = least + (1 << signal.length) - 1
    if signal.minimum is None or signal.maximum is None:
        return least, most
    ends = sorted(round((end - signal.offset) / signal.scale) for end in (signal.minimum, signal.maximum))
    return max(least, int(ends[0])), min(most, int(ends[1]))


class _Writable(NamedTuple):
    """A signal and what writing it needs each time."""

    signal: Signal
    scale: float
    offset: float
    low: int
    high: int


@cache
def _writable(message: Message) -> dict[str, _Writable]:
    """Return the signals of a message by name; worked out once, as messages do not change."""
    return {
        signal.name: _Writable(signal, signal.scale, signal.offset, *_raw_range(signal)) for signal in message.signals
    }


def _raw_value(writable: _Writable, value: Any) -> int:
    signal, scale, offset, low, high = writable
    if isinstance(value, str):
        return int(signal.choice_to_number(value))
    raw = round((value - offset) / scale)
    if signal.name != CRC_SIGNAL and not low <= raw <= high:
        raise ValueError(f"{signal.name}: {value} is outside {signal.minimum} to {signal.maximum}")
    return int(raw)
