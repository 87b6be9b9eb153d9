"""What every inverter protocol offers, and where the protocols are found.

A profile is one module `inverters/<name>.py` with a class `PROFILE` and one `dbc/inverter_<name>.dbc`.
It turns the guarded command of a tick into frames and back; it keeps no state and knows no time.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar, NamedTuple

from bmsd.errors import ConfigError
from bmsd.inverters.signals import SignalTable, Value, dbc_path
from bmsd.model.command import Command
from bmsd.model.frame import Frame

OptionValue = str | float | int | bool


@dataclass(frozen=True, slots=True)
class Option:
    """One setting of a profile: its default, what it may be (any of `choices`, or text up to `text_max`)."""

    name: str
    default: OptionValue
    meaning: str
    choices: tuple[OptionValue, ...] = ()
    text_max: int = 0
    most_v: tuple[float, ...] = ()
    """Highest rack voltage that can be told with each choice; empty: the option has nothing to do with it."""

    def complaint(self, value: object) -> str | None:
        """Return what is wrong with the value, None when it may be used."""
        if self.text_max:
            if isinstance(value, str) and 1 <= len(value) <= self.text_max and value.isascii() and value.isprintable():
                return None
            return f"must be 1 to {self.text_max} printable ASCII characters"
        if isinstance(value, bool) is isinstance(self.default, bool) and value in self.choices:
            return None
        return f"must be one of {', '.join(str(choice) for choice in self.choices)}"


class Limits(NamedTuple):
    """What one limit frame says, decoded from its bytes; None: the frame does not carry it. V and A, magnitudes."""

    cvl_v: float | None = None
    dvl_v: float | None = None
    ccl_a: float | None = None
    dcl_a: float | None = None
    charge_enabled: bool | None = None
    discharge_enabled: bool | None = None

    def tighter_than(self, other: Limits) -> bool:
        """Whether anything that both know allows less here than there."""
        return (
            _less(self.cvl_v, other.cvl_v)
            or _less(self.ccl_a, other.ccl_a)
            or _less(self.dcl_a, other.dcl_a)
            or _less(other.dvl_v, self.dvl_v)
            or _less(self.charge_enabled, other.charge_enabled)
            or _less(self.discharge_enabled, other.discharge_enabled)
        )

    def updated(self, newer: Limits) -> Limits:
        """Return these limits with everything that `newer` knows in its place."""
        return self._replace(**{name: value for name, value in newer._asdict().items() if value is not None})


class TransmitRule(NamedTuple):
    """What the transmit gate lets through: the identifier, its lengths in bytes, the least time between two, s."""

    can_id: int
    extended: bool
    lengths: frozenset[int]
    min_interval_s: float


class Profile(ABC):
    """One inverter protocol with its options set.

    Raises ConfigError with every complaint about the options.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    options_known: ClassVar[tuple[Option, ...]]
    needs: ClassVar[Mapping[int, tuple[str, ...]]]
    """Frame -> values that it cannot be sent without, in the order on the wire; names as in `bmsd encode`."""
    limit_ids: ClassVar[tuple[int, ...]]
    """Frames that carry limits and enable flags: the amperes first, then the flags."""

    def __init__(self, options: Mapping[str, OptionValue]) -> None:
        self.options = checked_options(self.name, self.options_known, options)
        self.table = SignalTable(dbc_path(f"inverter_{self.name}.dbc"), scales=self.scales())

    def scales(self) -> Mapping[str, Any]:
        """Return the scales (Decimal) of signals that the options choose; none by default."""
        return {}

    @abstractmethod
    def frames(self, command: Command) -> list[Frame]:
        """Return the full set in the order of the wire; frames whose values are not known are left out."""

    @abstractmethod
    def decode_limits(self, frame: Frame) -> Limits:
        """Return the limits in the frame's bytes; raises FrameError when a limit frame is too short."""

    @abstractmethod
    def is_keepalive(self, frame: Frame) -> bool:
        """Whether the frame is the inverter's sign of life."""

    @property
    @abstractmethod
    def receive_ids(self) -> tuple[tuple[int, bool], ...]:
        """(identifier, extended) of frames that the inverter sends, for the kernel's filter."""

    @property
    @abstractmethod
    def transmit_rules(self) -> tuple[TransmitRule, ...]:
        """Everything that may ever be sent to the inverter."""

    def limit_frames(self, command: Command) -> list[Frame]:
        """Return the frames of `limit_ids` only."""
        return [frame for frame in self.frames(command) if frame.can_id in self.limit_ids]

    def remarks(self, can_id: int, signals: Mapping[str, Value]) -> dict[str, Value]:  # noqa: ARG002
        """Return what a reader of a trace wants besides the signals, such as lists of alarm names."""
        return {}


def checked_options(name: str, known: Sequence[Option], given: Mapping[str, OptionValue]) -> dict[str, OptionValue]:
    """Return all options with defaults filled in; raises ConfigError with every complaint."""
    by_name = {option.name: option for option in known}
    complaints = [
        f"inverter option {key}: unknown; {name} knows {', '.join(by_name)}" for key in given if key not in by_name
    ]
    for key, value in given.items():
        complaint = by_name[key].complaint(value) if key in by_name else None
        if complaint:
            complaints.append(f"inverter option {key}: {value!r}: {complaint}")
    if complaints:
        raise ConfigError(complaints)
    return {option.name: given.get(option.name, option.default) for option in known}


def options_from_text(known: Sequence[Option], texts: Sequence[str]) -> dict[str, OptionValue]:
    """Return options given as NAME=VALUE on a command line; raises ConfigError with every complaint.

    Names and values are judged by `checked_options`; here a value only gets the type of its option.
    """
    by_name = {option.name: option for option in known}
    complaints = [f"option {text!r}: expected NAME=VALUE" for text in texts if "=" not in text]
    if complaints:
        raise ConfigError(complaints)
    given: dict[str, OptionValue] = {}
    for text in texts:
        name, _, value = text.partition("=")
        choices = by_name[name].choices if name in by_name else ()
        given[name] = next((choice for choice in choices if str(choice) == value), value)
    return given


def profile_names() -> list[str]:
    """Return the names of all profiles, by the DBC files of the package."""
    prefix = "inverter_"
    return sorted(path.stem.removeprefix(prefix) for path in dbc_path("").glob(f"{prefix}*.dbc"))


def profile_class(name: str) -> type[Profile]:
    """Return the profile's class; raises ConfigError that lists the known names."""
    known = profile_names()
    if name not in known:
        raise ConfigError([f"inverter profile {name!r}: unknown; known are {', '.join(known)}"])
    found: type[Profile] = import_module(f"bmsd.inverters.{name}").PROFILE
    return found


def load_profile(name: str, options: Mapping[str, OptionValue] | None = None) -> Profile:
    """Return the profile with its options; raises ConfigError for an unknown name or wrong options."""
    return profile_class(name)(options or {})


def known_value(value: float | None) -> float | None:
    """Return the value, None when it is not a finite number."""
    return value if value is not None and math.isfinite(value) else None


def milli(value: float) -> int:
    """Return thousandths as an integer, half to even: removes the noise of binary floating point."""
    scaled = value * 1000.0
    return round(scaled) if math.isfinite(scaled) else int(value) * 1000


def micro(value: float) -> int:
    """Return millionths as an integer, half to even: what limits are rounded from.

    No coarser: the transmit gate lets a limit pass its command by less than a millionth.
    """
    scaled = value * 1_000_000.0
    return round(scaled) if math.isfinite(scaled) else int(value) * 1_000_000


def half_even(numerator: int, denominator: int) -> int:
    """Return the quotient of integers rounded to the nearest, ties to even; `denominator` is positive."""
    quotient, rest = divmod(numerator, denominator)
    if 2 * rest > denominator or (2 * rest == denominator and quotient % 2):
        return quotient + 1
    return quotient


def _less(one: float | None, other: float | None) -> bool:
    return one is not None and other is not None and one < other
