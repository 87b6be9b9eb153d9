"""What must fit together in [fieldbus.mapped], as far as it can be told without its DBC."""

from __future__ import annotations

from collections.abc import Iterator

from bmsd.config.known import CLOSE, Check, Known
from bmsd.config.schema_mapped import Mapped
from bmsd.model.plant import Timing

M = "fieldbus.mapped"
OF_UNITS = ("current_a", "string_v", "contactors")
"""What contactor units measure themselves."""


def mapped_of(get: Known) -> Mapped | None:
    """Return the section when boards are mapped, None when the driver is another."""
    if get("fieldbus.driver") != "mapped":
        return None
    given = get(M)
    return given if isinstance(given, Mapped) else Mapped.model_validate(given)


def _unused(get: Known) -> Iterator[str]:
    if get("fieldbus.driver") != "mapped" and get.given(M):
        yield f'{M}: not used with fieldbus.driver "{get("fieldbus.driver")}"; expected driver = "mapped"'


def _complete(get: Known) -> Iterator[str]:
    mapped = mapped_of(get)
    if mapped is None:
        return
    if not mapped.dbc:
        yield f"{M}.dbc: missing; expected the file with the boards' messages"
    quantities = {value.quantity for value in mapped.values}
    needed = ["cell_v", "temperature_degc"] + (["current_a"] if mapped.units == "none" else [])
    for quantity in needed:
        if quantity not in quantities:
            yield f'{M}.values: nothing measures {quantity}; expected an entry with quantity = "{quantity}"'
    if ("current_a" in quantities) is (mapped.current_sign == "not_measured"):
        yield (
            f'{M}.current_sign: "{mapped.current_sign}"; expected charge_positive or discharge_positive with an entry '
            "for current_a, not_measured without one"
        )


def _units(get: Known) -> Iterator[str]:
    mapped = mapped_of(get)
    if mapped is None:
        return
    for number, value in enumerate(mapped.values, start=1):
        if mapped.units == "slave" and value.quantity in OF_UNITS:
            yield f'{M}.values, entry {number}.quantity: {value.quantity} is measured by the units (units = "slave")'
    quantities = {value.quantity for value in mapped.values}
    blind = mapped.units == "none" and "contactors" not in quantities
    if mapped.accept_unenforced and blind and get("layout.strings") > 1:
        yield (
            f"{M}.accept_unenforced: true with {get('layout.strings')} strings whose contactors nobody reports; "
            'expected an entry with quantity = "contactors": the limits depend on how many strings are closed'
        )


def _entries(get: Known) -> Iterator[str]:
    mapped = mapped_of(get)
    for number, value in enumerate(mapped.values if mapped else (), start=1):
        path = f"{M}.values, entry {number}"
        if value.factor == 0.0:
            yield f"{path}.factor: 0; expected another number: every value would be 0"
        if value.quantity == "contactors" and value.open_value == value.closed_value:
            yield f"{path}.open_value: {value.open_value} is closed_value, too; expected another"
        if bool(value.select) != bool(value.select_value):
            yield f"{path}.select_value: expected together with select, or neither"
        if len(value.signals) > 1 and value.quantity not in ("cell_v", "temperature_degc"):
            yield f"{path}.signals: {len(value.signals)} names; expected one: only modules have several"
        if value.items and value.quantity not in ("cell_v", "temperature_degc"):
            yield f"{path}.items: expected only with cell_v and temperature_degc"
        if value.modules and value.quantity in OF_UNITS:
            yield f"{path}.modules: not used: {value.quantity} is one of each string"


def _stale(get: Known) -> Iterator[str]:
    mapped = mapped_of(get)
    if mapped is None:
        return
    timing = Timing(get("timing.tick_s"), get("timing.poll_s"), get("timing.current_phases"))
    for name, most_s in (("stale_s", timing.hold_s), ("temperature_stale_s", timing.slow_hold_s)):
        value_s = getattr(mapped, name)
        if value_s > most_s + CLOSE:
            yield (
                f"{M}.{name}: {value_s:g} s; expected at most {most_s:.3g} s with timing.poll_s {timing.poll_s:g} s: "
                "no limit may rest on older data"
            )


CHECKS: tuple[Check, ...] = (_unused, _complete, _units, _entries, _stale)
