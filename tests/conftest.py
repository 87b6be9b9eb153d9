"""What holds for all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# A slow machine is no failure. In continuous integration the examples are always the same: a red build is red again.
settings.register_profile("here", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") == "true" else "here")

HERE = Path(__file__).parent
GUESTS = ("vcan", "systemd")
WITH_A_CLOCK = ("cli", "control", "deploy", "gateway", "image", "integration", "link", "systemd", "vcan")
"""Folders with processes or time-outs: these tests have the computer to themselves."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """First what needs no clock, while guests work; then what those report; last what must not be disturbed."""
    items.sort(key=_turn)


def _turn(item: pytest.Item) -> int:
    for turn, marker in enumerate(GUESTS, start=1):
        if item.get_closest_marker(marker):
            return turn
    with_a_clock = item.path.relative_to(HERE).parts[0] in WITH_A_CLOCK
    return len(GUESTS) + 1 if with_a_clock else 0
