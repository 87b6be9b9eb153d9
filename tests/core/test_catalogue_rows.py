"""Every row of the catalogue, without naming one: it can be raised, it does what it says, it goes away."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from bmsd.core.protection.evidence import DETECTORS, Evidence, Reading, detector
from bmsd.core.starts import Starts
from bmsd.core.tick import Outcome
from bmsd.model.catalogue import CATALOGUE, row
from bmsd.model.host import ClockQuality, Computer, PreviousEnd, Saving
from bmsd.model.layout import Layout
from bmsd.model.plant import Plant
from bmsd.model.request import Power, Release, Reset, Role
from bmsd.model.row import Latch, Level, Row, Scope
from bmsd.model.snapshot import CHEMISTRIES, INPUTS, Controller, Input
from bmsd.model.snapshot import Reading as Kind
from tests import rack

USUAL = rack.plant()
PLANT = replace(
    USUAL,
    limits=replace(USUAL.limits, rise_a_per_s_per_100a=1000.0, hold_after_zero_s=0.5),
    inverter=replace(USUAL.inverter, keepalive_required=True),
)
"""Limits that rise at once: these stories are about faults."""
CLOSED = rack.closed(PLANT)


@dataclass(frozen=True)
class Story:
    """What the snapshot shows, as values of `rack.snapshot` at the n-th tick, and for how long.

    `after`: values of a rack that is healthy again. `isolated`: the string is out of the circuit when it is raised.
    `joins`, `alone`: the string must be free to close, and is the only one that feeds the bus. `new`: bmsd has no map
    of the boards yet, and they have not said who they are.
    """

    values: Callable[[int], dict[str, Any]]
    seconds: float
    plant: Plant = PLANT
    after: dict[str, Any] = field(default_factory=lambda: CLOSED)
    isolated: bool = False
    joins: bool = False
    alone: bool = False
    new: bool = False


def steady(seconds: float, **values: Any) -> Story:
    return Story(lambda _: values, seconds)


def cell(volts: float, seconds: float = 3.0, **values: Any) -> Story:
    cell_v = np.full(PLANT.layout.cell_shape, 3.30)
    cell_v[0, 0, 5] = volts
    return steady(seconds, cell_v=cell_v, **values)


def sensor(degc: float, seconds: float = 6.0, **values: Any) -> Story:
    temperature_degc = np.full(PLANT.layout.sensor_shape, 25.0)
    temperature_degc[0, 0, 2] = degc
    return steady(seconds, temperature_degc=temperature_degc, **values)


def warming(seconds: float, *k_per_min: float, **values: Any) -> Story:
    """The first sensors warm at these rates, counted from the start."""

    def shown(tick: int) -> dict[str, Any]:
        degc = np.full(PLANT.layout.sensor_shape, 25.0)
        degc[0, 0, : len(k_per_min)] += min(tick, 200) * np.array(k_per_min) / 60.0
        return {"temperature_degc": degc} | values

    return Story(shown, seconds)


def jumping() -> Story:
    """A cell is 60 mV higher at every second poll."""
    return Story(lambda tick: cell(3.36 if tick % 4 < 2 else 3.30).values(tick), 2.0)


def counting(name: str, per_tick: int, seconds: float) -> Story:
    return Story(lambda tick: {name: np.full(PLANT.layout.module_shape, per_tick * (tick + 1))}, seconds)


def leaking(leak_ma: float) -> Story:
    """The ledger has found that a cell drains itself."""
    cells = np.zeros(PLANT.layout.cell_shape)
    cells[0, 0, 5] = leak_ma
    return Story(lambda _: {"leak_ma": cells}, 0.1, after=CLOSED | {"leak_ma": 0.0})


def no_voltage(kind: Kind) -> Story:
    cell_reading = np.zeros(PLANT.layout.cell_shape, dtype=np.int64)
    cell_reading[0, 0, 5] = kind
    return cell(np.nan, cell_reading=cell_reading)


def no_temperature(*kinds: Kind) -> Story:
    """The first sensors read so; the reading lasts for three rotations of the slow group, and the coverage's 5 s."""
    reading = np.zeros(PLANT.layout.sensor_shape, dtype=np.int64)
    reading[0, 0, : len(kinds)] = kinds
    return steady(6.0, temperature_reading=reading, temperature_degc=np.where(reading == Kind.OK, 25.0, np.nan))


def found(name: str, seconds: float) -> Story:
    inputs = np.zeros((PLANT.layout.strings, len(INPUTS)), dtype=np.int64)
    inputs[0, INPUTS.index(name)] = Input.ACTIVE
    return steady(seconds, inputs=inputs)


MINUS_CLOSES: dict[str, Any] = {"minus": 1, "minus_output": True}
FELL = {"minus": 0, "plus": 0, "minus_output": False, "plus_output": False}


def told_open(seconds: float, **then: Any) -> Story:
    """The unit opens by itself; the string is told to stay open, and then shows this."""
    return Story(lambda tick: FELL if tick == 0 else FELL | then, seconds, after={}, isolated=True)


def closes_again(ticks: int, *, alone: bool = True, **then: Any) -> Story:
    """The unit opens by itself; after a pause of 30 s the string closes again, at tick 31, and then shows this."""
    after = rack.closed(PLANT)
    return Story(lambda tick: FELL if tick < 32 else FELL | then, ticks, PLANT, after, True, True, alone)


def closes_and_lets_go() -> Story:
    """The unit opens by itself; the string closes again after its pause, and then its minus contact says open."""
    steps = {32: {**FELL, **MINUS_CLOSES}, 33: {}, 34: {}}
    shows: Callable[[int], dict[str, Any]] = lambda tick: FELL if tick < 32 else steps.get(tick, {"minus": 0})  # noqa: E731
    return Story(shows, 37, PLANT, rack.closed(PLANT), True, True, True)


def apart() -> Story:
    """The second of two strings has opened by itself; when its pause is over it is 1 V above the bus."""
    cell_v = np.array([3.30, 3.3625])
    volts: dict[str, Any] = {"string_v": 16 * cell_v, "bus_v": np.full(2, 52.8), "module_v": 16 * cell_v[:, None]}
    volts["cell_v"] = np.broadcast_to(cell_v[:, None, None], (2, 1, 16))
    first = {name: np.array([1, 0]) for name in ("minus", "plus")}
    first |= {f"{name}_output": np.array([True, False]) for name in ("minus", "plus")}
    two = replace(PLANT, layout=Layout(2, 1, 16, 4))
    return Story(lambda _: volts | first, 34.0, two, rack.closed(two), joins=True)


WELL = Computer(1000, 0.0, 40.0, 60.0, 0.5, 0.1, 0.5, 0.0, 0.1, 0.0)
AFTER = {
    **CLOSED,
    "computer": WELL,
    "saving": Saving(took_s=0.01),
    "utc_quality": ClockQuality.SYNCHRONISED,
    "heartbeat_path": 0.0,
    "starts": Starts(),
}
"""A computer that says of everything that it is well: what it does not say would change nothing."""


def computer(seconds: float, **values: float) -> Story:
    """The computer says this anew at every tick."""
    return Story(lambda tick: {"computer": replace(WELL, reading=tick + 1, **values)}, seconds, after=AFTER)


def host(seconds: float, **values: Any) -> Story:
    return Story(lambda _: values, seconds, after=AFTER)


def before(previous: PreviousEnd, times: int = 1) -> Story:
    """The process before this one ended so, and so did this many of those before."""
    return host(0.1, starts=Starts("boot", 116.0, previous, (116.0,) * times))


def out_of_sight() -> Story:
    """The unit of the second of two strings opens by itself, and is not heard any more before it was seen open."""
    silent = {"unit_state_age_s": np.array([0.1, np.inf])}
    fell = {name: np.array([1, 0]) for name in ("minus", "plus", "minus_output", "plus_output")}
    two = replace(PLANT, layout=Layout(2, 1, 16, 4))
    return Story(lambda tick: fell if tick == 0 else fell | silent, 7.0, two, fell)


SILENT = {"cell_v": np.nan, "cell_reading": rack.MISSING, "cell_age_s": 3.5}

STORIES = {
    "CEL-001": cell(3.56),
    "CEL-002": cell(3.61),
    "CEL-003": cell(3.66),
    "CEL-004": cell(3.76),
    "CEL-005": cell(2.99),
    "CEL-006": cell(2.89),
    "CEL-007": cell(2.79, current_a=-20.0),
    "CEL-008": cell(2.49),
    "CEL-017": leaking(5.3),
    "CEL-022": leaking(50.3),
    "CEL-020": steady(0.2, cell_count=15),
    "CEL-012": no_voltage(Kind.OPEN),
    "CEL-011": jumping(),
    "CEL-014": no_voltage(Kind.INVALID),
    "CEL-015": steady(3.0, string_v=54.0),
    "CEL-021": steady(3.0, module_v=54.0),
    "TMP-001": sensor(45.5, current_a=20.0),
    "TMP-002": sensor(50.5, current_a=20.0),
    "TMP-003": sensor(55.5, current_a=20.0),
    "TMP-004": sensor(50.5),
    "TMP-005": sensor(55.5),
    "TMP-006": sensor(60.5),
    "TMP-007": sensor(4.5),
    "TMP-008": sensor(0.5),
    "TMP-009": sensor(-0.5, 61.0, current_a=10.0),
    "TMP-010": sensor(-10.5),
    "TMP-011": sensor(-20.5),
    "TMP-012": sensor(36.0, 31.0),
    "TMP-013": sensor(41.0, 31.0),
    "TMP-014": warming(90.0, 2.5),
    "TMP-015": warming(90.0, 8.0, 8.0),
    "TMP-016": cell(3.15, 3.0, **found("smoke", 3.0).values(0)),
    "TMP-020": sensor(46.0, 31.0),
    "TMP-024": warming(180.0, 2.0, 0.9),
    "TMP-017": no_temperature(Kind.OPEN),
    "TMP-018": no_temperature(Kind.SHORT),
    "TMP-021": no_temperature(Kind.OPEN, Kind.SHORT, Kind.INVALID),
    "CUR-001": steady(3.0, current_a=149.0),
    "CUR-002": steady(3.0, current_a=160.0),
    "CUR-003": steady(0.5, current_a=176.0),
    "CUR-004": steady(3.0, current_a=-211.0),
    "CUR-005": steady(3.0, current_a=-230.0),
    "CUR-006": steady(0.5, current_a=-251.0),
    "CUR-012": told_open(2.0, current_a=2.6),
    "PCK-006": apart(),
    "CON-001": told_open(1.0, minus=1, plus=1),
    "CON-002": closes_again(34, alone=False),
    "CON-003": told_open(1.0, plus=1),
    "CON-004": closes_and_lets_go(),
    "CON-008": closes_again(47, **MINUS_CLOSES, bus_v=45.0),
    "CON-009": closes_again(37, **MINUS_CLOSES, bus_v=5.0),
    "CUR-008": steady(1.0, current_a=np.nan, current_age_s=1.0),
    "CUR-009": steady(1.0, current_a=np.nan),
    "MOD-001": steady(3.0, **SILENT),
    "MOD-003": counting("duplicates", 1, 0.3),
    "MOD-004": steady(0.2, chemistry=CHEMISTRIES.index("nmc")),
    "MOD-006": counting("counter_errors", 1, 1.0),
    "MOD-007": counting("crc_errors", 2, 1.0),
    "MOD-008": steady(0.2, uid=4711),
    "MOD-014": steady(0.2, trip_active=True),
    "MOD-015": Story(lambda _: {}, 0.2, new=True),
    "CON-010": found("fuse", 1.6),
    "CON-011": found("interlock", 0.2),
    "CON-012": found("emergency_stop", 0.2),
    "CON-014": steady(0.2, unit_trip_code=5),
    "CON-015": out_of_sight(),
    "ISO-002": found("insulation", 1.6),
    "AUX-002": found("smoke", 1.6),
    "INV-001": steady(0.1, inverter_age_s=10.1),
    "INV-006": steady(0.1, inverter_age_s=60.1),
    "CAN-001": steady(0.1, bus_off=np.array([True, False])),
    "CAN-002": steady(1.2, controller=np.array([0, Controller.PASSIVE])),
    "CAN-003": Story(lambda tick: {"bus_errors": np.array([0, 20 * (tick + 1)])}, 18.0),
    "PCK-005": Story(lambda _: {"capacity": 0.69}, 3660.0, after=CLOSED | {"capacity": 0.71}),
    "CAN-004": steady(0.1, lost_frames=np.array([1, 0])),
    "CAN-005": steady(0.2, send_stalled_s=np.array([0.0, 0.31])),
    "CAN-009": steady(0.1, up=np.array([True, False])),
    "CAN-010": Story(lambda tick: {"malformed_frames": np.array([tick, 0])}, 0.8),
    "CAN-012": steady(5.8, unheard_s=np.array([3.0, 3.0])),
    "CAN-011": steady(0.1, foreign_frames=np.array([1, 0])),
    "EMS-001": Story(
        lambda tick: {} if tick else {"requests": (Power(2640.0, 1.0),)},
        1.6,
        after=CLOSED | {"requests": (Release("power"),)},
    ),
    "SYS-001": steady(0.5, period_s=0.31),
    "SYS-002": before(PreviousEnd.PROCESS),
    "SYS-003": before(PreviousEnd.COMPUTER, 5),
    "SYS-005": computer(31.0, cpu_degc=80.5),
    "SYS-006": computer(61.0, memory_available=0.09),
    "SYS-007": computer(61.0, files_used=0.81),
    "SYS-008": computer(0.1, disk_free=0.14),
    "SYS-009": host(0.1, saving=Saving(refused=True)),
    "SYS-010": computer(0.1, storage_wear=0.9),
    "SYS-011": host(0.1, clock_step_s=-3600.0),
    "SYS-012": host(3600.0 + 61.0, utc_quality=ClockQuality.UNSET),
    "SYS-014": host(0.1, saving=Saving(took_s=0.51)),
    "SYS-015": computer(0.2, power_low=1.0),
    "SYS-016": before(PreviousEnd.COMPUTER),
    "SYS-017": host(6.2, heartbeat_path=1.0),
    "SYS-019": steady(0.1, blocked_frames=1),
}
STEPS_S = ((1.0, 0.1), (10.0, 0.2), (600.0, 1.0), (np.inf, 60.0))
"""Up to which length of a story, and the steps that it is told in."""
NOT_TOLD = {"PCK-005", "SYS-010", "SYS-012", "SYS-014"}
"""Warnings that are the owner's business: no inverter has a word for them."""
EVERY_ROW = pytest.mark.parametrize("entry", CATALOGUE, ids=lambda entry: entry.code)


def number(value: float | str) -> float:
    return PLANT.thresholds[value] if isinstance(value, str) else value


def drive_of(*table: Row, plant: Plant = PLANT, new: bool = False) -> rack.Drive:
    """A running rack that knows only these rows (all of them without one)."""
    drive = rack.Drive(plant, table=table or CATALOGUE)
    if new:
        drive.memory = replace(drive.memory, commissioned=None)
    drive.run(16.0, 2.0, **rack.closed(plant), **({"uid": -1} if new else {}))
    return drive


def tell(drive: rack.Drive, story: Story) -> list[Outcome]:
    """Ticks of the story, with the strings as the drive's contactors have them."""
    dt_s = next(dt_s for most_s, dt_s in STEPS_S if story.seconds <= most_s)
    closed = rack.closed(story.plant)
    return [drive.tick(dt_s, **{**closed, **story.values(tick)}) for tick in range(round(story.seconds / dt_s))]


def test_every_row_has_a_story_here():
    assert set(STORIES) == {entry.code for entry in CATALOGUE}


def test_codes_and_names_are_unique():
    assert len({entry.code for entry in CATALOGUE}) == len({entry.name for entry in CATALOGUE}) == len(CATALOGUE)


def test_a_healthy_rack_has_no_fault():
    outcome = drive_of().tick(**CLOSED)
    assert not outcome.faults
    assert not outcome.vetoes
    assert (outcome.command.ccl_a, outcome.command.dcl_a) == (140.0, 200.0)


@EVERY_ROW
def test_a_row_is_complete(entry: Row):
    assert entry.detector in DETECTORS
    sign = -1.0 if entry.below else 1.0
    assert sign * number(entry.clear) <= sign * number(entry.trip), "clear is on the good side of trip"
    assert entry.means.endswith(".")
    assert entry.does.endswith(".")
    assert entry.remedy.endswith(".")
    assert min(entry.delay_s, entry.clear_s, entry.notice_s) >= 0.0
    assert entry.samples >= 1
    assert (entry.level >= Level.WARNING and entry.code not in NOT_TOLD) == bool(entry.alarms), "whom it concerns"


@EVERY_ROW
def test_what_a_row_does_fits_its_level(entry: Row):
    stops = entry.stops_charge or entry.stops_discharge
    assert stops == (entry.level >= Level.ALARM)
    if entry.level is Level.TRIP:
        assert entry.latch is not Latch.AUTO
    else:
        assert not entry.notice_s
    assert entry.level is not Level.TRIP or entry.open_after_s is None
    assert not entry.reclose_on_ack or entry.level is Level.TRIP


@EVERY_ROW
def test_a_row_is_raised_by_its_story(entry: Row):
    story = STORIES[entry.code]
    assert entry.code in rack.codes(tell(drive_of(plant=story.plant, new=story.new), story)[-1])


@EVERY_ROW
def test_a_raised_row_does_what_it_says(entry: Row):
    story = STORIES[entry.code]
    drive = drive_of(entry, plant=story.plant, new=story.new)
    told = tell(drive, story)
    raised = told[-1]
    command = raised.command
    (fault,) = raised.faults
    assert (fault.code, fault.level, fault.count) == (entry.code, entry.level, 1)
    for stops, amps, enabled, side in (
        (entry.stops_charge, command.ccl_a, command.charge_enabled, "charge"),
        (entry.stops_discharge, command.dcl_a, command.discharge_enabled, "discharge"),
    ):
        bounds = [bound for outcome in told for bound in getattr(outcome.limits, side)]
        # a trip without a delay opens in the same tick: then the opening is the reason
        at_once = entry.level is Level.TRIP and entry.samples == 1 and not entry.delay_s
        by = {entry.code, "contactors"} if at_once and not story.isolated else {entry.code}
        bound = stops and (not story.isolated or entry.opens_others)
        assert any(b.source in by and b.amps == 0.0 for b in bounds) is bound
        assert not stops or (amps == 0.0 and not enabled)
        assert (amps > 0.0) == enabled
    assert command.alarms == (entry.alarms if entry.level >= Level.ALARM else frozenset())
    assert command.warnings == (entry.alarms if entry.level < Level.ALARM else frozenset())
    assert not entry.force_charge or drive.memory.force_charge
    assert not raised.vetoes, "the guard had nothing to do"


@EVERY_ROW
def test_only_rows_that_open_open_the_string(entry: Row):
    story = STORIES[entry.code]
    drive, closed = drive_of(entry, plant=story.plant, new=story.new), rack.closed(story.plant)
    tell(drive, story)
    wait_s = 3.5 if entry.level is Level.TRIP else (entry.open_after_s or 3.0) + 0.3
    outcome = drive.tick(**closed)
    for tick in range(round(wait_s / 0.2) + 1):
        outcome = drive.tick(0.2, **{**closed, **story.values(tick + 1000)})
    opens = entry.level is Level.TRIP or entry.open_after_s is not None
    assert bool(outcome.command.close_plus[0]) is not opens
    assert bool(outcome.command.inverter_enable[0]) is not opens


@pytest.mark.parametrize("entry", [e for e in CATALOGUE if e.bars_closing], ids=lambda entry: entry.code)
def test_a_row_that_bars_closing_keeps_an_open_string_open_from_its_first_sample_on(entry: Row):
    slow = replace(entry, delay_s=1000.0)
    for table in ((entry,), (slow,)):
        drive = rack.Drive(PLANT, table=table)
        drive.run(0.2)
        told = [drive.tick(0.1, **STORIES[entry.code].values(tick)) for tick in range(30)]
        assert rack.states(told[-1]) == ["open"]
        assert not any(outcome.command.close_minus[0] for outcome in told)
    assert not told[-1].faults, "the bar does not wait for the fault"


@EVERY_ROW
def test_a_row_is_cleared_by_what_it_names_not_early_and_by_nothing_less(entry: Row):
    story = STORIES[entry.code]
    drive = drive_of(entry, plant=story.plant, new=story.new)
    last = tell(drive, story)[-1]
    assert rack.codes(last) == {entry.code}
    healthy: dict[str, Any] = {
        **story.after,
        "counter_errors": last.snapshot.modules.counter_errors,
        "crc_errors": last.snapshot.modules.crc_errors,
        "blocked_frames": last.snapshot.host.blocked_frames,
    }
    if entry.clear_s >= 1.0:
        assert rack.codes(drive.run(entry.clear_s, entry.clear_s / 5, **healthy)[-1]) == {entry.code}
    drive.run(entry.clear_s / 5 + 15.0, 3.0, **healthy)
    if entry.latch is not Latch.AUTO:
        assert rack.codes(drive.tick(0.2, **healthy)) == {entry.code}
        ask = Reset(entry.code, Role.SERVICE if entry.latch is Latch.SERVICE else Role.OPERATOR, "inspected")
        drive.tick(0.2, **healthy, requests=(ask,))
    assert rack.codes(drive.tick(0.2, **healthy)) == set()


@pytest.mark.parametrize(
    "entry",
    [
        e
        for e in CATALOGUE
        if e.scope not in (Scope.RACK, Scope.BUS) and not (e.opens_others or e.whole_rack) and not STORIES[e.code].alone
    ],
    ids=lambda entry: entry.code,
)
def test_what_concerns_one_string_leaves_the_others_alone(entry: Row):
    two = replace(PLANT, layout=Layout(2, 1, 16, 4))
    drive = rack.Drive(two, table=(entry,))
    opened: dict[str, Any] = {**rack.closed(two), "minus": np.array([1, 0]), "plus": np.array([1, 0])}
    opened |= {"minus_output": np.array([True, False]), "plus_output": np.array([True, False])}
    opened |= {"unit_trip_code": np.array([0, 9])}
    drive.run(16.0, 2.0, **opened)
    story = STORIES[entry.code]
    dt_s = 1.0 if story.seconds > 10.0 else 0.1
    for tick in range(round(story.seconds / dt_s) + 5):
        values = {name: second_string(two, opened, name, value) for name, value in story.values(tick).items()}
        values |= {"unit_trip_code": 0} if story.joins else {}
        outcome = drive.tick(dt_s, **{**opened, **values})
    assert rack.codes(outcome) == {entry.code}
    assert rack.states(outcome)[0] == "closed"
    assert (outcome.command.ccl_a, outcome.command.dcl_a) == (140.0, 200.0)
    assert outcome.command.cvl_v == pytest.approx(55.2)
    assert outcome.command.alarms == frozenset(), "some inverters stop at an alarm"
    assert outcome.command.warnings == entry.alarms
    assert not outcome.command.force_charge


def second_string(two: Plant, opened: dict[str, Any], name: str, value: Any) -> Any:
    """This value of a one-string story for the second string only, the first as it is when healthy."""
    if isinstance(value, np.ndarray) and len(value) == 2:
        return value
    if name == "leak_ma":
        return np.concatenate((np.zeros_like(value), value))
    healthy = rack.snapshot(two, 100.0, **opened)
    part = healthy.modules if hasattr(healthy.modules, name) else healthy.units
    values = getattr(part, name.removeprefix("unit_")).copy()
    values[1] = value[0] if isinstance(value, np.ndarray) else value
    return values


def test_the_ninth_protection_touches_no_existing_function():
    @detector
    def coil_voltage(evidence: Evidence) -> Reading:
        """Voltage of the coil supply, V."""
        return Reading(evidence.snapshot.units.coil_v)

    try:
        coil = Row(
            "CON-905", "coil_supply_low", Scope.STRING, "coil_voltage", 18.0, 20.0, Level.TRIP, "Low.", "Opens.",
            "Check.", below=True, delay_s=0.5, stops_charge=True, stops_discharge=True, latch=Latch.OPERATOR,
        )  # fmt: skip
        drive = drive_of(*CATALOGUE, coil)
        assert rack.codes(drive.run(0.5, **CLOSED, coil_v=17.0)[-1]) == set()
        outcome = drive.run(0.2, **CLOSED, coil_v=17.0)[-1]
        assert rack.codes(outcome) == {"CON-905"}
        assert outcome.command.ccl_a == outcome.command.dcl_a == 0.0
        assert not drive.run(0.2, **CLOSED, coil_v=17.0)[-1].command.close_plus[0]
    finally:
        del DETECTORS["coil_voltage"]


@pytest.mark.parametrize(("code", "degc"), [("TMP-001", 45.5), ("TMP-003", 55.5), ("TMP-009", -0.5)])
def test_an_unknown_current_counts_as_a_charge(code, degc):
    drive = drive_of(row(code))
    assert rack.codes(drive.run(62.0, 1.0, **CLOSED, temperature_degc=degc, current_a=0.0)[-1]) == set()
    assert rack.codes(drive.run(62.0, 1.0, **CLOSED, temperature_degc=degc, current_a=np.nan)[-1]) == {code}


def test_an_unknown_current_counts_as_a_discharge_of_a_low_cell():
    drive = drive_of(row("CEL-007"))
    assert rack.codes(drive.run(2.0, **CLOSED, cell_v=2.79)[-1]) == set()
    assert rack.codes(drive.run(1.0, **CLOSED, cell_v=2.79, current_a=np.nan)[-1]) == {"CEL-007"}


def test_one_silent_unit_does_not_hide_the_over_current_of_another_string():
    two = replace(PLANT, layout=Layout(2, 1, 16, 4))
    drive = rack.Drive(two)
    drive.run(16.0, 2.0, **rack.closed(two))
    outcome = drive.run(2.0, 0.2, **rack.closed(two), current_a=np.array([np.nan, 160.0]))[-1]
    assert "CUR-002" in rack.codes(outcome)
    assert "CUR-005" not in rack.codes(outcome)


def test_an_unknown_code_has_no_row():
    assert row("CEL-002").name == "cell_over_voltage_alarm"
    with pytest.raises(KeyError):
        row("XXX-001")


def test_an_overcharged_cell_opens_at_once_and_is_no_fault_of_the_measurement():
    drive = rack.running(PLANT)
    cell_v = np.full(PLANT.layout.cell_shape, 3.30)
    cell_v[0, 0, 5] = 4.6
    outcomes = drive.run(1.0, cell_v=cell_v, **CLOSED)
    assert outcomes[0].command.ccl_a == outcomes[0].command.dcl_a == 0.0
    assert "CEL-004" in rack.codes(outcomes[-1])
    assert not any("CEL-014" in rack.codes(outcome) for outcome in outcomes)
    cell_v[0, 0, 5] = 5.01
    later = drive.run(1.0, cell_v=cell_v, **CLOSED)
    assert {"CEL-004", "CEL-014"} <= rack.codes(later[-1]), "what no cell can have does not release the latch"
