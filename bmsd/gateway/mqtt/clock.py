"""UTC, and whether it may be believed: a rack without a network may have started in 1970."""

from __future__ import annotations

import ctypes
import time
from datetime import UTC, datetime

TIME_ERROR = 5
"""What adjtimex(2) returns while nothing disciplines the clock."""
TIMEX_BYTES = 512
"""More than struct timex has on any architecture; zeroed, it asks and sets nothing."""


def utc_quality() -> str:
    """Return synchronised or unsynchronised as the kernel says, unknown where it does not tell."""
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(TIMEX_BYTES))
    except (AttributeError, OSError):
        return "unknown"
    if state < 0:
        return "unknown"
    return "unsynchronised" if state == TIME_ERROR else "synchronised"


def utc_text(utc_s: float) -> str:
    """Return seconds since 1970 as ISO 8601 in UTC."""
    return datetime.fromtimestamp(utc_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def utc_ago(age_s: float) -> str:
    """Return the UTC of that many seconds ago."""
    return utc_text(time.time() - age_s)
