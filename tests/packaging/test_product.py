"""What is installed is what was written: the entry points, the wheel, and how little a command loads."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import entry_points, version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel that a release would be, built from a copy of what git tracks."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    archive = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout
    subprocess.run(
        ["tar", "--create", "--null", "--files-from=-", f"--file={source}.tar"], cwd=ROOT, check=True, input=archive
    )
    subprocess.run(["tar", "--extract", f"--file={source}.tar"], cwd=source, check=True)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    built = subprocess.run([*command, "-w", str(target), str(source)], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    (file,) = target.glob("*.whl")
    return zipfile.ZipFile(file)


def test_the_wheel_has_every_frame_definition_and_the_mark_of_typed_code(wheel: zipfile.ZipFile) -> None:
    definitions = {f"bmsd/dbc/{file.name}" for file in (ROOT / "dbc").glob("*.dbc")}
    assert definitions, "no DBC in the repository"
    assert definitions | {"bmsd/py.typed"} <= set(wheel.namelist())


def test_a_definition_in_the_wheel_is_the_file_itself_not_a_link(wheel: zipfile.ZipFile) -> None:
    assert wheel.read("bmsd/dbc/slave.dbc") == (ROOT / "dbc" / "slave.dbc").read_bytes()


def test_the_wheel_has_every_module_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    tracked = subprocess.run(["git", "ls-files", "bmsd"], cwd=ROOT, check=True, capture_output=True, text=True)
    modules = {name for name in tracked.stdout.split() if name.endswith(".py")}
    packed = {name for name in wheel.namelist() if name.endswith(".py")}
    assert packed == modules


def test_the_installed_version_is_that_of_the_project() -> None:
    assert version("bmsd") == PROJECT["version"]


def test_python_can_finds_the_unix_interface() -> None:
    (interface,) = entry_points(group="can.interface", name="unix")
    assert interface.load().__name__ == "UnixBus"


def bmsd(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("bmsd")
    return subprocess.run([str(program), *arguments], capture_output=True, text=True, check=False, timeout=60)


def test_the_command_is_installed_and_lists_what_it_can_do() -> None:
    shown = bmsd("--help")
    assert shown.returncode == 0, shown.stderr
    for command in ("run", "check", "sim", "demo", "faults", "decode", "encode"):
        assert command in shown.stdout


def test_an_unknown_command_is_wrong_usage() -> None:
    assert bmsd("explode").returncode == 2


def test_asking_for_help_loads_no_room() -> None:
    """Commands import their bodies when called: help and completion stay quick on a small computer."""
    probe = "import sys, bmsd.cli; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True).stdout.split()
    heavy = {"numpy", "can", "cantools", "pydantic", "bmsd.core", "bmsd.control", "bmsd.fieldbus", "bmsd.sim"}
    assert heavy & set(loaded) == set()
