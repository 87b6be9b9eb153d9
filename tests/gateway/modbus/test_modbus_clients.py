"""Other people's clients: pymodbus and libmodbus read and write as they would at a site."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from pymodbus.client import AsyncModbusTcpClient
from pymodbus.client.mixin import ModbusClientMixin
from serving import Serving, serving

from tests.gateway.scripted_control import ScriptedControl

HERE = Path(__file__).parent
HEADER = Path("/usr/include/modbus/modbus.h")
FLOAT, WHOLE = ModbusClientMixin.DATATYPE.FLOAT32, ModbusClientMixin.DATATYPE.INT32


@pytest_asyncio.fixture
async def served(tmp_path: Path) -> AsyncIterator[Serving]:
    with ScriptedControl(tmp_path) as control:
        writable = ["alarm_reset", "controller_heartbeat", "reserve_soc", "power_setpoint"]
        async with serving(control.link, writers=["127.0.0.1"], writable=writable) as found:
            yield found


async def test_pymodbus_reads_and_writes(served: Serving) -> None:
    assert served.feed.newest is not None
    soc = served.feed.newest.estimate.soc
    async with AsyncModbusTcpClient("127.0.0.1", port=served.port, timeout=20) as client:
        rack = (await client.read_holding_registers(100, count=36, device_id=1)).registers
        assert client.convert_from_registers(rack[0:2], FLOAT) == pytest.approx(105.6)
        assert client.convert_from_registers(rack[4:6], FLOAT) == pytest.approx(soc, abs=1e-6)
        assert (await client.read_input_registers(100, count=36)).registers == rack
        cells = (await client.read_holding_registers(1832, count=24)).registers
        assert cells == [3300] * 16 + [0xFFFF] * 8
        wrote = await client.write_registers(204, client.convert_to_registers(-5000, WHOLE))
        assert not wrote.isError()
        found = await client.read_holding_registers(204, count=2)
        assert client.convert_from_registers(found.registers, WHOLE) == -5000
        assert not (await client.write_register(201, 7)).isError()
        assert not (await client.mask_write_register(address=202, and_mask=0, or_mask=100)).isError()
        both = await client.readwrite_registers(read_address=202, read_count=1, address=202, values=[300])
        assert both.registers == [300]
        assert (await client.write_register(100, 1)).exception_code == 2
        assert (await client.read_holding_registers(4999, count=2)).exception_code == 2
        assert (await client.read_coils(0, count=1)).exception_code == 1
        information = (await client.read_device_information(read_code=2)).information
        assert information[0] == b"bmsd"
        assert information[4] == b"rack"


async def test_libmodbus_reads_and_writes(served: Serving, tmp_path: Path) -> None:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None or not HEADER.exists():
        assert os.environ.get("CI") != "true", "install gcc and libmodbus-dev"
        pytest.skip("no C compiler, or no libmodbus-dev")
    program = tmp_path / "client"
    strict = ["-std=c11", "-Wall", "-Wextra", "-Werror"]
    assert await finished(compiler, *strict, "-o", program, HERE / "libmodbus_client.c", "-lmodbus") == ""
    assert (await finished(program, served.port)).splitlines() == [
        "constants 12345678 123456.0",
        "rack 105.6 V 3.300 V 4 modules",
        "outside -1 Illegal data address",
        "power 2 -5000",
        "reserve 1",
        "read-only -1 Illegal data address",
    ]


async def finished(*command: object) -> str:
    """What a program says that ends well."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    assert process.returncode == 0, (process.returncode, out, err)
    return out.decode()
