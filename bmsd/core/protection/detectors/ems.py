"""Who steers the rack from outside."""

from __future__ import annotations

from bmsd.core.protection.evidence import Evidence, Reading, detector, of_rack


@detector
def set_point_lost(evidence: Evidence) -> Reading:
    """1 where a power set-point was not renewed, and nobody has set one since, released it or looked; else 0."""
    return of_rack(evidence.set_point_lost)
