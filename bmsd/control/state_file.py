"""What lasts on disk, the durable part of the memory and the history: two generations, off the loop, never half."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import queue
import threading
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from bmsd.codec import record
from bmsd.errors import FrameError
from bmsd.model import durable, history
from bmsd.model.durable import Durable
from bmsd.model.history import History
from bmsd.model.host import Saving

T = TypeVar("T")


@dataclass(frozen=True)
class Kind(Generic[T]):
    """What one file holds: its magic word, the newest schema, and the dataclass."""

    name: str
    magic: bytes
    schema: int
    of: type[T]

    @property
    def names(self) -> tuple[str, str]:
        """The newest generation, and the one before."""
        return f"{self.name}.bin", f"{self.name}.old.bin"


STATE = Kind("state", b"bmsd-state", durable.SCHEMA, Durable)
HISTORY = Kind("history", b"bmsd-history", history.SCHEMA, History)
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
"""Between two tries to write what the disk refused."""
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True)
class Loaded(Generic[T]):
    """What was found: the newest readable generation (None: none), and sentences on what was not readable."""

    value: T | None
    notes: tuple[str, ...]


def load(directory: Path, kind: Kind[T]) -> Loaded[T]:
    """Read the newest readable generation. A damaged or foreign file is named and left in place."""
    notes: list[str] = []
    for name in kind.names:
        path = directory / name
        try:
            return Loaded(_decode(path.read_bytes(), kind), tuple(notes))
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


def save(directory: Path, value: T, kind: Kind[T]) -> None:
    """Write a new generation and keep the last one. OSError when the disk refuses."""
    directory.mkdir(parents=True, exist_ok=True)
    body = record.encode(value)
    head = kind.magic + kind.schema.to_bytes(2, "little") + zlib.crc32(body).to_bytes(4, "little")
    new, current, old = (directory / name for name in (f"{kind.name}.new", *kind.names))
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


def _decode(data: bytes, kind: Kind[T]) -> T:
    head = len(kind.magic) + 6
    if len(data) < head or not data.startswith(kind.magic):
        raise FrameError(f"not a bmsd {kind.name} file")
    schema = int.from_bytes(data[len(kind.magic) : len(kind.magic) + 2], "little")
    if not 1 <= schema <= kind.schema:
        raise FrameError(f"schema {schema}, this bmsd reads 1 to {kind.schema}")
    if zlib.crc32(data[head:]) != int.from_bytes(data[head - 4 : head], "little"):
        raise FrameError("checksum wrong: the file is damaged")
    return record.decode(data[head:], kind.of)


def growing(first_s: float, longest_s: float) -> Iterator[float]:
    """Yield pauses, each twice the one before, up to the longest."""
    pause_s = first_s
    while True:
        yield pause_s
        pause_s = min(2.0 * pause_s, longest_s)


class Saver(Generic[T]):
    """Writes the newest value handed to it in a thread of its own: a slow disk never holds a tick.

    What could not be written is tried again after growing pauses, and at once when a newer value comes or at the end.
    """

    def __init__(
        self,
        directory: Path,
        kind: Kind[T],
        first_pause_s: float = FIRST_PAUSE_S,
        longest_pause_s: float = LONGEST_PAUSE_S,
    ) -> None:
        self._directory, self._kind = directory, kind
        self._first_pause_s, self._longest_pause_s = first_pause_s, longest_pause_s
        self._waiting: queue.Queue[T | None] = queue.Queue()
        self._failure: tuple[str, int | None] | None = None
        self._began_s: float | None = None
        self._took_s = math.nan
        self._thread = threading.Thread(target=self._run, name=f"{kind.name}-file", daemon=True)
        self._thread.start()

    @property
    def error(self) -> str | None:
        """Why the last write did not succeed, None when it did."""
        return None if self._failure is None else self._failure[0]

    @property
    def saving(self) -> Saving:
        """How writing fares; a write that does not come back shows by its time."""
        began_s = self._began_s
        took_s = self._took_s if began_s is None else time.monotonic() - began_s
        # until a write takes longer than the last one, it says nothing new
        took_s = took_s if began_s is None or not took_s < self._took_s else self._took_s
        failure = self._failure
        return Saving(failure is not None, failure is not None and failure[1] in _NO_ROOM, took_s)

    def save(self, value: T) -> None:
        """Hand over a value; an older one that still waits is skipped."""
        self._waiting.put(value)

    def close(self, timeout_s: float) -> bool:
        """Write what waits and end; False when the disk did not finish in time."""
        self._waiting.put(None)
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        unsaved: T | None = None
        pauses = growing(self._first_pause_s, self._longest_pause_s)
        pause_s: float | None = None
        ending = False
        while not ending:
            for item in self._handed_over(pause_s):
                ending = ending or item is None
                unsaved = unsaved if item is None else item
            if unsaved is None:
                continue
            if self._written(unsaved):
                unsaved, pause_s = None, None
                pauses = growing(self._first_pause_s, self._longest_pause_s)
            else:
                pause_s = next(pauses)

    def _handed_over(self, timeout_s: float | None) -> list[T | None]:
        """Return what waits, in order; nothing when that took too long (None: wait for ever)."""
        items: list[T | None] = []
        with contextlib.suppress(queue.Empty):
            items.append(self._waiting.get(timeout=timeout_s))
            while True:
                items.append(self._waiting.get_nowait())
        return items

    def _written(self, value: T) -> bool:
        self._began_s = began_s = time.monotonic()
        failure = _failure(self._directory, value, self._kind)
        self._took_s, self._began_s = time.monotonic() - began_s, None
        self._failure = failure
        return failure is None


def _failure(directory: Path, value: T, kind: Kind[T]) -> tuple[str, int | None] | None:
    """Save; return why it was not possible, with the system's number, None when it was."""
    try:
        save(directory, value, kind)
    except OSError as error:
        return f"{directory}: {error}", error.errno
    except Exception as error:  # whatever encoding raises must not end the thread: it is said, and tried again
        return f"{directory}: not encoded: {type(error).__name__}: {error}", None
    return None
