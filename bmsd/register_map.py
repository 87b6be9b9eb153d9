"""The register map as people and programs read it: the table of `bmsd points`, CSV, HTML, JSON, pages of the manual."""

from __future__ import annotations

import csv
import html
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from bmsd.errors import ConfigError
from bmsd.model.layout import MAX_CELLS, MAX_MODULES, MAX_SENSORS, MAX_STRINGS
from bmsd.model.point import Block, Point
from bmsd.model.points import (
    CONTROLS,
    FAULTS,
    MAP_VERSION,
    MODULES,
    POINTS,
    STATUS,
    STRINGS,
    listed,
    map_hash,
)  # fmt: skip

FIRST_HOLDING, FIRST_INPUT = 40001, 30001
FIELDS = (
    "name", "unit", "address", "hex", "holding", "input", "registers", "type", "writable", "low", "high", "meaning",
)  # fmt: skip
SINGLE = {
    "Map and record": STATUS,
    "Rack": POINTS,
    "What may be written": CONTROLS,
    "Faults": FAULTS,
}
BLOCKS = {"Strings": STRINGS, "Modules": MODULES}

Row = dict[str, str | int | bool | None]
Size = tuple[int, int, int, int]
"""Strings, modules of all of them, cells and sensors of each module."""


def show(config: Path | None, forms: Mapping[str, bool]) -> Iterator[str]:
    """Yield the lines of the table, or the text of the form that is wanted. ConfigError for more than one."""
    wanted = [name for name, on in forms.items() if on]
    if len(wanted) > 1:
        raise ConfigError([f"--{' --'.join(wanted)}: expected one of them"])
    size = size_of(config)
    if wanted:
        yield {"csv": as_csv, "html": as_html, "json": as_json}[wanted[0]](listed(*size)).rstrip("\n")
    else:
        yield from table(size)


def size_of(config: Path | None) -> Size:
    """Return the size of the largest rack, or of that of a configuration. ConfigError when that is wrong."""
    if config is None:
        return MAX_STRINGS, MAX_MODULES, MAX_CELLS, MAX_SENSORS
    from bmsd.config.load import load

    layout = load(config).layout
    modules = layout.strings * layout.modules_per_string
    return layout.strings, modules, layout.cells_per_module, layout.sensors_per_module


def row(point: Point) -> Row:
    """Return what there is to say of a point, in the order of `FIELDS`."""
    return {
        "name": point.name,
        "unit": point.unit,
        "address": point.address,
        "hex": f"0x{point.address:04X}",
        "holding": FIRST_HOLDING + point.address,
        "input": FIRST_INPUT + point.address,
        "registers": point.registers,
        "type": point.type.value,
        "writable": point.writable,
        "low": point.low if point.writable else None,
        "high": point.high if point.writable else None,
        "meaning": point.meaning,
    }


def as_csv(of: Iterable[Point]) -> str:
    """Return a line for each point under a line of names."""
    text = io.StringIO()
    writer = csv.DictWriter(text, FIELDS, lineterminator="\n")
    writer.writeheader()
    for point in of:
        writer.writerow({**row(point), "writable": _yes(point.writable)})
    return text.getvalue()


def as_json(of: Iterable[Point]) -> str:
    """Return a list of objects."""
    return json.dumps([row(point) for point in of], indent=1) + "\n"


def as_html(of: Iterable[Point]) -> str:
    """Return a page."""
    head = "".join(f"<th>{name}</th>" for name in FIELDS)
    body = "\n".join(f"<tr>{''.join(_cell(value) for value in row(point).values())}</tr>" for point in of)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<meta charset="utf-8">\n<title>bmsd Modbus map</title>\n'
        "<style>body{font-family:sans-serif}td,th{padding:0 .6em;text-align:left}"
        "tr:nth-child(even){background:#eee}</style>\n"
        f"<h1>bmsd Modbus map</h1>\n<p>{html.escape(_version())} {html.escape(' '.join(CONVENTIONS))}</p>\n"
        f"<table>\n<tr>{head}</tr>\n{body}\n</table>\n</html>\n"
    )


def _cell(value: str | int | bool | None) -> str:
    text = "" if value is None else _yes(value) if isinstance(value, bool) else str(value)
    return f"<td>{html.escape(text)}</td>"


def _yes(value: bool) -> str:
    return "yes" if value else "no"


CONVENTIONS = (
    "The address counts from 0, as on the wire; 4xxxx and 3xxxx are the same counted from 1.",
    "Function 3 and 4 read the same. Big-endian, high word first.",
    "Not known, not there: 0xFFFF, 0x8000, 0xFFFFFFFF, 0x80000000, NaN.",
)


def _version() -> str:
    return f"Version {MAP_VERSION}, hash 0x{map_hash():08X}."


def table(size: Size) -> Iterator[str]:
    """Yield the lines of the map for a terminal, places that are alike once."""
    yield from (_version(), *CONVENTIONS)
    for title, of in SINGLE.items():
        yield ""
        yield title
        for point in of:
            yield _line(str(point.address), point.name, point)
    for (title, block), places in zip(BLOCKS.items(), size[:2], strict=True):
        yield ""
        yield f"{title}: n is 1..{places}; add {block.stride} (n - 1)"
        for name, address, point in _of_one_place(block, size):
            yield _line(address, name, point)


def _line(address: str, name: str, point: Point) -> str:
    write = "w" if point.writable else " "
    start = f"{address:>9} {FIRST_HOLDING + point.address} {point.type:8} {write} {point.unit:8}"
    return f"{start} {name:30} {point.meaning}"


def _of_one_place(block: Block, size: Size) -> Iterator[tuple[str, str, Point]]:
    """Each column of a block: its name for any place, its addresses in the first, its first point."""
    found = {point.name: point for point in block.points(1)}
    for column in block.columns:
        point = found[f"{block.name}_1_{column.name.format(1)}"]
        last = point.address + column.items(*size[2:]) * point.registers - 1
        address = str(point.address) if column.per == "place" else f"{point.address}-{last}"
        of_any = replace(point, meaning=column.meaning.format("m"))
        yield f"{block.name}_n_{column.name.format('m')}", address, of_any


PAGE = """\
# Modbus map

{version} Printed from the program by `python -m bmsd.manual .`; [modbus.md](modbus.md) says how to use it. Every
register one by one is in [modbus-map.csv](modbus-map.csv). `bmsd points` prints this page for a terminal; `--csv`,
`--html` and `--json` export every register, with `-c FILE` only those of that rack.

* **Address** counts from 0, as on the wire. Add 40001 for the holding register's number (function 3), 30001 for the
  input register's (function 4): both read the same.
* Big-endian, high word first.
* Not known, not there, no such place: 0xFFFF (uint16), 0x8000 (int16), 0xFFFFFFFF (uint32), 0x80000000 (int32), NaN
  (float32, 0x7FC00000). Registers without a point read 0xFFFF.
"""


def page() -> Iterator[str]:
    """Yield the lines of docs/modbus-map.md."""
    yield PAGE.format(version=_version())
    for title, of in SINGLE.items():
        yield f"## {title}"
        yield from _rows((point.name, str(point.address), point) for point in of)
    for title, block in BLOCKS.items():
        yield f"## {title}"
        yield f"n is 1..{block.most}. Addresses are those of {block.name} 1; add {block.stride} (n - 1) for the others."
        if block is MODULES:
            yield "Modules are counted along the strings: the second of string 2 with 4 modules each is module 6."
        yield from _rows(_of_one_place(block, size_of(None)))


def _rows(of: Iterable[tuple[str, str, Point]]) -> Iterator[str]:
    yield ""
    yield "| address | name | type | unit | meaning |"
    yield "|---|---|---|---|---|"
    for name, address, point in of:
        limits = f" {point.low}..{point.high}." if point.writable and point.low != point.high else ""
        yield f"| {address} | `{name}` | {point.type} | {point.unit} | {point.meaning}{limits} |"
    yield ""


def moved(committed: str) -> list[str]:
    """Return what differs from a map in CSV that somebody may use: rows may be added, never changed."""
    now = {point.name: point for point in listed()}
    wrong = []
    for line in csv.DictReader(io.StringIO(committed)):
        name, was = line["name"], (line["address"], line["type"], line["unit"])
        point = now.get(name)
        new = None if point is None else (str(point.address), point.type.value, point.unit)
        if new != was:
            wrong.append(f"{name}: was {' '.join(was)}; is {'gone' if new is None else ' '.join(new)}")
    return wrong
