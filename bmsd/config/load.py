"""From a file to the checked settings and the core's plant; everything that is wrong is told at once."""

from __future__ import annotations

import hashlib
import json
import math
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from pydantic import ValidationError

from bmsd.config import checks
from bmsd.config.complaints import complaints, dotted, nearest, plain, shown
from bmsd.config.fields import Section
from bmsd.config.gateway import GATEWAY_TABLES, GatewaySettings, mqtt_complaints
from bmsd.config.known import Check, Known
from bmsd.config.schema import Cell, Limits, OptionValue, Settings, String, TemperatureCurve, VoltageCurve
from bmsd.config.schema_mapped import Mapped, MappedValue
from bmsd.errors import ConfigError
from bmsd.model.board_map import Ask, BoardMap, Quantity, Source
from bmsd.model.cell import CellSpec
from bmsd.model.layout import Layout
from bmsd.model.plant import (
    BalanceSettings,
    ChargeSettings,
    Curve,
    EstimationSettings,
    InverterSettings,
    LimitSettings,
    Plant,
    StringRatings,
    Timing,
)

S = TypeVar("S", bound=Section)

LARGEST_FILE = 1 << 20
DECIMAL_COMMA = re.compile(r"=\s*[-+]?\d+,\d+\s*(#.*)?$")

LFP_OCV_SOC = (0.0, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.97, 0.98, 1.0)
LFP_OCV_V = (2.5, 2.725, 2.854, 2.933, 3.037, 3.183, 3.245, 3.280, 3.302, 3.308, 3.317, 3.330, 3.345, 3.352, 3.367,
             3.389, 3.418, 3.5)  # fmt: skip
"""Mean of slow charge and discharge (C/30, 25 degC) of an A123 LFP cell, batterysim/esctoolbox-python (MIT);
the first and the last entry are extrapolated: there the test itself ends in polarisation."""


class Option(Protocol):
    """An option of an inverter profile."""

    @property
    def name(self) -> str: ...
    @property
    def default(self) -> OptionValue: ...
    @property
    def choices(self) -> Sequence[OptionValue]: ...
    @property
    def most_v(self) -> Sequence[float]:
        """Highest rack voltage that can be told with each choice; empty: the option has nothing to do with it."""

    def complaint(self, value: object) -> str | None:
        """What is wrong with this value, None when it may be used."""


Profiles = Mapping[str, Sequence[Option]]
"""Options of every known inverter profile by its name."""


def load(path: Path | str, profiles: Profiles | None = None, further: Sequence[Check] = ()) -> Settings:
    """Return the settings of this file; with `profiles` the inverter's profile and its options are checked, too.

    `further` checks are those of other rooms. Raises ConfigError with one line for everything that is wrong.
    """
    path = Path(path)
    return parse(read(path), profiles, path.name, further)


def parse(
    text: str, profiles: Profiles | None = None, name: str = "configuration", further: Sequence[Check] = ()
) -> Settings:
    """Return the settings of this TOML text, otherwise as `load`; `name` is for messages about the TOML itself."""
    return checked(tables(text, name), profiles, further)


def tables(text: str, name: str) -> dict[str, Any]:
    """Return the tables of this TOML text; ConfigError says in which line it is none."""
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ConfigError([f"{name}: nested too deeply to be a configuration"]) from None
    except ValueError as error:  # tomllib also lets int()'s pass
        raise ConfigError([_syntax(name, text, error)]) from None


def checked(data: Mapping[str, Any], profiles: Profiles | None = None, further: Sequence[Check] = ()) -> Settings:
    """Return control's settings of these tables; raises ConfigError with everything that is wrong with them."""
    own = {name: table for name, table in data.items() if name not in GATEWAY_TABLES}
    settings, lines, wrong = _validated(Settings, own)
    get = Known(data, wrong)
    lines += [line for line in checks.complaints(get) if line not in lines]
    if profiles is not None:
        lines += _profile_of(data, profiles)
        lines += checks.asked(partial(_tellable, profiles), get)
    for check in further:
        lines += checks.asked(check, get)
    if settings is None or lines:
        raise ConfigError(lines)
    return settings


def load_gateway(path: Path | str) -> GatewaySettings:
    """Return the gateway's settings of this file. ConfigError lists all that is wrong with its tables."""
    path = Path(path)
    return checked_gateway(tables(read(path), path.name))


def checked_gateway(data: Mapping[str, Any]) -> GatewaySettings:
    """Return the gateway's settings of these tables; raises ConfigError with everything that is wrong with them."""
    settings, lines, _ = _validated(GatewaySettings, data)
    if settings is not None:
        lines += mqtt_complaints(settings.mqtt)
    if settings is None or lines:
        raise ConfigError(lines)
    return settings


def _validated(model: type[S], data: Mapping[str, Any]) -> tuple[S | None, list[str], list[str]]:
    """The settings (None: wrong), what is wrong with them, and the paths of the wrong ones."""
    try:
        return model.model_validate(data), [], []
    except ValidationError as invalid:
        wrong = [dotted(plain(error["loc"]), items=False) for error in invalid.errors(include_url=False)]
        return None, complaints(invalid, data), wrong


def check_inverter(profile: str, options: Mapping[str, OptionValue], profiles: Profiles) -> list[str]:
    """Return what is wrong with the choice of an inverter profile and its options, one line each."""
    if profile not in profiles:
        known = ", ".join(sorted(profiles))
        close = get_close_matches(profile.lower(), list(profiles), n=1, cutoff=0.6)
        hint = f"; did you mean {close[0]}?" if close else ""
        return [f"inverter.profile: {shown(profile)}; expected one of {known}{hint}"]
    known_options = {option.name: option for option in profiles[profile]}
    lines = []
    for name, value in options.items():
        path = dotted(("inverter", "options", name))
        if name not in known_options:
            lines.append(f"{path}: unknown option of {profile}{nearest(name, known_options)}")
            continue
        wrong = known_options[name].complaint(value)
        if wrong is not None:
            lines.append(f"{path}: {wrong.removeprefix(name).removeprefix(': ')}")
    return lines


def plant(settings: Settings) -> Plant:
    """Return what the core needs to know of these settings."""
    timing = Timing(settings.timing.tick_s, settings.timing.poll_s, settings.timing.current_phases)
    thresholds = {name: float(value) for name, value in settings.protection.model_dump().items()}
    return Plant(
        name=settings.rack.name,
        layout=_layout(settings),
        cell=_cell(settings.cell),
        ratings=_ratings(settings.string),
        timing=timing,
        limits=_limits(settings.limits),
        charge=ChargeSettings(**settings.charge.model_dump()),
        balance=BalanceSettings(**settings.balance.model_dump()),
        estimation=EstimationSettings(**settings.estimation.model_dump()),
        inverter=_inverter(settings),
        thresholds=thresholds | {"hold_s": timing.hold_s},
        switches=switches(settings),
        monitor_only=monitor_only(settings),
    )


def _ratings(string: String) -> StringRatings:
    """Ratings; what is 0 in the file is not given."""
    optional = ("contactor_break_charge_a", "precharge_energy_j")
    return StringRatings(**string.model_dump() | {name: getattr(string, name) or None for name in optional})


def switches(settings: Settings) -> bool:
    """Whether there are contactor units to command."""
    return settings.fieldbus.driver != "mapped" or settings.fieldbus.mapped.units != "none"


def monitor_only(settings: Settings) -> bool:
    """Whether nothing but the inverter itself would enforce a limit, and nobody has accepted that."""
    return not switches(settings) and not settings.fieldbus.mapped.accept_unenforced


def board_map(mapped: Mapped, folder: Path) -> BoardMap:
    """Return what [fieldbus.mapped] says; a relative path of the DBC starts at `folder`."""
    return BoardMap(
        dbc=folder / mapped.dbc,
        sources=tuple(_source(value) for value in mapped.values),
        asks=tuple(Ask(ask.id, ask.extended, bytes.fromhex(ask.data)) for ask in mapped.requests),
        discharge_positive=mapped.current_sign == "discharge_positive",
        alive_signal=mapped.alive_signal,
        checksum_signal=mapped.checksum_signal,
        checksum=mapped.checksum,
        stale_s=mapped.stale_s,
        temperature_stale_s=mapped.temperature_stale_s,
        contactor_units=mapped.units == "slave",
    )


def _source(value: MappedValue) -> Source:
    given: dict[str, Any] = {
        name: tuple(entry) if isinstance(entry, list) else entry for name, entry in value.model_dump().items()
    }
    return Source(**given | {"quantity": Quantity(value.quantity)})


def fingerprint(settings: Settings) -> str:
    """Return a hash of all settings, defaults included: the same for files that mean the same."""
    text = json.dumps(settings.model_dump(), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def read(path: Path) -> str:
    """Return the text of this file, or raise ConfigError with why it is no configuration."""
    try:
        if path.is_dir():
            raise ConfigError([f"{path}: is a folder; expected a configuration file"])
        if path.exists() and not path.is_file():
            raise ConfigError([f"{path}: is not a file; expected a configuration file"])
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
    except FileNotFoundError:
        raise ConfigError([f"{path}: no such file"]) from None
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ConfigError([f"{path}: cannot be read: {why}"]) from None
    if len(data) > LARGEST_FILE:
        raise ConfigError([f"{path}: more than {LARGEST_FILE} bytes: not a configuration"])
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        kind = "UTF-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "another encoding"
        raise ConfigError([f"{path}, line {line}: not UTF-8, perhaps {kind}; save it as UTF-8"]) from None


def _syntax(name: str, text: str, error: ValueError) -> str:
    """One line about a mistake in the TOML, with the line it is in."""
    message = " ".join(str(error).split())
    lines = text.replace("\r\n", "\n").split("\n")
    last = max((number for number, line in enumerate(lines, start=1) if line.strip()), default=1)
    place = re.search(r" \(at (?:line (\d+), column \d+|end of document)\)$", message)
    if place is None:
        return f"{name}: not TOML: {shown(message)}"
    number = int(place.group(1) or last)
    content = lines[number - 1].strip() if number <= len(lines) else ""
    hint = "; write numbers with a decimal point" if DECIMAL_COMMA.search(content) else ""
    if "Cannot overwrite" in message or "Cannot declare" in message:
        hint = "; is it there twice?"
    end = "" if place.group(1) else " at the end of the file"
    return f"{name}, line {number}: {message[: place.start()]}{end}{hint} in {shown(content)}"


def _profile_of(data: Mapping[str, Any], profiles: Profiles) -> list[str]:
    inverter = data.get("inverter")
    if not isinstance(inverter, dict):
        return []
    profile, options = inverter.get("profile"), inverter.get("options", {})
    if not isinstance(profile, str) or not profile or not isinstance(options, dict):
        return []
    simple = {name: value for name, value in options.items() if isinstance(value, str | int | float)}
    return check_inverter(profile, simple, profiles)


def _tellable(profiles: Profiles, get: Known) -> Iterator[str]:
    """The highest voltage of the rack must be one that the inverter's protocol can tell with these options."""
    series = get("layout.modules_per_string") * get("layout.cells_per_module")
    highest_v = series * get("cell.max_v")
    for option in profiles.get(get("inverter.profile"), ()):
        value = get("inverter.options").get(option.name, option.default)
        most_v = dict(zip(option.choices, option.most_v, strict=False))
        if not highest_v > most_v.get(value, math.inf):
            continue
        enough = [shown(choice) for choice, volts in most_v.items() if volts >= highest_v]
        yield (
            f"inverter.options.{option.name}: {shown(value)}; expected {' or '.join(enough) or 'another profile'}: "
            f"{series} cells in series reach {highest_v:.4g} V, and with {shown(value)} the protocol ends at "
            f"{most_v[value]:g} V"
        )


def _layout(settings: Settings) -> Layout:
    layout = settings.layout
    return Layout(
        layout.strings,
        layout.modules_per_string,
        layout.cells_per_module,
        layout.sensors_per_module,
        tuple(tuple(row) for row in layout.module_addresses),
        tuple(layout.unit_addresses),
    )


def _cell(cell: Cell) -> CellSpec:
    sheet = cell.model_dump(exclude={"specification"})
    sheet["ocv_soc"] = np.array(cell.ocv_soc or LFP_OCV_SOC, dtype=np.float64)
    sheet["ocv_v"] = np.array(cell.ocv_v or LFP_OCV_V, dtype=np.float64)
    return CellSpec(**sheet)


def _limits(limits: Limits) -> LimitSettings:
    plain_numbers = limits.model_dump(
        exclude={
            "charge_by_cell_v",
            "discharge_by_cell_v",
            "charge_by_temperature",
            "discharge_by_temperature",
            "temperature_error_k",
        }
    )
    return LimitSettings(
        charge_by_cell_v=_curve(limits.charge_by_cell_v),
        discharge_by_cell_v=_curve(limits.discharge_by_cell_v),
        charge_by_temperature=_curve(limits.charge_by_temperature),
        discharge_by_temperature=_curve(limits.discharge_by_temperature),
        **plain_numbers,
    )


def _curve(curve: VoltageCurve | TemperatureCurve) -> Curve:
    x = curve.cell_v if isinstance(curve, VoltageCurve) else curve.degc
    return Curve(tuple(map(float, x)), tuple(map(float, curve.share)))


def _inverter(settings: Settings) -> InverterSettings:
    return InverterSettings(**settings.inverter.model_dump(exclude={"interface", "channel"}))
