"""What a person or another system asks of the rack."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """Who asks. Service may do what an operator may."""

    OPERATOR = "operator"
    SERVICE = "service"


@dataclass(frozen=True, slots=True)
class Reset:
    """Acknowledge a latched fault: `code` is its row or "all"; `reason` is recorded."""

    code: str
    role: Role
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Connect:
    """Close (`closed`) or open the strings in an orderly way. Strings are wanted closed unless asked otherwise."""

    closed: bool


@dataclass(frozen=True, slots=True)
class Shutdown:
    """Zero the limits, wait for the current, open in order: the process is about to leave."""


Request = Reset | Connect | Shutdown
