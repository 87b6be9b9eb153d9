"""Where signals lie in data words, and their physical values, many at once: both byte orders, signed, floating point.

A data word is the eight bytes of a frame as the kernel hands them over, read little-endian. A little-endian
(Intel) signal is a run of bits in it, a big-endian (Motorola) one a run of bits in the word with its bytes reversed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from cantools.database.can import Signal
from numpy.typing import NDArray

from bmsd.model.snapshot import Bools, Floats, Ints

WORD_BITS = 64
_GREATEST = (1 << 63) - 1


class Bits(NamedTuple):
    """Place, meaning and range of one signal. `sign` is the sign bit's weight, 0: unsigned; `float_bits` 0: integer."""

    big: bool
    shift: int
    mask: int
    sign: int
    float_bits: int
    scale: float
    offset: float
    low: int
    high: int
    named: frozenset[int]
    """Raw values that have a name (not available, error): no numbers."""

    @classmethod
    def of(cls, signal: Signal) -> Bits:
        """Read a signal off the DBC. It must lie inside eight bytes."""
        big = signal.byte_order == "big_endian"
        first = 8 * (signal.start // 8) + 7 - signal.start % 8 if big else signal.start
        shift = WORD_BITS - first - signal.length if big else first
        if not 0 <= shift <= WORD_BITS - signal.length:
            raise ValueError(f"{signal.name} does not lie inside eight bytes")
        signed = signal.is_signed and not signal.is_float
        low, high = raw_range(signal)
        return cls(
            big=big,
            shift=shift,
            mask=(1 << signal.length) - 1,
            sign=1 << (signal.length - 1) if signed else 0,
            float_bits=signal.length if signal.is_float else 0,
            scale=float(signal.scale),
            offset=float(signal.offset),
            low=low,
            high=high,
            named=frozenset(signal.choices or ()),
        )

    def raw(self, word: int) -> int:
        """Return the raw integer of one data word, unsigned."""
        if self.big:
            word = int.from_bytes(word.to_bytes(8, "little"), "big")
        return word >> self.shift & self.mask


def raw_range(signal: Signal) -> tuple[int, int]:
    """Return least and greatest raw value by the signal's range, of its whole length when it has none."""
    least = -(1 << (signal.length - 1)) if signal.is_signed else 0
    most = least + (1 << signal.length) - 1
    if signal.is_float or signal.minimum is None or signal.maximum is None or not signal.scale:
        return least, most
    ends = sorted(round((end - signal.offset) / signal.scale) for end in (signal.minimum, signal.maximum))
    return max(least, int(ends[0])), min(most, int(ends[1]))


class Columns:
    """Signals of one quantity in the order of its array; `slot` says which word holds each, `factor` multiplies."""

    def __init__(self, bits: Sequence[Bits], slot: Sequence[int], factor: Sequence[float]) -> None:
        self.slot: NDArray[np.intp] = np.array(slot, dtype=np.intp)
        self._big: Bools = np.array([b.big for b in bits], dtype=bool)
        self._shift: NDArray[np.uint64] = np.array([b.shift for b in bits], dtype=np.uint64)
        self._mask: NDArray[np.uint64] = np.array([b.mask for b in bits], dtype=np.uint64)
        self._sign: NDArray[np.uint64] = np.array([b.sign for b in bits], dtype=np.uint64)
        self._low: Ints = np.array([b.low for b in bits], dtype=np.int64)
        self._high: Ints = np.array([min(b.high, _GREATEST) for b in bits], dtype=np.int64)
        self._scale: Floats = np.array([b.scale for b in bits])
        self._offset: Floats = np.array([b.offset for b in bits])
        self._factor: Floats = np.array(factor, dtype=np.float64)
        self._float = {size: np.array([b.float_bits == size for b in bits], dtype=bool) for size in (32, 64)}
        self._named = [(column, raw) for column, b in enumerate(bits) for raw in sorted(b.named)]

    def raw(self, words: NDArray[np.uint64]) -> Ints:
        """Return the raw integers (signals,) of the words of all slots."""
        own = words[self.slot]
        own = np.where(self._big, own.byteswap(), own) >> self._shift & self._mask
        return ((own ^ self._sign) - self._sign).view(np.int64)

    def values(self, words: NDArray[np.uint64]) -> Floats:
        """Return the physical values (signals,); NaN where the raw value is outside its range, or has a name."""
        raw = self.raw(words)
        outside = (raw < self._low) | (raw > self._high)
        number = raw.astype(np.float64)
        for size, chosen in self._float.items():
            if chosen.any():
                kind = np.dtype(f"<f{size // 8}")
                number[chosen] = raw[chosen].astype(f"<u{size // 8}").view(kind)
                outside[chosen] = ~np.isfinite(number[chosen])
        for column, name in self._named:
            outside[column] |= raw[column] == name
        with np.errstate(invalid="ignore", over="ignore"):
            value = (number * self._scale + self._offset) * self._factor
        value[outside] = np.nan
        return np.asarray(value, dtype=np.float64)
