"""How old a rack is and how much it was used: the abscissas of ageing.

Theory of operation. While the process runs, age is monotonic time; nothing that is done to the wall clock changes it.
The time of a power-off is found once after the start: by a synchronised clock as soon as there is one, by another one
when an hour has passed in which nobody set it, and then only up to a month. A time that cannot be found counts as none
and is remembered: cells seem to age faster by it than they do, never more slowly.

`warm_years` weighs time by exp(-2 E (1/T - 1/298 K)): a loss k(T) sqrt(t) under changing temperature goes on from the
loss that was reached, so k^2 t adds up.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bmsd.core.estimation.known import mean
from bmsd.model.cell import KELVIN
from bmsd.model.history import Wear
from bmsd.model.host import ClockQuality
from bmsd.model.snapshot import Floats, Snapshot

DAY_S = 86400.0
YEAR_DAYS = 365.25
WARM_K = 25.0 + KELVIN
STEP_S = 60.0
UNSET_FOR_S = 3600.0
"""A clock that nobody set for so long after the start is all there is."""
LONGEST_OFF_DAYS, LONGEST_GUESS_DAYS = 3653.0, 30.0
"""What a synchronised clock may tell of a power-off, and what another one may."""


@dataclass(frozen=True, slots=True)
class WearMemory:
    """`wear` as of the last step, and what came since: time in s, charge passed in capacities (strings,).

    `off`: the time of the last power-off is still to be found; `running_s` is the time since then.
    """

    wear: Wear
    since_s: float
    passed: Floats
    off: bool = False
    running_s: float = 0.0


def start(strings: int) -> WearMemory:
    """A rack that was never used."""
    zero = np.zeros(strings)
    return WearMemory(Wear(0.0, zero, zero), 0.0, zero)


def after_off(saved: Wear) -> WearMemory:
    """The wear that was saved, before anybody knows for how long the rack was off."""
    return WearMemory(saved, 0.0, np.zeros_like(saved.cycles), off=True)


def moved(was: WearMemory, current_a: Floats, capacity_ah: float, dt_s: float) -> WearMemory:
    """Count on; a current that is not known counts as none."""
    passed = was.passed + np.abs(np.nan_to_num(current_a)) * (dt_s / 3600.0 / capacity_ah)
    return replace(was, since_s=was.since_s + dt_s, passed=passed)


def step(was: WearMemory, snapshot: Snapshot, activation_k: float) -> WearMemory:
    """Add up what came since the last step, find out the time of a power-off, and remember when this is."""
    degc = mean(snapshot.modules.temperature_degc.reshape(len(was.passed), -1))
    days, wear = was.since_s / DAY_S, was.wear
    pace = warm_pace(np.where(np.isnan(degc), 25.0, degc), activation_k)
    wear = replace(
        wear,
        age_days=wear.age_days + days,
        warm_years=wear.warm_years + pace * days / YEAR_DAYS,
        cycles=wear.cycles + 0.5 * was.passed,
    )
    now = WearMemory(wear, 0.0, np.zeros_like(was.passed), was.off, was.running_s + was.since_s)
    utc_s, exact = snapshot.utc_s, snapshot.utc_quality is ClockQuality.SYNCHRONISED
    if not exact and now.running_s < UNSET_FOR_S:
        return now
    if now.off:
        now = replace(now, wear=_found(now.wear, utc_s, exact), off=False)
    if utc_s is None or (now.wear.exact and not exact):
        return now
    return replace(now, wear=replace(now.wear, utc_s=utc_s, utc_age_days=now.wear.age_days, exact=exact))


def warm_pace(degc: Floats, activation_k: float) -> Floats:
    """Return by how much faster time ages cells at this temperature than at 25 degC."""
    return np.asarray(np.exp(-2.0 * activation_k * (1.0 / (degc + KELVIN) - 1.0 / WARM_K)))


def _found(wear: Wear, utc_s: float | None, exact: bool) -> Wear:
    """The wear with the time of the power-off in it, or with a note that it is not known."""
    days = _off_days(wear, utc_s, exact)
    if days is None:
        return replace(wear, undated_days=wear.age_days)
    # nobody measured: as warm as it was until now
    usual = wear.warm_years / wear.age_days if wear.age_days > 1.0 else np.full_like(wear.warm_years, 1.0 / YEAR_DAYS)
    return replace(wear, age_days=wear.age_days + days, warm_years=wear.warm_years + days * usual)


def _off_days(wear: Wear, utc_s: float | None, exact: bool) -> float | None:
    if utc_s is None or wear.utc_s is None:
        return None
    days = (utc_s - wear.utc_s) / DAY_S - (wear.age_days - wear.utc_age_days)
    longest = LONGEST_OFF_DAYS if exact and wear.exact else LONGEST_GUESS_DAYS
    # clocks of two runs differ by seconds
    return max(days, 0.0) if -0.01 <= days <= longest else None
