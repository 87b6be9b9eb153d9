from __future__ import annotations

import math

import numpy as np
import pytest
from cantools.database.can import Message
from hypothesis import given
from hypothesis import strategies as st

from bmsd.codec.dbc import Signals, choices, encode, load
from bmsd.codec.integrity import frame_crc

SLAVE = load("slave", 7)
EIGHT_BYTES = [message for message in SLAVE.messages if message.length == 8]


def word(data: bytes) -> np.ndarray:
    return np.frombuffer(data.ljust(8, b"\0"), dtype="<u8")


@pytest.mark.parametrize("message", SLAVE.messages, ids=lambda message: message.name)
@given(data=st.binary(min_size=8, max_size=8))
def test_bulk_decoding_gives_what_cantools_gives(message: Message, data: bytes) -> None:
    signals = Signals.of(SLAVE, [message.name])
    raw = signals.raw(word(data[: message.length]))
    physical = signals.physical(raw)
    wanted_raw = message.decode(data[: message.length], decode_choices=False, scaling=False)
    wanted = message.decode(data[: message.length], decode_choices=False)
    for column, name in enumerate(signals.names):
        assert raw[column] == wanted_raw[name]
        signal = message.get_signal_by_name(name)
        assert signal.minimum is not None
        assert signal.maximum is not None
        if signal.minimum - 1e-9 <= wanted[name] <= signal.maximum + 1e-9:
            assert physical[column] == wanted[name]
        else:
            assert math.isnan(physical[column])


def test_many_words_are_decoded_at_once() -> None:
    signals = Signals.of(SLAVE, ["CellVoltages1", "Current"], [("Current", "Current"), ("CellVoltages1", "Counter")])
    words = np.zeros((3, 2), dtype=np.uint64)
    words[:, 0] = [5 << 52, 6 << 52, 7 << 52]
    words[:, 1] = [1 << 32, 0x3FFFF << 32, 0x20000 << 32]
    raw = signals.raw(words)
    assert raw.tolist() == [[1, 5], [-1, 6], [-131072, 7]]
    current_a = signals.physical(raw)[:, 0]
    assert current_a[:2].tolist() == [0.02, -0.02]
    assert math.isnan(current_a[2])


def test_a_value_table_is_the_signal_itself_and_nan_for_its_codes() -> None:
    signals = Signals.of(SLAVE, ["Temperatures1"])
    table = signals.value_table("Sensor1Temperature")
    assert table[[0, 2000, 8000]].tolist() == [-100.0, 0.0, 300.0]
    assert np.isnan(table[[8001, 8189, 8190, 8191]]).all()


def test_a_code_table_says_why_a_reading_is_none() -> None:
    signals = Signals.of(SLAVE, ["CellVoltages1"])
    codes = choices(SLAVE, "CellVoltages1", "Cell1Voltage")
    table = signals.code_table("Cell1Voltage", {codes["open_wire"]: 1}, outside=3)
    assert table[[0, 8000, 8001, 8190, 8191]].tolist() == [0, 0, 3, 1, 3]


def test_a_signed_signal_gets_no_table() -> None:
    with pytest.raises(ValueError, match="Current"):
        Signals.of(SLAVE, ["Current"]).value_table("Current")


def test_an_encoded_frame_has_its_address_and_its_crc() -> None:
    message = SLAVE.get_message_by_name("ContactorCommand")
    frame = encode(message, {"Counter": 5, "CloseMinus": 1, "Lease": 1.0}, address=66)
    assert frame.extended
    assert frame.can_id == 0x05B51100 | 66
    assert frame.data[:-1] == bytes([0x15, 10, 0])
    assert frame.data[-1] == frame_crc(frame.can_id, frame.data[:-1])


@pytest.mark.parametrize(("name", "value"), [("Lease", 25.6), ("Lease", -0.1), ("ControlState", 3), ("Nonsense", 1)])
def test_a_value_that_does_not_fit_is_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        encode(SLAVE.get_message_by_name("Heartbeat"), {name: value})


def test_the_edge_of_a_range_fits() -> None:
    assert encode(SLAVE.get_message_by_name("Heartbeat"), {"Lease": 25.5}).data[1] == 255


def test_named_values_are_encoded() -> None:
    frame = encode(SLAVE.get_message_by_name("Heartbeat"), {"ControlState": "running"})
    assert frame.data[2] == 1
