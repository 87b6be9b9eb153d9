"""What a point is: a published value with its place in the register map."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from bmsd.model.layout import MAX_CELLS, MAX_SENSORS
from bmsd.model.point_readers import Array
from bmsd.model.published import Published

Value = float | int | str | bool | None
Read = Callable[[Published], Value]
ReadAll = Callable[[Published], Array]


class Type(StrEnum):
    """How a value lies in registers: big-endian, high word first."""

    UINT16 = "uint16"
    INT16 = "int16"
    UINT32 = "uint32"
    INT32 = "int32"
    FLOAT32 = "float32"


REGISTERS = {Type.UINT16: 1, Type.INT16: 1, Type.UINT32: 2, Type.INT32: 2, Type.FLOAT32: 2}


@dataclass(frozen=True, slots=True)
class Point:
    """One published value. `read` gives it from a record, None when unknown.

    Without `read` it is a constant of the map, or something that the gateway itself knows. What is `writable`, if the
    configuration lets it, may be `low` to `high`, in the register's unit.
    """

    name: str
    unit: str
    address: int
    type: Type
    meaning: str
    read: Read | None = None
    writable: bool = False
    low: int = 0
    high: int = 0

    @property
    def registers(self) -> int:
        return REGISTERS[self.type]


@dataclass(frozen=True, slots=True)
class Column:
    """A value that every place of a block has, or each `per` item in it; `{}` in the name is the item's number.

    `read` gives all of them, NaN where unknown: (strings,), (strings, modules) or (strings, modules, items).
    """

    name: str
    unit: str
    offset: int
    type: Type
    meaning: str
    read: ReadAll
    per: Literal["place", "cell", "sensor"] = "place"

    def items(self, cells: int, sensors: int) -> int:
        """How many of these each place has in a rack with that many cells and sensors in a module."""
        return {"place": 1, "cell": min(cells, MAX_CELLS), "sensor": min(sensors, MAX_SENSORS)}[self.per]


@dataclass(frozen=True, slots=True)
class Block:
    """Places that are alike: `most` of them, `stride` registers each, the first at `base`."""

    name: str
    base: int
    stride: int
    most: int
    columns: tuple[Column, ...]

    def points(self, places: int, cells: int = MAX_CELLS, sensors: int = MAX_SENSORS) -> Iterator[Point]:
        """Yield the points of that many places."""
        for place in range(places):
            for column in self.columns:
                for item in range(column.items(cells, sensors)):
                    address = self.base + self.stride * place + column.offset + item * REGISTERS[column.type]
                    name = f"{self.name}_{place + 1}_{column.name.format(item + 1)}"
                    yield Point(name, column.unit, address, column.type, column.meaning.format(item + 1))
