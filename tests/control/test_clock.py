"""Wall time and its quality; a clock that is set is found out, a process that stood still is not taken for that."""

from __future__ import annotations

import pytest

from bmsd import clock
from bmsd.model.host import ClockQuality


class Hands:
    """Two clocks that a test moves."""

    def __init__(self) -> None:
        self.wall_s, self.monotonic_s = 1.8e9, 1000.0
        self.stands_still_s = 0.0

    def wall(self) -> float:
        self.pass_(self.stands_still_s)
        return self.wall_s

    def monotonic(self) -> float:
        return self.monotonic_s

    def pass_(self, seconds: float) -> None:
        self.wall_s += seconds
        self.monotonic_s += seconds


@pytest.mark.parametrize("step_s", [2.5, 7200.0, -7200.0, -1.8e9])
def test_a_step_is_told_once_with_its_size(step_s: float) -> None:
    hands = Hands()
    steps = clock.Steps(hands.wall, hands.monotonic)
    assert steps.step_s() == 0.0, "nothing to compare with"
    hands.pass_(0.1)
    assert steps.step_s() == pytest.approx(0.0)
    hands.pass_(0.1)
    hands.wall_s += step_s
    assert steps.step_s() == pytest.approx(step_s)
    hands.pass_(0.1)
    assert steps.step_s() == pytest.approx(0.0)


def test_a_process_that_stands_still_between_two_looks_sees_no_step() -> None:
    hands = Hands()
    steps = clock.Steps(hands.wall, hands.monotonic)
    steps.step_s()
    hands.pass_(30.0)
    assert steps.step_s() == pytest.approx(0.0)
    hands.stands_still_s = 5.0
    assert steps.step_s() == 0.0
    hands.stands_still_s = 0.0
    assert steps.step_s() == pytest.approx(0.0)


@pytest.mark.parametrize("utc_s", [0.0, 12.5, clock.EARLIEST_UTC_S - 1.0, float("nan")])
def test_a_clock_from_before_this_bmsd_was_never_set(utc_s: float) -> None:
    assert clock.utc(lambda: utc_s) == (None, ClockQuality.UNSET)


def test_a_later_one_is_time_with_what_the_computer_says_of_it() -> None:
    utc_s, quality = clock.utc(lambda: clock.EARLIEST_UTC_S)
    assert utc_s == clock.EARLIEST_UTC_S
    assert quality is clock.disciplined() is not ClockQuality.UNSET


def test_where_the_kernel_may_not_be_asked_timesyncd_is(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Refuses:
        @staticmethod
        def adjtimex(_: object) -> int:
            return -1

    monkeypatch.setattr(clock, "_libc", Refuses)
    monkeypatch.setattr(clock, "TIMESYNC", str(tmp_path / "timesync"))
    assert clock.disciplined() is ClockQuality.UNKNOWN
    (tmp_path / "timesync").mkdir()
    assert clock.disciplined() is ClockQuality.UNSYNCHRONISED
    (tmp_path / "timesync/synchronized").touch()
    assert clock.disciplined() is ClockQuality.SYNCHRONISED


def test_a_step_is_told_in_words_with_the_old_time_and_the_new_one() -> None:
    text = clock.step_text(-3600.0, wall=lambda: 1_800_000_000.0)
    assert text == "the wall clock was set from 2027-01-15T09:00:00.000Z to 2027-01-15T08:00:00.000Z, by -3600.0 s"
