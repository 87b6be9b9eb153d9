"""Cells that a laboratory measured, played back by simulated boards: through real CAN to the inverter's frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.reference_data import reference
from tests.vcan.slave_bus import identifier, signals
from tests.vcan.whole_rack import forbids, limits, room_s, running

pytestmark = pytest.mark.vcan


def test_measured_cells_reach_the_inverter(tmp_path: Path) -> None:
    """A charge pulse of an HPPC measurement drives the cells to 4.05 V: the bus shows it, and 0x351 follows."""
    file = reference("k2_lfp26650/HPPC_20C.npz")
    start_s, step_v = 184.0, 0.000625
    played = {"source": "k2_hppc_20c", "start_s": start_s, "scale": 10.0}
    with running(tmp_path, {"sim.playback": played}, least_a=0.0) as whole:
        whole.wait_for_current(lambda amps: amps > 50.0, within_s=30.0)
        whole.inverter.wait_for(forbids, within_s=8.0)
        whole.state_when(lambda now: "CEL-003" in {f.code for f in now.faults}, 8.0, "it goes on: the string trips")
        whole.state_when(lambda now: now.strings[0].state == "open", 8.0, "the string opens")
    with np.load(file) as data:
        volts = data["v"][int(start_s) : int(start_s) + 60]
    measured = np.rint(volts / step_v)
    frames = whole.field.of(identifier("CellVoltages2", 2))
    shown = np.array([signals(frame)["Cell8Voltage"] for frame in frames])
    on_the_bus = [v for k, v in enumerate(np.rint(shown / step_v)) if k == 0 or v != np.rint(shown[k - 1] / step_v)]
    assert len(on_the_bus) >= 12
    place = -1
    for value in on_the_bus:  # sample after sample, in the order and with the values of the file
        place = next(k for k in range(place + 1, len(measured)) if measured[k] == value)

    high_s = next(frame.at_s for frame, volt in zip(frames, shown, strict=True) if volt > 3.55)
    before = [frame for frame in whole.inverter.of(0x351) if frame.at_s < high_s]
    assert limits(before[-1]).ccl_a > 0.0
    zero_s = next(at_s for at_s, limit in whole.told(since_s=high_s) if limit.ccl_a == 0.0)
    assert zero_s - high_s < 0.5 + room_s(high_s, zero_s), "the bound acts on the first sample"
    assert all(limit.ccl_a == 0.0 for _, limit in whole.told(since_s=zero_s))
