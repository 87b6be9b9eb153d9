"""The real daemon from its first SYNC to its last frame, with simulated boards and an independent inverter side."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.vcan.processes import Running
from tests.vcan.slave_bus import UNIT, identifier, name_of, signals
from tests.vcan.stall import METER
from tests.vcan.whole_rack import (
    CLOSES_S,
    KEEP_ALIVE,
    SET,
    Talker,
    WholeRack,
    allows,
    limits,
    order,
    quick,
    rehearsal,
    room_s,
)  # fmt: skip
from tests.vcan.wire import Candump, Seen, cansend, gaps_s

pytestmark = pytest.mark.vcan

OF_BMSD = {"Sync", "IdentifyRequest", "Heartbeat", "ContactorCommand", "BalanceCommand", "TripReset"}
SYSTEM_ERROR = 0x08
"""Bit 3 of byte 1 of 0x359."""


def of_bmsd(frames: list[Seen]) -> list[Seen]:
    return [frame for frame in frames if name_of(frame) in OF_BMSD]


@dataclass
class Day:
    """What was on the wires from power-on to the end, and what was asked meanwhile."""

    scene: WholeRack
    asked: Mark
    status: dict[str, Any]
    stop_s: float
    exit_code: int
    gone_s: float


@dataclass
class Mark:
    """A moment: the wall clock, and how many frames there were."""

    at_s: float
    field: int


def woken(field: Candump) -> None:
    """Wait until the simulator answers: a program that starts hears nothing yet."""
    with Talker("vcan0") as other:
        for number in range(200):
            other.sync(number)
            if not field.silent_for(0.1) and field.of(identifier("Current", UNIT)):
                return
    pytest.fail("the simulator answers no SYNC")


def asked_by(daemon: Running, field: Candump) -> Mark:
    """Return the moment of the daemon's first SYNC."""
    before = field.count
    assert daemon.alive
    return Mark(field.wait_for(identifier("Sync"), within_s=20.0, after=before).at_s, before)


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Day:
    """The boards wake 1.5 s after the daemon's first SYNC; current flows; SIGTERM. One boot for several tests."""
    rack = quick(tmp_path_factory.mktemp("day"))
    boards_sleep = {"kind": "silent_board"}
    with rehearsal(rack, boards_sleep) as (boards, mishaps), Candump("vcan0") as field, Candump("vcan1") as inverter:
        woken(field)
        with rack.daemon(executed=True) as daemon:
            asked = asked_by(daemon, field)
            scene = WholeRack(rack, field, inverter, daemon, boards, mishaps)
            time.sleep(1.5)
            scene.befall()
            scene.wait_for_current(lambda amps: amps > 20.0, within_s=CLOSES_S)
            status = rack.status()
            assert status is not None
            stop_s = time.time()
            exit_code = daemon.stop(within_s=15.0)
            gone_s = time.time()
            time.sleep(1.5)
    return Day(scene, asked, status, stop_s, exit_code, gone_s)


def test_before_the_first_complete_snapshot_there_are_only_syncs_and_questions(day: Day) -> None:
    first_limits = day.scene.inverter.of(0x351)[0]
    before = [frame for frame in day.scene.field.frames[day.asked.field :] if frame.at_s < first_limits.at_s]
    wanted = {(f"CellVoltages{part}", address) for part in (1, 2) for address in (1, 2)}
    wanted |= {("Temperatures1", 1), ("Temperatures1", 2), ("Current", UNIT), ("StringVoltages", UNIT)}
    heard = {(name_of(frame), frame.can_id & 0x7F) for frame in before}
    assert wanted <= heard, "every board, a temperature of each, and the unit"
    complete_s = max(
        min(frame.at_s for frame in before if (name_of(frame), frame.can_id & 0x7F) == one) for one in wanted
    )
    assert first_limits.at_s - complete_s < 0.4 + room_s(complete_s, first_limits.at_s), "and soon after"
    early = [frame for frame in before if frame.at_s < complete_s]
    assert {name_of(frame) for frame in of_bmsd(early)} == {"Sync", "IdentifyRequest"}
    assert complete_s - day.asked.at_s > 1.4
    assert order([frame for frame in day.scene.inverter.frames if frame.at_s < first_limits.at_s]) == []


def test_contactors_close_through_precharge(day: Day) -> None:
    names = ("CloseMinus", "ClosePrecharge", "ClosePlus")
    steps = [tuple(int(said[name]) for name in names) for at_s, said in day.scene.commands() if at_s < day.stop_s]
    seen = [first for first, second in pairwise([*steps, (9, 9, 9)]) if first != second]
    assert seen == [(0, 0, 0), (1, 0, 0), (1, 1, 0), (1, 1, 1), (1, 0, 1)]
    plus_s = next(at_s for at_s, said in day.scene.commands() if said["ClosePlus"])
    voltages = [frame for frame in day.scene.field.of(identifier("StringVoltages", UNIT)) if frame.at_s < plus_s]
    assert signals(voltages[0])["BusVoltage"] < 1.0, "the bus was dead"
    last = signals(voltages[-1])
    assert abs(last["BusVoltage"] - last["StringVoltage"]) <= max(1.0, 0.02 * last["StringVoltage"])


def test_limits_begin_with_zero_and_rise(day: Day) -> None:
    told = [limit for at_s, limit in day.scene.told() if at_s < day.stop_s]
    first = told[0]
    assert (first.ccl_a, first.dcl_a) == (0.0, 0.0)
    assert 50.0 < first.cvl_v < 58.0
    assert day.scene.inverter.of(0x35C)[0].data[0] == 0, "all flags off"
    assert told[-1].ccl_a >= 20.0
    for (before_s, before), (at_s, limit) in pairwise(day.scene.told()):
        if at_s < day.stop_s and METER.lost_s(before_s - 1.0, at_s) < 0.2:  # else what is measured may have been old
            assert limit.ccl_a >= before.ccl_a


def test_the_set_has_the_protocols_order_pace_and_period(day: Day) -> None:
    frames = [f for f in day.scene.inverter.frames if f.can_id != KEEP_ALIVE and f.at_s < day.stop_s]
    sets = [frames[start : start + len(SET)] for start in range(0, len(frames) - len(SET) + 1, len(SET))]
    assert len(sets) >= 5
    assert [order(one) for one in sets] == [SET] * len(sets)
    paces = sorted(gap for one in sets for gap in gaps_s(one))
    # The port counts 20 ms from its own clock; the kernel stamps a frame when the guest's CPU got to it.
    # A frame that had to wait comes close before the next: not oftener than the computer stood still.
    stalls = METER.stalls(frames[0].at_s, frames[-1].at_s)
    assert sum(pace <= 0.012 for pace in paces) <= len(stalls)
    assert 0.019 < paces[len(paces) // 2] < 0.030
    begins = [one[0].at_s for one in sets]
    for begun_s, next_s in pairwise(begins):
        assert abs(next_s - begun_s - 1.0) < room_s(begun_s, next_s)
    total_s = begins[-1] - begins[0]
    assert abs(total_s - len(begins) + 1) < 0.05 * (len(begins) - 1) + METER.lost_s(begins[0], begins[-1]), "adds up"


def test_heartbeats_and_syncs_come_ten_and_twenty_times_a_second(day: Day) -> None:
    for name, period_s in (("Heartbeat", 0.1), ("Sync", 0.05)):
        frames = [f for f in day.scene.field.of(identifier(name), after=day.asked.field) if f.at_s < day.stop_s]
        gaps, lost_s = gaps_s(frames), METER.lost_s(frames[0].at_s, frames[-1].at_s)
        assert abs(sum(gaps) / len(gaps) - period_s) < 0.1 * period_s + lost_s / len(gaps)
        for one, other in pairwise(frames):
            assert other.at_s - one.at_s < period_s + room_s(one.at_s, other.at_s)
        for frame in frames[:50]:
            signals(frame)  # the CRC is right


def test_status_tells_what_flows(day: Day) -> None:
    status = day.status
    assert status["lifecycle"] == "charging"
    assert status["missing"] == []
    assert status["strings"][0]["state"] == "closed"
    assert status["points"]["current_a"] > 10.0
    assert status["points"]["cells_unknown"] == 0
    assert status["inverter_age_s"] < 2.0
    assert [bus["name"] for bus in status["buses"]] == ["field", "inverter"]


def test_sigterm_zeroes_limits_waits_for_the_current_opens_in_order_and_saves(day: Day) -> None:
    assert day.exit_code == 0
    assert (day.scene.rack.folder / "state.bin").stat().st_size > 0
    after = day.scene.told(since_s=day.stop_s)
    zero_s = next(at_s for at_s, limit in after if limit.ccl_a == 0.0 and limit.dcl_a == 0.0)
    assert zero_s - day.stop_s < 0.4 + room_s(day.stop_s, zero_s)
    assert all(limit.ccl_a == 0.0 for at_s, limit in after if at_s >= zero_s)
    flags = [frame.data[0] for frame in day.scene.inverter.of(0x35C) if frame.at_s >= zero_s]
    assert set(flags) == {0}
    opened_s = next(at_s for at_s, said in day.scene.commands() if at_s > day.stop_s and not said["ClosePlus"])
    assert opened_s > zero_s
    before = [amps for at_s, amps in day.scene.currents_a() if at_s < opened_s]
    assert max(abs(amps) for amps in before[-20:]) > 20.0, "it carried current"
    assert abs(before[-1]) < 2.0
    at_s, state = day.scene.unit_states(since_s=opened_s)[-1]
    assert (state["MinusOutput"], state["PlusOutput"], state["PrechargeOutput"]) == (0, 0, 0)
    assert state["OpenedUnderLoad"] == 0
    assert state["OpenReason"] == 0, "commanded"
    assert at_s < day.gone_s, "bmsd saw it before it left"


def test_after_the_end_nothing_is_sent(day: Day) -> None:
    # 0.2 s: the kernel's stamp of the last frame and the end of a process are seen by different clocks of the guest.
    assert not [frame for frame in of_bmsd(day.scene.field.frames) if frame.at_s > day.gone_s + 0.2]
    assert order([frame for frame in day.scene.inverter.frames if frame.at_s > day.gone_s + 0.2]) == []


@pytest.fixture
def half_a_rack(tmp_path: Path) -> Iterator[tuple[WholeRack, Mark]]:
    """Module 2 is dead; nobody but candump and cansend is on vcan1 (the simulator's inverter has no bus)."""
    boards = quick(tmp_path / "boards", {"inverter.channel": "vcan7"})
    rack = quick(tmp_path)
    dead = {"kind": "silent_board", "module": 2}
    with rehearsal(boards, dead) as (simulator, mishaps), Candump("vcan0") as field, Candump("vcan1") as inverter:
        woken(field)
        with rack.daemon() as daemon:
            asked = asked_by(daemon, field)
            scene = WholeRack(rack, field, inverter, daemon, simulator, mishaps)
            yield scene, asked
            scene.close()


def test_a_board_that_is_dead_from_the_start(half_a_rack: tuple[WholeRack, Mark]) -> None:
    scene, asked = half_a_rack
    first = scene.inverter.wait_for(0x351, within_s=8.0, after=0)
    assert 2.5 < first.at_s - asked.at_s < 3.5 + room_s(asked.at_s, first.at_s)
    scene.inverter.wait_for(0x35E, within_s=2.0, after=0)
    assert order(scene.inverter.frames) == [can_id for can_id in SET if can_id != 0x355], "SoC is not known"
    assert (limits(first).ccl_a, limits(first).dcl_a) == (0.0, 0.0)
    assert 50.0 < limits(first).cvl_v < 58.0
    measured = scene.inverter.of(0x356)[0]
    assert 50.0 < int.from_bytes(measured.data[:2], "little") / 100 < 56.0
    alarms = scene.inverter.of(0x359)[0].data
    assert alarms[1] & SYSTEM_ERROR
    assert alarms[4] == 1, "modules that answer"
    assert scene.inverter.of(0x35C)[0].data[0] == 0

    before_s = scene.state().snapshot.now_s
    cansend("vcan1", "305#0000000000000000")
    scene.state_when(lambda now: now.snapshot.inverter_age_s < now.snapshot.now_s - before_s, 5.0, "it is heard")
    status = scene.rack.status()
    assert status is not None
    assert any("module 2 of string 1" in sentence and "address 2" in sentence for sentence in status["missing"])
    assert status["strings"][0]["state"] != "closed"
    commands = scene.commands()
    assert commands, "heartbeats and commands, but none to close"
    assert not any(said["CloseMinus"] or said["ClosePlus"] or said["ClosePrecharge"] for _, said in commands)
    assert all(limit.ccl_a == 0.0 for _, limit in scene.told())

    scene.befall()
    scene.inverter.wait_for(allows, within_s=CLOSES_S)
    assert scene.state().missing == ()


def test_a_listen_only_daemon_sends_nothing_at_all(tmp_path: Path) -> None:
    rack = quick(tmp_path, {"fieldbus.listen_only": True})
    with Candump("vcan0") as field, Candump("vcan1") as inverter, rack.simulator(), rack.daemon() as daemon:
        daemon.says("control.running", within_s=20.0)
        with Talker("vcan0") as master:  # another system polls
            for number in range(15):
                master.sync(number)
                time.sleep(0.2)
        assert daemon.alive
        ours = [frame for frame in of_bmsd(field.frames) if name_of(frame) != "Sync"]
        syncs = field.of(identifier("Sync"))
        assert field.of(identifier("CellVoltages1", 1)), "the boards answered"
        assert (ours, len(syncs)) == ([], 15)
        assert order(inverter.frames) == []
        assert daemon.stop() == 0
        assert order(inverter.frames) == []
