"""What is written by name comes back; a value of another kind is refused, and its field is named."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from bmsd.codec import record
from bmsd.errors import FrameError
from bmsd.model.snapshot import Floats


@dataclass(frozen=True)
class Everything:
    name: str
    value: float | None = None
    count: int = 0
    volts: Floats | None = None
    cells: Floats = field(default_factory=lambda: np.zeros(2))
    table: dict[str, int] = field(default_factory=dict)
    on: bool = False


def test_what_is_written_comes_back_and_what_is_left_out_has_its_default() -> None:
    given = Everything("x", 1.5, 3, np.array([1.0]), np.array([np.nan]), {"a": 1}, True)
    found = record.decode(record.encode(given), Everything)
    assert (found.name, found.value, found.count, found.table, found.on) == ("x", 1.5, 3, {"a": 1}, True)
    np.testing.assert_array_equal(found.cells, given.cells)
    assert record.decode(record.encode({"name": "y", "later": 1}), Everything).value is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("name", 1), ("name", np.zeros(1)), ("value", "1"), ("value", True), ("value", np.zeros(1)), ("value", [1.0]),
        ("count", 1.0), ("count", np.zeros(1)), ("volts", 1.0), ("cells", None), ("cells", [1.0]), ("cells", "volts"),
        ("table", [1]), ("table", {"a": "b"}), ("table", {1: 1}), ("table", np.zeros(1)), ("on", 1),
        ("on", np.zeros(1)),
    ],
)  # fmt: skip
def test_a_value_of_another_kind_is_refused(name: str, value: Any) -> None:
    with pytest.raises(FrameError, match=rf"Everything\.{name}"):
        record.decode(record.encode({"name": "x"} | {name: value}), Everything)
