"""What a person or another system asks of the rack."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from bmsd.model.row import Latch, Row

LEASE_S = (1.0, 3600.0)
"""Shortest and longest lease."""
MOST_W = 1e7
"""No rack has more power than this: a larger set-point is a mistake."""


class Role(StrEnum):
    """Who asks. Service may do what an operator may."""

    OPERATOR = "operator"
    SERVICE = "service"


@dataclass(frozen=True, slots=True)
class Reset:
    """Acknowledge a latched fault: `code` is its row or "all"; `reason` is recorded. `source` says who asked."""

    code: str
    role: Role
    reason: str = ""
    source: str = ""

    @property
    def everything(self) -> bool:
        """Whether it means all there is; "all" of an operator means the rows that an operator may reset."""
        return self.code == "all" and self.role is Role.SERVICE

    def of_service(self, code: str) -> bool:
        """Whether service asks for this very code and says why."""
        return self.code == code and self.role is Role.SERVICE and bool(self.reason)


@dataclass(frozen=True, slots=True)
class Connect:
    """Close (`closed`) or open the strings in an orderly way. Strings are wanted closed unless asked otherwise."""

    closed: bool
    source: str = ""


@dataclass(frozen=True, slots=True)
class Reserve:
    """Keep this state of charge (0..1) for later: no discharge below it, for `lease_s`."""

    soc: float
    lease_s: float
    source: str = ""


@dataclass(frozen=True, slots=True)
class Power:
    """Charge with at most this power and do not discharge; negative: the other way round. For `lease_s`."""

    power_w: float
    lease_s: float
    source: str = ""


@dataclass(frozen=True, slots=True)
class Release:
    """End the lease of this kind, reserve or power, before its time."""

    what: str
    source: str = ""


@dataclass(frozen=True, slots=True)
class Shutdown:
    """Zero the limits, wait for the current, open in order: the process is about to leave."""


Request = Reset | Connect | Shutdown | Reserve | Power | Release


@dataclass(frozen=True, slots=True)
class Lease:
    """A reserve (SoC) or power set-point (W, positive charges) in force until `until_s`, a monotonic time."""

    what: str
    value: float
    until_s: float
    source: str


def may_reset(row: Row, role: Role, reason: str) -> bool:
    """Whether who has this role may acknowledge this row; what is for service needs a reason."""
    return row.latch is not Latch.SERVICE or (role is Role.SERVICE and bool(reason))


def complaint(request: Reserve | Power) -> str:
    """Return what is wrong with a request for a lease, empty when it may be taken."""
    if isinstance(request, Reserve) and not 0.0 <= request.soc <= 1.0:
        return f"reserve {request.soc}: expected a state of charge 0..1"
    if isinstance(request, Power) and not -MOST_W <= request.power_w <= MOST_W:
        return f"power {request.power_w}: expected a number {-MOST_W:.0f}..{MOST_W:.0f} W"
    if not LEASE_S[0] <= request.lease_s <= LEASE_S[1]:
        return f"lease_s {request.lease_s}: expected a number {LEASE_S[0]:g}..{LEASE_S[1]:g} s"
    return ""
