"""The clock is set by hours, there is none, the disk is full, read-only, slow: control does not care, and says so.

Clock and mounts are the guest's own; in a namespace of the host's kernel they would be the host's.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from bmsd.control import state_file
from bmsd.link.client import LinkClient
from bmsd.link.wire import Ack
from bmsd.model.event import Event
from bmsd.model.host import ClockQuality
from bmsd.model.published import Published
from tests.vcan.processes import until
from tests.vcan.slave_bus import identifier
from tests.vcan.stall import METER
from tests.vcan.whole_rack import WholeRack, running

SHIM = Path(__file__).with_name("slow_fsync.c")
HOUR_S = 3600.0


def is_a_guest() -> bool:
    return "User Mode Linux" in Path("/proc/cpuinfo").read_text() or "uml" in Path("/proc/cmdline").read_text()


pytestmark = pytest.mark.vcan


@pytest.fixture(autouse=True)
def _only_in_a_guest() -> None:
    if not is_a_guest():
        missing = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        missing("clock and mounts would be those of this computer; BMSD_VCAN_WAY=uml takes a guest")


@contextmanager
def clock_put_right() -> Iterator[None]:
    """What a story does to the clock is undone."""
    wall_s, began_s = time.time(), time.monotonic()
    try:
        yield
    finally:
        time.clock_settime(time.CLOCK_REALTIME, wall_s + time.monotonic() - began_s)


def set_clock(utc_s: float) -> None:
    time.clock_settime(time.CLOCK_REALTIME, utc_s)


def undisturbed(whole: WholeRack, seconds: float) -> list[Published]:
    """Watch for so long that ticks come on time, frames go on and no limit is the computer's; return the records.

    Only the monotonic clock is asked: the other one is what the stories play with. Limits may go to zero for a while
    where this computer is too busy for the simulated boards to answer: they are waited for.
    """
    first, beats, told = whole.state(), whole.field.count, whole.inverter.count
    records = [first]
    # the meter's own stamps are of the wall clock: all that it noted since the clock was set is taken
    lost = len(METER.stalls(-1e12, 1e12))
    end_s = first.snapshot.now_s + seconds
    while records[-1].snapshot.now_s < end_s:
        records.append(whole.state())
    lost_s = sum(late_s for _, late_s in METER.stalls(-1e12, 1e12)[lost:])
    last = records[-1]
    span_s = last.snapshot.now_s - first.snapshot.now_s
    assert last.sequence - first.sequence >= (span_s - lost_s) / 0.1 - 2.0
    assert max(record.snapshot.host.period_s for record in records) < 0.3 + lost_s
    for record in records:
        assert record.command.heartbeat
        bounds = (*record.charge_bounds, *record.discharge_bounds)
        assert not [bound for bound in bounds if bound.source.startswith("SYS") and bound.source != "SYS-001"]
    heartbeats = whole.field.of(identifier("Heartbeat"), after=beats)
    assert len(heartbeats) >= (span_s - lost_s) / 0.1 * 0.8
    assert len(whole.inverter.of(0x351, after=told)) >= int(span_s - lost_s) - 1
    assert not any(record.vetoes for record in records)
    whole.state_when(lambda now: now.command.ccl_a > 0.0, 90.0, "current is allowed")
    return records


def faults(records: Sequence[Published]) -> set[str]:
    """Codes of what the computer was blamed for; SYS-001 says that it is too busy, which others make it."""
    codes = {fault.code for record in records for fault in record.faults}
    return {code for code in codes if code.startswith("SYS") and code != "SYS-001"}


def events(whole: WholeRack, kind: str) -> list[Event]:
    """Return the events of this kind that control keeps."""
    client = LinkClient(whole.rack.folder / "socket.sock")
    try:
        client.send(Ack(0))
        end_s, found = time.monotonic() + 1.5, []
        while time.monotonic() < end_s:
            found += [message for message in client.drain() if isinstance(message, Event)]
            time.sleep(0.05)
    finally:
        client.close()
    return [event for event in found if event.kind == kind]


def test_a_clock_that_is_set_by_hours_and_one_that_was_never_set(tmp_path: Path) -> None:
    with running(tmp_path) as whole, clock_put_right():
        whole.state_when(lambda now: not faults([now]), 10.0, "nothing to complain of")
        before = undisturbed(whole, 2.0)
        assert before[-1].snapshot.utc_s == pytest.approx(time.time(), abs=2.0)
        for step_s in (3.0 * HOUR_S, -7.0 * HOUR_S):
            set_clock(time.time() + step_s)
            records = undisturbed(whole, 3.0)
            assert faults(records) <= {"SYS-011"}
            assert faults(records[-1:]) == {"SYS-011"}
            assert records[-1].snapshot.utc_s == pytest.approx(time.time(), abs=2.0)
            assert records[-1].strings[0].state == "closed"
        set_clock(1000.0)
        records = undisturbed(whole, 3.0)
        assert records[-1].snapshot.utc_s is None
        assert records[-1].snapshot.utc_quality is ClockQuality.UNSET
        told = events(whole, "clock.stepped")
        assert [event.text.rpartition("by ")[2].split(".")[0] for event in told[:2]] == ["+10800", "-25200"]
        assert "to 1970-01-01T00:16:4" in told[2].text
        assert (told[2].utc_s, told[2].utc_quality) == (None, ClockQuality.UNSET)

        # a start without a clock: what was saved is found, and nothing is negative
        soc = whole.state().estimate.soc
        assert whole.daemon.stop() == 0
        whole.restarted(whole.successors.enter_context(whole.rack.daemon()))
        whole.daemon.says("control.running", within_s=20.0)
        records = [whole.state_when(lambda now: now.command.ccl_a > 0.0, 40.0, "limits come back")]
        assert records[-1].snapshot.utc_s is None
        assert records[-1].estimate.soc == pytest.approx(soc, abs=0.1)
        assert faults(records) == set(), "it left in order, and an hour without a clock is no fault yet"
        saved = state_file.load(tmp_path, state_file.STATE)
        assert saved.notes == ()
        assert saved.value is not None
        assert saved.value.utc_s is None


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(folder)], check=True)
    yield folder


def remount(folder: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Leave no room at all."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
    return filler


def shim(folder: Path) -> dict[str, str]:
    """Return the environment in which fsync takes as long as the file `slow` says."""
    library = folder / "slow_fsync.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, SHIM, "-ldl"], check=True)
    return {"LD_PRELOAD": str(library), "SLOW_FSYNC": str(folder / "slow")}


def raised(whole: WholeRack, code: str) -> None:
    whole.state_when(lambda now: code in faults([now]), 15.0, f"{code} is raised")


def over(whole: WholeRack, code: str) -> None:
    whole.state_when(lambda now: code not in faults([now]), 15.0, f"{code} is over")


def test_a_disk_that_is_read_only_full_and_slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in shim(tmp_path).items():
        monkeypatch.setenv(name, value)
    slow = tmp_path / "slow"
    with small_disk(tmp_path / "state") as disk, running(tmp_path, {"state.directory": str(disk)}) as whole:
        whole.state_when(lambda now: not faults([now]), 10.0, "nothing to complain of")

        remount(disk, "ro")
        raised(whole, "SYS-009")  # it latches, so that it is to be saved at once
        assert faults(undisturbed(whole, 3.0)) == {"SYS-009"}
        until(lambda: "state.not_saved" in whole.daemon.output, 5.0, "it says that it cannot save")
        remount(disk, "rw")
        until(lambda: "state.saved_again" in whole.daemon.output, 30.0, "it saves again")
        assert latched(disk) == {"SYS-009"}

        filler = fill(disk)
        raised(whole, "SYS-008")
        whole.reset("SYS-009")  # this is to be saved, and finds no room
        until(lambda: whole.daemon.output.count("state.not_saved") == 2, 5.0, "it says that there is no room")
        assert faults(undisturbed(whole, 3.0)) == {"SYS-008"}
        assert latched(disk) == {"SYS-009"}, "the state before is whole"
        filler.unlink()
        until(lambda: whole.daemon.output.count("state.saved_again") == 2, 30.0, "it saves again")
        over(whole, "SYS-008")
        assert latched(disk) == set()

        slow.write_text("2.0")
        remount(disk, "ro")
        raised(whole, "SYS-009")
        remount(disk, "rw")
        raised(whole, "SYS-014")
        assert faults(undisturbed(whole, 3.0)) == {"SYS-009", "SYS-014"}
        slow.unlink()
        whole.reset("SYS-009")
        over(whole, "SYS-014")
        assert faults(undisturbed(whole, 1.0)) == set()
        assert whole.commands()[-1][1]["ClosePlus"] == 1
        assert all(said["PlusOutput"] == 1 for _, said in whole.unit_states(since_s=time.time() - 5.0))


def latched(disk: Path) -> set[str]:
    """Codes of the latches that are saved, but for that of a first start."""
    found = state_file.load(disk, state_file.STATE)
    assert found.notes == ()
    assert found.value is not None
    return {latch.code for latch in found.value.latches} - {"MOD-015"}
