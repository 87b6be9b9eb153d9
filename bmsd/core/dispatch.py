"""What others ask for a while: a reserve and a power set-point, each leased, held through bounds.

A set-point only lowers limits: it is one bound among the others. It holds until its lease ends or somebody releases
it; the newest request of a kind takes the place of the one before, whoever asked. Leases do not survive a restart.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bmsd.model.bound import Bound
from bmsd.model.request import Lease, Power, Release, Request, Reserve, Reset, complaint
from bmsd.model.snapshot import Floats

LOST_CODE = "EMS-001"


def step(was: tuple[Lease, ...], requests: Sequence[Request], now_s: float) -> tuple[Lease, ...]:
    """Return the leases in force after these requests, at most one of each kind. What is out of range is not taken."""
    leases = {lease.what: lease for lease in was if not now_s >= lease.until_s}
    for request in requests:
        if isinstance(request, Release):
            leases.pop(request.what, None)
        elif isinstance(request, Reserve | Power) and not complaint(request):
            what, value = ("reserve", request.soc) if isinstance(request, Reserve) else ("power", request.power_w)
            leases[what] = Lease(what, value, now_s + request.lease_s, request.source)
    return tuple(leases[what] for what in sorted(leases))


def lost(was: bool, before: Sequence[Lease], now: Sequence[Lease], requests: Sequence[Request]) -> bool:
    """Whether the power set-point of who steered the rack has run out, and nobody steers it, gave it back or looked."""
    if any(_looked_after(request) for request in requests) or _steered(now):
        return False
    return was or _steered(before)


def _steered(leases: Sequence[Lease]) -> bool:
    return any(lease.what == "power" for lease in leases)


def _looked_after(request: Request) -> bool:
    if isinstance(request, Reset):
        return request.code in (LOST_CODE, "all")
    return isinstance(request, Release) and request.what == "power"


def bounds(
    leases: Sequence[Lease], string_soc: Floats, pack_v: float | None
) -> tuple[tuple[Bound, ...], tuple[Bound, ...]]:
    """Return what the leases allow: bounds of the charge and of the discharge. SoC (strings,), NaN: unknown.

    With an unknown voltage a power is no current, and with an unknown SoC a reserve may be used up: nothing flows.
    """
    charge: list[Bound] = []
    discharge: list[Bound] = []
    for lease in leases:
        whose = f"of {lease.source or 'somebody'}"
        if lease.what == "reserve":
            used_up = np.flatnonzero(~(string_soc > lease.value)) if lease.value > 0.0 else ()
            reason = f"reserve {100.0 * lease.value:g} % {whose}"
            discharge += [Bound(0.0, reason, "reserve", int(string)) for string in used_up]
        else:
            allowed, forbidden = (charge, discharge) if lease.value >= 0.0 else (discharge, charge)
            amps = abs(lease.value) / pack_v if pack_v is not None and pack_v > 0.0 else 0.0
            allowed.append(Bound(amps, f"power set-point {whose}", "power"))
            forbidden.append(Bound(0.0, f"power set-point {whose}", "power"))
    return tuple(charge), tuple(discharge)
