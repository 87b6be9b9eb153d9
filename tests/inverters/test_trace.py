"""Traces as people have them: both formats of candump, every kind of frame, and everything that is none."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from bmsd.errors import ConfigError
from bmsd.inverters.profile import load_profile
from bmsd.inverters.signals import dbc_path
from bmsd.inverters.trace import Decoder, LineError, decode_lines, read_line, write_line
from bmsd.model.frame import Frame

LIMITS = {"cvl_v": 52.8, "ccl_a": 480.0, "dcl_a": 480.0, "dvl_v": 45.0}


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    return Decoder.of_profile(load_profile("pylontech_lv"))


def decoded(decoder: Decoder, *lines: str) -> list[dict[str, Any]]:
    return [json.loads(text) for text in decode_lines(lines, decoder)]


def everything(decoder: Decoder, *lines: str) -> tuple[list[str], tuple[str, ...]]:
    """Return the objects of the good lines and the complaints about the others."""
    out: list[str] = []
    try:
        out.extend(decode_lines(lines, decoder))
    except ConfigError as error:
        return out, error.complaints
    return out, ()


@pytest.mark.parametrize(
    "line",
    [
        "(1436509052.249713) vcan0 351#1002C012C012C201",
        "(1436509052.249713) vcan0 351#1002C012C012C201\n",
        "(1436509052.249713) vcan0 351#1002c012c012c201 R",
        "  vcan0  351   [8]  10 02 C0 12 C0 12 C2 01",
        "  vcan0  351   [8]  10 02 C0 12 C0 12 C2 01   '........'\n",
        " (1436509052.249713)  can1  351   [8]  10 02 C0 12 C0 12 C2 01",
        " (000.000231)  can1  351   [8]  10 02 C0 12 C0 12 C2 01",
        " (2026-01-02 03:04:05.678901)  can1  351   [8]  10 02 C0 12 C0 12 C2 01",
        "  vcan0  RX - -  351   [8]  10 02 C0 12 C0 12 C2 01",
        "  vcan0  TX B E  351   [8]  10 02 C0 12 C0 12 C2 01   '10.C0.12'",
        "\x1b[31m  vcan0  \x1b[0m351   [8]  10 02 C0 12 C0 12 C2 01",
        "can0  351   [8]  10 02 C0 12 C0 12 C2 01\r\n",
    ],
)
def test_every_way_of_candump_to_write_a_frame_is_read(decoder: Decoder, line: str) -> None:
    assert list(decode_lines([line], decoder)) == [
        '{"id":"351","signals":{"cvl_v":52.8,"ccl_a":480.0,"dcl_a":480.0,"dvl_v":45.0}}'
    ]


def test_ascii_column_that_looks_like_data_is_not_data(decoder: Decoder) -> None:
    line = "  can0  35E   [8]  50 59 4C 4F 4E 20 20 20   'PYLON   '"
    assert decoded(decoder, line) == [{"id": "35E", "signals": {"manufacturer": "PYLON"}}]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("(1.0) can0 351#R", {"id": "351", "remote": True}),
        ("(1.0) can0 351#R8", {"id": "351", "remote": True}),
        ("  can0  351   [0]  remote request", {"id": "351", "remote": True}),
        ("  can0  351   [8]  remote request", {"id": "351", "remote": True}),
        ("(1.0) can0 18FF50E5#0102", {"id": "18FF50E5", "data": "0102", "unknown": True}),
        ("(1.0) can0 00000351#1002", {"id": "00000351", "data": "1002", "unknown": True}),
        ("(1.0) can0 123#", {"id": "123", "data": "", "unknown": True}),
        ("  can0  123   [0]", {"id": "123", "data": "", "unknown": True}),
        ("(1.0) can0 123##1AABB", {"id": "123", "data": "AABB", "unknown": True, "fd": True}),
        ("  can0  123  [02]  AA BB", {"id": "123", "data": "AABB", "unknown": True, "fd": True}),
        ("(1.0) can0 351##01002C012C012C201", {"id": "351", "signals": LIMITS, "fd": True}),
        (
            "  can0  20000004   [8]  00 04 00 00 00 00 00 00   ERRORFRAME",
            {"id": "20000004", "data": "0004000000000000", "error": True},
        ),
        ("(1.0) can0 20000004#0004000000000000", {"id": "20000004", "data": "0004000000000000", "error": True}),
        ("(1.0) can0 305#0000000000000000", {"id": "305", "signals": {}}),
        ("(1.0) can0 123#0102_9", {"id": "123", "data": "0102", "unknown": True}),
    ],
)
def test_frames_of_every_kind_are_shown_for_what_they_are(
    decoder: Decoder, line: str, expected: dict[str, Any]
) -> None:
    assert decoded(decoder, line) == [expected]


def test_empty_lines_and_the_explanations_of_error_frames_are_no_complaints(decoder: Decoder) -> None:
    lines = ["", "\n", "  can0  20000040   [8]  00 00 00 00 00 00 00 00   ERRORFRAME\n", "\tbus-off\n"]
    assert len(decoded(decoder, *lines)) == 1


def test_enable_flags_are_booleans(decoder: Decoder) -> None:
    assert decoded(decoder, "(1.0) can0 35C#D000")[0]["signals"] == {
        "charge_enabled": True,
        "discharge_enabled": True,
        "force_charge": True,
        "force_charge_1": False,
        "force_charge_2": True,
        "full_charge_requested": False,
    }


def test_alarms_are_listed_by_name_beside_their_bits(decoder: Decoder) -> None:
    signals = decoded(decoder, "(1.0) can0 359#8409020006504E")[0]["signals"]
    assert signals["alarms"] == ["low_voltage", "high_discharge_current", "high_charge_current", "internal"]
    assert signals["warnings"] == ["high_voltage"]
    assert signals["modules_online"] == 6
    assert signals["alarm_low_voltage"] is True
    assert signals["alarm_high_voltage"] is False


def test_what_a_short_frame_does_not_carry_is_not_claimed(decoder: Decoder) -> None:
    short_limits, short_name, short_alarms = decoded(
        decoder, "(1.0) can0 351#1002C012C012", "(1.0) can0 35E#5059544553", "(1.0) can0 359#0200"
    )
    assert short_limits == {"id": "351", "signals": {k: v for k, v in LIMITS.items() if k != "dvl_v"}, "short": True}
    assert short_name == {"id": "35E", "signals": {"manufacturer": "PYTES"}, "short": True}
    assert short_alarms["signals"]["alarms"] == ["high_voltage"]
    assert "warnings" not in short_alarms["signals"]
    assert decoded(decoder, "(1.0) can0 351#") == [{"id": "351", "signals": {}, "short": True}]


def test_bytes_beyond_the_message_are_ignored(decoder: Decoder) -> None:
    assert decoded(decoder, "(1.0) can0 355#2A00640000000000") == [{"id": "355", "signals": {"soc": 0.42, "soh": 1.0}}]


def test_values_of_a_bad_sender_are_shown_and_named(decoder: Decoder) -> None:
    negative, frozen = decoded(decoder, "(1.0) can0 351#440264009CFF3F02", "(1.0) can0 356#B914350124FA0200")
    assert negative["signals"]["dcl_a"] == -10.0
    assert negative["out_of_range"] == ["dcl_a"]
    assert frozen["signals"] == {"voltage_v": 53.05, "current_a": 30.9, "temperature_degc": -150.0}
    assert frozen["out_of_range"] == ["temperature_degc"]
    (overfull,) = decoded(decoder, "(1.0) can0 355#65006400")
    assert overfull == {"id": "355", "signals": {"soc": 1.01, "soh": 1.0}, "out_of_range": ["soc"]}


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("hello", "expected a candump line such as"),
        ("(1.0) can0 351", "expected a candump line"),
        ("(1.0) can0 351#123", "pairs of hex digits, found '123'"),
        ("(1.0) can0 351#12GG", "pairs of hex digits"),
        ("(1.0) can0 351#112233445566778899", "at most 8 bytes, found 9"),
        ("(1.0) can0 351##0" + "00" * 9, "a length that CAN FD has, found 9"),
        ("(1.0) can0 351##", "one hex digit of flags"),
        ("(1.0) can0 351#Rx", "a length for a remote frame"),
        ("(1.0) can0 800#00", "an identifier of 3 hex digits up to 7FF or 8 up to 1FFFFFFF, found 800"),
        ("(1.0) can0 1351#00", "found 1351"),
        ("(1.0) can0 FFFFFFFF#00", "found FFFFFFFF"),
        ("can0  351   [8]  10 02 C0", "expected 8 bytes after [8], found 3"),
        ("can0  351   [2]  10 02 C0", "expected 2 bytes after [2], found 3"),
        ("can0  351   [3]  10 0z C0", "expected 3 bytes as pairs"),
        ("can0  351   [9]  10 02 C0 10 02 C0 10 02 C0", "at most 8 bytes, found 9"),
    ],
)
def test_a_malformed_line_says_what_was_expected(line: str, complaint: str) -> None:
    with pytest.raises(LineError) as caught:
        read_line(line)
    assert complaint in str(caught.value)


def test_all_malformed_lines_are_named_and_the_good_ones_still_decoded(decoder: Decoder) -> None:
    good = "(1.0) can0 355#58005E00"
    out, complaints = everything(decoder, "junk", good, "\0\x01\udcff", good, "(1.0) can0 351#1")
    assert len(out) == 2
    assert [complaint.split(":")[0] for complaint in complaints] == ["line 1", "line 3", "line 5"]
    assert "'junk'" in complaints[0]


def test_frames_come_out_as_their_lines_come_in(decoder: Decoder) -> None:
    lines = iter(["(1.0) can0 355#58005E00", "junk"])
    out = decode_lines(lines, decoder)
    assert json.loads(next(out))["id"] == "355"
    assert next(lines) == "junk"


@hypothesis_settings(deadline=None, max_examples=300)
@given(st.text() | st.text("()[]# 0123456789ABCDEFRcan'.\t", max_size=60))
def test_no_text_ever_raises_anything_but_a_complaint(line: str) -> None:
    out, complaints = everything(Decoder.of_profile(load_profile("pylontech_lv")), line)
    assert len(out) + len(complaints) <= 1
    assert all("line 1: " in complaint for complaint in complaints)


@given(st.integers(0, 0x7FF), st.binary(max_size=8), st.integers(0, 2_000_000_000_000_000))
def test_a_written_line_reads_back_as_the_same_frame(can_id: int, data: bytes, micros: int) -> None:
    for frame in (Frame(can_id, data, False), Frame(can_id << 18, data, True)):
        found = read_line(write_line(frame, micros / 1e6, "vcan7"))
        assert found is not None
        assert (found.can_id, found.data, found.extended) == frame


@given(st.sampled_from([0x351, 0x355, 0x356, 0x359, 0x35C, 0x35E, 0x305]), st.binary(max_size=8))
def test_any_bytes_decode_to_strict_json(can_id: int, data: bytes) -> None:
    decoder = Decoder.of_profile(load_profile("pylontech_lv"))
    frame = read_line(write_line(Frame(can_id, data, False)))
    assert frame is not None
    text = decoder.json(frame)
    assert json.loads(text, parse_constant=lambda name: pytest.fail(name))["id"] == f"{can_id:03X}"


def test_a_long_trace_is_decoded_in_seconds(decoder: Decoder) -> None:
    lines = [f"({k / 50:.6f}) can0 356#{k % 65536:04X}{k // 7 % 65536:04X}6B01\n" for k in range(100_000)]
    start_s = time.perf_counter()
    assert sum(1 for _ in decode_lines(lines, decoder)) == 100_000
    assert time.perf_counter() - start_s < 15.0


def test_the_screen_format_of_can_utils_own_converter_is_read(decoder: Decoder, tmp_path: Path) -> None:
    log2long = shutil.which("log2long")
    if log2long is None:
        assert not os.environ.get("CI"), "can-utils is missing"
        pytest.skip("can-utils is not installed")
    frames = [
        Frame(0x351, bytes.fromhex("1002C012C012C201"), False),
        Frame(0x355, bytes.fromhex("58005E00"), False),
        Frame(0x18FF50E5, bytes.fromhex("2741207B"), True),
        Frame(0x123, b"", False),
    ]
    log = tmp_path / "trace.log"
    log.write_text("".join(write_line(frame, k / 100) + "\n" for k, frame in enumerate(frames)))
    with log.open() as stdin:
        screen = subprocess.run([log2long], stdin=stdin, capture_output=True, text=True, timeout=30, check=True).stdout
    assert len(screen.splitlines()) == len(frames)
    assert decoded(decoder, *screen.splitlines()) == decoded(decoder, *log.read_text().splitlines())


def test_a_dbc_of_ones_own_decodes_floats_names_and_variants(tmp_path: Path) -> None:
    dbc = tmp_path / "own.dbc"
    dbc.write_text(
        'VERSION ""\nNS_ :\nBS_:\nBU_: A\n'
        'BO_ 256 Mixed: 8 A\n SG_ ratio : 0|32@1- (1,0) [0|0] "" A\n SG_ mode : 32|8@1+ (1,0) [0|3] "" A\n\n'
        'BO_ 257 Variant: 2 A\n SG_ which M : 0|8@1+ (1,0) [0|1] "" A\n SG_ one m1 : 8|8@1+ (0.5,0) [0|0] "V" A\n\n'
        'SIG_VALTYPE_ 256 ratio : 1;\nVAL_ 256 mode 0 "off" 1 "on" ;\n'
    )
    own = Decoder.of_dbc(dbc)
    lines = ["(1.0) can0 100#0000003F01000000", "(1.0) can0 100#0000C07F07000000", "(1.0) can0 101#0103"]
    assert [entry["signals"] for entry in decoded(own, *lines)] == [
        {"ratio": 0.5, "mode": "on"},
        {"ratio": None, "mode": 7},
        {"which": 1, "one": 1.5},
    ]
    assert "undecodable" in decoded(own, "(1.0) can0 101#0503")[0]


def test_the_profiles_dbc_may_be_given_as_any_other() -> None:
    own = Decoder.of_dbc(dbc_path("inverter_pylontech_lv.dbc"))
    assert decoded(own, "(1.0) can0 351#1002C012C012C201") == [{"id": "351", "signals": LIMITS}]


def test_an_address_in_the_identifier_is_masked_out_on_request() -> None:
    own = Decoder.of_dbc(dbc_path("slave.dbc"), id_mask=0x1FFFFF80)
    address_5 = (2444563072 & 0x1FFFFFFF) + 5
    found = decoded(own, write_line(Frame(address_5, bytes(8), True)))[0]
    assert found["id"] == f"{address_5:08X}"
    assert found["signals"]["Cell1Voltage"] == 0.0


@pytest.mark.parametrize(
    "content",
    [
        "",
        "not a DBC",
        'VERSION ""\nBO_ 1 A: 8 X\n SG_ broken : 0|\n',
        'BO_ 1 A: 1 X\n SG_ a : 0|16@1+ (1,0) [0|0] "" X\n',
    ],
)
def test_a_dbc_that_does_not_parse_gives_one_complaint(tmp_path: Path, content: str) -> None:
    path = tmp_path / "bad.dbc"
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"bad\.dbc: not a valid DBC: .") as caught:
        Decoder.of_dbc(path)
    assert len(caught.value.complaints) == 1
    assert "\n" not in caught.value.complaints[0]


def test_a_dbc_cut_off_within_a_statement_is_not_half_used(tmp_path: Path) -> None:
    text = dbc_path("inverter_pylontech_lv.dbc").read_text()
    path = tmp_path / "cut.dbc"
    start = text.index(" SG_ dvl_v")
    for end in range(start + 5, text.index("\n", start) - len("Inverter") - 1):
        path.write_text(text[:end])
        with pytest.raises(ConfigError, match=r"cut\.dbc: not a valid DBC"):
            Decoder.of_dbc(path)


def test_a_missing_dbc_gives_one_complaint(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        Decoder.of_dbc(tmp_path / "none.dbc")
    with pytest.raises(ConfigError, match="cannot be read"):
        Decoder.of_dbc(tmp_path)
