"""When a further string may join a live bus, how long it waits for that, and which string closes first.

Joining makes the string and those on the bus equal: the current is the difference over the resistances between
them, dV / (R + R / n) with n strings on the bus. It must stay below half of the continuous current and below 0.2C.
A string below the bus waits until the rack is discharged down to it, one above until it is charged up to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import copysign

import numpy as np

from bmsd.model.plant import Plant
from bmsd.model.snapshot import Floats

CONTINUOUS_SHARE = 0.5
EQUALISE_C = 0.2
JOIN_C = 0.1
"""A string joins only while the strings on the bus carry less than this."""
UNKNOWN_OHM_V_PER_CELL = 0.020
"""Allowed difference where the resistance is not known."""
STILL_C = 0.01
"""With less current it makes no sense to say how long it takes."""


@dataclass(frozen=True, slots=True)
class Bus:
    """The strings that feed the bus: how many, and their current together, A, positive charges (NaN: unknown)."""

    strings: int
    current_a: float

    @classmethod
    def of(cls, live: Sequence[int], current_a: Floats) -> Bus:
        """The bus that these strings feed."""
        return cls(len(live), float(current_a[list(live)].sum()))


def string_ohm(plant: Plant) -> float:
    """Resistance of a string from its cells to the bus, ohm."""
    return plant.layout.cells_in_series * plant.cell.resistance_ohm + plant.ratings.cable_ohm


def allowed_v(plant: Plant, on_bus: int) -> float:
    """By how much a string may differ from a bus that so many strings feed, V."""
    ohm = string_ohm(plant) * (1.0 + 1.0 / max(on_bus, 1))
    if not ohm > 0.0:
        return UNKNOWN_OHM_V_PER_CELL * plant.layout.cells_in_series
    continuous_a = min(plant.string_charge_max_a, plant.string_discharge_max_a)
    return ohm * min(CONTINUOUS_SHARE * continuous_a, EQUALISE_C * plant.cell.capacity_ah)


def share_of_allowed(plant: Plant, difference_v: float, bus: Bus) -> float:
    """Predicted current as share of the allowed one; NaN where a voltage is unknown."""
    return abs(difference_v) / allowed_v(plant, bus.strings)


def too_much_current(plant: Plant, bus: Bus) -> str:
    """Why the current on the bus forbids joining, empty when it does not."""
    most_a = JOIN_C * plant.cell.capacity_ah * bus.strings
    if abs(bus.current_a) < most_a:
        return ""
    if np.isnan(bus.current_a):
        return "the rack's current is unknown"
    return f"the rack carries {abs(bus.current_a):.0f} A: it connects below {most_a:.0f} A"


def too_far(plant: Plant, string_v: float, bus_v: float, bus: Bus) -> str:
    """Why the voltages forbid joining, with what has to happen and how long that takes; empty when they do not."""
    difference_v, most_v = string_v - bus_v, allowed_v(plant, bus.strings)
    if abs(difference_v) <= most_v:
        return ""
    side = "above" if difference_v > 0.0 else "below"
    wait = _wait(plant, string_v, bus_v, bus)
    return f"{abs(difference_v):.2f} V {side} the bus, at most {most_v:.2f} V: waits {wait}"


def _wait(plant: Plant, string_v: float, bus_v: float, bus: Bus) -> str:
    """What has to happen until the bus is in reach, and how long that takes where the present current leads there.

    By the rest voltages of the data sheet: rough, as they are flat.
    """
    cells, up = plant.layout.cells_in_series, string_v > bus_v
    reach_v = string_v - copysign(allowed_v(plant, bus.strings), string_v - bus_v)
    rest_v = bus_v - bus.current_a / bus.strings * string_ohm(plant)
    if rest_v >= reach_v if up else rest_v <= reach_v:
        return f"until the rack carries less than {abs(bus.current_a):.0f} A"
    text = f"until the rack is {'charged' if up else 'discharged'}"
    flows = abs(bus.current_a) > STILL_C * plant.cell.capacity_ah * bus.strings
    if not flows or (bus.current_a > 0.0) is not up:
        return text
    now, then = (float(np.interp(v / cells, plant.cell.ocv_v, plant.cell.ocv_soc)) for v in (rest_v, reach_v))
    hours = (then - now) * plant.cell.capacity_ah * bus.strings / bus.current_a
    takes = f"{hours:.1f} h" if hours >= 1.0 else f"{max(60.0 * hours, 1.0):.0f} min"
    return f"{text}, about {takes} at {abs(bus.current_a):.0f} A"


def first(plant: Plant, ready: Sequence[int], string_v: Floats) -> int | None:
    """Which of these strings closes first onto a dead bus: the one that most others can follow at once.

    Among equals the one with the highest voltage: what the inverter itself draws brings the bus down to the others.
    """

    def followers(string: int) -> int:
        return int((np.abs(string_v[list(ready)] - string_v[string]) <= allowed_v(plant, 1)).sum())

    return max(ready, key=lambda string: (followers(string), string_v[string]), default=None)
