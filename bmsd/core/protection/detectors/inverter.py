"""The inverter: is it heard?"""

from __future__ import annotations

import numpy as np

from bmsd.core.protection.evidence import Evidence, Reading, remembering


@remembering
def inverter_silence(evidence: Evidence, was: float | None) -> tuple[Reading, float]:
    """Time since the inverter's last keep-alive, s.

    Not every inverter sends one: one that was never heard is unknown, where it is required silent since the start.
    """
    start_s = evidence.snapshot.now_s if was is None else was
    silence_s = evidence.snapshot.inverter_age_s
    if not np.isfinite(silence_s):
        required = evidence.plant.inverter.keepalive_required
        silence_s = evidence.snapshot.now_s - start_s if required else np.nan
    return Reading(np.array([silence_s])), start_s


@remembering
def required_inverter_silence(evidence: Evidence, was: float | None) -> tuple[Reading, float]:
    """Silence beyond the time-out, s, for a row that is only raised where the keep-alive is required."""
    reading, start_s = inverter_silence(evidence, was)
    settings = evidence.plant.inverter
    return Reading(reading.value - settings.keepalive_timeout_s, gate=np.array([settings.keepalive_required])), start_s
