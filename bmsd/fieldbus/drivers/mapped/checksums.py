"""Checksums that boards put into a byte of their frames."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import reduce
from operator import xor


def _crc8_table(polynomial: int) -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value << 1 ^ polynomial if value & 0x80 else value << 1) & 0xFF
        table.append(value)
    return tuple(table)


_J1850 = _crc8_table(0x1D)


def crc8_sae_j1850(data: bytes) -> int:
    """Polynomial 0x1D, initial value and final XOR 0xFF."""
    return reduce(lambda crc, byte: _J1850[crc ^ byte], data, 0xFF) ^ 0xFF


def byte_sum(data: bytes) -> int:
    """The sum of all bytes, its lowest eight bits."""
    return sum(data) & 0xFF


def byte_xor(data: bytes) -> int:
    """All bytes combined by exclusive or."""
    return reduce(xor, data, 0)


KINDS: Mapping[str, tuple[bool, Callable[[bytes], int]]] = {
    "sum": (False, byte_sum),
    "sum_with_id": (True, byte_sum),
    "xor": (False, byte_xor),
    "crc8_sae_j1850": (False, crc8_sae_j1850),
}
"""By name: whether identifier and length are part of it, and the function."""


def checksum(kind: str, can_id: int, length: int, rest: bytes) -> int:
    """Return the checksum of a frame; `can_id` without flags, `rest`: its bytes but the checksum's own."""
    with_id, function = KINDS[kind]
    return function(can_id.to_bytes(4, "big") + bytes([length]) + rest if with_id else rest)
