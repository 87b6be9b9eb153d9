"""Thresholds that change while the rack runs: what has begun goes on, what is latched stays."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from bmsd.core.protection.protect import Protections
from bmsd.model.plant import Plant
from tests import rack

PLANT = rack.plant()


def changed(drive: rack.Drive, **thresholds: float) -> None:
    """Go on with the same memory and these thresholds, as control does after its file was read again."""
    drive.plant = replace(drive.plant, thresholds={**drive.plant.thresholds, **thresholds})
    drive.protections = Protections.of(drive.plant, 2)


def cell(volts: float, plant: Plant = PLANT) -> dict[str, Any]:
    values = np.full(plant.layout.cell_shape, 3.3)
    values.flat[0] = volts
    return {**rack.closed(plant), "cell_v": values}


def first(drive: rack.Drive, code: str, **values: Any) -> int:
    """Return the number of ticks after which this fault is raised."""
    return next(number for number in range(1, 100) if code in rack.codes(drive.tick(**values)))


def test_a_delay_that_has_begun_goes_on() -> None:
    straight = rack.running(PLANT)
    reloaded = straight.fork()
    needs = first(straight, "CEL-003", **cell(3.7))
    assert needs > 3
    reloaded.run(0.2, **cell(3.7))
    changed(reloaded, cell_over_voltage_trip_v=3.66)
    assert first(reloaded, "CEL-003", **cell(3.7)) == needs - 2


def test_what_is_latched_stays_latched_whatever_the_threshold_is_now() -> None:
    drive = rack.running(PLANT)
    first(drive, "CEL-003", **cell(3.7))
    changed(drive, cell_over_voltage_trip_v=3.74, cell_over_voltage_trip_clear_v=3.72)
    faults = {fault.code: fault for fault in drive.run(5.0, **cell(3.7))[-1].faults}
    assert faults["CEL-003"].latched


def test_a_lower_threshold_takes_effect_at_once() -> None:
    drive = rack.running(PLANT)
    drive.run(5.0, **cell(3.62))
    assert "CEL-003" not in rack.codes(drive.tick(**cell(3.62)))
    changed(drive, cell_over_voltage_trip_v=3.61)
    outcome = drive.tick(**cell(3.62))
    assert outcome.limits.charge[0].amps == 0.0
    assert first(drive, "CEL-003", **cell(3.62)) < 10
