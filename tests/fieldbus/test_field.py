"""The field bus's side of a rack: what mapped boards and the units beside them are sent, and what is never sent."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from mapped_board import VALUES, planned, raw

from bmsd.fieldbus.can_socket import Filter
from bmsd.fieldbus.drivers.slave.slots import ADDRESS_MASK, FILTERS, message_id
from bmsd.fieldbus.field import MappedField, SlaveField, field
from bmsd.fieldbus.transmit_gate import TransmitGate
from bmsd.model.command import Command
from bmsd.model.frame import RAW_FRAME, Frame
from bmsd.model.layout import Layout
from tests import rack, slave_frames
from tests.third_party_board import REQUEST, Boards

LAYOUT = Layout(1, 2, 16, 4)
PLANT = rack.plant(layout=LAYOUT)
UNIT = LAYOUT.unit_addresses[0]
ASKED = [{"id": REQUEST, "data": "01"}]
OF_BOARDS = [value for value in VALUES if value["quantity"] in ("cell_v", "temperature_degc")]


def with_units() -> MappedField:
    return MappedField(PLANT, planned(values=OF_BOARDS, units="slave", current_sign="not_measured", requests=ASKED))


def command(**changes: Any) -> Command:
    off, on = np.zeros(1, dtype=bool), np.ones(1, dtype=bool)
    values: dict[str, Any] = {
        "cvl_v": None, "dvl_v": None, "ccl_a": 0.0, "dcl_a": 0.0, "charge_enabled": False,
        "discharge_enabled": False, "close_minus": on, "close_precharge": off, "close_plus": on,
        "inverter_enable": on, "commanded": on, "balance": np.ones(LAYOUT.cell_shape, dtype=bool), "heartbeat": True,
        "trip_resets": ((1, 1), (UNIT, 5)),
    }  # fmt: skip
    return Command(**{**values, **changes})


class Wire:
    """A bus that keeps what it is given."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []

    def send(self, frame: Frame) -> bool:
        self.frames.append(frame)
        return True


def names(frames: list[Frame]) -> set[str]:
    known = {
        message_id(name): name for name in ("Sync", "IdentifyRequest", "Heartbeat", "ContactorCommand", "TripReset")
    }
    return {known.get(frame.can_id & ~ADDRESS_MASK, f"{frame.can_id:X}") for frame in frames}


def test_a_rack_without_a_map_speaks_the_slave_protocol() -> None:
    assert isinstance(field(PLANT, None), SlaveField)
    assert field(PLANT, None).filters == FILTERS
    assert isinstance(field(PLANT, planned()), MappedField)


def test_boards_that_send_by_themselves_are_sent_nothing_at_all() -> None:
    mapped = field(PLANT, planned())
    assert mapped.rules == ()
    assert mapped.questions(10.0) == []
    assert mapped.commands(command(), 10.0, stopping=False) == [], "no heartbeat, no contactors, no balancing"
    assert not mapped.switches
    assert mapped.due_s == np.inf


def test_boards_that_are_asked_get_the_request_once_in_each_poll_on_a_grid() -> None:
    mapped = field(PLANT, planned(requests=ASKED))
    asked = [k for k in range(200) if mapped.questions(10.0 + 0.01 * k)]
    assert asked == list(range(0, 200, 20))
    assert mapped.questions(13.0) == [Frame(REQUEST, b"\x01", False)]
    assert mapped.questions(13.1) == [], "what was missed is not made up for"
    assert mapped.due_s == pytest.approx(13.2)


def test_a_late_request_does_not_shift_the_next_ones() -> None:
    mapped = field(PLANT, planned(requests=ASKED))
    assert mapped.questions(10.0)
    assert mapped.questions(10.23)
    assert mapped.due_s == pytest.approx(10.4)


@pytest.mark.parametrize("late_s", [0.05, 0.099, 0.101, 0.15, 0.199, 0.201, 3.0])
def test_however_late_a_request_is_the_gate_lets_the_next_one_through(late_s: float) -> None:
    mapped = field(PLANT, planned(requests=ASKED))
    gate = TransmitGate(Wire(), mapped.rules)
    for now_s in (10.0, 10.2 + late_s):
        assert [gate.send(frame, now_s) for frame in mapped.questions(now_s)] == [True]
    assert mapped.due_s - now_s >= 0.1 - 1e-6
    assert [gate.send(frame, mapped.due_s) for frame in mapped.questions(mapped.due_s)] == [True]


def test_the_gate_lets_the_request_through_and_nothing_else() -> None:
    wire = Wire()
    mapped = field(PLANT, planned(requests=ASKED))
    gate = TransmitGate(wire, mapped.rules, decode_contactors=mapped.order)
    gate.allow(command(), 10.0)
    (request,) = mapped.questions(10.0)
    assert gate.send(request, 10.0)
    refused = [
        request._replace(data=b"\x01\x02"), request._replace(extended=True), request._replace(can_id=REQUEST + 1),
        *SlaveField(PLANT).commands(command(), 10.0, stopping=False),
    ]  # fmt: skip
    assert len(refused) > 5
    assert not any(gate.send(frame, 10.3) for frame in refused)
    assert not gate.send(request, 10.05), "too soon"
    assert gate.send(request, 10.2)
    assert wire.frames == [request, request]


def test_several_requests_are_all_sent_also_with_one_identifier() -> None:
    wire = Wire()
    mapped = field(PLANT, planned(requests=[{"id": REQUEST, "data": "01"}, {"id": REQUEST, "data": "02"}]))
    gate = TransmitGate(wire, mapped.rules)
    assert [gate.send(frame, 10.0) for frame in mapped.questions(10.0)] == [True, True]


def test_units_are_polled_and_commanded_beside_mapped_boards_that_are_not() -> None:
    wire, mapped = Wire(), with_units()
    gate = TransmitGate(wire, mapped.rules, decode_contactors=mapped.order)
    gate.allow(command(), 10.0)
    for k in range(40):
        for frame in mapped.questions(10.0 + 0.05 * k):
            assert gate.send(frame, 10.0 + 0.05 * k)
    for frame in mapped.commands(command(), 10.0, stopping=False):
        assert gate.send(frame, 10.0)
    assert names(wire.frames) == {
        "Sync", "IdentifyRequest", "Heartbeat", "ContactorCommand", "TripReset", f"{REQUEST:X}"
    }  # fmt: skip
    resets = [f.can_id & ADDRESS_MASK for f in wire.frames if f.can_id & ~ADDRESS_MASK == message_id("TripReset")]
    assert resets == [UNIT], "boards of another maker have no trip to release"
    assert mapped.switches
    assert gate.blocked == 0


def test_boards_and_units_are_measured_together_and_only_units_are_missing_by_themselves() -> None:
    mapped, boards = with_units(), Boards()
    for frame in mapped.questions(10.0):
        mapped.asked(frame, 10.0)
    said = [slave_frames.current(UNIT, 0), slave_frames.voltages(UNIT, 0), slave_frames.contactor_state(UNIT, 0)]
    identity = slave_frames.identity(UNIT, uid=0x1234)
    foreign = np.array([(0x7FF, 8, 0, 0)], dtype=RAW_FRAME)
    mapped.feed(np.concatenate([raw(boards.frames()), slave_frames.raw(*said, *identity), foreign]), 10.02)
    mapped.feed(np.zeros(0, dtype=RAW_FRAME), 10.13)
    modules, units = mapped.modules(10.13), mapped.units(10.13)
    np.testing.assert_allclose(modules.cell_v[0], boards.cell_v, atol=1e-9)
    np.testing.assert_allclose(modules.cell_age_s, 0.13, err_msg="measured when they were asked")
    assert np.isfinite(units.current_a[0] + units.string_v[0])
    assert units.state_age_s[0] == pytest.approx(0.13)
    assert mapped.missing(10.13) == []
    assert mapped.counts["boards_foreign"] == 2, "0x7FF, and what the boards say of the pack is not mapped here"
    later = mapped.missing(20.0)
    assert sum(line.startswith("contactor unit") for line in later) == 1
    assert len(later) == 2 + 2 + 1


def test_once_the_units_are_identified_nobody_is_asked_who_they_are() -> None:
    mapped = with_units()
    mapped.feed(slave_frames.raw(*slave_frames.identity(UNIT, uid=0x1234)), 10.0)
    asked = [frame for k in range(12) for frame in mapped.questions(10.0 + 0.05 * k)]
    assert "Sync" in names(asked)
    assert "IdentifyRequest" not in names(asked), "boards of another maker would never answer"


def test_only_mapped_identifiers_and_those_of_the_units_are_received() -> None:
    alone, both = field(PLANT, planned()), with_units()
    assert alone.filters is not None
    assert both.filters is not None
    assert Filter(0x100, 0x7FF, False) in alone.filters
    assert Filter(0x18FEFE10, 0x1FFFFFFF, True) in alone.filters
    assert len(alone.filters) == 5
    assert set(both.filters) == {f for f in alone.filters if not f.extended} | set(FILTERS)


def test_more_identifiers_than_the_kernel_filters_are_all_received() -> None:
    made = planned()
    many = {can_id: next(iter(made.heard.values())) for can_id in range(257)}
    assert MappedField(PLANT, replace(made, heard=many)).filters is None
    del many[256]
    assert len(MappedField(PLANT, replace(made, heard=many)).filters or ()) == 256


def test_the_gate_of_a_rack_lets_nothing_out_to_an_address_that_is_nobody_s() -> None:
    own = SlaveField(PLANT)
    gate = TransmitGate(Wire(), own.rules, decode_contactors=own.order)
    gate.allow(command(), 10.0)
    written = own.questions(10.0) + own.commands(command(), 10.0, stopping=False)
    addressed = [frame for frame in written if frame.can_id & ADDRESS_MASK]
    assert {frame.can_id & ~ADDRESS_MASK for frame in addressed} >= {message_id("ContactorCommand")}
    assert all(gate.send(frame, 10.0) for frame in written)
    for frame in addressed:
        assert not gate.send(frame._replace(can_id=frame.can_id & ~ADDRESS_MASK | 90), 10.0)
        assert not gate.send(frame._replace(can_id=frame.can_id & ~ADDRESS_MASK), 10.0)


def test_nothing_is_said_twice_in_one_tick_and_no_loop_runs_wild() -> None:
    own = SlaveField(PLANT)
    gate = TransmitGate(Wire(), own.rules, decode_contactors=own.order)
    gate.allow(command(), 10.0)
    written = own.questions(10.0) + own.commands(command(), 10.0, stopping=False)
    assert all(gate.send(frame, 10.0) for frame in written)
    assert not any(gate.send(frame, 10.0) for frame in written)
    sync = written[0]
    assert not gate.send(sync, 10.019), "a SYNC has 50 ms"
    assert gate.send(sync, 10.020)


def test_a_sync_that_was_late_does_not_keep_the_next_from_going_out() -> None:
    own = SlaveField(PLANT)
    gate = TransmitGate(Wire(), own.rules, decode_contactors=own.order)
    sent = [gate.send(frame, now_s) for now_s in (10.0, 10.0749, 10.1) for frame in own.questions(now_s)[:1]]
    assert sent == [True, True, True]


@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_late_the_gate_blocks_nothing_that_a_large_rack_is_told(seed: int) -> None:
    """Polls, commands that change with every tick, trips released, a stop: each as late as it likes."""
    draw = np.random.default_rng(seed)
    plant = rack.plant(8, 8, 16, 4)
    own, wire = SlaveField(plant), Wire()
    gate = TransmitGate(wire, own.rules, decode_contactors=own.order)
    addresses = [a for string in plant.layout.module_addresses for a in string] + list(plant.layout.unit_addresses)
    now_s, tick_s = 10.0, 10.0
    for _ in range(400):
        now_s += float(draw.choice([0.0005, 0.01, 0.03, 0.05, 0.2, 1.5], p=[0.3, 0.3, 0.2, 0.15, 0.04, 0.01]))
        for frame in own.questions(now_s):
            assert gate.send(frame, now_s)
            own.asked(frame, now_s)
        if now_s >= tick_s:
            tick_s = max(tick_s + 0.1, now_s)
            shut = draw.random(8) < 0.5
            told = command(
                close_minus=shut, close_precharge=~shut & shut, close_plus=shut, inverter_enable=shut,
                commanded=np.ones(8, dtype=bool), balance=draw.random(plant.layout.cell_shape) < 0.5,
                trip_resets=tuple((address, 3) for address in addresses),
            )  # fmt: skip
            gate.allow(told, now_s)
            for frame in own.commands(told, now_s, stopping=bool(draw.random() < 0.1)):
                assert gate.send(frame, now_s)
    assert gate.blocked == 0
    assert len(wire.frames) > 1000
