"""Contactors of each string: close in order through precharge, open in order, never close by accident.

`table`: states and transitions. `sequence`: one step of all strings. `reasons`: why a string may not close.
`connecting`: which string comes first, and when a further one may join. `circuit`: what follows from the states.
`follow`: strings that nobody here switches.
"""

from __future__ import annotations

from bmsd.core.contactors.circuit import Outputs, in_doubt, not_open, outputs
from bmsd.core.contactors.reasons import Orders
from bmsd.core.contactors.sequence import ISOLATED_CODE, LOCK_CODE, released, start, step
from bmsd.core.contactors.table import TRANSITIONS, Event, Failure, State, StringState

__all__ = [
    "ISOLATED_CODE",
    "LOCK_CODE",
    "TRANSITIONS",
    "Event",
    "Failure",
    "Orders",
    "Outputs",
    "State",
    "StringState",
    "in_doubt",
    "not_open",
    "outputs",
    "released",
    "start",
    "step",
]
