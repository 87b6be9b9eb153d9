from __future__ import annotations

from itertools import pairwise

import pytest
from slave_traffic import flags, limits

from bmsd.model.frame import Frame
from bmsd.sim.inverter import Inverter, InverterSettings, Profile

STEP_S = 0.01
BUS_V = 52.0


class Bench:
    """An inverter on a stiff source, told its limits once a second."""

    def __init__(self, profile: Profile, **settings: float | bool) -> None:
        self.inverter = Inverter(InverterSettings(profile=profile, boot_s=0.0, **settings))  # type: ignore[arg-type]
        self.now_s = 0.0
        self.told: list[Frame] = [limits(57.6, 100.0, 100.0, 44.8), flags()]
        self.bus_v, self.path, self.enable = BUS_V, True, True

    def run(self, seconds: float) -> list[float]:
        times = []
        for count in range(round(seconds / STEP_S)):
            if count % 100 == 0:
                for frame in self.told:
                    self.inverter.receive(frame, self.now_s)
            self.now_s += STEP_S
            self.inverter.step(self.now_s, STEP_S, self.now_s, self.bus_v, self.path, self.enable)
            times += [self.now_s for _ in self.inverter.frames(self.now_s)]
        return times


def test_it_follows_the_wanted_current_with_its_lag() -> None:
    bench = Bench(Profile(charge_a=50.0), lag_s=2.0, source_ohm=0.001)
    bench.run(2.0)
    assert bench.inverter.current_a == pytest.approx(50.0 * 0.632, rel=0.02)
    bench.run(20.0)
    assert bench.inverter.current_a == pytest.approx(50.0, rel=1e-3)


@pytest.mark.parametrize(("wanted_a", "flows_a"), [(150.0, 100.0), (-150.0, -80.0), (30.0, 30.0), (-30.0, -30.0)])
def test_it_obeys_the_limits_in_both_directions(wanted_a: float, flows_a: float) -> None:
    bench = Bench(Profile(charge_a=wanted_a), source_ohm=0.001)
    bench.told = [limits(57.6, 100.0, 80.0, 44.8), flags()]
    bench.run(10.0)
    assert bench.inverter.current_a == pytest.approx(flows_a, rel=1e-2)


@pytest.mark.parametrize(
    ("byte", "charges", "discharges"), [(0x80, True, False), (0x40, False, True), (0, False, False)]
)
def test_it_obeys_the_flags(byte: int, charges: bool, discharges: bool) -> None:
    for wanted_a, allowed in ((40.0, charges), (-40.0, discharges)):
        bench = Bench(Profile(charge_a=wanted_a), source_ohm=0.001)
        bench.told = [limits(57.6, 100.0, 100.0, 44.8), flags(byte)]
        bench.run(10.0)
        assert (bench.inverter.current_a != 0.0) == allowed


@pytest.mark.parametrize("missing", [0, 1])
def test_it_stops_when_limits_or_flags_fall_silent(missing: int) -> None:
    bench = Bench(Profile(charge_a=40.0), source_ohm=0.001)
    bench.run(8.0)
    del bench.told[missing]
    bench.run(1.9)
    assert bench.inverter.current_a == pytest.approx(40.0, rel=1e-2)
    bench.run(12.0)
    assert bench.inverter.current_a == 0.0


def test_nothing_flows_before_it_was_told_anything() -> None:
    bench = Bench(Profile(charge_a=40.0))
    bench.told = []
    bench.run(5.0)
    assert bench.inverter.current_a == 0.0


def test_short_and_foreign_limit_frames_are_not_limits() -> None:
    bench = Bench(Profile(charge_a=40.0))
    whole = limits(57.6, 100.0, 100.0, 44.8)
    bench.told = [whole._replace(data=whole.data[:5]), whole._replace(extended=True), flags(), Frame(0x35C, b"", False)]
    bench.run(5.0)
    assert bench.inverter.ccl_a == 0.0
    assert bench.inverter.current_a == 0.0


def test_negative_limits_are_none() -> None:
    bench = Bench(Profile(charge_a=-40.0))
    bench.told = [limits(57.6, -10.0, -10.0, 44.8), flags()]
    bench.run(5.0)
    assert (bench.inverter.ccl_a, bench.inverter.dcl_a) == (0.0, 0.0)
    assert bench.inverter.current_a == 0.0


def test_dropping_the_enable_stops_it_at_once_whatever_its_lag() -> None:
    bench = Bench(Profile(charge_a=-60.0), lag_s=10.0, source_ohm=0.001)
    bench.run(60.0)
    assert bench.inverter.current_a == pytest.approx(-60.0, rel=1e-2)
    bench.enable = False
    bench.run(0.3)
    assert abs(bench.inverter.current_a) < 0.5


def test_an_inverter_without_enable_wire_does_not_care() -> None:
    bench = Bench(Profile(charge_a=40.0), enable_wired=False, source_ohm=0.001)
    bench.enable = False
    bench.run(10.0)
    assert bench.inverter.current_a == pytest.approx(40.0, rel=1e-2)


def test_no_path_no_current() -> None:
    bench = Bench(Profile(charge_a=40.0), source_ohm=0.001)
    bench.run(10.0)
    bench.path = False
    bench.run(STEP_S)
    assert bench.inverter.current_a == 0.0


def test_it_ignores_limits_flags_and_silence_when_told_to_misbehave() -> None:
    bench = Bench(Profile(charge_a=150.0))
    bench.inverter.ignores_limits = True
    bench.told = []
    bench.run(10.0)
    assert bench.inverter.current_a == pytest.approx(150.0, rel=1e-2)
    bench.enable = False
    bench.run(0.5)
    assert abs(bench.inverter.current_a) < 0.5


def test_it_holds_the_charge_voltage() -> None:
    bench = Bench(Profile(charge_a=100.0), source_ohm=0.01)
    for _ in range(600):  # source of 54 V behind 10 mohm, charge voltage 54.5 V: 50 A
        bench.told = [limits(54.5, 100.0, 100.0, 44.8), flags()]
        bench.run(0.1)
        bench.bus_v = 54.0 + 0.01 * bench.inverter.current_a
    assert bench.inverter.current_a == pytest.approx(50.0, rel=0.02)


def test_it_does_not_discharge_below_the_discharge_voltage() -> None:
    bench = Bench(Profile(charge_a=-100.0), source_ohm=0.01)
    for _ in range(600):
        bench.told = [limits(57.6, 100.0, 100.0, 47.5), flags()]
        bench.run(0.1)
        bench.bus_v = 48.0 + 0.01 * bench.inverter.current_a
    assert bench.inverter.current_a == pytest.approx(-50.0, rel=0.02)


def test_a_force_charge_request_turns_a_discharge_into_a_charge() -> None:
    bench = Bench(Profile(charge_a=-50.0), force_charge_a=20.0, source_ohm=0.001)
    bench.told = [limits(57.6, 100.0, 100.0, 44.8), flags(0xF0)]
    bench.run(10.0)
    assert bench.inverter.current_a == pytest.approx(20.0, rel=1e-2)


def test_it_keeps_alive_once_per_second_and_stays_quiet_when_told() -> None:
    times = Bench(Profile()).run(10.0)
    assert len(times) == 10
    assert [b - a for a, b in pairwise(times)] == pytest.approx([1.0] * 9, abs=0.02)
    assert Bench(Profile(), keepalive=False).run(5.0) == []


def test_it_draws_its_standby_power_only_once_it_has_booted() -> None:
    inverter = Inverter(InverterSettings(boot_s=6.0))
    inverter.step(0.0, 0.01, 0.0, 52.0, False, False)
    assert inverter.load_a(52.0, 5.9) == pytest.approx(52.0 / 10_000.0)
    assert inverter.load_a(52.0, 6.0) == pytest.approx(50.0 / 52.0 + 52.0 / 10_000.0)
    inverter.step(7.0, 0.01, 7.0, 39.0, False, False)
    assert inverter.load_a(39.0, 8.0) == pytest.approx(39.0 / 10_000.0)


def test_profiles() -> None:
    square = Profile("square", charge_a=10.0, discharge_a=20.0, period_s=100.0)
    assert [square.at(t) for t in (0.0, 49.9, 50.0, 99.9, 100.0)] == [10.0, 10.0, -20.0, -20.0, 10.0]
    solar = Profile("solar", charge_a=10.0, discharge_a=5.0, period_s=100.0)
    assert [solar.at(t) for t in (0.0, 25.0, 75.0)] == pytest.approx([0.0, 10.0, -5.0])
