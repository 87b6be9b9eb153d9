"""A healthy rack of 8 x 4 boards of 16 cells that only sends: every answer was packed before, so that it costs little.

All strings are alike, closed and without current.

python -m tests.bench.light_rack INTERFACE     (until SIGTERM; then it says as JSON how many frames it sent)
"""

from __future__ import annotations

import heapq
import json
import select
import signal
import socket
import struct
import sys
import time
from types import FrameType

from bmsd.model.frame import Frame
from bmsd.model.layout import Layout
from tests import slave_frames

LAYOUT = Layout(8, 4, 16, 4)
BOARDS = [address for string in LAYOUT.module_addresses for address in string]
UNITS = LAYOUT.unit_addresses
SLOT_START_S, SLOT_S, STATE_START_S = 0.004, 0.0026, 0.088
BOARDS_AT_ONCE = 2
_SYNC = 0x0DB51200
_TYPE = 0x1FFFFF80


def packet(frame: Frame) -> bytes:
    return struct.pack("<IB3x8s", frame.can_id | socket.CAN_EFF_FLAG, len(frame.data), frame.data)


def packets(frames: list[Frame]) -> list[bytes]:
    return [packet(frame) for frame in frames]


CELL_V, VOLTAGE_V = 0.000625, 0.002
"""One count of a cell's voltage, and of all others, V."""


def cell_raw(module: int, cell: int) -> int:
    """A voltage of its own for every cell of a string, about 3.2 V, in counts."""
    return 5100 + LAYOUT.cells * module + cell


def module_v(module: int) -> float:
    return CELL_V * sum(cell_raw(module, cell) for cell in range(LAYOUT.cells))


STRING_V = sum(module_v(module) for module in range(LAYOUT.modules))


def board(address: int, number: int, group: int) -> list[Frame]:
    """What a board answers to a SYNC of phase 0."""
    module = BOARDS.index(address) % LAYOUT.modules
    cells = {f"Cell{cell + 1}Voltage": cell_raw(module, cell) for cell in range(LAYOUT.cells)}
    frames = slave_frames.cells(address, number, LAYOUT.cells, **cells)
    if group == slave_frames.TEMPERATURES:
        frames += slave_frames.temperatures(address, number, LAYOUT.sensors)
    elif group == slave_frames.MODULE_STATE:
        volts = round(module_v(module) / VOLTAGE_V)
        frames.append(slave_frames.module_state(address, number, LAYOUT.cells, ModuleVoltage=volts))
    elif group == slave_frames.NODE_STATUS:
        frames.append(slave_frames.node_status(address, number))
    return frames


class Answers:
    """All packets that this rack can ever send, by counter, phase and slow group."""

    def __init__(self) -> None:
        volts = dict.fromkeys(("StringVoltage", "BusVoltage"), round(STRING_V / VOLTAGE_V))
        closed = ("MinusFeedback", "PlusFeedback", "MinusOutput", "PlusOutput", "InverterEnableOutput")
        self.boards = [
            {address: packets(board(address, number, group)) for address in BOARDS}
            for number in range(16)
            for group in range(4)
        ]  # [counter * 4 + slow group][address]
        self.currents = [
            packets([slave_frames.current(unit, number, phase=phase, raw_a=0) for unit in UNITS])
            for number in range(16)
            for phase in range(4)
        ]
        self.units = [
            packets(
                [
                    frame
                    for unit in UNITS
                    for frame in (
                        slave_frames.voltages(unit, number, **volts),
                        slave_frames.contactor_state(unit, number, **dict.fromkeys(closed, 1)),
                        *([slave_frames.node_status(unit, number)] if group == slave_frames.NODE_STATUS else []),
                    )
                ]
            )
            for number in range(16)
            for group in range(4)
        ]
        self.identities = packets(
            [frame for address in (*BOARDS, *UNITS) for frame in slave_frames.identity(address, uid=1000 + address)]
        )


def run(interface: str) -> int:
    """Answer SYNCs and identification requests until SIGTERM; return how many frames were sent."""
    answers, sent, ended = Answers(), 0, False

    def end(_number: int, _frame: FrameType | None) -> None:
        nonlocal ended
        ended = True

    signal.signal(signal.SIGTERM, end)
    bus = socket.socket(socket.PF_CAN, socket.SOCK_RAW, socket.CAN_RAW)
    filters = [(0x0DB51200, _TYPE), (_identify_id(), _TYPE)]
    packed = b"".join(struct.pack("=II", can_id | socket.CAN_EFF_FLAG, mask | 0x80000000) for can_id, mask in filters)
    bus.setsockopt(socket.SOL_CAN_RAW, socket.CAN_RAW_FILTER, packed)
    bus.bind((interface,))
    print("ready", flush=True)
    queue: list[tuple[float, int, list[bytes]]] = []
    order = 0
    while not ended:
        wait_s = min(max(queue[0][0] - time.monotonic(), 0.0), 0.2) if queue else 0.2
        if select.select([bus], [], [], wait_s)[0]:
            can_id, data = struct.unpack("<I4x8s", bus.recv(16))
            now_s = time.monotonic()
            due: list[tuple[float, list[bytes]]]
            if can_id & _TYPE == _SYNC & _TYPE:
                number, phase, group = data[0] % 16, data[1] & 3, data[1] >> 4
                due = [(now_s, answers.currents[number * 4 + phase])]
                if phase == 0:
                    of_boards = answers.boards[number * 4 + group]
                    for first in range(0, len(BOARDS), BOARDS_AT_ONCE):
                        some = [p for a in BOARDS[first : first + BOARDS_AT_ONCE] for p in of_boards[a]]
                        due.append((now_s + SLOT_START_S + SLOT_S * first, some))
                    due.append((now_s + STATE_START_S, answers.units[number * 4 + group]))
            else:
                due = [(now_s + 0.1, answers.identities)]
            for at_s, frames in due:
                order += 1
                heapq.heappush(queue, (at_s, order, frames))
        while queue and queue[0][0] <= time.monotonic():
            for one in heapq.heappop(queue)[2]:
                bus.send(one)
                sent += 1
    return sent


def _identify_id() -> int:
    from tests.vcan.slave_bus import identifier

    return identifier("IdentifyRequest")


if __name__ == "__main__":
    print(json.dumps({"sent": run(sys.argv[1])}), flush=True)
