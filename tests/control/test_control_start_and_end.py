"""Control on a bus of its own: what it starts with when the state file is damaged, and its last words."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import can
import numpy as np
import pytest
from structlog.testing import capture_logs

from bmsd.clock import Steps
from bmsd.config.demo import demo_toml
from bmsd.control import state_file
from bmsd.control.composition import Checked, checked
from bmsd.control.daemon import Control
from bmsd.core import memory
from bmsd.core.contactors import State
from bmsd.core.estimation import history
from bmsd.core.estimation.history import Seen
from bmsd.core.protection.protect import Protections
from bmsd.core.tick import tick
from bmsd.fieldbus.unix_bus import Hub
from bmsd.inverters.pylontech_lv import LIMITS, REQUESTS
from bmsd.model.frame import Frame
from bmsd.model.host import ClockQuality
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
    state_file.save(
        settings.state_directory, memory.durable(protections, fresh, 0.0, running=running), state_file.STATE
    )


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


def test_a_history_that_cannot_be_read_is_named_and_closes_all_the_same(settings: Checked) -> None:
    saved(settings, running=False)
    (settings.state_directory / "history.bin").write_bytes(b"not a history")
    with capture_logs() as lines:
        assert state_after_1_s(settings) not in (State.LOCKED, State.UNKNOWN, State.OPEN)
    assert [line["event"] for line in lines if "history.bin" in line["text"]] == ["state.unreadable"]


@pytest.mark.parametrize("state", [True, False], ids=["with the state", "without"])
def test_a_mark_is_saved_at_once_and_found_again(settings: Checked, inverter: can.BusABC, state: bool) -> None:  # noqa: ARG001
    control = Control(settings)
    control.open(time.monotonic())
    months = control._memory.estimation.months
    seen = Seen(*(np.full(settings.plant.layout.cell_shape, value) for value in (0.97, 0.01, 1.1, 0.03)))
    later = replace(months.wear.wear, age_days=8.0)
    marks = history.marked(months.history, later, seen)
    estimation = replace(control._memory.estimation, months=replace(months, history=marks))
    control._memory = replace(control._memory, estimation=estimation)
    control.turn(time.monotonic() + 1.0)
    control.close()
    if not state:
        (settings.state_directory / "state.bin").unlink()
    again = Control(settings)._memory.estimation.months
    assert again.history.age_days.tolist() == [8.0]
    assert again.wear.wear.age_days >= 8.0
    assert again.wear.off


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


def test_a_clock_that_is_set_is_an_event_and_a_fault_for_a_minute_and_nothing_else(
    settings: Checked, monkeypatch: pytest.MonkeyPatch
) -> None:
    control = Control(settings)
    real, shift_s = time.time, 0.0
    monkeypatch.setattr(time, "time", lambda: real() + shift_s)
    control._clock_steps = Steps(time.time)
    now_s = time.monotonic()
    control.open(now_s)
    told_of = []
    with capture_logs() as lines:
        for number in range(700):
            shift_s = 0.0 if number < 20 else -7200.0
            now_s += 0.1
            control.turn(now_s)
            assert control.outcome is not None
            told_of.append("SYS-011" in rack.codes(control.outcome))
    control.close()
    assert not any(told_of[:20])
    assert all(told_of[20:615])
    assert not any(told_of[625:])
    told = [line for line in lines if line["event"] == "clock.stepped"]
    assert len(told) == 1
    assert "by -7200.0 s" in told[0]["text"]


def test_what_the_computer_and_the_clock_say_is_in_the_record(settings: Checked) -> None:
    control = Control(settings)
    now_s = time.monotonic()
    control.open(now_s)
    control.turn(now_s + 0.1)
    deadline_s = time.monotonic() + 10.0
    while control._computer.now(time.monotonic()).reading == 0:
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    control.turn(time.monotonic() + 0.3)
    control.close()
    assert control.outcome is not None
    snapshot = control.outcome.snapshot
    assert 5.0 < snapshot.host.computer.resident_mib < 1000.0
    assert snapshot.utc_quality is not ClockQuality.UNSET
    assert abs(snapshot.utc_s - time.time()) < 30.0


def test_a_heartbeat_output_that_cannot_work_is_noted_before_the_start_and_a_fault_after_it(tmp_path: Path) -> None:
    file = tmp_path / "rack.toml"
    text = demo_toml(1, 1, str(tmp_path / "field"), str(tmp_path / "inverter"), tmp_path)
    file.write_text(text + '[heartbeat_output]\nchip = "/dev/no-such-chip"\n')
    rack_ = checked(file)
    notes = list(rack_.notes())
    assert "there is no /dev/no-such-chip" in notes[0]
    assert "whether the relay drops out is not known" in notes[1]
    control = Control(rack_)
    now_s = time.monotonic()
    control.open(now_s)
    with capture_logs() as lines:
        for _ in range(70):
            now_s += 0.1
            control.turn(now_s)
    control.close()
    told = [line["text"] for line in lines if line["event"] == "heartbeat.output"]
    assert len(told) == 1, "once, not at every try"
    assert "/dev/no-such-chip line 17: No such file or directory: there is no such chip" in told[0]
    assert control.outcome is not None
    assert "SYS-017" in rack.codes(control.outcome)
