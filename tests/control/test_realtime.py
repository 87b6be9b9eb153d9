"""How control says that it is scheduled, and locks its memory; in processes of their own."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.programs import PATIENCE_S, ROOT

SETTLE = """
import gc, json
from bmsd.control.realtime import settle
said = list(settle())
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps({"said": said, "locked": int(status["VmLck"].split()[0]), "frozen": gc.get_freeze_count()}))
"""


def settled(before: Callable[[], None]) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-c", SETTLE], preexec_fn=before, capture_output=True, text=True, cwd=ROOT, check=True,
        timeout=PATIENCE_S,
    )  # fmt: skip
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_memory_that_may_not_all_be_locked_is_not_locked_at_all_and_that_is_said() -> None:
    found = settled(lambda: resource.setrlimit(resource.RLIMIT_MEMLOCK, (1 << 20, 1 << 20)))
    assert found["locked"] == 0
    assert "memory is not locked: at most 1024 KiB may be (LimitMEMLOCK=infinity of the unit)" in str(found["said"])
    assert "scheduled like any other process" in str(found["said"])
    assert int(str(found["frozen"])) > 1000


def test_the_scheduling_class_that_the_unit_gave_is_named() -> None:
    try:
        found = settled(lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(7)))
    except subprocess.SubprocessError:
        pytest.skip("this user may not have SCHED_FIFO")
    assert "scheduled as SCHED_FIFO with priority 7" in str(found["said"])
