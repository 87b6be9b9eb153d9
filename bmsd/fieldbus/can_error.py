"""What a CAN controller says of itself in error frames: its state, its error counters, what went wrong how often.

Classes and bits are those of the kernel's include/uapi/linux/can/error.h. A driver sends a state when it changes; most
send single errors of the bus only when the interface was set up with `berr-reporting on`, and then up to thousands a
second: these are counted as an array, only states are looked at one by one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bmsd.model.frame import RawFrames
from bmsd.model.snapshot import Controller

_TX_TIMEOUT, _CONTROLLER, _PROTOCOL, _TRANSCEIVER, _NO_ACK = 0x01, 0x04, 0x08, 0x10, 0x20
_BUS_OFF, _BUS_ERROR, _RESTARTED, _COUNTERS = 0x40, 0x80, 0x100, 0x200
"""Classes, in the identifier."""
_STATES = _CONTROLLER | _BUS_OFF | _RESTARTED
_OVERFLOW, _WARNING, _PASSIVE, _ACTIVE = 0x03, 0x0C, 0x30, 0x40
"""Of a controller, byte 1."""
_ACK_SLOT, _ACK_DELIMITER = 0x19, 0x1B
"""Places of a protocol error, byte 3."""
ERROR_KINDS = ("bus_errors", "no_ack", "overflows", "transceiver", "transmit_timeouts", "bus_offs", "restarts")
"""What is counted."""


@dataclass
class ControllerHealth:
    """One controller. Counts are since start and survive that the bus is opened anew."""

    state: Controller = Controller.NOT_REPORTED
    transmit_errors: int | None = None
    """The controller's own counters; None while it has not told them."""
    receive_errors: int | None = None
    bus_errors: int = 0
    """Protocol errors: bits, stuffing, form, CRC, and missing acknowledgements."""
    no_ack: int = 0
    overflows: int = 0
    """Times that the controller had no room for a frame, in or out."""
    transceiver: int = 0
    transmit_timeouts: int = 0
    bus_offs: int = 0
    restarts: int = 0

    def opened(self) -> None:
        """Forget the state: another controller may be behind the name."""
        self.state, self.transmit_errors, self.receive_errors = Controller.NOT_REPORTED, None, None

    def take(self, frames: RawFrames) -> None:
        """Take error frames, in order of arrival."""
        classes: NDArray[np.uint32] = frames["can_id"]
        place = _byte(frames, 3)
        no_ack = (classes & _NO_ACK != 0) | (
            (classes & _PROTOCOL != 0) & ((place == _ACK_SLOT) | (place == _ACK_DELIMITER))
        )
        controller = classes & _CONTROLLER != 0
        self.no_ack += int(no_ack.sum())
        self.bus_errors += int((no_ack | (classes & (_PROTOCOL | _BUS_ERROR) != 0)).sum())
        self.overflows += int((controller & (_byte(frames, 1) & _OVERFLOW != 0)).sum())
        self.transceiver += int((classes & _TRANSCEIVER != 0).sum())
        self.transmit_timeouts += int((classes & _TX_TIMEOUT != 0).sum())
        for can_id, data in frames[["can_id", "data"]][classes & _STATES != 0].tolist():
            self._change(can_id, data >> 8 & 0xFF)
        self._count(frames)

    def lost_carrier(self) -> None:
        """The interface no longer runs: the controller is bus-off, though no error frame has said so."""
        if self.state is not Controller.BUS_OFF:
            self.bus_offs += 1
        self.state = Controller.BUS_OFF

    def works(self) -> None:
        """Whatever was reported: a controller that receives data, or has a carrier, is not bus-off."""
        if self.state is Controller.BUS_OFF:
            self.state = Controller.NOT_REPORTED

    def _change(self, classes: int, status: int) -> None:
        if classes & _BUS_OFF:
            self.lost_carrier()
        elif classes & _RESTARTED:
            self.restarts += 1
            self.state = Controller.ACTIVE
        elif self.state is not Controller.BUS_OFF:
            for bits, state in (
                (_PASSIVE, Controller.PASSIVE),
                (_WARNING, Controller.WARNING),
                (_ACTIVE, Controller.ACTIVE),
            ):
                if status & bits:
                    self.state = state
                    return

    def _count(self, frames: RawFrames) -> None:
        """Take the counters of the newest frame that has them; before Linux 6.0 no flag says so."""
        data: NDArray[np.uint64] = frames["data"]
        told = (frames["can_id"] & _COUNTERS != 0) | (data >> np.uint64(48) != 0)
        if told.any():
            newest = int(data[told][-1])
            self.transmit_errors, self.receive_errors = newest >> 48 & 0xFF, newest >> 56


def _byte(frames: RawFrames, number: int) -> NDArray[np.uint64]:
    data: NDArray[np.uint64] = frames["data"]
    return data >> np.uint64(8 * number) & np.uint64(0xFF)
