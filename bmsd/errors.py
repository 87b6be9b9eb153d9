"""Whose fault it is: the installer's, the other end's, or the wire's."""

from __future__ import annotations

from collections.abc import Iterable

CANNOT, USAGE, DEFECT, CONFIGURATION = 1, 2, 70, 78
"""Exit codes: those of sysexits.h where there is one."""


class BmsdError(Exception):
    """Root of the errors that bmsd explains to a person."""


class ConfigError(BmsdError):
    """The installer's: nothing starts. Lists every complaint at once."""

    def __init__(self, complaints: Iterable[str]) -> None:
        self.complaints = tuple(complaints)
        super().__init__("\n".join(self.complaints))


class FrameError(BmsdError):
    """The other end's: count it, drop the frame."""


class BusError(BmsdError):
    """The wire's: reconnect with growing pauses."""
