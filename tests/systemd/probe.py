"""Tries what a sandbox should deny, or allow, and prints the outcome of each try as JSON: "done" or the error's name.

Runs inside the sandbox of a service with nothing but the standard library: python probe.py OTHER_PID FILE
"""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

libc = ctypes.CDLL(None, use_errno=True)


def called(result: int) -> None:
    """Raise what a C function says."""
    if result != 0:
        raise OSError(ctypes.get_errno(), "")


def connected(path: str) -> None:
    socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET).connect(path)


def opened(family: int, kind: int = socket.SOCK_DGRAM, protocol: int = 0) -> Callable[[], object]:
    return lambda: socket.socket(family, kind, protocol)


TRIES: dict[str, Callable[[], object]] = {
    "IPv4": opened(socket.AF_INET),
    "IPv6": opened(socket.AF_INET6),
    "CAN": opened(socket.AF_CAN, socket.SOCK_RAW, socket.CAN_RAW),
    "packets": opened(socket.AF_PACKET, socket.SOCK_RAW),
    "netlink": opened(socket.AF_NETLINK, socket.SOCK_RAW),
    "link": lambda: connected("/run/bmsd/link.sock"),
    "service": lambda: connected("/run/bmsd/service.sock"),
    "state of control": lambda: os.listdir("/var/lib/bmsd"),
    "state of the gateway": lambda: os.listdir("/var/lib/bmsd-gateway"),
    "configuration": lambda: Path("/etc/bmsd/bmsd.toml").read_text(),
    "change what anybody may": lambda: Path(sys.argv[2]).write_text("changed"),
    "secrets of root": lambda: os.listdir("/etc/bmsd/credentials"),
    "credential": lambda: Path(os.environ["CREDENTIALS_DIRECTORY"], "bmsd_secret").read_text(),
    "homes": lambda: os.listdir("/root"),
    "kernel log": lambda: os.open("/dev/kmsg", os.O_RDONLY),
    "memory of the computer": lambda: os.open("/dev/mem", os.O_RDONLY),
    "serial line": lambda: os.stat("/dev/ttyS0"),
    "memory that is left": lambda: Path("/proc/meminfo").read_text(),
    "which boot it is": lambda: Path("/proc/sys/kernel/random/boot_id").read_text(),
    "change the kernel": lambda: Path("/proc/sys/kernel/hostname").write_text("probe"),
    "other processes": lambda: os.stat(f"/proc/{sys.argv[1]}/status"),
    "kill the other": lambda: os.kill(int(sys.argv[1]), 0),
    "set the clock": lambda: time.clock_settime(time.CLOCK_REALTIME, time.time()),
    "mount": lambda: called(libc.mount(b"none", b"/mnt", b"tmpfs", 0, None)),
    "trace": lambda: called(libc.ptrace(0x4206, int(sys.argv[1]), 0, 0)),
    "real time": lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10)),
    "write what is run": lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC),
    "lock memory": lambda: called(libc.mlockall(3)),
    "give a file away": lambda: os.chown(f"{os.environ['STATE_DIRECTORY']}/probe", -1, os.getgroups()[0]),
    # last: what comes after one that succeeded would be tried with other rights
    "be root": lambda: os.setuid(0),
    "namespace": lambda: called(libc.unshare(0x10000000)),
}


def outcome(attempt: Callable[[], object]) -> str:
    try:
        attempt()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    except Exception as error:
        return type(error).__name__
    return "done"


Path(os.environ["STATE_DIRECTORY"], "probe").touch()
print(json.dumps({name: outcome(attempt) for name, attempt in TRIES.items()}))  # noqa: T201
