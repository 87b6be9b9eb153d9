"""Sentences as labels of metrics: why no more may flow, what is wrong where, what is missing.

Every other text is another series for ever. So numbers are left out, and so is who asked: there are as many texts as
rows of the catalogue, causes and nodes, not as many as moments.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from bmsd.model.bound import Bound
from bmsd.model.fault import place
from bmsd.model.published import Hello, Published

Samples = Iterable[tuple[tuple[object, ...], float]]
"""(label values, value); a value that is not a number has no series."""

LEASED = {"power": "power set-point", "reserve": "reserve"}
"""Bounds by source whose reason names who asked."""
_NUMBER = re.compile(r"(?<![\w-])\d+(\.\d+)?")


def without_numbers(text: str) -> str:
    """Return the text with every number as an ellipsis; the codes of faults stay."""
    return _NUMBER.sub("…", text)


def bounds(published: Published, _hello: Hello) -> Samples:
    """All bounds by direction, source, string and reason, the tightest of those that are called alike."""
    found: dict[tuple[object, ...], float] = {}
    for direction, _, given in _directions(published):
        for bound in given:
            labels = (direction, *_words(bound))
            found[labels] = min(bound.amps, found.get(labels, bound.amps))
    return found.items()


def binding(published: Published, _hello: Hello) -> Samples:
    """What binds each direction: the tightest bound, unless less was sent than that allows."""
    for direction, sent_a, given in _directions(published):
        if given and sent_a >= given[0].amps:
            yield (direction, *_words(given[0])), 1.0
        elif published.vetoes:
            yield (direction, "guard", "", "taken back by the guard"), 1.0
        else:
            yield (direction, "unknown", "", "the data are not fresh"), 1.0


def _directions(published: Published) -> Iterator[tuple[str, float, Sequence[Bound]]]:
    """Each direction with the limit that was sent, and its bounds."""
    yield "charge", published.command.ccl_a, published.charge_bounds
    yield "discharge", published.command.dcl_a, published.discharge_bounds


def _words(bound: Bound) -> tuple[object, ...]:
    string = "" if bound.string is None else bound.string + 1
    return bound.source, string, LEASED.get(bound.source) or without_numbers(bound.reason)


def faults(published: Published, _hello: Hello) -> Samples:
    """The faults that are raised, each with the place of its worst subject and for how long, s."""
    return [
        ((fault.code, fault.level.name.lower(), fault.name.replace("_", " "), place(fault)), fault.since_s)
        for fault in published.faults
    ]


def waiting(published: Published, _hello: Hello) -> Samples:
    """Why strings are not closed."""
    return [
        ((index + 1, without_numbers(string.reason)), 1.0)
        for index, string in enumerate(published.strings)
        if string.reason
    ]


def missing(published: Published, _hello: Hello) -> Samples:
    """What is not there: a bus, a board, a contactor unit."""
    return [((what,), 1.0) for what in dict.fromkeys(text.partition(": ")[0] for text in published.missing)]
