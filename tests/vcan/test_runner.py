"""The runner itself, from outside: what it passes on, what it keeps apart, and what it says when it cannot."""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

RUN = Path(__file__).with_name("run")
ROOT = RUN.parents[2]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    surroundings = {**os.environ, "BMSD_VCAN_WAY": "", **environment}
    return subprocess.run(
        [str(RUN), *arguments], capture_output=True, text=True, check=False, env=surroundings, timeout=120
    )


def _needs_a_way(**environment: str) -> None:
    probe = run("-p", **environment)
    if probe.returncode != 0 and os.environ.get("CI") != "true":
        pytest.skip(probe.stderr.strip())
    assert probe.returncode == 0, probe.stderr


@pytest.fixture(autouse=True, scope="module")
def _needs_the_interfaces() -> None:
    """Where they cannot be had, the vcan tests say so; here it is the same obstacle."""
    _needs_a_way()


@pytest.fixture
def uml() -> dict[str, str]:
    """The environment for a guest, also where the kernel has vcan: a namespace keeps no files apart, and never dies."""
    way = {"BMSD_VCAN_WAY": "uml"}
    _needs_a_way(**way)
    return way


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with an awkward name below /tmp, which the guest covers with a layer of its own."""
    with tempfile.TemporaryDirectory(prefix="vcan runner's ", dir="/tmp") as name:
        yield Path(name)


def test_a_command_keeps_its_arguments_its_folder_its_environment_and_its_exit_code(folder: Path) -> None:
    (folder / "data").write_text("seen from inside\n")
    script = 'pwd; cat data; echo "$1|$2"; echo "$COLOUR"; echo kept >written; echo error >&2; exit 7'
    done = run("-C", str(folder), "-t", "60", "bash", "-c", script, "name", "two words", "$HOME'\"", COLOUR="a 'b'")
    assert done.returncode == 7, done.stderr
    assert done.stdout.splitlines() == [str(folder), "seen from inside", "two words|$HOME'\"", "a 'b'", "error"]
    assert (folder / "written").read_text() == "kept\n"


def test_two_interfaces_are_up_and_can_utils_see_each_other() -> None:
    story = """
        ip -brief link | awk '{ print $1 }' | sort | paste -sd' '
        candump -L -n 1 vcan1 & listener=$!
        # nothing says when candump listens: it is sent to until it has heard one
        while kill -0 $listener 2>/dev/null; do cansend vcan1 351#F401; sleep 0.05; done
    """
    done = run("-C", str(ROOT), "-t", "60", "bash", "-c", story)
    assert done.returncode == 0, done.stderr
    names, frame = done.stdout.splitlines()
    assert names == "lo vcan0 vcan1"
    assert frame.endswith("vcan1 351#F401")


def test_a_command_that_takes_too_long_is_124() -> None:
    started_s = time.monotonic()
    assert run("-t", "3", "sleep", "60").returncode == 124
    assert time.monotonic() - started_s < 30.0


def test_a_second_writable_folder_is_written_and_nothing_else_is(folder: Path, uml: dict[str, str]) -> None:
    probe = ROOT / "written-by-test-runner"
    script = f"echo kept >{shlex.quote(str(folder / 'written'))}; touch {shlex.quote(str(probe))} /etc/written-by-test"
    done = run("-C", "/usr", "-w", str(folder), "-t", "60", "bash", "-c", script, **uml)
    assert done.returncode == 1
    # Elsewhere a write is refused; below /tmp, where this checkout may be, it is forgotten.
    assert "/etc/written-by-test': Read-only file system" in done.stdout
    assert (folder / "written").exists()
    assert not probe.exists()


def test_a_guest_that_dies_is_125(uml: dict[str, str]) -> None:
    done = run("-t", "60", "busybox", "poweroff", "-f", **uml)
    assert done.returncode == 125
    assert "the guest died" in done.stderr


def test_without_a_way_to_vcan_it_is_125_and_says_what_is_missing() -> None:
    done = run("true", BMSD_VCAN_WAY="uml", UML="no-such-kernel")
    assert done.returncode == 125
    assert "no-such-kernel" in done.stderr
    assert "tests/tools/install" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "no command"),
        (["-t", "0", "true"], "whole seconds"),
        (["-t", "1.5", "true"], "whole seconds"),
        (["-C", "/no/such/folder", "true"], "no such folder"),
        (["-x", "true"], "-x"),
        (["-C"], "-C"),
    ],
)
def test_wrong_usage_is_125_and_says_what_is_wrong(arguments: list[str], complaint: str) -> None:
    done = run(*arguments)
    assert done.returncode == 125
    assert complaint in done.stderr
    assert done.stdout == ""


def test_an_unknown_way_names_the_known_ones() -> None:
    done = run("true", BMSD_VCAN_WAY="usb")
    assert done.returncode == 125
    assert "namespace, uml" in done.stderr


@pytest.mark.vcan
class TestInsideTheGuest:
    """The kernel in there has vcan: the way by namespace is tried on every machine."""

    def test_the_namespace_is_found_and_has_its_own_interfaces(self) -> None:
        assert run("-p").stdout == "namespace\n"
        done = run("bash", "-c", "ip -brief link | wc -l; ip link set vcan0 down; exit 9", IN_VCAN="")
        assert (done.returncode, done.stdout) == (9, "3\n")
        outer = subprocess.run(["ip", "-brief", "link", "show", "vcan0"], capture_output=True, text=True, check=True)
        assert "UP" in outer.stdout

    def test_a_command_in_the_namespace_that_takes_too_long_is_124(self) -> None:
        assert run("-t", "1", "sleep", "60").returncode == 124

    def test_and_124_when_it_does_not_end_when_asked(self) -> None:
        assert run("-t", "1", "bash", "-c", 'trap "" TERM; sleep 60; sleep 60').returncode == 124

    def test_nothing_it_started_outlives_it(self) -> None:
        assert run("bash", "-c", "setsid sleep 7654 & exit 4").returncode == 4
        assert "7654" not in subprocess.run(["ps", "ax"], capture_output=True, text=True, check=True).stdout
