"""Boards of another maker (deploy/mapped-board.dbc) as their maker would write them: plain cantools, nothing of ours.

python -m tests.third_party_board SOCKET     boards on a socket hub that answer the request, until SIGTERM
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import can
import cantools
from cantools.database.can import Database

DBC = Path(__file__).parents[1] / "deploy" / "mapped-board.dbc"
CELLS, SENSORS, BOARDS, PER_PAGE = 16, 4, 2, 3
REQUEST = 0x0F0


class Sent(NamedTuple):
    """One frame as it is on the bus."""

    can_id: int
    extended: bool
    data: bytes


def load() -> Database:
    database = cantools.database.load_file(DBC)
    assert isinstance(database, Database)
    return database


@dataclass
class Boards:
    """What the boards measure, in V, degC (None: not fitted) and A, positive when discharging, as this maker does."""

    cell_v: list[list[float]] = field(
        default_factory=lambda: [
            [3.2 + 0.01 * board + 0.001 * cell for cell in range(CELLS)] for board in range(BOARDS)
        ]
    )
    degc: list[list[int | None]] = field(
        default_factory=lambda: [[20 + 10 * board + sensor for sensor in range(SENSORS)] for board in range(BOARDS)]
    )
    discharge_a: float = 0.0
    contactors: int = 1
    alive: int = 0

    def __post_init__(self) -> None:
        self._database = load()

    def frames(self) -> list[Sent]:
        """Return everything that the boards say in one round."""
        self.alive = (self.alive + 1) % 256
        rounds = [self.cells(b) for b in range(BOARDS)] + [[self.temperatures(b)] for b in range(BOARDS)]
        return [frame for some in rounds for frame in some] + [self.pack()]

    def cells(self, board: int) -> list[Sent]:
        pages = []
        for page in range(-(-CELLS // PER_PAGE)):
            chosen = range(page * PER_PAGE, min((page + 1) * PER_PAGE, CELLS))
            values = {f"Cell_{cell + 1:02d}_Voltage": 1000.0 * self.cell_v[board][cell] for cell in chosen}
            pages.append(self._sent("Board_1_Cells", {"Page": page, "Alive": self.alive, **values}, board))
        return pages

    def temperatures(self, board: int) -> Sent:
        values = {
            f"Sensor_{number}": "not_fitted" if degc is None else degc
            for number, degc in enumerate(self.degc[board], start=1)
        }
        return self._sent("Board_1_Temperatures", {**values, "Checksum": 0}, board)

    def pack(self) -> Sent:
        volts = sum(sum(board) for board in self.cell_v)
        values = {
            "PackCurrent": self.discharge_a, "PackVoltage": volts, "MainContactors": self.contactors,
            "Alive": self.alive, "Checksum": 0,
        }  # fmt: skip
        return self._sent("Pack", values, 0)

    def _sent(self, name: str, values: Mapping[str, float | str], step: int) -> Sent:
        message = self._database.get_message_by_name(name)
        data = bytearray(message.encode(values))
        if "Checksum" in values:
            data[7] = sum(data[:7]) % 256
        return Sent(message.frame_id + step, message.is_extended_frame, bytes(data))


def main(channel: str) -> None:
    """Answer every request with a round of frames."""
    boards = Boards()
    with can.Bus(interface="unix", channel=channel) as bus:
        while True:
            heard = bus.recv()
            if heard is None or heard.arbitration_id != REQUEST or bytes(heard.data) != b"\x01":
                continue
            for frame in boards.frames():
                bus.send(can.Message(arbitration_id=frame.can_id, is_extended_id=frame.extended, data=frame.data))


if __name__ == "__main__":
    main(sys.argv[1])
