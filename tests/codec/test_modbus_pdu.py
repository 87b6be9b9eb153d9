"""Modbus bytes: any stream in any pieces, requests and answers against pymodbus."""

from __future__ import annotations

import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymodbus.pdu import DecodePDU, ReadHoldingRegistersRequest
from pymodbus.pdu.mei_message import ReadDeviceInformationRequest
from pymodbus.pdu.register_message import (
    MaskWriteRegisterRequest,
    ReadInputRegistersRequest,
    ReadWriteMultipleRegistersRequest,
    WriteMultipleRegistersRequest,
    WriteSingleRegisterRequest,
)

from bmsd.codec import modbus
from bmsd.codec.modbus import Access, Code, Identify, RefusedError
from bmsd.errors import FrameError

ADDRESSES = st.integers(0, 0xFFFF)
WORDS = st.integers(0, 0xFFFF)
PDUS = st.binary(min_size=1, max_size=253)


def asked_by(request) -> Access | Identify:
    """What we read in the bytes of pymodbus's request."""
    return modbus.decode(bytes((request.function_code,)) + request.encode())


@given(ADDRESSES, st.integers(1, 125), st.sampled_from((ReadHoldingRegistersRequest, ReadInputRegistersRequest)))
def test_reads_are_understood(address, count, kind):
    assert asked_by(kind(address=address, count=count)) == Access(kind.function_code, (address, count))


@given(ADDRESSES, WORDS)
def test_a_write_of_one_is_understood(address, word):
    asked = asked_by(WriteSingleRegisterRequest(address=address, registers=[word]))
    assert asked == Access(6, None, (address, 1), word.to_bytes(2))


@given(ADDRESSES, st.lists(WORDS, min_size=1, max_size=123))
def test_a_write_of_many_is_understood(address, words):
    asked = asked_by(WriteMultipleRegistersRequest(address=address, registers=words))
    assert asked == Access(16, None, (address, len(words)), struct.pack(f">{len(words)}H", *words))


@given(ADDRESSES, WORDS, WORDS)
def test_a_write_with_masks_is_understood(address, and_mask, or_mask):
    asked = asked_by(MaskWriteRegisterRequest(address, and_mask, or_mask))
    assert asked == Access(22, None, (address, 1), masks=(and_mask, or_mask))


@given(ADDRESSES, st.integers(1, 125), ADDRESSES, st.lists(WORDS, min_size=1, max_size=121))
def test_a_write_that_also_reads_is_understood(address, count, to, words):
    asked = asked_by(ReadWriteMultipleRegistersRequest(address, count, to, words))
    assert asked == Access(23, (address, count), (to, len(words)), struct.pack(f">{len(words)}H", *words))


@given(st.integers(1, 4), st.integers(0, 255))
def test_a_question_who_we_are_is_understood(level, first):
    request = ReadDeviceInformationRequest(read_code=level, object_id=first)
    assert asked_by(request) == Identify(level, first)


@given(st.sampled_from((3, 4, 23)), st.lists(WORDS, min_size=1, max_size=125))
def test_pymodbus_reads_our_registers(function, words):
    pdu = modbus.registers_read(function, struct.pack(f">{len(words)}H", *words))
    response = DecodePDU(False).decode(pdu)
    assert (response.function_code, response.registers) == (function, words)


@given(st.integers(1, 127), st.sampled_from(Code))
def test_pymodbus_reads_our_exceptions(function, code):
    response = DecodePDU(False).decode(modbus.refusal(function, code))
    assert (response.function_code, response.exception_code) == (function | 0x80, code)


@pytest.mark.parametrize(
    "pdu",
    [
        b"\x06\x00\xca\x00\x05",
        struct.pack(">BHHB2H", 16, 204, 2, 4, 0, 7),
        struct.pack(">BHHH", 22, 202, 0xFF00, 0x0010),
    ],
)
def test_pymodbus_reads_our_answers_to_writes(pdu):
    response = DecodePDU(False).decode(modbus.written(pdu))
    assert (response.function_code, response.address) == (pdu[0], struct.unpack_from(">H", pdu, 1)[0])


@pytest.mark.parametrize(("level", "shown"), [(1, [0, 1, 2]), (2, [0, 1, 2, 4]), (3, [0, 1, 2, 4, 0x80])])
def test_pymodbus_reads_who_we_are(level, shown):
    objects = {0: b"bmsd", 1: b"rack BMS", 2: b"0.1.0", 4: b"rack", 0x80: b"x"}
    expected = shown if level < 3 else [0, 1, 2, 4]
    response = DecodePDU(False).decode(modbus.identification(Identify(level, 0), objects))
    assert response.information == {number: objects[number] for number in expected}


@given(st.lists(st.tuples(WORDS, st.integers(0, 255), PDUS), max_size=6), st.randoms(use_true_random=False))
def test_a_stream_in_any_pieces_is_the_same_requests(requests, chance):
    stream = b"".join(modbus.answer(*request) for request in requests)
    data, start, found = bytearray(), 0, []
    while stream:
        cut = chance.randint(1, len(stream))
        data += stream[:cut]
        stream = stream[cut:]
        while adu := modbus.take(data, start, len(data)):
            found.append((adu.transaction, adu.unit, adu.pdu))
            start = adu.end
    assert found == requests


@pytest.mark.parametrize("length", [2, 254])
def test_the_shortest_and_the_longest_request(length):
    data = struct.pack(">HHHB", 9, 0, length, 1) + bytes(length - 1)
    adu = modbus.take(bytearray(data), 0, len(data))
    assert adu is not None
    assert (adu.end, len(adu.pdu)) == (len(data), length - 1)
    assert modbus.take(bytearray(data), 0, len(data) - 1) is None


@pytest.mark.parametrize(("protocol", "length"), [(1, 6), (0x0100, 6), (0, 0), (0, 1), (0, 255), (0, 0xFFFF)])
def test_what_is_no_modbus_is_said_before_it_is_complete(protocol, length):
    with pytest.raises(FrameError, match=f"protocol {protocol}, length {length}"):
        modbus.take(bytearray(struct.pack(">HHHB", 0, protocol, length, 1)), 0, 7)


@given(PDUS)
def test_any_request_is_understood_or_refused(pdu):
    asked, code = understood(pdu)
    if code is not None:
        assert code in (Code.FUNCTION, Code.VALUE)
    elif isinstance(asked, Access):
        spans = [span for span in (asked.read, asked.write) if span is not None]
        assert spans
        assert all(1 <= count <= 125 for _, count in spans)
        assert asked.write is None or len(asked.data) == 2 * asked.write[1] or asked.masks is not None


def understood(pdu: bytes) -> tuple[Access | Identify | None, Code | None]:
    """What it asks, or why not."""
    try:
        return modbus.decode(pdu), None
    except RefusedError as refused:
        return None, refused.code


def test_a_thousand_damaged_requests_are_understood_or_refused():
    """Real requests with a few bytes changed, cut or added: nearer to the edges than chance is."""
    chance = random.Random(1)
    kinds = [
        b"\x03\x00\x64\x00\x24", b"\x06\x00\xca\x00\x05", struct.pack(">BHHB2H", 16, 204, 2, 4, 0, 7),
        struct.pack(">BHHH", 22, 202, 0, 1), struct.pack(">BHHHHBH", 23, 100, 2, 202, 1, 2, 9), b"\x2b\x0e\x01\x00",
    ]  # fmt: skip
    refused = 0
    for _ in range(1000):
        pdu = bytearray(chance.choice(kinds))
        for _ in range(chance.randint(0, 3)):
            pdu[chance.randrange(len(pdu))] = chance.choice((0, 1, 2, 0x7D, 0x7E, 0xFF, chance.randrange(256)))
        pdu = (pdu[: chance.randint(1, len(pdu))] if chance.random() < 0.3 else pdu) + bytes(chance.choice((0, 0, 1)))
        refused += understood(bytes(pdu))[1] is not None
    assert 200 < refused < 900


def test_objects_that_are_not_there_begin_again_in_a_stream_and_are_refused_alone():
    objects = {0: b"a", 1: b"b", 2: b"c"}
    assert modbus.identification(Identify(1, 9), objects) == modbus.identification(Identify(1, 0), objects)
    assert modbus.identification(Identify(1, 2), objects).endswith(b"\x01\x02\x01c")
    assert modbus.identification(Identify(4, 1), objects).endswith(b"\x01\x01\x01b")
    with pytest.raises(RefusedError):
        modbus.identification(Identify(4, 9), objects)
