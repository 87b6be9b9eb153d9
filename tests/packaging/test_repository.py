"""The repository itself: pinned requirements, no place that only one machine has, and a changelog that keeps up."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
REQUIREMENTS = ("requirements.txt", "requirements-dev.txt")


def entries(text: str) -> list[str]:
    """Return the requirements of a file, each with its continuation lines, without comments."""
    lines = (line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#"))
    return "\n".join(lines).replace("\\\n", " ").splitlines()


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def tracked_text() -> dict[str, str]:
    """Return the text of every tracked file that is text (and not a link) by its path."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    texts = {}
    for name in filter(None, names.split("\0")):
        path = ROOT / name
        if path.is_file() and not path.is_symlink() and b"\0" not in (raw := path.read_bytes()):
            texts[name] = raw.decode("utf-8")
    return texts


@pytest.mark.parametrize("name", REQUIREMENTS)
def test_every_requirement_is_pinned_with_hashes_and_nothing_else_is_said(name: str) -> None:
    rows = entries((ROOT / name).read_text())
    assert rows
    pinned = re.compile(r"[a-z0-9._-]+(\[[a-z,]+\])?==\S+( ;[^-]+)?(\s+--hash=sha256:[0-9a-f]{64})+\s*")
    assert [row for row in rows if not pinned.fullmatch(row)] == []


@pytest.mark.parametrize("name", REQUIREMENTS)
def test_requirements_name_no_place_packages_come_from(name: str) -> None:
    text = (ROOT / name).read_text()
    assert [line for line in text.splitlines() if re.search(r"://|index|find-links|trusted|[ =]/\w", line)] == []


def test_both_requirement_files_pin_the_same_versions() -> None:
    product, everything = (
        {normal(row.split("==")[0]): row.split("==")[1].split()[0] for row in entries((ROOT / name).read_text())}
        for name in REQUIREMENTS
    )
    assert product.items() <= everything.items()


def test_every_dependency_of_the_project_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = {
        "requirements.txt": project["dependencies"],
        "requirements-dev.txt": project["dependencies"] + project["optional-dependencies"]["dev"],
    }
    for file, dependencies in groups.items():
        wanted = {normal(re.split(r"[<>=!~;\[ ]", dependency)[0]) for dependency in dependencies}
        pinned = {normal(row.split("==")[0]) for row in entries((ROOT / file).read_text())}
        assert wanted - pinned == set(), f"`make lock` after a change of pyproject.toml ({file})"


@pytest.mark.parametrize(
    ("what", "pattern"),
    [
        ("a host packages come from", r"pypi\.org|pythonhosted|piwheels|index-url\s*=|://deb\.|/simple\b"),
        ("a folder of somebody's machine", r"(?<![\w.$}])/(home/\w|root/|work/|Users/\w|mnt/\w|opt/wheels)"),
    ],
)
def test_no_tracked_file_names(what: str, pattern: str) -> None:
    here = Path(__file__).relative_to(ROOT).as_posix()
    found = [
        f"{name}:{number}: {line.strip()[:100]}"
        for name, text in tracked_text().items()
        if name != here
        for number, line in enumerate(text.splitlines(), 1)
        if re.search(pattern, line)
    ]
    assert found == [], what


def test_every_text_ends_its_last_line_and_no_line_ends_in_blanks() -> None:
    texts = {
        name: text for name, text in tracked_text().items() if text and not name.endswith((".csv", ".log", ".dbc"))
    }
    assert [name for name, text in texts.items() if not text.endswith("\n")] == []
    assert [name for name, text in texts.items() if re.search(r"[ \t]+$", text, re.MULTILINE)] == []


def test_every_script_is_executable_and_valid() -> None:
    scripts = [name for name, text in tracked_text().items() if text.startswith("#!")]
    assert {".ci/run", "tests/tools/install", "tests/vcan/run"} <= set(scripts)
    assert [name for name in scripts if not (ROOT / name).stat().st_mode & stat.S_IXUSR] == []
    for name in scripts:
        if "bash" in tracked_text()[name].splitlines()[0]:
            checked = subprocess.run(["bash", "-n", name], cwd=ROOT, capture_output=True, text=True, check=False)
            assert checked.returncode == 0, checked.stderr


def test_the_changelog_has_an_entry_for_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    first = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert first is not None
    assert first[1] == version


def test_decisions_are_numbered_without_gaps_and_say_when_and_whether_in_force() -> None:
    pages = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    assert [int(page.name[:4]) for page in pages] == list(range(1, len(pages) + 1))
    for page in pages:
        text = page.read_text()
        assert text.startswith(f"# {int(page.name[:4])}. "), page.name
        assert re.search(r"^Date: \d{4}-\d\d-\d\d\. State: \S", text, re.MULTILINE), page.name


def test_links_between_pages_lead_somewhere() -> None:
    links = [
        (name, target)
        for name, text in tracked_text().items()
        if name.endswith(".md")
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text)
        if "://" not in target
    ]
    assert [(name, target) for name, target in links if not ((ROOT / name).parent / target).exists()] == []


def test_every_import_contract_names_every_room() -> None:
    """A room added later must be forbidden to those that may not know it, not forgotten."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    rooms = {f"bmsd.{path.parent.name}" for path in (ROOT / "bmsd").glob("*/__init__.py")}
    sources = {module for contract in contracts for module in contract.get("source_modules", [])}
    assert rooms - sources == set(), "a room without a contract"
    of_model = contracts[0]["source_modules"] + contracts[0]["forbidden_modules"]
    assert rooms - set(of_model) == set(), "a room that model is not forbidden to know"


def test_every_command_is_forbidden_to_the_rooms() -> None:
    """What lies beside the rooms puts them together; only errors, the log and the clock are for everyone."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    forbidden = {module for contract in contracts for module in contract.get("forbidden_modules", [])}
    beside = {path.stem for path in (ROOT / "bmsd").glob("*.py")} - {"__init__", "__main__", "clock", "errors", "log"}
    assert {f"bmsd.{name}" for name in beside} - forbidden == set()


def test_every_inverter_profile_is_kept_apart_from_the_others() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    apart = {module for contract in contracts if contract["type"] == "independence" for module in contract["modules"]}
    profiles = {
        f"bmsd.inverters.{file.stem.removeprefix('inverter_')}" for file in (ROOT / "dbc").glob("inverter_*.dbc")
    }
    assert profiles, "no inverter profile found"
    assert profiles - apart == set(), "add the profile to the contract in pyproject.toml"


def test_make_lists_what_it_can_do() -> None:
    surroundings = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    shown = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True, env=surroundings).stdout
    assert {line.split()[0] for line in shown.splitlines()} >= {"setup", "run", "test", "bench", "lock"}
