"""What the edges of a rack make of frames that only bmsd may send, on real (unix) buses."""

from __future__ import annotations

import time
from pathlib import Path

import can
import pytest

from bmsd.config.demo import demo_toml
from bmsd.control.composition import checked
from bmsd.control.rack_io import RackIO
from bmsd.fieldbus.unix_bus import Hub
from bmsd.model.host import ClockQuality, Host
from tests import slave_frames as slave

HEARTBEAT = slave.pack("Heartbeat", 0, {"Counter": 1, "Lease": 10, "ControlState": 1})
LIMITS = can.Message(arbitration_id=0x351, is_extended_id=False, data=bytes(8))
KEEPALIVE = can.Message(arbitration_id=0x305, is_extended_id=False, data=bytes(8))


@pytest.mark.parametrize(("listen_only", "foreign"), [(False, [2, 3]), (True, [0, 0])])
def test_they_are_counted_on_both_buses_unless_bmsd_only_listens(
    tmp_path: Path, listen_only: bool, foreign: list[int]
) -> None:
    file = tmp_path / "rack.toml"
    text = demo_toml(1, 1, str(tmp_path / "field"), str(tmp_path / "inverter"), tmp_path)
    file.write_text(text.replace("[fieldbus]", f"[fieldbus]\nlisten_only = {str(listen_only).lower()}"))
    ready = checked(file)
    with (
        Hub(ready.settings.fieldbus.channel) as field,
        Hub(ready.settings.inverter.channel) as inverter,
        can.Bus(interface="unix", channel=field.path) as other,
        can.Bus(interface="unix", channel=inverter.path) as site,
    ):
        io, now_s, deadline = RackIO(ready), 100.0, time.monotonic() + 5.0
        io.open(now_s)
        while (field.clients, inverter.clients) != (2, 2) and time.monotonic() < deadline:
            time.sleep(0.001)
        for _ in range(2):
            other.send(can.Message(arbitration_id=HEARTBEAT.can_id, is_extended_id=True, data=HEARTBEAT.data))
        for _ in range(3):
            site.send(LIMITS)
        site.send(KEEPALIVE)
        while (io.field.counts.received, io.inverter.counts.received) != (2, 4) and time.monotonic() < deadline:
            io.receive(now_s)
        io.pace(now_s)
        snapshot = io.snapshot(now_s, Host(0.1, 0), (), (None, ClockQuality.UNKNOWN))
        assert snapshot.buses.foreign_frames.tolist() == foreign
        assert snapshot.inverter_age_s == 0.0, "its keep-alive is heard all the same"
        io.close()
