"""Records of what changed: bounded and non-blocking, so that a stalled journal never holds a tick."""

from __future__ import annotations

import queue
import sys
import threading
from typing import Any, ClassVar, Protocol, TextIO

import structlog
from structlog.typing import EventDict

from bmsd.systemd import journal
from bmsd.systemd.record import Identifier, of_drops, of_event

MOST_WAITING = 2000


class Sink(Protocol):
    """Where records end, one way or another. OSError or ValueError when they cannot."""

    def write(self, record: Any) -> None: ...
    def dropped(self, count: int) -> None:
        """Write that so many records were dropped since start."""

    def flush(self) -> None:
        """Nothing waits any more."""


class Lines:
    """Lines on a stream."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, record: str) -> None:
        self._stream.write(record + "\n")

    def dropped(self, count: int) -> None:
        self.write(f"log lines dropped since start: {count}")

    def flush(self) -> None:
        self._stream.flush()


class Records:
    """Records with fields, to journald."""

    def __init__(self, identifier: Identifier) -> None:
        self._identifier = identifier
        self._journal = journal.Journal()

    def write(self, record: bytes) -> None:
        self._journal.send(record)

    def dropped(self, count: int) -> None:
        self.write(journal.encode(of_drops(self._identifier, count)))

    def flush(self) -> None:
        pass


class Writer:
    """Writes records in a thread of its own. A full queue drops them and counts them; the count is written later.

    So are records that the sink refuses: journald may come back.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._waiting: queue.Queue[str | bytes | None] = queue.Queue(MOST_WAITING)
        self.dropped = 0
        self._said = 0
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def line(self, record: str | bytes) -> None:
        """Hand over a record; never waits."""
        try:
            self._waiting.put_nowait(record)
        except queue.Full:
            self.dropped += 1

    msg = debug = info = warning = warn = error = critical = exception = log = line

    def close(self, timeout_s: float = 1.0) -> None:
        """Write what waits and end."""
        try:
            self._waiting.put(None, timeout=timeout_s)
        except queue.Full:
            return
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while (record := self._waiting.get()) is not None:
            try:
                if self.dropped != self._said:
                    said = self.dropped
                    self._sink.dropped(said)
                    self._said = said
                self._sink.write(record)
                if self._waiting.empty():
                    self._sink.flush()
            except (OSError, ValueError):
                self.dropped += 1


class Threshold:
    """Keeps what weighs less than the level of the process out of the log; the level may change."""

    _WEIGHTS: ClassVar = {"debug": 0, "info": 1, "warning": 2, "error": 3}

    def __init__(self, level: str) -> None:
        self.level = level

    def __call__(self, _: object, method: str, event: EventDict) -> EventDict:
        """Drop the event when it is too light. What is none of these weights is an error."""
        if self._WEIGHTS.get(method, 3) < self._WEIGHTS[self.level]:
            raise structlog.DropEvent
        return event


_threshold = Threshold("info")


def set_level(level: str) -> None:
    """From now on write what weighs at least this."""
    _threshold.level = level


def configure(
    level: str = "info", style: str = "text", stream: TextIO | None = None, identifier: Identifier = "bmsd"
) -> Writer:
    """Set up structlog for this process: `style` is text (for people), json (for machines) or journal.

    Text is a journal where standard error goes to journald. `identifier` is whose records these are there.
    """
    set_level(level)
    wanted = style == "journal" or (style == "text" and stream is None and journal.stderr_is_journal())
    listens = journal.listens()
    if wanted and listens:
        writer = Writer(Records(identifier))
        ends: list[Any] = [lambda _, method, event: journal.encode(of_event(identifier, method, event))]
    else:
        stream = stream or sys.stderr
        writer = Writer(Lines(stream))
        ends = [structlog.processors.TimeStamper(fmt="iso", utc=True), *_line(style, stream)]
    structlog.configure(
        processors=[_threshold, structlog.processors.add_log_level, structlog.processors.format_exc_info, *ends],
        wrapper_class=structlog.make_filtering_bound_logger("debug"),
        logger_factory=lambda *_: writer,
        cache_logger_on_first_use=True,
    )
    if style == "journal" and not listens:
        structlog.get_logger().warning(
            "log.no_journal", text=f"no journald at {journal.SOCKET}: lines are written instead"
        )
    return writer


def _line(style: str, stream: TextIO) -> list[Any]:
    if style == "json":
        return [structlog.processors.JSONRenderer()]
    return [_without_number, structlog.dev.ConsoleRenderer(colors=stream.isatty(), pad_event_to=24)]


def _without_number(_: object, method: str, event: EventDict) -> EventDict:  # noqa: ARG001
    """A person counts by time."""
    event.pop("number", None)
    return event
