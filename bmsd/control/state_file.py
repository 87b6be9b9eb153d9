"""The durable part of the memory on disk: two generations, written off the loop, never half."""

from __future__ import annotations

import os
import queue
import threading
import zlib
from dataclasses import dataclass
from pathlib import Path

from bmsd.codec import record
from bmsd.errors import FrameError
from bmsd.model.durable import SCHEMA, Durable

MAGIC = b"bmsd-state"
NAMES = ("state.bin", "state.old.bin")


@dataclass(frozen=True, slots=True)
class Loaded:
    """What was found: the newest readable generation (None: none), and sentences on what was not readable."""

    durable: Durable | None
    notes: tuple[str, ...]


def load(directory: Path) -> Loaded:
    """Read the newest readable generation. A damaged or foreign file is named and left in place."""
    notes: list[str] = []
    for name in NAMES:
        path = directory / name
        try:
            return Loaded(_decode(path.read_bytes()), tuple(notes))
        except FileNotFoundError:
            continue
        except (OSError, FrameError) as error:
            notes.append(f"{path}: not used: {error}")
    return Loaded(None, tuple(notes))


def not_writable(directory: Path) -> str | None:
    """Return why nothing can be saved there, None when it can; the directory is made when it is not there."""
    nearest = directory
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    if not nearest.is_dir():
        return f"{nearest} is not a directory"
    if not os.access(nearest, os.W_OK | os.X_OK):
        return f"{nearest} cannot be written by user {os.geteuid()}"
    return None


def save(directory: Path, durable: Durable) -> None:
    """Write a new generation and keep the last one. OSError when the disk refuses."""
    directory.mkdir(parents=True, exist_ok=True)
    body = record.encode(durable)
    head = MAGIC + SCHEMA.to_bytes(2, "little") + zlib.crc32(body).to_bytes(4, "little")
    new, current, old = directory / "state.new", directory / NAMES[0], directory / NAMES[1]
    with open(new, "wb") as file:
        file.write(head + body)
        file.flush()
        os.fsync(file.fileno())
    if current.exists():
        os.replace(current, old)
    os.replace(new, current)
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _decode(data: bytes) -> Durable:
    head = len(MAGIC) + 6
    if len(data) < head or not data.startswith(MAGIC):
        raise FrameError("not a bmsd state file")
    schema = int.from_bytes(data[len(MAGIC) : len(MAGIC) + 2], "little")
    if not 1 <= schema <= SCHEMA:
        raise FrameError(f"schema {schema}, this bmsd reads 1 to {SCHEMA}")
    if zlib.crc32(data[head:]) != int.from_bytes(data[head - 4 : head], "little"):
        raise FrameError("checksum wrong: the file is damaged")
    return record.decode(data[head:], Durable)


class Saver:
    """Writes the newest value handed to it in a thread of its own: a slow disk never holds a tick."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._waiting: queue.Queue[Durable | None] = queue.Queue()
        self._error: str | None = None
        self._thread = threading.Thread(target=self._run, name="state-file", daemon=True)
        self._thread.start()

    @property
    def error(self) -> str | None:
        """What the disk said to the last write, None when it was written."""
        return self._error

    def save(self, durable: Durable) -> None:
        """Hand over a value; an older one that still waits is skipped."""
        self._waiting.put(durable)

    def close(self, timeout_s: float) -> bool:
        """Write what waits and end; False when the disk did not finish in time."""
        self._waiting.put(None)
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        ending = False
        while not ending:
            newest = self._waiting.get()
            ending = newest is None
            while not self._waiting.empty():
                item = self._waiting.get()
                ending = ending or item is None
                newest = item if item is not None else newest
            if newest is not None:
                self._write(newest)

    def _write(self, durable: Durable) -> None:
        try:
            save(self._directory, durable)
            self._error = None
        except OSError as error:
            self._error = f"{self._directory}: {error}"
