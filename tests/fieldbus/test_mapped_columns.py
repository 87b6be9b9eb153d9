"""Signals as they lie in frames: cantools is asked the same, for both byte orders, signs, lengths and floats."""

from __future__ import annotations

import math
import struct

import numpy as np
import pytest
from cantools.database.can import Message, Signal
from cantools.database.conversion import BaseConversion
from hypothesis import given
from hypothesis import strategies as st

from bmsd.fieldbus.drivers.mapped.checksums import checksum, crc8_sae_j1850
from bmsd.fieldbus.drivers.mapped.columns import Bits, Columns


def signal(
    start: int, length: int, *, big: bool, signed: bool = False, scale: float = 1.0, offset: float = 0.0,
    real: bool = False, minimum: float | None = None, maximum: float | None = None,
    choices: dict[int, str] | None = None,
) -> Signal:  # fmt: skip
    return Signal(
        "It", start, length, "big_endian" if big else "little_endian", signed, minimum=minimum, maximum=maximum,
        conversion=BaseConversion.factory(scale, offset, choices, real),  # type: ignore[arg-type]
    )  # fmt: skip


@st.composite
def placed(draw: st.DrawFn) -> Signal:
    """Any integer signal that lies inside eight bytes."""
    length = draw(st.integers(1, 64))
    first = draw(st.integers(0, 64 - length))
    big = draw(st.booleans())
    start = 8 * (first // 8) + 7 - first % 8 if big else first
    scale = draw(st.sampled_from([1.0, 0.1, 0.001, -0.5, 2.0]))
    offset = draw(st.sampled_from([0.0, -40.0, 273.15]))
    return signal(start, length, big=big, signed=draw(st.booleans()), scale=scale, offset=offset)


def value(one: Signal, data: bytes, factor: float = 1.0) -> float:
    words = np.array([int.from_bytes(data, "little")], dtype=np.uint64)
    return float(Columns([Bits.of(one)], [0], [factor]).values(words)[0])


@given(placed(), st.binary(min_size=8, max_size=8))
def test_integers_are_those_of_cantools(one: Signal, data: bytes) -> None:
    wanted = Message(1, "M", 8, [one]).decode(data, decode_choices=False)["It"]
    unsigned = Message(1, "M", 8, [one]).decode(data, scaling=False)["It"] % (1 << one.length)
    assert Bits.of(one).raw(int.from_bytes(data, "little")) == unsigned
    if one.length < 64 or one.is_signed:  # an unsigned 64-bit value over 2**63 is unknown: no board measures that
        assert value(one, data) == pytest.approx(wanted, rel=1e-12, abs=1e-9)


@given(st.floats(width=32), st.booleans())
def test_floats_are_those_of_cantools_and_what_is_no_number_is_unknown(number: float, big: bool) -> None:
    one = signal(7 if big else 0, 32, big=big, real=True)
    data = struct.pack(">f" if big else "<f", number) + bytes(4)
    assert (value(one, data) == number) if math.isfinite(number) else math.isnan(value(one, data))


def test_a_double_is_read_whole() -> None:
    assert value(signal(0, 64, big=False, real=True, scale=2.0), struct.pack("<d", -1234.5)) == -2469.0


@pytest.mark.parametrize(("raw", "degc"), [(0, -40.0), (40, 0.0), (214, 174.0), (215, None), (255, None), (254, None)])
def test_outside_the_range_and_with_a_name_a_value_is_unknown(raw: int, degc: float | None) -> None:
    one = signal(7, 8, big=True, offset=-40.0, minimum=-40.0, maximum=174.0, choices={255: "not fitted"})
    shown = value(one, bytes([raw]) + bytes(7))
    assert math.isnan(shown) if degc is None else shown == degc


@pytest.mark.parametrize(("raw", "known"), [(-11, False), (-10, True), (10, True), (11, False)])
def test_a_signed_value_is_unknown_beyond_either_end(raw: int, known: bool) -> None:
    one = signal(0, 8, big=False, signed=True, minimum=-10.0, maximum=10.0)
    assert math.isfinite(value(one, raw.to_bytes(8, "little", signed=True))) == known


def test_a_name_counts_also_inside_the_range() -> None:
    one = signal(0, 8, big=False, choices={0: "not ready"})
    assert math.isnan(value(one, bytes(8)))
    assert value(one, b"\x01" + bytes(7)) == 1.0


def test_a_factor_is_applied_after_the_offset() -> None:
    assert value(signal(0, 8, big=False, offset=-40.0), b"\x32" + bytes(7), factor=-0.5) == -5.0


@pytest.mark.parametrize(("start", "length", "big"), [(60, 8, False), (64, 1, False), (56, 9, True), (71, 1, True)])
def test_a_signal_beyond_eight_bytes_is_refused(start: int, length: int, big: bool) -> None:
    with pytest.raises(ValueError, match="inside eight bytes"):
        Bits.of(signal(start, length, big=big))


def test_checksums_are_those_of_their_makers() -> None:
    assert crc8_sae_j1850(b"123456789") == 0x4B, "the check value of CRC-8/SAE-J1850"
    assert checksum("sum", 0x100, 8, bytes([0xFF, 2])) == 1
    assert checksum("sum_with_id", 0x136, 8, bytes([1, 2])) == 0x01 + 0x36 + 8 + 3
    assert checksum("xor", 0, 8, bytes([0xF0, 0x0F, 1])) == 0xFE
