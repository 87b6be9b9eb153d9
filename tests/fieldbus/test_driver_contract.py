"""What every driver of slave boards must do: recorded frames in, arrays out; whatever comes, nothing is raised.

A driver brings `recorded/<driver>.log`, lines of `candump -L` with bmsd's own SYNCs or requests among them, and
`recorded/<driver>.json`: the layout, the identifier of what was asked, and values as a person read them from the log;
for mapped boards also the configuration with their map.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bmsd.config.described import settings as settings_known
from bmsd.config.load import board_map, load
from bmsd.errors import ConfigError
from bmsd.fieldbus.drivers.mapped.plan import plan
from bmsd.fieldbus.receive import BoardReceiver, driver_names, receiver
from bmsd.model.frame import EXTENDED_FLAG, RAW_FRAME
from bmsd.model.layout import Layout
from bmsd.model.plant import Timing
from bmsd.model.snapshot import Modules, Units

ROOT = Path(__file__).parents[2]
RECORDED = Path(__file__).parent / "recorded"
TIMING = Timing(tick_s=0.1, poll_s=0.2, current_phases=4)


def story(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((RECORDED / f"{name}.json").read_text())
    return loaded


def built(name: str) -> BoardReceiver:
    """A receiver of this driver for the rack of its story."""
    told = story(name)
    layout = Layout(**told["layout"])
    if "map" not in told:
        return receiver(name, layout, TIMING)
    file = ROOT / told["map"]
    return receiver(name, layout, TIMING, plan(board_map(load(file).fieldbus.mapped, file.parent), layout, {}))


def play(name: str, heard: BoardReceiver) -> float:
    """Feed a recorded log frame by frame; return the time of its last frame."""
    sync_id, now_s = int(story(name)["sync_id"], 16), 0.0
    for line in (RECORDED / f"{name}.log").read_text().splitlines():
        stamp, _, frame = line.split()
        now_s = float(stamp.strip("()"))
        can_id, _, data = frame.partition("#")
        if int(can_id, 16) == sync_id:
            number, phase_and_group = bytes.fromhex(data).ljust(2, b"\0")[:2]
            heard.sync_sent(number, phase_and_group & 3, phase_and_group >> 4, now_s)
            continue
        flag = EXTENDED_FLAG if len(can_id) == 8 else 0
        word = int.from_bytes(bytes.fromhex(data), "little")
        heard.feed(np.array([(int(can_id, 16) | flag, len(data) // 2, 0, word)], dtype=RAW_FRAME), now_s)
    return now_s


@pytest.mark.parametrize("name", driver_names())
def test_recorded_frames_become_arrays(name: str) -> None:
    told = story(name)
    heard = built(name)
    now_s = play(name, heard)
    for part, wanted in ((heard.modules(now_s), told["modules"]), (heard.units(now_s), told["units"])):
        assert wanted
        for field, values in wanted.items():
            values = np.array(values, dtype=float)
            np.testing.assert_allclose(getattr(part, field), values, rtol=0, atol=1e-9, err_msg=field)
    assert heard.missing(now_s) == told["missing"]


@pytest.mark.parametrize("name", driver_names())
def test_arrays_have_the_shapes_of_the_layout_before_and_after(name: str) -> None:
    layout = Layout(**story(name)["layout"])
    heard = built(name)
    for now_s in (0.0, play(name, heard)):
        modules, units = heard.modules(now_s), heard.units(now_s)
        shapes = {"cell_v": layout.cell_shape, "cell_reading": layout.cell_shape, "balancing": layout.cell_shape}
        shapes |= {"temperature_degc": layout.sensor_shape, "temperature_reading": layout.sensor_shape}
        for field in Modules.__slots__:
            assert getattr(modules, field).shape == shapes.get(field, layout.module_shape), field
        for field in Units.__slots__:
            inputs = (layout.strings, 6)
            assert getattr(units, field).shape == (inputs if field == "inputs" else (layout.strings,)), field


@pytest.mark.parametrize("name", driver_names())
@settings(max_examples=50, deadline=None)
@given(junk=st.binary(max_size=16 * 40), group=st.integers(0, 15), phase=st.integers(0, 3))
def test_random_bytes_never_raise(name: str, junk: bytes, group: int, phase: int) -> None:
    heard = built(name)
    heard.sync_sent(1, phase, group, 0.0)
    heard.feed(np.frombuffer(junk[: len(junk) // 16 * 16], dtype=RAW_FRAME), 0.05)
    heard.sync_sent(2, 0, 0, 0.2)
    modules, units = heard.modules(0.2), heard.units(0.2)
    assert np.isnan(modules.cell_v).all()
    assert np.isnan(units.current_a).all()
    assert heard.missing(0.2)


def test_every_driver_can_be_configured() -> None:
    assert sorted(settings_known()["fieldbus.driver"].choices) == driver_names()


def test_an_unknown_driver_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="slave"):
        receiver("nonsense", Layout(1, 1, 16, 4), TIMING)
