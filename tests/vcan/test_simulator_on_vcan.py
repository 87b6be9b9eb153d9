"""The simulated rack on a real bus, asked by a poller that is not bmsd's: cansend, cantools and a published CRC."""

from __future__ import annotations

from pathlib import Path

import cantools
import pytest
from cantools.database import Database
from crccheck.crc import Crc8Autosar

from tests.vcan.rack_on_can import ROOT, RackOnCan
from tests.vcan.wire import Candump, Seen, cansend

pytestmark = pytest.mark.vcan

ADDRESS_MASK = 0x7F


@pytest.fixture(scope="module")
def protocol() -> Database:
    loaded = cantools.database.load_file(ROOT / "dbc" / "slave.dbc", frame_id_mask=0x1FFFFFFF & ~ADDRESS_MASK)
    assert isinstance(loaded, Database)
    return loaded


def crc(can_id: int, data: bytes) -> int:
    return Crc8Autosar.calc(can_id.to_bytes(4, "big") + data)


def sync(protocol: Database, number: int, *, spoilt: int = 0) -> str:
    """Return a SYNC in cansend's notation; `spoilt` is added to its CRC."""
    message = protocol.get_message_by_name("Sync")
    data = message.encode({"Number": number, "Phase": 0, "SlowGroup": 1, "PollPeriod": 0.2, "Crc": 0})
    data = data[:-1] + bytes([crc(message.frame_id, data[:-1]) ^ spoilt])
    return f"{message.frame_id:08X}#{data.hex().upper()}"


def decoded(protocol: Database, frame: Seen) -> tuple[str, int, dict[str, float]]:
    """Return message name, address and signals; a wrong CRC fails the test."""
    assert crc(frame.can_id, frame.data[:-1]) == frame.data[-1]
    message = protocol.get_message_by_frame_id(frame.can_id)
    signals = message.decode(frame.data, decode_choices=False)
    assert isinstance(signals, dict)
    return message.name, frame.can_id & ADDRESS_MASK, signals  # type: ignore[return-value]


def answered(protocol: Database, field: Candump, number: int, within_s: float) -> list[Seen]:
    """Send this SYNC and return all frames after it once the board at address 1 has sent its last cells."""
    before = field.count
    cansend("vcan0", sync(protocol, number))
    last_cells = protocol.get_message_by_name("CellVoltages4").frame_id | 1
    field.wait_for(last_cells, within_s, after=before)
    while not field.silent_for(0.1):
        pass
    return field.frames[before + 1 :]


def wait_for_the_boards(protocol: Database, field: Candump) -> None:
    """A program that starts hears nothing yet: ask until it answers."""
    for number in range(100):
        try:
            answered(protocol, field, number, within_s=0.2)
            return
        except AssertionError:
            continue
    pytest.fail("the simulator answers no SYNC")


def test_boards_and_unit_answer_a_sync_of_any_master(tmp_path: Path, protocol: Database) -> None:
    rack = RackOnCan(tmp_path, {"layout.modules_per_string": 2, "sim.soc0": 0.5})
    with Candump("vcan0") as field, rack.simulator():
        wait_for_the_boards(protocol, field)
        answers = [decoded(protocol, frame) for frame in answered(protocol, field, 201, within_s=1.0)]
    cells = {(name, address): signals for name, address, signals in answers if name.startswith("CellVoltages")}
    assert set(cells) == {(f"CellVoltages{part}", address) for part in (1, 2, 3, 4) for address in (1, 2)}
    assert {signals["Counter"] for signals in cells.values()} == {201 % 16}
    voltages = [value for signals in cells.values() for name, value in signals.items() if name.startswith("Cell")]
    assert len(voltages) == 2 * 16
    assert all(3.2 < voltage < 3.4 for voltage in voltages), "LFP at half charge"
    currents = [signals for name, address, signals in answers if (name, address) == ("Current", 65)]
    assert [signals["Counter"] for signals in currents] == [201 % 16]


def test_a_sync_with_a_wrong_crc_moves_nobody(tmp_path: Path, protocol: Database) -> None:
    with Candump("vcan0") as field, RackOnCan(tmp_path).simulator():
        wait_for_the_boards(protocol, field)
        before = field.count
        cansend("vcan0", sync(protocol, 7, spoilt=0x01))
        field.wait_for(protocol.get_message_by_name("Sync").frame_id, within_s=1.0, after=before)
        assert field.silent_for(0.5), "only the SYNC itself"
        assert answered(protocol, field, 8, within_s=1.0), "and a good one is answered again"
