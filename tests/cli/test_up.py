"""`bmsd up`: control and gateway as one for a container."""

from __future__ import annotations

import signal
from pathlib import Path

import psutil
import pytest

from bmsd.link.client import LinkClient
from tests.programs import Program, bmsd, rack_file

QUIET = "[modbus]\nenabled = false\n[web]\nenabled = false\n"


def rack(folder: Path, gateway: str = QUIET) -> Path:
    config = rack_file(folder)
    (folder / "state").mkdir(exist_ok=True)
    config.write_text(config.read_text() + gateway)
    return config


def child(program: Program, command: str) -> psutil.Process:
    """The process of this command below `bmsd up`."""

    def found() -> psutil.Process | None:
        children = psutil.Process(program.process.pid).children()
        return next((one for one in children if command in one.cmdline()), None)

    process = program.wait_for(found)
    assert process is not None
    return process


def test_both_run_and_end_together_in_order(tmp_path: Path) -> None:
    with Program(tmp_path, "up", "-c", rack(tmp_path)) as up:
        up.wait_for(lambda: "link.open" in up.err and "gateway.running" in up.err)
        assert up.end() == 0
    assert up.err.index("control.left") < up.err.index("gateway.left")


@pytest.mark.parametrize(("killed", "other"), [("run", "gateway"), ("gateway", "run")])
def test_the_death_of_either_ends_both(killed: str, other: str, tmp_path: Path) -> None:
    with Program(tmp_path, "up", "-c", rack(tmp_path)) as up:
        up.wait_for(lambda: "link.open" in up.err)
        survivor = child(up, other)
        child(up, killed).send_signal(signal.SIGKILL)
        assert up.process.wait(60) == 128 + signal.SIGKILL
        assert not survivor.is_running()


def test_a_control_that_had_to_be_killed_is_no_end_in_order(tmp_path: Path) -> None:
    with Program(tmp_path, "up", "-c", rack(tmp_path)) as up:
        up.wait_for(lambda: "link.open" in up.err)
        child(up, "run").send_signal(signal.SIGSTOP)
        up.process.terminate()
        assert up.process.wait(60) == 128 + signal.SIGKILL


def test_a_wrong_table_of_the_gateway_is_told_before_anything_starts(tmp_path: Path) -> None:
    done = bmsd("up", "-c", rack(tmp_path, "[modbus]\nport = 0\n[web]\nprt = 1\n"))
    assert done.returncode == 78
    assert "modbus.port: 0; expected" in done.stderr
    assert "web.prt: unknown setting; did you mean port?" in done.stderr
    assert not (tmp_path / "link.sock").exists()


def test_a_wrong_table_of_the_gateway_stops_the_gateway_and_never_control(tmp_path: Path) -> None:
    config = rack(tmp_path, "[modbus]\nport = 0\n[mqtt]\ntenant = 'a/b'\n")
    done = bmsd("gateway", "-c", config)
    assert done.returncode == 78
    assert done.stderr.count("expected") == 2
    with Program(tmp_path, "run", "-c", config) as control:
        control.wait_for((tmp_path / "link.sock").exists)
        LinkClient(tmp_path / "link.sock").close()
        assert control.end() == 0
