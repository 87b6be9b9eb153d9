"""The ledger on cells of the twin: how long balancing takes, when it says it is done, and what leaks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bmsd.core import memory
from bmsd.core.protection.protect import Protections
from bmsd.core.tick import tick
from tests.lab.daily_cycles import STEP_S, Days

BLEED_A = 3.35 / 33.0
END_OF_SUN_S = 43200.0


def test_five_percent_are_worked_off_in_the_time_that_the_current_needs_and_that_was_told() -> None:
    days = Days(50.0, 8, {3: 0.05}, {})
    began_s, ended_s = None, None
    imbalance_ah = float(np.ptp(days.missing_ah))
    told: list[tuple[float, float, float]] = []
    while days.time_s < 2.0 * 86400.0 and ended_s is None:
        days.step()
        began_s = days.time_s if began_s is None and days.bleeding.any() else began_s
        if days.time_s < END_OF_SUN_S:
            continue  # not every cell has been read yet
        if days.known.wanted.any():
            told.append((days.time_s, float(days.known.time_s[0]), float(days.known.time_sigma_s[0])))
        else:
            ended_s = days.time_s
    assert began_s is not None
    assert ended_s is not None
    assert ended_s - began_s <= 1.7 * 3600.0 * imbalance_ah / BLEED_A
    assert np.ptp(days.missing_ah) <= 0.005 * 50.0
    at_s, left_s, _ = told[0]
    assert left_s == pytest.approx(ended_s - at_s, rel=0.2)
    assert all(abs(at_s + left_s - ended_s) <= 2.0 * sigma_s for at_s, left_s, sigma_s in told)
    moved_ah = days.known.moved_ah[0, 0]
    assert moved_ah[3] > 0.8 * moved_ah.sum(), "it was the cell that had too much"
    assert days.known.bled_wh[0] == pytest.approx(3.38 * moved_ah.sum(), rel=0.03)
    assert days.cells.bled_j / 3600.0 == pytest.approx(days.known.bled_wh[0], rel=0.02)


def test_a_soft_short_is_found_within_a_week_and_a_small_leak_is_none() -> None:
    days = Days(100.0, 6, {}, {4: 66.0, 1: 1100.0})
    protections = Protections.of(days.plant, 2)
    warned_s = None
    while days.time_s < 7.0 * 86400.0 and warned_s is None:
        for _ in range(round(43200.0 / STEP_S)):
            days.step()
        was = replace(memory.start(days.plant, protections), estimation=days.memory)
        outcome = tick(days.plant, protections, was, days.snapshot())
        faults = {fault.code: fault for fault in outcome.faults}
        if "CEL-017" in faults:
            warned_s = days.time_s
    assert warned_s is not None
    fault = faults["CEL-017"]
    assert (fault.count, fault.string, fault.module, fault.item) == (1, 1, 1, 5)
    leak_ma, sigma_ma = days.known.leak_ma[0, 0], days.known.leak_sigma_ma[0, 0]
    true_ma = np.array([0.0, 3.0, 0.0, 0.0, 50.0, 0.0])
    assert (np.abs(leak_ma - true_ma) <= 2.0 * sigma_ma).all()
    assert leak_ma[4] == pytest.approx(50.0, abs=10.0)
    assert sigma_ma.max() < 12.0
    assert days.known.load[0] == pytest.approx(0.5, abs=0.1), "half of the bleeders' current is needed for it"
    spread_ah = np.ptp(days.missing_ah)
    assert spread_ah < 0.05 * 100.0, "the others follow the leaking cell: without them 6 Ah would be between"
