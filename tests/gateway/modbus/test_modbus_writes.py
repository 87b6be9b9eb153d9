"""Who may write what, when it is answered, and for how long it holds."""

from __future__ import annotations

import asyncio
import struct
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio
from serving import Client, Serving, adu, serving, until
from structlog.testing import capture_logs

from bmsd.config.gateway import Modbus
from bmsd.gateway.feed import Feed
from bmsd.gateway.modbus.writes import Lease, Order, Writes
from bmsd.link.wire import Answer, Asked
from bmsd.model.points import CONTROLS
from bmsd.model.published import Published
from bmsd.model.request import Lease as InForce
from tests.gateway.control_end import ControlEnd, record, wait_for
from tests.gateway.scripted_control import TAKEN, ScriptedControl

EVERYTHING = {
    "writers": ["127.0.0.0/8"],
    "writable": ["alarm_reset", "controller_heartbeat", "reserve_soc", "power_setpoint"],
}
RESET, BEAT, RESERVE, POWER = 200, 201, 202, 204
NONE_16, NONE_32 = "ffff", "80000000"


def one(address: int, value: int) -> bytes:
    return struct.pack(">BHH", 6, address, value)


def many(address: int, *words: int) -> bytes:
    return struct.pack(f">BHHB{len(words)}H", 16, address, len(words), 2 * len(words), *words)


def power(watts: int) -> bytes:
    return many(POWER, *struct.unpack(">HH", struct.pack(">i", watts)))


@pytest_asyncio.fixture
async def control(tmp_path: Path) -> AsyncIterator[ScriptedControl]:
    with ScriptedControl(tmp_path) as found:
        yield found


@pytest_asyncio.fixture
async def served(control: ScriptedControl) -> AsyncIterator[Serving]:
    async with serving(control.link, **EVERYTHING) as found:
        yield found


@pytest_asyncio.fixture
async def client(served: Serving) -> AsyncIterator[Client]:
    async with served.client() as found:
        yield found


async def in_force(client: Client) -> str:
    """Heartbeat, reserve and power as they are read."""
    block = (await client.registers(BEAT, 5)).hex()
    return f"{block[:4]} {block[4:8]} {block[12:]}"


WRITES = (
    one(RESET, 1),
    one(BEAT, 5),
    one(RESERVE, 200),
    power(1000),
    many(100, 1, 2),
    struct.pack(">BHHH", 22, BEAT, 0, 1),
)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"writers": EVERYTHING["writers"]},
        {"writable": EVERYTHING["writable"]},
        {**EVERYTHING, "writers": ["10.0.0.0/8", "192.168.1.20", "::1"]},
    ],
    ids=["default", "no points", "no writers", "others"],
)
async def test_who_is_not_named_cannot_write_at_all(control: ScriptedControl, settings: dict) -> None:
    async with serving(control.link, **settings) as served, served.client() as client:
        before = await client.registers(RESET, 6)
        for pdu in WRITES:
            assert await client.ask(pdu) == bytes((pdu[0] | 0x80, 1))
        assert await client.registers(RESET, 6) == before
        assert served.server.counts.writes_refused == len(WRITES)
    assert control.asked == []


async def test_only_the_named_points_can_be_written(control: ScriptedControl) -> None:
    settings = {"writers": ["127.0.0.1"], "writable": ["reserve_soc"]}
    async with serving(control.link, **settings) as served, served.client() as client:
        assert (await client.ask(one(RESET, 1))).hex() == "8602"
        assert (await client.ask(power(1))).hex() == "9002"
        assert await client.ask(one(RESERVE, 200)) == one(RESERVE, 200)
    assert [asked.what for asked in control.asked] == ["reserve"]


async def test_a_set_point_goes_to_control_with_its_lease_and_reads_back(
    control: ScriptedControl, client: Client
) -> None:
    assert await in_force(client) == f"{NONE_16} {NONE_16} {NONE_32}"
    assert (await client.ask(power(-5000))).hex() == "1000cc0002"
    assert await client.ask(one(RESERVE, 205)) == one(RESERVE, 205)
    source = "modbus 127.0.0.1"
    assert control.asked == [
        Asked("power", value=-5000.0, lease_s=60.0, source=source),
        Asked("reserve", value=0.205, lease_s=60.0, source=source),
    ]
    assert await in_force(client) == f"{NONE_16} 00cd {struct.pack('>i', -5000).hex()}"


async def test_a_reset_is_for_all_and_reads_as_done(control: ScriptedControl, client: Client) -> None:
    assert await client.ask(one(RESET, 1)) == one(RESET, 1)
    assert [(asked.what, asked.code, asked.reason) for asked in control.asked] == [("reset", "all", "modbus 127.0.0.1")]
    assert (await client.registers(RESET, 1)).hex() == "0000"


async def test_a_16_bit_point_may_be_written_by_either_function(control: ScriptedControl, client: Client) -> None:
    assert (await client.ask(many(RESERVE, 300))).hex() == "1000ca0001"
    assert await client.ask(struct.pack(">BHHH", 22, RESERVE, 0xFF00, 0x0010)) == bytes.fromhex("1600caff000010")
    assert [asked.value for asked in control.asked] == [pytest.approx(0.3), pytest.approx(0.272)]


async def test_write_and_read_in_one_shows_what_is_then_in_force(control: ScriptedControl, client: Client) -> None:
    pdu = struct.pack(">BHHHHBH", 23, RESERVE, 1, RESERVE, 1, 2, 400)
    assert (await client.ask(pdu)).hex() == "17020190"
    outside = struct.pack(">BHHHHBH", 23, 6000, 1, RESERVE, 1, 2, 500)
    assert (await client.ask(outside)).hex() == "9702"
    assert [asked.value for asked in control.asked] == [pytest.approx(0.4)], "a bad read writes nothing"


@pytest.mark.parametrize(
    ("pdu", "exception"),
    [
        (one(POWER, 1), 3),  # half of it
        (one(POWER + 1, 1), 3),
        (many(POWER, 1), 3),
        (many(POWER + 1, 1, 2), 3),
        (many(POWER - 1, 1, 2), 3),
        (many(POWER, 1, 2, 3), 3),
        (many(BEAT, 1, 2), 3),  # two points at once
        (struct.pack(">BHHH", 22, POWER, 0, 1), 3),
        (one(RESERVE, 1001), 3),
        (one(RESERVE, 0xFFFF), 3),
        (one(RESET, 0), 3),
        (one(RESET, 2), 3),
        (power(10_000_001), 3),
        (power(-10_000_001), 3),
        (many(POWER, 0x8000, 0), 3),  # not implemented is no set-point
        (one(100, 1), 2),
        (one(203, 1), 2),
        (one(4999, 1), 2),
        (one(5000, 1), 2),
        (many(4999, 1, 2), 2),
        (struct.pack(">BHHB", 16, RESERVE, 0, 0), 3),
        (struct.pack(">BHHBH", 16, RESERVE, 1, 2, 1)[:-1], 3),
        (struct.pack(">BHHBH", 16, RESERVE, 1, 1, 1), 3),
        (struct.pack(">BHHBHH", 16, RESERVE, 1, 2, 1, 1), 3),
        (struct.pack(">BHHBH", 16, POWER, 2, 2, 5), 3),
        (struct.pack(">BHHBHH", 16, RESERVE, 1, 4, 1, 1), 3),
        (b"\x10\x00", 3),
        (b"\x06\x00\xca\x00", 3),
        (b"\x16\x00\xca\x00\x00\x00", 3),
        (b"\x17\x00\xca\x00\x01", 3),
        (struct.pack(">BHHHHB", 23, 100, 0, RESERVE, 1, 2) + b"\0\1", 3),
        (struct.pack(">BHHHHB", 23, 100, 126, RESERVE, 1, 2) + b"\0\1", 3),
        (struct.pack(">BHHHHB", 23, 100, 1, RESERVE, 122, 244) + bytes(243), 3),
        (many(RESERVE, *[0] * 123), 3),
        (struct.pack(">BHHB", 16, 200, 124, 248) + bytes(245), 3),
    ],
    ids=lambda value: value[:12].hex() if isinstance(value, bytes) else str(value),
)
async def test_a_write_that_is_not_right_changes_nothing(
    control: ScriptedControl, client: Client, pdu: bytes, exception: int
) -> None:
    before = await client.registers(RESET, 6)
    assert await client.ask(pdu) == bytes((pdu[0] | 0x80, exception))
    assert await client.registers(RESET, 6) == before
    assert control.asked == []


@pytest.mark.parametrize("tenths", [0, 1000])
async def test_the_ends_of_the_range_are_allowed(control: ScriptedControl, client: Client, tenths: int) -> None:
    assert await client.ask(one(RESERVE, tenths)) == one(RESERVE, tenths)
    assert [asked.value for asked in control.asked] == [pytest.approx(tenths / 1000)]


async def test_what_control_refuses_is_refused_with_the_reason_in_the_log(
    control: ScriptedControl, served: Serving, client: Client
) -> None:
    await client.ask(power(1000))
    control.answer = lambda asked: Answer(False, f"{asked.what} is not taken here")
    with capture_logs() as logs:
        assert (await client.ask(power(2000))).hex() == "9004"
    assert [(entry["event"], entry["point"], entry["value"]) for entry in logs] == [
        ("modbus.write_refused", "power_setpoint", 2000)
    ]
    assert "power is not taken here" in logs[0]["why"]
    assert (await in_force(client)).endswith(struct.pack(">i", 1000).hex()), "what was in force still is"
    counts = served.server.counts
    assert (counts.writes_taken, counts.writes_refused, counts.exceptions) == (1, 1, {4: 1})


async def test_after_no_answer_only_control_can_say_what_is_in_force(control: ScriptedControl, client: Client) -> None:
    says = "leases" in Published.__dataclass_fields__
    await client.ask(power(1000))
    control.answer = lambda asked: None  # noqa: ARG005
    assert (await client.ask(power(2000))).hex() == "9004"
    assert (await in_force(client)).endswith("000003e8" if says else NONE_32)


async def test_a_taken_write_is_in_the_log_with_who_did_it(client: Client) -> None:
    with capture_logs() as logs:
        await client.ask(power(1000))
    assert logs == [
        {
            "event": "modbus.written", "log_level": "info", "peer": "127.0.0.1", "point": "power_setpoint",
            "value": 1000, "unit": "W",
        }
    ]  # fmt: skip


async def test_refused_writes_do_not_fill_the_log(tmp_path: Path) -> None:
    with ControlEnd(tmp_path) as control, capture_logs() as logs:
        async with serving(control.link) as served:
            async with served.client() as client:
                for _ in range(50):
                    await client.ask(one(RESERVE, 1))
            await until(lambda: served.server.counts.connections == 0)
    said = [entry for entry in logs if entry["event"].startswith("modbus.write")]
    assert [entry["event"] for entry in said] == ["modbus.write_refused"] * 10 + ["modbus.writes_refused"]
    assert said[-1]["count"] == 50


async def test_requests_behind_a_write_wait_for_it_and_others_do_not(
    control: ScriptedControl, served: Serving, client: Client
) -> None:
    held = threading.Event()
    control.answer = lambda asked: TAKEN if held.wait(10.0) else None  # noqa: ARG005
    client.send(adu(1, power(1000)) + adu(2, "0300ca0001") + adu(3, one(RESERVE, 7)) + adu(4, "0300ca0001"))
    async with served.client() as other:
        await until(lambda: control.asked)
        assert len(await other.registers(100, 36)) == 72
    held.set()
    assert [(await client.adu())[::2] for _ in range(4)] == [
        (1, bytes.fromhex("1000cc0002")), (2, bytes.fromhex("0302ffff")), (3, one(RESERVE, 7)),
        (4, bytes.fromhex("03020007")),
    ]  # fmt: skip


async def test_when_too_many_writes_wait_it_is_busy(control: ScriptedControl, served: Serving) -> None:
    control.answer = lambda asked: None  # noqa: ARG005
    clients = [await asyncio.open_connection("127.0.0.1", served.port) for _ in range(9)]
    for _, writer in clients[:8]:
        writer.write(adu(1, one(RESERVE, 1)))
    await until(lambda: served.server.writes._waiting == 8)
    assert (await Client(*clients[8]).ask(one(RESERVE, 1))).hex() == "8606"
    for _, writer in clients:
        writer.close()


class Ahead:
    """The clock of control's leases and of ours, as far ahead of the real one as a test says."""

    def __init__(self, control: ScriptedControl, served: Serving) -> None:
        self.by_s = 0.0
        control.clock = served.server.writes._clock = lambda: time.monotonic() + self.by_s


async def test_a_set_point_lapses_when_nobody_renews_it(
    control: ScriptedControl, served: Serving, client: Client
) -> None:
    clock = Ahead(control, served)
    await client.ask(power(1000))
    clock.by_s += 45.0
    assert (await in_force(client)).endswith("000003e8")
    clock.by_s += 15.0
    assert (await in_force(client)).endswith(NONE_32)


async def test_writing_it_again_renews_it(control: ScriptedControl, served: Serving, client: Client) -> None:
    clock = Ahead(control, served)
    for _ in range(3):
        await client.ask(power(1000))
        clock.by_s += 45.0
    assert (await in_force(client)).endswith("000003e8")


async def test_a_heartbeat_that_changes_renews_all_set_points_of_its_writer(
    control: ScriptedControl, served: Serving, client: Client
) -> None:
    clock = Ahead(control, served)
    await client.ask(power(1000))
    await client.ask(one(RESERVE, 200))
    for beat in range(3):
        clock.by_s += 45.0
        assert await client.ask(one(BEAT, beat)) == one(BEAT, beat)
    assert await in_force(client) == "0002 00c8 000003e8"
    assert [asked.what for asked in control.asked] == ["power", "reserve"] * 4
    assert {asked.value for asked in control.asked if asked.what == "power"} == {1000.0}


async def test_a_heartbeat_that_stands_still_renews_nothing(
    control: ScriptedControl, served: Serving, client: Client
) -> None:
    clock = Ahead(control, served)
    await client.ask(one(BEAT, 5))
    await client.ask(power(1000))
    for _ in range(4):
        clock.by_s += 20.0
        await client.ask(one(BEAT, 5))
    assert len(control.asked) == 2, "the set-point, and the first heartbeat that it saw"
    assert (await in_force(client)).endswith(NONE_32)


async def test_a_heartbeat_does_not_bring_back_what_has_lapsed(
    control: ScriptedControl, served: Serving, client: Client
) -> None:
    clock = Ahead(control, served)
    await client.ask(power(1000))
    clock.by_s += 60.0
    await client.ask(one(BEAT, 1))
    assert len(control.asked) == 1
    assert (await in_force(client)).endswith(NONE_32)


async def test_one_writers_heartbeat_keeps_nobody_elses_set_point(
    control: ScriptedControl, served: Serving, client: Client
) -> None:
    await client.ask(power(1000))
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port, local_addr=("127.0.0.2", 0))
    assert await Client(reader, writer).ask(one(BEAT, 9)) == one(BEAT, 9)
    writer.close()
    assert len(control.asked) == 1


async def test_a_heartbeat_does_not_bring_back_what_a_newer_write_is_about_to_replace(
    control: ScriptedControl, served: Serving, client: Client
) -> None:
    await client.ask(power(1000))
    answers = threading.Event()
    control.answer = lambda asked: TAKEN if answers.wait(20.0) else None  # noqa: ARG005
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port, local_addr=("127.0.0.2", 0))
    other = Client(reader, writer)
    other.send(adu(1, power(200)))
    await until(lambda: len(control.asked) == 2)
    client.send(adu(2, one(BEAT, 1)))
    await until(lambda: served.server.counts.requests == 3)
    await asyncio.sleep(0.05)
    answers.set()
    await other.adu()
    await client.adu()
    writer.close()
    assert [asked.value for asked in control.asked] == [1000.0, 200.0]
    assert (await in_force(client)).endswith("000000c8")


async def test_a_heartbeat_whose_renewal_is_refused_is_refused(control: ScriptedControl, client: Client) -> None:
    await client.ask(power(1000))
    control.answer = lambda asked: Answer(False, "not now")  # noqa: ARG005
    assert (await client.ask(one(BEAT, 1))).hex() == "8604"
    assert (await in_force(client)).startswith(NONE_16)


async def test_set_points_end_with_the_control_process_that_took_them(
    control: ScriptedControl, served: Serving, client: Client
) -> None:
    await client.ask(power(1000))
    control.restart()
    await until(lambda: served.feed.hello.boot_id == "boot-2" and served.feed.good() is not None)
    assert (await in_force(client)).endswith(NONE_32)


@pytest.mark.parametrize("pdu", [one(BEAT, 1), one(RESET, 1), power(1)], ids=["heartbeat", "reset", "power"])
async def test_nothing_is_taken_for_a_control_that_is_silent(tmp_path: Path, pdu: bytes) -> None:
    with ControlEnd(tmp_path) as control:
        async with serving(control.service, **EVERYTHING) as served, served.client() as client:
            control.publishing = False
            await until(lambda: served.feed.good() is None)
            assert await client.ask(pdu) == bytes((pdu[0] | 0x80, 4))
        assert control.requests == []


async def test_a_control_that_goes_away_under_a_write_is_a_failure(control: ScriptedControl, client: Client) -> None:
    control.answer = lambda asked: None  # noqa: ARG005
    client.send(adu(1, power(1000)))
    await until(lambda: control.asked)
    control.restart()
    assert (await client.adu())[2].hex() == "9004"


def at_rest(name: str, value: int, since_s: float) -> tuple[Writes, list[float]]:
    """Writes that hold one set-point of 60 s, and their clock."""
    clock = [since_s]
    writes = Writes(Modbus.model_validate(EVERYTHING), Feed(Path("none")), lambda: clock[0])
    point = next(point for point in CONTROLS if point.name == name)
    writes._held[name] = Lease(Order("127.0.0.1", point, value), since_s, since_s + 60.0)
    return writes, clock


def said(now_s: float, *leases: InForce) -> Published:
    return replace(record(now_s=now_s), leases=leases)


def test_what_control_says_is_in_force_comes_before_what_it_took() -> None:
    """Also a set-point that came another way, and that ours has lost its place to another."""
    writes, clock = at_rest("power_setpoint", 1000, 1000.0)
    ours = InForce("power", 1000.0, 1060.0, "modbus 127.0.0.1")
    assert writes.in_force(said(1000.0))[2:] == (None, 1000), "a record from before it was taken"
    assert writes.in_force(said(1000.1, ours))[2:] == (None, 1000)
    other = (InForce("power", -20.0, 1090.0, "mqtt"), InForce("reserve", 0.205, 1090.0, "rest"))
    assert writes.in_force(said(1000.2, *other))[2:] == (205, -20)
    assert writes._held == {}, "a heartbeat must not take it back"
    assert writes.in_force(said(1000.3))[2:] == (None, None)
    clock[0] = 1090.0
    assert writes.in_force(said(1089.9, *other))[2:] == (None, None), "lapsed"


@pytest.mark.parametrize(("now_s", "expected"), [(1059.999, 1000), (1060.0, None), (float("nan"), None)])
def test_a_set_point_ends_with_its_lease(now_s: float, expected: int | None) -> None:
    writes, clock = at_rest("power_setpoint", 1000, 1000.0)
    clock[0] = now_s
    assert writes.in_force(record(now_s=999.0))[3] == expected


async def test_a_writer_that_leaves_before_the_answer_harms_nobody(control: ScriptedControl, served: Serving) -> None:
    control.answer = lambda asked: None  # noqa: ARG005
    async with served.client() as client:
        client.send(adu(1, one(RESERVE, 1)))
        await until(lambda: control.asked)
    await until(lambda: served.server.writes._waiting == 0)
    async with served.client() as client:
        assert len(await client.registers(100, 36)) == 72


async def test_the_real_control_end_takes_a_reset_where_it_may(tmp_path: Path) -> None:
    with ControlEnd(tmp_path) as control:
        async with serving(control.service, **EVERYTHING) as served, served.client() as client:
            assert await client.ask(one(RESET, 1)) == one(RESET, 1)
            wait_for(lambda: control.requests)
        assert [(request.code, request.reason) for request in control.requests] == [("all", "modbus 127.0.0.1")]


async def test_the_real_control_end_refuses_what_it_is_not_set_to_take(tmp_path: Path) -> None:
    with ControlEnd(tmp_path) as control:
        async with serving(control.link, **EVERYTHING) as served, served.client() as client:
            assert (await client.ask(power(1000))).hex() == "9004"
        assert control.requests == []
