"""Time to encode and to decode the record of one tick at 512 cells."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import replace
from time import perf_counter

import pytest

from bmsd.codec import packed, record
from bmsd.model.published import Published
from tests import rack
from tests.gateway.control_end import record as published

PLANT = rack.plant(strings=2, modules=16)
TOGETHER_MS = 0.1
ROUNDS = 2000


@pytest.fixture(scope="module")
def running() -> Published:
    """A record of a rack under load, with all its bounds."""
    outcome = rack.running(PLANT).tick(**rack.closed(PLANT))
    return replace(
        published(strings=2, modules=16), snapshot=outcome.snapshot, estimate=outcome.estimate, faults=outcome.faults,
        charge_bounds=outcome.limits.charge, discharge_bounds=outcome.limits.discharge, command=outcome.command,
    )  # fmt: skip


def median_ms(action: Callable[[], object], rounds: int = ROUNDS) -> float:
    times = []
    for _ in range(rounds):
        start = perf_counter()
        action()
        times.append(1e3 * (perf_counter() - start))
    return statistics.median(times)


def test_a_record_is_encoded_and_decoded_in_a_tenth_of_a_millisecond(running: Published) -> None:
    data = packed.encode(running)
    encode_ms = median_ms(lambda: packed.encode(running))
    decode_ms = median_ms(lambda: packed.decode(data, Published))
    by_name = record.encode(running)
    named_ms = median_ms(lambda: record.encode(running), 200) + median_ms(
        lambda: record.decode(by_name, Published), 200
    )
    print(
        f"\none record, 512 cells, {len(data)} bytes: encode {encode_ms:.3f} ms, decode {decode_ms:.3f} ms\n"
        f"  by name: {named_ms:.3f} ms together, {named_ms / (encode_ms + decode_ms):.1f} times"
    )
    assert encode_ms + decode_ms < TOGETHER_MS
    assert len(data) < 90_000
