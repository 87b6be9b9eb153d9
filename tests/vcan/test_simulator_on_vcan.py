"""The simulated rack on a real bus, asked by a poller that is not bmsd's: cansend, cantools and a published CRC."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.vcan.rack_on_can import RackOnCan
from tests.vcan.slave_bus import ADDRESS_MASK, UNIT, identifier, name_of, signals, sync
from tests.vcan.wire import Candump, Seen, cansend

pytestmark = pytest.mark.vcan


def answered(field: Candump, number: int, within_s: float) -> list[Seen]:
    """Send this SYNC and return all frames after it once the board at address 1 has sent its last cells."""
    before = field.count
    cansend("vcan0", sync(number))
    field.wait_for(identifier("CellVoltages4", 1), within_s, after=before)
    while not field.silent_for(0.1):
        pass
    return field.frames[before + 1 :]


def wait_for_the_boards(field: Candump) -> None:
    """A program that starts hears nothing yet: ask until it answers."""
    for number in range(100):
        try:
            answered(field, number, within_s=0.2)
            return
        except AssertionError:
            continue
    pytest.fail("the simulator answers no SYNC")


def test_boards_and_unit_answer_a_sync_of_any_master(tmp_path: Path) -> None:
    rack = RackOnCan(tmp_path, {"layout.modules_per_string": 2, "sim.soc0": 0.5})
    with Candump("vcan0") as field, rack.simulator():
        wait_for_the_boards(field)
        answers = [
            (name_of(frame), frame.can_id & ADDRESS_MASK, signals(frame))
            for frame in answered(field, 201, within_s=1.0)
        ]
    cells = {(name, address): values for name, address, values in answers if name.startswith("CellVoltages")}
    assert set(cells) == {(f"CellVoltages{part}", address) for part in (1, 2, 3, 4) for address in (1, 2)}
    assert {values["Counter"] for values in cells.values()} == {201 % 16}
    voltages = [value for values in cells.values() for name, value in values.items() if name.startswith("Cell")]
    assert len(voltages) == 2 * 16
    assert all(3.2 < voltage < 3.4 for voltage in voltages), "LFP at half charge"
    currents = [values for name, address, values in answers if (name, address) == ("Current", UNIT)]
    assert [values["Counter"] for values in currents] == [201 % 16]


def test_a_sync_with_a_wrong_crc_moves_nobody(tmp_path: Path) -> None:
    with Candump("vcan0") as field, RackOnCan(tmp_path).simulator():
        wait_for_the_boards(field)
        before = field.count
        cansend("vcan0", sync(7, spoilt=0x01))
        field.wait_for(identifier("Sync"), within_s=1.0, after=before)
        assert field.silent_for(0.5), "only the SYNC itself"
        assert answered(field, 8, within_s=1.0), "and a good one is answered again"
