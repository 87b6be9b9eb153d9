"""The energy of a whole twin adds up at any step: precharge, full strings, balancing, soft shorts, opening contacts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from bmsd.lab.observe import all_closed
from bmsd.lab.scenario import parse_scenario
from bmsd.lab.simulate import energy_wh
from bmsd.sim.rack import PLUS
from bmsd.sim.twin import Twin

SCENARIO = """
duration_s = 1e6
seed = {seed}
[rack]
strings = 2
cells_per_module = 8
capacity_ah = 100
soc0 = {soc0}
board_over_voltage_v = {trip_v}
[spread]
soc0 = 0.01
[balancer]
active_a = 2
bleeder_ohm = 5
[bus]
precharge_ohm = 20
[profile]
kind = "square"
charge_a = 120
discharge_a = 120
period_s = 1200
[[mishap]]
kind = "soft_short"
module = 1
cell = 3
value = 2
start_s = 100
"""


def cycled(dt_s: float, seed: int, soc0: float, trip_v: float, until_s: float = 1800.0) -> tuple[Twin, float]:
    """A twin after a time in which bleeders come and go, and what went through its inverter, Wh."""
    twin = Twin(parse_scenario(SCENARIO.format(seed=seed, soc0=soc0, trip_v=trip_v), Path()).twin)
    draw, orders = np.random.default_rng(seed), all_closed(twin)
    precharging = orders.contacts.copy()
    precharging[:, PLUS] = False
    moved_j = 0.0
    while twin.time_s < until_s:
        bleed = draw.random(orders.bleed.shape) < 0.3
        contacts = precharging if twin.time_s < 20.0 else orders.contacts
        twin.obey(replace(orders, contacts=contacts, bleed=bleed))
        before_j = twin.inverter_j
        twin.step(dt_s)
        moved_j += abs(twin.inverter_j - before_j)
    return twin, moved_j / 3600.0


@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    dt_s=some.sampled_from([1.0, 5.0, 10.0, 30.0, 60.0]) | some.floats(0.7, 60.0),
    seed=some.integers(1, 1000),
    soc0=some.sampled_from([0.06, 0.5, 0.97]),
    trip_v=some.sampled_from([3.7, 5.0]),
)
def test_what_the_inverter_gave_is_found_again(dt_s: float, seed: int, soc0: float, trip_v: float) -> None:
    twin, moved_wh = cycled(dt_s, seed, soc0, trip_v)
    found = energy_wh(twin)
    assert moved_wh > 30.0
    assert found["heat_of_bleeders"] > 2.0
    assert found.pop("from_inverter") == pytest.approx(sum(found.values()), abs=1e-3 * moved_wh)


def test_the_energy_is_found_again_at_the_shortest_tick() -> None:
    twin, moved_wh = cycled(0.1, 1, 0.97, 3.7, 400.0)
    found = energy_wh(twin)
    assert found.pop("from_inverter") == pytest.approx(sum(found.values()), abs=1e-4 * moved_wh)


def test_what_a_load_across_the_bus_takes_is_in_the_book() -> None:
    text = """
        duration_s = 1e6
        [[mishap]]
        kind = "bus_load"
        value = 2
        start_s = 60
        """
    twin = Twin(parse_scenario(text, Path()).twin)
    twin.connect()
    twin.obey(all_closed(twin))
    for _ in range(60):
        twin.step(10.0)
    found = energy_wh(twin)
    assert found["heat_of_bus_load"] == pytest.approx(52.9**2 / 2.0 * 540.0 / 3600.0, rel=0.01)
    assert found.pop("from_inverter") == pytest.approx(sum(found.values()), abs=0.2)


@pytest.mark.parametrize("dt_s", [0.01, 0.1, 1.0, 60.0])
def test_a_precharge_heats_the_resistor_with_what_the_capacitor_takes(dt_s: float) -> None:
    text = "duration_s = 1e6\n[rack]\nsoc0 = 0.5\n[inverter]\nboot_s = 600\nstandby_w = 0\n"
    twin = Twin(parse_scenario(text, Path()).twin)
    orders = all_closed(twin)
    orders.contacts[:, PLUS] = False
    twin.obey(orders)
    for _ in range(max(round(10.0 / dt_s), 2)):
        twin.step(dt_s)
    taken_j = 0.5 * twin.settings.bus.capacitance_f * twin.rack.bus_v**2
    assert twin.rack.bus_v > 50.0
    assert twin.rack.path_j == pytest.approx(taken_j, rel=0.02)
