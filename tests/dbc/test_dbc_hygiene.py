"""What every DBC in dbc/ must keep to, and what slave.dbc promises beyond it."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from cantools.database.can import Database, Message, Signal
from slave_database import ADDRESS_MASK, FOLDER, SLAVE, attribute, by_node, group, load

FILES = sorted(FOLDER.glob("*.dbc"))
UNITS = {None, "", "V", "mV", "A", "As", "Ah", "Wh", "kWh", "W", "Hz", "degC", "K", "s", "ms", "ohm", "%", "ppm"}
SLAVE_UNITS = {None, "V", "A", "As", "s", "degC"}
DATABASE = load()
MEASUREMENTS = [message for message in DATABASE.messages if group(message) in ("fast", "slow")]
FROM_NODES = [message for message in DATABASE.messages if by_node(message)]
UNKNOWN_CODES = {"invalid", "open_wire", "open", "short"}
VERSION, MAGIC = 1, 0x1B5


def read(path: Path) -> Database:
    return load(path)


def signals(path: Path) -> list[tuple[Message, Signal]]:
    return [(message, signal) for message in read(path).messages for signal in message.signals]


def raw_limits(signal: Signal) -> tuple[int, int]:
    """Return the lowest and highest raw value that the bits can carry."""
    if signal.is_signed:
        return -(1 << signal.length - 1), (1 << signal.length - 1) - 1
    return 0, (1 << signal.length) - 1


def raw_range(signal: Signal) -> tuple[int, int]:
    """Return the signal's range as raw values."""
    ends = [round((end - signal.offset) / signal.scale) for end in (signal.minimum, signal.maximum)]
    if signal.length > 53:  # a float cannot tell 2^64 - 1 from 2^64
        ends = [min(end, raw_limits(signal)[1]) for end in ends]
    return min(ends), max(ends)


def is_measured(signal: Signal) -> bool:
    """Whether the signal's codes stand beside numbers (not a pure enumeration)."""
    return bool(signal.unit)


def test_the_slave_protocol_is_among_the_files() -> None:
    assert SLAVE in FILES


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
class TestEveryDatabase:
    def test_it_loads_without_overlap_or_signal_outside_its_message(self, path: Path) -> None:
        assert read(path).messages

    def test_identifiers_and_names_are_unique(self, path: Path) -> None:
        messages = read(path).messages
        for keys in ([(m.frame_id, m.is_extended_frame) for m in messages], [m.name for m in messages]):
            assert [key for key, times in Counter(keys).items() if times > 1] == []

    def test_every_message_and_signal_says_what_it_is(self, path: Path) -> None:
        mute = [message.name for message in read(path).messages if not (message.comment or "").strip()]
        mute += [f"{message.name}.{s.name}" for message, s in signals(path) if not (s.comment or "").strip()]
        assert mute == []

    def test_every_message_has_a_sender_and_every_signal_a_receiver(self, path: Path) -> None:
        assert [message.name for message in read(path).messages if not message.senders] == []
        assert [f"{message.name}.{signal.name}" for message, signal in signals(path) if not signal.receivers] == []

    def test_every_message_has_a_cycle_time_or_is_an_event(self, path: Path) -> None:
        idle = [m.name for m in read(path).messages if not m.cycle_time and (path != SLAVE or group(m) != "event")]
        assert idle == []

    def test_units_come_from_the_closed_list(self, path: Path) -> None:
        units = SLAVE_UNITS if path == SLAVE else UNITS
        assert {signal.unit for _, signal in signals(path)} - units == set()

    def test_every_range_fits_inside_the_bits(self, path: Path) -> None:
        for message, signal in signals(path):
            name = f"{message.name}.{signal.name}"
            assert signal.minimum is not None, name
            assert signal.maximum is not None, name
            assert signal.minimum < signal.maximum, name
            lowest, highest = raw_limits(signal)
            least, most = raw_range(signal)
            assert lowest <= least < most <= highest, name
            for end in (signal.minimum, signal.maximum):
                steps = (end - signal.offset) / signal.scale
                assert steps == pytest.approx(round(steps), abs=1e-6), f"{name}: no raw value is {end}"

    def test_codes_fit_the_bits_and_have_one_name_each(self, path: Path) -> None:
        for message, signal in signals(path):
            lowest, highest = raw_limits(signal)
            names = [str(choice) for choice in (signal.choices or {}).values()]
            assert len(set(names)) == len(names), f"{message.name}.{signal.name}"
            assert all(lowest <= raw <= highest for raw in (signal.choices or {})), f"{message.name}.{signal.name}"


def test_identifiers_follow_the_scheme_and_leave_the_address_free() -> None:
    kinds = []
    for message in DATABASE.messages:
        can_id = message.frame_id
        assert message.is_extended_frame, message.name
        assert can_id & ADDRESS_MASK == 0, message.name
        assert can_id >> 16 & 0x3FF == MAGIC, message.name
        assert can_id >> 12 & 0xF == VERSION, message.name
        kinds.append(can_id >> 7 & 0x1F)
    assert len(set(kinds)) == len(kinds)


def test_priorities_put_trip_first_and_identification_last() -> None:
    order = [
        {"Trip"},
        {"Heartbeat", "ContactorCommand"},
        {"Current"},
        {"Sync"},
        {m.name for m in DATABASE.messages if m.name.startswith("CellVoltages")} | {"StringVoltages", "ContactorState"},
    ]
    priorities = [{DATABASE.get_message_by_name(name).frame_id >> 26 for name in names} for names in order]
    rest = {m.frame_id >> 26 for m in DATABASE.messages if not any(m.name in names for names in order)}
    assert all(len(found) == 1 for found in priorities)
    assert all(max(higher) < min(lower) for higher, lower in pairwise([*priorities, rest]))
    identification = {"IdentifyRequest", "IdentityUid", "IdentityVersion", "AssignAddress", "Discovery"}
    lowest = max(m.frame_id >> 26 for m in DATABASE.messages)
    assert {m.name for m in DATABASE.messages if m.frame_id >> 26 == lowest} == identification


def test_the_last_byte_of_every_frame_is_the_crc() -> None:
    for message in DATABASE.messages:
        crc = message.get_signal_by_name("Crc")
        assert (crc.start, crc.length) == (8 * message.length - 8, 8), message.name


def test_frames_of_nodes_have_eight_bytes() -> None:
    assert FROM_NODES
    assert {message.length for message in FROM_NODES} == {8}


def test_measurements_carry_the_sync_counter_in_bits_52_to_55() -> None:
    assert len(MEASUREMENTS) == 13
    for message in MEASUREMENTS:
        counter = message.get_signal_by_name("Counter")
        assert (counter.start, counter.length, counter.is_signed) == (52, 4, False), message.name
        assert by_node(message), message.name


def test_everything_is_little_endian_and_not_multiplexed() -> None:
    for message, signal in signals(SLAVE):
        assert signal.byte_order == "little_endian", f"{message.name}.{signal.name}"
        assert not message.is_multiplexed(), message.name


def test_every_measured_value_of_a_node_can_say_that_it_is_unknown() -> None:
    for message in MEASUREMENTS:
        for signal in message.signals:
            if is_measured(signal) and signal.name != "Charge":  # Charge stands and falls with Current beside it
                assert "invalid" in {str(c) for c in (signal.choices or {}).values()}, f"{message.name}.{signal.name}"


def test_codes_of_unknown_lie_outside_the_range_of_numbers() -> None:
    for message, signal in signals(SLAVE):
        if is_measured(signal) and signal.choices:
            least, most = raw_range(signal)
            name = f"{message.name}.{signal.name}"
            assert {str(choice) for choice in signal.choices.values()} <= UNKNOWN_CODES, name
            assert not [raw for raw in signal.choices if least <= raw <= most], name


def test_two_bit_contacts_and_inputs_name_all_their_states() -> None:
    contacts = [(m, s) for m, s in signals(SLAVE) if s.length == 2 and s.name != "Phase"]
    assert len(contacts) == 9
    for message, signal in contacts:
        assert set(signal.choices or {}) == {0, 1, 2, 3}, f"{message.name}.{signal.name}"


def test_trip_codes_are_the_same_wherever_they_appear() -> None:
    tables = [signal.choices for _, signal in signals(SLAVE) if signal.name == "TripCode"]
    assert len(tables) == 3
    assert all(table == tables[0] for table in tables)


def test_groups_agree_with_senders_and_cycle_times() -> None:
    for message in DATABASE.messages:
        if group(message) == "command":
            assert not by_node(message), message.name
        if group(message) in ("fast", "slow"):
            assert message.cycle_time, message.name
            assert int(attribute(message, "Senders")) > 0, message.name
