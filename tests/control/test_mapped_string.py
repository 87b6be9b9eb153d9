"""A string whose contactors belong to boards of another maker: what the core makes of it, tick by tick."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bmsd.control.composition import checked
from bmsd.control.rack_io import RackIO
from bmsd.core.tick import Outcome
from bmsd.fieldbus.field import field
from bmsd.model.frame import EXTENDED_FLAG, RAW_FRAME
from bmsd.model.request import Reset, Role
from tests import rack
from tests.third_party_board import Boards

EXAMPLE = Path(__file__).parents[2] / "deploy" / "mapped-2x16s.toml"
OPEN, CLOSED = 0, 1


class Story:
    """The core of an accepted site over the example's boards, ten ticks and five rounds a second."""

    def __init__(self, *, accepted: bool = True) -> None:
        made = checked(EXAMPLE)
        quick = replace(made.plant.limits, rise_a_per_s_per_100a=1e6, hold_after_zero_s=1.0)
        plant = replace(made.plant, monitor_only=not accepted, limits=quick)
        self.boards, self.field = Boards(), field(plant, made.plan)
        self.drive = rack.Drive(plant, strange=True)
        self.silent = False

    def run(self, seconds: float, *requests: Reset) -> Outcome:
        """Return the last tick; requests come with the first."""
        for number in range(round(seconds * 10)):
            self.drive.now_s = now_s = round(self.drive.now_s + 0.1, 6)
            if number % 2 == 0 and not self.silent:
                for frame in self.field.questions(now_s):
                    self.field.asked(frame, now_s)
                rows = [
                    (f.can_id | (EXTENDED_FLAG if f.extended else 0), 8, 0, int.from_bytes(f.data, "little"))
                    for f in self.boards.frames()
                ]
                self.field.feed(np.array(rows, dtype=RAW_FRAME), now_s)
            blank = rack.snapshot(self.drive.plant, now_s, requests=requests if number == 0 else ())
            outcome = self.drive.take(
                replace(blank, modules=self.field.modules(now_s), units=self.field.units(now_s))
            )  # fmt: skip
        return outcome


def limits(outcome: Outcome) -> tuple[float, float]:
    return outcome.command.ccl_a, outcome.command.dcl_a


def test_an_adopted_string_gets_limits() -> None:
    outcome = Story().run(3.0)
    assert rack.states(outcome) == ["closed"]
    assert limits(outcome) == (140.0, 140.0)
    assert outcome.vetoes == ()


def test_a_monitored_one_is_told_zero() -> None:
    outcome = Story(accepted=False).run(3.0)
    assert rack.states(outcome) == ["closed"]
    assert limits(outcome) == (0.0, 0.0)


def test_silent_boards_mean_zero_at_once() -> None:
    story = Story()
    story.run(3.0)
    story.silent = True
    assert limits(story.run(0.5)) == (140.0, 140.0)
    assert limits(story.run(0.3)) == (0.0, 0.0)
    assert story.run(0.1).vetoes == ()


def test_a_string_that_should_open_and_cannot_be_opened_is_told_zero_until_service_has_released_it() -> None:
    story = Story()
    story.run(3.0)
    story.boards.cell_v[1][7] = 4.6
    outcome = story.run(1.0)
    assert "CEL-004" in rack.codes(outcome)
    assert limits(outcome) == (0.0, 0.0)
    assert "not open" in " ".join(bound.reason for bound in outcome.limits.charge)
    story.boards.cell_v[1][7] = 3.3
    assert limits(story.run(70.0)) == (0.0, 0.0)
    outcome = story.run(5.0, Reset("all", Role.SERVICE, "module exchanged"))
    assert rack.states(outcome) == ["closed"]
    assert limits(outcome) == (140.0, 140.0)


@pytest.mark.parametrize("seconds", [2.0, 300.0])
def test_what_their_own_boards_opened_has_no_limits_and_comes_back_when_they_close_it(seconds: float) -> None:
    story = Story()
    story.run(3.0)
    story.boards.contactors = OPEN
    outcome = story.run(seconds)
    assert limits(outcome) == (0.0, 0.0)
    assert rack.states(outcome) != ["locked"], "bmsd must not wear out contactors that it does not command"
    story.boards.contactors = CLOSED
    outcome = story.run(35.0)
    assert rack.states(outcome) == ["closed"]
    assert limits(outcome) == (140.0, 140.0)
    assert outcome.vetoes == ()


@pytest.mark.parametrize(("current_a", "ends"), [(30.0, False), (-2.0, False), (1.9, True), (np.nan, True)])
def test_a_process_that_stops_tells_zero_until_the_current_is_gone(current_a: float, ends: bool) -> None:
    made = checked(EXAMPLE)
    closed = rack.snapshot(made.plant, 100.0, **rack.closed(made.plant), current_a=current_a)
    assert RackIO(made).may_end(closed) is ends
