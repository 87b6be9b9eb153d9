"""How the loop waits: until something is due, or frames have come and had time to gather."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import can
import pytest

from bmsd.control.daemon import GATHER_S, wait
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


def waited_s(ports: list[CanPort], seconds: float) -> float:
    began_s = time.monotonic()
    wait(ports, began_s + seconds)
    return time.monotonic() - began_s


def test_a_silent_bus_is_waited_for_until_something_is_due(port: CanPort) -> None:
    assert 0.3 <= waited_s([port], 0.3) < 0.4
    assert waited_s([port], -1.0) < 0.05, "what is due already waits for nothing"


def test_without_a_bus_it_waits_as_long(port: CanPort) -> None:
    port.close()
    assert 0.2 <= waited_s([], 0.2) < 0.3


def test_the_first_frame_ends_the_wait_once_others_could_follow(port: CanPort, sender: can.BusABC) -> None:
    threading.Timer(0.1, lambda: [sender.send(FRAME) for _ in range(20)]).start()
    assert 0.1 + GATHER_S <= waited_s([port], 5.0) < 1.0
    assert len(port.drain()) == 20


def test_gathering_makes_nothing_late(port: CanPort, sender: can.BusABC) -> None:
    sender.send(FRAME)
    while not len(port.drain()):
        time.sleep(0.001)
    sender.send(FRAME)
    time.sleep(0.05)
    assert waited_s([port], 0.002) < GATHER_S


def test_a_hub_that_has_gone_ends_the_wait_and_is_noticed(tmp_path: Path) -> None:
    with Hub(str(tmp_path / "bus")) as hub:
        port = CanPort("unix", hub.path)
        port.step(0.0)
        threading.Timer(0.1, hub.stop).start()
        assert waited_s([port], 5.0) < 2.0
        port.drain()
        assert not port.up
