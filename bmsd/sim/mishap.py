"""What can go wrong in a rack, one function each.

A mishap acts from `start_s` to `end_s` (s since the simulation began) on the places it names. Strings,
modules, cells and sensors count from 1, as on the rack; 0 means all. There are four kinds: of the plant
(what is), of the readings (what the wires carry), of the frames (what reaches the bus), and of the nodes, which
happen once, at `start_s`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, Literal

import numpy as np

from bmsd.model.frame import Frame
from bmsd.model.layout import Layout
from bmsd.model.snapshot import Bools, Floats, Ints
from bmsd.sim.inverter import Inverter
from bmsd.sim.node import Node
from bmsd.sim.packing import ADDRESS_MASK, CELL_OPEN_WIRE, SENSOR_OPEN, SENSOR_SHORT
from bmsd.sim.rack import MINUS, PLUS, PRECHARGE, Rack

CONTACTS = {"minus": MINUS, "precharge": PRECHARGE, "plus": PLUS}


@dataclass(frozen=True)
class Mishap:
    """One mishap. What `value` means is said by the function of its kind."""

    kind: str
    start_s: float = 0.0
    end_s: float = inf
    string: int = 0
    module: int = 0
    cell: int = 0
    value: float = 0.0
    share: float = 1.0
    """Share of the frames that it hits, 0..1."""
    contact: Literal["minus", "precharge", "plus"] = "plus"
    node: Literal["module", "unit"] = "module"
    """Whose frames, or which node: module boards or the string's contactor unit."""

    def active(self, time_s: float) -> bool:
        """Return whether it acts at this time since start."""
        return self.start_s <= time_s < self.end_s

    def place(self) -> tuple[slice, slice, slice]:
        """Return the index of the cells (or sensors) it hits in an array (strings, modules, cells)."""
        return (_from_one(self.string), _from_one(self.module), _from_one(self.cell))


def _from_one(number: int) -> slice:
    return slice(None) if number == 0 else slice(number - 1, number)


@dataclass
class Plant:
    """What mishaps of the plant change. Arrays by cell, (strings, 3) contacts, (strings,) units."""

    extra_k_per_s: Floats
    welded: Bools
    jammed: Bools
    feedback_lost: Bools
    emergency_stop: Bools
    interlock: Bools
    coil_lost: Bools
    leak_s: Floats
    """Conductance of soft shorts by cell, S."""
    shunt_offset_a: Floats
    fan_lost: Bools
    """(strings, modules)."""
    inverter_ignores: bool = False
    load_s: float = 0.0
    """Conductance of what hangs across the bus, S."""

    def act(self, rack: Rack, inverter: Inverter) -> None:
        """Do to cells, circuit and inverter what it says; the rest is the matter of boards and units."""
        rack.contactors.welded, rack.contactors.jammed = self.welded, self.jammed
        rack.load_s = self.load_s
        rack.cells.warm(self.extra_k_per_s)
        rack.cells.leak(self.leak_s)
        inverter.ignores_limits = self.inverter_ignores


@dataclass
class Readings:
    """What the boards' wires carry: arrays by cell and by sensor; codes as in `boards.Measured`."""

    cell_v: Floats
    sensor_degc: Floats
    cell_code: Ints
    sensor_code: Ints


Memory = dict[object, Any]
"""What one mishap keeps between steps."""


# of the plant


def hot_cell(m: Mishap, plant: Plant) -> None:
    """A cell heats itself by `value` K per minute."""
    plant.extra_k_per_s[m.place()] += m.value / 60.0


def welded_contactor(m: Mishap, plant: Plant) -> None:
    """The contact does not open any more."""
    plant.welded[_from_one(m.string), CONTACTS[m.contact]] = True


def jammed_contactor(m: Mishap, plant: Plant) -> None:
    """The contact does not close any more."""
    plant.jammed[_from_one(m.string), CONTACTS[m.contact]] = True


def feedback_lost(m: Mishap, plant: Plant) -> None:
    """The auxiliary contact has lost its wire: the unit cannot tell where the contact is."""
    plant.feedback_lost[_from_one(m.string), CONTACTS[m.contact]] = True


def bus_load(m: Mishap, plant: Plant) -> None:
    """A load of `value` ohm hangs across the bus, whatever the contactors do."""
    plant.load_s += 1.0 / m.value if m.value > 0.0 else 0.0


def soft_short(m: Mishap, plant: Plant) -> None:
    """A cell loses charge inside, through `value` ohm."""
    plant.leak_s[m.place()] += 1.0 / m.value if m.value > 0.0 else 0.0


def shunt_offset(m: Mishap, plant: Plant) -> None:
    """The string's current measurement reads `value` A too high."""
    plant.shunt_offset_a[_from_one(m.string)] += m.value


def fan_lost(m: Mishap, plant: Plant) -> None:
    """The fan of a module does not turn."""
    plant.fan_lost[m.place()[:2]] = True


def emergency_stop(m: Mishap, plant: Plant) -> None:
    """Somebody pressed the button."""
    plant.emergency_stop[_from_one(m.string)] = True


def interlock_open(m: Mishap, plant: Plant) -> None:
    """A connector of the interlock loop is pulled."""
    plant.interlock[_from_one(m.string)] = True


def coil_supply_lost(m: Mishap, plant: Plant) -> None:
    """The supply of the contactor coils is gone."""
    plant.coil_lost[_from_one(m.string)] = True


def inverter_ignores_limits(_m: Mishap, plant: Plant) -> None:
    """The inverter does what the site wants, whatever it is told; its enable contact still works."""
    plant.inverter_ignores = True


# of the readings


def offset(m: Mishap, readings: Readings, _memory: Memory) -> None:
    """Cells read `value` V too high."""
    readings.cell_v[m.place()] += m.value


def cell_voltage(m: Mishap, readings: Readings, _memory: Memory) -> None:
    """Cells read `value` V, whatever they have."""
    readings.cell_v[m.place()] = m.value


def temperature(m: Mishap, readings: Readings, _memory: Memory) -> None:
    """Sensors (`cell` counts sensors) read `value` degC."""
    readings.sensor_degc[m.place()] = m.value


def temperature_offset(m: Mishap, readings: Readings, _memory: Memory) -> None:
    """Sensors (`cell` counts sensors) read `value` K too high: an NTC has drifted or come off its cell."""
    readings.sensor_degc[m.place()] += m.value


def open_wire(m: Mishap, readings: Readings, _memory: Memory) -> None:
    """A sense wire is off: the board says so."""
    readings.cell_code[m.place()] = CELL_OPEN_WIRE
    readings.cell_v[m.place()] = np.nan


def sensor_open(m: Mishap, readings: Readings, _memory: Memory) -> None:
    """A temperature sensor (`cell` counts sensors) is open."""
    readings.sensor_code[m.place()] = SENSOR_OPEN
    readings.sensor_degc[m.place()] = np.nan


def sensor_short(m: Mishap, readings: Readings, _memory: Memory) -> None:
    """A temperature sensor (`cell` counts sensors) is shorted."""
    readings.sensor_code[m.place()] = SENSOR_SHORT
    readings.sensor_degc[m.place()] = np.nan


def frozen_readings(m: Mishap, readings: Readings, memory: Memory) -> None:
    """The measuring chip hangs: the board sends old values with a live counter."""
    cells, degc = memory.setdefault(
        "first", (readings.cell_v[m.place()].copy(), readings.sensor_degc[m.place()[:2]].copy())
    )
    readings.cell_v[m.place()] = cells
    readings.sensor_degc[m.place()[:2]] = degc


# of the frames: they get the frames of the nodes they hit

Random = np.random.Generator


def lost(m: Mishap, frames: Sequence[Frame], _memory: Memory, _now_s: float, draw: Random) -> Iterable[Frame]:
    """Frames do not arrive (`share` of them)."""
    return [frame for frame in frames if not draw.random() < m.share]


def stuck(m: Mishap, frames: Sequence[Frame], memory: Memory, _now_s: float, draw: Random) -> Iterable[Frame]:
    """A node repeats the frame that it sent first, counter and CRC included."""
    return [memory.setdefault(frame.can_id, frame) if draw.random() < m.share else frame for frame in frames]


def garbage(m: Mishap, frames: Sequence[Frame], _memory: Memory, _now_s: float, draw: Random) -> Iterable[Frame]:
    """Data bytes are random; the CRC is what it happens to be."""
    return [frame._replace(data=draw.bytes(len(frame.data))) if draw.random() < m.share else frame for frame in frames]


def delayed(m: Mishap, frames: Sequence[Frame], memory: Memory, now_s: float, draw: Random) -> Iterable[Frame]:
    """Frames arrive `value` s late."""
    waiting: list[tuple[float, Frame]] = memory.setdefault("waiting", [])
    through = []
    for frame in frames:
        if draw.random() < m.share:
            waiting.append((now_s + m.value, frame))
        else:
            through.append(frame)
    due = [frame for due_s, frame in waiting if due_s <= now_s]
    memory["waiting"] = [entry for entry in waiting if entry[0] > now_s]
    return due + through


def silent_board(_m: Mishap, _frames: Sequence[Frame], _memory: Memory, _now_s: float, _d: Random) -> Iterable[Frame]:
    """The node is dead: it says nothing and hears nothing."""
    return []


# of the nodes


def restart(_m: Mishap, node: Node) -> None:
    """The node (`node`: a module's board or a string's unit) loses its supply for a moment and boots anew."""
    node.restart()


OF_PLANT: dict[str, Callable[[Mishap, Plant], None]] = {
    f.__name__: f
    for f in (
        hot_cell,
        welded_contactor,
        jammed_contactor,
        feedback_lost,
        bus_load,
        soft_short,
        shunt_offset,
        fan_lost,
        emergency_stop,
        interlock_open,
        coil_supply_lost,
        inverter_ignores_limits,
    )
}
OF_READINGS: dict[str, Callable[[Mishap, Readings, Memory], None]] = {
    f.__name__: f
    for f in (
        offset,
        cell_voltage,
        temperature,
        temperature_offset,
        open_wire,
        sensor_open,
        sensor_short,
        frozen_readings,
    )
}
OF_FRAMES: dict[str, Callable[[Mishap, Sequence[Frame], Memory, float, Random], Iterable[Frame]]] = {
    f.__name__: f for f in (lost, stuck, garbage, delayed, silent_board)
}
OF_NODES: dict[str, Callable[[Mishap, Node], None]] = {f.__name__: f for f in (restart,)}
KINDS = (*OF_PLANT, *OF_READINGS, *OF_FRAMES, *OF_NODES)


class Mishaps:
    """All mishaps of a scenario, applied in the order in which they are written."""

    def __init__(self, mishaps: Sequence[Mishap], layout: Layout, seed: int) -> None:
        self._mishaps = tuple(mishaps)
        self._layout = layout
        self._memory: list[Memory] = [{} for _ in self._mishaps]
        self._draw = np.random.default_rng(seed)

    def plant(self, time_s: float) -> Plant:
        """Return what is wrong with the plant at this time since start."""
        strings = self._layout.strings
        per_contact = (strings, 3)
        plant = Plant(
            np.zeros(self._layout.cell_shape),
            np.zeros(per_contact, dtype=np.bool_),
            np.zeros(per_contact, dtype=np.bool_),
            np.zeros(per_contact, dtype=np.bool_),
            np.zeros(strings, dtype=np.bool_),
            np.zeros(strings, dtype=np.bool_),
            np.zeros(strings, dtype=np.bool_),
            np.zeros(self._layout.cell_shape),
            np.zeros(strings),
            np.zeros(self._layout.module_shape, dtype=np.bool_),
        )
        for mishap in self._mishaps:
            if mishap.kind in OF_PLANT and mishap.active(time_s):
                OF_PLANT[mishap.kind](mishap, plant)
        return plant

    def readings(self, time_s: float, readings: Readings) -> None:
        """Spoil the readings in place."""
        for mishap, memory in zip(self._mishaps, self._memory, strict=True):
            if mishap.kind in OF_READINGS and mishap.active(time_s):
                OF_READINGS[mishap.kind](mishap, readings, memory)

    def nodes(self, time_s: float, nodes: Iterable[tuple[int, Node]]) -> None:
        """Do to the nodes what is due; `nodes` are (address of their place, node)."""
        for mishap, memory in zip(self._mishaps, self._memory, strict=True):
            if mishap.kind in OF_NODES and mishap.start_s <= time_s and not memory.setdefault("done", False):
                memory["done"] = True
                hit = self._addresses(mishap)
                for home, node in nodes:
                    if home in hit:
                        OF_NODES[mishap.kind](mishap, node)

    def deaf(self, time_s: float) -> frozenset[int]:
        """Return the addresses of the nodes that hear nothing."""
        dead = [m for m in self._mishaps if m.kind == "silent_board" and m.active(time_s)]
        return frozenset(address for mishap in dead for address in self._addresses(mishap))

    def frames(self, time_s: float, frames: list[Frame]) -> list[Frame]:
        """Return the frames that reach the bus now."""
        for mishap, memory in zip(self._mishaps, self._memory, strict=True):
            if mishap.kind not in OF_FRAMES or not (mishap.active(time_s) or memory.get("waiting")):
                continue
            hit = self._addresses(mishap) if mishap.active(time_s) else frozenset()
            mine = [frame for frame in frames if frame.can_id & ADDRESS_MASK in hit]
            rest = [frame for frame in frames if frame.can_id & ADDRESS_MASK not in hit]
            frames = rest + list(OF_FRAMES[mishap.kind](mishap, mine, memory, time_s, self._draw))
        return frames

    def _addresses(self, mishap: Mishap) -> frozenset[int]:
        strings = _from_one(mishap.string)
        if mishap.node == "unit":
            return frozenset(self._layout.unit_addresses[strings])
        rows = self._layout.module_addresses[strings]
        return frozenset(address for row in rows for address in row[_from_one(mishap.module)])
