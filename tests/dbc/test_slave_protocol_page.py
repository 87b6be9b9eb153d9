"""docs/slave-protocol.md cannot lie: its tables, bytes, times and filters are those of the DBC and the codec."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest
from bus_time import REFERENCE, SLOW_ROTATION, burst
from contract import CRC_INPUT, PAGE, Example, encoded, examples, renewed, shown
from slave_database import ADDRESS_MASK, attribute, crc8_autosar, group, load

from bmsd.codec.integrity import crc8, frame_crc
from bmsd.fieldbus.drivers.slave import receiver
from bmsd.sim import boards, contactor_unit, node

DATABASE = load()
TEXT = PAGE.read_text()
EXAMPLES = examples(TEXT)


def table_after(heading: str) -> list[list[str]]:
    """Return the cells of the first table after a text, without its head."""
    lines = TEXT.split(heading, 1)[1].splitlines()
    start = next(k for k, line in enumerate(lines) if line.startswith("|"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
    return rows


def test_everything_computed_in_the_page_is_up_to_date() -> None:
    assert renewed(TEXT, DATABASE) == TEXT, "run: python tests/dbc/contract.py --write"


def test_every_message_has_an_example_and_every_line_of_the_block_is_one() -> None:
    assert {example.message for example in EXAMPLES} == {message.name for message in DATABASE.messages}
    block = TEXT.split("## 12.", 1)[1].split("```")[1].strip().splitlines()
    assert len(block) == len(EXAMPLES)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: f"{example.message}@{example.address}")
class TestEveryExample:
    def test_its_bytes_decode_to_the_values_beside_them(self, example: Example) -> None:
        message = DATABASE.get_message_by_frame_id(example.can_id)
        assert (message.name, example.can_id & ADDRESS_MASK) == (example.message, example.address)
        assert len(example.data) == message.length
        assert shown(message, example.data) == example.values

    def test_its_values_encode_to_the_bytes(self, example: Example) -> None:
        assert encoded(DATABASE, example) == (example.can_id, example.data)

    def test_its_last_byte_is_the_crc_of_the_codec(self, example: Example) -> None:
        assert frame_crc(example.can_id, example.data[:-1]) == example.data[-1]

    def test_its_address_is_one_that_the_message_may_have(self, example: Example) -> None:
        message = DATABASE.get_message_by_name(example.message)
        to_one = {"ContactorCommand": range(65, 73), "BalanceCommand": range(1, 33)}
        kinds = {"bmsd": range(1), "ModuleBoard": range(1, 33), "ContactorUnit": range(65, 73)}
        if example.message == "Discovery":
            uid = int(example.values["Uid"], 16)
            assert example.address == crc8_autosar(uid.to_bytes(6, "little")) & ADDRESS_MASK
        elif example.message == "TripReset":
            assert example.address in {*range(1, 33), *range(65, 73)}
        else:
            allowed = to_one.get(example.message) or {a for sender in message.senders for a in kinds[sender]}
            assert example.address in allowed


def test_the_check_values_are_those_of_the_crc() -> None:
    rows = table_after("Check values")
    assert len(rows) == 8
    for data, crc in rows:
        assert crc8(bytes.fromhex(data)) == crc8_autosar(bytes.fromhex(data)) == int(crc, 16)


def test_the_worked_crc_is_that_of_the_first_example() -> None:
    sync = EXAMPLES[0]
    assert sync.can_id.to_bytes(4, "big") + sync.data[:-1] == CRC_INPUT
    assert table_after("computed crc: begin")[-1][1] == f"**{sync.data[-1]:02X}**"


def test_identifiers_of_the_text_are_made_as_the_table_says() -> None:
    for message in DATABASE.messages:
        kind = message.frame_id >> 7 & 0x1F
        assert message.frame_id == (message.frame_id >> 26) << 26 | 0x1B5 << 16 | 1 << 12 | kind << 7, message.name
        assert kind < 24, "numbers 24..31 are said to be free"
    cells = DATABASE.get_message_by_name("CellVoltages1").frame_id
    assert f"`CellVoltages1` of board 3 is 0x{cells:08X} | 3 = 0x{cells | 3:08X}" in TEXT


def test_the_time_slots_of_the_text_are_those_of_the_database() -> None:
    ms = {name: int(attribute(DATABASE, name)) / 1000 for name in DATABASE.dbc.attributes if name.endswith("_us")}
    first_column = [row[0] for row in table_after("**The instant of measurement")]
    assert first_column == [
        f"{ms['UnitCurrentSlot_us']:g} u (u = address - 65)",
        f"{ms['BoardSlotFirst_us']:g} + {ms['BoardSlot_us']:g} (a - 1)",
        f"{ms['UnitSlotFirst_us']:g} + u",
        f"{ms['PollDone_us']:g}",
    ]
    assert ms["UnitSlot_us"] == 1.0


def test_bmsd_waits_for_answers_as_long_as_the_text_says() -> None:
    waits = (1000 * receiver.CURRENTS_LAST_S, 1000 * receiver.POLL_LASTS_S)
    assert "bmsd takes a Current until {:.0f} ms, everything else until {:.0f} ms after its SYNC".format(*waits) in TEXT


def test_the_rotation_of_slow_groups_is_that_of_the_budget() -> None:
    names = DATABASE.get_message_by_name("Sync").get_signal_by_name("SlowGroup").choices
    number = {str(name): raw for raw, name in names.items()}
    assert f"bmsd asks in turn: {', '.join(str(number[name]) for name in SLOW_ROTATION)}." in TEXT


def test_no_more_frames_of_a_board_wait_than_the_text_says() -> None:
    largest = burst(DATABASE, replace(REFERENCE, cells=24), tick_step_us=2000)
    assert f"at most {largest.queued_frames} frames wait" in TEXT
    assert largest.done_s < 0.1


def test_simulated_nodes_keep_the_slots_and_times_of_the_text() -> None:
    us = {name: int(attribute(DATABASE, name)) / 1e6 for name in DATABASE.dbc.attributes if name.endswith("_us")}
    assert (us["BoardSlotFirst_us"], us["BoardSlot_us"]) == (boards.SLOT_START_S, boards.SLOT_S)
    assert us["UnitCurrentSlot_us"] == contactor_unit.CURRENT_SLOT_S
    slots = (contactor_unit.STATE_SLOT_START_S, contactor_unit.STATE_SLOT_S)
    assert slots == (us["UnitSlotFirst_us"], us["UnitSlot_us"])
    board, unit = boards.ModuleBoardSettings(), contactor_unit.ContactorUnitSettings()
    lost = [row[0] for row in table_after("Lost means")]
    assert lost[0] == f"{unit.lease_s:.1f} s" == f"{board.heartbeat_s:.1f} s"
    assert lost[2] == f"{unit.open_latest_s:.1f} s"
    assert lost[3] == f"{unit.open_latest_without_enable_s:.1f} s"
    assert f"balance command {board.balance_lease_s:.0f} s" in TEXT
    limits = f">= {board.over_voltage_v} V or <= {board.under_voltage_v:.2f} V"
    assert f"{limits}, any sensor >= {board.over_temperature_degc:.0f} degC, for {board.trip_delay_s:.1f} s" in TEXT
    forgotten = f"forgotten after {node.FORGET_S:.0f} s without such a frame"
    assert f"{forgotten} (BalanceCommand, which comes once a second: {node.BALANCE_FORGET_S:.0f} s)" in TEXT
    assert f"{contactor_unit.TRIP_SILENT_S} s without TRIP frames of any node" in TEXT
    assert f"{contactor_unit.TRIP_SILENT_S} s later" in TEXT
    alone = {row[2]: row[1] for row in table_after("**By itself, without bmsd:**")}
    assert alone["over_current"] == f"{1000 * unit.over_current_s:.0f} ms"
    assert alone["interlock"] == f"{1000 * unit.interlock_s:.0f} ms"


def test_reasons_and_trip_codes_of_the_text_exist_in_the_database() -> None:
    state = DATABASE.get_message_by_name("ContactorState")
    reasons = {str(name) for name in state.get_signal_by_name("OpenReason").choices.values()}
    told = {reason for row in table_after("**By itself, without bmsd:**") for reason in row[2].split(", ")}
    assert told | {"commanded", "power_on"} == reasons
    codes = {raw for raw in state.get_signal_by_name("TripCode").choices if raw}
    rows = table_after("TripCode 0 MUST NOT be sent")
    assert {int(code) for row in rows for code in row[0].split(", ")} == codes


def passes(can_id: int, row: list[str], address: int) -> bool:
    """Whether an MCP2515 with these masks and filters stores a frame."""

    def value(text: str) -> int:
        return int(text.removesuffix("+a"), 16) + (address if text.endswith("+a") else 0)

    banks = ((row[1], row[2]), (row[3], row[4]))
    return any(
        can_id & value(mask) == value(one) & value(mask) for mask, filters in banks for one in filters.split(", ")
    )


@pytest.mark.parametrize(("kind", "own"), [("board", 3), ("board", 32), ("unit", 65), ("unit", 72), ("no address", 0)])
def test_six_filters_let_through_all_that_a_node_must_hear_and_no_measurement(kind: str, own: int) -> None:
    row = next(row for row in table_after("Six filters are enough") if row[0] == kind)
    hears = {
        "board": {"Heartbeat", "Sync", "BalanceCommand", "TripReset", "IdentifyRequest", "AssignAddress"},
        "unit": {"Trip", "Heartbeat", "ContactorCommand", "Sync", "TripReset", "IdentifyRequest", "AssignAddress"},
        "no address": {"IdentifyRequest", "AssignAddress"},
    }[kind]
    assert (len(row[2].split(", ")), len(row[4].split(", "))) == (2, 4)
    for message in DATABASE.messages:
        addresses = [0] if message.senders == ["bmsd"] else [*range(1, 33), *range(65, 73)]
        if message.name in ("ContactorCommand", "BalanceCommand", "TripReset"):
            addresses = [own]
        heard = [passes(message.frame_id | address, row, own) for address in addresses]
        assert all(heard) if message.name in hears else not any(heard), message.name
    receivers = {"board": "ModuleBoard", "unit": "ContactorUnit"}.get(kind)
    if receivers:
        told = {m.name for m in DATABASE.messages if any(receivers in s.receivers for s in m.signals)}
        assert told == hears


def test_a_board_filters_out_commands_to_other_boards() -> None:
    row = next(row for row in table_after("Six filters are enough") if row[0] == "board")
    balance = DATABASE.get_message_by_name("BalanceCommand").frame_id
    assert [address for address in range(1, 33) if passes(balance | address, row, 7)] == [7]


def test_cutting_off_instead_of_rounding_does_what_the_text_says() -> None:
    scale = DATABASE.get_message_by_name("CellVoltages1").get_signal_by_name("Cell1Voltage").scale
    assert (int(2.005 / scale), round(2.005 / scale)) == (3207, 3208)
    assert "2.005 V becomes raw 3207 instead of 3208" in TEXT


@pytest.mark.parametrize("ripple_hz", [100.0, 120.0])
def test_instantaneous_samples_alias_ripple_onto_dc_and_means_do_not(ripple_hz: float) -> None:
    phase, amplitude_a, rate_hz = 0.25, 30.0, 20.0

    def current_a(t: float) -> float:
        return amplitude_a * math.sin(2 * math.pi * (ripple_hz * t + phase))

    sampled = [current_a(k / rate_hz) for k in range(40)]
    assert min(sampled) == pytest.approx(amplitude_a)
    fine = [current_a(k / 1000.0) for k in range(2000)]
    means = [sum(fine[k : k + 50]) / 50 for k in range(0, 2000, 50)]
    assert max(map(abs, means)) < 1e-9


def test_wrap_of_the_charge_counter_comes_when_the_text_says() -> None:
    charge = DATABASE.get_message_by_name("Current").get_signal_by_name("Charge")
    assert round(2**charge.length * charge.scale / 100.0 / 3600.0) == 119


def test_the_page_names_every_message_and_the_groups_are_explained() -> None:
    for message in DATABASE.messages:
        assert message.name in TEXT
        assert f"*{group(message)}*" in TEXT


def test_an_example_with_a_wrong_byte_would_be_found() -> None:
    line = next(line for line in TEXT.splitlines() if line.startswith("11B51283#"))
    broken = TEXT.replace(line, line.replace("11B51283#A0", "11B51283#A1"))
    assert renewed(broken, DATABASE) == TEXT
    assert renewed(broken, DATABASE) != broken
