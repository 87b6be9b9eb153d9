"""What keeps control on time beside its own code: locked memory, scheduling, and no long collection of garbage."""

from __future__ import annotations

import ctypes
import gc
import os
import resource
from collections.abc import Iterator

_CURRENT, _FUTURE, _ON_FAULT = 1, 2, 4
"""Of mlockall(2), asm-generic/mman.h: what is mapped now and later, each page once it is used."""
_CLASSES = {os.SCHED_FIFO: "SCHED_FIFO", os.SCHED_RR: "SCHED_RR"}


def settle() -> Iterator[str]:
    """Lock memory, set aside what stays for good; yield sentences on how this process runs."""
    gc.collect()
    gc.freeze()  # else a full collection looks at all modules and tables again, for longer than a tick may take
    for look in (_scheduled, _locked):
        try:
            yield look()
        except OSError as error:  # a sandbox may deny even the question
            yield f"{look.__name__.strip('_')}: not known: {error.strerror}"


def _scheduled() -> str:
    found = os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK
    if found in _CLASSES:
        return f"scheduled as {_CLASSES[found]} with priority {os.sched_getparam(0).sched_priority}"
    return "scheduled like any other process: a busy computer may delay ticks (CPUSchedulingPolicy=fifo of the unit)"


def _locked() -> str:
    """Lock all memory. With a limit to it that could make a later allocation fail: then nothing is locked."""
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if soft != resource.RLIM_INFINITY:
        return f"memory is not locked: at most {soft >> 10} KiB may be (LimitMEMLOCK=infinity of the unit)"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mlockall(_CURRENT | _FUTURE | _ON_FAULT) != 0:
        return f"memory is not locked: {os.strerror(ctypes.get_errno())} (LimitMEMLOCK=infinity of the unit)"
    return "memory is locked"
