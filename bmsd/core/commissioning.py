"""Which boards belong to the rack: taken over when first seen complete, changed only by service."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bmsd.model.request import Request, Reset, Role
from bmsd.model.snapshot import Ints

CODE = "MOD-008"
"""What service resets, with a reason, to accept the boards that answer now. A reset of "all" is not enough."""


def commissioned(was: Ints | None, uid: Ints, requests: Sequence[Request]) -> Ints | None:
    """Return the unique numbers that belong to the rack, from those that the boards say now (strings, modules).

    A board that has no number is not taken over by itself; service may accept it.
    """
    if was is None:
        return uid.copy() if (uid > 0).all() else None
    known = uid >= 0
    if any(_accepts(request) for request in requests) and (uid != was)[known].any():
        return np.where(known, uid, was)
    return was


def _accepts(request: Request) -> bool:
    return isinstance(request, Reset) and request.code == CODE and request.role is Role.SERVICE and bool(request.reason)
