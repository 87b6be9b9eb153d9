"""What a DBC says about frames: raw ranges, physical values without float noise, text, integers to bytes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import cantools
from cantools.database.can import Database as CanDatabase
from cantools.database.can import Message, Signal
from cantools.database.conversion import BaseConversion
from cantools.database.namedsignalvalue import NamedSignalValue

from bmsd.codec.dbc import load_file, one_line
from bmsd.errors import FrameError

Value = float | int | bool | str | list[str] | None


class RawRange(NamedTuple):
    """Least and greatest raw integer of a signal, both allowed."""

    least: int
    greatest: int

    def __contains__(self, raw: object) -> bool:
        return isinstance(raw, int) and self.least <= raw <= self.greatest


class _Reader(NamedTuple):
    """How one signal is shown: decimals of its scale (None: floating point), flag, text with its byte slice."""

    name: str
    decimals: int | None
    flag: bool
    text: slice | None
    minimum: float | None
    maximum: float | None


class Decoded(NamedTuple):
    """Physical values of one frame by signal name; names outside their range; whether the frame was too short."""

    message: str
    signals: dict[str, Value]
    out_of_range: tuple[str, ...]
    short: bool


def dbc_path(name: str) -> Path:
    """Return the path of a DBC of the package."""
    return Path(str(files("bmsd").joinpath("dbc", name)))


class SignalTable:
    """The frames of one DBC.

    `id_mask` is applied to 29-bit identifiers before they are looked up (a protocol may keep a node address
    in them); without it the database attribute `IdMask` counts, if there is one. `scales` replaces the scale
    of signals that the installer may choose: signal name -> scale; the raw range stays.
    Raises ConfigError with one complaint when the file cannot be read.
    """

    def __init__(self, path: Path, id_mask: int | None = None, scales: Mapping[str, Decimal] | None = None) -> None:
        self.path = path
        database = load_file(path)
        mask = id_mask if id_mask is not None else _attribute_mask(database)
        self._mask = mask
        self.messages: dict[tuple[int, bool], Message] = {
            (self._key(message.frame_id, message.is_extended_frame), message.is_extended_frame): message
            for message in database.messages
        }
        for message in self.messages.values():
            for signal in message.signals:
                if scales and signal.name in scales:
                    _rescale(signal, scales[signal.name])
        self._readers = {key: [_reader(signal) for signal in m.signals] for key, m in self.messages.items()}

    def _key(self, can_id: int, extended: bool) -> int:
        return can_id & self._mask if extended else can_id

    def message(self, can_id: int, extended: bool = False) -> Message | None:
        """Return the definition of the frame, None when the DBC has none."""
        return self.messages.get((self._key(can_id, extended), extended))

    def decode(self, can_id: int, extended: bool, data: bytes) -> Decoded | None:
        """Return the physical values of a frame, None when the DBC does not know the identifier.

        Signals beyond the end of a short frame are left out; bytes beyond the message's length are ignored.
        Raises FrameError when the content selects a variant (multiplexer) that the DBC does not define.
        """
        key = (self._key(can_id, extended), extended)
        message = self.messages.get(key)
        if message is None:
            return None
        try:
            raw = message.decode(data, allow_truncated=True) if message.signals and data else {}
        except cantools.Error as error:
            raise FrameError(one_line(error)) from None
        assert isinstance(raw, dict)
        signals: dict[str, Value] = {}
        outside = []
        for reader in self._readers[key]:
            if reader.text is not None:
                if len(data) > reader.text.start:
                    signals[reader.name] = data[reader.text].decode("ascii", "replace").rstrip(" \0")
            elif reader.name in raw:
                value = signals[reader.name] = _shown(reader, raw[reader.name])
                if not _within(reader, value):
                    outside.append(reader.name)
        return Decoded(message.name, signals, tuple(outside), len(data) < message.length)

    def raw_range(self, can_id: int, name: str) -> RawRange:
        """Return the raw integers that the signal of an 11-bit frame may have by its range in the DBC."""
        message = self.messages[can_id, False]
        signal = message.get_signal_by_name(name)
        assert signal.minimum is not None
        assert signal.maximum is not None
        scale, offset = Decimal(str(signal.scale)), Decimal(str(signal.offset))
        least = (Decimal(str(signal.minimum)) - offset) / scale
        greatest = (Decimal(str(signal.maximum)) - offset) / scale
        return RawRange(int(least.to_integral_value(ROUND_CEILING)), int(greatest.to_integral_value(ROUND_FLOOR)))

    def raw(self, can_id: int, data: bytes) -> dict[str, int]:
        """Return the raw integers of an 11-bit frame; raises FrameError when it is too short to hold them all."""
        message = self.messages[can_id, False]
        if len(data) < message.length:
            raise FrameError(f"{can_id:03X}: {len(data)} bytes instead of {message.length}")
        values = message.decode(data, scaling=False, decode_choices=False)
        assert isinstance(values, dict)
        return {name: value for name, value in values.items() if isinstance(value, int)}

    def min_interval_s(self, can_id: int) -> float:
        """Return the least time between two of this 11-bit frame (attribute GenMsgDelayTime), s."""
        message = self.messages[can_id, False]
        attributes = message.dbc.attributes if message.dbc else {}
        return float(attributes["GenMsgDelayTime"].value) / 1000.0

    def pack(self, can_id: int, raw: Mapping[str, int]) -> bytes:
        """Return the bytes of an 11-bit frame from raw integers, the message's length of the DBC."""
        return self.messages[can_id, False].encode(dict(raw), scaling=False, strict=True)


def _attribute_mask(database: CanDatabase) -> int:
    attributes = database.dbc.attributes if database.dbc else {}
    return int(attributes["IdMask"].value) if "IdMask" in attributes else 0x1FFFFFFF


def _rescale(signal: Signal, scale: Decimal) -> None:
    """Give the signal another scale; its raw range stays, so its physical range moves along."""
    factor = scale / Decimal(str(signal.scale))
    for bound in ("minimum", "maximum"):
        was = getattr(signal, bound)
        if was is not None:
            setattr(signal, bound, float(Decimal(str(was)) * factor))
    signal.conversion = BaseConversion.factory(float(scale), signal.offset, None, is_float=False)


def _reader(signal: Signal) -> _Reader:
    attributes = signal.dbc.attributes if signal.dbc else {}
    text = None
    if "Text" in attributes and attributes["Text"].value in (1, "ascii"):
        text = slice(signal.start // 8, (signal.start + signal.length) // 8)
    flag = signal.length == 1 and signal.scale == 1 and signal.offset == 0 and not signal.choices
    return _Reader(signal.name, _decimals(signal), flag, text, signal.minimum, signal.maximum)


def _decimals(signal: Signal) -> int | None:
    if signal.conversion.is_float:
        return None
    exponents = [Decimal(str(number)).as_tuple().exponent for number in (signal.scale, signal.offset)]
    return max(-exponent if isinstance(exponent, int) else 0 for exponent in (*exponents, 0))


def _shown(reader: _Reader, value: object) -> Value:
    if reader.flag:
        return bool(value)
    if isinstance(value, NamedSignalValue):
        return str(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return value if reader.decimals is None else round(value, reader.decimals)
    assert isinstance(value, int)
    return value


def _within(reader: _Reader, value: Value) -> bool:
    if isinstance(value, bool | str | list) or value is None:
        return True
    if reader.minimum is not None and not value >= reader.minimum:
        return False
    return reader.maximum is None or value <= reader.maximum
