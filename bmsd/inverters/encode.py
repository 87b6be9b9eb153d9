"""One JSON object of a battery's physical values, written by a person, to the frames of a profile."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import numpy as np

from bmsd.errors import ConfigError
from bmsd.inverters.port import PACE_S
from bmsd.inverters.profile import OptionValue, Profile, load_profile
from bmsd.inverters.trace import write_line
from bmsd.model.command import Command
from bmsd.model.frame import Frame
from bmsd.model.row import Alarm

ALARM_NAMES = tuple(alarm.value for alarm in Alarm)
NUMBERS = (
    "cvl_v", "ccl_a", "dcl_a", "dvl_v", "soc", "soh", "voltage_v", "current_a", "temperature_degc", "modules_online",
)  # fmt: skip
FLAGS = ("charge_enabled", "discharge_enabled", "force_charge", "full_charge_requested")
LISTS = ("alarms", "warnings")
KEYS = (*NUMBERS, "manufacturer", *FLAGS, *LISTS)


class Encoded(NamedTuple):
    """Lines as `candump -L` writes them, and what a person should know about them."""

    lines: list[str]
    notes: list[str]


def encode_object(json_text: str, profile_name: str, options: Mapping[str, OptionValue] | None = None) -> Encoded:
    """Return the frames of the values in wire order, 20 ms apart.

    A missing key (or null) is an unknown value: frames that need it are not written, a note says so. Missing
    lists and requests mean that nothing is raised. Values are rounded as on the inverter's bus, and limits agree
    with the flags; a note says where something was written otherwise than asked.
    Raises ConfigError with every complaint: unknown profile, options, JSON, keys, names, types and ranges.
    """
    complaints: list[str] = []
    try:
        profile = load_profile(profile_name, options)
    except ConfigError as error:
        profile = load_profile(profile_name)
        complaints += error.complaints
    values = _values(json_text, profile, complaints)
    if complaints:
        raise ConfigError(complaints)
    if "manufacturer" in values:
        profile = load_profile(profile_name, {**profile.options, "manufacturer": str(values["manufacturer"])})
    command = _command(values)
    frames = [frame for frame in profile.frames(command) if set(profile.needs[frame.can_id]) <= values.keys()]
    lines = [write_line(frame, index * PACE_S) for index, frame in enumerate(frames)]
    return Encoded(lines, _notes(values, profile, frames))


def _values(json_text: str, profile: Profile, complaints: list[str]) -> dict[str, object]:
    """Return the known values of the object by key; whatever is wrong with them is added to `complaints`."""

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        names = [name for name, _ in pairs]
        complaints.extend(f"{name}: given twice" for name in sorted({n for n in names if names.count(n) > 1}))
        return dict(pairs)

    try:
        given = json.loads(json_text, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        complaints.append(f"not JSON: {error}")
        return {}
    if not isinstance(given, dict):
        complaints.append(f"expected one JSON object with keys such as cvl_v, found {_shown(given)}")
        return {}
    for key, value in given.items():
        if key not in KEYS:
            complaints.append(f"{key}: unknown; known are {', '.join(KEYS)}")
        elif value is not None and (complaint := _complaint(key, value, profile)):
            complaints.append(f"{key}: {_shown(value)}: {complaint}")
    return {key: value for key, value in given.items() if value is not None}


def _complaint(key: str, value: object, profile: Profile) -> str | None:
    if key in NUMBERS:
        return _number_complaint(key, value, profile)
    if key in FLAGS:
        return None if isinstance(value, bool) else "must be true or false"
    if key in LISTS:
        return _names_complaint(value)
    return next(option for option in profile.options_known if option.name == key).complaint(value)


def _number_complaint(key: str, value: object, profile: Profile) -> str | None:
    """Judge a number by its type and by the range of its signal in the DBC."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "must be a number"
    if isinstance(value, float) and not math.isfinite(value):
        return "must be a finite number; leave the key out when the value is not known"
    if key == "modules_online" and value != int(value):
        return "must be a whole number"
    can_id = next((can_id for can_id, names in profile.needs.items() if key in names), None)
    if can_id is None:
        return None
    signal = profile.table.messages[can_id, False].get_signal_by_name(key)
    assert signal.minimum is not None
    assert signal.maximum is not None
    if not signal.minimum <= value <= signal.maximum:
        return f"must be {signal.minimum:g} to {signal.maximum:.10g} {signal.unit or ''}".rstrip()
    return None


def _names_complaint(value: object) -> str | None:
    if not isinstance(value, list):
        return "must be a list of names"
    wrong = [_shown(name) for name in value if name not in ALARM_NAMES]
    return f"{', '.join(wrong)}: unknown; known are {', '.join(ALARM_NAMES)}" if wrong else None


def _command(values: Mapping[str, object]) -> Command:
    """Return the command of the values. What is missing gets a stand-in that no written frame shows.

    Limits and flags decide about each other: a missing one follows the other.
    """
    nothing = np.zeros(0, dtype=bool)
    number = partial(_number, values)
    ccl_a, dcl_a = number("ccl_a"), number("dcl_a")
    return Command(
        cvl_v=number("cvl_v"),
        dvl_v=number("dvl_v"),
        ccl_a=1.0 if ccl_a is None else ccl_a,
        dcl_a=1.0 if dcl_a is None else dcl_a,
        charge_enabled=bool(values.get("charge_enabled", True)),
        discharge_enabled=bool(values.get("discharge_enabled", True)),
        close_minus=nothing,
        close_precharge=nothing,
        close_plus=nothing,
        inverter_enable=nothing,
        commanded=nothing,
        balance=nothing,
        heartbeat=False,
        force_charge=bool(values.get("force_charge", False)),
        full_charge_requested=bool(values.get("full_charge_requested", False)),
        alarms=_names(values, "alarms"),
        warnings=_names(values, "warnings"),
        voltage_v=number("voltage_v"),
        current_a=number("current_a"),
        temperature_degc=number("temperature_degc"),
        soc=number("soc"),
        soh=number("soh"),
        modules_online=int(number("modules_online") or 0),
        fresh=True,
    )


def _number(values: Mapping[str, object], key: str) -> float | None:
    value = values.get(key)
    return float(value) if isinstance(value, int | float) else None


def _names(values: Mapping[str, object], key: str) -> frozenset[Alarm]:
    names = values.get(key, [])
    assert isinstance(names, list)
    return frozenset(Alarm(name) for name in names)


def _notes(values: Mapping[str, object], profile: Profile, frames: list[Frame]) -> list[str]:
    """Say which frames are not there and why, and what was written otherwise than asked."""
    written = {frame.can_id for frame in frames}
    notes = []
    for can_id, names in profile.needs.items():
        missing = ", ".join(name for name in names if name not in values)
        if can_id not in written:
            notes.append(f"{can_id:03X} not written: {f'{missing} not given' if missing else 'out of range'}")
    shown: dict[str, object] = {}
    for frame in frames:
        decoded = profile.table.decode(frame.can_id, frame.extended, frame.data)
        assert decoded is not None
        shown |= decoded.signals | profile.remarks(frame.can_id, decoded.signals)
    return notes + [
        f"{key}: {_shown(values[key])} written as {_shown(shown[key])}, so that limits, flags and requests agree"
        for key in ("ccl_a", "dcl_a", *FLAGS)
        if key in shown and key in values and bool(shown[key]) != bool(values[key])
    ]


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
