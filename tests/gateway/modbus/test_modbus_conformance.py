"""What SCADA people complain of in other devices, byte by byte on a real socket."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from serving import Client, Serving, adu, serving, until

from bmsd.codec.registers import blank
from bmsd.config.gateway import Modbus
from bmsd.errors import BusError
from bmsd.gateway.feed import Feed
from bmsd.gateway.modbus import server as server_module
from bmsd.gateway.modbus.connection import INPUT_BYTES, REQUESTS_PER_TURN
from bmsd.gateway.modbus.server import Server
from bmsd.model.points import MAP_REGISTERS, listed
from tests.gateway.control_end import ControlEnd

ADDRESS = {point.name: point.address for point in listed()}
READ_RACK = "0300640024"


@pytest_asyncio.fixture
async def served(tmp_path: Path) -> AsyncIterator[Serving]:
    with ControlEnd(tmp_path) as control:
        async with serving(control.link, most_clients=6) as found:
            yield found


@pytest_asyncio.fixture
async def client(served: Serving) -> AsyncIterator[Client]:
    async with served.client() as found:
        yield found


def float_at(registers: bytes, place: int) -> float:
    return float(struct.unpack_from(">f", registers, 2 * place)[0])


async def test_a_rack_is_read_as_the_record_says(client: Client) -> None:
    registers = await client.registers(100, 36)
    assert float_at(registers, 0) == pytest.approx(105.6)  # 2 modules of 16 cells of 3.3 V
    assert float_at(registers, 18) == float_at(registers, 20) == pytest.approx(3.3)
    assert float_at(registers, 22) == 25.0
    assert struct.unpack_from(">H", registers, 2 * 29)[0] == 4


@pytest.mark.parametrize("function", [3, 4])
async def test_holding_and_input_registers_are_the_same(client: Client, function: int) -> None:
    registers = await client.registers(0, 10, function)
    assert registers[12:20].hex() == "1234567847f12000", "test constants, high word first"


async def test_several_requests_in_one_segment_are_answered_in_order(client: Client) -> None:
    count = 3 * REQUESTS_PER_TURN + 1
    client.send(b"".join(adu(1000 + i, struct.pack(">BHH", 3, 100, 1 + i)) for i in range(count)))
    for i in range(count):
        assert await client.adu() == (1000 + i, 1, Pdu.registers(2 * (1 + i)))


class Pdu(bytes):
    """An answer that is compared by its length only."""

    @classmethod
    def registers(cls, size: int) -> Pdu:
        return cls(size + 2)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, bytes) and len(other) == len(self)

    __hash__ = bytes.__hash__


@pytest.mark.parametrize("cut", [1, 6, 7, 8, 11])
async def test_a_request_may_come_in_pieces(client: Client, cut: int) -> None:
    data = adu(7, READ_RACK)
    client.send(data[:cut])
    await asyncio.sleep(0.02)
    client.send(data[cut:] + data[:cut])
    assert len((await client.adu())[2]) == 74
    client.send(data[cut:])
    assert (await client.adu())[0] == 7


async def test_more_than_the_buffer_holds_is_answered_completely(client: Client) -> None:
    count = 10 * INPUT_BYTES // 12
    client.send(b"".join(adu(i, "0300640001") for i in range(count)))
    for i in range(count):
        assert (await client.adu())[0] == i


async def test_what_was_sent_before_the_end_is_answered(served: Serving) -> None:
    async with served.client() as client:
        client.send(b"".join(adu(i, READ_RACK) for i in range(40)))
        client.writer.write_eof()
        for i in range(40):
            assert (await client.adu())[0] == i
        assert await client.closed()


@pytest.mark.parametrize("transaction", [0, 1, 0x00FF, 0x0100, 0xFF00, 0xFFFF])
async def test_all_bits_of_the_transaction_are_echoed(client: Client, transaction: int) -> None:
    client.send(adu(transaction, READ_RACK))
    assert (await client.adu())[0] == transaction


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        ("0300640000", "8303"),  # nothing
        ("030064007e", "8303"),  # 126 registers
        ("0400640000", "8403"),
        ("030064ffff", "8303"),
        ("03006400", "8303"),  # too short
        ("03", "8303"),
        ("030064000100", "8303"),  # too long
        ("0313880001", "8302"),  # the first after the map
        ("0313870002", "8302"),  # across its end
        ("03ffff0001", "8302"),
        ("03ffff007d", "8302"),
        ("0100640001", "8101"),  # there are no coils and no discrete inputs
        ("0200640001", "8201"),
        ("050064ff00", "8501"),
        ("0f006400010101", "8f01"),
        ("07", "8701"),
        ("08000012ab", "8801"),
        ("11", "9101"),
        ("83", "8301"),
        ("00", "8001"),
        ("ff", "ff01"),
        ("2b0d0100", "ab01"),  # another kind of 43
        ("2b", "ab01"),
        ("2b0e0000", "ab03"),
        ("2b0e0500", "ab03"),
        ("2b0e01", "ab03"),
        ("2b0e0403", "ab02"),  # an object that is not there
    ],
)
async def test_what_cannot_be_answered_gets_its_exception(client: Client, asked: str, answer: str) -> None:
    assert (await client.ask(asked)).hex() == answer
    assert len(await client.ask(READ_RACK)) == 74, "the connection goes on"


async def test_the_last_registers_of_the_map_are_there(client: Client) -> None:
    assert len(await client.registers(MAP_REGISTERS - 125, 125)) == 250
    assert max(point.address + point.registers for point in listed()) == MAP_REGISTERS


async def test_a_gap_in_a_block_reads_as_not_implemented(client: Client) -> None:
    taken = {a for point in listed() for a in range(point.address, point.address + point.registers)}
    for address in (13, 143, 194, 203, 250, 341 + 38, 1896):
        assert address not in taken
        assert (await client.registers(address, 1)).hex() == "ffff"


async def test_places_that_this_rack_has_not_read_as_not_implemented(client: Client) -> None:
    """The rack has 2 strings, 4 modules of 16 cells and 4 sensors."""
    for name, expected in {
        "module_4_cell_16_mv": "0ce4", "module_4_cell_17_mv": "ffff", "module_5_cell_1_mv": "ffff",
        "module_4_sensor_4_degc": "00fa", "module_4_sensor_5_degc": "8000", "string_3_state": "ffff",
        "module_4_string": "0002", "module_4_position": "0002",
    }.items():  # fmt: skip
        assert (await client.registers(ADDRESS[name], 1)).hex() == expected, name
    for name, expected in {
        "string_3_current_a": "7fc00000", "module_5_sequence": "ffffffff", "power_setpoint": "80000000",
    }.items():  # fmt: skip
        assert (await client.registers(ADDRESS[name], 2)).hex() == expected, name


@pytest.mark.parametrize("unit", [0, 1, 255])
async def test_these_units_are_the_rack(client: Client, unit: int) -> None:
    assert len(await client.ask(READ_RACK, unit)) == 74


@pytest.mark.parametrize("unit", [2, 10, 126, 247, 254])
async def test_an_unknown_unit_is_a_target_that_does_not_answer(client: Client, unit: int) -> None:
    assert (await client.ask(READ_RACK, unit)).hex() == "830b"


@pytest.mark.parametrize(
    "garbage",
    [
        "000100010006010300640024",  # another protocol
        "000100000000",  # shorter than a unit
        "00010000000001",
        "0001000000010103",  # no function
        "0001000000ff0103006400240000",  # longer than any
        "0001 0000 ffff 01",
        "474554202f20485454502f312e310d0a0d0a",  # GET / HTTP/1.1
        "16030100c8010000c4030300",  # a TLS hello
    ],
)
async def test_what_is_no_modbus_closes_the_connection(served: Serving, garbage: str) -> None:
    async with served.client() as client:
        client.send(adu(5, READ_RACK) + bytes.fromhex(garbage) + bytes(10))
        assert (await client.adu())[0] == 5, "what came before is answered"
        assert await client.closed()
    assert served.server.counts.malformed == 1


async def test_a_client_without_requests_is_dropped(tmp_path: Path) -> None:
    with ControlEnd(tmp_path) as control:
        async with serving(control.link, idle_s=5.0) as served, served.client() as busy, served.client() as idle:
            now_s = asyncio.get_running_loop().time()
            await busy.ask(READ_RACK)
            await idle.ask(READ_RACK)
            idle.send(adu(1, READ_RACK)[:11])  # bytes are no request
            for connection in served.server._connections:
                connection.moved_s -= 4.0
            await busy.ask(READ_RACK)
            served.server._sweep(now_s + 0.9)
            assert served.server.counts.connections == 2, "4.9 s are not yet 5"
            served.server._sweep(asyncio.get_running_loop().time() + 1.1)
            assert await idle.closed()
            await busy.ask(READ_RACK)
            assert (served.server.counts.idle, served.server.counts.connections) == (1, 1)


async def test_a_dead_peer_is_looked_for(served: Serving, client: Client) -> None:
    await client.ask(READ_RACK)
    (connection,) = served.server._connections
    sock = connection._transport.get_extra_info("socket")
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60


async def test_one_client_too_many_is_refused_and_the_others_go_on(served: Serving) -> None:
    clients = [await asyncio.open_connection("127.0.0.1", served.port) for _ in range(6)]
    await until(lambda: served.server.counts.connections == 6)
    async with served.client() as late:
        assert await late.closed()
    assert (served.server.counts.refused, served.server.counts.accepted) == (1, 6)
    for reader, writer in clients:
        assert len(await Client(reader, writer).ask(READ_RACK)) == 74
        writer.close()
    await until(lambda: served.server.counts.connections == 0)
    async with served.client() as again:
        assert len(await again.ask(READ_RACK)) == 74


async def test_one_address_cannot_take_all_places(tmp_path: Path) -> None:
    with ControlEnd(tmp_path) as control:
        settings = {"most_clients": 8, "most_per_address": 2, "host": "0.0.0.0"}
        async with (
            serving(control.link, **settings) as served,
            served.client() as one,
            served.client() as two,
            served.client() as three,
        ):
            await one.ask(READ_RACK)
            await two.ask(READ_RACK)
            assert await three.closed()
            elsewhere = await asyncio.open_connection("127.0.0.1", served.port, local_addr=("127.0.0.2", 0))
            assert len(await Client(*elsewhere).ask(READ_RACK)) == 74
            elsewhere[1].close()


async def test_one_answer_is_one_record(tmp_path: Path) -> None:
    """Control publishes 50 times a second while both counters of the rack's block are read."""
    with ControlEnd(tmp_path) as control:
        async with serving(control.link) as served, served.client() as client:
            seen: set[bytes] = set()
            while len(seen) < 20:
                block = await client.registers(ADDRESS["rack_sequence"], 102)
                assert block[:4] == block[-4:]
                seen.add(block[:4])


async def test_a_client_that_never_reads_takes_no_memory_and_is_dropped(
    served: Serving, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    sock = socket.create_connection(("127.0.0.1", served.port))
    sock.setblocking(False)
    burst = b"".join(adu(i, "030064007d") for i in range(100))
    sent, since_s = 0, asyncio.get_running_loop().time()
    while asyncio.get_running_loop().time() < since_s + 1.0:  # nothing goes in any more
        try:
            sent += sock.send(burst)
            since_s = asyncio.get_running_loop().time()
        except BlockingIOError:
            await asyncio.sleep(0.01)
    await client.ask(READ_RACK)
    (stuck,) = [found for found in served.server._connections if found.stuck]
    assert stuck._transport.get_write_buffer_size() < 64 * 1024
    monkeypatch.setattr(server_module, "STUCK_S", 0.1)
    await until(lambda: served.server.counts.connections == 1)
    sock.close()
    assert len(await client.ask(READ_RACK)) == 74


async def test_a_client_that_reads_late_gets_everything(served: Serving) -> None:
    count = 3000
    async with served.client() as client:
        client.send(b"".join(adu(i, "030064007d") for i in range(count)))
        await asyncio.sleep(0.3)
        for i in range(count):
            assert (await client.adu())[0] == i


async def test_one_request_at_a_time_without_reading_is_held_and_then_answered(served: Serving) -> None:
    """The answers fill up while no other request waits: what comes then must wait outside."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.connect(("127.0.0.1", served.port))
    await until(lambda: served.server.counts.connections == 1)
    (connection,) = served.server._connections
    count = 0
    while not connection.stuck:
        sock.sendall(adu(count, "030064007d"))
        count += 1
        for _ in range(3):
            await asyncio.sleep(0)
    for _ in range(2 * INPUT_BYTES // 12):
        sock.sendall(adu(count, "030064007d"))
        count += 1
        await asyncio.sleep(0)
    client = Client(*await asyncio.open_connection(sock=sock))
    for number in range(count):
        assert (await client.adu())[0] == number & 0xFFFF
    client.writer.close()


async def test_the_port_can_be_taken_again_at_once_and_not_twice(served: Serving, client: Client) -> None:
    await client.ask(READ_RACK)
    settings = served.server._settings
    with pytest.raises(BusError, match=f"port {served.port}: cannot listen"):
        await Server(settings, Feed(Path("/none"))).listen()
    await served.server.close()  # the server closes first: its side keeps the port in TIME_WAIT
    again = Server(settings, Feed(Path("/none")))
    await again.listen()
    await again.close()


@pytest.mark.parametrize("host", ["no.such.name.invalid", "fe80::1%none"])
async def test_a_host_that_there_is_not_is_named(host: str) -> None:
    with pytest.raises(BusError, match=f"modbus: {host} port 1502: .*correct .modbus. host"):
        await Server(Modbus(host=host), Feed(Path("/none"))).listen()


async def test_nothing_is_served_as_good_once_control_is_silent(tmp_path: Path) -> None:
    with ControlEnd(tmp_path) as control:
        async with serving(control.link) as served, served.client() as client:
            control.publishing = False
            await until(lambda: served.feed.good() is None)
            status = await client.registers(0, 98)
            assert status[4:8].hex() == "00010003", "the version stays, the quality says why"
            assert status[12:20].hex() == "1234567847f12000"
            assert 2.0 < float_at(status, 10) < 20.0
            silent = blank()
            silent[6:8], silent[20:24] = status[6:8], status[20:24]
            for start in range(0, MAP_REGISTERS, 125):
                block = bytearray(await client.registers(start, 125))
                if start == 0:
                    block[20:24] = status[20:24]  # the age goes on
                assert block == silent[2 * start : 2 * (start + 125)], start
            control.publishing = True
            await until(lambda: served.feed.good() is not None)
            assert float_at(await client.registers(100, 2), 0) == pytest.approx(105.6)


async def test_before_the_first_record_there_are_only_constants(tmp_path: Path) -> None:
    server = Server(Modbus(), Feed(tmp_path / "none.sock"))
    registers = server.image.current()
    assert registers[4:8].hex() == "00010003"
    assert registers[20:24].hex() == "7fc00000", "an age that is not known"
    assert registers[200:204].hex() == "7fc00000"


async def test_the_device_says_who_it_is(client: Client) -> None:
    basic = await client.ask("2b0e0100")
    assert basic[:7].hex() == "2b0e0182000003"
    assert basic[7:13] == b"\x00\x04bmsd"
    regular = await client.ask("2b0e0200")
    assert regular.endswith(b"\x04\x04rack")
    assert await client.ask("2b0e0404") == bytes.fromhex("2b0e0482000001") + b"\x04\x04rack"
