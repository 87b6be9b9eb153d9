"""What a contactor unit would read in a frame to it: for the transmit gate, apart from what wrote the frame."""

from __future__ import annotations

from dataclasses import dataclass

from bmsd.errors import FrameError
from bmsd.fieldbus.drivers.slave.slots import ADDRESS_MASK, DATABASE
from bmsd.model.frame import Frame
from bmsd.model.layout import Layout

_CONTACTORS = DATABASE.get_message_by_name("ContactorCommand")


@dataclass(frozen=True, slots=True)
class ContactorOrder:
    """What a unit is told to close; `string` counts from 0."""

    string: int
    close_minus: bool
    close_precharge: bool
    close_plus: bool
    inverter_enable: bool


def contactor_order(frame: Frame, layout: Layout) -> ContactorOrder | None:
    """Return what a ContactorCommand tells its unit, None for any other frame.

    Raises FrameError when the unit is none of this rack, or the frame is shorter than its message.
    """
    if not frame.extended or frame.can_id & ~ADDRESS_MASK != _CONTACTORS.frame_id:
        return None
    address = frame.can_id & ADDRESS_MASK
    if address not in layout.unit_addresses:
        raise FrameError("contactor command to no unit of this rack")
    if len(frame.data) != _CONTACTORS.length:
        raise FrameError("contactor command of a wrong length")
    told = dict(_CONTACTORS.decode(frame.data, decode_choices=False))
    return ContactorOrder(
        string=layout.unit_addresses.index(address),
        close_minus=bool(told["CloseMinus"]),
        close_precharge=bool(told["ClosePrecharge"]),
        close_plus=bool(told["ClosePlus"]),
        inverter_enable=bool(told["InverterEnable"]),
    )
