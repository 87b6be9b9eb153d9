"""Who steers the rack from outside."""

from __future__ import annotations

import numpy as np

from bmsd.core.protection.evidence import Evidence, Reading, detector


@detector
def set_point_lost(evidence: Evidence) -> Reading:
    """1 where a power set-point was not renewed, and nobody has set one since, released it or looked; else 0."""
    return Reading(np.array([float(evidence.set_point_lost)]))
