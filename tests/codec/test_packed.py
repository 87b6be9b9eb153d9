"""What is packed by position comes back the same; anything else is refused, and the field is named."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bmsd.codec import packed
from bmsd.codec import record as by_name
from bmsd.errors import FrameError
from bmsd.model.fault import Fault
from bmsd.model.published import Published
from bmsd.model.request import Connect, Lease, Power, Release, Reserve, Reset, Role, Shutdown
from bmsd.model.row import Alarm, Level
from bmsd.model.snapshot import Bools, Floats, Ints
from tests.core.test_tick_properties import plain
from tests.gateway.control_end import record

NAN, INF = float("nan"), float("inf")
START = struct.Struct("<8sII")


@cache
def full() -> Published:
    """A record that has something in every field."""
    published = record(strings=1, modules=1)
    asked = (
        Shutdown(), Connect(False), Reset("all", Role.SERVICE, "seen"), Reset("CEL-003", Role.OPERATOR, source="x"),
        Reserve(0.2, 60.0, "x"), Power(-5e3, 60.0), Release("power"),
    )  # fmt: skip
    return replace(
        published,
        snapshot=replace(published.snapshot, requests=asked, inverter_age_s=INF, utc_s=NAN),
        faults=(
            Fault("CEL-001", "cell", Level.TRIP, 1, None, 3, None, 0.5, 2, True),
            Fault("CAN-001", "bus", Level.INFO, None, None, None, 1.5, 0.0, 1, False),
        ),
        command=replace(
            published.command,
            alarms=frozenset([Alarm.CONTACTOR, Alarm.INTERNAL]),
            trip_resets=((1, 2), (65, 3)),
            cvl_v=None,
            soc=0.5,
        ),
        vetoes=("a veto", "é"),
        leases=(Lease("power", -5e3, 70.0, "x"),),
        missing=("a board",),
    )  # fmt: skip


def test_what_goes_in_comes_out() -> None:
    assert plain(packed.decode(packed.encode(full()), Published)) == plain(full())


def test_a_record_by_name_is_the_same_record() -> None:
    assert plain(by_name.decode(by_name.encode(full()), Published)) == plain(full())


def test_the_arrays_of_a_reader_are_aligned_and_cannot_be_written_to() -> None:
    modules = packed.decode(packed.encode(full()), Published).snapshot.modules
    assert modules.cell_v.flags.aligned
    with pytest.raises(ValueError, match="read-only"):
        modules.cell_v[0, 0, 0] = 1.0


def test_arrays_of_any_order_and_scalars_of_numpy_are_packed_as_what_they_mean() -> None:
    published = record()
    modules = published.snapshot.modules
    turned = replace(
        modules, cell_v=np.asfortranarray(np.arange(64.0).reshape(2, 2, 16)), cell_age_s=modules.cell_age_s[::-1]
    )
    odd = replace(
        published,
        sequence=np.int64(7),  # type: ignore[arg-type]
        lateness_s=np.float64(0.5),
        snapshot=replace(published.snapshot, modules=turned),
    )
    found = packed.decode(packed.encode(odd), Published)
    assert (found.sequence, type(found.sequence)) == (7, int)
    assert (found.lateness_s, type(found.lateness_s)) == (0.5, float)
    np.testing.assert_array_equal(found.snapshot.modules.cell_v, turned.cell_v)


@dataclass(frozen=True)
class Inner:
    amps: float
    name: str | None = None


@dataclass(frozen=True)
class Outer:
    inner: Inner | None
    volts: Floats
    some: Floats | None
    on: Bools
    counts: Ints
    table: dict[str, tuple[int, float]]
    nested: tuple[tuple[Inner, ...], ...]


OUTER = Outer(
    Inner(1.5), np.array([[1.0, NAN]]), None, np.array([True] * 3), np.zeros((0, 4), np.int64), {"a": (1, 2.5)},
    ((Inner(0.0, "x"),), ()),
)  # fmt: skip


@pytest.mark.parametrize("value", [OUTER, replace(OUTER, inner=None, some=np.array([3.0]))])
def test_every_kind_of_field_comes_back(value: Outer) -> None:
    assert plain(packed.decode(packed.encode(value), Outer)) == plain(value)


def parts(data: bytes) -> tuple[Any, Any, bytes]:
    """Return directory, head and the bytes of the arrays."""
    _, first, second = START.unpack_from(data)
    end = START.size + first + second
    directory = msgpack.unpackb(data[START.size : START.size + first])
    return directory, msgpack.unpackb(data[START.size + first : end], strict_map_key=False), data[end + -end % 8 :]


def built(kind: bytes, directory: Any, head: Any, arrays: bytes) -> bytes:
    """Put a record together of these parts, whatever they are."""
    one, other = msgpack.packb(directory), msgpack.packb(head)
    start = START.pack(kind, len(one), len(other)) + one + other
    return start + bytes(-len(start) % 8) + arrays


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ((0,), "one", "Published.sequence"),
        ((0,), True, "Published.sequence"),
        ((0,), 1.0, "Published.sequence"),
        ((1,), None, "Published.lifecycle"),
        ((2,), "snapshot", "Snapshot"),
        ((2, 0), "now", "Snapshot.now_s"),
        ((2, 6), [[9, []]], "Snapshot.requests"),
        ((2, 6), [[-1, []]], "Snapshot.requests"),
        ((2, 6), [[0, ["all", "nobody", "", ""]]], "Reset.role"),
        ((2, 6), [[1, ["yes", ""]]], "Connect.closed"),
        ((4,), 5, "Published.faults"),
        ((4, 0, 2), 7, "Fault.level"),
        ((4, 0, 3), 1.5, "Fault.string"),
        ((5, 0, 0), True, "Bound.amps"),
        ((5, 0), [1.0, "why"], "Bound"),
        ((10, 0, 4), {"crc": "many"}, "BusStatus.dropped"),
        ((10, 0, 4), {1: 1}, "BusStatus.dropped"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_and_its_field_named(
    path: tuple[int, ...], value: Any, named: str
) -> None:
    data = packed.encode(full())
    directory, head, arrays = parts(data)
    home = head
    for step in path[:-1]:
        home = home[step]
    home[path[-1]] = value
    with pytest.raises(FrameError, match=named.replace(".", r"\.")):
        packed.decode(built(data[:8], directory, head, arrays), Published)


def test_arrays_that_do_not_fit_are_refused() -> None:
    data = packed.encode(full())
    directory, head, arrays = parts(data)
    wrong: list[tuple[Any, bytes]] = [
        (directory[:-1], arrays), (directory, arrays[:-8]), (directory, arrays + bytes(8)), ([], b""), (None, arrays),
        ([["O", [1]], *directory[1:]], arrays), ([["<f8", [-1]], *directory[1:]], arrays),
        ([["<f8", [2**40, 2**40]], *directory[1:]], arrays), ([["<f8", [0, 2**62, 2**62]]], b""),
        ([["<f8", [1] * 100]], bytes(8)), ([["nothing", [1]]], bytes(8)), ([["<c16", [1]]], bytes(16)), ([[3, 3]], b""),
    ]  # fmt: skip
    for others, content in wrong:
        with pytest.raises(FrameError, match="not a Published"):
            packed.decode(built(data[:8], others, head, content), Published)
    swapped = [["<f8", directory[1][1]] if n == 1 else entry for n, entry in enumerate(directory)]
    with pytest.raises(FrameError, match=r"Modules\.cell_reading: an array of float64, expected int64"):
        packed.decode(built(data[:8], swapped, head, arrays), Published)
    more = [*directory, ["<f8", [1]]]
    with pytest.raises(FrameError, match="more arrays"):
        packed.decode(built(data[:8], more, head, arrays + bytes(8)), Published)


def test_smaller_numbers_than_declared_are_widened() -> None:
    value = replace(OUTER, counts=np.array([1, 2], np.int32), volts=np.array([0.5], np.float32))
    found = packed.decode(packed.encode(value), Outer)
    assert found.counts.dtype == np.int64
    assert found.volts.dtype == np.float64
    assert found.counts.tolist() == [1, 2]


def test_an_array_of_objects_is_never_packed() -> None:
    with pytest.raises(TypeError, match="not packed"):
        packed.encode(replace(OUTER, volts=np.array([None])))


def test_a_record_of_another_layout_is_never_read() -> None:
    @dataclass
    class Published:  # the same name, one field of another type
        sequence: str

    with pytest.raises(FrameError, match="another version of bmsd"):
        packed.decode(packed.encode(full()), Published)


def test_the_layout_names_every_field_and_every_value_of_an_enumeration() -> None:
    lines = dict(line.split(": ", 1) for line in packed.layout(Published).splitlines())
    assert lines["Bound"] == "amps float, reason str, source str, string int or none"
    assert "TRIP 3" in lines["Level"]
    assert "cell_v array of float64" in lines["Modules"]


def spoilt() -> Iterator[bytes]:
    data = packed.encode(full())
    yield from (data[:length] for length in range(0, len(data), 7))
    yield data + b"\0"


def test_part_of_a_record_is_no_record() -> None:
    for data in spoilt():
        with pytest.raises(FrameError):
            packed.decode(data, Published)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_spoilt_bytes_give_a_record_or_a_frame_error(data: Any) -> None:
    whole = bytearray(packed.encode(full()))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.one_of(st.integers(8, 1200), st.integers(8, len(whole) - 1)))
        whole[place] = data.draw(st.integers(0, 255))
    try:
        found = packed.decode(bytes(whole), Published)
    except FrameError:
        return
    assert isinstance(found.snapshot.modules.cell_v, np.ndarray)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_give_a_frame_error(data: bytes) -> None:
    with pytest.raises(FrameError):
        packed.decode(packed.encode(full())[:8] + data, Published)
