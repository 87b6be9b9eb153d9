from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from bmsd.fieldbus.poller import SLOW_ROTATION, Poller, Sync
from bmsd.model.frame import Frame
from bmsd.model.layout import Layout
from bmsd.model.plant import Timing
from bmsd.sim.packing import unpack

LAYOUT = Layout(strings=1, modules=2, cells=16, sensors=4)


def poller(poll_s: float = 0.2, phases: int = 4) -> Poller:
    return Poller(Timing(tick_s=0.1, poll_s=poll_s, current_phases=phases), LAYOUT)


def run(asked: Poller, until_s: float, start_s: float = 0.0, late_s: float = 0.0) -> list[tuple[float, Sync]]:
    """Step the poller whenever it is due, always late by the same time."""
    asked.step(start_s)
    assert asked.sync
    sent = [(start_s, asked.sync)]
    while asked.due_s + late_s < until_s:
        now_s = asked.due_s + late_s
        asked.step(now_s)
        if asked.sync:
            sent.append((now_s, asked.sync))
    return sent


def said(frame: Frame) -> tuple[str, dict[str, int]]:
    received = unpack(frame)
    assert received
    return received.name, dict(received.signals)


def test_a_poll_has_four_syncs_50_ms_apart() -> None:
    sent = run(poller(), 100.41, start_s=100.0)
    assert [round(at_s, 6) for at_s, _ in sent] == [100.0, 100.05, 100.1, 100.15, 100.2, 100.25, 100.3, 100.35, 100.4]
    assert [sync.phase for _, sync in sent] == [0, 1, 2, 3, 0, 1, 2, 3, 0]
    first, second, third = (sent[k][1].number for k in (0, 4, 8))
    assert [sync.number for _, sync in sent] == [first] * 4 + [second] * 4 + [third]
    assert first != second != third
    assert all(sync.at_s == at_s for at_s, sync in sent)


def test_the_frame_on_the_bus_says_the_same() -> None:
    asked = poller()
    frames = asked.step(5.0)
    assert len(frames) == 1
    name, signals = said(frames[0])
    assert name == "Sync"
    assert (signals["Number"], signals["Phase"], signals["SlowGroup"], signals["PollPeriod"]) == (0, 0, 1, 20)


def test_slow_groups_rotate_over_five_polls() -> None:
    groups = [sync.slow_group for _, sync in run(poller(), 2.0) if sync.phase == 0]
    assert groups[:10] == list(SLOW_ROTATION) * 2


def numbers(polls: int) -> list[int]:
    """Numbers of so many polls, the poller stepped once for each."""
    return [sync.number for _, sync in run(poller(phases=1), 0.2 * polls - 0.1)]


def test_the_number_goes_up_by_one_or_two_modulo_256() -> None:
    said = numbers(1000)
    assert len(said) == 1000
    assert {(after - before) % 256 for before, after in pairwise(said)} == {1, 2}


def test_what_nodes_echo_of_the_number_does_not_come_back_within_7_polls() -> None:
    said = numbers(70_000)
    for lag in range(1, 8):
        assert not any(before % 16 == after % 16 for before, after in zip(said, said[lag:], strict=False)), lag


def test_whatever_is_held_back_for_a_fixed_time_mostly_has_the_wrong_counter() -> None:
    said = np.array(numbers(3000)) % 16
    for lag in range(1, 1500):
        fits = said[lag:] == said[:-lag]
        assert fits.mean() < 0.25, lag


def test_before_its_time_nothing_is_sent() -> None:
    asked = poller()
    asked.step(0.0)
    assert asked.step(0.049) == []
    assert asked.sync is None
    assert len(asked.step(0.05)) == 1


def test_a_phase_of_a_poll_whose_start_was_missed_has_the_number_of_no_poll_before() -> None:
    asked = poller()
    asked.step(0.0)
    asked.step(0.31)
    assert asked.sync
    assert asked.sync.phase == 2
    assert asked.sync.number != 0


def test_lateness_does_not_add_up() -> None:
    sent = run(poller(), 10.0, late_s=0.01)
    assert [at_s for at_s, sync in sent if sync.phase == 0][40] == pytest.approx(8.01)


def test_a_stall_is_skipped_and_no_burst_follows() -> None:
    asked = poller()
    asked.step(0.0)
    asked.step(1.0)
    assert asked.sync
    assert (asked.sync.phase, asked.sync.slow_group, asked.sync.at_s) == (0, 1, 1.0)
    assert asked.sync.number != 0
    assert asked.step(1.0) == []
    assert asked.due_s == pytest.approx(1.05)


@pytest.mark.parametrize("late_s", [0.0, 0.01, 0.024, 0.026, 0.04, 0.049])
def test_two_syncs_are_never_closer_than_half_a_period(late_s: float) -> None:
    asked = poller()
    asked.step(0.0)
    at_s = [0.0]
    for k in range(1, 200):
        now_s = max(asked.due_s, 0.0) + (late_s if k % 3 == 0 else 0.0)
        asked.step(now_s)
        if asked.sync:
            at_s.append(now_s)
    assert min(b - a for a, b in pairwise(at_s)) > 0.0249


def test_a_late_phase_3_gives_way_to_the_next_poll() -> None:
    asked = poller()
    asked.step(0.1)
    asked.step(0.2)
    assert asked.step(0.29) == []
    asked.step(asked.due_s)
    assert asked.sync
    assert asked.sync.phase == 0
    assert asked.sync.number != 0


def test_one_phase_per_poll_works() -> None:
    sent = run(poller(phases=1), 1.0)
    assert [sync.phase for _, sync in sent] == [0] * 5
    assert len({sync.number for _, sync in sent}) == 5


@pytest.mark.parametrize("timing", [Timing(0.1, 0.2, 0), Timing(0.1, 0.2, 5), Timing(0.1, 0.2, 4, slow_groups=4)])
def test_what_the_protocol_cannot_say_is_refused(timing: Timing) -> None:
    with pytest.raises(ValueError, match="not"):
        Poller(timing, LAYOUT)


def requests(asked: Poller, until_s: float, unidentified: tuple[int, ...]) -> list[tuple[float, int]]:
    found = []
    now_s = max(asked.due_s, 0.0)
    while now_s < until_s:
        for frame in asked.step(now_s, unidentified):
            name, signals = said(frame)
            if name == "IdentifyRequest":
                found.append((round(now_s, 3), signals["Target"]))
        now_s = asked.due_s
    return found


def test_nobody_is_asked_who_they_are_when_all_are_known() -> None:
    assert requests(poller(), 5.0, ()) == []


def test_all_are_asked_once_a_second_and_now_and_then_those_without_an_address() -> None:
    found = requests(poller(), 5.5, (1, 2, 65))
    assert found == [(0.1, 0), (1.1, 0), (2.1, 0), (3.1, 0), (4.1, 126), (5.1, 0)]


def test_a_single_unknown_node_is_asked_by_its_address() -> None:
    assert requests(poller(), 1.0, (2,)) == [(0.1, 2)]


def test_an_address_that_is_not_of_this_rack_is_not_asked() -> None:
    assert requests(poller(), 1.0, (99,)) == []
