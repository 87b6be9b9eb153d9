"""The state file survives what happens to files: damage, half a write, another schema, a full disk."""

from __future__ import annotations

from base64 import b64decode
from pathlib import Path

import numpy as np
import pytest

from bmsd.control import state_file
from bmsd.model.durable import Durable, LatchRecord

FIRST_VERSION = """
Ym1zZC1zdGF0ZQEA2Sm0N4aldXRjX3PLQI9AAAAAAACnbGF0Y2hlc5GDpGNvZGWnQ0VMLTAwM6dzdWJqZWN0BaxhY2tub3dsZWRnZWTCo3Nv
Y8dJAZKjPGY4kwECBAAAAAAAAOA/AAAAAAAA4D8AAAAAAADgPwAAAAAAAOA/AAAAAAAA4D8AAAAAAADgPwAAAAAAAOA/AAAAAAAA+H+pc29j
X3NpZ21hx0kBkqM8ZjiTAQIEmpmZmZmZuT+amZmZmZm5P5qZmZmZmbk/mpmZmZmZuT+amZmZmZm5P5qZmZmZmbk/mpmZmZmZuT+amZmZmZm5
P6dydW5uaW5nwqdjb25uZWN0ww==
"""
"""What `durable()` was saved as by bmsd 0.1.0 of November 2026."""


def durable(soc: float = 0.5) -> Durable:
    values = np.full((1, 2, 4), soc)
    values[0, 1, 3] = np.nan
    return Durable(1000.0, (LatchRecord("CEL-003", 5, False),), values, np.full((1, 2, 4), 0.1))


def test_what_is_saved_is_what_is_loaded(tmp_path: Path) -> None:
    state_file.save(tmp_path, durable())
    loaded = state_file.load(tmp_path)
    assert loaded.notes == ()
    assert loaded.durable is not None
    assert loaded.durable.latches == durable().latches
    np.testing.assert_array_equal(loaded.durable.soc, durable().soc)


def test_a_file_of_the_first_version_is_still_read(tmp_path: Path) -> None:
    (tmp_path / "state.bin").write_bytes(b64decode(FIRST_VERSION))
    loaded = state_file.load(tmp_path)
    assert loaded.notes == ()
    assert loaded.durable is not None
    assert loaded.durable.latches == durable().latches
    np.testing.assert_array_equal(loaded.durable.soc, durable().soc)


def test_nothing_saved_is_nothing_loaded(tmp_path: Path) -> None:
    assert state_file.load(tmp_path / "not there") == state_file.Loaded(None, ())


@pytest.mark.parametrize("position", [0, 11, 13, 40, -1])
def test_a_damaged_file_falls_back_to_the_generation_before(tmp_path: Path, position: int) -> None:
    state_file.save(tmp_path, durable(0.4))
    state_file.save(tmp_path, durable(0.6))
    newest = tmp_path / "state.bin"
    data = bytearray(newest.read_bytes())
    data[position] ^= 0x55
    newest.write_bytes(data)
    loaded = state_file.load(tmp_path)
    assert loaded.durable is not None
    assert loaded.durable.soc[0, 0, 0] == 0.4
    assert str(newest) in loaded.notes[0]
    assert newest.exists()


@pytest.mark.parametrize("kept", [0, 5, 16, 30])
def test_half_a_file_is_named_and_not_used(tmp_path: Path, kept: int) -> None:
    state_file.save(tmp_path, durable())
    path = tmp_path / "state.bin"
    path.write_bytes(path.read_bytes()[:kept])
    loaded = state_file.load(tmp_path)
    assert loaded.durable is None
    assert len(loaded.notes) == 1


def test_a_write_that_ended_before_its_rename_changes_nothing(tmp_path: Path) -> None:
    state_file.save(tmp_path, durable(0.4))
    (tmp_path / "state.new").write_bytes(b"half")
    loaded = state_file.load(tmp_path)
    assert loaded.durable is not None
    assert loaded.durable.soc[0, 0, 0] == 0.4


def test_the_saver_writes_the_newest_and_says_what_the_disk_said(tmp_path: Path) -> None:
    saver = state_file.Saver(tmp_path / "state")
    for soc in (0.1, 0.2, 0.3):
        saver.save(durable(soc))
    assert saver.close(timeout_s=5.0)
    assert saver.error is None
    loaded = state_file.load(tmp_path / "state").durable
    assert loaded is not None
    assert loaded.soc[0, 0, 0] == 0.3

    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    saver = state_file.Saver(blocked / "state")
    saver.save(durable())
    assert saver.close(timeout_s=5.0)
    assert saver.error is not None
    assert str(blocked) in saver.error
