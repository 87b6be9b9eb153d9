"""The daemon hung, killed and started again: what boards, contactor unit and inverter see of it."""

from __future__ import annotations

import time
from pathlib import Path
from threading import Event, Thread

import pytest

from tests.vcan.processes import Running, until
from tests.vcan.slave_bus import UNIT, identifier, signals
from tests.vcan.stall import METER
from tests.vcan.whole_rack import Stage, Talker, WholeRack, allows, forbids, order, room_s
from tests.vcan.wire import Seen

pytestmark = pytest.mark.vcan

SHARES_THE_RACK = True
LEAST_A = 2.0


@pytest.fixture
def whole(stage: Stage, tmp_path: Path) -> WholeRack:
    """The site discharges, with a base load above 2 A: the contactor unit does not open before its 5 s are over."""
    rack = stage.rack(tmp_path)
    rack.wait_for_current(lambda amps: amps < -15.0, within_s=30.0)
    return rack


class Observer:
    """Polls boards and units when the daemon does not: a SYNC of its own every 50 ms."""

    def __init__(self, whole: WholeRack) -> None:
        self._whole = whole
        self._number = 0

    def watch(self, seconds: float) -> None:
        with Talker("vcan0") as other:
            began_s = time.time()
            while time.time() < began_s + seconds or time.time() < began_s + seconds + METER.lost_s(began_s):
                other.sync(self._number // 4, self._number % 4)
                self._number += 1
                time.sleep(0.05)


def last_heartbeat_s(whole: WholeRack) -> float:
    return whole.field.of(identifier("Heartbeat"))[-1].at_s


def first_s(states: list[tuple[float, dict[str, float]]], name: str, value: float) -> float:
    """Return when the unit first said this."""
    return next(at_s for at_s, said in states if said[name] == value)


def ended(whole: WholeRack) -> float:
    """Wait until all is in candump's log that the kernel had taken of the daemon; return when its last heartbeat was.

    Nobody polls then, so that vcan0 is silent.
    """
    until(lambda: whole.field.silent_for(0.15), 5.0, "silence on vcan0")
    return last_heartbeat_s(whole)


def hung(whole: WholeRack, seconds: float) -> float:
    """Stop the daemon for so long, polling the boards in its place; return when its last heartbeat was."""
    whole.daemon.hang()
    beat_s = ended(whole)
    told = whole.inverter.count
    Observer(whole).watch(seconds)
    assert last_heartbeat_s(whole) == beat_s, "the heartbeat stopped with the process"
    assert order(whole.inverter.frames[told:]) == [], "and so did the battery"
    return beat_s


def limits_after(whole: WholeRack, count: int) -> list[Seen]:
    """Return the limit frames after the first `count` frames on vcan1."""
    return whole.inverter.of(0x351, after=count)


def test_a_killed_daemon_and_its_successor(whole: WholeRack) -> None:
    whole.daemon.kill()
    ended(whole)
    killed_s = time.time()
    told, wires = whole.inverter.count, whole.field.count
    whole.restarted(successor(whole))
    sync = whole.field.of(identifier("Sync"), after=wires)[0]
    first = whole.inverter.wait_for(0x351, within_s=3.0, after=told)
    # The goal is 3 s from exec. Most of it is Python's start, here as slow as the machine is busy (measured on the
    # host by tests/bench): what the daemon itself adds, from its first SYNC on, is held to what the goal leaves.
    assert first.at_s - sync.at_s < 1.0 + room_s(sync.at_s, first.at_s)
    assert forbids(first)
    whole.reset("CAN-011", "who held the unit has left")
    whole.inverter.wait_for(allows, within_s=15.0, after=told)
    commands = [said for _, said in whole.commands(since_s=sync.at_s)]
    assert {(said["CloseMinus"], said["ClosePrecharge"], said["ClosePlus"]) for said in commands} == {(1, 0, 1)}
    assert {said["PlusOutput"] for _, said in whole.unit_states(since_s=killed_s)} == {1}
    assert whole.state().strings[0].state == "closed"


def successor(whole: WholeRack) -> Running:
    """Start another daemon and return it once its first SYNC is out; until then somebody keeps the unit waiting.

    The contactor unit opens 5 s after the last heartbeat, and in this guest Python may take longer to start.
    """
    ended = Event()

    def hold() -> None:
        with Talker("vcan0") as other:
            beat = 0
            while not ended.is_set():
                beat += 1
                other.say("Heartbeat", Counter=beat % 256, Lease=1.0, ControlState=1)
                other.say("ContactorCommand", UNIT, CloseMinus=1, ClosePrecharge=0, ClosePlus=1, InverterEnable=0,
                          Counter=beat % 16, Lease=1.0)  # fmt: skip
                ended.wait(0.1)

    holder = Thread(target=hold)
    wires = whole.field.count
    holder.start()
    try:
        daemon = whole.successors.enter_context(whole.rack.daemon())
        whole.field.wait_for(identifier("Sync"), within_s=20.0, after=wires)
    finally:
        ended.set()
        holder.join()
    return daemon


def test_a_hung_daemon(whole: WholeRack) -> None:
    # 2 s: the unit takes the inverter's enable away at 1 s, the current falls to the base load
    beat_s = hung(whole, 2.2)
    states = whole.unit_states(since_s=beat_s)
    enable_s = first_s(states, "InverterEnableOutput", 0) - beat_s
    assert 0.95 < enable_s < 1.2 + 0.2 + room_s(beat_s, beat_s + enable_s), (
        "1.0 s after the last heartbeat, said with the next poll"
    )
    assert states[-1][1]["MinusOutput"] == states[-1][1]["PlusOutput"] == 1
    settled_s = beat_s + enable_s + 0.5
    settled_s += METER.lost_s(beat_s, settled_s)
    after = [amps for at_s, amps in whole.currents_a(since_s=settled_s)]
    assert after
    assert all(-8.0 < amps < -LEAST_A for amps in after), "only the base load"

    # it goes on: the first it says is that it knows nothing, then limits come back; nobody had to close anything
    told = whole.inverter.count
    woken_s = time.time()
    whole.daemon.go_on()
    first = whole.inverter.wait_for(0x351, within_s=3.0, after=told)
    assert forbids(first), "no limit from before the stop"
    assert first.at_s - woken_s < 0.7 + room_s(woken_s, first.at_s)
    whole.reset("CAN-011", "who polled in its place has left")
    whole.inverter.wait_for(allows, within_s=15.0, after=told)
    assert all(said["PlusOutput"] == 1 for _, said in whole.unit_states(since_s=woken_s))
    whole.wait_for_current(lambda amps: amps < -15.0, within_s=15.0)

    # for good: at |I| < 2 A, here never reached, so at the latest 5 s after the last heartbeat
    beat_s = hung(whole, 5.6)
    states = whole.unit_states(since_s=beat_s)
    opened_s = first_s(states, "PlusOutput", 0) - beat_s
    assert 4.9 < opened_s < 5.2 + room_s(beat_s, beat_s + opened_s)
    assert states[-1][1]["HeartbeatLost"] == 1
    assert states[-1][1]["OpenReason"] == 1, "heartbeat lost"
    assert abs(whole.currents_a()[-1][1]) < 0.1

    told = whole.inverter.count
    whole.daemon.go_on()
    assert forbids(whole.inverter.wait_for(0x351, within_s=3.0, after=told))
    whole.state_when(lambda now: now.strings[0].state == "waiting", 3.0, "the daemon knows that the unit opened")
    time.sleep(1.5)
    assert all(forbids(frame) for frame in limits_after(whole, told))


def test_signals_of_the_contactor_unit_are_checked_with_their_crc() -> None:
    """The stories above believe `signals`: a spoilt frame must not pass there."""
    spoilt = Seen(0.0, "vcan0", identifier("Current", UNIT), True, bytes(8))
    with pytest.raises(AssertionError):
        signals(spoilt)
