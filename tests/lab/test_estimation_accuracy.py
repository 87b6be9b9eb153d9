"""State of charge, offset and capacity against measured series that the cell was not fitted on, with margin."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from bmsd.config.cell_file import Envelope, Specification
from bmsd.lab.cell_plant import sheet
from bmsd.lab.estimate import Start
from bmsd.lab.fit import fit
from bmsd.lab.series import Series
from tests.lab import measured_series as data
from tests.lab.charge_states import charge_states

ENVELOPE = Envelope(min_v=2.0, max_v=3.65)


@cache
def a123() -> Specification:
    """Fitted at 25 degC alone, slow tests included."""
    return Specification(fit(data.plett_ocv(25), [data.plett_dynamic(25)[0]], "A123")[0], ENVELOPE)


@cache
def prada() -> Specification:
    """Fitted on the series with hysteresis."""
    slow, dynamic, _ = data.prada("hyst")
    return Specification(fit(slow, [dynamic], "Prada2013")[0], ENVELOPE)


def run(cell: Specification, series: Series, capacity_ah: float, start: Start):
    """Error of the SoC, its sigma, offset in A, capacity over the one told."""
    rows = charge_states(cell, capacity_ah, series, start)
    return rows[:, 0] - series.soc, rows[:, 1], rows[:, 2], rows[:, 3]


def rms(error) -> float:
    return float(np.sqrt(np.mean(np.square(error))))


def inside(error, sigma) -> float:
    return float(np.mean(np.abs(error) <= 2.0 * sigma))


@pytest.mark.parametrize(("degc", "part"), [(5, "s1"), (45, "s3")])
def test_a_cell_fitted_at_25_degc_is_known_from_knee_to_knee_at_temperatures_it_never_saw(degc, part):
    series, capacity_ah = data.plett_slow(degc, part)
    series = data.thinned(series, 60.0)
    error, sigma, _, _ = run(a123(), series, capacity_ah, Start())
    assert rms(error) < 0.03
    assert np.abs(error[series.t_s > 600.0]).max() < 0.05
    assert np.abs(error[(series.t_s > 600.0) & (series.t_s < 3600.0)]).max() < 0.02, "it starts at a knee"
    assert inside(error, sigma) >= 0.95


@pytest.mark.parametrize(("bias_c", "told"), [(0.01, 1.0), (-0.01, 1.0), (0.0, 1.1)])
def test_two_anchors_tell_the_offset_of_the_current_sensor_from_a_wrong_capacity(bias_c, told):
    """From full to empty to full at 15 degC, the cell fitted at 25 degC."""
    series, capacity_ah = data.plett_day(15)
    series = data.thinned(series, 20.0)
    series = replace(series, current_a=series.current_a + bias_c * capacity_ah)
    error, sigma, bias_a, size = run(a123(), series, told * capacity_ah, Start(1.0, 0.02))
    assert bias_a[-1] / capacity_ah == pytest.approx(bias_c, abs=0.002)
    assert size[-1] * told == pytest.approx(1.0, abs=0.03)
    assert rms(error) < 0.02
    assert inside(error, sigma) >= 0.95


def test_a_load_near_empty_is_not_taken_for_an_empty_cell():
    """The physics of porous electrodes: at 1 C the surface of the particles is 10 % emptier than their mean."""
    _, series, capacity_ah = data.prada("nohyst")
    error, sigma, _, _ = run(prada(), data.thinned(series, 10.0), capacity_ah, Start(float(series.soc[0]), 0.02))
    assert np.abs(error).max() < 0.04
    assert inside(error, sigma) >= 0.95


def test_the_model_of_a_sister_cell_is_noticed():
    series = data.thinned(data.first(data.flat_zone(), 0.5), 20.0)
    error, sigma, _, _ = run(a123(), series, 1.2, Start(0.2, 0.02))
    assert inside(error, sigma) >= 0.95
    assert sigma.max() > 0.04


def test_a_cell_of_another_size_has_other_resistances_and_an_aged_one_has_not():
    model = a123().model
    twice, aged = (sheet(a123(), share * model.capacity_ah).model for share in (2.0, 0.85))
    np.testing.assert_allclose(twice.r0_ohm, 0.5 * model.r0_ohm)
    np.testing.assert_allclose(aged.r0_ohm, model.r0_ohm)


def test_single_wrong_voltages_are_no_knees():
    """One reading in a hundred is that of a full or an empty cell."""
    series, capacity_ah = data.plett_dynamic(15)
    series = data.thinned(series, 20.0)
    volts = series.voltage_v.copy()
    volts[50::100] = np.resize([4.05, 2.0, 3.7], len(volts[50::100]))
    error, sigma, _, _ = run(a123(), replace(series, voltage_v=volts), capacity_ah, Start(1.0, 0.02))
    assert np.abs(error).max() < 0.06
    assert inside(error, sigma) >= 0.95
