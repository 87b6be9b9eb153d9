"""Whether a signal can be what it is mapped to: in the frame, in the right unit, fine and wide enough."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from cantools.database.can import Message, Signal

from bmsd.fieldbus.drivers.mapped.columns import Bits
from bmsd.model.board_map import Quantity, Source

Reach = Mapping[Quantity, tuple[float, float]]
"""What a quantity must at least be able to tell, from and to, in its unit."""


class Unit(NamedTuple):
    """A unit, and what DBCs write for it and for its parts, with their sizes."""

    name: str
    written: Mapping[str, float]


_VOLTS = Unit("V", {"v": 1.0, "volt": 1.0, "volts": 1.0, "mv": 0.001})
_AMPERES = Unit("A", {"a": 1.0, "amp": 1.0, "amps": 1.0, "ampere": 1.0, "ma": 0.001})
_DEGREES = Unit("degC", {"degc": 1.0, "°c": 1.0, "c": 1.0, "celsius": 1.0, "deg c": 1.0})
_OTHERS = ("k", "kelvin", "°f", "f", "degf", "%", "ah", "wh", "w", "kw", "ohm", "s", "ms", "hz")
UNITS = {
    Quantity.CELL_V: _VOLTS,
    Quantity.MODULE_V: _VOLTS,
    Quantity.STRING_V: _VOLTS,
    Quantity.CURRENT_A: _AMPERES,
    Quantity.TEMPERATURE_DEGC: _DEGREES,
}
MOST_TRIM = 2.0
"""A factor may correct a sensor, not the unit."""
COARSEST = {Quantity.CELL_V: 0.02, Quantity.TEMPERATURE_DEGC: 2.0}
"""Largest step between two readings that protections can work with."""


def unsuited(message: Message, signal: Signal, source: Source, reach: Reach) -> Iterator[str]:
    """Yield why this signal cannot be this quantity."""
    name = f"{signal.name} in {message.name}"
    if message.length > 8:
        yield f"{name}: a message of {message.length} bytes; expected at most 8 (no CAN FD)"
        return
    if signal.is_float and signal.length not in (32, 64):
        yield f"{name}: a floating-point number of {signal.length} bits; expected 32 or 64"
        return
    try:
        bits = Bits.of(signal)
    except ValueError as error:
        yield str(error)
        return
    if source.quantity is Quantity.CONTACTORS:
        for setting, value in (("closed_value", source.closed_value), ("open_value", source.open_value)):
            if bits.float_bits or value > bits.mask:
                yield f"{name} cannot be {setting} {value}"
        return
    wrong = _unit(name, signal, source)
    if wrong:
        yield wrong
    elif not bits.float_bits:
        yield from _steps(name, bits, source, reach)


def _unit(name: str, signal: Signal, source: Source) -> str:
    """Return what is wrong with unit and factor, empty when nothing is or the DBC does not say."""
    unit = (signal.unit or "").strip().removeprefix("Â").lower()
    wanted = UNITS[source.quantity]
    if unit in wanted.written:
        if not 1.0 / MOST_TRIM <= abs(source.factor) / wanted.written[unit] <= MOST_TRIM:
            return f"{name} is in {signal.unit} by the DBC; expected factor = {wanted.written[unit]:g}"
    elif unit in _OTHERS or any(unit in known.written for known in UNITS.values()):
        return f"{name} is in {signal.unit} by the DBC; expected {wanted.name}"
    return ""


def _steps(name: str, bits: Bits, source: Source, reach: Reach) -> Iterator[str]:
    step = abs(bits.scale * source.factor)
    unit = UNITS[source.quantity].name
    coarsest = COARSEST.get(source.quantity)
    if coarsest is not None and step > coarsest:
        yield f"{name} has steps of {step:g} {unit}; expected at most {coarsest:g} {unit}: is a factor missing?"
        return
    if source.quantity in reach:
        low, high = sorted((raw * bits.scale + bits.offset) * source.factor for raw in (bits.low, bits.high))
        least, most = reach[source.quantity]
        if not low <= least < most <= high:
            yield (
                f"{name} tells {low:g} to {high:g} {unit}; expected at least {least:g} to {most:g} {unit}, so that "
                "protections see what they protect from"
            )
