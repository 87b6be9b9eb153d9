"""The Debian package and deploy/install.sh on a running rack: upgrade, the way back, removal; what is yours stays."""

from __future__ import annotations

import os
import pwd
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.systemd.served import CONFIGURATION, CONTROL, GATEWAY, ROOT, STATE, VENV, Served, run
from tests.vcan.processes import until
from tests.vcan.whole_rack import Talker, forbids

pytestmark = pytest.mark.systemd

RELEASES = VENV.parent / "releases"
KEPT = {"/etc/bmsd", "/etc/bmsd/bmsd.toml", str(STATE), "/var/lib/bmsd-gateway"}
INSTALL = ROOT / "deploy" / "install.sh"


def package(revision: int) -> Path:
    folder = ROOT / "build" if revision == 1 else ROOT / "build" / "next"
    (found,) = folder.glob(f"bmsd_*-{revision}_*.deb")
    return found


def in_use() -> str:
    return os.readlink(VENV)


def releases() -> list[str]:
    return [str(path) for path in RELEASES.iterdir()]


def latch(served: Served) -> None:
    """A fault that only a person may end."""
    with Talker("vcan0") as somebody:
        somebody.say("Heartbeat", Counter=7, Lease=1.0, ControlState=1)
    until(lambda: latched(served), 5.0, "a foreign sender is latched")


def latched(served: Served) -> bool:
    return any(fault.code == "CAN-011" and fault.latched for fault in served.whole.state().faults)


def left_behind() -> set[str]:
    """Return what has a name of ours outside of the logs and lists of other programs, but for what state holds."""
    named = ("-name", "*bmsd*")
    found = run("find", "/etc", "/usr/lib/systemd", "/opt", "/run", "-xdev", *named).split()
    found += run("find", "/usr", "/var", "-xdev", "-maxdepth", "3", *named).split()
    others = ("/var/log/", "/var/lib/dpkg/", "/var/lib/systemd/", "/run/systemd/", "/run/rack-of-the-test", str(ROOT))
    inside = run("find", "/etc/bmsd").split() if Path("/etc/bmsd").exists() else []
    return {path for path in (*found, *inside) if not path.startswith((*others, "/etc/bmsd/credentials"))}


def test_an_upgrade_restarts_control_in_order_and_keeps_all_that_is_yours(running: Served) -> None:
    latch(running)
    before, pid, began_s = CONFIGURATION.read_bytes(), CONTROL.pid, time.time()
    run("dpkg", "--force-unsafe-io", "-i", package(2))
    assert in_use().endswith("-2")
    assert releases() == [in_use()]
    assert (CONTROL.alive, GATEWAY.alive) == (True, True)
    assert CONTROL.pid != pid
    assert f"{in_use()}/bin/python" in Path(f"/proc/{CONTROL.pid}/cmdline").read_text()
    opened_s = next(at_s for at_s, said in running.whole.commands(began_s) if not said["ClosePlus"])
    zero_s = next(frame.at_s for frame in running.whole.inverter.of(0x351) if frame.at_s > began_s and forbids(frame))
    assert zero_s < opened_s, "in order"
    assert CONFIGURATION.read_bytes() == before
    running.state_when(lambda now: any(fault.code == "CAN-011" for fault in now.faults), 20.0, "the latch is kept")


def test_a_release_whose_control_cannot_start_gives_way_to_the_one_before(running: Served) -> None:
    before = in_use()
    said = run("dpkg", "--force-unsafe-io", "-i", package(3), fails=True)
    assert "a release that cannot run" in said
    assert "back to" in said
    assert in_use() == before
    assert CONTROL.alive
    running.state_when(lambda now: not now.missing, 20.0, "control speaks to the rack again")
    run("dpkg", "--force-unsafe-io", "-i", package(2))
    assert releases() == [before]


def test_a_configuration_that_does_not_fit_stops_the_upgrade_before_anything_is_touched(running: Served) -> None:
    before, pid = in_use(), CONTROL.pid
    CONFIGURATION.write_text(CONFIGURATION.read_text().replace("max_v = 3.65", "max_v = 36.5"))
    said = run("dpkg", "--force-unsafe-io", "-i", package(1), fails=True)
    assert "cell.max_v: 36.5" in said
    assert (in_use(), CONTROL.pid, CONTROL.alive) == (before, pid, True)
    running.configured()
    run("dpkg", "--configure", "bmsd")
    assert in_use().endswith("-1")
    assert releases() == [in_use()]
    assert CONTROL.alive


@contextmanager
def read_only_root() -> Iterator[None]:
    """Only the state can be written, on a file system of its own."""
    for unit in (GATEWAY, CONTROL):
        unit.stop()
    shutil.copytree(STATE, "/run/state-of-the-test")
    run("mount", "-t", "tmpfs", "-o", "mode=700", "tmpfs", STATE)
    run("cp", "-a", "/run/state-of-the-test/.", STATE)
    run("chown", "-R", "bmsd:bmsd", STATE)
    run("mount", "-o", "remount,ro", "/")
    try:
        yield
    finally:
        for unit in (GATEWAY, CONTROL):
            unit.stop()
        run("mount", "-o", "remount,rw", "/")
        run("umount", STATE)


def test_a_read_only_root_with_one_writable_folder_is_enough(running: Served) -> None:
    with read_only_root():
        began_s = time.time()
        for unit in (CONTROL, GATEWAY):
            unit.start()
        running.whole.close()
        until(lambda: (STATE / "state.bin").stat().st_mtime > began_s, 20.0, "the state is saved")
        running.state_when(lambda now: not now.missing, 30.0, "the rack is there")
        assert GATEWAY.alive
        assert not CONTROL.journal(began_s) or "not saved" not in str(CONTROL.journal(began_s))


@pytest.mark.usefixtures("running")
def test_the_computers_own_watchdog_is_fed_by_systemd() -> None:
    held_off = Path("/etc/systemd/system.conf.d/90-guest.conf")
    before = held_off.read_text()
    held_off.write_text(before.replace("RuntimeWatchdogSec=0\n", ""))
    try:
        run("systemctl", "daemon-reexec")
        assert run("systemctl", "show", "-P", "RuntimeWatchdogUSec").strip() == "15s"
        assert "/dev/watchdog1" in {os.readlink(entry) for entry in Path("/proc/1/fd").iterdir()}
        assert (CONTROL.alive, GATEWAY.alive) == (True, True)
    finally:
        held_off.write_text(before)
        run("systemctl", "daemon-reexec")


def test_removed_it_leaves_what_is_yours(running: Served) -> None:
    latch(running)
    time.sleep(0.5)  # the state is written beside the tick
    run("dpkg", "-r", "bmsd")
    assert left_behind() == KEPT
    owner = pwd.getpwnam("bmsd").pw_uid
    assert STATE.stat().st_uid == owner
    assert [path for path in Path("/proc").glob("[0-9]*") if path.stat().st_uid == owner] == [], "nothing runs any more"


def test_the_script_installs_the_same_again_and_again_without_network(served: Served) -> None:
    run(INSTALL, "--wheels", ROOT / "build" / "wheels")
    first = in_use()
    for unit in (CONTROL, GATEWAY):
        assert run("systemctl", "is-enabled", unit.name).strip() == "enabled"
        assert not unit.alive, "nobody asked for that"
        unit.start()
    served.whole.close()
    served.state_when(lambda now: any(fault.code == "CAN-011" for fault in now.faults), 20.0, "the latch is kept")

    run(INSTALL, "--wheels", ROOT / "build" / "wheels")
    assert in_use() != first
    assert releases() == [in_use()]
    assert (CONTROL.alive, GATEWAY.alive) == (True, True)
    assert run("bmsd", "check", CONFIGURATION)


@pytest.mark.usefixtures("served")
def test_the_script_removes_what_it_installed() -> None:
    run(INSTALL, "--uninstall")
    assert left_behind() == KEPT
    run(INSTALL, "--uninstall", "--purge")
    assert left_behind() == set()
    with pytest.raises(KeyError):
        pwd.getpwnam("bmsd")
