"""The points of a record as registers: the whole map at once, big-endian, high word first.

What is not known, not there or between points reads as not implemented: 0xFFFF, 0x8000, 0xFFFFFFFF, 0x80000000, NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cache

import numpy as np
from numpy.typing import NDArray

from bmsd.model.point import REGISTERS, Block, Column, Point, Type, Value
from bmsd.model.points import MAP_REGISTERS, MODULES, SINGLE, STRINGS, constants, listed
from bmsd.model.published import Published
from bmsd.model.snapshot import Floats

Words = NDArray[np.uint16]
Part = Callable[[Published], Floats]

_RANGES = {
    Type.UINT16: (0, 0xFFFE, 0xFFFF, ">u2"),
    Type.INT16: (-0x7FFF, 0x7FFF, -0x8000, ">i2"),
    Type.UINT32: (0, 0xFFFFFFFE, 0xFFFFFFFF, ">u4"),
    Type.INT32: (-0x7FFFFFFF, 0x7FFFFFFF, -0x80000000, ">i4"),
}
"""Lowest and highest value, what stands for not implemented, and how it lies in bytes."""


def words(values: Floats, kind: Type) -> Words:
    """Return the registers (values, registers of the type). Not finite: not implemented; beyond the range: its end."""
    known = np.isfinite(values)
    if kind is Type.FLOAT32:
        lying = np.where(known, values, np.nan).astype(">f4")
    else:
        low, high, none, form = _RANGES[kind]
        lying = np.where(known, np.clip(np.rint(values), low, high), none).astype(form)
    return lying.view(">u2").reshape(len(values), REGISTERS[kind])


def number(value: Value) -> float:
    """Return a value as a number, NaN when it is not known."""
    return np.nan if value is None or isinstance(value, str) else float(value)


def put(image: bytearray, point: Point, value: Value) -> None:
    """Write one point into an image."""
    start = 2 * point.address
    image[start : start + 2 * point.registers] = words(np.array([number(value)]), point.type).tobytes()


@cache
def _blank() -> Words:
    image = np.full(MAP_REGISTERS, 0xFFFF, dtype=">u2")
    known = constants()
    for point in listed():
        value = known.get(point.name, np.nan)
        image[point.address : point.address + point.registers] = words(np.array([value]), point.type)[0]
    return image


def blank() -> bytearray:
    """Return the image while nothing is known: only the constants."""
    return bytearray(_blank().tobytes())


class Encoder:
    """Writes records of racks of one shape. One NumPy pass for each type, whatever the number of points."""

    def __init__(self, published: Published) -> None:
        self.shape = shape_of(published)
        parts: dict[Type, list[Part]] = {kind: [] for kind in Type}
        index: dict[Type, list[NDArray[np.int64]]] = {kind: [] for kind in Type}
        for kind, read, addresses in self._rows():
            parts[kind].append(read)
            index[kind].append(addresses)
        self._parts = {kind: reads for kind, reads in parts.items() if reads}
        self._index = {kind: np.concatenate(index[kind])[:, None] + np.arange(REGISTERS[kind]) for kind in self._parts}

    def encode(self, published: Published) -> bytearray:
        """Return the image of a record: 2 bytes for each register from address 0."""
        image = _blank().copy()
        for kind, parts in self._parts.items():
            values = np.concatenate([part(published) for part in parts])
            image[self._index[kind]] = words(values, kind)
        return bytearray(image.tobytes())

    def _rows(self) -> Iterator[tuple[Type, Part, NDArray[np.int64]]]:
        for kind in Type:
            points = [point for point in SINGLE if point.read is not None and point.type is kind]
            yield kind, _single(points), np.array([point.address for point in points], dtype=np.int64)
        strings, modules, cells, sensors = self.shape
        for block, count in ((STRINGS, strings), (MODULES, strings * modules)):
            for column in block.columns:
                items = column.items(cells, sensors)
                yield column.type, _column(column, block, count, items), _addresses(column, block, count, items)


def shape_of(published: Published) -> tuple[int, int, int, int]:
    """Strings, modules of each, cells and sensors of each module."""
    modules = published.snapshot.modules
    strings, count, cells = modules.cell_v.shape
    return strings, count, cells, modules.temperature_degc.shape[2]


def _single(points: Iterable[Point]) -> Part:
    reads = [point.read for point in points if point.read is not None]
    return lambda published: np.array([number(read(published)) for read in reads])


def _column(column: Column, block: Block, count: int, items: int) -> Part:
    def read(published: Published) -> Floats:
        values = np.asarray(column.read(published), dtype=np.float64)
        return values.reshape(count, -1)[: block.most, :items].ravel()

    return read


def _addresses(column: Column, block: Block, count: int, items: int) -> NDArray[np.int64]:
    starts = block.base + block.stride * np.arange(min(count, block.most))[:, None] + column.offset
    return np.asarray((starts + REGISTERS[column.type] * np.arange(items)).ravel())
