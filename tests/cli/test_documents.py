"""What the pages say is what the program does: printed parts are current, every example in them is run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bmsd.manual import PRINTED, WORDS, renew
from bmsd.model.catalogue import CATALOGUE
from tests.programs import ROOT, bmsd, command

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PRINTED_PAGES = ("faults.md", "journal.md", "simulator.md", "modbus-map.md", "modbus-map.csv")
BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)


def examples() -> list[tuple[str, str, str]]:
    """Return (page, command line, output) of every console block; `$` begins a command."""
    found = []
    for page in PAGES:
        for block in BLOCK.findall(page.read_text()):
            for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
                line, _, output = part.partition("\n")
                found.append((page.name, line, output))
    return found


def test_the_printed_pages_are_current(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    for name in PRINTED_PAGES:
        (tmp_path / "docs" / name).write_text((ROOT / "docs" / name).read_text())
    renew(tmp_path)
    for name in PRINTED_PAGES:
        page = (ROOT / "docs" / name).read_text()
        assert page == (tmp_path / "docs" / name).read_text(), "renew: python -m bmsd.manual ."
    assert PRINTED in (ROOT / "docs" / "simulator.md").read_text()
    assert bmsd("faults", "--markdown").stdout == (ROOT / "docs" / "faults.md").read_text()


def test_every_detector_has_words_for_the_manual() -> None:
    assert {row.detector for row in CATALOGUE} == set(WORDS)


@pytest.mark.parametrize(("page", "line", "output"), examples(), ids=lambda value: str(value)[:40])
def test_every_example_shows_what_the_command_prints(page: str, line: str, output: str, tmp_path: Path) -> None:
    (tmp_path / "deploy").symlink_to(ROOT / "deploy")
    (tmp_path / "dbc").symlink_to(ROOT / "dbc")
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "bmsd"
    script.write_text(f'#!/bin/sh\nexec {" ".join(command())} "$@"\n')
    script.chmod(0o755)
    surroundings = {**os.environ, "PATH": f"{script.parent}:{os.environ['PATH']}", "PYTHONUNBUFFERED": "1"}
    done = subprocess.run(
        ["sh", "-c", line], cwd=tmp_path, env=surroundings, text=True, check=False, timeout=60,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    # "..." stands for lines that differ from computer to computer
    pattern = re.escape(output).replace(re.escape("...\n"), r"(?:.*\n)*")
    assert re.fullmatch(pattern, done.stdout), f"{page}: {line}\n{done.stdout}"


def test_there_are_examples() -> None:
    assert len(examples()) >= 6


def test_the_readme_names_every_command() -> None:
    text = (ROOT / "README.md").read_text()
    listed = re.findall(r"^  (\w+)  ", bmsd("--help").stdout.partition("Commands:")[2], re.MULTILINE)
    assert len(listed) >= 12
    assert [name for name in listed if f"`bmsd {name}" not in text] == []


def test_the_number_of_protections_in_the_readme_is_right() -> None:
    assert f"{len(CATALOGUE)} protections" in (ROOT / "README.md").read_text()
    assert f"{len(CATALOGUE)} protections" in (ROOT / "CHANGELOG.md").read_text()


def test_the_manual_is_renewed_by_its_command(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "simulator.md").write_text(f"# Ours\n{PRINTED}\nold\n")
    subprocess.run([sys.executable, "-m", "bmsd.manual", str(tmp_path)], cwd=ROOT, check=True)
    text = (tmp_path / "docs" / "simulator.md").read_text()
    assert text.startswith("# Ours\n")
    assert "\nold\n" not in text
    assert "`hot_cell`" in text
