"""How earlier processes ended, across restarts of bmsd and of the computer, with no wall clock that helps."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bmsd.core import memory
from bmsd.core.memory import Memory
from bmsd.core.protection.protect import Protections
from bmsd.core.starts import Began, starts
from bmsd.core.tick import Outcome, tick
from bmsd.model.durable import Durable
from bmsd.model.host import PreviousEnd
from bmsd.model.request import Reset, Role
from tests import rack

PLANT = rack.plant()
PROTECTIONS = Protections.of(PLANT, 2)


class Computer:
    """Processes that follow one another on one computer; each finds the state of the one before."""

    def __init__(self) -> None:
        self.boot, self.now_s = 1, 20.0
        self.saved: Durable | None = None
        self.memory = memory.start(PLANT, PROTECTIONS)

    def start(self, *, by_watchdog: bool = False, knows_boot: bool = True) -> Computer:
        began = Began(f"boot {self.boot}" if knows_boot else "", self.now_s, by_watchdog)
        if self.saved is not None:
            self.memory, _ = memory.restore(PLANT, PROTECTIONS, self.saved, None, began)
        else:
            self.memory = replace(memory.start(PLANT, PROTECTIONS), starts=starts(None, began))
        return self

    def run(self, seconds: float, dt_s: float = 1.0, *requests: Reset) -> Outcome:
        outcome = None
        for _ in range(round(seconds / dt_s)):
            self.now_s += dt_s
            outcome = tick(PLANT, PROTECTIONS, self.memory, rack.snapshot(PLANT, self.now_s, requests=requests))
            self.memory = outcome.memory
        assert outcome is not None
        return outcome

    def save(self, *, running: bool = True) -> Memory:
        self.saved = memory.durable(PROTECTIONS, self.memory, None, running=running)
        return self.memory

    def killed(self, after_s: float) -> Computer:
        """The process runs for so long, saves at its first tick only, and is killed."""
        self.run(1.0)
        self.save()
        self.now_s += after_s - 1.0
        return self

    def power_cut(self, up_s: float = 20.0) -> Computer:
        self.boot, self.now_s = self.boot + 1, up_s
        return self


def shown(outcome: Outcome) -> set[str]:
    return {code for code in rack.codes(outcome) if code.startswith("SYS")}


def test_the_first_start_and_one_after_an_end_in_order_are_nothing_to_tell() -> None:
    computer = Computer().start()
    assert shown(computer.run(2.0)) == set()
    computer.save(running=False)
    computer.start()
    assert computer.memory.starts.previous is PreviousEnd.IN_ORDER
    assert shown(computer.run(2.0)) == set()


def test_a_killed_process_is_told_for_a_minute() -> None:
    computer = Computer().start().killed(10.0).start()
    assert shown(computer.run(59.0)) == {"SYS-002"}
    assert shown(computer.run(3.0)) == set()


def test_a_power_cut_is_told_as_such_and_a_watchdog_that_resets_the_computer_as_that() -> None:
    assert shown(Computer().start().killed(10.0).power_cut().start().run(1.0)) == {"SYS-016"}
    assert shown(Computer().start().killed(10.0).power_cut().start(by_watchdog=True).run(1.0)) == {"SYS-002"}
    assert shown(Computer().start().killed(10.0).start(knows_boot=False).run(1.0)) == {"SYS-016"}, "nobody knows"


def test_the_third_within_an_hour_waits_for_somebody() -> None:
    computer = Computer().start()
    for _ in range(2):
        computer.killed(1000.0).start()
        assert shown(computer.run(62.0)) == set()
    computer.killed(1000.0).start()
    assert shown(computer.run(120.0)) == {"SYS-002"}
    assert shown(computer.run(1.0, 1.0, Reset("SYS-002", Role.OPERATOR))) == set()


def test_hours_apart_nothing_adds_up() -> None:
    computer = Computer().start()
    for _ in range(6):
        computer.killed(4000.0).start()
    assert shown(computer.run(62.0)) == set()
    assert len(computer.memory.starts.ages_s(computer.now_s)) == 1


@pytest.mark.parametrize("knows_boot", [True, False])
def test_five_within_five_minutes_are_a_loop_that_stops_the_rack_until_somebody_looks(knows_boot: bool) -> None:
    computer = Computer().start(knows_boot=knows_boot)
    for _ in range(4):
        computer.killed(60.0).start(knows_boot=knows_boot)
    assert "SYS-003" not in shown(computer.run(1.0))
    computer.killed(55.0).start(knows_boot=knows_boot)
    outcome = computer.run(1.0)
    assert "SYS-003" in shown(outcome)
    assert (outcome.command.ccl_a, outcome.command.dcl_a) == (0.0, 0.0)
    assert "SYS-003" in shown(computer.run(310.0, 10.0))
    assert "SYS-003" not in shown(computer.run(10.0, 10.0, Reset("SYS-003", Role.OPERATOR, "cable replaced")))


def test_slower_than_that_is_no_loop() -> None:
    computer = Computer().start()
    for _ in range(8):
        computer.killed(76.0).start()
    assert "SYS-003" not in shown(computer.run(1.0))


def test_a_loop_of_power_cuts_is_one_too_although_no_clock_tells_how_long_it_was_off() -> None:
    computer = Computer().start()
    for _ in range(5):
        computer.killed(10.0).power_cut().start()
    assert "SYS-003" in shown(computer.run(1.0))


def test_a_process_that_never_finished_a_tick_counts_as_well() -> None:
    computer = Computer().start()
    for _ in range(6):
        computer.save()
        computer.now_s += 5.0
        computer.start()
    assert "SYS-003" in shown(computer.run(1.0))


def test_starts_in_order_are_no_loop_however_many() -> None:
    computer = Computer().start()
    for _ in range(10):
        computer.run(1.0)
        computer.save(running=False)
        computer.start()
    assert shown(computer.run(1.0)) == set()
