"""How a run is shown to a person: live on a terminal, line by line elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from typing import Protocol

import typer
from rich.console import Console
from rich.live import Live
from rich.text import Text

from bmsd.model.points import values
from bmsd.model.published import Published
from bmsd.status import number, table
from bmsd.story import events

LINE_EVERY_S = 2.0


class Screen(Protocol):
    """Takes records as they come."""

    def show(self, record: Published) -> None:
        """Show this record."""

    def close(self) -> None:
        """Leave what was shown last on the screen."""


def screen(name: str, header: Sequence[str] = ()) -> Screen:
    """Return the screen that fits standard output: lines when it is no terminal."""
    if sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb":
        return LiveScreen(name, header)
    return LineScreen(header)


class Silent:
    """Shows nothing: standard output belongs to somebody else."""

    def show(self, record: Published) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class LineScreen:
    """A line when something changes, and the numbers every 2 s. Raises BrokenPipeError when nobody reads."""

    def __init__(self, header: Sequence[str]) -> None:
        self._start_s = time.monotonic()
        self._due_s = 0.0
        self._last: Published | None = None
        for line in header:
            typer.echo(line)

    def show(self, record: Published) -> None:
        """Print what changed, and the numbers when they are due."""
        now_s = time.monotonic() - self._start_s
        for event in events(self._last, record):
            typer.echo(f"{now_s:6.1f} s  {event}")
        if now_s >= self._due_s:
            self._due_s = now_s + LINE_EVERY_S
            typer.echo(f"{now_s:6.1f} s  {numbers(record)}")
        self._last = record

    def close(self) -> None:
        """Nothing is left to do."""


class LiveScreen:
    """What changed, line after line, and below it the table, renewed in place."""

    def __init__(self, name: str, header: Sequence[str]) -> None:
        self._name = name
        self._start_s = time.monotonic()
        self._last: Published | None = None
        self._live = Live(console=Console(highlight=False), auto_refresh=False)
        self._live.start()
        for line in header:
            self._live.console.print(Text(line), soft_wrap=True)

    def show(self, record: Published) -> None:
        """Renew the table."""
        now_s = time.monotonic() - self._start_s
        for event in events(self._last, record):
            self._live.console.print(Text(f"{now_s:6.1f} s  {event}"))
        self._last = record
        self._live.update(table(self._name, record), refresh=True)

    def close(self) -> None:
        """Stop renewing."""
        self._live.stop()


def numbers(record: Published) -> str:
    """Return the rack in one line."""
    point = values(record)
    return (
        f"{number(point['voltage_v'], 1)} V {number(point['current_a'], 1)} A, "
        f"limits {record.command.ccl_a:.0f}/{record.command.dcl_a:.0f} A, "
        f"cells {number(point['cell_min_v'], 3)}..{number(point['cell_max_v'], 3)} V, "
        f"SoC {number(point['soc'], 1, 100.0)} %"
    )
