"""A sender in C (cantools' generated code, its own CRC) and the Python codec agree on every message, both ways."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import numpy as np
import pytest
from c_codec import frames, payload, vectors_of
from cantools.database.can import Message, Signal
from contract import PAGE, examples
from slave_database import crc8_autosar, load, with_crc

from bmsd.model.frame import EXTENDED_FLAG, RAW_FRAME, RawFrames

DATABASE = load()
RANDOM_VECTORS = 200
# Published check values: AUTOSAR, Specification of CRC Routines, 8-bit 0x2F polynomial.
PUBLISHED = {
    "00000000": 0x12,
    "F20183": 0xC2,
    "0FAA0055": 0xC6,
    "00FF5511": 0x77,
    "332255AABBCCDDEEFF": 0x11,
    "926B55": 0x33,
    "FFFFFFFF": 0x6C,
    b"123456789".hex(): 0xDF,
}


def raw_ends(signal: Signal) -> tuple[int, int]:
    if signal.is_signed:
        return -(1 << signal.length - 1), (1 << signal.length - 1) - 1
    return 0, (1 << signal.length) - 1


def addresses(message: Message) -> list[int]:
    """Return the addresses that the message is sent with."""
    if message.name == "Discovery":
        return list(range(128))
    boards = "ModuleBoard" in message.senders or message.name in ("BalanceCommand", "TripReset")
    units = "ContactorUnit" in message.senders or message.name in ("ContactorCommand", "TripReset")
    return [*range(1, 33)] * boards + [*range(65, 73)] * units or [0]


def edges(message: Message) -> list[list[int]]:
    """Return rows of raw values: all low, all high, each alone at its ends, each code, ends of the range."""
    fields = payload(message)
    ends = [raw_ends(signal) for signal in fields]
    rows = [[0] * len(fields), [low for low, _ in ends], [high for _, high in ends]]
    for position, signal in enumerate(fields):
        limits = [round((end - signal.offset) / signal.scale) for end in (signal.minimum, signal.maximum)]
        raws = sorted({*ends[position], *limits, 1, *(signal.choices or {})})
        rows += [[raw if k == position else 0 for k in range(len(fields))] for raw in raws]
    return rows


def rows_of(message: Message) -> list[tuple[int, list[int]]]:
    """Return (address, raw values) of all test vectors of a message."""
    dice = random.Random(f"slave protocol {message.name}")
    some = [[dice.randint(*raw_ends(signal)) for signal in payload(message)] for _ in range(RANDOM_VECTORS)]
    where = addresses(message)
    return [(where[k % len(where)], row) for k, row in enumerate(edges(message) + some)]


def by_cantools(message: Message, rows: list[tuple[int, list[int]]]) -> RawFrames:
    """Return the frames as cantools packs raw values, with the CRC of the Python side."""
    names = [signal.name for signal in payload(message)]
    packed = np.zeros(len(rows), dtype=RAW_FRAME)
    for k, (address, row) in enumerate(rows):
        can_id = message.frame_id | address
        values = {**dict(zip(names, row, strict=True)), "Crc": 0}
        data = with_crc(can_id, message.encode(values, scaling=False, strict=False))
        packed[k] = (can_id | EXTENDED_FLAG, len(data), 0, int.from_bytes(data, "little"))
    return packed


def lines(message: Message, rows: list[tuple[int, list[int]]]) -> list[str]:
    return [" ".join([message.name, str(address), *map(str, row)]) for address, row in rows]


@pytest.mark.parametrize("message", DATABASE.messages, ids=lambda message: message.name)
class TestEveryMessage:
    def test_c_packs_the_same_bytes_as_python(self, sender: Path, message: Message) -> None:
        rows = rows_of(message)
        assert len(rows) >= RANDOM_VECTORS + 3
        np.testing.assert_array_equal(frames(sender, lines(message, rows)), by_cantools(message, rows))

    def test_c_reads_what_python_packed(self, sender: Path, message: Message) -> None:
        rows = rows_of(message)
        assert vectors_of(sender, by_cantools(message, rows)) == lines(message, rows)

    def test_physical_values_agree_to_the_last_bit(self, sender: Path, message: Message) -> None:
        dice = random.Random(f"physical {message.name}")
        fields = payload(message)
        vectors, expected = [], []
        for _ in range(RANDOM_VECTORS):
            values = {s.name: dice.uniform(s.minimum, s.maximum) if s.unit else s.minimum for s in fields}
            vectors.append(" ".join([message.name, "1", *(repr(value) for value in values.values())]))
            expected.append(message.encode({**values, "Crc": 0}, scaling=True, strict=True)[:-1])
        packed = frames(sender, vectors, "-p")
        assert [bytes(frame["data"].tobytes())[: message.length - 1] for frame in packed] == expected
        for line, frame in zip(vectors_of(sender, packed, "-p"), packed, strict=True):
            decoded = message.decode(frame["data"].tobytes()[: message.length], decode_choices=False)
            assert [float(text) for text in line.split()[2:]] == pytest.approx([decoded[s.name] for s in fields])

    def test_a_flipped_bit_anywhere_is_dropped(self, sender: Path, message: Message) -> None:
        rows = rows_of(message)[-1:]
        good = by_cantools(message, rows)
        flipped = np.repeat(good, 8 * message.length)
        flipped["data"] ^= np.uint64(1) << np.arange(len(flipped), dtype=np.uint64)
        moved = np.repeat(good, 7)
        moved["can_id"] ^= np.uint32(1) << np.arange(7, dtype=np.uint32)
        bad = np.concatenate([flipped, moved])
        assert set(vectors_of(sender, bad)) == {"dropped"}
        assert len(vectors_of(sender, bad)) == 8 * message.length + 7


@pytest.mark.parametrize(("data", "crc"), PUBLISHED.items())
def test_the_crc_of_both_sides_has_the_published_check_values(sender: Path, data: str, crc: int) -> None:
    printed = subprocess.run([str(sender), "-c", data], capture_output=True, check=True, text=True).stdout
    assert int(printed, 16) == crc8_autosar(bytes.fromhex(data)) == crc


def test_candump_lines_say_the_same_as_the_raw_frames(sender: Path) -> None:
    message = DATABASE.get_message_by_name("Current")
    rows = rows_of(message)[-5:]
    text = "".join(f"{line}\n" for line in lines(message, rows))
    printed = subprocess.run([str(sender), "-L"], input=text, capture_output=True, check=True, text=True).stdout
    for line, frame in zip(printed.splitlines(), by_cantools(message, rows), strict=True):
        can_id, data = line.split()[2].split("#")
        assert int(can_id, 16) == int(frame["can_id"]) & 0x1FFFFFFF
        assert bytes.fromhex(data) == frame["data"].tobytes()


@pytest.mark.parametrize("vector", ["Nothing 1 2", "TripReset 1 2", "TripReset 1 2 3 4", "TripReset 1 two 3", ""])
def test_the_c_program_refuses_a_broken_vector(sender: Path, vector: str) -> None:
    done = subprocess.run([str(sender)], input=f"{vector}\n".encode(), capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (2, b"")


def test_the_crc_of_a_frame_finds_every_error_of_up_to_three_bits() -> None:
    bits = 8 * (4 + 8)
    zero = crc8_autosar(bytes(bits // 8 - 1))
    patterns = [(1 << k).to_bytes(bits // 8, "big") for k in range(bits)]
    single = [crc8_autosar(pattern[:-1]) ^ zero ^ pattern[-1] for pattern in patterns]
    assert 0 not in single
    assert len(set(single)) == bits
    double = {a ^ b for k, a in enumerate(single) for b in single[:k]}
    assert not double & {0, *single}


def test_c_accepts_every_example_of_the_contract(sender: Path) -> None:
    found = examples(PAGE.read_text())
    packed = np.zeros(len(found), dtype=RAW_FRAME)
    expected = []
    for k, example in enumerate(found):
        data = int.from_bytes(example.data, "little")
        packed[k] = (example.can_id | EXTENDED_FLAG, len(example.data), 0, data)
        message = DATABASE.get_message_by_name(example.message)
        raw = message.decode(example.data, scaling=False, decode_choices=False)
        values = [str(int(raw[signal.name])) for signal in payload(message)]
        expected.append(" ".join([example.message, str(example.address), *values]))
    assert vectors_of(sender, packed) == expected
