"""bmsd.service under a real systemd: it starts, heals, crashes, hangs and stops; what boards and inverter see of it."""

from __future__ import annotations

import re
import signal
import time
from itertools import pairwise
from pathlib import Path

import pytest

from bmsd.control import state_file
from bmsd.systemd.message_ids import MESSAGES
from tests.systemd.served import CONFIGURATION, CONTROL, STARTED_WITHIN_S, STATE, VENV, Served, run, stamp_s
from tests.vcan.processes import until
from tests.vcan.slave_bus import identifier
from tests.vcan.whole_rack import Talker, forbids, room_s
from tests.vcan.wire import Seen

pytestmark = pytest.mark.systemd


def status() -> str:
    return CONTROL.show("StatusText")


def test_it_is_ready_without_rack_and_bus_says_what_is_missing_and_heals(served: Served) -> None:
    run("ip", "link", "set", "vcan1", "down")
    CONTROL.start()  # returns when it is ready
    assert (CONTROL.show("ActiveState"), CONTROL.show("SubState"), CONTROL.show("Result")) == (
        "active", "running", "success",
    )  # fmt: skip
    until(lambda: "vcan1" in status() and "module 1 of string 1" in status(), 10.0, "both are named in the status")

    run("ip", "link", "set", "vcan1", "up")
    until(lambda: "vcan1" not in status(), 10.0, "the bus is no longer missing")
    assert "module 1 of string 1" in status()
    served.boards()
    until(lambda: "missing" not in status(), 60.0, "the rack is there")
    assert CONTROL.restarts == 0, "it healed by itself"


def latched(served: Served) -> set[str]:
    return {fault.code for fault in served.whole.state().faults if fault.latched}


def first_words(served: Served, told: int, wires: int) -> tuple[Seen, Seen]:
    """Return the first SYNC and the first limits after these many frames."""
    field, inverter = served.whole.field, served.whole.inverter
    sync = field.wait_for(identifier("Sync"), STARTED_WITHIN_S, wires)
    return sync, inverter.wait_for(0x351, STARTED_WITHIN_S, told)


def imports_s() -> float:
    """Return what Python takes here and now to load what control needs, before everybody else.

    Most of a start is that, and in this guest it takes as long as the computer is busy.
    """
    began_s = time.monotonic()
    run("chrt", "-f", "50", VENV / "bin/python", "-c", "import numpy, can, cantools, pydantic, typer, structlog")
    return time.monotonic() - began_s


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_after_a_crash_it_is_started_again_with_its_latches(running: Served, number: signal.Signals) -> None:
    with Talker("vcan0") as somebody:
        somebody.say("Heartbeat", Counter=7, Lease=1.0, ControlState=1)
    until(lambda: "CAN-011" in latched(running), 5.0, "a foreign sender is latched")
    time.sleep(0.2)  # the file is written beside the tick
    crashed_s, restarts = time.time(), CONTROL.restarts
    CONTROL.signal(number)
    CONTROL.restarted(restarts)
    assert CONTROL.restarts == restarts + 1
    CONTROL.says(f"status={int(number)}/{number.name.removeprefix('SIG')}", crashed_s)
    found = running.state_when(lambda now: bool(now.faults), 10.0, "a record of its successor")
    assert "CAN-011" in {fault.code for fault in found.faults if fault.latched}


def test_a_tick_that_hangs_is_killed_and_the_first_words_after_it_are_safe(running: Served) -> None:
    running.wait_for_current()
    hung_s, restarts, pid = time.time(), CONTROL.restarts, CONTROL.pid
    CONTROL.signal(signal.SIGSTOP)
    until(lambda: running.whole.field.silent_for(0.3), 5.0, "silence")
    told, wires = running.whole.inverter.count, running.whole.field.count
    CONTROL.restarted(restarts)
    assert CONTROL.restarts == restarts + 1
    assert CONTROL.pid != pid
    CONTROL.says("Watchdog timeout (limit 2s)", hung_s)

    begun_s = stamp_s(CONTROL, "ExecMainStartTimestamp")
    last_s = running.whole.field.frames[wires - 1].at_s
    assert begun_s - last_s < 2.0 + 1.0 + 0.2 + 0.5 + room_s(last_s, begun_s), "patience, last words, pause"
    sync, first = first_words(running, told, wires)
    assert sync.at_s > begun_s, "nothing more from the one that hung"
    assert forbids(first)
    assert first.at_s - begun_s < max(3.0, 3.0 * imports_s()) + room_s(begun_s, first.at_s)


def test_a_wrong_file_changes_nothing_at_a_reload_and_is_named(running: Served) -> None:
    pid, asked_s = CONTROL.pid, time.time()
    CONFIGURATION.write_text(CONFIGURATION.read_text().replace("max_v = 3.65", "max_v = 36.5"))
    run("systemctl", "reload", CONTROL.name)
    CONTROL.says("cell.max_v: 36.5", asked_s)
    until(lambda: "configuration" in status(), 10.0, "the status says that the file is wrong")
    assert (CONTROL.alive, CONTROL.pid) == (True, pid)
    assert running.whole.state().strings[0].state == "closed"
    running.configured()
    run("systemctl", "reload", CONTROL.name)
    until(lambda: "configuration" not in status(), 10.0, "the file is right again")

    # the same file at a start: it ends, and is not started again for nothing
    CONTROL.stop()
    CONFIGURATION.write_text(CONFIGURATION.read_text().replace("max_v = 3.65", "max_v = 36.5"))
    restarts, asked_s = CONTROL.restarts, time.time()
    assert "failed" in run("systemctl", "start", CONTROL.name, fails=True)
    CONTROL.says("cell.max_v: 36.5", asked_s)
    time.sleep(1.0)  # five times the pause before a new start
    shown = [CONTROL.show(name) for name in ("ActiveState", "Result", "ExecMainStatus")]
    assert shown == ["failed", "exit-code", "78"]
    assert CONTROL.restarts == restarts


@pytest.mark.usefixtures("running")
def test_the_journal_has_fields_and_a_number_for_each_class_of_events() -> None:
    began_s = time.time()
    with Talker("vcan0") as somebody:
        somebody.say("Heartbeat", Counter=7, Lease=1.0, ControlState=1)
    CONTROL.says("CAN-011", began_s)
    (raised,) = (entry for entry in CONTROL.journal(began_s) if entry.get("BMSD_FAULT") == "CAN-011")
    assert raised["MESSAGE_ID"] == MESSAGES["fault.raised"].id
    assert raised["SYSLOG_IDENTIFIER"] == "bmsd"
    assert raised["BMSD_LEVEL"] == "alarm"
    assert raised["_SYSTEMD_UNIT"] == CONTROL.name
    found = run("journalctl", "-o", "cat", f"MESSAGE_ID={MESSAGES['control.running'].id}")
    assert "control of rack" in found
    scheduled = run("journalctl", "-o", "cat", f"MESSAGE_ID={MESSAGES['service.scheduling'].id}")
    assert "SCHED_FIFO with priority 50; memory is locked" in scheduled
    locked_kb = re.search(r"VmLck:\s+(\d+)", Path(f"/proc/{CONTROL.pid}/status").read_text())
    assert locked_kb is not None
    assert int(locked_kb[1]) > 10_000


def test_a_stop_is_in_order(running: Served) -> None:
    running.wait_for_current()
    whole, pid = running.whole, CONTROL.pid
    asked_s = time.time()
    CONTROL.stop()
    ended_s = time.time()
    assert ended_s - asked_s < 11.0 + room_s(asked_s, ended_s)
    assert (CONTROL.show("ActiveState"), CONTROL.show("Result"), CONTROL.show("ExecMainStatus")) == (
        "inactive", "success", "0",
    )  # fmt: skip

    limits = [frame for frame in whole.inverter.of(0x351) if frame.at_s > asked_s]
    zero_s = next(frame.at_s for frame in limits if forbids(frame))
    assert all(forbids(frame) for frame in limits if frame.at_s >= zero_s)
    opened_s = next(at_s for at_s, said in whole.commands(asked_s) if not said["ClosePlus"])
    before = [amps for at_s, amps in whole.currents_a(asked_s) if at_s < opened_s]
    assert zero_s < opened_s, "the inverter is told first"
    assert abs(before[-1]) < 2.0, "contacts part without current"
    outputs = [(said["PlusOutput"], said["MinusOutput"]) for _, said in whole.unit_states(asked_s)]
    changes = [later for earlier, later in pairwise(outputs) if later != earlier]
    assert changes[-1] == (0, 0)
    assert (1, 0) not in changes, "plus opens before minus"

    kept = state_file.load(STATE, state_file.STATE)
    assert kept.notes == ()
    assert kept.value is not None
    assert kept.value.running is False, "saved by a process that left in order"
    assert not Path("/run/bmsd").exists()
    assert not Path(f"/proc/{pid}").exists()
