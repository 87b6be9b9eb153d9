"""Cells of the twin as the estimators see them, with sensor errors, and a model of them as bmsd fit-cell makes it."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np

from bmsd.config.cell_file import Envelope, Specification
from bmsd.core.estimation import estimators, soc
from bmsd.core.estimation.estimators import EstimationMemory
from bmsd.lab.cell_plant import plant as plant_of
from bmsd.lab.fit import fit
from bmsd.lab.observe import calm
from bmsd.lab.series import Series
from bmsd.model.estimate import Estimate
from bmsd.model.layout import Layout
from bmsd.model.plant import Plant
from bmsd.sim.cell import CellParameters
from bmsd.sim.cells import Cells

CAPACITY_AH = 280.0
ENVELOPE = Envelope(min_v=2.5, max_v=3.65)
COUNT = 8
SHAPE = (1, 1, COUNT)
CLOSED, NO_BLEEDER = np.array([True]), np.zeros(SHAPE, dtype=bool)
ALL = np.array([True])


def cells(seed: int, at_soc: float, degc: float, *, size: float = 1.0, count: int = COUNT) -> Cells:
    """Cells with the spread of a string: 1 % of capacity, 5 % of resistance, 1 % of SoC."""
    kind = replace(CellParameters(), capacity_spread=0.01, resistance_spread=0.05)
    shape = (1, 1, count)
    return Cells(shape, kind, at_soc, 0.01, degc, seed, capacity_ah=size * CAPACITY_AH)


def drive(seed: int, seconds: int, mean_a: float, step_s: int = 10) -> np.ndarray:
    """A current in A for every second: steps of some seconds around a mean, as of a site with a cloudy sky."""
    draw = np.random.default_rng(seed)
    steps = mean_a + 100.0 * draw.standard_normal(seconds // step_s + 1)
    return np.repeat(steps, step_s)[:seconds]


def measured(of: Cells, amps: np.ndarray, dt_s: float, name: str) -> Series:
    """The first cell under this current, as a laboratory would log it."""
    volts, degc, soc = (np.empty(len(amps)) for _ in range(3))
    for k, amp in enumerate(amps):
        of.step(dt_s, np.array([amp]), CLOSED, np.zeros(of.cell_v.shape, dtype=bool))
        volts[k], degc[k], soc[k] = of.cell_v[0, 0, 0], of.temperature_degc[0, 0, 0], of.soc[0, 0, 0]
    # the voltage is that at the end of its step
    return Series(name, dt_s * np.arange(1.0, len(amps) + 1.0), amps, volts, degc, np.clip(soc, 0.0, 1.0), (), ())


@cache
def fitted() -> Specification:
    """A model from slow tests and a drive of two hours of one cell at 25 degC."""
    alike = CellParameters().alike()

    def one(at_soc: float) -> Cells:
        return Cells((1, 1, 1), alike, at_soc, 0.0, 25.0, 1)

    slow_a = CAPACITY_AH / 30.0
    ways = [(1.0, -slow_a, "discharge"), (0.0, slow_a, "charge")]
    slow = [replace(measured(one(z), np.full(1800, amps), 60.0, name), soc=None) for z, amps, name in ways]
    amps = drive(5, 4 * 3600, -55.0)
    return Specification(fit(slow, [measured(one(0.92), amps, 1.0, "drive")], "twin")[0], ENVELOPE)


class Bench:
    """Cells of the twin and the estimators that see them through sensors with offset, gain, noise and steps of 1 mV."""

    def __init__(
        self, of: Cells, specification: Specification, seed: int, *, gain: float = 0.0, offset_c: float = 0.0,
        sigma: float = 0.02,
    ) -> None:  # fmt: skip
        self.cells, self.draw = of, np.random.default_rng(seed)
        shape = of.cell_v.shape
        self.plant: Plant = replace(plant_of(specification, CAPACITY_AH), layout=Layout(1, 1, shape[2], 1))
        self.gain, self.offset_a = gain, offset_c * CAPACITY_AH
        self.channel_v = 0.001 * self.draw.standard_normal(shape)
        told = np.clip(of.soc + sigma * self.draw.standard_normal(), 0.0, 1.0)
        start = soc.stored(self.plant, told, np.full(shape, sigma))
        self.memory: EstimationMemory = estimators.of(self.plant, start)
        self.blank = calm(self.plant, np.zeros(shape))
        self.now_s, self.counted_as = 0.0, 0.0
        self.none = np.zeros(shape, dtype=bool)

    def step(self, amps: float, dt_s: float = 1.0) -> Estimate:
        """Let this current flow for one step, and see it."""
        self.cells.step(dt_s, np.array([amps]), CLOSED, self.none)
        seen_a = amps * (1.0 + self.gain) + self.offset_a
        self.now_s += dt_s
        self.counted_as += seen_a * dt_s
        noise = 0.0005 * self.draw.standard_normal(self.channel_v.shape)
        volts = np.round(self.cells.cell_v + self.channel_v + noise, 3)
        degc = np.full((1, 1, 1), self.cells.temperature_degc.mean())
        snapshot = replace(
            self.blank,
            now_s=self.now_s,
            modules=replace(self.blank.modules, cell_v=volts, temperature_degc=degc),
            units=replace(self.blank.units, current_a=np.array([seen_a]), charge_as=np.array([self.counted_as])),
        )
        self.memory, known = estimators.step(self.plant, self.memory, snapshot, dt_s, ALL)
        return known
