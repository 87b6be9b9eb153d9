"""Where a fault is, in the words of the person who goes there."""

from __future__ import annotations

import pytest

from bmsd.model.fault import Fault, place
from bmsd.model.row import Level


@pytest.mark.parametrize(
    ("code", "where", "count", "words"),
    [
        ("CEL-003", (1, 2, 5), 1, "string 1 module 2 cell 5"),
        ("TMP-003", (1, 2, 5), 4, "string 1 module 2 sensor 5 and 3 more"),
        ("MOD-001", (3, 1, None), 1, "string 3 module 1"),
        ("CUR-008", (2, None, None), 2, "string 2 and 1 more"),
        ("CAN-009", (None, None, 1), 1, "field bus"),
        ("CAN-009", (None, None, 2), 1, "inverter bus"),
        ("CAN-009", (None, None, 3), 1, "bus 3"),
        ("NEW-999", (1, 1, 4), 1, "string 1 module 1 number 4"),
        ("SYS-001", (None, None, None), 1, ""),
    ],
)
def test_a_place_is_named_by_what_is_there(
    code: str, where: tuple[int | None, int | None, int | None], count: int, words: str
) -> None:
    assert place(Fault(code, "name", Level.ALARM, *where, None, 0.0, count, latched=False)) == words
