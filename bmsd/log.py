"""Records of what changed: bounded and non-blocking, so that a stalled journal never holds a tick."""

from __future__ import annotations

import queue
import sys
import threading
from typing import Any, ClassVar, TextIO

import structlog
from structlog.typing import EventDict

MOST_WAITING = 2000


class Writer:
    """Writes lines in a thread of its own. A full queue drops lines and counts them; the count is written later."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._waiting: queue.Queue[str | None] = queue.Queue(MOST_WAITING)
        self.dropped = 0
        self._said = 0
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def line(self, text: str) -> None:
        """Hand over a line; never waits."""
        try:
            self._waiting.put_nowait(text)
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
        while (text := self._waiting.get()) is not None:
            try:
                self._stream.write(text + "\n")
                if self.dropped != self._said:
                    self._said = self.dropped
                    self._stream.write(f"log lines dropped since start: {self._said}\n")
                if self._waiting.empty():
                    self._stream.flush()
            except (OSError, ValueError):
                return


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


def configure(level: str = "info", style: str = "text", stream: TextIO | None = None) -> Writer:
    """Set up structlog for this process: `style` is text (for people) or json (for machines)."""
    set_level(level)
    writer = Writer(stream or sys.stderr)
    renderer: Any = structlog.processors.JSONRenderer()
    if style == "text":
        renderer = structlog.dev.ConsoleRenderer(colors=(stream or sys.stderr).isatty(), pad_event_to=24)
    structlog.configure(
        processors=[
            _threshold,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger("debug"),
        logger_factory=lambda *_: writer,
        cache_logger_on_first_use=True,
    )
    return writer
