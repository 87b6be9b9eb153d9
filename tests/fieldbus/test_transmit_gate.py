from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmsd.errors import FrameError
from bmsd.fieldbus.drivers.slave.commands import Commands, rules
from bmsd.fieldbus.drivers.slave.read_back import contactor_order
from bmsd.fieldbus.transmit_gate import Envelope, Rule, TransmitGate, closes_more, over
from bmsd.model.command import Command
from bmsd.model.frame import Frame
from bmsd.model.layout import Layout
from bmsd.model.plant import Timing

LIMIT = Rule(0x351, False, frozenset({8}), min_interval_s=0.25)
FREE = Rule(0x305, False, frozenset({0, 8}), needs_command=False)
ENVELOPE = Envelope(cvl_v=58.4, dvl_v=40.0, ccl_a=140.0, dcl_a=200.0)


class Wire:
    """A bus that takes frames, or is full."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.full = False

    def send(self, frame: Frame) -> bool:
        if not self.full:
            self.frames.append(frame)
        return not self.full


class Limits(NamedTuple):
    cvl_v: float | None = None
    dvl_v: float | None = None
    ccl_a: float | None = None
    dcl_a: float | None = None
    charge_enabled: bool | None = None
    discharge_enabled: bool | None = None


def decode(frame: Frame) -> Limits:
    if frame.can_id != 0x351:
        return Limits()
    if frame.data[:2] == b"\xff\xff":
        raise FrameError("not a voltage")
    words = [int.from_bytes(frame.data[k : k + 2], "little") / 10 for k in range(0, 8, 2)]
    return Limits(cvl_v=words[0], ccl_a=words[1], dcl_a=words[2], dvl_v=words[3])


def limit_frame(cvl_v: float = 56.0, ccl_a: float = 100.0, dcl_a: float = 120.0, dvl_v: float = 44.8) -> Frame:
    words = (round(10 * value).to_bytes(2, "little") for value in (cvl_v, ccl_a, dcl_a, dvl_v))
    return Frame(0x351, b"".join(words), False)


def command(**changes: Any) -> Command:
    off = np.zeros(1, dtype=bool)
    built = Command(
        cvl_v=56.0, dvl_v=44.8, ccl_a=100.0, dcl_a=120.0, charge_enabled=True, discharge_enabled=True,
        close_minus=off, close_precharge=off, close_plus=off, inverter_enable=off, commanded=~off,
        balance=np.zeros((1, 1, 16), dtype=bool), heartbeat=True, fresh=True,
    )  # fmt: skip
    return replace(built, **changes)


def gate(wire: Wire, **settings: Any) -> TransmitGate:
    return TransmitGate(wire, [LIMIT, FREE], decode_limits=decode, envelope=ENVELOPE, **settings)


def test_a_frame_at_the_limits_of_the_command_goes_out() -> None:
    wire = Wire()
    way = gate(wire)
    way.allow(command(), 1.0)
    assert way.send(limit_frame(), 1.0)
    assert wire.frames == [limit_frame()]
    assert (way.sent, way.blocked) == (1, 0)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"ccl_a": 100.1}, "charge current"),
        ({"dcl_a": 120.1}, "discharge current"),
        ({"cvl_v": 56.1}, "charge voltage"),
        ({"dvl_v": 44.7}, "discharge voltage"),
    ],
)
def test_one_step_over_the_command_is_blocked_with_its_reason(values: dict[str, float], reason: str) -> None:
    wire = Wire()
    way = gate(wire)
    way.allow(command(), 1.0)
    assert not way.send(limit_frame(**values), 1.0)
    assert wire.frames == []
    assert way.blocked == 1
    assert reason in next(iter(way.reasons))


@pytest.mark.parametrize(
    ("values", "allowed"),
    [
        ({"ccl_a": 140.1}, {"ccl_a": 1000.0}),
        ({"dcl_a": 200.1}, {"dcl_a": 1000.0}),
        ({"cvl_v": 58.5}, {"cvl_v": 100.0}),
        ({"dvl_v": 39.9}, {"dvl_v": 10.0}),
        ({"ccl_a": 1.0}, {"ccl_a": math.nan}),
        ({"dcl_a": 1.0}, {"dcl_a": math.nan}),
        ({"cvl_v": 50.0}, {"cvl_v": math.nan}),
        ({"dvl_v": 50.0}, {"dvl_v": math.nan}),
        ({"ccl_a": 1.0}, {"fresh": False}),
        ({"ccl_a": 1.0}, {"charge_enabled": False}),
        ({"dcl_a": 1.0}, {"discharge_enabled": False}),
        ({"dcl_a": 1.0}, {"cvl_v": None}),
    ],
)
def test_neither_envelope_nor_an_unsound_command_lets_a_limit_out(
    values: dict[str, float], allowed: dict[str, Any]
) -> None:
    wire = Wire()
    way = gate(wire)
    way.allow(command(**allowed), 1.0)
    assert not way.send(limit_frame(**values), 1.0)
    assert wire.frames == []


def test_zero_limits_go_out_though_the_command_is_not_fresh() -> None:
    wire = Wire()
    way = gate(wire)
    way.allow(command(fresh=False, cvl_v=None, dvl_v=None, ccl_a=0.0, dcl_a=0.0), 1.0)
    assert way.send(limit_frame(ccl_a=0.0, dcl_a=0.0), 1.0)


@given(st.tuples(*[st.floats() | st.none()] * 4), st.tuples(*[st.floats()] * 4))
def test_nothing_outside_command_or_envelope_ever_passes(
    told: tuple[float | None, ...], allowed: tuple[float, ...]
) -> None:
    limits = Limits(cvl_v=told[0], dvl_v=told[1], ccl_a=told[2], dcl_a=told[3])
    guarded = command(cvl_v=allowed[0], dvl_v=allowed[1], ccl_a=allowed[2], dcl_a=allowed[3])
    if over(limits, guarded, ENVELOPE) is None:
        assert limits.cvl_v is None or 0 <= limits.cvl_v <= min(allowed[0], ENVELOPE.cvl_v) + 1e-5
        assert limits.ccl_a is None or 0 <= limits.ccl_a <= min(allowed[2], ENVELOPE.ccl_a) + 1e-5
        assert limits.dcl_a is None or 0 <= limits.dcl_a <= min(allowed[3], ENVELOPE.dcl_a) + 1e-5
        assert limits.dvl_v is None or limits.dvl_v >= max(allowed[1], ENVELOPE.dvl_v) - 1e-5


@pytest.mark.parametrize(("flag", "limit"), [("charge_enabled", "ccl_a"), ("discharge_enabled", "dcl_a")])
def test_an_enable_flag_needs_a_current(flag: str, limit: str) -> None:
    assert over(Limits(**{flag: True}), command(), ENVELOPE) is None  # type: ignore[arg-type]
    assert over(Limits(**{flag: True}), command(**{limit: 0.0}), ENVELOPE) is not None  # type: ignore[arg-type]
    assert over(Limits(**{flag: False}), command(**{limit: 0.0}), ENVELOPE) is None  # type: ignore[arg-type]


def test_without_a_finished_tick_no_limit_goes_out() -> None:
    wire = Wire()
    way = gate(wire)
    assert not way.send(limit_frame(), 1.0)
    assert way.send(Frame(0x305, bytes(8), False), 1.0)


def test_a_command_stands_for_one_second() -> None:
    way = gate(Wire())
    way.allow(command(), 1.0)
    assert way.send(limit_frame(), 2.0)
    assert not way.send(limit_frame(), 2.3)
    assert way.reasons == {"351: no finished tick stands behind it": 1}


@pytest.mark.parametrize(
    "frame",
    [
        Frame(0x352, bytes(8), False),
        Frame(0x351, bytes(8), True),
        Frame(0x351, bytes(7), False),
        Frame(0x351, b"", False),
        Frame(0x351, b"\xff" * 8, False),
    ],
    ids=["foreign", "extended", "short", "empty", "undecodable"],
)
def test_what_no_rule_describes_is_blocked(frame: Frame) -> None:
    wire = Wire()
    way = gate(wire)
    way.allow(command(), 1.0)
    assert not way.send(frame, 1.0)
    assert wire.frames == []
    assert way.blocked == 1


def test_the_least_interval_is_of_each_identifier() -> None:
    way = gate(Wire())
    way.allow(command(), 10.0)
    assert way.send(limit_frame(), 10.0)
    assert not way.send(limit_frame(), 10.249)
    assert way.send(Frame(0x305, b"", False), 10.249)
    assert way.send(limit_frame(), 10.25)


def test_a_frame_that_the_bus_did_not_take_may_be_tried_again_and_is_not_blocked() -> None:
    wire = Wire()
    wire.full = True
    way = gate(wire)
    way.allow(command(), 1.0)
    assert not way.send(limit_frame(), 1.0)
    wire.full = False
    assert way.send(limit_frame(), 1.01)
    assert (way.blocked, way.not_sent) == (0, 1)


def test_listen_only_sends_nothing_and_blames_nobody() -> None:
    wire = Wire()
    way = gate(wire, listen_only=True)
    way.allow(command(), 1.0)
    assert not way.send(limit_frame(), 1.0)
    assert wire.frames == []
    assert way.blocked == 0


def test_a_decoder_without_an_envelope_is_refused() -> None:
    with pytest.raises(ValueError, match="envelope"):
        TransmitGate(Wire(), [LIMIT], decode_limits=decode)


def test_reasons_stay_few_when_everything_is_blocked() -> None:
    way = gate(Wire())
    for can_id in range(1000):
        way.send(Frame(can_id, b"", True), 0.0)
    assert way.blocked == 1000
    assert sum(way.reasons.values()) == 1000
    assert len(way.reasons) <= 33


def test_the_field_bus_gate_lets_only_bmsd_s_own_frames_to_known_addresses_out() -> None:
    wire = Wire()
    layout = Layout(strings=1, modules=2, cells=16, sensors=4)
    way = TransmitGate(wire, rules(layout, Timing(0.1, 0.2, 4)))
    way.allow(command(), 1.0)
    allowed = [0xDB51200, 0x19B51900, 0x5B51080, 0x5B51100 | 65, 0x15B51880 | 1, 0x15B51880 | 2, 0x15B51B80 | 65]
    lengths = [4, 2, 4, 4, 6, 6, 4]
    for can_id, length in zip(allowed, lengths, strict=True):
        assert way.send(Frame(can_id, bytes(length), True), 1.0)
        assert not way.send(Frame(can_id, bytes(8), True), 1.0)
    for can_id in (0x5B51100 | 66, 0x15B51880 | 3, 0x1B51000, 0x11B51280 | 1, 0x5B51100, 0x19B51A80):
        assert not way.send(Frame(can_id, bytes(4), True), 1.0)
    assert way.sent == 7


CONTACTORS = ("close_minus", "close_precharge", "close_plus", "inverter_enable")
TWO_STRINGS = Layout(strings=2, modules=1, cells=16, sensors=4)


def closing(*wanted: tuple[str, int]) -> Command:
    """A command that closes these contactors (name, string) and no other."""
    arrays = {name: np.array([(name, string) in wanted for string in range(2)]) for name in CONTACTORS}
    return command(commanded=np.ones(2, dtype=bool), balance=np.zeros(TWO_STRINGS.cell_shape, dtype=bool), **arrays)


def field_gate(wire: Wire) -> TransmitGate:
    allowed = rules(TWO_STRINGS, Timing(0.1, 0.2, 4))
    return TransmitGate(wire, allowed, decode_contactors=partial(contactor_order, layout=TWO_STRINGS))


def contactor_frame(bits: int, address: int = 65) -> Frame:
    """The bytes as a unit reads them: bits 4..7 are minus, precharge, plus, enable."""
    return Frame(0x5B51100 | address, bytes([bits << 4 | 3, 10, 0, 0]), True)


@pytest.mark.parametrize("string", [0, 1])
@pytest.mark.parametrize("asked", range(16))
def test_a_contactor_command_closes_nothing_that_the_command_leaves_open(asked: int, string: int) -> None:
    guarded = closing(*((name, string) for bit, name in enumerate(CONTACTORS) if asked >> bit & 1))
    for bits in range(16):
        for target in (0, 1):
            way = field_gate(Wire())
            way.allow(guarded, 1.0)
            within = asked if target == string else 0
            assert way.send(contactor_frame(bits, 65 + target), 1.0) == (bits & ~within == 0)
            assert way.blocked == (bits & ~within != 0)
            assert all("closes what the command does not" in reason for reason in way.reasons)


def test_every_contactor_command_that_is_written_passes_the_gate() -> None:
    for asked in range(256):
        guarded = closing(*((CONTACTORS[bit % 4], bit // 4) for bit in range(8) if asked >> bit & 1))
        wire = Wire()
        way = field_gate(wire)
        way.allow(guarded, 1.0)
        for frame in Commands(TWO_STRINGS, 5.0).frames(guarded, 1.0):
            assert way.send(frame, 1.0)
        units = {frame.can_id & 1: frame.data[0] >> 4 for frame in wire.frames if frame.can_id & ~0x7F == 0x5B51100}
        assert units == {1: asked & 15, 0: asked >> 4}


def test_what_no_unit_of_the_rack_would_read_is_no_contactor_command() -> None:
    assert contactor_order(Frame(0x5B51080, bytes(4), True), TWO_STRINGS) is None
    for frame in (contactor_frame(0, 67), contactor_frame(0, 0), Frame(0x5B51100 | 65, bytes(3), True)):
        with pytest.raises(FrameError, match="contactor command"):
            contactor_order(frame, TWO_STRINGS)


def test_a_string_that_the_command_does_not_know_is_not_closed() -> None:
    told = contactor_order(contactor_frame(1, 66), TWO_STRINGS)
    assert told is not None
    assert closes_more(told, command(close_minus=np.ones(1, dtype=bool)))
    assert closes_more(told, None)
    assert not closes_more(replace(told, close_minus=False), None)


def test_before_the_first_tick_only_syncs_and_identification_go_out() -> None:
    way = TransmitGate(Wire(), rules(Layout(1, 1, 16, 4), Timing(0.1, 0.2, 4)))
    assert way.send(Frame(0xDB51200, bytes(4), True), 1.0)
    assert way.send(Frame(0x19B51900, bytes(2), True), 1.0)
    assert not way.send(Frame(0x5B51080, bytes(4), True), 1.0)
    assert not way.send(Frame(0x5B51100 | 65, bytes(4), True), 1.0)
