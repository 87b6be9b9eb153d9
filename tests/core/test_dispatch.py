"""Set-points of others: they lower limits for a while and never raise one, and end by themselves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bmsd.core import dispatch
from bmsd.core.contactors import State, StringState, released
from bmsd.core.tick import Outcome
from bmsd.model.request import Lease, Power, Release, Request, Reserve, Reset, Role
from tests import rack
from tests.core.test_tick_properties import CLOSED, check, copy, odd_values

EMS = "modbus 10.0.0.5"
NAN, INF = float("nan"), float("inf")
PLANT = rack.plant()
PACK_V = 3.30 * 16


def drive() -> rack.Drive:
    return rack.running(PLANT)


def limits(outcome: Outcome) -> tuple[float, float]:
    return outcome.command.ccl_a, outcome.command.dcl_a


def asks(who: rack.Drive, *requests: Request, **values: Any) -> Outcome:
    return who.tick(requests=requests, **{**rack.closed(PLANT), **values})


@pytest.mark.parametrize(
    ("power_w", "expected"),
    [(2640.0, (50.0, 0.0)), (-2640.0, (0.0, 50.0)), (0.0, (0.0, 0.0)), (1e7, (140.0, 0.0)), (-1e7, (0.0, 200.0))],
)
def test_a_power_allows_its_direction_up_to_its_current_and_forbids_the_other(
    power_w: float, expected: tuple[float, float]
) -> None:
    outcome = asks(drive(), Power(power_w, 10.0, EMS))
    assert limits(outcome) == pytest.approx(expected)
    assert outcome.vetoes == ()
    assert (outcome.command.charge_enabled, outcome.command.discharge_enabled) == (expected[0] > 0, expected[1] > 0)


def test_the_bound_names_who_asked_and_its_reason_does_not_change_while_it_holds() -> None:
    running = drive()
    first = asks(running, Power(-2640.0, 12.0, EMS))
    for bound in (first.limits.charge[0], first.limits.discharge[0]):
        assert (bound.source, bound.reason) == ("power", "power set-point of modbus 10.0.0.5")
    later = [asks(running) for _ in range(11)][-1]
    assert later.limits.charge[0].reason == first.limits.charge[0].reason


def lapsed() -> rack.Drive:
    """A rack whose power set-point has run out."""
    running = drive()
    asks(running, Power(2640.0, 1.0, EMS))
    for _ in range(10):
        assert rack.codes(asks(running)) == set()
    return running


def test_a_power_that_is_not_renewed_is_a_warning_and_limits_are_those_of_the_rack() -> None:
    running = lapsed()
    assert rack.codes(asks(running)) == {"EMS-001"}
    running.run(80.0, 1.0, **rack.closed(PLANT))
    outcome = asks(running)
    assert rack.codes(outcome) == {"EMS-001"}
    assert limits(outcome) == (140.0, 200.0)


@pytest.mark.parametrize(
    "request_",
    [
        Power(0.0, 5.0, "another"),
        Release("power", "operator"),
        Reset("EMS-001", Role.OPERATOR),
        Reset("all", Role.OPERATOR),
    ],
    ids=str,
)
def test_who_steers_again_gives_it_back_or_looks_ends_the_warning(request_: Request) -> None:
    running = lapsed()
    asks(running)
    asks(running, request_)
    assert rack.codes(asks(running)) == set()
    assert "EMS-001" not in {code for _ in range(30) for code in rack.codes(asks(running))}


@pytest.mark.parametrize("request_", [Release("reserve"), Reset("CEL-001", Role.OPERATOR), Reserve(0.1, 5.0)], ids=str)
def test_nothing_else_ends_it(request_: Request) -> None:
    running = lapsed()
    asks(running, request_)
    assert rack.codes(asks(running)) == {"EMS-001"}


def test_what_is_released_in_time_and_a_reserve_that_ends_are_no_warning() -> None:
    running = drive()
    asks(running, Power(2640.0, 1.0, EMS), Reserve(0.1, 1.0, EMS))
    for _ in range(5):
        asks(running)
    asks(running, Release("power", EMS))
    assert {code for _ in range(20) for code in rack.codes(asks(running))} == set()


def test_a_lease_that_is_not_renewed_ends_by_itself() -> None:
    running = drive()
    asks(running, Power(2640.0, 1.0, EMS))
    held = [limits(asks(running))[0] for _ in range(9)]
    assert held == pytest.approx([50.0] * 9)
    after = asks(running)
    assert after.memory.leases == ()
    assert 50.0 < limits(after)[0] < 60.0, "and the limit rises slowly from there"


def test_a_renewed_lease_goes_on() -> None:
    running = drive()
    for _ in range(30):
        outcome = asks(running, Power(2640.0, 1.0, EMS))
    assert limits(outcome) == pytest.approx((50.0, 0.0))
    assert outcome.memory.leases == (Lease("power", 2640.0, running.now_s + 1.0, EMS),)


def test_the_newest_set_point_of_a_kind_holds_and_a_release_ends_it() -> None:
    running = drive()
    asks(running, Power(2640.0, 100.0, EMS), Power(1320.0, 50.0, "mqtt site"))
    outcome = asks(running)
    assert limits(outcome)[0] == pytest.approx(25.0)
    assert "mqtt site" in outcome.limits.charge[0].reason
    assert asks(running, Release("reserve", EMS)).memory.leases != ()
    assert asks(running, Release("power", EMS)).memory.leases == ()


def test_a_reserve_stops_the_discharge_at_its_state_of_charge_and_leaves_the_charge() -> None:
    soc = np.array([0.4, 0.2, 0.1999, NAN])
    leases = (Lease("reserve", 0.2, 105.0, EMS),)
    charge, discharge = dispatch.bounds(leases, soc, PACK_V)
    assert charge == ()
    assert [(bound.amps, bound.string) for bound in discharge] == [(0.0, 1), (0.0, 2), (0.0, 3)]
    assert discharge[0].reason == "reserve 20 % of modbus 10.0.0.5"


def test_a_reserve_of_nothing_stops_nothing_even_when_the_state_of_charge_is_unknown() -> None:
    assert dispatch.bounds((Lease("reserve", 0.0, 105.0, EMS),), np.array([NAN]), PACK_V) == ((), ())


def test_a_rack_keeps_its_reserve() -> None:
    running = drive()
    running.memory = replace(running.memory, estimation=rack.knowing(running.plant, 0.5))
    assert limits(asks(running, Reserve(0.47, 10.0, EMS)))[1] == 200.0
    outcome = asks(running, Reserve(0.49, 10.0, EMS))
    assert limits(outcome)[1] == 0.0
    assert limits(outcome)[0] > 0.0
    assert outcome.limits.discharge[0].source == "reserve"


@pytest.mark.parametrize("pack_v", [None, 0.0, NAN, -1.0])
def test_without_a_voltage_a_power_is_no_current(pack_v: float | None) -> None:
    charge, _ = dispatch.bounds((Lease("power", 5000.0, 110.0, EMS),), np.array([0.5]), pack_v)
    assert charge[0].amps == 0.0


@pytest.mark.parametrize(
    "request_",
    [
        Power(NAN, 10.0), Power(INF, 10.0), Power(-INF, 10.0), Power(1.1e7, 10.0), Power(1.0, NAN), Power(1.0, INF),
        Power(1.0, 0.99), Power(1.0, 3600.1), Reserve(NAN, 10.0), Reserve(1.01, 10.0), Reserve(-0.01, 10.0),
    ],
)  # fmt: skip
def test_what_is_out_of_range_is_not_taken_and_ends_nothing(request_: Request) -> None:
    held = (Lease("power", 5.0, 110.0, EMS), Lease("reserve", 0.5, 110.0, EMS))
    assert dispatch.step(held, [request_], 100.0) == held
    assert dispatch.step((), [request_], 100.0) == ()


@pytest.mark.parametrize("request_", [Power(1.0, 1.0), Power(-1e7, 3600.0), Reserve(0.0, 10.0), Reserve(1.0, 10.0)])
def test_what_is_just_in_range_is_taken(request_: Request) -> None:
    (lease,) = dispatch.step((), [request_], 100.0)
    assert lease.until_s > 100.0


@pytest.mark.parametrize(("now_s", "left"), [(109.99, 1), (110.0, 0), (110.1, 0)])
def test_a_lease_ends_at_its_second(now_s: float, left: int) -> None:
    assert len(dispatch.step((Lease("power", 5.0, 110.0, EMS),), [], now_s)) == left


def test_an_operator_who_resets_all_releases_neither_trips_nor_locked_strings() -> None:
    tripped = {**rack.closed(PLANT), "trip_code": 1}
    running = drive()
    assert running.tick(**tripped, requests=(Reset("all", Role.OPERATOR),)).command.trip_resets == ()
    assert running.tick(**tripped, requests=(Reset("all", Role.SERVICE),)).command.trip_resets == ((1, 1),)
    locked = (StringState(State.LOCKED, reason="three tries"),)
    asks = {role: rack.snapshot(PLANT, 1.0, requests=(Reset("all", role),)) for role in Role}
    assert released(PLANT, locked, asks[Role.OPERATOR]) == locked
    assert released(PLANT, locked, asks[Role.SERVICE])[0].state is State.OPEN


SET_POINTS = st.lists(
    st.one_of(
        st.builds(Power, st.floats(), st.sampled_from([1.0, 10.0, NAN, 0.0]), st.just(EMS)),
        st.builds(Power, st.floats(-2e4, 2e4), st.just(10.0), st.just(EMS)),
        st.builds(Reserve, st.floats(), st.just(10.0), st.just(EMS)),
        st.builds(Reserve, st.floats(0.0, 1.0), st.just(10.0), st.just(EMS)),
        st.builds(Release, st.sampled_from(["power", "reserve", "all"]), st.just(EMS)),
    ),
    max_size=4,
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(SET_POINTS, odd_values()), min_size=1, max_size=4))
def test_a_set_point_never_raises_a_limit(ticks: list[tuple[list[Request], dict[str, Any]]]) -> None:
    """Whatever is measured: with set-points no limit is above what it is without them."""
    asked, alone = copy(), copy()
    for requests, values in ticks:
        values = {**CLOSED, **values}
        now_s = round(asked.now_s + 0.1, 6)
        with_them = asked.tick(requests=tuple(requests), **values)
        without = alone.tick(**values)
        check(with_them, rack.snapshot(asked.plant, now_s, **values))
        assert with_them.command.ccl_a <= without.command.ccl_a
        assert with_them.command.dcl_a <= without.command.dcl_a
        assert with_them.command.cvl_v == without.command.cvl_v
