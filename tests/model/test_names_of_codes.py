"""Codes that the model names are those of the slave protocol."""

from __future__ import annotations

from bmsd.codec.dbc import choices, load
from bmsd.model.snapshot import BOARD_TYPES, CHEMISTRIES, OPEN_REASONS, TRIP_CODES, named


def test_the_names_of_codes_are_those_of_the_protocol() -> None:
    database = load("slave", 7)
    for message, signal, names in (
        ("Trip", "TripCode", TRIP_CODES),
        ("ContactorState", "TripCode", TRIP_CODES),
        ("ContactorState", "OpenReason", OPEN_REASONS),
        ("IdentityVersion", "BoardType", BOARD_TYPES),
        ("IdentityVersion", "Chemistry", CHEMISTRIES),
    ):
        known = {code: name for name, code in choices(database, message, signal).items()}
        assert known == {code: name.replace(" ", "_") for code, name in enumerate(names)}


def test_a_code_without_a_name_is_shown_as_it_is() -> None:
    assert named(99, TRIP_CODES) == "code 99"
    assert named(-1, OPEN_REASONS) == "code -1"
