"""One CAN frame, and many of them as the kernel hands them over."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

EXTENDED_FLAG = 0x80000000
REMOTE_FLAG = 0x40000000
ERROR_FLAG = 0x20000000


class Frame(NamedTuple):
    """A classic CAN data frame: identifier without flags, 0..8 data bytes, 29-bit or 11-bit identifier."""

    can_id: int
    data: bytes
    extended: bool


RAW_FRAME = np.dtype([("can_id", "<u4"), ("length", "u1"), ("pad", "u1", 3), ("data", "<u8")])
"""The kernel's `struct can_frame` on a little-endian machine: identifier with flags, length, eight data bytes."""

RawFrames = NDArray[np.void]
"""Array (n,) of RAW_FRAME, in order of arrival."""
