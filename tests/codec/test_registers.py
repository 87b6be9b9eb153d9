"""Records as registers: read back by struct, value by value, and at the edges of every type."""

from __future__ import annotations

import struct
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
import pytest

from bmsd.codec.registers import Encoder, blank, put, words
from bmsd.model.layout import MAX_CELLS
from bmsd.model.point import REGISTERS, Block, Point, Type
from bmsd.model.points import MAP_REGISTERS, MODULES, SINGLE, STRINGS, arrays, constants, listed, values
from bmsd.model.published import Published
from tests.gateway.control_end import record

FORMAT = {Type.UINT16: ">H", Type.INT16: ">h", Type.UINT32: ">I", Type.INT32: ">i", Type.FLOAT32: ">f"}
NONE = {Type.UINT16: 0xFFFF, Type.INT16: -0x8000, Type.UINT32: 0xFFFFFFFF, Type.INT32: -0x80000000}


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (Type.UINT16, 0.0, "0000"),
        (Type.UINT16, 65534.0, "fffe"),
        (Type.UINT16, 65535.0, "fffe"),
        (Type.UINT16, 1e9, "fffe"),
        (Type.UINT16, -1.0, "0000"),
        (Type.UINT16, 3299.5, "0ce4"),  # half to even: 3300
        (Type.UINT16, 3300.5, "0ce4"),
        (Type.UINT16, np.nan, "ffff"),
        (Type.UINT16, np.inf, "ffff"),
        (Type.UINT16, -np.inf, "ffff"),
        (Type.INT16, -1.0, "ffff"),
        (Type.INT16, -32767.0, "8001"),
        (Type.INT16, -32768.0, "8001"),
        (Type.INT16, 40000.0, "7fff"),
        (Type.INT16, np.nan, "8000"),
        (Type.UINT32, 4294967294.0, "fffffffe"),
        (Type.UINT32, 4294967295.0, "fffffffe"),
        (Type.UINT32, 305419896.0, "12345678"),
        (Type.UINT32, np.nan, "ffffffff"),
        (Type.INT32, -2147483648.0, "80000001"),
        (Type.INT32, 2147483647.0, "7fffffff"),
        (Type.INT32, np.nan, "80000000"),
        (Type.FLOAT32, 123456.0, "47f12000"),
        (Type.FLOAT32, -0.5, "bf000000"),
        (Type.FLOAT32, np.nan, "7fc00000"),
        (Type.FLOAT32, -np.nan, "7fc00000"),
        (Type.FLOAT32, np.inf, "7fc00000"),
    ],
)
def test_every_type_at_its_edges(kind: Type, value: float, expected: str) -> None:
    assert words(np.array([value]), kind).tobytes().hex() == expected


def test_nothing_known_is_nothing_but_constants() -> None:
    image = blank()
    assert len(image) == 2 * MAP_REGISTERS
    for point in listed():
        if point.name in constants():
            assert read(image, point) == constants()[point.name]
        else:
            assert is_none(read(image, point), point), point.name


def read(image: bytearray, point: Point) -> float:
    return float(struct.unpack_from(FORMAT[point.type], image, 2 * point.address)[0])


def is_none(value: float, point: Point) -> bool:
    return np.isnan(value) if point.type is Type.FLOAT32 else value == NONE[point.type]


SHAPES = [(1, 1, 1, 1), (2, 3, 16, 4), (8, 4, 24, 8), (1, 32, 24, 8), (2, 16, 16, 4)]


def estimate_of(was: Any, random, cells: tuple[int, int, int], sensors: int) -> Any:
    """An estimate of a rack of this shape: of cells, sensors, strings, or strings and horizons, by the shape it had."""
    changed: dict[str, Any] = {}
    for field in fields(was):
        value = getattr(was, field.name)
        if is_dataclass(value):
            changed[field.name] = estimate_of(value, random, cells, sensors)
        elif isinstance(value, np.ndarray):
            last = sensors if field.name.startswith("sensor_") else cells[2]
            shape = (*cells[:2], last) if value.ndim == 3 else (cells[0], *value.shape[1:])
            changed[field.name] = random.random(shape) if value.dtype.kind == "f" else np.zeros(shape, value.dtype)
    return replace(was, **changed)


def mixed(strings: int, modules: int, cells: int, sensors: int) -> Published:
    """A record of this shape in which every cell is another and some are unknown."""
    found = record(strings=1, modules=1)
    shape, random = (strings, modules), np.random.default_rng(7)
    built = {}
    for name in ("modules", "units"):
        part = getattr(found.snapshot, name)
        changes = {}
        for field in part.__dataclass_fields__:
            was = getattr(part, field)
            changes[field] = np.resize(was, strings_of(was.shape, strings, modules, cells, sensors))
        built[name] = replace(part, **changes)
    cell_v = random.uniform(2.0, 4.5, (*shape, cells))
    cell_v[random.random(cell_v.shape) < 0.1] = np.nan
    degc = random.uniform(-30.0, 70.0, (*shape, sensors))
    built["modules"] = replace(
        built["modules"], cell_v=cell_v, temperature_degc=degc, balancing=random.random(cell_v.shape) < 0.5
    )
    built["units"] = replace(built["units"], current_a=random.uniform(-200.0, 200.0, strings))
    estimate = estimate_of(found.estimate, random, (*shape, cells), sensors)
    command = replace(found.command, balance=random.random((*shape, cells)) < 0.5)
    return replace(
        found, sequence=123456789, snapshot=replace(found.snapshot, **built), estimate=estimate, command=command,
        strings=found.strings * strings,
    )  # fmt: skip


def strings_of(shape: tuple[int, ...], strings: int, modules: int, cells: int, sensors: int) -> tuple[int, ...]:
    """The shape of the like field in a rack of another size; the one it came from has 16 cells and 4 sensors."""
    sizes = {16: cells, 4: sensors}
    if len(shape) == 1:
        return (strings,)
    if shape == (1, 6):
        return (strings, 6)
    return (strings, modules, *(sizes[size] for size in shape[2:]))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_value_is_where_the_map_says(shape: tuple[int, int, int, int]) -> None:
    strings, modules, cells, sensors = shape
    found = mixed(*shape)
    image = Encoder(found).encode(found)
    expected: dict[str, float] = {**constants()}
    expected |= {name: np.nan if value is None else float(value) for name, value in values(found, SINGLE).items()}
    expected |= of_places(found, STRINGS, strings, 1, 1) | of_places(found, MODULES, strings * modules, cells, sensors)
    there = {point.name for point in listed(strings, strings * modules, cells, sensors)}
    for point in listed():
        value, wanted = read(image, point), expected.get(point.name, np.nan)
        if not np.isfinite(wanted):
            assert is_none(value, point), point.name
        else:
            assert point.name in there
            assert value == pytest.approx(wanted, rel=1e-6, abs=0.51 if point.type is not Type.FLOAT32 else 1e-6)


def of_places(found: Published, block: Block, places: int, cells: int, sensors: int) -> dict[str, float]:
    """Every value of a block, one by one, by the name of its point."""
    result = {}
    read_all = arrays(found, block)
    for column in block.columns:
        flat = np.asarray(read_all[column.name], dtype=float).reshape(places, -1)
        for place in range(places):
            for item in range(column.items(cells, sensors)):
                result[f"{block.name}_{place + 1}_{column.name.format(item + 1)}"] = float(flat[place, item])
    return result


def test_gaps_stay_gaps() -> None:
    found = mixed(8, 4, 24, 8)
    image = Encoder(found).encode(found)
    taken = {address for point in listed() for address in range(point.address, point.address + point.registers)}
    assert {image[2 * a : 2 * a + 2].hex() for a in range(MAP_REGISTERS) if a not in taken} == {"ffff"}


def test_a_record_with_more_than_fits_spoils_no_other_register() -> None:
    """No configuration has that; whatever sends it must not write a cell's voltage over its neighbour's."""
    large = mixed(2, 17, MAX_CELLS + 2, 8)
    image = Encoder(large).encode(large)
    assert len(image) == 2 * MAP_REGISTERS
    soc = {point.name: point for point in listed()}["module_1_cell_1_soc"]
    assert read(image, soc) == np.rint(large.estimate.cell_soc[0, 0, 0] * 1000)


def test_one_point_is_put_where_it_is() -> None:
    image = blank()
    point = {point.name: point for point in listed()}["power_setpoint"]
    put(image, point, -1)
    assert read(image, point) == -1
    put(image, point, None)
    assert image == blank()


def test_registers_of_a_type_are_known() -> None:
    assert {kind: struct.calcsize(FORMAT[kind]) // 2 for kind in Type} == REGISTERS
