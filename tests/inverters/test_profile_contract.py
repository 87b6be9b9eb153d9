"""What every inverter profile keeps, whatever the command: one contract over every profile the folder holds."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from inverter_builders import a_command

import bmsd.inverters
from bmsd.inverters.encode import KEYS
from bmsd.inverters.profile import Limits, Profile, load_profile, profile_class, profile_names
from bmsd.inverters.signals import dbc_path
from bmsd.model.command import Command
from bmsd.model.frame import Frame
from bmsd.model.row import Alarm

HALF_MILLI = 0.000501
"""Measured values become whole mV and mA, half to even, before they are rounded."""
NOISE = 1e-6
"""By how much a limit may pass its command: no more, or the transmit gate does not let it through."""


def variants() -> Iterator[Profile]:
    """Yield every profile with every combination of its options' choices."""
    for name in profile_names():
        choosable = [option for option in profile_class(name).options_known if option.choices]
        for values in itertools.product(*(option.choices for option in choosable)):
            yield load_profile(name, dict(zip((option.name for option in choosable), values, strict=True)))


VARIANTS = list(variants())
every_variant = pytest.mark.parametrize("profile", VARIANTS, ids=lambda profile: f"{profile.name}-{profile.options}")
one_of_the_variants = st.sampled_from(VARIANTS)

anything = st.none() | st.floats()
plausible_v = st.floats(0.0, 1000.0)
amps = st.floats() | st.floats(0.0, 1000.0)
alarms = st.frozensets(st.sampled_from(Alarm))


@st.composite
def commands(draw: st.DrawFn) -> Command:
    """Draw any command that a core gone wrong could produce."""
    return a_command(
        cvl_v=draw(plausible_v | anything),
        dvl_v=draw(plausible_v | anything),
        ccl_a=draw(amps),
        dcl_a=draw(amps),
        charge_enabled=draw(st.booleans()),
        discharge_enabled=draw(st.booleans()),
        force_charge=draw(st.booleans()),
        full_charge_requested=draw(st.booleans()),
        alarms=draw(alarms),
        warnings=draw(alarms),
        voltage_v=draw(plausible_v | anything),
        current_a=draw(st.floats(-1000.0, 1000.0) | anything),
        temperature_degc=draw(st.floats(-50.0, 100.0) | anything),
        soc=draw(st.floats(0.0, 1.0) | anything),
        soh=draw(st.floats(0.0, 1.0) | anything),
        modules_online=draw(st.integers()),
    )


def limits_of(profile: Profile, frames: list[Frame]) -> Limits:
    found = Limits()
    for frame in frames:
        found = found.updated(profile.decode_limits(frame))
    return found


def signals_of(profile: Profile, frames: list[Frame]) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    for frame in frames:
        decoded = profile.table.decode(frame.can_id, frame.extended, frame.data)
        assert decoded is not None
        assert not decoded.out_of_range
        assert not decoded.short
        shown |= decoded.signals | profile.remarks(frame.can_id, decoded.signals)
    return shown


def test_every_profile_has_its_module_and_every_module_its_dbc() -> None:
    folder = Path(bmsd.inverters.__file__).parent
    assert profile_names()
    for name in profile_names():
        assert (folder / f"{name}.py").exists()
        assert profile_class(name).name == name
    with_class = {path.stem for path in folder.glob("*.py") if "\nPROFILE = " in path.read_text()}
    assert with_class == set(profile_names())


@hypothesis_settings(deadline=None, max_examples=400)
@given(profile=one_of_the_variants, command=commands())
def test_nothing_wraps_and_every_frame_keeps_its_rule(profile: Profile, command: Command) -> None:
    rules = {(rule.can_id, rule.extended): rule for rule in profile.transmit_rules}
    frames = profile.frames(command)
    assert len({frame.can_id for frame in frames}) == len(frames)
    assert [frame.can_id for frame in frames] == [can_id for can_id in profile.needs if can_id in signal_ids(frames)]
    for frame in frames:
        assert len(frame.data) in rules[frame.can_id, frame.extended].lengths
    shown = signals_of(profile, frames)
    for name, step in (("voltage_v", 0.05), ("current_a", 0.05), ("temperature_degc", 0.05)):
        if name in shown:
            value = getattr(command, name)
            assert value is not None
            assert abs(shown[name] - value) <= step + HALF_MILLI


def signal_ids(frames: list[Frame]) -> set[int]:
    return {frame.can_id for frame in frames}


@hypothesis_settings(deadline=None, max_examples=400)
@given(profile=one_of_the_variants, command=commands())
def test_decoded_limits_are_on_the_safe_side_of_the_command(profile: Profile, command: Command) -> None:
    limits = limits_of(profile, profile.limit_frames(command))
    if limits.cvl_v is not None:
        assert command.cvl_v is not None
        assert 0.0 < limits.cvl_v <= command.cvl_v + NOISE
        assert limits.dvl_v is not None
        assert command.dvl_v is not None
        assert limits.dvl_v >= command.dvl_v - NOISE
    for decoded, asked in ((limits.ccl_a, command.ccl_a), (limits.dcl_a, command.dcl_a)):
        if decoded is not None:
            assert decoded >= 0.0
            assert decoded == 0.0 or decoded <= asked + NOISE


@hypothesis_settings(deadline=None, max_examples=400)
@given(profile=one_of_the_variants, command=commands())
def test_disabled_means_zero_and_zero_means_disabled(profile: Profile, command: Command) -> None:
    limits = limits_of(profile, profile.limit_frames(command))
    assert limits.charge_enabled is not None
    assert limits.discharge_enabled is not None
    if limits.ccl_a is not None:
        assert limits.charge_enabled == (limits.ccl_a > 0.0)
        assert limits.discharge_enabled == (limits.dcl_a is not None and limits.dcl_a > 0.0)
    assert command.charge_enabled or not limits.charge_enabled
    assert command.discharge_enabled or not limits.discharge_enabled
    shown = signals_of(profile, profile.frames(command))
    assert not shown.get("force_charge") or (limits.charge_enabled and Alarm.HIGH_VOLTAGE not in command.alarms)


@every_variant
def test_a_stop_can_always_be_said(profile: Profile) -> None:
    stop = dataclasses.replace(a_command(), ccl_a=0.0, dcl_a=0.0, charge_enabled=False, discharge_enabled=False)
    assert signal_ids(profile.limit_frames(stop)) == set(profile.limit_ids)
    limits = limits_of(profile, profile.limit_frames(stop))
    assert limits[2:] == (0.0, 0.0, False, False)
    assert limits.cvl_v == 56.0


@every_variant
def test_unknown_values_leave_out_the_frames_that_need_them_and_no_other(profile: Profile) -> None:
    complete = signal_ids(profile.frames(a_command()))
    for can_id, names in profile.needs.items():
        for name in names:
            if name in ("manufacturer", "modules_online", "charge_enabled", "discharge_enabled", "ccl_a", "dcl_a"):
                continue
            for unknown in (None, math.nan):
                left = signal_ids(profile.frames(a_command(**{name: unknown})))
                assert complete - left == {other for other, needed in profile.needs.items() if name in needed}
                assert can_id not in left


@every_variant
def test_every_alarm_reaches_the_inverter_at_both_levels(profile: Profile) -> None:
    quiet = profile.frames(a_command())
    for alarm in Alarm:
        for level in ("alarms", "warnings"):
            raised = profile.frames(a_command(**{level: frozenset({alarm})}))
            assert raised != quiet
            assert len(signals_of(profile, raised)[level]) == 1


@every_variant
def test_rules_cycle_times_and_the_dbc_agree(profile: Profile) -> None:
    assert [rule.can_id for rule in profile.transmit_rules] == list(profile.needs)
    assert set(profile.limit_ids) <= set(profile.needs)
    received = {can_id for can_id, _ in profile.receive_ids}
    assert not received & set(profile.needs)
    for rule in profile.transmit_rules:
        message = profile.table.message(rule.can_id, rule.extended)
        assert message is not None
        assert message.cycle_time is not None
        assert message.senders == ["bmsd"]
        assert 0.2 <= rule.min_interval_s <= message.cycle_time / 1000
        assert all(message.length <= length <= 8 for length in rule.lengths)
    for can_id, extended in profile.receive_ids:
        message = profile.table.message(can_id, extended)
        assert message is not None
        assert message.senders == ["Inverter"]
        assert profile.is_keepalive(Frame(can_id, bytes(message.length), extended))


@pytest.mark.parametrize("name", profile_names())
def test_the_dbc_gives_every_signal_a_range_and_a_comment(name: str) -> None:
    profile = load_profile(name)
    units = {"_v": "V", "_a": "A", "_degc": "degC"}
    for message in profile.table.messages.values():
        assert message.comment
        for signal in message.signals:
            assert signal.comment
            assert signal.minimum is not None
            assert signal.maximum is not None
            expected = next((unit for suffix, unit in units.items() if signal.name.endswith(suffix)), None)
            assert signal.unit == expected
    assert dbc_path(f"inverter_{name}.dbc").exists()


@pytest.mark.parametrize("name", profile_names())
def test_what_a_profile_needs_can_be_given_by_hand(name: str) -> None:
    assert {key for needed in profile_class(name).needs.values() for key in needed} <= set(KEYS)


@every_variant
def test_the_highest_voltage_that_an_option_names_is_that_of_the_dbc(profile: Profile) -> None:
    for option in profile.options_known:
        if option.most_v:
            most_v = option.most_v[option.choices.index(profile.options[option.name])]
            can_id = next(can_id for can_id, names in profile.needs.items() if "voltage_v" in names)
            highest = profile.table.messages[can_id, False].get_signal_by_name("voltage_v").maximum
            assert most_v == pytest.approx(highest)
