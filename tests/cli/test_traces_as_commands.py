"""`bmsd decode` and `bmsd encode` as a person with candump uses them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.programs import ROOT, bmsd, command

LOG = "(1436509052.249713) can0 351#2802E80364003002\n"
SCREEN = "  can0  351   [8]  28 02 E8 03 64 00 30 02\n"
STAMPED = " (2026-01-02 10:11:12.123456)  can0  351   [8]  28 02 E8 03 64 00 30 02\n"
LIMITS = {"id": "351", "signals": {"cvl_v": 55.2, "ccl_a": 100.0, "dcl_a": 10.0, "dvl_v": 56.0}}
VALUES = {
    "cvl_v": 55.2, "ccl_a": 100, "dcl_a": 80.5, "dvl_v": 48, "soc": 0.5, "soh": 1, "voltage_v": 52.92,
    "current_a": -12.3, "temperature_degc": 25.1, "modules_online": 4, "manufacturer": "PYLON",
    "charge_enabled": True, "discharge_enabled": True, "alarms": ["high_voltage"], "warnings": ["low_temperature"],
}  # fmt: skip


def objects(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("line", [LOG, SCREEN, STAMPED], ids=["log", "screen", "stamped"])
def test_both_formats_of_candump_are_read(line: str) -> None:
    shown = bmsd("decode", "--profile", "pylontech_lv", stdin=line)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert objects(shown.stdout) == [LIMITS]


def test_bad_lines_are_told_together_and_good_ones_still_decoded() -> None:
    text = LOG + "garbage\n" + SCREEN + "(1.0) can0 351#12G4\n\n" + "(1.0) can0 7FF#00\n"
    shown = bmsd("decode", "--profile", "pylontech_lv", stdin=text)
    assert shown.returncode == 2
    assert [entry.get("id") for entry in objects(shown.stdout)] == ["351", "351", "7FF"]
    assert [line.split(":")[0] for line in shown.stderr.splitlines()] == ["line 2", "line 4"]


def test_bytes_that_are_no_text_do_not_end_it() -> None:
    done = subprocess.run(
        command("decode", "--profile", "pylontech_lv"),
        input=b"\xff\xfe\n" + LOG.encode(),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 2
    assert objects(done.stdout.decode()) == [LIMITS]


def test_boards_of_any_address_are_decoded_without_a_mask() -> None:
    frames = "".join(f"(1.0) can0 {0x11B51280 | address:08X}#0011223344556677\n" for address in (1, 7, 32))
    shown = bmsd("decode", "--dbc", ROOT / "dbc" / "slave.dbc", stdin=frames)
    assert shown.returncode == 0, shown.stderr
    first, *others = objects(shown.stdout)
    assert first["signals"] == {
        "Cell1Voltage": 2.72, "Cell2Voltage": 4.01, "Cell3Voltage": 2.7275, "Cell4Voltage": 2.02625,
        "Counter": 6, "Crc": 119,
    }  # fmt: skip
    assert [other["signals"] for other in others] == [first["signals"]] * 2
    assert [other["id"] for other in others] == ["11B51287", "11B512A0"]


def test_a_mask_that_is_asked_for_replaces_that_of_the_file() -> None:
    shown = bmsd("decode", "--dbc", ROOT / "dbc" / "slave.dbc", "--id-mask", "1FFFFFFF", stdin="(1.0) c 11B51281#00\n")
    assert objects(shown.stdout)[0]["unknown"] is True
    assert bmsd("decode", "--dbc", ROOT / "dbc" / "slave.dbc", "--id-mask", "xyz").returncode == 2


@pytest.mark.parametrize("text", ["", "BO_ 1 A: 8", "not a dbc at all", "\x00\x01"])
def test_a_bad_dbc_is_named(text: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.dbc"
    path.write_text(text)
    shown = bmsd("decode", "--dbc", path, stdin=LOG)
    assert (shown.returncode, shown.stdout) == (2, "")
    assert str(path) in shown.stderr
    assert "Traceback" not in shown.stderr


def test_a_dbc_that_is_not_there_is_named(tmp_path: Path) -> None:
    shown = bmsd("decode", "--dbc", tmp_path / "no.dbc", stdin=LOG)
    assert shown.returncode == 2
    assert "no.dbc" in shown.stderr


def test_one_of_profile_and_dbc_is_needed() -> None:
    for arguments in ((), ("--profile", "pylontech_lv", "--dbc", "x.dbc")):
        shown = bmsd("decode", *arguments, stdin=LOG)
        assert shown.returncode == 2
        assert "pylontech_lv" in shown.stderr


def test_a_reader_that_goes_away_ends_a_long_trace() -> None:
    with subprocess.Popen(
        command("decode", "--profile", "pylontech_lv"), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        try:
            for _ in range(20):
                process.stdin.write(LOG.encode() * 1000)
            process.stdin.close()
        except BrokenPipeError:
            pass
        assert process.stderr.read() == b""
    assert process.returncode == 1


def test_what_is_encoded_decodes_to_the_same_values() -> None:
    encoded = bmsd("encode", "--profile", "pylontech_lv", stdin=json.dumps(VALUES))
    assert encoded.returncode == 0, encoded.stderr
    frames = {str(entry["id"]): entry["signals"] for entry in objects(
        bmsd("decode", "--profile", "pylontech_lv", stdin=encoded.stdout).stdout
    )}  # fmt: skip
    assert list(frames) == ["351", "355", "356", "359", "35C", "35E"]
    merged = {name: value for signals in frames.values() for name, value in dict(signals).items()}  # type: ignore[call-overload]
    for name, value in VALUES.items():
        assert merged[name] == (pytest.approx(value) if isinstance(value, float) else value), name


def test_golden_frames() -> None:
    """Worked out by hand: tenths of V and A, percent, 10 mV, 0.1 A, 0.1 degC, little-endian."""
    encoded = bmsd("encode", "--profile", "pylontech_lv", "--option", "dlc=exact", stdin=json.dumps(VALUES))
    assert [line.split()[-1] for line in encoded.stdout.splitlines()] == [
        "351#2802E8032503E001",
        "355#32006400",
        "356#AC1485FFFB00",
        "359#0200100004504E",
        "35C#C000",
        "35E#50594C4F4E202020",
    ]


def test_all_complaints_about_an_object_come_at_once() -> None:
    bad = {"cvl_v": "high", "ccl_a": -5, "soc": 50, "alarms": ["hot"], "color": "red"}
    shown = bmsd("encode", "--profile", "pylontech_lv", stdin=json.dumps(bad))
    assert (shown.returncode, shown.stdout) == (2, "")
    for name in ("cvl_v", "ccl_a", "soc", "hot", "color"):
        assert name in shown.stderr
    assert len(shown.stderr.splitlines()) == 5


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "nonsense", '{"cvl_v": NaN}'])
def test_what_is_no_object_is_refused(text: str) -> None:
    shown = bmsd("encode", "--profile", "pylontech_lv", stdin=text)
    assert (shown.returncode, shown.stdout) == (2, "")
    assert shown.stderr
    assert "Traceback" not in shown.stderr


def test_an_unknown_option_lists_the_known_ones() -> None:
    shown = bmsd("encode", "--profile", "pylontech_lv", "--option", "color=red", stdin="{}")
    assert shown.returncode == 2
    assert "dlc" in shown.stderr


def test_help_lists_every_key_and_alarm() -> None:
    shown = " ".join(bmsd("encode", "--help").stdout.split())
    for name in (*VALUES, "force_charge", "full_charge_requested", "short_circuit", "imbalance"):
        assert name in shown
