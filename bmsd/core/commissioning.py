"""Which boards belong to the rack, place by place: taken over at the first start, changed only by service."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bmsd.model.request import Request, Reset
from bmsd.model.snapshot import Ints

CODE = "MOD-008"
"""What service resets, with a reason, to accept the boards that answer now. A reset of "all" is not enough."""
NOBODY = -1
"""Of a place that no board has been taken over or accepted for."""
FIRST_START_S = 60.0
"""So long a rack without a map waits for all of its boards; then it takes over those that answer."""


def commissioned(was: Ints | None, uid: Ints, requests: Sequence[Request], waited_s: float) -> Ints | None:
    """Return the unique numbers that belong to the rack, from those that the boards say now (strings, modules).

    Without a map, None, those that answer are taken over once all do, or have had the time to. A place that is left
    out stays so until service accepts its board. One that has no number is not taken over by itself.
    """
    if accepted(requests):
        return _with(was, uid, uid >= 0)
    numbered = uid > 0
    if was is None and (numbered.all() or (waited_s >= FIRST_START_S and numbered.any())):
        return _with(None, uid, numbered)
    return was


def _with(was: Ints | None, uid: Ints, taken: np.ndarray) -> Ints | None:
    """The map with these boards in it; the same value when that changes nothing."""
    before = np.full_like(uid, NOBODY) if was is None else was
    after = np.where(taken, uid, before)
    return was if (after == before).all() else after


def accepted(requests: Sequence[Request]) -> bool:
    """Whether service accepts the boards that answer now."""
    return any(isinstance(request, Reset) and request.of_service(CODE) for request in requests)
