"""The times of the safety table, tick by tick: poll 0.2 s, values there 0.1 s after their SYNC, tick 0.1 s."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest

from bmsd.core.tick import Outcome
from bmsd.model.snapshot import INPUTS, Input
from tests import rack

POLL_S, SHOWN_S, PHASE_S = 0.2, 0.1, 0.05
HEALTHY = {"cell_v": 3.30, "temperature_degc": 25.0, "current_a": 0.0}
World = Callable[[float], dict[str, Any]]


@cache
def settled() -> rack.Drive:
    """Memory is frozen: every story may start from the same."""
    return rack.running(rack.plant())


class Sampled:
    """A running rack that sees the world as the boards sample it: per poll, and the current per phase."""

    def __init__(self, world: World, *, offset_s: float, answers_until_s: float = np.inf) -> None:
        self.world, self.answers_until_s = world, answers_until_s
        self.drive = settled().fork()
        self.offset_s = offset_s
        self.start_s = self.drive.now_s

    def tick(self) -> tuple[float, Outcome]:
        """Time since the start, and the outcome of the tick at that time."""
        now_s = self.drive.now_s - self.start_s + 0.1 + self.offset_s
        poll_s = np.floor((now_s - SHOWN_S) / POLL_S + 1e-6) * POLL_S
        sync_s = min(poll_s, self.answers_until_s)
        phase_s = np.floor(now_s / PHASE_S + 1e-6) * PHASE_S
        seen, fast = self.world(sync_s), self.world(phase_s)
        age_s = now_s - sync_s
        known = age_s <= 3 * POLL_S + 1e-9
        unit = {name: value for name, value in self.world(poll_s).items() if name not in HEALTHY}
        values = {
            **rack.closed(self.drive.plant),
            **unit,
            "voltage_age_s": now_s - poll_s,
            "state_sync": 10_000 + round(poll_s / POLL_S),
            "cell_v": seen["cell_v"] if known else np.nan,
            "cell_reading": 0 if known else rack.MISSING,
            "cell_age_s": age_s,
            "cell_sync": 10_000 + round(sync_s / POLL_S),
            "temperature_degc": seen["temperature_degc"],
            "current_a": fast["current_a"],
            "current_sync": 100_000 + round(phase_s / PHASE_S),
        }
        return now_s, self.drive.tick(**values)

    def when(self, happened: Callable[[Outcome], bool], within_s: float = 15.0) -> float:
        """Time of the first tick of which this is true."""
        while True:
            now_s, outcome = self.tick()
            if happened(outcome):
                return now_s
            assert now_s < within_s, "it did not happen"


def event(at_s: float, **values: Any) -> World:
    """A healthy world in which these values hold from this time on."""
    return lambda now_s: {**HEALTHY, **(values if now_s >= at_s - 1e-9 else {})}


def opened(outcome: Outcome) -> bool:
    return not outcome.command.close_plus[0]


OFFSETS = pytest.mark.parametrize("offset_s", [0.0, 0.05])
EVENTS = pytest.mark.parametrize("at_s", [1.0, 1.001, 1.12, 1.199])


@OFFSETS
@EVENTS
@pytest.mark.parametrize(("cell_v", "side", "code"), [(3.61, "ccl_a", "CEL-002"), (2.89, "dcl_a", "CEL-006")])
def test_a_cell_beyond_its_alarm_level_stops_on_the_first_sample(offset_s, at_s, cell_v, side, code):
    world = event(at_s, cell_v=cell_v)
    zero_s = Sampled(world, offset_s=offset_s).when(lambda o: getattr(o.command, side) == 0.0)
    raised_s = Sampled(world, offset_s=offset_s).when(lambda o: code in rack.codes(o))
    assert 0.0 < zero_s - at_s <= 0.4 + 1e-6, "0.3 s are left of the 0.7 s for the inverter's frame"
    assert 0.4 < raised_s - at_s <= 1.3


@OFFSETS
@EVENTS
@pytest.mark.parametrize(("current_a", "code"), [(180.0, "CUR-003"), (-255.0, "CUR-006")])
def test_an_over_current_beyond_the_trip_opens_within_600_ms(offset_s, at_s, current_a, code):
    world = event(at_s, current_a=current_a)
    side = "ccl_a" if current_a > 0 else "dcl_a"
    zero_s = Sampled(world, offset_s=offset_s).when(lambda o: getattr(o.command, side) == 0.0)
    raised_s = Sampled(world, offset_s=offset_s).when(lambda o: code in rack.codes(o))
    open_s = Sampled(world, offset_s=offset_s).when(opened)
    assert zero_s - at_s <= 0.2
    assert raised_s < open_s
    assert 0.1 < open_s - at_s <= 0.6


@OFFSETS
def test_a_temperature_trip_opens_within_eight_seconds(offset_s):
    world = event(1.0, temperature_degc=61.0, current_a=-50.0)
    zero_s = Sampled(world, offset_s=offset_s).when(lambda o: o.command.ccl_a == o.command.dcl_a == 0.0)
    open_s = Sampled(world, offset_s=offset_s).when(opened)
    assert zero_s - 1.0 <= 0.5
    assert 6.0 <= open_s - 1.0 <= 8.0


@OFFSETS
def test_a_silent_module_is_zero_when_stale_and_open_ten_seconds_after_its_last_good_measurement(offset_s):
    drive = Sampled(event(0.0), offset_s=offset_s, answers_until_s=2.0)
    zero_s = drive.when(lambda o: o.command.ccl_a == o.command.dcl_a == 0.0)
    assert 0.6 < zero_s - 2.0 <= 0.7 + 1e-6
    raised_s = drive.when(lambda o: "MOD-001" in rack.codes(o))
    assert 3.0 <= raised_s - 2.0 <= 3.2
    open_s = drive.when(opened)
    assert 9.8 <= open_s - 2.0 <= 10.3


def inputs(name: str) -> dict[str, Any]:
    return {"inputs": np.array([[Input.ACTIVE if name == one else Input.OK for one in INPUTS]])}


@OFFSETS
@EVENTS
@pytest.mark.parametrize(
    ("found", "code", "raised_s", "open_s"),
    [
        (inputs("emergency_stop"), "CON-012", 0.0, 0.0),
        (inputs("interlock"), "CON-011", 0.0, 0.0),
        (inputs("smoke"), "AUX-002", 1.0, 1.0),
        (inputs("fuse"), "CON-010", 1.0, 1.0),
        (inputs("insulation"), "ISO-002", 0.8, 10.8),
        ({"unit_trip_code": 5}, "CON-014", 0.0, 0.0),
        ({"trip_active": True}, "MOD-014", 0.0, 0.0),
        ({"string_v": 51.0}, "CEL-015", 1.8, 11.8),
        ({"bus_v": 70.0}, "CEL-015", 1.8, 11.8),
    ],
    ids=str,
)
def test_what_a_unit_finds_stops_on_its_first_report_and_opens_by_its_row(
    offset_s: float, at_s: float, found: dict[str, Any], code: str, raised_s: float, open_s: float
) -> None:
    world = event(at_s, **found)
    stop_s = Sampled(world, offset_s=offset_s).when(lambda o: o.command.ccl_a == o.command.dcl_a == 0.0)
    named_s = Sampled(world, offset_s=offset_s).when(lambda o: code in rack.codes(o))
    opened_s = Sampled(world, offset_s=offset_s).when(opened)
    assert 0.0 < stop_s - at_s <= 0.4 + 1e-6
    assert raised_s < named_s - at_s <= raised_s + 0.5
    assert open_s < opened_s - at_s <= open_s + 0.7


def test_a_string_above_its_break_rating_waits_three_seconds_for_the_fuse():
    open_s = Sampled(event(1.0, current_a=-900.0), offset_s=0.0).when(opened)
    assert 3.0 <= open_s - 1.0 <= 3.6
