"""The unit files by themselves: what systemd says of them, and what must hold between them and the program."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from bmsd.control.daemon import STOP_WITHIN_S
from bmsd.gateway.app import LAST_RECORDS_S
from tests.programs import needs

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "systemd"
SERVICES = ("bmsd.service", "bmsd-gateway.service")
NETWORK = FOLDER / "network"

needs_systemd = needs(shutil.which("systemd-analyze"), "no systemd-analyze here")


def settings(name: str) -> dict[str, list[str]]:
    """Return what is set in a unit, each key with all its values."""
    found: dict[str, list[str]] = {}
    for line in (FOLDER / name).read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


@needs_systemd
def test_systemd_has_nothing_to_say_against_the_units(tmp_path: Path) -> None:
    copies = []
    for unit in sorted(FOLDER.glob("bmsd*")):
        copies.append(tmp_path / unit.name)
        copies[-1].write_text(unit.read_text().replace("/opt/bmsd/venv/bin/bmsd", "/bin/true"))  # not installed here
    assert len(copies) == 3
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *copies], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@needs_systemd
@pytest.mark.parametrize("service", SERVICES)
def test_each_service_is_exposed_by_15_of_100_at_most(service: str) -> None:
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=15", str(FOLDER / service)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Overall exposure level" in done.stdout


def test_neither_service_needs_the_other_or_waits_for_it() -> None:
    for service, other in zip(SERVICES, reversed(SERVICES), strict=True):
        unit = settings(service)
        bonds = [unit.get(key, []) for key in ("Requires", "Wants", "BindsTo", "PartOf", "After", "Before", "Upholds")]
        assert not [value for values in bonds for value in values if other.removesuffix(".service") in value.split(".")]


def test_what_is_the_same_for_both_is_the_same() -> None:
    first, second = ((FOLDER / name).read_text().partition("# The same for both units.")[2] for name in SERVICES)
    assert first
    assert first == second


def test_the_folder_of_the_sockets_is_controls_alone() -> None:
    assert settings("bmsd.service")["RuntimeDirectory"] == ["bmsd"]
    assert "RuntimeDirectory" not in settings("bmsd-gateway.service")


def test_an_ordered_stop_has_the_time_that_the_program_takes() -> None:
    assert float(settings("bmsd.service")["TimeoutStopSec"][0]) >= STOP_WITHIN_S + 3.0  # and the disk
    assert float(settings("bmsd-gateway.service")["TimeoutStopSec"][0]) >= LAST_RECORDS_S + 1.0


@pytest.mark.parametrize("service", SERVICES)
def test_systemd_never_gives_up_but_for_a_wrong_configuration(service: str) -> None:
    unit = settings(service)
    assert unit["Restart"] == ["always"]
    assert unit["StartLimitIntervalSec"] == ["0"]
    assert unit["RestartPreventExitStatus"] == ["78"]


def test_a_hung_control_is_replaced_before_the_contactor_units_open() -> None:
    unit = settings("bmsd.service")
    hung_s, last_words_s = float(unit["WatchdogSec"][0]), float(unit["TimeoutAbortSec"][0])
    pause_s = float(unit["RestartSec"][0].removesuffix("ms")) / 1000.0
    assert hung_s + last_words_s + pause_s < 5.0 - 1.0  # a second for the start, docs/slave-protocol.md: 5.0 s


def test_the_pages_that_units_name_are_there() -> None:
    named = {page for unit in FOLDER.glob("bmsd*") for page in settings(unit.name)["Documentation"]}
    assert named
    for page in named:
        assert (ROOT / "docs" / page.removeprefix("file:/usr/share/doc/bmsd/")).exists(), page


def test_both_buses_have_the_bit_rate_of_bmsd_and_queues_that_hold_no_stale_limits() -> None:
    network = (NETWORK / "70-bmsd-can.network").read_text()
    assert "BitRate=500K" in network
    assert re.search(r"^RestartSec=\d+ms$", network, re.MULTILINE)
    for bus, most in (("field", 64), ("inverter", 10)):
        length = re.search(r"^TransmitQueueLength=(\d+)$", (NETWORK / f"70-bmsd-{bus}.link").read_text(), re.MULTILINE)
        assert length is not None
        assert 1 <= int(length[1]) <= most
