"""The bus-time budget: the arithmetic, the limits that the protocol promises, and the tables of dbc/README.md."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise

import pytest
from bus_time import (
    MOST_LOAD,
    README,
    REFERENCE,
    Release,
    burst,
    frame_bits,
    loads,
    on_the_bus,
    render,
    replaced,
    shortest_poll_s,
    sizes,
    total,
    trip_load,
)
from slave_database import attribute, group, load

DATABASE = load()


def stuffed(bits: str) -> str:
    """Return the bits as a CAN controller sends them: after five equal ones the opposite."""
    out, run = "", 0
    for bit in bits:
        run = run + 1 if out and out[-1] == bit else 1
        out += bit
        if run == 5:
            out += "1" if bit == "0" else "0"
            run = 1
    return out


def crc15(bits: str) -> str:
    """CRC of ISO 11898-1 over the bits before it."""
    crc = 0
    for bit in bits:
        invert = int(bit) ^ crc >> 14
        crc = (crc << 1) & 0x7FFF
        crc ^= 0x4599 if invert else 0
    return f"{crc:015b}"


def wire_bits(can_id: int, data: bytes) -> int:
    """Bits of one data frame with interframe space, built bit by bit."""
    head = f"0{can_id >> 18:011b}11{can_id & 0x3FFFF:018b}000{len(data):04b}"
    body = head + "".join(f"{byte:08b}" for byte in data)
    return len(stuffed(body + crc15(body))) + 13


@pytest.mark.parametrize(("length", "bits"), [(0, 80), (2, 100), (4, 120), (6, 140), (8, 160)])
def test_frame_length_is_that_of_the_published_formula(length: int, bits: int) -> None:
    assert frame_bits(length) == bits == 80 + 10 * length


@pytest.mark.parametrize("length", range(9))
def test_the_worst_bit_pattern_reaches_the_formula_exactly(length: int) -> None:
    pattern = "00000" + "".join(("1111", "0000")[i % 2] for i in range(40))
    assert len(stuffed(pattern[: 54 + 8 * length])) + 13 == frame_bits(length)


def test_no_real_frame_is_longer_than_the_formula_says() -> None:
    dice = random.Random(20070401)
    ids = [message.frame_id | address for message in DATABASE.messages for address in (0, 1, 32, 65, 72, 126)]
    for can_id in ids:
        for data in (bytes(8), b"\xff" * 8, b"\x0f\x83" * 4, dice.randbytes(8), dice.randbytes(4)):
            assert wire_bits(can_id, data) <= frame_bits(len(data))


def test_the_largest_rack_of_16_cells_takes_at_most_half_of_the_bus() -> None:
    assert (REFERENCE.boards, REFERENCE.units, REFERENCE.cells, REFERENCE.polls_per_s) == (32, 8, 16, 5.0)
    assert REFERENCE.phases * REFERENCE.polls_per_s >= 20.0
    assert attribute(DATABASE, "Baudrate") == 500_000
    assert 0.3 < total(DATABASE, REFERENCE) <= MOST_LOAD


def test_the_largest_rack_of_24_cells_takes_at_most_half_of_the_bus_at_5_polls() -> None:
    assert total(DATABASE, replace(REFERENCE, cells=24)) <= MOST_LOAD


def test_trips_of_all_boards_still_leave_the_bus_usable() -> None:
    for rack in sizes():
        assert total(DATABASE, rack) + trip_load(DATABASE, rack) < 0.7


def test_every_message_is_in_the_budget_or_an_event_without_period() -> None:
    counted = {row.message for rack in sizes() for row in loads(DATABASE, rack)}
    for message in DATABASE.messages:
        assert message.name in counted or group(message) == "event", message.name


def test_cycle_times_and_senders_of_the_database_are_those_of_the_budget() -> None:
    rows = {row.message: row for row in loads(DATABASE, replace(REFERENCE, cells=24))}
    for name, row in rows.items():
        message = DATABASE.get_message_by_name(name)
        assert message.cycle_time == pytest.approx(1000 / row.per_s), name
        assert attribute(message, "Senders") == row.senders, name


def test_one_poll_slower_than_the_shortest_is_allowed_and_one_faster_is_not() -> None:
    for rack in sizes():
        period_s = shortest_poll_s(DATABASE, rack)
        assert total(DATABASE, replace(rack, poll_s=period_s)) <= MOST_LOAD
        faster = replace(rack, poll_s=period_s - 0.01)
        assert total(DATABASE, faster) > MOST_LOAD or faster.poll_s * 1e6 < attribute(DATABASE, "PollDone_us")


def test_frames_of_one_board_and_of_one_unit_fit_their_slots() -> None:
    for rack in sizes():
        poll = burst(DATABASE, rack, tick_step_us=5000)
        assert poll.board_s * 1e6 <= attribute(DATABASE, "BoardSlot_us")
        assert poll.unit_s * 1e6 <= attribute(DATABASE, "UnitSlot_us")


def test_a_current_frame_fits_its_slot_and_units_are_done_before_the_first_board() -> None:
    bit_us = 1e6 / int(attribute(DATABASE, "Baudrate"))
    slot_us = int(attribute(DATABASE, "UnitCurrentSlot_us"))
    assert frame_bits(8) * bit_us <= slot_us
    assert REFERENCE.units * slot_us <= attribute(DATABASE, "BoardSlotFirst_us")


def test_slots_of_the_last_board_end_before_the_first_unit_answers() -> None:
    end_us = int(attribute(DATABASE, "BoardSlotFirst_us")) + 32 * int(attribute(DATABASE, "BoardSlot_us"))
    assert end_us <= attribute(DATABASE, "UnitSlotFirst_us")


def test_all_frames_of_a_poll_are_there_in_time_whenever_the_tick_falls() -> None:
    for rack in sizes():
        assert burst(DATABASE, rack).done_s * 1e6 <= attribute(DATABASE, "PollDone_us")


def test_arbitration_serves_the_lowest_identifier_and_cuts_no_frame_short() -> None:
    blocking_us = frame_bits(8) * 2.0
    late = Release(0, 9, 160, "low", 1)
    urgent = Release(10, 1, 160, "high", 2)
    last = Release(2000, 1, 160, "later", 3)
    served = [(frame.message, end) for frame, end, _ in on_the_bus([late, last, urgent], 2.0)]
    expected = [("high", blocking_us + 320.0), ("low", blocking_us + 640.0), ("later", 2320.0)]
    assert served == expected


def test_frames_never_overlap_on_the_bus() -> None:
    frames = [Release(at, can_id, 160, "x", can_id) for can_id, at in enumerate(range(0, 4000, 100))]
    ends = [end for _, end, _ in on_the_bus(frames, 2.0)]
    assert len(ends) == len(frames)
    assert all(after - before >= 320.0 for before, after in pairwise(ends))


def test_the_tables_of_the_readme_are_the_computed_ones() -> None:
    text = README.read_text()
    assert text == replaced(text, render(DATABASE)), "run: python tests/dbc/bus_time.py --write"
