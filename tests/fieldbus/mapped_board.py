"""Builders for mapped boards: a DBC from a few lines, the map of it, frames as the kernel hands them over."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from bmsd.config.load import board_map
from bmsd.config.schema_mapped import Mapped
from bmsd.fieldbus.drivers.mapped import Receiver
from bmsd.fieldbus.drivers.mapped.plan import Plan, plan
from bmsd.model.board_map import BoardMap
from bmsd.model.frame import EXTENDED_FLAG, RAW_FRAME, RawFrames
from bmsd.model.layout import Layout
from bmsd.model.plant import Timing
from tests.third_party_board import DBC, Sent

TIMING = Timing(tick_s=0.1, poll_s=0.2, current_phases=4)
LAYOUT = Layout(1, 2, 16, 4)

VALUES: list[dict[str, Any]] = [
    {
        "quantity": "cell_v", "message": "Board_1_Cells", "signals": ["Cell_{cell:02d}_Voltage"], "id_step": 1,
        "factor": 0.001,
    },
    {"quantity": "temperature_degc", "message": "Board_1_Temperatures", "signals": ["Sensor_{sensor}"], "id_step": 1},
    {"quantity": "current_a", "message": "Pack", "signals": ["PackCurrent"]},
    {"quantity": "string_v", "message": "Pack", "signals": ["PackVoltage"]},
    {"quantity": "contactors", "message": "Pack", "signals": ["MainContactors"]},
]  # fmt: skip


def mapping(values: list[dict[str, Any]] | None = None, dbc: Path = DBC, **settings: Any) -> BoardMap:
    """The map of deploy/mapped-board.dbc with other entries or settings."""
    table = {"dbc": dbc.name, "current_sign": "discharge_positive", "values": VALUES if values is None else values}
    return board_map(Mapped.model_validate(table | settings), dbc.parent)


def planned(layout: Layout = LAYOUT, **settings: Any) -> Plan:
    return plan(mapping(**settings), layout, {})


def receiver(layout: Layout = LAYOUT, **settings: Any) -> Receiver:
    return Receiver(layout, TIMING, planned(layout, **settings))


def raw(frames: Iterable[Sent], flags: int = 0) -> RawFrames:
    """Frames as one drain."""
    rows = [
        (
            f.can_id | (EXTENDED_FLAG if f.extended else 0) | flags,
            len(f.data), 0, int.from_bytes(f.data.ljust(8, b"\0"), "little"),
        )
        for f in frames
    ]  # fmt: skip
    return np.array(rows, dtype=RAW_FRAME)
