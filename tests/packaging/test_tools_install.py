"""tests/tools/install: what it asks of the system, and that it leaves nothing behind.

apt-get and id are small programs put in front of the real ones; they write down how they were called.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.programs import needs

INSTALL = Path(__file__).parents[1] / "tools" / "install"
UNPACKED = ("prometheus", "victoria-metrics")


class Machine:
    """A machine on which python3-venv seems to be missing, with an apt-get that keeps a diary."""

    def __init__(self, folder: Path, *, user: int = 0, install_fails_times: int = 0, works: bool = True) -> None:
        self.folder = folder
        self.policy = folder / "policy-rc.d"
        self.diary = folder / "diary"
        self.diary.touch()
        (folder / "failures").write_text(str(install_fails_times))
        self._program("id", f"echo {user}")
        self._program(
            "apt-get",
            f"""
            echo "$1 policy=$({self.policy} 2>/dev/null; echo $?)" >>{self.diary}
            [ "$1" = download ] && cp {folder}/packages/"$2"_1_all.deb . && exit 0
            [ "$1" = install ] || exit 0
            left=$(cat {folder}/failures)
            [ "$left" -eq 0 ] || {{ echo $((left - 1)) >{folder}/failures; exit 100; }}
            [ {int(works)} -eq 1 ] && touch {folder}/installed
            exit 0
            """,
        )
        self._program("python-of-test", f"[ -e {folder}/installed ]")
        self.unpacked = folder / "tools" / "usr" / "bin"
        self.unpacked.mkdir(parents=True)
        for name in UNPACKED:
            self._program(f"tools/usr/bin/{name}", "")

    def _program(self, name: str, script: str) -> None:
        file = self.folder / name
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)

    def package(self, name: str) -> None:
        """Have apt-get download this package, with a program and a service."""
        root = self.folder / "packages" / name
        for path in (f"usr/bin/{name}", f"lib/systemd/system/{name}.service", "DEBIAN/control"):
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(f"Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: x\nDescription: x\n")
        (root / "usr" / "bin" / name).chmod(0o755)
        words = ["dpkg-deb", "--build", str(root), f"{root}_1_all.deb"]
        subprocess.run(words, check=True, capture_output=True)

    def install(self, *arguments: str, ci: bool = False) -> subprocess.CompletedProcess[str]:
        surroundings = {
            **os.environ,
            "PATH": f"{self.folder}:{os.environ['PATH']}",
            "PYTHON": "python-of-test",
            "POLICY_RC_D": str(self.policy),
            "BMSD_TEST_TOOLS": str(self.folder / "tools"),
            "CI": "true" if ci else "",
        }
        return subprocess.run(
            [INSTALL, *arguments], capture_output=True, text=True, check=False, env=surroundings, timeout=120
        )

    def calls(self) -> list[str]:
        return self.diary.read_text().splitlines()


def test_with_nothing_missing_nothing_is_asked(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    (tmp_path / "installed").touch()
    done = machine.install()
    if "apt-get install" not in done.stdout:  # this computer has all the other tools
        assert (done.returncode, done.stdout, done.stderr, machine.calls()) == (0, "", "", [])


def test_as_root_what_is_missing_is_installed_while_no_service_may_start(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    done = machine.install()
    assert done.returncode == 0, done.stderr
    assert "python3-venv" in done.stdout
    assert machine.calls() == ["install policy=101"]
    assert not machine.policy.exists(), "the refusal lasts no longer than the installation"


def test_an_old_package_list_is_renewed_once(tmp_path: Path) -> None:
    machine = Machine(tmp_path, install_fails_times=1)
    assert machine.install().returncode == 0
    assert machine.calls() == ["install policy=101", "update policy=101", "install policy=101"]


def test_the_administrators_own_policy_stays(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.policy.write_text("#!/bin/sh\nexit 104\n")
    machine.policy.chmod(0o755)
    assert machine.install().returncode == 0
    assert machine.calls() == ["install policy=104"]
    assert machine.policy.read_text() == "#!/bin/sh\nexit 104\n"


def test_without_root_the_command_is_named_and_the_tests_go_on(tmp_path: Path) -> None:
    machine = Machine(tmp_path, user=1000)
    done = machine.install()
    assert done.returncode == 0
    assert "as root: apt-get install" in done.stderr
    assert "python3-venv" in done.stderr
    assert machine.calls() == []


def test_without_root_it_is_a_failure_where_a_missing_tool_must_not_hide_tests(tmp_path: Path) -> None:
    assert Machine(tmp_path, user=1000).install(ci=True).returncode == 1


def test_an_installation_that_fails_is_said_and_only_stops_continuous_integration(tmp_path: Path) -> None:
    machine = Machine(tmp_path, install_fails_times=9)
    done = machine.install()
    assert done.returncode == 0
    assert "not installed" in done.stderr
    assert not machine.policy.exists()
    assert machine.install(ci=True).returncode == 1


def test_a_package_that_brings_not_what_it_should_is_noticed(tmp_path: Path) -> None:
    machine = Machine(tmp_path, works=False)
    assert "still missing" in machine.install().stderr
    assert machine.install(ci=True).returncode == 1


@needs(shutil.which("dpkg-deb"), "packages are built with dpkg-deb")
def test_what_brings_a_service_is_unpacked_and_not_installed(tmp_path: Path) -> None:
    machine = Machine(tmp_path, user=1000)
    (tmp_path / "installed").touch()
    for name in UNPACKED:
        (machine.unpacked / name).unlink()
        machine.package(name)
    done = machine.install()
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "tools").rglob("*") if path.is_file()} == set(UNPACKED)
    assert [call.split()[0] for call in machine.calls()] == ["download", "download"]


def test_a_download_that_fails_is_said_and_only_stops_continuous_integration(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    (tmp_path / "installed").touch()
    (machine.unpacked / "prometheus").unlink()
    done = machine.install()
    assert (done.returncode, machine.calls()[0].split()[0]) == (0, "download")
    assert "cannot download and unpack: prometheus" in done.stderr
    assert machine.install(ci=True).returncode == 1


def test_what_the_image_needs_is_asked_for_only_when_it_is_named(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    (machine.unpacked / "prometheus").unlink()
    assert {"python3-venv", "prometheus"} & set(machine.install("image").stdout.split()) == set()
    (tmp_path / "installed").touch()
    machine._program("tools/usr/bin/prometheus", "")
    assert "buildah" not in machine.install().stdout
