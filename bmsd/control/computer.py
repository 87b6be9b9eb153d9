"""What Linux tells of the computer and of this process. What it does not tell is NaN, never an error.

Sources are files of /proc and /sys below `root`; a sandbox may hide some of them, a computer may lack others.
"""

from __future__ import annotations

import errno
import math
import os
import resource
from collections.abc import Iterator
from pathlib import Path

from bmsd.model.host import Computer

NAN = math.nan
PROCESSOR_ZONES = ("cpu", "soc", "x86_pkg_temp", "coretemp")
"""Beginnings of the names that thermal zones of processors have; others may be of a battery or a case."""
THROTTLED = "sys/devices/platform/soc/soc:firmware/get_throttled"
UNDER_VOLTAGE_NOW, SLOWED_NOW = 0x1, 0x4
"""Bits of the Raspberry Pi firmware's word; those of the past are not asked for."""
CARD_RESET = 0x20
"""WDIOF_CARDRESET, linux/watchdog.h: the watchdog has reset the computer."""


def computer(directory: Path, reading: int, root: Path = Path("/")) -> Computer:
    """Return what the computer says now; `directory` is that of the state. Reading the disk may block."""
    free, read_only = _disk(directory)
    return Computer(
        reading=reading,
        age_s=0.0,
        cpu_degc=_cpu_degc(root),
        resident_mib=_resident_mib(root),
        memory_available=_memory_available(root),
        files_used=_files_used(root),
        disk_free=free,
        disk_read_only=read_only,
        storage_wear=_storage_wear(directory, root),
        power_low=_power_low(root),
    )


def boot_id(root: Path = Path("/")) -> str:
    """Return what changes with every start of the computer; empty when it is not told."""
    return _text(root / "proc/sys/kernel/random/boot_id")


def reset_by_watchdog(root: Path = Path("/")) -> bool:
    """Whether the computer's watchdog has reset it before this start."""
    words = (_text(path) for path in _found(root, "sys/class/watchdog/watchdog*/bootstatus"))
    return any(word.isdecimal() and int(word) & CARD_RESET for word in words)


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def _found(root: Path, pattern: str) -> Iterator[Path]:
    try:
        yield from sorted(root.glob(pattern))
    except OSError:
        return


def _number(text: str, base: int = 10) -> float:
    try:
        return float(int(text, base))
    except ValueError:
        return NAN


def _cpu_degc(root: Path) -> float:
    """The hottest zone of the processor, degC."""
    hottest = NAN
    for kind in _found(root, "sys/class/thermal/thermal_zone*/type"):
        if not _text(kind).lower().startswith(PROCESSOR_ZONES):
            continue
        degc = _number(_text(kind.with_name("temp"))) / 1000.0
        if -40.0 <= degc <= 150.0:
            hottest = degc if math.isnan(hottest) else max(hottest, degc)
    return hottest


def _kib(text: str, name: str) -> float:
    """The number of this line of a file such as /proc/meminfo, KiB."""
    for line in text.splitlines():
        if line.startswith(name + ":"):
            return _number(line.split()[1]) if len(line.split()) > 1 else NAN
    return NAN


def _resident_mib(root: Path) -> float:
    return _kib(_text(root / "proc/self/status"), "VmRSS") / 1024.0


def _memory_available(root: Path) -> float:
    text = _text(root / "proc/meminfo")
    total = _kib(text, "MemTotal")
    return _kib(text, "MemAvailable") / total if total > 0.0 else NAN


def _files_used(root: Path) -> float:
    """Open files, or threads, as a share of what this process may have; the larger one that is known."""
    shares = []
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        opened = len(os.listdir(root / "proc/self/fd"))
    except OSError as error:
        opened = most if error.errno == errno.EMFILE else -1
    if opened >= 0 and most > 0:
        shares.append(opened / most)
    group = root / "sys/fs/cgroup" / _text(root / "proc/self/cgroup").rpartition("::/")[2]
    most_tasks = _number(_text(group / "pids.max"))
    share = _number(_text(group / "pids.current")) / most_tasks if most_tasks > 0.0 else NAN
    if share >= 0.0:
        shares.append(share)
    return max(shares, default=NAN)


def _disk(directory: Path) -> tuple[float, float]:
    """Free share for an ordinary user (of blocks or files, the smaller), and 1 when the disk is read-only."""
    try:
        disk = os.statvfs(directory)
    except OSError:
        return NAN, NAN
    usable = disk.f_blocks - disk.f_bfree + disk.f_bavail
    free = [disk.f_bavail / usable] if usable > 0 else []
    if disk.f_files > 0:
        free.append(disk.f_favail / disk.f_files)
    return min(free, default=NAN), float(bool(disk.f_flag & os.ST_RDONLY))


def _storage_wear(directory: Path, root: Path) -> float:
    """The share of its life that an eMMC says it has used up, in steps of 0.1; SD cards and disks do not say."""
    try:
        device = directory.stat().st_dev
    except OSError:
        return NAN
    block = root / f"sys/dev/block/{os.major(device)}:{os.minor(device)}"
    text = _text(block / "device/life_time") or _text(block.resolve().parent / "device/life_time")
    steps = [step for word in text.split() if (step := _number(word, 16)) > 0.0]  # 0: not defined
    return max(steps, default=NAN) / 10.0


def _power_low(root: Path) -> float:
    """Whether a Raspberry Pi says that its supply is too low or that it slows itself down."""
    word = _number(_text(root / THROTTLED), 16)
    if not math.isnan(word):
        return float(bool(int(word) & (UNDER_VOLTAGE_NOW | SLOWED_NOW)))
    for name in _found(root, "sys/class/hwmon/hwmon*/name"):
        if _text(name) == "rpi_volt":
            return _number(_text(name.with_name("in0_lcrit_alarm")))
    return NAN
