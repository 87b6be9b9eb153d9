"""What Linux tells of the computer, from files as it writes them; what it does not tell is no number and no fault."""

from __future__ import annotations

import math
import os
import threading
import time
from dataclasses import fields
from pathlib import Path

import pytest

from bmsd.control.computer import boot_id, computer, reset_by_watchdog
from bmsd.control.host import STALE_S, ComputerReader
from bmsd.model.host import Computer

MEMINFO = "MemTotal:        3884128 kB\nMemFree:          201024 kB\nMemAvailable:     971032 kB\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


def put(root: Path, **files: str) -> None:
    """Write files by path, with __ for a slash."""
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")


def test_a_computer_that_says_nothing_is_unknown_in_everything_but_its_disk(root: Path, tmp_path: Path) -> None:
    said = computer(tmp_path, 7, root)
    for field in fields(Computer):
        value = getattr(said, field.name)
        assert field.name in ("reading", "age_s", "disk_free", "disk_read_only") or math.isnan(value), field.name
    assert (said.reading, said.age_s) == (7, 0.0)


def test_a_state_directory_that_is_not_there_is_unknown(root: Path, tmp_path: Path) -> None:
    said = computer(tmp_path / "not there", 1, root)
    assert math.isnan(said.disk_free)
    assert math.isnan(said.disk_read_only)


def test_this_very_computer_says_what_it_must(tmp_path: Path) -> None:
    said = computer(tmp_path, 1)
    assert 5.0 < said.resident_mib < 4000.0
    assert 0.0 < said.memory_available < 1.0
    assert 0.0 < said.files_used < 1.0
    assert 0.0 <= said.disk_free < 1.0
    assert said.disk_read_only == 0.0
    assert len(boot_id()) == 36


def test_the_hottest_zone_of_the_processor_counts_and_no_other(root: Path, tmp_path: Path) -> None:
    zones = "sys__class__thermal__thermal_zone"
    put(root, **{f"{zones}0__type": "cpu-thermal", f"{zones}0__temp": "48312",
                 f"{zones}1__type": "x86_pkg_temp", f"{zones}1__temp": "61000",
                 f"{zones}2__type": "acpitz", f"{zones}2__temp": "95000",
                 f"{zones}3__type": "cpu-thermal", f"{zones}3__temp": "-274000"})  # fmt: skip
    assert computer(tmp_path, 1, root).cpu_degc == 61.0


def test_memory(root: Path, tmp_path: Path) -> None:
    put(root, proc__meminfo=MEMINFO, proc__self__status="Name:\tbmsd\nVmRSS:\t   66560 kB\nThreads:\t5")
    said = computer(tmp_path, 1, root)
    assert said.memory_available == pytest.approx(0.25)
    assert said.resident_mib == 65.0


@pytest.mark.parametrize(("most", "share"), [("40", 0.5), ("max", 0.0), ("0", 0.0)])
def test_threads_count_against_what_the_service_may_have(root: Path, tmp_path: Path, most: str, share: float) -> None:
    (root / "proc/self/fd").mkdir(parents=True)
    group = "sys__fs__cgroup__system.slice__bmsd.service__pids"
    put(root, proc__self__cgroup="0::/system.slice/bmsd.service", **{f"{group}.current": "20", f"{group}.max": most})
    assert computer(tmp_path, 1, root).files_used == share


@pytest.mark.parametrize(
    ("word", "low"), [("0", 0.0), ("50000", 0.0), ("50005", 1.0), ("1", 1.0), ("4", 1.0), ("8", 0.0)]
)
def test_a_pi_tells_of_its_supply_now_and_not_of_the_past(root: Path, tmp_path: Path, word: str, low: float) -> None:
    (root / "sys/devices/platform/soc/soc:firmware").mkdir(parents=True)
    (root / "sys/devices/platform/soc/soc:firmware/get_throttled").write_text(word + "\n")
    assert computer(tmp_path, 1, root).power_low == low


def test_a_newer_pi_tells_of_its_supply_by_a_sensor(root: Path, tmp_path: Path) -> None:
    sensors = "sys__class__hwmon__hwmon"
    put(
        root,
        **{f"{sensors}0__name": "cpu_thermal", f"{sensors}1__name": "rpi_volt", f"{sensors}1__in0_lcrit_alarm": "1"},
    )
    assert computer(tmp_path, 1, root).power_low == 1.0


@pytest.mark.parametrize(
    ("life", "wear"), [("0x01 0x01", 0.1), ("0x08 0x03", 0.8), ("0x02 0x09", 0.9), ("0x00 0x00", math.nan)]
)
@pytest.mark.parametrize("partition", [True, False])
def test_the_storage_that_holds_the_state_tells_its_wear(
    root: Path, tmp_path: Path, life: str, wear: float, partition: bool
) -> None:
    device = tmp_path.stat().st_dev
    disk = root / "sys/devices/mmc0/block/mmcblk0"
    (disk / "mmcblk0p2").mkdir(parents=True)
    put(disk, device__life_time=life)
    (root / "sys/dev/block").mkdir(parents=True)
    place = root / f"sys/dev/block/{os.major(device)}:{os.minor(device)}"
    place.symlink_to(disk / "mmcblk0p2" if partition else disk)
    assert computer(tmp_path, 1, root).storage_wear == pytest.approx(wear, nan_ok=True)


@pytest.mark.parametrize(("word", "reset"), [("0", False), ("32", True), ("33", True), ("", False)])
def test_the_watchdog_says_whether_it_has_reset_the_computer(root: Path, word: str, reset: bool) -> None:
    put(root, sys__class__watchdog__watchdog0__bootstatus=word)
    assert reset_by_watchdog(root) is reset


def test_a_read_that_blocks_holds_nobody_and_what_was_read_before_grows_too_old_to_be_believed(tmp_path: Path) -> None:
    blocks, free = threading.Event(), threading.Event()

    def read(directory: Path, reading: int) -> Computer:  # noqa: ARG001
        if reading > 1:
            blocks.set()
            free.wait(20.0)
        return Computer(reading, 0.0, cpu_degc=40.0)

    reader = ComputerReader(tmp_path, read, every_s=0.01)
    assert reader.now(0.0).reading == 0, "nothing was read yet"
    reader.start()
    assert blocks.wait(20.0)
    now_s = time.monotonic()
    fresh, old = reader.now(now_s + STALE_S - 1.0), reader.now(now_s + STALE_S + 1.0)
    assert time.monotonic() - now_s < 1.0
    assert (fresh.reading, fresh.cpu_degc) == (1, 40.0)
    assert old.reading == 1
    assert math.isnan(old.cpu_degc)
    assert old.age_s > STALE_S
    reader.close()
    free.set()
