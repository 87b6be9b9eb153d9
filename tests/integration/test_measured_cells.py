"""Cells measured by others, played back by simulated boards: through CAN and the daemon to the inverter's frames."""

from __future__ import annotations

import numpy as np
from measured import K2, PLETT, Played, poll_s, polls
from recording import Recording

from bmsd.model.published import Published

RATED_CHARGE_A, RATED_DISCHARGE_A = 100.0, 110.0
CHARGE_BY_CELL_V = ((3.40, 3.45, 3.50, 3.55), (1.0, 0.25, 0.05, 0.0))
DISCHARGE_BY_CELL_V = ((2.90, 3.00, 3.10, 3.20), (0.0, 0.1, 0.5, 1.0))
"""The defaults of docs/configuration.md, written once more."""
LATEST_S = 0.35
"""From a measurement to the inverter's frame: to the end of the poll, to the next tick, to the next 0x351."""


def allowed(record: Published) -> tuple[float, float]:
    """Return what the highest and the lowest cell allow, A; nothing while one is unknown."""
    cell_v = record.snapshot.modules.cell_v
    if not np.isfinite(cell_v).all():
        return 0.0, 0.0
    charge = RATED_CHARGE_A * float(np.interp(cell_v.max(), *CHARGE_BY_CELL_V))
    discharge = RATED_DISCHARGE_A * float(np.interp(cell_v.min(), *DISCHARGE_BY_CELL_V))
    return charge, discharge


def assert_shows(series: Played, rack: Recording, least: int) -> list[set[int]]:
    seen = polls(rack)
    assert len(seen) >= least, rack.run.err
    places = series.places(seen)
    assert places[-1], f"poll {len(places)} of {len(seen)} shows no sample of the series in its place"
    expected = series.start_s + series.speed * (poll_s(seen[-1]) - poll_s(seen[0]))
    assert min(abs(k - expected) for k in places[-1]) <= 2.0 * series.speed
    return places


def assert_no_limit_above_the_cell(rack: Recording) -> None:
    assert len(rack.told) > 8
    checked = 0
    for told in rack.told:
        recent = [allowed(r) for r in rack.records if told.at_s - LATEST_S <= r.snapshot.now_s <= told.at_s]
        if recent:
            checked += 1
            assert told.ccl_a <= max(charge for charge, _ in recent) + 1e-9
            assert told.dcl_a <= max(discharge for _, discharge in recent) + 1e-9
    assert checked > 8


def first_above(seen: list[Published], volts: float, samples: int = 1) -> Published:
    """Return the poll in which the cells are above `volts` for this many polls."""
    high = [record for record in seen if float(record.snapshot.modules.cell_v.max()) > volts]
    return high[samples - 1]


def told_zero_s(rack: Recording, after_s: float) -> float:
    return next(told.at_s for told in rack.told if told.at_s >= after_s and told.ccl_a == 0.0)


def test_an_overcharge_is_reported_as_it_was_measured(overcharge: Recording) -> None:
    assert_shows(K2["overcharge"], overcharge, least=15)
    assert_no_limit_above_the_cell(overcharge)
    charging = [r for r in polls(overcharge) if float(r.snapshot.modules.cell_v.max()) > 3.5]
    assert all(float(r.snapshot.units.current_a[0]) > 55.0 for r in charging[1:]), "6 A into the cell, times ten"


def test_a_cell_above_its_limit_stops_the_charge_in_the_same_poll(overcharge: Recording) -> None:
    high = first_above(polls(overcharge), 3.55)
    assert high.command.ccl_a == 0.0
    assert not high.command.charge_enabled
    assert high.command.dcl_a > 0.0, "it may be discharged"
    zero_s = told_zero_s(overcharge, poll_s(high))
    assert zero_s - poll_s(high) < LATEST_S
    assert all(told.ccl_a == 0.0 for told in overcharge.told if told.at_s >= zero_s)
    assert not any(flags.charge for flags in overcharge.flags if flags.at_s > zero_s + 0.2)


def test_the_rows_of_a_rising_cell_are_raised_as_they_say(overcharge: Recording) -> None:
    rack, seen = overcharge, polls(overcharge)
    alarm = rack.first("CEL-002")
    assert alarm.sequence == first_above(seen, 3.60, samples=3).sequence, "the third sample above 3.60 V"
    warning_s = poll_s(rack.first("CEL-001")) - poll_s(first_above(seen, 3.55))
    assert 0.99 <= warning_s <= 1.3, "three samples and one second above 3.55 V"
    trip_s = rack.first("CEL-003").snapshot.now_s - poll_s(first_above(seen, 3.65))
    assert 0.5 <= trip_s <= 0.85, "half a second above 3.65 V"
    critical = [r for r in rack.records if float(np.nanmax(r.snapshot.modules.cell_v, initial=0.0)) > 3.75]
    syncs = [int(r.snapshot.modules.cell_sync.max()) for r in critical]
    second = critical[next(index for index, sync in enumerate(syncs) if sync != syncs[0])]
    assert rack.first("CEL-004").sequence == second.sequence, "the second sample above 3.75 V"


def test_the_string_is_asked_to_stop_and_opens_at_once_when_it_becomes_critical(overcharge: Recording) -> None:
    trip, critical = overcharge.first("CEL-003"), overcharge.first("CEL-004")
    assert trip.strings[0].state == "opening"
    assert trip.command.close_plus[0], "the inverter is given time: 60 A are flowing"
    assert (trip.command.ccl_a, trip.command.dcl_a) == (0.0, 0.0)
    assert critical.strings[0].state == "open"
    assert not critical.command.close_plus[0]
    assert overcharge.records[-1].snapshot.units.current_a[0] == 0.0
    assert {"CEL-003", "CEL-004"} <= {fault.code for fault in overcharge.records[-1].faults}, "both wait for somebody"


def test_a_spike_of_the_logger_stops_the_current_and_raises_nothing(glitch: Recording) -> None:
    """One sample of 0.0 V among 3.27 V: no cell is like that. It is unknown, not empty."""
    started = next(index for index, record in enumerate(glitch.records) if record.command.ccl_a > 0.0)
    later = glitch.records[started:]
    unknown = [record for record in later if not np.isfinite(record.snapshot.modules.cell_v).all()]
    assert unknown, "the spike was not seen"
    spike = unknown[0]
    assert len({int(record.snapshot.modules.cell_sync.max()) for record in unknown}) <= 2
    assert (spike.command.ccl_a, spike.command.dcl_a) == (0.0, 0.0)
    assert "unknown" in spike.charge_bounds[0].reason
    assert told_zero_s(glitch, spike.snapshot.now_s) - spike.snapshot.now_s < LATEST_S
    assert glitch.codes() == ["MOD-015"], "its first start"
    after_s = unknown[-1].snapshot.now_s
    again = next(record for record in later if record.snapshot.now_s > after_s and record.command.ccl_a > 0.0)
    assert 1.0 <= again.snapshot.now_s - after_s <= 1.5, "a limit stays zero for the hold after a stop"
    assert_no_limit_above_the_cell(glitch)


def test_a_drive_cycle_is_reported_as_it_was_measured(drive: Recording) -> None:
    places = assert_shows(PLETT, drive, least=30)
    assert_no_limit_above_the_cell(drive)
    assert drive.codes() == ["MOD-015"], "its first start"
    reported, measured = [], []
    for record, samples in zip(polls(drive), places, strict=True):
        near = PLETT.charging_a[min(samples) - 1 : max(samples) + 6]
        reported.append(float(record.snapshot.units.current_a[0]))
        measured.append(float(near.mean()))
        assert near.min() - 0.05 <= reported[-1] <= near.max() + 0.05
    assert np.ptp(reported) > 60.0
    assert np.corrcoef(reported, measured)[0, 1] > 0.6, "of the right sign: charging is positive"


def test_the_state_of_charge_moves_by_the_charge_that_flowed(drive: Recording) -> None:
    seen = polls(drive)
    places = PLETT.places(seen)
    charges_as = np.array([float(record.snapshot.units.charge_as[0]) for record in seen])
    begin = 2
    end = int(np.argmax(abs(charges_as - charges_as[begin])))
    first, last, counted_as = seen[begin], seen[end], float(charges_as[end] - charges_as[begin])
    # Up to the sample at each end: where exactly within a poll the counter was latched is not known. The simulator
    # moves in steps of some ms, so that an edge of 40 A comes up to 0.2 As late or early.
    edges_as = 1.0
    total_as = np.concatenate(([0.0], np.cumsum(PLETT.charging_a))) / PLETT.speed
    ends = total_as[min(places[end]) : max(places[end]) + 7]
    starts = total_as[min(places[begin]) : max(places[begin]) + 7]
    assert ends.min() - starts.max() - edges_as <= counted_as <= ends.max() - starts.min() + edges_as
    moved = last.estimate.cell_soc - first.estimate.cell_soc
    # what the voltage told meanwhile moves it as well, by no more than was unknown
    sigma = first.estimate.cell_soc_sigma
    assert (abs(moved - counted_as / 3600.0 / 20.5) <= 2.0 * sigma).all()
