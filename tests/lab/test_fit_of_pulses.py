"""What pulses need of a cell: its first seconds are fitted, a fast branch is no rest voltage, and power holds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bmsd.lab.fit import fit
from bmsd.sim.cell import CellParameters, half_gap_v, ocv_v
from bmsd.sim.cells import Cells
from tests.bench import power_accuracy
from tests.bench.twin_cells import CAPACITY_AH, measured
from tests.lab import measured_series as data
from tests.lab.test_fit_and_estimate import a123

KIND = CellParameters().alike()


def cell(soc: float) -> Cells:
    return Cells((1, 1, 1), KIND, soc, 0.0, 25.0, 1)


def pulses_and_rests() -> np.ndarray:
    """Pulses of 10 s, then a tenth of the charge and a rest, eight times, a value for every 2 s."""
    pulse, slow_a = 2.0 * CAPACITY_AH, 0.6 * CAPACITY_AH
    parts = ((-pulse, 5), (0.0, 20), (pulse, 5), (0.0, 20), (-slow_a, 300), (0.0, 750))
    return np.concatenate([np.full(count, amps) for amps, count in parts * 8])


def test_a_cell_whose_only_branch_is_a_fast_discharge_gets_its_rest_voltage_and_its_resistance():
    fast = replace(measured(cell(1.0), np.full(358, -CAPACITY_AH), 10.0, "1C"), soc=None)
    hppc = measured(cell(0.95), pulses_and_rests(), 2.0, "pulses")
    model, _, groups = fit([fast], [hppc], "fast", CAPACITY_AH)
    assert groups[0].rate_c == pytest.approx(1.0, abs=0.02)
    soc = np.array([0.3, 0.5, 0.7])
    lower_v = np.interp(soc, np.linspace(0.0, 1.0, 201), model.mid_v[0] - model.half_v[0])
    np.testing.assert_allclose(lower_v, ocv_v(soc) - half_gap_v(soc), atol=0.012)
    r10 = model.r0_ohm[0, 100] + model.rc_ohm[0] @ (1.0 - np.exp(-10.0 / model.rc_tau_s))
    truth = KIND.r0_ohm + np.array(KIND.rc_ohm) @ (1.0 - np.exp(-10.0 / np.array(KIND.rc_tau_s)))
    warm = np.exp(KIND.activation_k * (1.0 / (model.resistance_degc[0] + 273.15) - 1.0 / 298.15))
    assert model.resistance_degc[0] > 27.0, "the pulses heat the cell"
    assert r10 == pytest.approx(truth * warm, rel=0.02)


def test_pulses_at_15_degc_end_where_a_model_of_25_degc_says_and_the_power_would_not_have_gone_further():
    series, capacity_ah = data.plett_dynamic(15)
    pulses, _ = power_accuracy.run(a123(25), data.first(series, 0.12), capacity_ah)
    pulses = pulses.where(pulses.soc < 0.95)
    assert len(pulses.soc) > 15
    assert np.sqrt(np.mean(pulses.error_v**2)) < 0.005
    assert np.mean(pulses.part <= 1.0) >= 0.95
    assert np.median(pulses.part) > 0.75


def test_a_resistance_that_is_added_to_measured_voltages_is_found():
    """10 mohm more from the middle on, a loose joint: all ohmic, where the factor takes it for some of each pair."""
    series, capacity_ah = data.plett_dynamic(15)
    series = data.first(series, 0.12)
    loose = replace(series, voltage_v=series.voltage_v + 0.010 * series.current_a * (np.arange(len(series.t_s)) > 3000))
    before = power_accuracy.run(a123(25), series, capacity_ah)[1][-1]
    after = power_accuracy.run(a123(25), loose, capacity_ah)[1][-1]
    assert 0.0095 < after - before < 0.0140


def test_fast_branches_at_another_temperature_than_the_rests_make_no_rest_voltage_of_their_own() -> None:
    slow = [one for degc in (20, 40) for one in data.k2_discharge(degc)]
    model, _, _ = fit(slow, [data.thinned(data.k2_pulses(40)[0], 5.0)], "K2")
    assert len(model.ocv_degc) == 1
    assert abs(model.ocv_degc[0] - 40.0) < 3.0
