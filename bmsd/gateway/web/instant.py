"""Which record an answer shows, and how old it is."""

from __future__ import annotations

import math
from typing import Any

from bmsd.clock import iso
from bmsd.gateway.feed import Feed


def instant(feed: Feed) -> dict[str, Any]:
    """Return age, sequence, boot id, wall time and its quality of the newest record, for JSON; null: there is none."""
    age_s = feed.age_s()
    return {
        "age_s": round(age_s, 3) if math.isfinite(age_s) else None,
        "sequence": feed.newest.sequence if feed.newest else None,
        "boot_id": feed.hello.boot_id if feed.hello else None,
        "utc": utc(feed.newest.snapshot.utc_s) if feed.newest else None,
        "utc_quality": feed.newest.snapshot.utc_quality.value if feed.newest else None,
    }


def utc(seconds: float | None) -> str | None:
    """Return wall time as ISO 8601 text, None when it is not known."""
    return None if seconds is None else iso(seconds)
