"""The rack of the load test is healthy: its measured speed is that of normal operation, without a fault."""

from __future__ import annotations

import struct
from dataclasses import replace

import numpy as np

from bmsd.core.tick import Outcome
from bmsd.fieldbus.field import SlaveField
from bmsd.model.frame import RAW_FRAME, RawFrames
from tests import rack
from tests.bench.light_rack import LAYOUT, Answers

SYNC, TYPE = 0x0DB51200, 0x1FFFFF80


def unpacked(packets: list[bytes]) -> RawFrames:
    rows = [struct.unpack("<IB3x8s", packet) for packet in packets]
    return np.array([(can_id, size, 0, int.from_bytes(data, "little")) for can_id, size, data in rows], RAW_FRAME)


def operated(seconds: float) -> Outcome:
    """The last of so many seconds of ticks over what this rack answers."""
    drive, answers = rack.Drive(rack.plant(layout=LAYOUT), strange=True), Answers()
    field = SlaveField(drive.plant)
    field.feed(unpacked(answers.identities), drive.now_s)
    for step in range(round(seconds / 0.05)):
        now_s = round(drive.now_s + 0.05 * (step % 2), 6)
        for question in field.questions(now_s):
            field.asked(question, now_s)
            if question.can_id & TYPE != SYNC:
                continue
            number, phase, group = question.data[0] % 16, question.data[1] & 3, question.data[1] >> 4
            told = list(answers.currents[number * 4 + phase])
            if phase == 0:
                told += sum(answers.boards[number * 4 + group].values(), answers.units[number * 4 + group])
            field.feed(unpacked(told), now_s + 0.01)
        if step % 2:
            drive.now_s = round(drive.now_s + 0.1, 6)
            blank = rack.snapshot(drive.plant, drive.now_s)
            outcome = drive.take(
                replace(blank, modules=field.modules(drive.now_s), units=field.units(drive.now_s))
            )  # fmt: skip
    return outcome


def test_the_rack_of_the_load_test_has_no_fault_and_gets_limits() -> None:
    outcome = operated(15.0)
    assert rack.codes(outcome) == set()
    assert rack.states(outcome) == ["closed"] * LAYOUT.strings
    assert outcome.command.ccl_a > 0.0
    assert outcome.command.dcl_a > 0.0
