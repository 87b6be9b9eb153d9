"""The thermal model on what others measured: cooling fitted at 20 degC, met at 40 degC; and no false word of heat."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from bmsd.config import cell_file
from bmsd.core.estimation import estimators, predictor
from bmsd.core.estimation.soc import lost_v, stored
from bmsd.lab.cell_plant import plant
from bmsd.model.plant import EstimationSettings, Plant
from tests import rack
from tests.reference_data import reference

CELL = Path(__file__).parents[2] / "deploy" / "cells" / "a123-2ah.toml"
DISCHARGE = "k2_lfp26650/K2_Discharge_Test_{}C.npz"
ONCE, TWICE = (predictor.Resistance(np.full((1, 1, 1), k), np.full((1, 1, 1), 0.1)) for k in (1.0, 2.0))
MASS_J_PER_K = 85.0
"""76 g at 1.1 kJ/(kg K)."""
KAWAKITA = "kawakita_a123_thermal/a123_26650_2p5Ah_labdataset.npz"


@dataclass
class Met:
    """Once a second: surface and room, degC, and heat that the model knows of, K/s of the default heat capacity.

    The resistance is the cell's own, by its voltage between 20 and 80 %: a rack learns it from steps of the current.
    """

    degc: np.ndarray
    room_degc: np.ndarray
    heat: np.ndarray
    left_k: np.ndarray
    rate: np.ndarray


def met(name: str, surface: str, room: str, capacity_ah: float, soc: float) -> Met:
    """The estimators over this series; the cell is an A123 one of another size."""
    data = np.load(reference(name))
    t_s = data["t"] - data["t"][0]
    seconds = np.arange(0.0, t_s[-1], 1.0)
    amps, volts, degc, room_degc = (np.interp(seconds, t_s, data[key]) for key in ("i", "v", surface, room))
    spec = cell_file.load(CELL)
    cell: Plant = plant(spec, capacity_ah, EstimationSettings(0.01, 0.997, 0.003, 0.001))
    cell = replace(cell, thresholds=rack.THRESHOLDS)
    memory = estimators.of(cell, stored(cell, np.full((1, 1, 1), soc), np.full((1, 1, 1), 0.02)))
    calm, moved_as, found = rack.snapshot(cell, 100.0), 0.0, []
    for k in range(len(seconds)):
        moved_as -= amps[k]
        modules = replace(
            calm.modules, cell_v=np.full((1, 1, 1), volts[k]), temperature_degc=np.full((1, 1, 1), degc[k])
        )
        units = replace(calm.units, current_a=np.array([-amps[k]]), charge_as=np.array([moved_as]))
        snap = replace(calm, now_s=100.0 + k, modules=modules, units=units)
        memory, _ = estimators.step(cell, memory, snap, 1.0, np.ones(1, dtype=bool))
        residuals, state = memory.predictor.residuals, memory.soc
        lost = float(lost_v(state.tables, state.string_soc, units.current_a, state.polarisation)[0])
        found.append((
            *(predictor.heating(cell, units.current_a, memory.soc, ohms)[0][0, 0, 0] for ohms in (ONCE, TWICE)),
            float(memory.soc.string_soc[0]),
            residuals.cell_v[0, 0, 0] / lost if lost else np.nan,
            residuals.sensor_k[0, 0, 0],
            residuals.heating_k_per_min[0, 0, 0],
        ))  # fmt: skip
    once, twice, charge, share, left_k, rate = np.array(found).T
    factor = 1.0 + np.nanmedian(share[(charge > 0.2) & (charge < 0.8)])
    return Met(degc, room_degc, once + (factor - 1.0) * (twice - once), left_k, rate)


def modelled(of: Met, size: float, cooling_s: float) -> np.ndarray:
    """Temperature from the start on by heat and room alone, with nothing measured fed back."""
    degc = [of.degc[0]]
    for heat, room in zip(of.heat[:-1], of.room_degc[:-1], strict=True):
        degc.append(degc[-1] + heat / size + (room - degc[-1]) / cooling_s)
    return np.array(degc)


def rms(of: Met, size: float, cooling_s: float) -> float:
    return float(np.sqrt(np.mean(np.square(modelled(of, size, cooling_s) - of.degc))))


@pytest.fixture(scope="module")
def warm() -> dict[int, Met]:
    return {degc: met(DISCHARGE.format(degc), "Tbat_C", "Tamb_C", 2.6, 1.0) for degc in (20, 40)}


def test_the_cooling_of_20_degc_meets_the_discharge_at_40_degc(warm):
    """Weight of the cell, resistance by its voltage, entropy of another maker; a rise of 4 K, and of 2 K at 40 degC."""
    size = MASS_J_PER_K / (2.6 * predictor.HEAT_CAPACITY_J_PER_K_AH)
    cooling_s = min(range(200, 1000, 25), key=lambda seconds: rms(warm[20], size, seconds))
    found = {degc: rms(warm[degc], size, cooling_s) for degc in warm}
    still = {degc: float(np.sqrt(np.mean(np.square(of.degc - of.degc[0])))) for degc, of in warm.items()}
    assert 400 <= cooling_s <= 700
    assert found[20] < 0.35 < 0.2 * still[20]
    assert found[40] < 0.80 < 0.9 * still[40]


def test_nothing_of_it_is_heat_that_nothing_explains(warm):
    for of in (*warm.values(), met(KAWAKITA, "Ts_C", "Tf_C", 2.5, 0.99)):
        assert np.nanmax(of.left_k) < 0.5
        assert np.nanmax(of.rate) < 0.5
