from __future__ import annotations

import numpy as np
import pytest

from bmsd.model.layout import Layout
from bmsd.sim.boards import ModuleBoardSettings
from bmsd.sim.own_limits import OwnLimits
from bmsd.sim.sensors import Channel, SensorParameters, Sensors

CELLS, DEGC = (2, 8, 16), (2, 8, 4)


def channel(**errors: float) -> Channel:
    given = {"offset": 0.0, "gain": 0.0, "noise": 0.0, "step": 0.0, **errors}
    return Channel((4000,), draw=np.random.default_rng(1), **given)


def test_perfect_sensors_say_what_is() -> None:
    sensors = Sensors(CELLS, DEGC, SensorParameters.perfect(), 1)
    true_v = np.random.default_rng(2).uniform(2.5, 3.6, CELLS)
    assert (sensors.cell.read(true_v) == true_v).all()
    assert (sensors.current.read(np.array([17.0, -3.0])) == [17.0, -3.0]).all()


def test_offset_and_gain_belong_to_the_channel_and_stay() -> None:
    worn = channel(offset=0.01, gain=0.001)
    first, again = worn.read(np.full(4000, 3.0)), worn.read(np.full(4000, 3.0))
    assert (first == again).all()
    assert first.std() == pytest.approx(np.hypot(0.01, 0.003), rel=0.05)
    assert first.mean() == pytest.approx(3.0, abs=1e-3)


def test_noise_is_new_every_time() -> None:
    noisy = channel(noise=0.02)
    first, again = noisy.read(np.zeros(4000)), noisy.read(np.zeros(4000))
    assert first.std() == pytest.approx(0.02, rel=0.05)
    assert abs(np.corrcoef(first, again)[0, 1]) < 0.1


def test_a_converter_knows_only_its_steps() -> None:
    seen = channel(step=0.02).read(np.linspace(-1.0, 1.0, 4000))
    assert seen / 0.02 == pytest.approx(np.rint(seen / 0.02))
    assert np.abs(seen - np.linspace(-1.0, 1.0, 4000)).max() <= 0.01 + 1e-12


def test_a_bias_is_the_same_for_every_string() -> None:
    errors = SensorParameters.perfect()
    sensors = Sensors(CELLS, DEGC, SensorParameters(*(0.0,) * 8, 0.7, *(0.0,) * 6), 1)
    assert errors.current_bias_a == 0.0
    assert sensors.current.read(np.array([10.0, -10.0])).tolist() == pytest.approx([10.7, -9.3])


LAYOUT = Layout(2, 2, 4, 2)
CALM_V, CALM_DEGC, NO_A = np.full((2, 2, 4), 3.3), np.full((2, 2, 2), 25.0), np.zeros(2)


def own() -> OwnLimits:
    return OwnLimits(LAYOUT, ModuleBoardSettings(), 300.0)


def test_a_board_trips_after_its_delay_and_opens_every_string() -> None:
    limits, high_v = own(), CALM_V.copy()
    high_v[1, 0, 2] = 3.76
    for _ in range(9):
        limits.step(0.1, high_v, CALM_DEGC, NO_A)
    assert not limits.open.any()
    limits.step(0.11, high_v, CALM_DEGC, NO_A)
    assert limits.open.all()
    assert limits.module_code.tolist() == [[0, 0], [1, 0]]


def test_a_dip_restarts_the_delay() -> None:
    limits, hot = own(), CALM_DEGC.copy()
    hot[0, 0, 0] = 65.1
    for _ in range(3):
        limits.step(0.6, CALM_V, hot, NO_A)
        if limits.open.any():
            break
        limits.step(0.1, CALM_V, CALM_DEGC, NO_A)
    assert not limits.open.any()


def test_too_much_current_opens_its_own_string_only() -> None:
    limits = own()
    limits.step(0.1, CALM_V, CALM_DEGC, np.array([0.0, -301.0]))
    assert limits.open.tolist() == [False, True]


def test_a_reset_releases_only_what_is_over() -> None:
    limits, low_v = own(), CALM_V.copy()
    low_v[0, 1, 0] = 2.3
    limits.step(2.0, low_v, CALM_DEGC, NO_A)
    limits.inputs(np.array([True, False]), np.array([False, False]))
    limits.reset()
    assert limits.open.all(), "the cell is still low and the button pressed"
    limits.step(0.1, CALM_V, CALM_DEGC, NO_A)
    limits.reset()
    assert limits.open.all(), "the button is still pressed"
    limits.inputs(np.array([False, False]), np.array([False, False]))
    limits.reset()
    assert not limits.open.any()
