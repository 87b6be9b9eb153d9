from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from slave_traffic import Driver

from bmsd.errors import ConfigError
from bmsd.model.layout import Layout
from bmsd.sim.packing import unpack
from bmsd.sim.playback import REFERENCE, PlaybackCells, Series, load_series
from bmsd.sim.scenario import PlaybackSettings, default_settings
from bmsd.sim.world import SimWorld
from tests import reference_data

ON = np.ones(1, dtype=np.bool_)
OFF = np.zeros(1, dtype=np.bool_)
NO_BLEEDING = np.zeros((1, 1, 4), dtype=np.bool_)


def short_series() -> Series:
    return Series(
        t_s=np.array([0.0, 1.0, 2.0, 5.0]),
        current_a=np.array([0.0, -2.0, 3.0, 0.0]),
        voltage_v=np.array([3.30, 3.20, 4.05, 3.31]),
        temperature_degc=np.array([20.0, 20.5, 21.0, 21.5]),
        capacity_ah=2.0,
    )


def cells_of(series: Series, **settings: object) -> PlaybackCells:
    return PlaybackCells((1, 1, 4), series, **settings)  # type: ignore[arg-type]


def reference(name: str) -> Series:
    reference_data.reference()
    return load_series(name)


def test_samples_hold_until_the_next_and_spikes_stay() -> None:
    cells = cells_of(short_series())
    seen = []
    for _ in range(14):
        seen.append(float(cells.cell_v[0, 0, 0]))
        cells.step(0.5, np.zeros(1), ON, NO_BLEEDING)
    assert seen == [3.30, 3.30, 3.20, 3.20, 4.05, 4.05, 4.05, 4.05, 4.05, 4.05, 3.31, 3.31, 3.31, 3.31]
    assert cells.finished


def test_the_current_is_scaled_and_flows_only_on_the_bus() -> None:
    cells = cells_of(short_series(), scale=100.0)
    assert cells.step(1.0, np.zeros(1), OFF, NO_BLEEDING) == pytest.approx([0.0])
    assert cells.position_s == 0.0, "it waits for the contactors"
    assert cells.step(1.0, np.zeros(1), ON, NO_BLEEDING) == pytest.approx([-200.0])
    assert cells.step(1.0, np.zeros(1), ON, NO_BLEEDING) == pytest.approx([300.0])


def test_without_waiting_it_runs_from_the_start() -> None:
    cells = cells_of(short_series(), waits=False)
    assert cells.step(1.0, np.zeros(1), OFF, NO_BLEEDING) == pytest.approx([-2.0])


def test_speed_phase_and_offset_set_cells_apart() -> None:
    phase = np.array([0.0, 1.0, 2.0, -9.0]).reshape(1, 1, 4)
    offset = np.array([0.0, 0.0, 0.0, 0.1]).reshape(1, 1, 4)
    cells = cells_of(short_series(), speed=10.0, phase_s=phase, offset_v=offset)
    assert cells.cell_v[0, 0] == pytest.approx([3.30, 3.20, 4.05, 3.40])
    cells.step(0.1, np.zeros(1), ON, NO_BLEEDING)
    assert cells.cell_v[0, 0] == pytest.approx([3.20, 4.05, 4.05, 3.40])


def test_it_repeats_when_asked() -> None:
    cells = cells_of(short_series(), repeats=True)
    for _ in range(11):
        cells.step(0.5, np.zeros(1), ON, NO_BLEEDING)
    assert cells.cell_v[0, 0, 0] == 3.30
    assert not cells.finished


def test_a_csv_file_is_read_with_unknown_fields_as_nan(tmp_path: Path) -> None:
    path = tmp_path / "cell.csv"
    path.write_text("t_s,current_a,voltage_v,temperature_degc\n10,1.5,3.3,25\n11,-1.5,,25.5\n")
    series = load_series(str(path), capacity_ah=2.0)
    assert series.t_s.tolist() == [0.0, 1.0]
    assert series.current_a.tolist() == [1.5, -1.5]
    assert np.isnan(series.voltage_v[1])


@pytest.mark.parametrize(
    ("text", "complaints"),
    [
        ("t_s,voltage_v\n0,3.3\n", ["no column current_a", "no column temperature_degc"]),
        ("t_s,current_a,voltage_v,temperature_degc\n0,x,3.3,y\n1,0,3.3,25\n", ["line 2: current_a", "line 2: temper"]),
        ("t_s,current_a,voltage_v,temperature_degc\n1,0,3.3,25\n1,0,3.3,25\n", ["does not rise"]),
        ("t_s,current_a,voltage_v,temperature_degc\n1,0,3.3,25\n", ["1 samples"]),
    ],
)
def test_a_bad_csv_file_gets_all_its_complaints(tmp_path: Path, text: str, complaints: list[str]) -> None:
    path = tmp_path / "cell.csv"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_series(str(path), capacity_ah=2.0)
    assert len(caught.value.complaints) == len(complaints)
    for complaint, expected in zip(caught.value.complaints, complaints, strict=True):
        assert expected in complaint


@pytest.mark.parametrize("source", ["no_such_name", "missing.csv", "missing.npz"])
def test_a_source_that_is_not_there_is_named(source: str) -> None:
    with pytest.raises(ConfigError, match=source):
        load_series(source, capacity_ah=None if source == "no_such_name" else 2.0)


def test_a_file_needs_the_capacity_of_its_cell() -> None:
    with pytest.raises(ConfigError, match="capacity"):
        load_series("some.csv")


@pytest.mark.parametrize("name", REFERENCE)
def test_reference_series_are_read_with_charging_positive(name: str) -> None:
    series = reference(name)
    assert series.t_s[0] == 0.0
    assert series.duration_s > 30_000.0
    assert 15.0 < np.median(series.voltage_v) * 5.0 < 17.5
    charging = np.gradient(series.voltage_v)[np.gradient(series.current_a) > 0.5 * np.ptp(series.current_a) / 4]
    assert charging.mean() > 0.0, "a step towards charging raises the voltage"


@pytest.mark.parametrize("name", ["k2_hppc_20c", "plett_dyn_25c"])
def test_measured_cells_reach_the_bus_as_they_were_measured(name: str) -> None:
    series = reference(name)
    settings = default_settings(Layout(1, 1, 16, 4), 100.0, playback=PlaybackSettings(name, speed=10.0, start_s=3600.0))
    world = SimWorld(settings)
    driver = Driver(world, step_s=0.005)
    driver.close_contactors()
    assert world.truth().contacts[0].tolist() == [True, False, True]
    cells = world.rack.cells
    assert isinstance(cells, PlaybackCells)
    values = set(np.rint(series.voltage_v / 0.000625).astype(int).tolist())
    before_s = cells.position_s
    seen = volts = 0
    for _, frame in driver.run(20.0):
        received = unpack(frame)
        assert received is not None
        if received.name == "CellVoltages1":
            seen += 1
            volts += received.signals["Cell1Voltage"] in values
    assert seen == volts == 100
    assert cells.position_s - before_s == pytest.approx(200.0)
    index = int(np.searchsorted(series.t_s, cells.position_s, side="right")) - 1
    expected_a = series.current_a[index] * 100.0 / series.capacity_ah
    assert world.truth().string_a[0] == pytest.approx(expected_a)


def test_the_spikes_of_the_logger_reach_the_bus() -> None:
    series = reference("k2_hppc_20c")
    spike = int(series.voltage_v.argmax())
    assert series.voltage_v[spike] > 3.9
    start_s = float(series.t_s[spike]) - 3.0
    settings = default_settings(
        Layout(1, 1, 16, 4), 100.0, playback=PlaybackSettings("k2_hppc_20c", start_s=start_s, waits=False)
    )
    raw = []
    for _, frame in Driver(SimWorld(settings), step_s=0.005).run(6.0):
        received = unpack(frame)
        if received is not None and received.name == "CellVoltages1":
            raw.append(received.signals["Cell1Voltage"])
    assert max(raw) == round(float(series.voltage_v[spike]) / 0.000625)
