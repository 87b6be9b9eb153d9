"""Single lines of a GPIO chip by the kernel's character device, second version (linux/gpio.h).

A line is ours until `close` or the end of the process; the chip then keeps the level or not, as its driver likes.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from pathlib import Path

from bmsd.errors import BusError

REQUEST = struct.Struct("=64I32sQI20x240xII20xi")
"""struct gpio_v2_line_request: offsets, consumer, flags, number of attributes, of lines, event buffer, fd."""
VALUES = struct.Struct("=QQ")
"""struct gpio_v2_line_values: bits, mask."""
ACTIVE_LOW, INPUT, OUTPUT = 1 << 1, 1 << 2, 1 << 3
CONSUMER = b"bmsd"


def _read_write(number: int, size: int) -> int:
    """_IOWR(0xB4, number, size), asm-generic/ioctl.h."""
    return 3 << 30 | size << 16 | 0xB4 << 8 | number


GET_LINE = _read_write(0x07, REQUEST.size)
GET_VALUES = _read_write(0x0E, VALUES.size)
SET_VALUES = _read_write(0x0F, VALUES.size)
REMEDIES = {
    errno.ENOENT: "there is no such chip; see gpiodetect",
    errno.EACCES: "this user may not open it; add it to its group (gpio) and let the unit have the device",
    errno.EPERM: "this process may not open it; let the unit have the device (DeviceAllow)",
    errno.EBUSY: "the line is used by something else; see gpioinfo",
    errno.EINVAL: "the chip has no such line; see gpioinfo",
    errno.ENOTTY: "this is no GPIO chip",
}


class Line:
    """One line, an output that starts inactive or an input. BusError when it cannot be had."""

    def __init__(self, chip: Path, number: int, *, output: bool, active_low: bool = False) -> None:
        flags = (OUTPUT if output else INPUT) | (ACTIVE_LOW if active_low else 0)
        offsets = (number, *(0,) * 63)
        request = bytearray(REQUEST.pack(*offsets, CONSUMER, flags, 0, 1, 0, -1))
        try:
            handle = os.open(chip, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.ioctl(handle, GET_LINE, request)
            finally:
                os.close(handle)
        except OSError as error:
            why = REMEDIES.get(error.errno or 0, "")
            raise BusError(f"{chip} line {number}: {error.strerror}{': ' if why else ''}{why}") from error
        self._handle: int = REQUEST.unpack(request)[-1]

    def set(self, active: bool) -> None:
        """Drive the output. OSError when the chip is gone."""
        fcntl.ioctl(self._handle, SET_VALUES, VALUES.pack(int(active), 1))

    def get(self) -> bool:
        """Return whether the line is active. OSError when the chip is gone."""
        values = bytearray(VALUES.pack(0, 1))
        fcntl.ioctl(self._handle, GET_VALUES, values)
        return bool(VALUES.unpack(values)[0] & 1)

    def close(self) -> None:
        os.close(self._handle)
