"""A rack that another system polls: its SYNCs are the instants of measurement, and nothing is sent."""

from __future__ import annotations

import time
from pathlib import Path

import can
import numpy as np
import pytest

from bmsd.config.demo import demo_toml
from bmsd.control.composition import checked
from bmsd.control.rack_io import RackIO
from bmsd.fieldbus.drivers.slave.sorting import Kind
from bmsd.fieldbus.receive import Receiver
from bmsd.fieldbus.unix_bus import Hub
from bmsd.model.frame import EXTENDED_FLAG, RAW_FRAME, Frame, RawFrames
from bmsd.model.host import ClockQuality, Host
from bmsd.model.layout import Layout
from bmsd.model.plant import Timing
from tests import rack
from tests import slave_frames as slave
from tests.fieldbus.test_driver_contract import RECORDED, story

LAYOUT = Layout(strings=1, modules=1, cells=16, sensors=4)
TIMING = Timing(tick_s=0.1, poll_s=0.2, current_phases=4)
UNIT = 65


def sync(number: int, phase: int = 0, slow_group: int = 0) -> Frame:
    signals = {"Number": number, "Phase": phase, "SlowGroup": slow_group, "PollPeriod": 20}
    return slave.pack("Sync", 0, signals)


def listener(layout: Layout = LAYOUT) -> Receiver:
    return Receiver(layout, TIMING, listen_only=True)


def recorded(name: str) -> list[tuple[float, RawFrames]]:
    frames = []
    for line in (RECORDED / f"{name}.log").read_text().splitlines():
        stamp, _, frame = line.split()
        can_id, _, data = frame.partition("#")
        word = int.from_bytes(bytes.fromhex(data), "little")
        raw = np.array([(int(can_id, 16) | EXTENDED_FLAG, len(data) // 2, 0, word)], dtype=RAW_FRAME)
        frames.append((float(stamp.strip("()")), raw))
    return frames


def test_recorded_frames_of_another_master_become_the_same_arrays_as_of_our_own() -> None:
    told = story("slave")
    heard, now_s = listener(Layout(**told["layout"])), 0.0
    for now_s, frame in recorded("slave"):
        heard.feed(frame, now_s)
    for part, wanted in ((heard.modules(now_s), told["modules"]), (heard.units(now_s), told["units"])):
        for field, values in wanted.items():
            np.testing.assert_allclose(getattr(part, field), np.array(values, dtype=float), atol=1e-9, err_msg=field)
    assert heard.missing(now_s) == told["missing"]
    assert heard.foreign_frames == 0, "they are the master's"


def test_syncs_and_answers_of_several_polls_may_come_in_one_drain() -> None:
    heard = listener()
    frames = [sync(1), *slave.poll(LAYOUT, 1), sync(1, 1), slave.current(UNIT, 1, 1), sync(2), *slave.poll(LAYOUT, 2)]
    heard.feed(slave.raw(*frames), 10.0)
    modules, units = heard.modules(10.05), heard.units(10.05)
    assert np.isfinite(modules.cell_v).all()
    np.testing.assert_allclose(modules.cell_age_s, 0.05)
    np.testing.assert_allclose(units.current_age_s, 0.05)
    assert heard.counts.sum() == 0


def test_an_answer_to_another_sync_than_the_newest_is_refused_here_too() -> None:
    heard = listener()
    heard.feed(slave.raw(sync(1), sync(2), *slave.poll(LAYOUT, 1)), 10.0)
    assert np.isnan(heard.modules(10.2).cell_v).all()
    assert heard.counts[Kind.COUNTER] == len(slave.poll(LAYOUT, 1))


@pytest.mark.parametrize(
    "damaged",
    [
        slave.raw(slave.spoilt(sync(1))),
        slave.raw(sync(1)._replace(data=sync(1).data + b"\0")),
        slave.raw(sync(1)._replace(extended=False)),
        slave.raw(sync(1)._replace(can_id=sync(1).can_id | 1)),
    ],
    ids=["crc", "length", "standard", "address"],
)
def test_a_damaged_sync_opens_no_poll(damaged: RawFrames) -> None:
    heard = listener()
    heard.feed(slave.joined([damaged, slave.raw(*slave.poll(LAYOUT, 1))]), 10.0)
    assert np.isnan(heard.modules(10.2).cell_v).all()
    assert heard.counts[Kind.LATE] == len(slave.poll(LAYOUT, 1))


def test_to_a_master_the_sync_of_another_one_is_a_foreign_sender_and_opens_no_poll() -> None:
    heard = Receiver(LAYOUT, TIMING)
    heard.feed(slave.raw(sync(1), *slave.poll(LAYOUT, 1)), 10.0)
    assert np.isnan(heard.modules(10.2).cell_v).all()
    assert heard.counts[Kind.OWN] == 1


def message(frame: Frame) -> can.Message:
    return can.Message(arbitration_id=frame.can_id, is_extended_id=frame.extended, data=frame.data)


def test_a_listening_bmsd_sees_the_rack_and_sends_nothing_on_either_bus(tmp_path: Path) -> None:
    file = tmp_path / "rack.toml"
    text = demo_toml(1, 1, str(tmp_path / "field"), str(tmp_path / "inverter"), tmp_path)
    file.write_text(text.replace("[fieldbus]", "[fieldbus]\nlisten_only = true"))
    ready = checked(file)
    drive = rack.running(ready.plant)
    command = drive.tick(**rack.closed(ready.plant)).command
    assert command.ccl_a > 0.0
    paths = ready.settings.fieldbus.channel, ready.settings.inverter.channel
    with (
        Hub(paths[0]) as field,
        Hub(paths[1]) as inverter,
        can.Bus(interface="unix", channel=field.path) as master,
        can.Bus(interface="unix", channel=inverter.path) as site,
    ):
        io, now_s = RackIO(ready), 100.0
        io.open(now_s)
        deadline = time.monotonic() + 5.0
        while (field.clients, inverter.clients) != (2, 2) and time.monotonic() < deadline:
            time.sleep(0.001)
        layout = ready.plant.layout
        wanted = [sync(7, 0, slave.TEMPERATURES), *slave.poll(layout, 7, slave.TEMPERATURES)]
        for frame in wanted:
            master.send(message(frame), timeout=5.0)
        while io.field.counts.received < len(wanted) and time.monotonic() < deadline:
            io.receive(now_s)
            io.poll(now_s)
        snapshot = io.snapshot(now_s + 0.1, Host(0.1, 0), (), (None, ClockQuality.UNKNOWN))
        assert np.isfinite(snapshot.modules.cell_v).all()
        assert np.isfinite(snapshot.modules.temperature_degc).all()
        assert np.isfinite(snapshot.units.current_a).all()
        np.testing.assert_allclose(snapshot.modules.cell_age_s, 0.1)
        for k in range(20):
            io.send(now_s + 0.1 * k, command, started=True, stopping=False)
            io.pace(now_s + 0.1 * k)
        io.send_stop(now_s + 2.0, command)
        assert master.recv(timeout=0.1) is None
        assert site.recv(timeout=0.1) is None
        assert io.blocked_frames == 0
        io.close()
