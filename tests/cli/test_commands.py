"""Every command as the process that a technician runs: what it prints, how it ends, what it says when it cannot."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.programs import ROOT, bmsd, command, rack_file

COMMANDS = (
    "run",
    "check",
    "sim",
    "demo",
    "status",
    "reset",
    "connect",
    "disconnect",
    "faults",
    "schema",
    "decode",
    "encode",
)
EXAMPLE = ROOT / "deploy" / "rack-16s-lfp.toml"


def test_without_a_command_the_commands_are_listed_one_line_each() -> None:
    shown = bmsd()
    listed = [line for line in (shown.stdout + shown.stderr).splitlines() if line.startswith("  ")]
    for name in COMMANDS:
        (line,) = [line for line in listed if line.split()[:1] == [name]]
        assert line.endswith("."), "not cut off"


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_complete_and_fits_the_terminal(name: str) -> None:
    shown = bmsd(name, "--help")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout.startswith(f"Usage: bmsd {name}")
    assert max(map(len, shown.stdout.splitlines())) <= 80


def test_the_version_is_that_of_the_package() -> None:
    assert bmsd("--version").stdout == "bmsd 0.1.0\n"


def test_an_unknown_command_is_named() -> None:
    shown = bmsd("start")
    assert shown.returncode == 2
    assert "start" in shown.stderr


def test_check_describes_a_valid_file(tmp_path: Path) -> None:
    shown = bmsd("check", rack_file(tmp_path))
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "valid" in shown.stdout
    assert "1 x 1 modules x 16 cells of 280 Ah" in shown.stdout
    assert "pylontech_lv" in shown.stdout


@pytest.mark.parametrize("arguments", [("check",), ("run", "-c"), ("sim", "-c")], ids=lambda a: a[0])
def test_a_file_that_is_not_there_is_named(arguments: tuple[str, ...]) -> None:
    shown = bmsd(*arguments, "no/such/rack.toml")
    assert (shown.returncode, shown.stdout) == (78, "")
    assert "no/such/rack.toml" in shown.stderr
    assert "Traceback" not in shown.stderr


@pytest.mark.parametrize("arguments", [("check",), ("run", "-c"), ("sim", "-c")], ids=lambda a: a[0])
def test_all_complaints_about_a_file_come_at_once(arguments: tuple[str, ...], tmp_path: Path) -> None:
    path = rack_file(tmp_path)
    text = path.read_text()
    path.write_text(
        text.replace("max_v = 3.65", "max_v = 36.5")
        .replace("strings = 1", "strings = 9")
        .replace("min_v = 2.5\n", "")
        .replace("fuse_a = 200.0", 'fuse_a = 200.0\nfuze_a = "200"')
    )
    shown = bmsd(*arguments, path)
    assert (shown.returncode, shown.stdout) == (78, "")
    for setting in ("cell.max_v", "layout.strings", "cell.min_v", "string.fuze_a"):
        assert setting in shown.stderr
    assert len(shown.stderr.splitlines()) == 4


def test_a_file_that_is_no_toml_is_said_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "rack.toml"
    path.write_text('[rack]\nname = "a\n')
    shown = bmsd("check", path)
    assert shown.returncode == 78
    assert "line 2" in shown.stderr


def test_an_unknown_profile_lists_the_known_ones(tmp_path: Path) -> None:
    path = rack_file(tmp_path)
    path.write_text(path.read_text().replace('"pylontech_lv"', '"pylontec"'))
    for shown in (
        bmsd("check", path),
        bmsd("decode", "--profile", "pylontec"),
        bmsd("encode", "--profile", "pylontec", stdin="{}"),
    ):
        assert shown.returncode == (78 if "check" in shown.args else 2)
        assert "pylontec" in shown.stderr
        assert "pylontech_lv" in shown.stderr


def test_a_state_directory_that_cannot_be_written_is_noted_and_is_no_error(tmp_path: Path) -> None:
    path = rack_file(tmp_path)
    (tmp_path / "state").write_text("a file where a folder should be")
    shown = bmsd("check", path)
    assert shown.returncode == 0
    assert "valid" in shown.stdout
    assert "note: state.directory" in shown.stderr
    assert "not a directory" in shown.stderr


@pytest.mark.parametrize(
    ("extra", "says", "notes"),
    [
        ("", "gateway: Modbus on 127.0.0.1:1502, read-only; REST and metrics on 127.0.0.1:8080; no MQTT", []),
        (
            '[modbus]\nenabled = false\n[web]\nenabled = false\n[mqtt]\nenabled = true\nhost = "10.0.0.9"',
            "gateway: no Modbus; no REST; MQTT to 10.0.0.9:1883",
            [],
        ),
        (
            '[modbus]\nwriters = ["10.0.0.1"]\nwritable = ["reserve_soc", "power_setpoint", "controller_heartbeat"]\n',
            "Modbus on 127.0.0.1:1502, reserve_soc, power_setpoint, controller_heartbeat may be written;",
            [
                'note: modbus.writable: reserve_soc, but link.takes lacks "reserve": control will refuse it',
                'note: modbus.writable: power_setpoint, but link.takes lacks "power": control will refuse it',
            ],
        ),
        (
            '[modbus]\nwritable = ["reserve_soc"]',
            "Modbus on 127.0.0.1:1502, read-only",
            ["note: modbus.writable: given, but modbus.writers is empty: nothing can be written"],
        ),
    ],
)
def test_check_says_where_the_gateway_is_and_what_control_would_refuse(
    tmp_path: Path, extra: str, says: str, notes: list[str]
) -> None:
    path = rack_file(tmp_path)
    path.write_text(f"{path.read_text()}\n{extra}\n")
    shown = bmsd("check", path)
    assert shown.returncode == 0
    assert says in shown.stdout
    assert shown.stderr.splitlines() == notes


def test_a_point_that_control_takes_needs_no_note(tmp_path: Path) -> None:
    path = rack_file(tmp_path)
    text = path.read_text()
    assert text.count("[link]") == 1
    text = text.replace("[link]", '[link]\ntakes = ["reset"]')
    path.write_text(f'{text}\n[modbus]\nwriters = ["::1"]\nwritable = ["alarm_reset"]\n')
    assert bmsd("check", path).stderr == ""


def test_faults_lists_every_fault_and_explains_one() -> None:
    listed = bmsd("faults").stdout.splitlines()
    assert len(listed) >= 35
    one = bmsd("faults", "cel-003").stdout
    assert one.startswith("CEL-003 cell over voltage trip (trip, per cell)")
    for word in ("means", "raised", "bmsd does", "to do", "clears"):
        assert f"\n  {word}" in one


def test_faults_shows_the_thresholds_of_a_configuration(tmp_path: Path) -> None:
    path = rack_file(tmp_path)
    path.write_text(path.read_text() + "\n[protection]\ncell_over_voltage_trip_v = 3.63\n")
    assert "3.63 V" in bmsd("faults", "CEL-003", "-c", path).stdout


def test_an_unknown_fault_suggests_near_ones() -> None:
    shown = bmsd("faults", "CEL-033")
    assert shown.returncode == 2
    assert "CEL-003" in shown.stderr


def test_schema_is_the_one_in_deploy() -> None:
    assert bmsd("schema").stdout == (ROOT / "deploy" / "bmsd.schema.json").read_text()


def test_status_without_a_control_process_says_where_it_looked(tmp_path: Path) -> None:
    for arguments in (("--link", tmp_path / "link.sock"), ("-c", rack_file(tmp_path)), ("--link", tmp_path)):
        shown = bmsd("status", *arguments)
        assert (shown.returncode, shown.stdout) == (1, "")
        assert str(tmp_path) in shown.stderr
        assert len(shown.stderr.splitlines()) == 1


def test_reset_without_a_control_process_and_of_an_unknown_fault(tmp_path: Path) -> None:
    path = rack_file(tmp_path)
    shown = bmsd("reset", "CEL-003", "-c", path)
    assert shown.returncode == 1
    assert "service.sock" in shown.stderr
    shown = bmsd("reset", "CEL-999", "-c", path)
    assert shown.returncode == 2
    assert "trip, contactors" in shown.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--strings", 8, "--modules", 5), "40 modules; at most 32"),
        (("--modules", 26), "1500 V"),
        (("--strings", 9), "'--strings': Input should be less than or equal to 8"),
        (("--modules", 0), "'--modules'"),
        (("--for", -1), "'--for'"),
    ],
)
def test_a_demo_that_cannot_be_is_refused_before_anything_starts(arguments: tuple[object, ...], words: str) -> None:
    shown = bmsd("demo", *arguments)
    assert (shown.returncode, shown.stdout) == (2, "")
    assert words in shown.stderr


def test_a_reader_that_goes_away_is_no_accident() -> None:
    with subprocess.Popen(command("faults", "--markdown"), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


LOADED = """
import sys
sys.argv = ["bmsd", "run", "-c", sys.argv[1]]
import bmsd.control.daemon
bmsd.control.daemon._run = lambda control: 0
from bmsd.cli import main
try:
    main()
except SystemExit:
    pass
import json, pathlib, re
# VmHWM, not ru_maxrss: that one still holds the peak of the process that forked us
peak = re.search(r"VmHWM:\\s*(\\d+) kB", pathlib.Path("/proc/self/status").read_text())
print(json.dumps([sorted(sys.modules), int(peak[1])]))
"""


def test_run_loads_nothing_of_the_network_side_and_stays_small(tmp_path: Path) -> None:
    """Everything of `bmsd run` up to its loop: what is loaded by then is what it loads."""
    done = subprocess.run(
        [sys.executable, "-c", LOADED, rack_file(tmp_path)], capture_output=True, text=True, check=True, cwd=ROOT
    )
    modules, peak_kib = json.loads(done.stdout.splitlines()[-1])
    loaded = {name.split(".")[0] for name in modules}
    assert "bmsd.control.rack_io" in modules
    unwanted = {"fastapi", "uvicorn", "starlette", "aiomqtt", "paho", "pymodbus", "matplotlib", "pandas", "scipy"}
    assert loaded & unwanted == set()
    ours = {"bmsd.sim", "bmsd.demo", "bmsd.show", "bmsd.status", "bmsd.screen", "bmsd.manual", "bmsd.traces"}
    assert ours & set(modules) == set()
    assert peak_kib < 100 * 1024


def test_the_simulator_names_the_buses_that_it_waits_for(tmp_path: Path) -> None:
    path = rack_file(tmp_path)
    path.write_text(
        path.read_text().replace(f'interface = "unix"\nchannel = "{tmp_path}/', 'interface = "socketcan"\nchannel = "')
    )
    shown = bmsd("sim", "-c", path, "--for", 0.5)
    assert (shown.returncode, shown.stdout) == (0, "")
    (line,) = shown.stderr.splitlines()
    assert re.fullmatch(r"bmsd sim: waits for field.sock: .+; inverter.sock: .+", line)


@pytest.mark.parametrize(
    ("command", "socket_", "words"),
    [
        ("run", "/proc/link.sock", "/proc/link.sock: cannot listen: "),
        ("run", "/proc/none/link.sock", "/proc/none/link.sock: cannot make its directory: "),
    ],
)
def test_a_socket_that_cannot_be_had_is_named_with_the_remedy(
    command: str, socket_: str, words: str, tmp_path: Path
) -> None:
    path = rack_file(tmp_path)
    path.write_text(path.read_text().replace(str(tmp_path / "link.sock"), socket_))
    shown = bmsd(command, "-c", path)
    assert shown.returncode == 1
    last = shown.stderr.splitlines()[-1]
    assert last.startswith(words)
    assert "a directory that user" in last
    assert "RuntimeDirectory=" in last


def test_a_gateway_without_its_port_or_with_a_host_that_can_be_none_says_what_to_do(tmp_path: Path) -> None:
    path = rack_file(tmp_path)
    text = path.read_text()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        path.write_text(f"{text}[modbus]\nport = {port}\n[web]\nenabled = false\n")
        shown = bmsd("gateway", "-c", path)
    assert shown.returncode == 1
    assert f"modbus: 127.0.0.1 port {port}: cannot listen (Address already in use): the port is taken" in shown.stderr
    path.write_text(f'{text}[modbus]\nhost = "10.0.0"\n[web]\nhost = "http://here"\n[mqtt]\nhost = ""\n')
    for name in ("gateway", "up"):
        shown = bmsd(name, "-c", path)
        assert shown.returncode == 78
        hosts = re.findall(r"^(\w+)\.host: .+; expected text, a host name or an address", shown.stderr, re.MULTILINE)
        assert hosts == ["modbus", "mqtt", "web"]
