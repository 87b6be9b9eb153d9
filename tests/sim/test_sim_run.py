"""The simulator on real buses: AF_UNIX hubs, python-can at both ends."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import can
import pytest
from slave_traffic import contactors, flags, heartbeat, limits, sync

from bmsd.fieldbus.unix_bus import Hub
from bmsd.model.frame import Frame
from bmsd.model.layout import Layout
from bmsd.sim.packing import unpack
from bmsd.sim.run import run
from bmsd.sim.scenario import SimSettings, default_settings
from bmsd.sim.world import SimWorld

LAYOUT = Layout(1, 2, 16, 4)


@pytest.fixture
def channels(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Two hubs: the field bus and the inverter bus."""
    paths = (str(tmp_path / "field"), str(tmp_path / "inverter"))
    with Hub(paths[0]), Hub(paths[1]):
        yield paths


class Running:
    """A simulator in a thread, for as long as the block lasts."""

    def __init__(self, settings: SimSettings, channels: tuple[str, str]) -> None:
        self._stop = threading.Event()
        self._ready = threading.Event()
        self.worlds: list[SimWorld] = []
        buses = [("unix", channel) for channel in channels]

        def simulate() -> None:
            self.worlds.append(run(settings, buses[0], buses[1], self._stop, watch=lambda _world: self._ready.set()))

        self._thread = threading.Thread(target=simulate)

    def __enter__(self) -> Running:
        self._thread.start()
        assert self._ready.wait(10.0)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(10.0)
        assert not self._thread.is_alive()


def message(frame: Frame) -> can.Message:
    return can.Message(arbitration_id=frame.can_id, data=frame.data, is_extended_id=frame.extended)


def read(bus: can.BusABC, seconds: float) -> list[tuple[float, Frame]]:
    end_s = time.monotonic() + seconds
    seen = []
    while (left_s := end_s - time.monotonic()) > 0.0:
        got = bus.recv(left_s)
        if got is not None:
            seen.append((time.monotonic(), Frame(got.arbitration_id, bytes(got.data), got.is_extended_id)))
    return seen


def wait_for(what: Callable[[], bool], seconds: float = 10.0) -> bool:
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        if what():
            return True
        time.sleep(0.01)
    return False


def test_a_poll_on_a_real_bus_is_answered_completely_and_in_time(channels: tuple[str, str]) -> None:
    with Running(default_settings(LAYOUT), channels), can.Bus(interface="unix", channel=channels[0]) as bus:
        names: Counter[str] = Counter()
        begin_s = time.monotonic()
        bus.send(message(sync(number=5, slow_group=1)))
        for at_s, frame in read(bus, 0.4):
            received = unpack(frame)
            assert received is not None
            assert received.signals["Counter"] == 5
            if received.name.startswith("CellVoltages"):
                assert at_s - begin_s >= 0.004
            names[received.name] += 1
    assert names["Current"] == names["StringVoltages"] == names["ContactorState"] == 1
    assert [names[f"CellVoltages{n}"] for n in (1, 2, 3, 4)] == [2, 2, 2, 2]
    assert names["Temperatures1"] == 2


def test_the_inverter_keeps_alive_and_hears_its_limits(channels: tuple[str, str]) -> None:
    with Running(default_settings(LAYOUT), channels) as running, can.Bus(interface="unix", channel=channels[1]) as bus:
        for frame in (limits(110.0, 77.0, 88.0, 90.0), flags()):
            bus.send(message(frame))
        seen = [frame for _, frame in read(bus, 2.2)]
    assert 2 <= seen.count(Frame(0x305, bytes(8), False)) <= 3
    assert running.worlds[0].truth().inverter_ccl_a == pytest.approx(77.0)


def test_commands_on_the_real_bus_move_the_contactors(channels: tuple[str, str]) -> None:
    with Running(default_settings(LAYOUT), channels) as running, can.Bus(interface="unix", channel=channels[0]) as bus:
        for tick in range(8):
            wanted = (1, 1, 0) if tick > 2 else (0, 0, 0)
            bus.send(message(heartbeat(tick)))
            bus.send(message(contactors(65, tick, *wanted)))
            time.sleep(0.05)
    truth = running.worlds[0].truth()
    assert truth.contacts[0].tolist() == [True, True, False]
    assert truth.bus_v > 0.5


def test_a_hub_that_goes_away_and_comes_back_is_found_again(tmp_path: Path) -> None:
    channels = (str(tmp_path / "field"), str(tmp_path / "inverter"))

    def answers() -> bool:
        with can.Bus(interface="unix", channel=channels[0]) as bus:
            bus.send(message(sync()))
            return bool(read(bus, 0.2))

    with Hub(channels[1]):
        with Hub(channels[0]), Running(default_settings(LAYOUT), channels):
            assert answers()
        with Running(default_settings(LAYOUT), channels), Hub(channels[0]):
            assert wait_for(answers)
        hub = Hub(channels[0]).start()
        with Running(default_settings(LAYOUT), channels):
            assert answers()
            hub.stop()
            time.sleep(0.3)
            with Hub(channels[0]):
                assert wait_for(answers)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(channels: tuple[str, str], number: signal.Signals) -> None:
    code = (
        "import sys\n"
        "from bmsd.model.layout import Layout\n"
        "from bmsd.sim.run import run\n"
        "from bmsd.sim.scenario import default_settings\n"
        "run(default_settings(Layout(1, 2, 16, 4)), ('unix', sys.argv[1]), ('unix', sys.argv[2]))\n"
        "print('left')\n"
    )
    command = [sys.executable, "-c", code, *channels]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            with can.Bus(interface="unix", channel=channels[1]) as bus:
                assert bus.recv(20.0) is not None
            process.send_signal(number)
            out, errors = process.communicate(timeout=10.0)
        finally:
            process.kill()
    assert (process.returncode, out, errors) == (0, "left\n", "")


def test_a_collection_in_a_running_simulation_does_not_look_through_what_stays_for_good() -> None:
    file = Path(__file__).parents[2] / "deploy" / "vcan.toml"
    code = (
        "import gc, sys\n"
        "from pathlib import Path\n"
        "from bmsd.simulate import run_file\n"
        "run_file(Path(sys.argv[1]), 0.2)\n"
        "print(len(gc.get_objects()), gc.get_freeze_count())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(file)], capture_output=True, text=True, timeout=30, check=True
    )
    seen, frozen = map(int, done.stdout.split())
    assert frozen > 10_000
    assert seen < frozen / 5
