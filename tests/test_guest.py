"""What `guest` tells of tests that ran elsewhere, and which it asks again. The "guest" is a shell on this computer."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.programs import PATIENCE_S, ROOT

FILES = {
    "pytest.ini": "[pytest]\nmarkers = away: in a guest\n",
    "runner": """\
#!/bin/bash
if [ "$1" = -p ]; then echo "$OBSTACLE" >&2; [ -z "$OBSTACLE" ]; exit; fi
while [[ $1 == -* ]]; do shift 2; done
HERE=1 exec "$@"
""",
    "conftest.py": """\
from pathlib import Path
from tests.guest import Kind, register

def pytest_configure(config):
    register(config, Kind("away", Path(__file__).with_name("runner"), "HERE", seconds=60))
""",
    "test_away.py": """\
import os, time
from pathlib import Path
import pytest
pytestmark = pytest.mark.away

def times(name, stall_s=0.0):
    with open(name, "a") as told, open(os.environ["BMSD_GUEST_STALLS"], "a") as stalls:
        told.write("x")
        stalls.write(f"{time.time():.4f} {stall_s}\\n")
    return Path(name).stat().st_size

def test_right(): assert os.environ["HERE"] == "1"
def test_wrong_once(): assert times("a") > 1
def test_wrong_once_beside_a_short_stall(): assert times("b", 0.2) > 1
def test_wrong_once_while_all_stood_still(): assert times("c", 0.5) > 1
def test_wrong_twice_while_all_stood_still(): assert times("d", 0.5) > 2
def test_the_guest_dies(): os._exit(3)
""",
}


def told(folder: Path, **environment: str) -> dict[str, str]:
    """Return what pytest says of each test."""
    for name, text in FILES.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    surroundings = {"CI": "", "OBSTACLE": "", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider"], cwd=folder, capture_output=True, text=True,
        check=False, timeout=PATIENCE_S, env={**os.environ, **surroundings, **environment},
    )  # fmt: skip
    lines = re.findall(r"^test_away.py::test_(\w+) (\w+)", done.stdout, re.MULTILINE)
    said = dict(reversed(lines))  # what the guest wrote comes after what is told of it
    assert len(said) == 6, done.stdout + done.stderr
    return said


def test_a_failure_is_asked_once_more_only_when_the_computer_stood_still_and_then_the_second_answer_counts(
    tmp_path: Path,
) -> None:
    assert told(tmp_path) == {
        "right": "PASSED",
        "wrong_once": "FAILED",
        "wrong_once_beside_a_short_stall": "FAILED",
        "wrong_once_while_all_stood_still": "PASSED",
        "wrong_twice_while_all_stood_still": "FAILED",
        "the_guest_dies": "ERROR",
    }
    assert {name: len((tmp_path / name).read_text()) for name in "abcd"} == {"a": 1, "b": 1, "c": 2, "d": 2}


@pytest.mark.parametrize(("ci", "outcome"), [("", "SKIPPED"), ("true", "ERROR")])
def test_without_a_guest_tests_are_skipped_and_fail_where_nothing_may_be_hidden(
    tmp_path: Path, ci: str, outcome: str
) -> None:
    assert set(told(tmp_path, CI=ci, OBSTACLE="no kernel").values()) == {outcome}
