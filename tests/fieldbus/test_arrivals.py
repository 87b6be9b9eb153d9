"""Frames that come in the order of the poll before are recognised by it, and judged no less strictly."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bmsd.fieldbus.drivers.slave.arrivals import Arrivals
from bmsd.fieldbus.drivers.slave.slots import Slots
from bmsd.fieldbus.receive import Receiver
from bmsd.model.frame import ERROR_FLAG, EXTENDED_FLAG, REMOTE_FLAG, RawFrames
from bmsd.model.layout import Layout
from bmsd.model.plant import Timing
from bmsd.model.snapshot import Ints
from tests import slave_frames as slave

LAYOUT = Layout(strings=1, modules=2, cells=6, sensors=5)
TIMING = Timing(tick_s=0.1, poll_s=0.2, current_phases=4)
SLOTS = Slots(LAYOUT)


def parts(frames: RawFrames) -> tuple[bytes, np.ndarray]:
    words = np.ascontiguousarray(frames).view(np.uint64)
    return words[0::2].tobytes(), words[1::2].copy()


def poll(number: int, group: int = 1) -> RawFrames:
    return slave.raw(*slave.poll(LAYOUT, number, group))


def learnt(number: int = 5) -> Arrivals:
    """The order of one poll is known, and the next has begun."""
    arrivals = Arrivals(SLOTS)
    arrivals.opened(0, 1)
    frames = poll(number)
    headers, data = parts(frames)
    slots = SLOTS.matching(frames.view(np.uint64), data, SLOTS.expected(number, 0, poll_open=True))
    assert slots is not None
    arrivals.took(headers, slots, known=False)
    arrivals.opened(0, 1)
    return arrivals


def recognised(arrivals: Arrivals, frames: RawFrames, number: int, *, poll_open: bool = True) -> Ints | None:
    return arrivals.slots_of(*parts(frames), number, poll_open=poll_open)


@pytest.mark.parametrize("number", range(16))
def test_a_poll_in_the_same_order_is_recognised_under_every_number(number: int) -> None:
    frames = poll(number)
    slots = recognised(learnt(), frames, number)
    assert slots is not None
    assert slots.tolist() == SLOTS.slot_of[(frames["can_id"] & 0xFFFF).astype(np.int64)].tolist()


def test_a_poll_is_recognised_piece_by_piece() -> None:
    arrivals, frames, start = learnt(), poll(6), 0
    for end in (1, 4, 5, len(frames)):
        slots = recognised(arrivals, frames[start:end], 6)
        assert slots is not None
        arrivals.took(parts(frames[start:end])[0], slots, known=True)
        start = end
    assert recognised(arrivals, frames[:1], 6) is None, "more than the order has"


def test_not_one_bit_may_differ() -> None:
    frames = poll(6)
    for place in range(len(frames)):
        for bit in range(128):
            spoilt = frames.copy()
            spoilt.view(np.uint64)[2 * place + bit // 64] ^= np.uint64(1 << bit % 64)
            assert recognised(learnt_once, spoilt, 6) is None, (place, bit)
    assert recognised(learnt_once, frames, 6) is not None


learnt_once = learnt()


def test_another_number_phase_group_or_a_closed_poll_is_not_recognised() -> None:
    assert recognised(learnt_once, poll(6), 7) is None
    assert recognised(learnt_once, poll(6), 6, poll_open=False) is None
    for kind in ((1, 1), (0, 2)):
        arrivals = learnt()
        arrivals.opened(*kind)
        assert recognised(arrivals, poll(6), 6) is None


def test_an_order_in_which_something_else_came_is_not_learnt() -> None:
    arrivals = learnt()
    arrivals.disturbed()
    assert recognised(arrivals, poll(6), 6) is None
    arrivals.opened(0, 1)
    assert recognised(arrivals, poll(6), 6) is not None, "the one known before still is"


changes = st.lists(
    st.tuples(
        st.sampled_from(["bit", "drop", "twice", "swap", "late", "foreign", "flag", "length", "own", "other"]),
        st.integers(0, 2**16),
        st.integers(0, 127),
    ),
    max_size=3,
)
polls = st.lists(
    st.tuples(st.integers(0, 3), changes, st.lists(st.integers(0, 30), max_size=4), st.booleans()),
    min_size=2,
    max_size=8,
)


def changed(frames: RawFrames, number: int, kind: str, draw: int, bit: int) -> RawFrames:
    """These frames with one thing wrong."""
    if not len(frames):
        return frames
    frames, place, other = frames.copy(), draw % len(frames), draw // 7 % len(frames)
    if kind == "bit":
        frames.view(np.uint64)[2 * place + bit // 64] ^= np.uint64(1 << bit % 64)
    elif kind == "drop":
        frames = np.delete(frames, place)
    elif kind == "twice":
        frames = np.insert(frames, other, frames[place])
    elif kind == "swap":
        frames[[place, other]] = frames[[other, place]]
    elif kind == "late":
        frames = np.insert(frames, place, slave.raw(*slave.cells(1, number - 1, 6))[:1])
    elif kind == "foreign":
        frames = np.insert(frames, place, slave.raw(slave.cells(9, number, 6)[0]))
    elif kind == "flag":
        frames["can_id"][place] ^= (EXTENDED_FLAG, REMOTE_FLAG, ERROR_FLAG)[bit % 3]
    elif kind == "length":
        frames["length"][place] = bit % 9
    elif kind == "own":
        frames = np.insert(frames, place, slave.raw(slave.pack("IdentifyRequest", 0, {"Target": 0})))
    else:
        frames = np.insert(frames, place, slave.raw(slave.cells(1, number, 6, Cell1Voltage=bit)[0]))
    return frames


def shown(heard: Receiver, now_s: float) -> dict[str, Any]:
    modules, units = heard.modules(now_s), heard.units(now_s)
    found = {f"modules.{name}": getattr(modules, name) for name in modules.__slots__}
    found |= {f"units.{name}": getattr(units, name) for name in units.__slots__}
    return {**found, "counts": heard.counts, "missing": heard.missing(now_s)}


@settings(max_examples=150, deadline=None)
@given(polls)
def test_recognised_or_not_the_same_comes_of_every_frame(told: list[Any]) -> None:
    """The second receiver's frames have junk in their padding, other junk each time: no order is ever recognised."""
    known, looked_up, junk = Receiver(LAYOUT, TIMING), Receiver(LAYOUT, TIMING), 0
    for k, (group, wrong, cuts, phase_1) in enumerate(told):
        number, at_s = (3 * k) % 256, 10.0 + 0.2 * k
        frames = slave.raw(*slave.poll(LAYOUT, number, group))
        for kind, draw, bit in wrong:
            frames = changed(frames, number, kind, draw, bit)
        ends = [*sorted(min(cut, len(frames)) for cut in cuts), len(frames)]
        for heard in (known, looked_up):
            heard.sync_sent(number, 0, group, at_s)
        for start, end in zip([0, *ends], ends, strict=False):
            batch, junk = frames[start:end].copy(), junk + 1
            known.feed(batch, at_s + 0.05)
            batch["pad"] = [junk % 256, junk // 256, 1]
            looked_up.feed(batch, at_s + 0.05)
        if phase_1:
            for heard in (known, looked_up):
                heard.sync_sent(number, 1, group, at_s + 0.06)
                heard.feed(slave.raw(slave.current(65, number, 1)), at_s + 0.07)
        for late_s in (0.08, 0.15):
            one, other = shown(known, at_s + late_s), shown(looked_up, at_s + late_s)
            for name, value in one.items():
                np.testing.assert_array_equal(value, other[name], err_msg=name)
