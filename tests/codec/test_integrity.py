from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmsd.codec.integrity import crc8, frame_crc, syndromes
from bmsd.model.frame import EXTENDED_FLAG, RAW_FRAME

PUBLISHED = {
    b"123456789".hex(): 0xDF,
    "00000000": 0x12,
    "F20183": 0xC2,
    "0FAA0055": 0xC6,
    "00FF5511": 0x77,
    "332255AABBCCDDEEFF": 0x11,
    "926B55": 0x33,
    "FFFFFFFF": 0x6C,
}


def bitwise_crc8(data: bytes) -> int:
    crc = 0xFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = ((crc << 1) ^ 0x2F) & 0xFF if crc & 0x80 else crc << 1
    return crc ^ 0xFF


def raw(can_id: int, data: bytes) -> np.ndarray:
    return np.array([(can_id | EXTENDED_FLAG, len(data), 0, int.from_bytes(data, "little"))], dtype=RAW_FRAME)


@pytest.mark.parametrize(("data", "crc"), PUBLISHED.items())
def test_the_published_check_values_of_autosar_hold(data: str, crc: int) -> None:
    assert crc8(bytes.fromhex(data)) == crc


@given(st.binary(max_size=20))
def test_the_table_gives_what_the_polynomial_gives_bit_by_bit(data: bytes) -> None:
    assert crc8(data) == bitwise_crc8(data)


def test_a_frame_crc_covers_the_identifier_most_significant_byte_first() -> None:
    assert frame_crc(0x11B51281, b"\x01\x02") == bitwise_crc8(bytes.fromhex("11B512810102"))


def test_flags_of_the_identifier_are_not_covered() -> None:
    assert frame_crc(0x11B51281 | EXTENDED_FLAG, b"\x01") == frame_crc(0x11B51281, b"\x01")


@given(st.integers(0, 0x1FFFFFFF), st.binary(min_size=7, max_size=7))
def test_the_syndrome_of_a_sound_frame_is_zero(can_id: int, data: bytes) -> None:
    assert syndromes(raw(can_id, data + bytes([frame_crc(can_id, data)])))[0] == 0


@given(st.integers(0, 0x1FFFFFFF), st.binary(min_size=7, max_size=7), st.integers(1, (1 << 93) - 1))
def test_a_syndrome_is_zero_only_when_the_crc_fits(can_id: int, data: bytes, flips: int) -> None:
    sound = data + bytes([frame_crc(can_id, data)])
    damaged_id = can_id ^ (flips >> 64)
    damaged = (int.from_bytes(sound, "little") ^ (flips & ((1 << 64) - 1))).to_bytes(8, "little")
    fits = damaged[7] == bitwise_crc8(damaged_id.to_bytes(4, "big") + damaged[:7])
    assert (syndromes(raw(damaged_id, damaged))[0] == 0) == fits


def test_every_single_bit_error_is_seen() -> None:
    can_id, data = 0x11B51281, bytes.fromhex("0102030405A6B7")
    sound = int.from_bytes(data + bytes([frame_crc(can_id, data)]), "little")
    damaged = np.zeros(93, dtype=RAW_FRAME)
    damaged["length"] = 8
    for bit in range(93):
        damaged["can_id"][bit] = can_id ^ (1 << (bit - 64) if bit >= 64 else 0) | EXTENDED_FLAG
        damaged["data"][bit] = sound ^ (1 << bit if bit < 64 else 0)
    assert (syndromes(damaged) != 0).all()
