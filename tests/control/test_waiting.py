"""How the loop waits: until something is due, on silent buses for a frame, else for those that come to gather."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import can
import pytest

from bmsd.config.demo import demo_toml
from bmsd.control.composition import checked
from bmsd.control.daemon import GATHER_S, wait
from bmsd.control.rack_io import SILENT_S, RackIO
from bmsd.fieldbus.bus import CanPort
from bmsd.fieldbus.unix_bus import Hub

FRAME = can.Message(arbitration_id=0x123, data=b"1", is_extended_id=False)


@pytest.fixture
def port(tmp_path: Path) -> Iterator[CanPort]:
    with Hub(str(tmp_path / "bus")) as hub:
        port = CanPort("unix", hub.path)
        port.step(0.0)
        yield port
        port.close()


@pytest.fixture
def sender(port: CanPort) -> Iterator[can.BusABC]:
    bus = can.Bus(interface="unix", channel=port.channel)
    yield bus
    bus.shutdown()


def waited_s(ports: list[CanPort], seconds: float, *, silent: bool = True) -> float:
    began_s = time.monotonic()
    wait(ports, began_s + seconds, silent=silent)
    return time.monotonic() - began_s


def test_silent_buses_are_waited_for_until_something_is_due(port: CanPort) -> None:
    assert 0.3 <= waited_s([port], 0.3) < 1.0
    assert waited_s([port], -1.0) < 0.3, "what is due already waits for nothing"


def test_without_a_bus_it_waits_as_long(port: CanPort) -> None:
    port.close()
    assert 0.2 <= waited_s([], 0.2) < 1.0


def test_the_first_frame_on_silent_buses_ends_the_wait(port: CanPort, sender: can.BusABC) -> None:
    threading.Timer(0.2, lambda: sender.send(FRAME)).start()
    assert 0.19 < waited_s([port], 5.0) < 2.0
    assert len(port.drain()) == 1


def test_where_frames_flow_they_gather_and_nothing_gets_late(port: CanPort) -> None:
    assert GATHER_S <= waited_s([port], 5.0, silent=False) < 1.0
    assert 0.001 <= waited_s([port], 0.001, silent=False) < GATHER_S + 0.3


def test_buses_are_silent_a_second_after_the_last_frame(tmp_path: Path) -> None:
    file = tmp_path / "rack.toml"
    file.write_text(demo_toml(1, 1, str(tmp_path / "field"), str(tmp_path / "inverter"), tmp_path))
    with Hub(str(tmp_path / "field")), Hub(str(tmp_path / "inverter")) as hub:
        io = RackIO(checked(file))
        io.receive(100.0)
        assert io.silent(100.0)
        site = can.Bus(interface="unix", channel=hub.path)
        site.send(can.Message(arbitration_id=0x305, data=bytes(8), is_extended_id=False))
        now_s, deadline_s = 100.0, time.monotonic() + 10.0
        while io.silent(now_s):
            assert time.monotonic() < deadline_s
            now_s += 0.01
            io.receive(now_s)
        assert not io.silent(now_s + SILENT_S)
        assert io.silent(now_s + SILENT_S + 0.01)
        site.shutdown()
        io.close()


def test_a_hub_that_has_gone_ends_the_wait_and_is_noticed(tmp_path: Path) -> None:
    with Hub(str(tmp_path / "bus")) as hub:
        port = CanPort("unix", hub.path)
        port.step(0.0)
        threading.Timer(0.1, hub.stop).start()
        assert waited_s([port], 5.0) < 2.0
        port.drain()
        assert not port.up
