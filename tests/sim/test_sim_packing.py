from __future__ import annotations

from pathlib import Path

import cantools
import numpy as np
import pytest

from bmsd.model.frame import Frame
from bmsd.sim.packing import CELL_INVALID, crc8, pack, quantise, quantise_one, unpack

DBC = Path(__file__).parents[2] / "dbc" / "slave.dbc"
DATABASE = cantools.database.load_file(DBC, frame_id_mask=0x1FFFFF80)
CELLS = {"Cell1Voltage": 5280, "Cell2Voltage": 5281, "Cell3Voltage": 8191, "Cell4Voltage": 0, "Counter": 9}


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"123456789", 0xDF),
        (bytes(4), 0x12),
        (bytes.fromhex("F20183"), 0xC2),
        (bytes.fromhex("0FAA0055"), 0xC6),
        (bytes.fromhex("00FF5511"), 0x77),
        (bytes.fromhex("332255AABBCCDDEEFF"), 0x11),
        (bytes.fromhex("926B55"), 0x33),
        (bytes.fromhex("FFFFFFFF"), 0x6C),
    ],
)
def test_crc_has_the_check_values_of_the_autosar_specification(data: bytes, expected: int) -> None:
    assert crc8(data) == expected


def test_a_frame_decodes_with_cantools_to_what_was_packed() -> None:
    frame = pack("CellVoltages1", 7, CELLS)
    message = DATABASE.get_message_by_frame_id(frame.can_id)
    decoded = message.decode(frame.data, decode_choices=False)
    assert frame.can_id == message.frame_id | 7
    assert decoded["Cell1Voltage"] == pytest.approx(5280 * 0.000625)
    assert decoded["Counter"] == 9
    assert decoded["Crc"] == crc8(frame.can_id.to_bytes(4, "big") + frame.data[:7])


@pytest.mark.parametrize("message", DATABASE.messages, ids=lambda message: message.name)
def test_every_message_survives_packing_and_unpacking(message: cantools.database.Message) -> None:
    draw = np.random.default_rng(message.frame_id)
    signals = {}
    for signal in message.signals:
        low = -(2 ** (signal.length - 1)) if signal.is_signed else 0
        signals[signal.name] = int(draw.integers(low, low + 2**signal.length))
    del signals["Crc"]
    received = unpack(pack(message.name, 3, signals))
    assert received is not None
    assert (received.name, received.address) == (message.name, 3)
    assert {name: received.signals[name] for name in signals} == signals


def test_one_flipped_bit_anywhere_makes_a_frame_invalid() -> None:
    frame = pack("CellVoltages1", 7, CELLS)
    for bit in range(64):
        data = bytearray(frame.data)
        data[bit // 8] ^= 1 << bit % 8
        assert unpack(frame._replace(data=bytes(data))) is None
    for bit in range(29):
        assert unpack(frame._replace(can_id=frame.can_id ^ 1 << bit)) is None


def test_foreign_short_and_standard_frames_are_not_ours() -> None:
    frame = pack("Sync", 0, {"Number": 1, "Phase": 0, "SlowGroup": 0, "PollPeriod": 20})
    assert unpack(frame) is not None
    assert unpack(frame._replace(data=frame.data[:-1])) is None
    assert unpack(frame._replace(data=frame.data + b"\0")) is None
    assert unpack(frame._replace(extended=False)) is None
    assert unpack(Frame(0x351, bytes(8), False)) is None


def test_quantising_rounds_to_nearest_saturates_and_keeps_unknown_unknown() -> None:
    values = np.array([3.3, 3.30031, 3.30032, -1.0, 9.0, np.nan, np.inf])
    raw = quantise(values, 0.000625, 0.0, 8000, CELL_INVALID)
    assert raw.tolist() == [5280, 5280, 5281, 0, 8000, CELL_INVALID, CELL_INVALID]
    assert [quantise_one(v, 0.000625, 0.0, 8000, CELL_INVALID) for v in values.tolist()] == raw.tolist()
