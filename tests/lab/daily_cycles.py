"""A string of the twin's cells under sun and load, with the estimators and the balancing of the core; no contactors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bmsd.config.load import checked, plant
from bmsd.core import balancing
from bmsd.core.derate import share
from bmsd.core.estimation import estimators
from bmsd.lab.observe import calm
from bmsd.model.balancing import Balancing
from bmsd.model.snapshot import Floats, Snapshot
from bmsd.sim.cell import CellParameters
from bmsd.sim.cells import Cells

STEP_S = 60.0
ALL = np.array([True])


def configuration(cells: int, capacity_ah: float) -> dict[str, dict[str, object]]:
    amps = 0.5 * capacity_ah
    return {
        "rack": {"name": "string"},
        "layout": {"strings": 1, "modules_per_string": 1, "cells_per_module": cells, "sensors_per_module": 1},
        "cell": {
            "chemistry": "lfp", "capacity_ah": capacity_ah, "max_v": 3.65, "min_v": 2.5, "charge_max_a": amps,
            "discharge_max_a": amps, "charge_min_degc": 0.0, "charge_max_degc": 55.0, "discharge_min_degc": -20.0,
            "discharge_max_degc": 60.0, "resistance_ohm": 0.1 / capacity_ah,
        },
        "string": {"fuse_a": 2.0 * amps, "contactor_a": 2.0 * amps, "contactor_break_a": 4.0 * amps},
        "fieldbus": {"interface": "unix", "channel": "/nowhere/field"},
        "inverter": {"interface": "unix", "channel": "/nowhere/inverter", "profile": "pylontech_lv",
                     "options": {"voltage_scale": 0.1}},
    }  # fmt: skip


class Days:
    """Half a day of sun, six hours of load, six of rest; boards with offsets of 1 mV and noise of 0.3 mV."""

    def __init__(self, capacity_ah: float, cells: int, ahead: dict[int, float], short_ohm: dict[int, float]) -> None:
        """`ahead`: charge that a cell has more than the others, in capacities; `short_ohm`: its soft short."""
        self.plant = plant(checked(configuration(cells, capacity_ah)))
        parameters = replace(
            CellParameters.scaled(capacity_ah, 0.01, 0.05), self_discharge_per_month=0.01, self_discharge_spread=0.3,
            coulombic_efficiency=0.9995, bleeder_ohm=self.plant.balance.bleed_ohm,
        )  # fmt: skip
        shape = self.plant.layout.cell_shape
        self.cells = Cells(shape, parameters, 0.6, 0.0, 25.0, 1, slow_s=300.0)
        for cell, part in ahead.items():
            self.cells.charge_as[0, 0, cell] += part * capacity_ah * 3600.0
        self.cells._settle()
        leak_s = np.zeros(shape)
        for cell, ohm in short_ohm.items():
            leak_s[0, 0, cell] = 1.0 / ohm
        self.cells.leak(leak_s)
        self._chance = np.random.default_rng(7)
        self._offset_v = 0.001 * self._chance.standard_normal(shape)
        self._calm = calm(self.plant, self.cells.cell_v)
        self._charge_share, self._counted_as = 1.0, 0.0
        self.bleeding = np.zeros(shape, dtype=bool)
        self.memory = estimators.start(self.plant)
        self.time_s = 0.0

    @property
    def known(self) -> Balancing:
        return self.memory.ledger.balancing

    @property
    def missing_ah(self) -> Floats:
        """True charge that is missing to full, of each cell."""
        return (self.cells.capacity_as - self.cells.charge_as)[0, 0] / 3600.0

    def step(self) -> None:
        amps = self._amps()
        self.cells.step(STEP_S, np.array([amps]), ALL, self.bleeding)
        self.time_s += STEP_S
        self._counted_as += amps * STEP_S
        snapshot = self.snapshot(amps)
        self.memory, now = estimators.step(self.plant, self.memory, snapshot, STEP_S, ALL)
        emptier = now.cell_soc - now.cell_soc_sigma
        self.bleeding = balancing.balance(self.plant, snapshot, ALL, now.balancing, emptier)
        self.memory = estimators.told(self.memory, self.bleeding)

    def snapshot(self, amps: float = 0.0) -> Snapshot:
        noise_v = 0.0003 * self._chance.standard_normal(self._offset_v.shape)
        modules = replace(self._calm.modules, cell_v=self.cells.cell_v + self._offset_v + noise_v)
        counted_as = np.array([self._counted_as])
        units = replace(self._calm.units, current_a=np.array([amps]), charge_as=counted_as)
        return replace(self._calm, now_s=self.time_s, modules=replace(modules, balancing=self.bleeding), units=units)

    def _amps(self) -> float:
        hour, capacity_ah = self.time_s / 3600.0 % 24.0, self.plant.cell.capacity_ah
        if hour >= 12.0:
            self._charge_share = 1.0
            return -0.12 * capacity_ah if hour < 18.0 else 0.0
        curve, highest_v = self.plant.limits.charge_by_cell_v, self.cells.cell_v.max()
        allowed = float(share(curve, np.array([highest_v]))[0])
        self._charge_share = allowed if highest_v <= curve.x[0] - 0.03 else min(allowed, self._charge_share)
        emf_v, ohm = self.cells.thevenin(STEP_S)
        held_a = (self.plant.charge.absorption_v * self.plant.layout.cells_in_series - emf_v[0]) / ohm[0]
        sun_a = 0.25 * capacity_ah * np.sin(np.pi * hour / 12.0)
        return float(max(min(sun_a, self._charge_share * self.plant.string_charge_max_a, held_a), 0.0))
