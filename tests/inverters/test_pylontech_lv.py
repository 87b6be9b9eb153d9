"""Pylontech frames: golden ones from real senders, both ways, and the edges of every rounding."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest
from inverter_builders import a_command

from bmsd.errors import ConfigError, FrameError
from bmsd.inverters.profile import Limits, load_profile
from bmsd.inverters.pylontech_lv import BITS, PylontechLv
from bmsd.model.frame import Frame
from bmsd.model.row import Alarm

GOLDEN = list(csv.DictReader(Path(__file__).with_name("pylontech_lv_golden.csv").open()))


def profile(**options: Any) -> PylontechLv:
    found = load_profile("pylontech_lv", {"dlc": "exact", **options})
    assert isinstance(found, PylontechLv)
    return found


def sent(can_id: int, options: dict[str, Any] | None = None, **changes: Any) -> bytes | None:
    """Return the data of one frame of the command, None when it is not sent."""
    frames = profile(**(options or {})).frames(a_command(**changes))
    return next((frame.data for frame in frames if frame.can_id == can_id), None)


def word(data: bytes | None, index: int) -> int:
    assert data is not None
    return int.from_bytes(data[2 * index : 2 * index + 2], "little", signed=True)


@pytest.mark.parametrize("row", GOLDEN, ids=lambda row: f"{row['can_id']}-{row['data']}")
def test_a_golden_frame_is_encoded_to_its_exact_bytes(row: dict[str, str]) -> None:
    values = json.loads(row["values"])
    options = {"manufacturer": values.pop("manufacturer")} if "manufacturer" in values else {}
    values |= {key: frozenset(map(Alarm, values[key])) for key in ("alarms", "warnings") if key in values}
    data = sent(int(row["can_id"], 16), options, **values)
    assert data is not None
    assert data.hex().upper() == row["data"]


@pytest.mark.parametrize("row", GOLDEN, ids=lambda row: f"{row['can_id']}-{row['data']}")
def test_a_golden_frame_decodes_to_its_values(row: dict[str, str]) -> None:
    decoded = profile().table.decode(int(row["can_id"], 16), False, bytes.fromhex(row["data"]))
    assert decoded is not None
    assert not decoded.out_of_range
    shown = decoded.signals | profile().remarks(int(row["can_id"], 16), decoded.signals)
    for name, value in json.loads(row["values"]).items():
        assert shown[name] == value


def test_the_set_goes_out_in_the_order_of_real_batteries_with_their_lengths() -> None:
    frames = profile().frames(a_command())
    assert [(frame.can_id, len(frame.data)) for frame in frames] == [
        (0x351, 8),
        (0x355, 4),
        (0x356, 6),
        (0x359, 7),
        (0x35C, 2),
        (0x35E, 8),
    ]
    assert not any(frame.extended for frame in frames)


def test_pad8_fills_up_with_zeros_and_is_the_default() -> None:
    exact = profile().frames(a_command())
    padded = load_profile("pylontech_lv").frames(a_command())
    assert [frame.data for frame in padded] == [frame.data.ljust(8, b"\0") for frame in exact]


@pytest.mark.parametrize(
    ("volts", "raw"),
    [
        (55.2, 552),
        (55.29, 552),
        (55.2996, 552),
        (55.2999999, 553),
        (40.05, 400),
        (56.0, 560),
        (0.1, 1),
        (3276.8, 32767),
        (1e308, 32767),
    ],
)
def test_cvl_is_rounded_down_but_for_the_noise_of_a_float(volts: float, raw: int) -> None:
    assert word(sent(0x351, cvl_v=volts), 0) == raw


@pytest.mark.parametrize(
    ("volts", "raw"), [(44.8, 448), (44.801, 449), (44.8004, 449), (44.8000001, 448), (44.89, 449)]
)
def test_dvl_is_rounded_up_but_for_the_noise_of_a_float(volts: float, raw: int) -> None:
    assert word(sent(0x351, dvl_v=volts), 3) == raw


@pytest.mark.parametrize(
    ("amps", "raw"),
    [(0.0, 0), (0.099, 0), (0.1, 1), (99.99, 999), (100.0, 1000), (3276.7, 32767), (4000.0, 32767), (1e308, 32767)],
)
def test_current_limits_are_rounded_down_and_held_at_the_end_of_the_range(amps: float, raw: int) -> None:
    data = sent(0x351, ccl_a=amps, dcl_a=amps)
    assert (word(data, 1), word(data, 2)) == (raw, raw)


@pytest.mark.parametrize("amps", [math.nan, math.inf, -math.inf, -0.1, -240.0, -0.0])
def test_a_limit_that_is_no_limit_lets_nothing_flow(amps: float) -> None:
    data, flags = sent(0x351, ccl_a=amps, dcl_a=amps), sent(0x35C, ccl_a=amps, dcl_a=amps)
    assert (word(data, 1), word(data, 2)) == (0, 0)
    assert flags == b"\0\0"


@pytest.mark.parametrize(
    ("changes", "charge", "discharge"),
    [
        ({}, True, True),
        ({"charge_enabled": False}, False, True),
        ({"discharge_enabled": False}, True, False),
        ({"ccl_a": 0.0}, False, True),
        ({"dcl_a": 0.05}, True, False),
        ({"ccl_a": 0.0, "dcl_a": 0.0}, False, False),
    ],
)
def test_flags_and_limits_agree_whatever_the_command_says(
    changes: dict[str, Any], charge: bool, discharge: bool
) -> None:
    data, flags = sent(0x351, **changes), sent(0x35C, **changes)
    assert (word(data, 1) > 0, word(data, 2) > 0) == (charge, discharge)
    assert flags == bytes([0x80 * charge + 0x40 * discharge, 0])


@pytest.mark.parametrize("volts", [None, math.nan, math.inf, 0.0, 0.09, -5.0, -1e308])
def test_no_limit_frame_without_a_sane_charge_voltage(volts: float | None) -> None:
    assert sent(0x351, cvl_v=volts) is None
    assert sent(0x35C, cvl_v=volts) is not None


@pytest.mark.parametrize("volts", [None, math.nan, -0.2, 3276.71, math.inf])
def test_no_limit_frame_without_a_discharge_voltage_that_can_be_said(volts: float | None) -> None:
    assert sent(0x351, dvl_v=volts) is None


@pytest.mark.parametrize("key", ["voltage_v", "current_a", "temperature_degc"])
@pytest.mark.parametrize("value", [None, math.nan, math.inf, 1e308, -1e308])
def test_an_unknown_measurement_keeps_its_frame_off_the_bus(key: str, value: Any) -> None:
    assert sent(0x356, **{key: value}) is None
    assert sent(0x351, **{key: value}) is not None


@pytest.mark.parametrize("key", ["soc", "soh"])
@pytest.mark.parametrize("value", [None, math.nan])
def test_an_unknown_state_of_charge_keeps_its_frame_off_the_bus(key: str, value: Any) -> None:
    assert sent(0x355, **{key: value}) is None


@pytest.mark.parametrize(
    ("soc", "percent"),
    [(-0.1, 0), (0.0, 0), (1e-9, 1), (0.0099, 1), (0.29, 29), (0.5799, 57), (0.58, 58), (1 - 1e-9, 99), (1.0, 100)],
)
def test_soc_is_rounded_down_but_never_empty_before_empty_nor_full_before_full(soc: float, percent: int) -> None:
    assert word(sent(0x355, soc=soc), 0) == percent


@pytest.mark.parametrize(("soh", "percent"), [(0.94, 94), (0.945, 94), (0.955, 96), (0.9551, 96), (1.1, 100), (-1, 0)])
def test_soh_is_rounded_half_to_even(soh: float, percent: int) -> None:
    assert word(sent(0x355, soh=soh), 1) == percent


@pytest.mark.parametrize(
    ("volts", "amps", "degrees", "raw"),
    [
        (52.48, -27.0, -4.5, (5248, -270, -45)),
        (52.485, 0.25, 20.25, (5248, 2, 202)),
        (52.495, -0.35, -0.15, (5250, -4, -2)),
        (-0.02, 0.04, -0.04, (-2, 0, 0)),
        (327.67, 3276.7, 300.0, (32767, 32767, 3000)),
        (-327.68, -3276.8, -100.0, (-32768, -32768, -1000)),
    ],
)
def test_measured_values_are_rounded_half_to_even_in_twos_complement(
    volts: float, amps: float, degrees: float, raw: tuple[int, int, int]
) -> None:
    data = sent(0x356, voltage_v=volts, current_a=amps, temperature_degc=degrees)
    assert (word(data, 0), word(data, 1), word(data, 2)) == raw


@pytest.mark.parametrize(
    ("volts", "amps", "degrees"), [(327.68, 0, 0), (50, 3276.8, 0), (50, -3276.9, 0), (50, 0, -150), (50, 0, 301)]
)
def test_a_measured_value_beyond_its_range_is_not_sent_as_another_one(
    volts: float, amps: float, degrees: float
) -> None:
    assert sent(0x356, voltage_v=volts, current_a=amps, temperature_degc=degrees) is None


def test_the_voltage_scale_of_tenths_works_both_ways() -> None:
    data = sent(0x356, {"voltage_scale": 0.1}, voltage_v=52.2, current_a=-23.9, temperature_degc=19.0)
    assert data is not None
    assert data.hex() == "0a0211ffbe00"
    decoded = profile(voltage_scale=0.1).table.decode(0x356, False, data)
    assert decoded is not None
    assert decoded.signals == {"voltage_v": 52.2, "current_a": -23.9, "temperature_degc": 19.0}
    assert word(sent(0x356, {"voltage_scale": 0.1}, voltage_v=812.34), 0) == 8123


@pytest.mark.parametrize(
    ("alarm", "protection", "warning"),
    [
        (Alarm.HIGH_VOLTAGE, "02000000", "00000200"),
        (Alarm.LOW_VOLTAGE, "04000000", "00000400"),
        (Alarm.HIGH_TEMPERATURE, "08000000", "00000800"),
        (Alarm.HIGH_TEMPERATURE_CHARGE, "08000000", "00000800"),
        (Alarm.LOW_TEMPERATURE, "10000000", "00001000"),
        (Alarm.LOW_TEMPERATURE_CHARGE, "10000000", "00001000"),
        (Alarm.HIGH_DISCHARGE_CURRENT, "80000000", "00008000"),
        (Alarm.HIGH_CHARGE_CURRENT, "00010000", "00000001"),
        (Alarm.INTERNAL, "00080000", "00000008"),
        (Alarm.GENERAL, "00080000", "00000008"),
        (Alarm.CONTACTOR, "00080000", "00000008"),
        (Alarm.SHORT_CIRCUIT, "00080000", "00000008"),
        (Alarm.IMBALANCE, "00080000", "00000008"),
    ],
)
def test_every_alarm_has_its_bit_in_359(alarm: Alarm, protection: str, warning: str) -> None:
    as_alarm, as_warning = sent(0x359, alarms=frozenset({alarm})), sent(0x359, warnings=frozenset({alarm}))
    assert as_alarm is not None
    assert as_warning is not None
    assert (as_alarm.hex(), as_warning.hex()) == (protection + "04504e", warning + "04504e")


def test_no_alarm_of_the_catalogue_is_without_a_bit() -> None:
    assert sorted(alarm for raising in BITS.values() for alarm in raising) == sorted(Alarm)


@pytest.mark.parametrize(("modules", "byte"), [(0, 0), (255, 255), (256, 255), (-1, 0)])
def test_the_number_of_modules_never_wraps(modules: int, byte: int) -> None:
    data = sent(0x359, modules_online=modules)
    assert data is not None
    assert data[4] == byte


def test_a_force_charge_raises_both_bits_while_charging_is_allowed() -> None:
    assert sent(0x35C, force_charge=True) == b"\xf0\0"
    assert sent(0x35C, force_charge=True, charge_enabled=False) == b"\x40\0"
    assert sent(0x35C, force_charge=True, ccl_a=0.0) == b"\x40\0"
    assert sent(0x35C, force_charge=True, alarms=frozenset({Alarm.HIGH_VOLTAGE})) == b"\xc0\0"


def test_a_full_charge_is_requested_with_bit_3_while_charging_is_allowed() -> None:
    assert sent(0x35C, full_charge_requested=True) == b"\xc8\0"
    assert sent(0x35C, full_charge_requested=True, charge_enabled=False) == b"\x40\0"


def test_zero_current_can_be_said_as_a_tenth_of_an_ampere() -> None:
    data = sent(0x351, {"zero_current_raw": 1}, ccl_a=0.0, dcl_a=0.19)
    assert (word(data, 1), word(data, 2)) == (1, 1)
    assert sent(0x35C, {"zero_current_raw": 1}, ccl_a=0.0, dcl_a=0.19) == b"\0\0"
    assert data is not None
    limits = profile(zero_current_raw=1).decode_limits(Frame(0x351, data, False))
    assert (limits.ccl_a, limits.dcl_a) == (0.0, 0.0)
    assert word(sent(0x351, {"zero_current_raw": 1}, ccl_a=0.2), 1) == 2


def test_the_manufacturer_is_filled_up_with_blanks() -> None:
    assert sent(0x35E) == b"PYLON   "
    assert sent(0x35E, {"manufacturer": "SHEnergy"}) == b"SHEnergy"


def test_limits_are_decoded_back_from_the_bytes() -> None:
    found = profile()
    frames = {frame.can_id: found.decode_limits(frame) for frame in found.frames(a_command(ccl_a=99.99))}
    assert frames.pop(0x351) == Limits(cvl_v=56.0, dvl_v=44.8, ccl_a=99.9, dcl_a=120.0)
    assert frames.pop(0x35C) == Limits(charge_enabled=True, discharge_enabled=True)
    assert set(frames.values()) == {Limits()}
    assert found.decode_limits(Frame(0x351, bytes.fromhex("440264009CFF3F02"), False)).dcl_a == -10.0
    assert found.decode_limits(Frame(0x351, bytes(8), True)) == Limits()
    with pytest.raises(FrameError, match="6 bytes instead of 8"):
        found.decode_limits(Frame(0x351, bytes(6), False))


def test_the_keep_alive_is_305_of_eleven_bits_whatever_it_carries() -> None:
    assert profile().is_keepalive(Frame(0x305, bytes(8), False))
    assert profile().is_keepalive(Frame(0x305, b"", False))
    assert not profile().is_keepalive(Frame(0x305, bytes(8), True))
    assert not profile().is_keepalive(Frame(0x306, bytes(8), False))


def test_all_wrong_options_are_named_at_once_with_what_they_may_be() -> None:
    with pytest.raises(ConfigError) as caught:
        load_profile(
            "pylontech_lv", {"dlc": "7", "manufacturer": "TOO LONG A NAME", "color": 1, "zero_current_raw": True}
        )
    text = str(caught.value)
    assert len(caught.value.complaints) == 4
    for part in ("pad8, exact", "1 to 8 printable", "color: unknown", "zero_current_raw: True: must be one of 0, 1"):
        assert part in text


def test_an_unknown_profile_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"'tesla': unknown; known are .*pylontech_lv"):
        load_profile("tesla")
