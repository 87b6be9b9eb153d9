from __future__ import annotations

import numpy as np
import pytest

from bmsd.sim.cell import CellParameters
from bmsd.sim.cells import Cells
from bmsd.sim.rack import MINUS, PLUS, PRECHARGE, BusParameters, Contactors, Rack

SHAPE = (2, 1, 16)


def rack_of(soc_spread: float = 0.0, bus: BusParameters | None = None, shape: tuple[int, int, int] = SHAPE) -> Rack:
    return Rack(Cells(shape, CellParameters(), 0.5, soc_spread, 25.0, seed=2), bus or BusParameters())


def go(rack: Rack, seconds: float, inverter_a: float = 0.0, load_a: float = 0.0, dt_s: float = 0.005) -> None:
    off = np.zeros(rack.cells.cell_v.shape, dtype=np.bool_)
    for _ in range(round(seconds / dt_s)):
        rack.step(dt_s, inverter_a, load_a, off)


def close(rack: Rack, *contacts: int) -> None:
    rack.contactors.coil[:] = False
    rack.contactors.coil[:, list(contacts)] = True
    go(rack, 0.05)


def test_open_contactors_carry_nothing_and_the_load_empties_the_capacitor() -> None:
    rack = rack_of()
    rack.bus_v = 50.0
    go(rack, 1.0, load_a=1.0)
    assert (rack.string_a == 0.0).all()
    assert rack.bus_v == pytest.approx(50.0 - 1.0 / 0.048)
    go(rack, 10.0, load_a=1.0)
    assert rack.bus_v == 0.0


def test_precharge_follows_50_ohm_times_48_mf() -> None:
    rack = rack_of(shape=(1, 1, 16))
    rack.contactors.coil[:, [MINUS, PRECHARGE]] = True
    go(rack, 0.03)
    emf_v = rack.cells.string_emf_v[0]
    start_v = rack.bus_v
    go(rack, 2.4)
    tau_s = 50.0 * 0.048
    assert rack.bus_v == pytest.approx(emf_v + (start_v - emf_v) * np.exp(-2.4 / tau_s), rel=2e-3)
    go(rack, 4.0 * tau_s - 2.4)
    assert rack.bus_v > 0.98 * emf_v
    assert rack.peak_a[0] == pytest.approx(emf_v / 50.0, rel=2e-3)


def test_closing_plus_onto_a_dead_bus_shows_its_inrush() -> None:
    rack = rack_of()
    close(rack, MINUS, PLUS)
    assert (rack.peak_a > 1000.0).all()
    assert rack.bus_v == pytest.approx(rack.cells.string_emf_v.mean(), rel=1e-3)


@pytest.mark.parametrize("contacts", [(PLUS,), (PRECHARGE,), (MINUS,), (PLUS, PRECHARGE)])
def test_without_both_poles_nothing_flows(contacts: tuple[int, ...]) -> None:
    rack = rack_of()
    close(rack, *contacts)
    assert (rack.string_a == 0.0).all()
    assert rack.bus_v == 0.0
    assert not rack.plus_closed.any()


@pytest.mark.parametrize("dt_s", [0.001, 0.005, 0.05, 1.0])
def test_currents_sum_to_zero_at_the_bus_for_any_step(dt_s: float) -> None:
    rack = rack_of(soc_spread=0.03)
    close(rack, MINUS, PLUS)
    for inverter_a in (100.0, -80.0, 0.0):
        before_v = rack.bus_v
        off = np.zeros(SHAPE, dtype=np.bool_)
        rack.step(dt_s, inverter_a, 1.2, off)
        into_capacitor_a = 0.048 * (rack.bus_v - before_v) / dt_s
        assert rack.string_a.sum() + into_capacitor_a == pytest.approx(inverter_a - 1.2, abs=1e-6)


def test_unequal_strings_equalise_and_settle_to_equal_shares() -> None:
    rack = rack_of(soc_spread=0.0)
    cells = rack.cells
    assert isinstance(cells, Cells)
    cells.charge_as[0] -= 0.3 * cells.capacity_as[0]
    close(rack, MINUS, PLUS)
    go(rack, 2.0)
    assert rack.string_a[0] > 1.0
    assert rack.string_a.sum() == pytest.approx(0.0, abs=1e-3)


def test_ripple_is_shared_and_averages_out() -> None:
    rack = rack_of(bus=BusParameters(ripple_a=20.0))
    close(rack, MINUS, PLUS)
    go(rack, 1.0, inverter_a=50.0)
    cells = rack.cells
    assert isinstance(cells, Cells)
    before = cells.charge_as.copy()
    seen = []
    off = np.zeros(SHAPE, dtype=np.bool_)
    for _ in range(1000):
        rack.step(0.001, 50.0, 0.0, off)
        seen.append(rack.string_a.copy())
    amps = np.array(seen)
    assert np.ptp(amps[:, 0]) == pytest.approx(20.0, rel=0.1)
    assert (cells.charge_as - before).mean(axis=(1, 2)).sum() == pytest.approx(50.0, rel=1e-3)


def test_contacts_need_their_time_to_close_and_to_open() -> None:
    contactors = Contactors(1)
    contactors.coil[0, PLUS] = True
    for _ in range(29):
        contactors.step(0.001)
    assert not contactors.closed[0, PLUS]
    contactors.step(0.001)
    assert contactors.closed[0, PLUS]
    contactors.coil[0, PLUS] = False
    for _ in range(14):
        contactors.step(0.001)
    assert contactors.closed[0, PLUS]
    contactors.step(0.001)
    assert not contactors.closed[0, PLUS]


def test_a_welded_contact_stays_closed_and_an_open_one_does_not_weld() -> None:
    contactors = Contactors(2)
    contactors.coil[0, PLUS] = True
    contactors.step(0.1)
    contactors.welded[:, PLUS] = True
    contactors.coil[:] = False
    contactors.step(0.1)
    assert contactors.closed[:, PLUS].tolist() == [True, False]
    contactors.coil[1, PLUS] = True
    contactors.step(0.1)
    contactors.coil[1, PLUS] = False
    contactors.step(0.1)
    assert contactors.closed[1, PLUS], "it welds when it closes"


def test_a_jammed_contact_does_not_close() -> None:
    contactors = Contactors(1)
    contactors.jammed[0, MINUS] = True
    contactors.coil[0] = True
    contactors.step(0.1)
    assert contactors.closed[0].tolist() == [False, True, True]
