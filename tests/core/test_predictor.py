"""What nothing explains: kelvins and volts that the predictor leaves over, and what the rows make of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bmsd.core.estimation import estimators, predictor
from bmsd.core.estimation.estimators import EstimationMemory
from bmsd.core.estimation.predictor import Residuals
from bmsd.model.plant import Plant
from bmsd.model.request import Reset, Role
from tests import rack

PLANT = rack.plant(modules=2)
OPENING = {"TMP-006", "TMP-015", "TMP-016", "TMP-024"}


class Looks:
    """Look after look of the predictor at what sensors and cells show; with a current, of all estimators."""

    def __init__(self, plant: Plant = PLANT) -> None:
        self.plant, self.moved_as = plant, 0.0
        self.memory: EstimationMemory = rack.knowing(plant, 0.5, 0.02)
        self.calm = rack.snapshot(plant, 100.0)

    def look(self, dt_s: float = 1.0, amps: float | None = None, **values: Any) -> Residuals:
        """`amps` None: none flows, and the estimate of the charge stands still."""
        before, calm = self.memory, self.calm
        given = {name: np.broadcast_to(value, getattr(calm.modules, name).shape) for name, value in values.items()}
        snap = replace(calm, modules=replace(calm.modules, **given))
        if amps is None:
            ohms = predictor.Resistance(before.resistances.factor, before.resistances.sigma)
            seen = predictor.step(self.plant, before.predictor, snap, before.soc, ohms, dt_s)
            self.memory = replace(before, predictor=seen)
        else:
            self.moved_as += 0.0 if np.isnan(amps) else amps * dt_s
            units = replace(snap.units, current_a=np.array([amps]), charge_as=np.array([self.moved_as]))
            snap = replace(snap, units=units, now_s=snap.now_s + dt_s)
            self.memory, _ = estimators.step(self.plant, before, snap, dt_s, np.ones(1, dtype=bool))
        return self.memory.predictor.residuals

    def warm(self, seconds: int, k_per_min: float, sensor: tuple[int, ...] = (0, 0, 1), **values: Any) -> Residuals:
        """One sensor rises from 25 degC at this rate."""
        for second in range(seconds):
            known = self.look(temperature_degc=sensors(k_per_min * (second + 1) / 60.0, sensor), **values)
        return known


def sensors(above_k: float, where: tuple[int, ...] = (0, 0, 1)) -> np.ndarray:
    degc = np.full(PLANT.layout.sensor_shape, 25.0)
    degc[where] += above_k
    return degc


def test_what_heats_slower_than_sun_and_fans_can_is_followed_and_what_is_faster_is_left_over():
    slow, fast = Looks().warm(1800, 0.15), Looks().warm(300, 2.0)
    assert np.nanmax(slow.sensor_k) < 0.3
    assert fast.sensor_k[0, 0, 1] == pytest.approx(4 * (2.0 - 0.2) + 2.0, abs=1.0)
    assert np.nanmax(np.delete(fast.sensor_k.ravel(), 1)) < 0.1
    assert fast.heating_k_per_min[0, 0, 1] == pytest.approx(2.0, abs=0.2)


def test_a_fire_of_hours_is_never_explained_away():
    """Half a kelvin a minute for an hour: what is followed in that time is 0.2 K/min and no more."""
    known = Looks().warm(3600, 0.5)
    assert known.sensor_k[0, 0, 1] > 60 * (0.5 - 0.2) - 1.5


def test_what_the_current_heats_is_explained():
    """140 A in 0.3 mohm (10 s) and more for longer: about 0.1 K/min of a mass of 5.4 kJ/K, and the reversible heat."""
    looks = Looks()
    heat = 0.0
    for _ in range(900):
        model = looks.memory.soc
        ohms = predictor.Resistance(looks.memory.resistances.factor, looks.memory.resistances.sigma)
        rate, _ = predictor.heating(PLANT, np.array([140.0]), model, ohms)
        heat += float(rate[0, 0, 0])
        known = looks.look(amps=140.0, temperature_degc=25.0 + heat)
    assert 1.0 < heat < 6.0
    assert np.nanmax(np.abs(known.sensor_k)) < 0.3


def test_a_whole_rack_that_the_sun_warms_by_10_k_an_hour_has_nothing_left_over():
    looks = Looks()
    most = max(float(np.nanmax(looks.look(10.0, temperature_degc=20.0 + k / 36.0).sensor_k)) for k in range(1440))
    assert most < 0.5


@pytest.mark.parametrize(("noise_k", "step_k"), [(0.5, 1.0), (0.02, 1.0), (0.05, 0.05)])
def test_noise_and_steps_of_sensors_warn_of_nothing(noise_k, step_k):
    """An hour of 128 sensors of a rack that the sun warms as well."""
    plant = rack.plant(modules=16, cells=8, sensors=8)
    looks, draw = Looks(plant), np.random.default_rng(7)
    kelvins, rate = [], []
    for second in range(3600):
        true = 25.3 + second / 360.0 + noise_k * draw.standard_normal(plant.layout.sensor_shape)
        known = looks.look(temperature_degc=step_k * np.rint(true / step_k))
        kelvins.append(np.nanmax(known.sensor_k))
        rate.append(known.heating_k_per_min)
    assert max(kelvins) < 1.4
    held = np.array(rate[60:]) > 1.0
    longest = max(int(held[k : k + 30].all(axis=0).sum()) for k in range(len(held) - 30))
    assert longest == 0, "no rate of 1 K/min lasts for 30 s"


def test_a_step_of_a_sensor_is_no_heat_and_a_wire_that_comes_back_neither():
    looks = Looks()
    looks.warm(120, 0.0)
    for above_k in (30.0, 0.0, 30.0):
        for _ in range(60):
            known = looks.look(temperature_degc=sensors(above_k))
            assert not known.sensor_k[0, 0, 1] > 0.5
            assert not known.heating_k_per_min[0, 0, 1] > 0.5


def test_a_sensor_that_is_not_known_hides_no_heat_for_longer_than_it_is_away():
    """It rises by 2 K/min and is away every second minute."""
    looks = Looks()
    for second in range(360):
        known = looks.look(temperature_degc=sensors(np.nan if second // 60 % 2 else 2.0 * second / 60.0))
        if second == 90:
            assert np.isnan(known.sensor_k[0, 0, 1]), "unknown is not cool"
    known = looks.look(temperature_degc=sensors(12.0))
    for _ in range(40):
        known = looks.look(temperature_degc=sensors(12.0))
    assert known.sensor_k[0, 0, 1] > 8.0


def test_an_unknown_current_explains_nothing_but_may_be_the_highest():
    warm, strong = (Looks().warm(300, rate, amps=np.nan) for rate in (0.3, 6.0))
    assert np.isnan(warm.cell_v).all()
    assert not warm.sensor_k[0, 0, 1] > 1.5
    assert strong.sensor_k[0, 0, 1] > 10.0


@pytest.mark.parametrize("dt_s", [0.1, 0.9, 1.0, 7.0, 20.0, 60.0])
def test_any_tick_sees_the_heat_and_a_long_one_knows_no_rate(dt_s):
    looks = Looks()
    for k in range(round(360.0 / dt_s)):
        known = looks.look(dt_s, temperature_degc=sensors(1.5 * dt_s * k / 60.0))
    assert known.sensor_k[0, 0, 1] > 5.0
    assert np.isnan(known.heating_k_per_min[0, 0, 1]) == (dt_s > 20.0)
    assert not known.sensor_k[0, 1].max() > 0.5


def test_a_gap_begins_anew():
    looks = Looks()
    looks.warm(120, 3.0)
    looks.memory = estimators.interrupted(PLANT, looks.memory, np.array([0.01]))
    known = looks.look(temperature_degc=sensors(20.0))
    assert np.nanmax(known.sensor_k) < 0.1
    assert np.isnan(known.heating_k_per_min).all()


def test_a_cell_that_sags_is_told_from_a_string_that_does():
    looks, cell_v = Looks(), np.full(PLANT.layout.cell_shape, 3.30)
    for _ in range(60):
        looks.look(cell_v=cell_v)
    assert np.nanmax(looks.look(cell_v=cell_v - 0.1).sag_v) < 0.001
    cell_v[0, 1, 3] -= 0.06
    known = looks.look(cell_v=cell_v)
    assert known.sag_v[0, 1, 3] == pytest.approx(0.058, abs=0.002)
    assert np.nanmax(np.delete(known.sag_v.ravel(), 16 + 3)) < 0.001
    assert known.cell_v[0, 1, 3] - known.cell_v[0, 1, 4] == pytest.approx(-0.06, abs=0.005)


def test_a_cell_that_bleeds_does_not_sag():
    looks, cell_v = Looks(), np.full(PLANT.layout.cell_shape, 3.30)
    looks.look(cell_v=cell_v)
    cell_v[0, 0, 0] -= 0.05
    bleeds = cell_v < 3.29
    assert np.isnan(looks.look(cell_v=cell_v, balancing=bleeds).sag_v[0, 0, 0])


@pytest.mark.parametrize("cells_sensors", [(16, 3), (5, 8), (4, 1), (16, 4)])
def test_any_number_of_sensors_sees_the_mean_of_the_cells_around_it(cells_sensors):
    count, seen = cells_sensors
    plant = rack.plant(cells=count, sensors=seen)
    known = Looks(plant).look(amps=100.0)
    assert known.sensor_k.shape == plant.layout.sensor_shape
    assert np.isfinite(known.sensor_k).all()


# what the rows make of it


def driven(plant: Plant = PLANT) -> rack.Drive:
    drive = rack.Drive(plant)
    drive.run(60.0, 1.0, **rack.closed(plant))
    return drive


def rising(drive: rack.Drive, seconds: int, shown: Any, **values: Any) -> set[str]:
    """Codes of all faults while the sensors show this, by second."""
    seen: set[str] = set()
    for second in range(seconds):
        seen |= rack.codes(drive.tick(1.0, **rack.closed(drive.plant), temperature_degc=shown(second), **values))
    return seen


def test_one_warm_sensor_warns_and_halves_the_limits_of_its_string():
    drive = driven()
    assert rising(drive, 120, lambda s: sensors(2.0 * s / 60.0)) == {"TMP-014"}
    outcome = drive.tick(1.0, **rack.closed(PLANT), temperature_degc=sensors(4.0))
    assert (outcome.command.ccl_a, outcome.command.dcl_a) == (70.0, 100.0)
    assert rack.states(outcome) == ["closed"]
    (fault,) = outcome.faults
    assert (fault.string, fault.module, fault.item) == (1, 1, 2)


@pytest.mark.parametrize(
    "shown",
    [
        lambda s: sensors(min(2.0 * s / 60.0, 20.0)),
        lambda s: sensors(min(8.0 * s / 60.0, 20.0)),
        lambda s: sensors(20.0 if s > 30 else 0.0),
        lambda s: sensors(20.0 if s // 7 % 2 else 0.0),
        lambda s: sensors(np.nan if s % 9 else 15.0),
        lambda s: sensors(-40.0 + s / 10.0 if s > 60 else 0.0),
        lambda s: sensors(0.0 if s < 60 else np.nan),
    ],
    ids=["drifting", "drifting fast", "jumped", "jumping", "loose", "falling", "open"],
)
def test_one_broken_sensor_never_opens_a_string(shown):
    drive = driven()
    assert not rising(drive, 150, shown) & OPENING
    assert rack.states(drive.tick(1.0, **rack.closed(PLANT), temperature_degc=shown(150))) == ["closed"]


def test_a_board_whose_sensors_all_jump_opens_nothing():
    drive = driven()
    shown = lambda s: np.where(np.arange(2)[None, :, None] == 0, 25.0 + 4.5 * (s // 40), 25.0) + sensors(0) * 0.0  # noqa: E731
    assert not rising(drive, 150, shown) & OPENING


def test_two_sensors_of_a_module_isolate_their_string():
    both = lambda s: sensors(2.0 * s / 60.0) + sensors(1.0 * s / 60.0, (0, 0, 2)) - 25.0  # noqa: E731
    assert "TMP-024" in rising(driven(), 160, both)


def test_a_sensor_and_a_cell_that_sags_isolate_the_string():
    cell_v = np.full(PLANT.layout.cell_shape, 3.30)
    cell_v[0, 0, 5] -= 0.04
    seen = rising(driven(), 120, lambda s: sensors(2.0 * s / 60.0), cell_v=cell_v)
    assert "TMP-024" in seen
    assert "TMP-024" not in rising(driven(), 120, lambda _: sensors(0.0), cell_v=cell_v)
    cell_v[0, 0, 5], cell_v[0, 1, 5] = 3.30, 3.26
    assert "TMP-024" not in rising(driven(), 120, lambda s: sensors(2.0 * s / 60.0), cell_v=cell_v), "another module"


def test_a_burst_with_smoke_and_a_module_that_dies_after_its_warning_are_runaways():
    drive = driven()
    smoke = np.zeros((1, 6), dtype=np.int64)
    smoke[0, 3] = 1
    seen = rising(drive, 20, lambda s: sensors(1.5 * s), inputs=smoke)
    assert {"TMP-015", "TMP-016"} <= seen
    drive = driven()
    rising(drive, 60, lambda s: sensors(8.0 * s / 60.0) + sensors(8.0 * s / 60.0, (0, 0, 2)) - 25.0)
    dead = np.array([[3.5, 0.1]])
    assert "TMP-016" in rising(drive, 3, lambda _: sensors(9.0), cell_age_s=dead)


def test_a_plug_of_sensors_that_makes_contact_again_opens_nothing():
    """After a silence both sensors of a module show 15 K more at once, or 13.5 K within two seconds."""

    def plug(degc, silent=False):
        given = sensors(degc) + sensors(degc, (0, 0, 1)) - 25.0
        return np.where(given == 25.0, given, np.nan) if silent else given

    drive = driven()
    seen = rising(drive, 20, lambda _: plug(-15.0))
    seen |= rising(drive, 3, lambda _: plug(-15.0, silent=True))
    seen |= rising(drive, 90, lambda _: plug(0.0))
    assert not seen & OPENING
    seen = rising(driven(), 90, lambda s: plug(4.5 * np.clip(np.floor(s - 20.0) + 1.0, 0.0, 3.0)))
    assert "TMP-014" in seen
    assert not seen & OPENING


def test_switched_off_nothing_is_claimed_and_a_latch_of_before_can_go():
    off = replace(PLANT, estimation=replace(PLANT.estimation, predictor=False))
    known = Looks(off).warm(200, 3.0)
    for values in (known.cell_v, known.sag_v, known.sensor_k, known.heating_k_per_min):
        assert np.isnan(values).all()
    both = lambda s: sensors(2.0 * s / 60.0) + sensors(1.0 * s / 60.0, (0, 0, 2)) - 25.0  # noqa: E731
    drive = driven()
    rising(drive, 130, both)
    later = driven(off)
    later.memory = replace(later.memory, protection=drive.memory.protection)
    ask = (Reset("TMP-024", Role.SERVICE, "inspected"),)
    assert "TMP-024" in rack.codes(later.tick(1.0, **rack.closed(off)))
    assert "TMP-024" not in rack.codes(later.tick(1.0, **rack.closed(off), requests=ask))
    assert rising(driven(off), 150, lambda s: sensors(min(5.0 * s / 60.0, 9.0))) == {"TMP-014"}, "by its neighbours"


def test_load_steps_are_no_jumps_of_cells_even_when_the_current_is_told_first():
    drive, seen = driven(), set()
    for k in range(3, 103):
        amps, before = (100.0 * (n // 3 % 2) for n in (k, k - 1))
        volts = 3.30 + 0.0008 * before
        seen |= rack.codes(drive.tick(0.2, **rack.closed(PLANT), cell_v=volts, current_a=amps))
    assert "CEL-011" not in seen


def test_one_sensor_a_module_is_judged_by_its_string():
    plant = rack.plant(modules=4, sensors=1)
    drive = driven(plant)
    degc = np.full((1, 4, 1), 25.0)
    degc[0, 2, 0] = 34.0
    assert "TMP-014" in rising(drive, 20, lambda _: degc)
