"""The daemon and what happens in the rack: a board that falls silent, a cell over its limit, a kill."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.vcan.processes import Running, until
from tests.vcan.slave_bus import UNIT, identifier, signals
from tests.vcan.stall import METER
from tests.vcan.whole_rack import CLOSES_S, WholeRack, allows, forbids, room_s, running
from tests.vcan.wire import Seen

pytestmark = pytest.mark.vcan


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeRack]:
    """One rehearsed rack for the stories in the order of this file."""
    with running(tmp_path_factory.mktemp("rack"), rehearsed=True, least_a=30.0) as rack:
        yield rack


def limits_after(whole: WholeRack, count: int) -> list[Seen]:
    """Return the limit frames after the first `count` frames on vcan1."""
    return whole.inverter.of(0x351, after=count)


def test_a_board_that_falls_silent(whole: WholeRack) -> None:
    told = whole.inverter.count
    whole.befall({"kind": "silent_board", "module": 2})
    zero = whole.inverter.wait_for(forbids, within_s=4.0, after=told)
    last_good_s = whole.field.of(identifier("CellVoltages2", 2))[-1].at_s
    assert zero.at_s - last_good_s < 1.0 + room_s(last_good_s, zero.at_s)
    assert all(whole.unit_states()[-1][1][name] for name in ("MinusOutput", "PlusOutput"))
    whole.state_when(lambda now: now.strings[0].state == "open", 13.0, "its string opens")
    opens = identifier("ContactorCommand", UNIT)
    opened_s = whole.field.wait_for(
        lambda frame: frame.can_id == opens and frame.at_s > zero.at_s and not signals(frame)["ClosePlus"], 2.0, after=0
    ).at_s
    assert 9.5 < opened_s - last_good_s < 10.5 + room_s(last_good_s, opened_s)
    assert all(forbids(frame) for frame in limits_after(whole, told)[1:] if frame.at_s >= zero.at_s)
    assert whole.unit_states()[-1][1]["OpenedUnderLoad"] == 0
    assert any("module 2 of string 1" in sentence for sentence in whole.state().missing)

    whole.befall()
    whole.inverter.wait_for(allows, within_s=CLOSES_S)
    whole.wait_for_current(lambda amps: amps > 20.0, within_s=15.0)


def test_a_latched_trip_survives_a_kill_and_ends_with_a_reset(whole: WholeRack) -> None:
    # one cell reads 3.70 V: over the trip of CEL-003 (3.65 V), under the board's own (3.75 V)
    whole.befall({"kind": "cell_voltage", "module": 2, "cell": 3, "value": 3.70})
    wrong_s = time.time()
    zero = whole.inverter.wait_for(lambda frame: frame.can_id == 0x351 and not allows(frame), within_s=5.0)
    # 0.7 s, and 0.1 s until the simulator reads its file
    assert zero.at_s - wrong_s < 0.8 + room_s(wrong_s, zero.at_s)
    whole.state_when(lambda now: "CEL-003" in {f.code for f in now.faults}, 8.0, "CEL-003 is raised")
    whole.state_when(lambda now: now.strings[0].state == "open", 8.0, "the string is open")
    whole.befall()
    whole.state_when(lambda now: any(f.code == "CEL-003" and f.latched for f in now.faults), 5.0, "it stays: latched")
    METER.rest(0.5)  # a changed latch is written at once, off the loop
    whole.daemon.kill()
    told, wires, killed_s = whole.inverter.count, whole.field.count, time.time()
    whole.close()
    with whole.rack.daemon() as daemon:
        whole.restarted(daemon)
        daemon.says("control.running", within_s=20.0)
        whole.inverter.wait_for(0x35E, within_s=10.0, after=told)
        assert "CEL-003" in whole.faults()
        status = whole.rack.status()
        assert status is not None
        assert [fault["code"] for fault in status["faults"] if fault["level"] == "trip"] == ["CEL-003"]
        assert all(forbids(frame) for frame in limits_after(whole, told))
        until(
            lambda: len(whole.field.of(identifier("Heartbeat"), after=wires)) > 10, 3.0,
            "it is in control, and keeps the string open",
        )  # fmt: skip
        assert not any(said["CloseMinus"] or said["ClosePlus"] for _, said in whole.commands(since_s=killed_s))

        asked = whole.inverter.count
        ask(whole, "reset", "CEL-003")
        still = {"SYS-002", "MOD-015"}  # the kill, and a first start
        whole.state_when(lambda now: {fault.code for fault in now.faults} <= still, 3.0, "the latch is released")
        assert "ask to connect" in whole.state().strings[0].reason, "an interrupted process closes nothing by itself"
        ask(whole, "connect")
        whole.inverter.wait_for(allows, within_s=CLOSES_S, after=asked)
        rising = limits_after(whole, asked)
        assert all(forbids(frame) for frame in rising[: [allows(frame) for frame in rising].index(True)])


def ask(whole: WholeRack, *words: str) -> None:
    """Run a command of bmsd against the daemon."""
    with Running("bmsd", *words, "-c", str(whole.rack.file)) as asked:
        assert asked.process.wait(30.0) == 0, asked.output
