"""How what is becomes what is measured: gain and offset of every channel, noise, the steps of the converter.

Errors of a channel are drawn once, from normal distributions with the standard deviations given; noise is drawn at
every reading. The steps are those of the slave protocol.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bmsd.model.layout import Layout
from bmsd.model.snapshot import Floats, Ints


@dataclass(frozen=True)
class SensorParameters:
    """Standard deviations of offsets, gains (share of the value) and noise; steps of the converters. 0: none.

    Where a `_bias` is given it is the same for all channels of that kind, and known: for tests of estimators.
    """

    cell_offset_v: float = 0.001
    cell_gain: float = 0.0003
    cell_noise_v: float = 0.0005
    cell_step_v: float = 0.000625
    temperature_offset_k: float = 0.5
    temperature_noise_k: float = 0.05
    temperature_step_k: float = 0.05
    current_offset_a: float = 0.1
    current_bias_a: float = 0.0
    current_gain: float = 0.002
    current_noise_a: float = 0.05
    current_step_a: float = 0.02
    voltage_gain: float = 0.001
    voltage_noise_v: float = 0.005
    voltage_step_v: float = 0.002

    @classmethod
    def perfect(cls) -> SensorParameters:
        """Return sensors without any error."""
        return cls(*(0.0,) * 15)


def sensor_cell(layout: Layout) -> Ints:
    """Return the cell of the module, from 0, on which each temperature sensor sits: evenly over all."""
    return ((np.arange(layout.sensors) + 0.5) * layout.cells / layout.sensors).astype(np.int64)


class Channel:
    """All channels of one kind."""

    def __init__(
        self, shape: tuple[int, ...], offset: float, gain: float, noise: float, step: float, draw: np.random.Generator
    ) -> None:
        self.offset: Floats = offset * draw.standard_normal(shape)
        self.gain: Floats = 1.0 + gain * draw.standard_normal(shape)
        self._noise, self._step, self._draw = noise, step, draw

    def read(self, true: Floats) -> Floats:
        """Return what these channels say of the true values."""
        seen: Floats = true * self.gain + self.offset
        if self._noise > 0.0:
            seen += self._noise * self._draw.standard_normal(seen.shape)
        if self._step > 0.0:
            seen *= 1.0 / self._step
            np.rint(seen, out=seen)
            seen *= self._step
        return seen


class Sensors:
    """Every sensor of a rack: cells, temperatures, string currents, and three voltages per string."""

    def __init__(
        self, cells: tuple[int, int, int], sensors: tuple[int, int, int], parameters: SensorParameters, seed: int
    ) -> None:
        p, draw = parameters, np.random.default_rng([seed, 0x5E])
        strings = cells[:1]
        self.cell = Channel(cells, p.cell_offset_v, p.cell_gain, p.cell_noise_v, p.cell_step_v, draw)
        self.temperature = Channel(
            sensors, p.temperature_offset_k, 0.0, p.temperature_noise_k, p.temperature_step_k, draw
        )
        self.current = Channel(strings, p.current_offset_a, p.current_gain, p.current_noise_a, p.current_step_a, draw)
        self.current.offset += p.current_bias_a
        self.module = Channel(cells[:2], 0.0, p.voltage_gain, p.voltage_noise_v, p.voltage_step_v, draw)
        self.string = Channel(strings, 0.0, p.voltage_gain, p.voltage_noise_v, p.voltage_step_v, draw)
        self.bus = Channel(strings, 0.0, p.voltage_gain, p.voltage_noise_v, p.voltage_step_v, draw)
