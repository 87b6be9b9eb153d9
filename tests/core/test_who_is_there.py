"""Boards that are not those of the plant: twice there, of another kind, swapped; and a second master."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bmsd.core import memory
from bmsd.core.commissioning import FIRST_START_S, NOBODY
from bmsd.core.memory import Memory
from bmsd.core.protection.protect import Protections
from bmsd.core.tick import Outcome
from bmsd.model.request import Reset, Role
from bmsd.model.snapshot import BOARD_TYPES, CHEMISTRIES
from tests import rack

PLANT = rack.plant(strings=2, modules=2)
CLOSED = rack.closed(PLANT)
UIDS = np.array([[1001, 1002], [1003, 1004]])
ACCEPT = Reset("MOD-008", Role.SERVICE, "board of module 2 replaced")


def with_one(values: np.ndarray, value: int) -> np.ndarray:
    """These values with another one for module 2 of string 1."""
    changed = np.array(values)
    changed[0, 1] = value
    return changed


def odd(name: str, value: int) -> dict[str, Any]:
    """A running rack in which module 2 of string 1 has this value."""
    healthy = getattr(rack.snapshot(PLANT, 100.0).modules, name)
    return {**CLOSED, name: with_one(healthy, value)}


def amps(outcome: Outcome) -> tuple[float, float]:
    return outcome.command.ccl_a, outcome.command.dcl_a


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("cell_count", 15, "CEL-020"),
        ("cell_count", 17, "CEL-020"),
        ("cell_count", 0, "CEL-020"),
        ("board_type", BOARD_TYPES.index("contactor unit"), "MOD-004"),
        ("board_type", 0, "MOD-004"),
        ("board_type", 77, "MOD-004"),
        ("chemistry", CHEMISTRIES.index("nmc"), "MOD-004"),
        ("chemistry", CHEMISTRIES.index("unknown"), "MOD-004"),
    ],
)
def test_a_board_of_another_kind_stops_the_rack_at_once_and_opens_its_string_after_5_s(
    name: str, value: int, code: str
) -> None:
    drive, found = rack.running(PLANT), odd(name, value)
    outcome = drive.tick(**found)
    assert rack.codes(outcome) == {code}
    assert amps(outcome) == (0.0, 0.0)
    assert (outcome.faults[0].string, outcome.faults[0].module) == (1, 2)
    assert rack.states(drive.run(4.8, **found)[-1]) == ["closed", "closed"]
    assert rack.states(drive.run(0.5, **found)[-1])[1] == "closed"
    assert rack.states(drive.tick(**found))[0] != "closed"


@pytest.mark.parametrize("name", ["cell_count", "board_type", "chemistry", "uid"])
def test_what_a_board_has_not_said_is_no_fault(name: str) -> None:
    drive, unsaid = rack.running(PLANT), odd(name, -1)
    if name == "chemistry":
        unsaid |= odd("board_type", -1)
    assert not drive.run(1.0, **unsaid)[-1].faults


def test_a_board_of_another_kind_waits_for_service_also_when_it_is_gone() -> None:
    drive, apart = rack.running(PLANT), rack.apart(PLANT, 0)
    drive.run(0.3, **odd("chemistry", CHEMISTRIES.index("lto")))
    outcome = rack.obeying(drive, 60.0)[-1]
    assert rack.states(outcome) == ["open", "closed"]
    assert rack.codes(outcome) == {"MOD-004"}
    for refused in (Reset("MOD-004", Role.OPERATOR, "looked"), Reset("MOD-004", Role.SERVICE)):
        assert rack.codes(drive.tick(**apart, requests=(refused,))) == {"MOD-004"}
    assert not drive.tick(**apart, requests=(Reset("MOD-004", Role.SERVICE, "right board fitted"),)).faults


def test_one_sighting_of_a_second_board_is_not_enough_and_two_within_10_s_are() -> None:
    drive = rack.running(PLANT)
    assert not drive.run(0.5, **odd("duplicates", 1))[-1].faults
    drive.run(9.6, **odd("duplicates", 1))
    assert not drive.run(0.5, **odd("duplicates", 2))[-1].faults, "the first one is too long ago"
    outcome = drive.tick(**odd("duplicates", 3))
    assert rack.codes(outcome) == {"MOD-003"}
    assert amps(outcome) == (0.0, 0.0)


def test_a_count_that_starts_again_is_no_sighting() -> None:
    drive = rack.running(PLANT)
    drive.run(0.5, **odd("duplicates", 1))
    assert not drive.run(0.5, **CLOSED)[-1].faults


def test_one_frame_of_a_second_master_stops_the_rack_until_somebody_has_looked() -> None:
    drive = rack.running(PLANT)
    for bus in (0, 1):
        foreign = np.zeros(2, dtype=np.int64)
        foreign[bus] = 1
        outcome = drive.tick(**CLOSED, foreign_frames=foreign)
        assert rack.codes(outcome) == {"CAN-011"}
        assert outcome.faults[0].item == bus + 1
        assert amps(outcome) == (0.0, 0.0)
        assert rack.states(outcome) == ["closed", "closed"]
        assert rack.codes(drive.run(60.0, 1.0, **CLOSED, foreign_frames=foreign)[-1]) == {"CAN-011"}
        ask = Reset("CAN-011", Role.OPERATOR)
        assert not drive.tick(**CLOSED, foreign_frames=foreign, requests=(ask,)).faults
        drive.run(1.0, **CLOSED)


# the commissioned map


def first_start() -> rack.Drive:
    """A drive of a process that found no saved state."""
    drive = rack.Drive(PLANT)
    drive.memory = replace(drive.memory, commissioned=None)
    return drive


def test_boards_are_taken_over_when_all_were_seen_for_the_first_time_and_somebody_is_told() -> None:
    drive = first_start()
    drive.run(1.0, uid=with_one(UIDS, -1))
    assert drive.memory.commissioned is None
    outcome = drive.tick(uid=with_one(UIDS, 0))
    assert drive.memory.commissioned is None, "0 is no number"
    assert rack.codes(outcome) == set()
    outcome = drive.tick()
    np.testing.assert_array_equal(drive.memory.commissioned, UIDS)
    assert rack.codes(outcome) == {"MOD-015"}
    assert not outcome.command.warnings
    after, _ = restored(PLANT, drive.memory)
    again = rack.Drive(PLANT)
    again.memory = after
    assert rack.codes(again.run(60.0, 1.0)[-1]) >= {"MOD-015"}, "until service has looked"
    assert "MOD-015" in rack.codes(drive.tick(requests=(Reset("MOD-015", Role.OPERATOR, "no"),)))
    assert "MOD-015" not in rack.codes(drive.tick(requests=(ACCEPT,)))


def test_without_a_dead_board_the_others_are_taken_over_after_a_while_and_are_checked_from_then_on() -> None:
    drive, dead = first_start(), {**CLOSED, "uid": with_one(UIDS, -1)}
    drive.run(FIRST_START_S - 1.0, 1.0, **dead)
    assert drive.memory.commissioned is None
    outcome = drive.run(2.0, 1.0, **dead)[-1]
    assert rack.codes(outcome) == {"MOD-015"}
    np.testing.assert_array_equal(drive.memory.commissioned, with_one(UIDS, NOBODY))
    swapped = with_one(UIDS, -1)
    swapped[1] = swapped[1, ::-1]
    assert "MOD-008" in rack.codes(drive.tick(**CLOSED, uid=swapped))


def test_a_board_at_a_place_that_is_nobody_s_is_not_the_rack_s_before_service_accepts_it() -> None:
    drive, dead = first_start(), {**CLOSED, "uid": with_one(UIDS, -1)}
    drive.run(FIRST_START_S + 1.0, 1.0, **dead)
    drive.memory, _ = restored(PLANT, drive.memory)
    assert "MOD-008" not in rack.codes(drive.tick(**CLOSED, uid=with_one(UIDS, 0))), "it does not say who it is"
    outcome = drive.tick(**CLOSED)
    assert {fault.code: fault.count for fault in outcome.faults}["MOD-008"] == 1
    assert amps(outcome) == (0.0, 0.0)
    assert rack.codes(drive.tick(**CLOSED, requests=(ACCEPT,))) == set()
    np.testing.assert_array_equal(drive.memory.commissioned, UIDS)


def test_service_may_accept_the_boards_before_all_answer() -> None:
    drive = first_start()
    outcome = drive.tick(uid=with_one(UIDS, -1), requests=(ACCEPT,))
    assert rack.codes(outcome) == set()
    np.testing.assert_array_equal(drive.memory.commissioned, with_one(UIDS, NOBODY))


def test_boards_without_numbers_are_never_taken_over() -> None:
    drive = first_start()
    for uid in (-1, 0):
        assert rack.codes(drive.run(2.0 * FIRST_START_S, 1.0, **CLOSED, uid=uid)[-1]) == set()
    assert drive.memory.commissioned is None


def test_a_swapped_board_stops_the_rack_but_opens_nothing() -> None:
    drive = rack.running(PLANT)
    outcome = drive.run(20.0, 0.5, **odd("uid", 4711))[-1]
    assert rack.codes(outcome) == {"MOD-008"}
    assert amps(outcome) == (0.0, 0.0)
    assert rack.states(outcome) == ["closed", "closed"]


def test_a_board_without_a_number_is_not_the_one_that_was_commissioned() -> None:
    drive, nameless = rack.running(PLANT), odd("uid", 0)
    assert rack.codes(drive.tick(**nameless)) == {"MOD-008"}
    assert drive.tick(**nameless, requests=(ACCEPT,)).faults == ()
    assert rack.codes(drive.tick(**CLOSED)) == {"MOD-008"}, "nor is the other one the nameless one"


def test_two_boards_that_changed_places_are_both_named() -> None:
    (fault,) = rack.running(PLANT).tick(**CLOSED, uid=UIDS[:, ::-1]).faults
    assert (fault.code, fault.count) == ("MOD-008", 4)


def test_an_open_string_with_a_swapped_board_is_not_closed_before_it_is_accepted() -> None:
    drive, apart = rack.Drive(PLANT), rack.apart(PLANT, 0)
    drive.run(0.1, **apart)
    swapped = with_one(UIDS, 4711)
    assert rack.states(drive.run(10.0, **apart, uid=swapped)[-1]) == ["open", "closed"]
    assert drive.tick(**apart, uid=swapped, requests=(ACCEPT,)).faults == ()
    assert rack.states(drive.run(0.5, **apart, uid=swapped)[-1]) == ["closing_minus", "closed"]


def test_a_fault_that_bars_closing_ends_a_closing_that_has_begun() -> None:
    drive = rack.Drive(PLANT)
    assert rack.states(drive.run(0.5)[-1])[0] == "closing_minus"
    outcome = drive.tick(uid=with_one(UIDS, 4711))
    assert rack.states(outcome)[0] == "waiting"
    assert not outcome.command.close_minus[0]


@pytest.mark.parametrize(
    "refused",
    [
        Reset("MOD-008", Role.SERVICE),
        Reset("MOD-008", Role.OPERATOR, "board replaced"),
        Reset("all", Role.SERVICE, "tidied up"),
        Reset("MOD-003", Role.SERVICE, "board replaced"),
    ],
    ids=["no reason", "no service", "all", "another code"],
)
def test_only_a_reset_of_this_fault_by_service_with_a_reason_accepts_new_boards(refused: Reset) -> None:
    drive, swapped = rack.running(PLANT), odd("uid", 4711)
    drive.run(0.2, **swapped)
    assert rack.codes(drive.tick(**swapped, requests=(refused,))) == {"MOD-008"}
    np.testing.assert_array_equal(drive.memory.commissioned, UIDS)


def test_accepted_boards_are_the_commissioned_ones_and_unknown_ones_stay_what_they_were() -> None:
    drive, swapped = rack.running(PLANT), odd("uid", 4711)
    swapped["uid"][1, 1] = -1
    drive.run(0.2, **swapped)
    assert not drive.tick(**swapped, requests=(ACCEPT,)).faults
    np.testing.assert_array_equal(drive.memory.commissioned, [[1001, 4711], [1003, 1004]])
    assert rack.codes(drive.tick(**CLOSED)) == {"MOD-008"}, "now the old board is the wrong one"


def restored(rack_plant: Any, saved: Memory) -> tuple[Memory, list[str]]:
    protections = Protections.of(PLANT, 2)
    durable = memory.durable(protections, saved, 0.0)
    return memory.restore(rack_plant, Protections.of(rack_plant, 2), durable, 1.0)


def test_a_board_that_was_swapped_while_bmsd_was_off_is_found() -> None:
    before = rack.Drive(PLANT)
    before.run(0.2)
    drive = rack.Drive(PLANT)
    drive.memory, notes = restored(PLANT, before.memory)
    assert notes == []
    assert rack.codes(drive.tick(uid=with_one(UIDS, 4711))) == {"MOD-008"}


def test_saved_boards_of_another_layout_are_named_and_not_used() -> None:
    before = rack.Drive(PLANT)
    before.run(0.2)
    after, notes = restored(rack.plant(strings=2, modules=3), before.memory)
    assert after.commissioned is None
    assert "saved boards are of a rack of (2, 2), not (2, 3): not used" in notes
