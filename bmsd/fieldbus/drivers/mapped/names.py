"""Names with places: `Module_{module}_Cells_{block}` is one name for each module and block."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import NamedTuple

from bmsd.model.board_map import Quantity, Source
from bmsd.model.layout import Layout

ITEMS = {Quantity.CELL_V: "cell", Quantity.TEMPERATURE_DEGC: "sensor"}
"""What a module has several of."""
OF_STRINGS = (Quantity.CURRENT_A, Quantity.STRING_V, Quantity.CONTACTORS)
_PLACE = re.compile(r"\{([^{}:]*)(?::(0?)(\d{1,2})d?)?\}")


class Target(NamedTuple):
    """One value of the rack: its place in the array of its quantity, what it is called, and its numbers."""

    place: int
    name: str
    position: int
    """Which of the source's items it is, from 0."""
    repeat: int
    """Boards (or strings) before its own: how often `id_step` is added."""
    numbers: Mapping[str, int]


def count(quantity: Quantity, layout: Layout) -> int:
    """Return how many values of this quantity a rack has."""
    items = {Quantity.CELL_V: layout.cells, Quantity.TEMPERATURE_DEGC: layout.sensors}
    per_string = 1 if quantity in OF_STRINGS else layout.modules * items.get(quantity, 1)
    return layout.strings * per_string


def targets(source: Source, layout: Layout) -> Iterator[Target]:
    """Yield everything that a source measures."""
    for string in source.strings or range(1, layout.strings + 1):
        if source.quantity in OF_STRINGS:
            numbers = _with_twins({"string": string})
            yield Target(string - 1, f"string {string}", 0, string - 1, numbers)
            continue
        for module in source.modules or range(1, layout.modules + 1):
            yield from _of_module(source, layout, string, module)


def _of_module(source: Source, layout: Layout, string: int, module: int) -> Iterator[Target]:
    board = (string - 1) * layout.modules + module
    numbers = {"string": string, "module": module, "board": board}
    where = f"module {module} of string {string}"
    if source.quantity not in ITEMS:
        yield Target(board - 1, where, 0, board - 1, _with_twins(numbers))
        return
    word = ITEMS[source.quantity]
    most = layout.cells if word == "cell" else layout.sensors
    for position, item in enumerate(source.items or range(1, most + 1)):
        along = (module - 1) * most + item
        more = {word: item, f"string_{word}": along}
        if source.per_message:
            more |= {"block": -(-item // source.per_message), "string_block": -(-along // source.per_message)}
        place = (board - 1) * most + item - 1
        yield Target(place, f"{word} {item} of {where}", position, board - 1, _with_twins(numbers | more))


def _with_twins(numbers: Mapping[str, int]) -> dict[str, int]:
    """Each number also counted from 0: `cell0` beside `cell`."""
    return {**numbers, **{f"{name}0": number - 1 for name, number in numbers.items()}}


class PlaceError(Exception):
    """A name has a place that nothing can fill."""


def expand(pattern: str, numbers: Mapping[str, int]) -> str:
    """Return the name with its places filled; raises PlaceError with what is wrong."""

    def fill(place: re.Match[str]) -> str:
        name, zero, width = place.groups()
        if name not in numbers:
            hint = "; {block} needs per_message" if "block" in name else close(name, numbers)
            raise PlaceError(f"no place {place[0]}{hint}")
        return f"{numbers[name]:{zero or ''}{width or ''}d}"

    name = _PLACE.sub(fill, pattern)
    if "{" in name or "}" in name:
        raise PlaceError(f"{pattern}: expected places such as {{cell}} or {{cell:02d}}")
    return name


def close(word: str, known: Iterable[str]) -> str:
    """`; did you mean ...?`, or some of what is known."""
    names = list(known)
    found = get_close_matches(word, names, n=1, cutoff=0.6)
    if found:
        return f"; did you mean {found[0]}?"
    shown = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
    return f"; known: {shown}" if names else ""
