"""From raw frames of the field bus to what the rack measured, whatever boards speak there.

A driver is a module of `fieldbus/drivers` with a class `Receiver`; `receiver` finds it by the module's name. What the
boards are sent, and who switches, is in `field.py`.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module
from typing import Protocol

from bmsd.errors import ConfigError
from bmsd.fieldbus import drivers
from bmsd.fieldbus.drivers.mapped.plan import Plan
from bmsd.fieldbus.drivers.slave import Receiver
from bmsd.model.frame import RawFrames
from bmsd.model.layout import Layout
from bmsd.model.plant import Timing
from bmsd.model.snapshot import Modules, Units

__all__ = ["BoardReceiver", "Receiver", "driver_names", "receiver"]


class BoardReceiver(Protocol):
    """What every driver's receiver offers: sans I/O, times in s of one monotonic clock that never goes back."""

    def sync_sent(self, number: int, phase: int, slow_group: int, at_s: float) -> None:
        """Note that the boards were asked at `at_s`: what they answer was measured at that instant."""

    def feed(self, frames: RawFrames, now_s: float) -> None:
        """Take the frames of one drain. Never raises for what is in them."""

    def close(self, now_s: float) -> None:
        """Publish what has come when the time of the poll is over."""

    def modules(self, now_s: float) -> Modules:
        """Return what the module boards measured, as known now."""

    def units(self, now_s: float) -> Units:
        """Return what the contactor units measured, as known now."""

    def missing(self, now_s: float) -> list[str]:
        """Return what is not there, one sentence per node, for a technician."""


def driver_names() -> list[str]:
    """Return the names of all drivers."""
    return sorted(module.name for module in pkgutil.iter_modules(drivers.__path__))


def receiver(name: str, layout: Layout, timing: Timing, plan: Plan | None = None) -> BoardReceiver:
    """Return the receiver of a driver, of mapped boards with their plan; ConfigError lists the known names."""
    if name not in driver_names():
        raise ConfigError([f"slave board driver {name!r}: unknown; known are {', '.join(driver_names())}"])
    given = (layout, timing) if plan is None else (layout, timing, plan)
    found: BoardReceiver = import_module(f"bmsd.fieldbus.drivers.{name}").Receiver(*given)
    return found
