"""A current that may flow, and why no more."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bound:
    """A proposal of one protection, curve, estimator or request.

    `amps` is a magnitude, 0 or more: of the string with this index, or of the whole rack when `string` is
    None. `reason` is for a person. `source` is the code of the fault row or the name of the curve.
    """

    amps: float
    reason: str
    source: str = ""
    string: int | None = None


NOTHING_KNOWN = Bound(0.0, "no bound known", "none")


def tightest(bounds: Iterable[Bound]) -> Bound:
    """Return the lowest bound; without any bound, or with one that is not a number, nothing may flow."""
    lowest: Bound | None = None
    for bound in bounds:
        if not bound.amps >= 0.0:
            return Bound(0.0, f"not a limit: {bound.amps} ({bound.reason})", bound.source)
        if lowest is None or bound.amps < lowest.amps:
            lowest = bound
    return lowest or NOTHING_KNOWN
