"""Boards of another maker from their frames to `bmsd status`: the example of deploy/, real processes, socket buses."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import can
import pytest

from bmsd.fieldbus.unix_bus import Hub
from bmsd.inverters.pylontech_lv import LIMITS, REQUESTS
from tests.programs import ROOT, Program, bmsd
from tests.third_party_board import REQUEST, Boards

EXAMPLE = ROOT / "deploy" / "mapped-2x16s.toml"
OF_BOARDS = {0x100, 0x101, 0x110, 0x111, 0x18FEFE10}


def example(folder: Path, **more: str) -> Path:
    """The example on socket buses in `folder`; `more` replaces text."""
    text = EXAMPLE.read_text()
    changes = {
        'interface = "socketcan"': 'interface = "unix"',
        'channel = "can0"': f'channel = "{folder / "field.sock"}"',
        'channel = "can1"': f'channel = "{folder / "inverter.sock"}"',
        'dbc = "mapped-board.dbc"': f'dbc = "{EXAMPLE.with_name("mapped-board.dbc")}"',
        "[inverter]": (
            f'[state]\ndirectory = "{folder / "state"}"\n'
            "[limits]\nrise_a_per_s_per_100a = 5.0\nhold_after_zero_s = 1.0\n[inverter]"
        ),
        "[link]": f'[link]\nsocket = "{folder / "link.sock"}"\nservice_socket = "{folder / "service.sock"}"',
        **more,
    }
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    path = folder / "rack.toml"
    path.write_text(text)
    return path


class Site:
    """Two buses, the boards, and control."""

    def __init__(self, folder: Path, config: Path, stack: ExitStack) -> None:
        self.config = config
        field = stack.enter_context(Hub(folder / "field.sock"))
        inverter = stack.enter_context(Hub(folder / "inverter.sock"))
        self.field = stack.enter_context(can.Bus(interface="unix", channel=field.path))
        self.inverter = stack.enter_context(can.Bus(interface="unix", channel=inverter.path))
        self.boards = subprocess.Popen(
            [sys.executable, "-m", "tests.third_party_board", field.path], cwd=ROOT, stderr=subprocess.DEVNULL
        )
        stack.callback(self._end_boards)
        self.run = stack.enter_context(Program(folder, "run", "-c", config))

    def _end_boards(self) -> None:
        self.boards.kill()
        self.boards.wait()

    def status(self) -> dict[str, Any]:
        shown = bmsd("status", "-c", self.config, "--json")
        return json.loads(shown.stdout) if shown.returncode == 0 else {}

    def complete(self) -> dict[str, Any]:
        """The first status of a rack in which nothing is missing and the inverter has been told something."""

        def whole() -> dict[str, Any]:
            shown = self.status()
            cells = [v for string in shown.get("cells", {}).get("voltage_v", [[[None]]]) for m in string for v in m]
            return shown if None not in cells and shown["missing"] == [] else {}

        return self.run.wait_for(whole)


@contextmanager
def site(folder: Path, **changes: str) -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(folder, example(folder, **changes), stack)


def heard(bus: can.BusABC, seconds: float) -> list[can.Message]:
    until_s = time.monotonic() + seconds
    messages = []
    while (left_s := until_s - time.monotonic()) > 0.0:
        message = bus.recv(left_s)
        if message is not None:
            messages.append(message)
    return messages


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site(tmp_path_factory.mktemp("watched")) as running:
        running.complete()
        yield running


def test_the_status_shows_every_cell_and_temperature_of_foreign_boards(watched: Site) -> None:
    shown, boards = watched.complete(), Boards()
    assert shown["cells"]["voltage_v"] == [[pytest.approx(volts) for volts in boards.cell_v]]
    assert shown["temperature_degc"] == [[[float(degc or 0) for degc in board] for board in boards.degc]]
    assert shown["strings"][0]["current_a"] == 0.0
    assert shown["strings"][0]["string_v"] == pytest.approx(sum(map(sum, boards.cell_v)), abs=0.06)
    assert shown["points"]["modules_online"] == 2
    assert 0.0 < shown["points"]["soc"] < 1.0
    assert shown["faults"] == []
    assert shown["buses"][0]["dropped"]["boards_checksum"] == 0


def test_on_a_monitored_site_limits_are_computed_and_the_inverter_is_told_zero(watched: Site) -> None:
    bounds = watched.run.wait_for(lambda: [b for b in watched.status()["charge_bounds"] if b["source"] == "ratings"])
    assert bounds[0]["amps"] == 140.0
    shown = watched.status()
    assert shown["charge_bounds"][0] == {
        "amps": 0.0, "reason": "monitor only: nothing would enforce a limit", "source": "monitor", "string": None
    }  # fmt: skip
    assert (shown["points"]["charge_limit_a"], shown["points"]["discharge_limit_a"]) == (0.0, 0.0)
    told = heard(watched.inverter, 2.5)
    limits = [bytes(message.data) for message in told if message.arbitration_id == LIMITS]
    assert len(limits) >= 2
    assert {data[2:6] for data in limits} == {bytes(4)}, "CCL and DCL"
    assert {message.data[0] & 0xC0 for message in told if message.arbitration_id == REQUESTS} == {0}


def test_nothing_but_the_request_is_sent_to_foreign_boards(watched: Site) -> None:
    on_bus = {message.arbitration_id for message in heard(watched.field, 1.5)}
    assert on_bus == {REQUEST} | OF_BOARDS


def test_boards_that_fall_silent_are_unknown_and_named(tmp_path: Path) -> None:
    with site(tmp_path) as dying:
        dying.complete()
        dying.boards.kill()
        shown = dying.run.wait_for(lambda: (s := dying.status())["missing"] and s)
        dying.run.wait_for(lambda: dying.status()["points"]["cells_unknown"] == 32)
        assert any("cells of module 2 of string 1" in sentence for sentence in shown["missing"])
        dying.run.wait_for(lambda: "MOD-001" in {fault["code"] for fault in dying.status()["faults"]})
        assert dying.run.end() == 0


def test_whoever_accepts_it_gets_limits_that_only_the_inverter_enforces(tmp_path: Path) -> None:
    with site(tmp_path, **{"# accept_unenforced": "accept_unenforced"}) as accepted:
        accepted.complete()
        accepted.run.wait_for(lambda: accepted.status()["points"]["charge_limit_a"] > 0.0)
        shown = accepted.status()
        assert not any(bound["source"] == "monitor" for bound in shown["charge_bounds"])
        assert shown["strings"][0]["state"] == "closed"
        told = heard(accepted.inverter, 2.5)
        assert any(message.arbitration_id == LIMITS and any(message.data[2:4]) for message in told)
        began_s = time.monotonic()
        assert accepted.run.end() == 0
        assert time.monotonic() - began_s < 8.0, "it commands no contactors that it could wait for"


def test_contactor_units_beside_the_boards_close_the_string_and_limits_are_enforced(tmp_path: Path) -> None:
    """The units are those of the simulator, at the voltage of the boards' cells; its own boards are not heard."""
    text = EXAMPLE.read_text()
    of_pack = text[text.index('[[fieldbus.mapped.values]]\nquantity = "current_a"') : text.index("# The inverter, on")]
    changes = {
        of_pack: "",
        'current_sign = "discharge_positive"': 'units = "slave"',
        "[string]": "[string]\nprecharge_ohm = 10.0",
    }
    changes["[fieldbus]"] = "[sim]\nsoc0 = 0.148\nsoc0_spread = 0.0\n[sim.bus]\nprecharge_ohm = 10.0\n[fieldbus]"
    with site(tmp_path, **changes) as switched, Program(tmp_path, "sim", "-c", switched.config):
        shown = switched.complete()
        assert shown["cells"]["voltage_v"] == [[pytest.approx(volts) for volts in Boards().cell_v]]
        switched.run.wait_for(lambda: switched.status()["strings"][0]["state"] == "closed")
        switched.run.wait_for(lambda: switched.status()["points"]["charge_limit_a"] > 0.0)
        assert switched.status()["faults"] == []
        assert not any(bound["source"] == "monitor" for bound in switched.status()["charge_bounds"])
        assert switched.run.end() == 0


def test_the_simulator_does_not_pretend_to_be_boards_of_another_maker(tmp_path: Path) -> None:
    shown = bmsd("sim", "-c", example(tmp_path), "--for", 0)
    assert shown.returncode == 78
    assert "fieldbus.driver: mapped without units" in shown.stderr


def test_check_says_what_enforces_the_limits(tmp_path: Path) -> None:
    shown = bmsd("check", EXAMPLE)
    assert (shown.returncode, shown.stdout.splitlines()[-2]) == (
        0, "monitor only: nothing would enforce a limit, the inverter is told zero; see accept_unenforced"
    )  # fmt: skip
    accepted = bmsd("check", example(tmp_path, **{"# accept_unenforced": "accept_unenforced"}))
    assert "monitor only, accepted" in accepted.stdout


def test_all_that_is_wrong_with_a_map_is_told_at_once_with_the_rest(tmp_path: Path) -> None:
    changes = {"Cell_{cell:02d}_Voltage": "Cel_{cell:02d}_Voltage", "PackCurrent": "PackCurent", "fuse_a = 200.0": ""}
    shown = bmsd("check", example(tmp_path, **changes))
    assert shown.returncode == 78
    assert "entry 1.signals: Cel_01_Voltage is not in Board_1_Cells; did you mean Cell_01_Voltage?" in shown.stderr
    assert "string.fuse_a: missing" in shown.stderr
    right = {key: value for key, value in changes.items() if "fuse" not in key}
    shown = bmsd("check", example(tmp_path, **right))
    assert shown.returncode == 78
    assert "did you mean PackCurrent?" in shown.stderr
