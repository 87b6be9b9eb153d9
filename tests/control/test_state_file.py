"""The state file survives what happens to files: damage, half a write, another schema, a full disk."""

from __future__ import annotations

import math
import os
import threading
import time
import zlib
from base64 import b64decode
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from bmsd.codec import record
from bmsd.control import state_file
from bmsd.core.estimation.history import Seen, marked, start
from bmsd.model.durable import SCHEMA, Durable, LatchRecord
from bmsd.model.history import Wear

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
    return Durable(
        1000.0,
        (LatchRecord("CEL-003", 5, False),),
        values,
        np.full((1, 2, 4), 0.1),
        commissioned=np.array([[7, 2**48 - 1]]),
    )


def test_what_is_saved_is_what_is_loaded(tmp_path: Path) -> None:
    state_file.save(tmp_path, durable(), state_file.STATE)
    loaded = state_file.load(tmp_path, state_file.STATE)
    assert loaded.notes == ()
    assert loaded.value is not None
    assert loaded.value.latches == durable().latches
    np.testing.assert_array_equal(loaded.value.soc, durable().soc)
    np.testing.assert_array_equal(loaded.value.commissioned, durable().commissioned)


def test_a_file_of_schema_1_has_latches_and_no_boards(tmp_path: Path) -> None:
    fields = {name: getattr(durable(), name) for name in ("utc_s", "latches", "soc", "soc_sigma", "running", "connect")}
    body = record.encode(fields)
    head = state_file.STATE.magic + (1).to_bytes(2, "little") + zlib.crc32(body).to_bytes(4, "little")
    (tmp_path / "state.bin").write_bytes(head + body)
    loaded = state_file.load(tmp_path, state_file.STATE)
    assert loaded.notes == ()
    assert loaded.value is not None
    assert loaded.value.latches == durable().latches
    assert loaded.value.commissioned is None


@pytest.mark.parametrize("schema", [0, SCHEMA + 1])
def test_a_file_of_another_schema_is_named_and_not_used(tmp_path: Path, schema: int) -> None:
    state_file.save(tmp_path, durable(), state_file.STATE)
    path = tmp_path / "state.bin"
    data = path.read_bytes()
    place = len(state_file.STATE.magic)
    path.write_bytes(data[:place] + schema.to_bytes(2, "little") + data[place + 2 :])
    loaded = state_file.load(tmp_path, state_file.STATE)
    assert loaded.value is None
    assert f"schema {schema}" in loaded.notes[0]


def test_a_file_of_the_first_version_is_still_read(tmp_path: Path) -> None:
    (tmp_path / "state.bin").write_bytes(b64decode(FIRST_VERSION))
    loaded = state_file.load(tmp_path, state_file.STATE)
    assert loaded.notes == ()
    assert loaded.value is not None
    assert loaded.value.latches == durable().latches
    np.testing.assert_array_equal(loaded.value.soc, durable().soc)


def test_nothing_saved_is_nothing_loaded(tmp_path: Path) -> None:
    assert state_file.load(tmp_path / "not there", state_file.STATE) == state_file.Loaded(None, ())


@pytest.mark.parametrize("position", [0, 11, 13, 40, -1])
def test_a_damaged_file_falls_back_to_the_generation_before(tmp_path: Path, position: int) -> None:
    state_file.save(tmp_path, durable(0.4), state_file.STATE)
    state_file.save(tmp_path, durable(0.6), state_file.STATE)
    newest = tmp_path / "state.bin"
    data = bytearray(newest.read_bytes())
    data[position] ^= 0x55
    newest.write_bytes(data)
    loaded = state_file.load(tmp_path, state_file.STATE)
    assert loaded.value is not None
    assert loaded.value.soc[0, 0, 0] == 0.4
    assert str(newest) in loaded.notes[0]
    assert newest.exists()


@pytest.mark.parametrize("kept", [0, 5, 16, 30])
def test_half_a_file_is_named_and_not_used(tmp_path: Path, kept: int) -> None:
    state_file.save(tmp_path, durable(), state_file.STATE)
    path = tmp_path / "state.bin"
    path.write_bytes(path.read_bytes()[:kept])
    loaded = state_file.load(tmp_path, state_file.STATE)
    assert loaded.value is None
    assert len(loaded.notes) == 1


def test_a_write_that_ended_before_its_rename_changes_nothing(tmp_path: Path) -> None:
    state_file.save(tmp_path, durable(0.4), state_file.STATE)
    (tmp_path / "state.new").write_bytes(b"half")
    loaded = state_file.load(tmp_path, state_file.STATE)
    assert loaded.value is not None
    assert loaded.value.soc[0, 0, 0] == 0.4


def test_the_saver_writes_the_newest_and_says_what_the_disk_said(tmp_path: Path) -> None:
    saver = state_file.Saver(tmp_path / "state", state_file.STATE)
    for soc in (0.1, 0.2, 0.3):
        saver.save(durable(soc))
    assert saver.close(timeout_s=5.0)
    assert saver.error is None
    loaded = state_file.load(tmp_path / "state", state_file.STATE).value
    assert loaded is not None
    assert loaded.soc[0, 0, 0] == 0.3

    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    saver = state_file.Saver(blocked / "state", state_file.STATE)
    saver.save(durable())
    assert saver.close(timeout_s=5.0)
    assert saver.error is not None
    assert str(blocked) in saver.error


def until(true: Callable[[], bool], within_s: float = 20.0) -> None:
    end_s = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < end_s
        time.sleep(0.005)


def test_what_the_disk_refused_is_written_as_soon_as_it_takes_it(tmp_path: Path) -> None:
    blocked = tmp_path / "state"
    blocked.write_text("in the way")
    saver = state_file.Saver(blocked, state_file.STATE, first_pause_s=0.01, longest_pause_s=0.04)
    saver.save(durable(0.7))
    until(lambda: saver.error is not None)
    blocked.unlink()
    until(lambda: saver.error is None)
    loaded = state_file.load(blocked, state_file.STATE).value
    assert loaded is not None
    assert loaded.soc[0, 0, 0] == 0.7
    assert saver.close(timeout_s=5.0)


def test_pauses_grow_up_to_the_longest() -> None:
    pauses = state_file.growing(state_file.FIRST_PAUSE_S, state_file.LONGEST_PAUSE_S)
    assert list(islice(pauses, 8)) == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]


def test_a_value_that_cannot_be_encoded_is_said_and_the_next_one_is_saved(tmp_path: Path) -> None:
    saver = state_file.Saver(tmp_path, state_file.STATE, first_pause_s=0.01, longest_pause_s=0.04)
    saver.save(replace(durable(), latches=(object(),)))  # type: ignore[arg-type]
    until(lambda: saver.error is not None)
    assert "not encoded" in str(saver.error)
    saver.save(durable(0.8))
    until(lambda: saver.error is None)
    assert saver.close(timeout_s=5.0)
    loaded = state_file.load(tmp_path, state_file.STATE).value
    assert loaded is not None
    assert loaded.soc[0, 0, 0] == 0.8


def test_the_end_does_not_wait_for_a_pause_and_tries_once_more(tmp_path: Path) -> None:
    blocked = tmp_path / "state"
    blocked.write_text("in the way")
    saver = state_file.Saver(blocked, state_file.STATE, first_pause_s=60.0)
    saver.save(durable(0.9))
    until(lambda: saver.error is not None)
    blocked.unlink()
    assert saver.close(timeout_s=5.0)
    assert saver.error is None
    assert state_file.load(blocked, state_file.STATE).value is not None


def test_how_long_a_write_takes_is_known_while_it_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quick = state_file.Saver(tmp_path, state_file.STATE)
    assert math.isnan(quick.saving.took_s)
    quick.save(durable())
    assert quick.close(timeout_s=5.0)
    assert 0.0 < quick.saving.took_s < 5.0

    free = threading.Event()
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (free.wait(20.0), real(handle))[1])
    slow = state_file.Saver(tmp_path, state_file.STATE)
    slow.save(durable())
    until(lambda: slow.saving.took_s > 0.2)
    assert not slow.saving.refused
    free.set()
    assert slow.close(timeout_s=5.0)
    assert slow.saving.took_s > 0.2


def test_no_room_is_told_apart_from_other_refusals(tmp_path: Path) -> None:
    full = state_file.Saver(Path("/dev/full/state"), state_file.STATE)
    full.save(durable())
    until(lambda: full.error is not None)
    assert full.saving.refused
    assert not full.saving.full, "not a directory"
    (tmp_path / "state.new").symlink_to("/dev/full")
    saver = state_file.Saver(tmp_path, state_file.STATE, first_pause_s=0.001, longest_pause_s=0.002)
    saver.save(durable())
    until(lambda: saver.saving.full)
    told = [saver.saving for _ in range(2000)]
    assert all(saving.refused and saving.full for saving in told), "while it tries again, too"
    (tmp_path / "state.new").unlink()
    until(lambda: not saver.saving.refused)
    assert not saver.saving.full
    assert saver.close(timeout_s=5.0)
    assert full.close(timeout_s=5.0)


def test_the_history_has_a_file_of_its_own(tmp_path: Path) -> None:
    marks = start(Wear(40.0, np.array([0.1]), np.array([20.0]), 1.8e9, 39.0, True), (1, 2, 4))
    seen = Seen(np.full((1, 2, 4), 0.97), *(np.full((1, 2, 4), value) for value in (0.01, 1.1, 0.03)))
    marks = marked(marks, marks.wear, seen)
    state_file.save(tmp_path, durable(), state_file.STATE)
    state_file.save(tmp_path, marks, state_file.HISTORY)
    loaded = state_file.load(tmp_path, state_file.HISTORY)
    assert loaded.notes == ()
    assert loaded.value is not None
    assert loaded.value.wear.utc_s == 1.8e9
    assert loaded.value.wear.undated_days == -np.inf
    np.testing.assert_array_equal(loaded.value.capacity, marks.capacity)
    assert loaded.value.capacity.dtype == np.float32
    assert state_file.load(tmp_path, state_file.STATE).value is not None


def test_a_state_is_no_history(tmp_path: Path) -> None:
    state_file.save(tmp_path, durable(), state_file.STATE)
    (tmp_path / "state.bin").rename(tmp_path / "history.bin")
    loaded = state_file.load(tmp_path, state_file.HISTORY)
    assert loaded.value is None
    assert "not a bmsd history file" in loaded.notes[0]
