"""How worn the cells are."""

from __future__ import annotations

from bmsd.core.protection.evidence import Evidence, Reading, detector, of_rack


@detector
def state_of_health(evidence: Evidence) -> Reading:
    """State of health of the rack, 0..1: the estimate itself, as a ticket tells what is, not what may be."""
    return of_rack(evidence.soh)
