"""Control on a bus of its own: what it starts with when the state file is damaged, and its last words."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import can
import pytest
from structlog.testing import capture_logs

from bmsd.config.demo import demo_toml
from bmsd.control import state_file
from bmsd.control.composition import Checked, checked
from bmsd.control.daemon import Control
from bmsd.core import memory
from bmsd.core.contactors import State
from bmsd.core.protection.protect import Protections
from bmsd.core.tick import tick
from bmsd.fieldbus.unix_bus import Hub
from bmsd.inverters.pylontech_lv import LIMITS, REQUESTS
from bmsd.model.frame import Frame
from bmsd.systemd.notify import Notifier
from tests import rack
from tests.service_manager import Manager

HEARTBEAT_LOST = 1


@pytest.fixture
def settings(tmp_path: Path) -> Checked:
    file = tmp_path / "rack.toml"
    file.write_text(demo_toml(1, 1, str(tmp_path / "field"), str(tmp_path / "inverter"), tmp_path))
    return checked(file)


@pytest.fixture
def inverter(settings: Checked) -> Iterator[can.BusABC]:
    """What hears the frames on the inverter's bus."""
    with Hub(settings.settings.inverter.channel) as hub:
        bus = can.Bus(interface="unix", channel=hub.path)
        yield bus
        bus.shutdown()


def saved(settings: Checked, *, running: bool) -> None:
    protections = Protections.of(settings.plant, 2)
    fresh = memory.start(settings.plant, protections)
    state_file.save(settings.state_directory, memory.durable(protections, fresh, 0.0, running=running))


def state_after_1_s(settings: Checked) -> State:
    """Where the only string is, all healthy and open since the heartbeat was lost, with what control restored."""
    was, protections = Control(settings)._memory, Protections.of(settings.plant, 2)
    for number in range(10):
        snapshot = rack.snapshot(settings.plant, 100.0 + 0.1 * number, open_reason=HEARTBEAT_LOST)
        was = tick(settings.plant, protections, was, snapshot).memory
    return was.contactors[0].state


def test_nothing_closes_by_itself_when_the_latches_cannot_be_read(settings: Checked) -> None:
    (settings.state_directory / "state.bin").write_bytes(b"not a state")
    assert state_after_1_s(settings) is State.LOCKED


def test_nothing_closes_by_itself_when_only_the_generation_before_can_be_read(settings: Checked) -> None:
    saved(settings, running=False)
    saved(settings, running=False)
    (settings.state_directory / "state.bin").write_bytes(b"not a state")
    assert state_after_1_s(settings) is State.LOCKED


@pytest.mark.parametrize("first", [True, False], ids=["first start", "left in order"])
def test_a_rack_whose_state_is_whole_closes_by_itself(settings: Checked, first: bool) -> None:
    if not first:
        saved(settings, running=False)
    assert state_after_1_s(settings) not in (State.LOCKED, State.UNKNOWN, State.OPEN)


def test_a_frame_that_the_gate_blocks_is_an_event_with_its_reason(settings: Checked, inverter: can.BusABC) -> None:  # noqa: ARG001
    control = Control(settings)
    control.open(time.monotonic())
    now_s = time.monotonic()
    with capture_logs() as lines:
        for _ in range(102):
            assert not control.io._inverter_gate.send(Frame(0x7FF, bytes(8), False), now_s)
            now_s += 0.1
            control.turn(now_s)
    control.close()
    told = [line for line in lines if line["event"] == "gate.blocked"]
    assert [line["text"] for line in told][:1] == ["frames blocked by the transmit gate: 1, since start 1"]
    assert len(told) == 2, "at once, then every 10 s"
    assert sum(told[0]["reasons"].values()) == 1


def test_only_a_tick_that_was_sent_in_time_is_a_sign_of_life(settings: Checked, tmp_path: Path) -> None:
    manager, late_s = Manager(tmp_path / "notify", patience_s=2.0), 0.0
    now_s = time.monotonic()
    control = Control(settings, clock=lambda: now_s + late_s, manager=Notifier(manager.environment))
    control.open(now_s)
    for takes_s, signs in ((0.24, 1), (0.26, 0), (0.0, 1)):
        now_s, late_s = now_s + 1.0, takes_s
        control.turn(now_s)
        assert sum("WATCHDOG" in message for message in manager.hear()) == signs
    now_s += 0.05
    control.turn(now_s)  # no tick is due
    assert manager.hear() == []
    control.close()
    manager.close()


def test_a_defect_is_told_after_the_last_words(settings: Checked) -> None:
    control = Control(settings)
    control.open(time.monotonic())
    with capture_logs() as lines:
        try:
            raise ZeroDivisionError
        except ZeroDivisionError:
            control.fail(time.monotonic())
    told = [(line["event"], line.get("severity")) for line in lines]
    assert told == [("control.defect", "trip"), ("control.left", "info")]
    assert lines[0]["exc_info"] is True


def test_the_last_words_after_a_defect_are_heard_although_limits_were_just_sent(
    settings: Checked, inverter: can.BusABC
) -> None:
    drive = rack.running(settings.plant)
    outcome = drive.tick(**rack.closed(settings.plant))
    assert outcome.command.ccl_a > 0.0
    control = Control(settings)
    control.open(time.monotonic())
    control.outcome = outcome
    control.io.send(time.monotonic(), outcome.command, started=True, stopping=False)
    control.fail(time.monotonic())
    heard = {}
    while (message := inverter.recv(timeout=1.0)) is not None:
        frame = Frame(message.arbitration_id, bytes(message.data), message.is_extended_id)
        heard[frame.can_id] = settings.profile.decode_limits(frame)
    assert (heard[LIMITS].ccl_a, heard[LIMITS].dcl_a) == (0.0, 0.0)
    assert not heard[REQUESTS].charge_enabled
    assert not heard[REQUESTS].discharge_enabled
