"""Random stories of strings whose units obey: odd readings come and go, contacts weld, people ask, bmsd restarts."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bmsd.core import memory as memories
from bmsd.core.contactors import State
from bmsd.core.memory import Memory
from bmsd.core.tick import Outcome, tick
from bmsd.model.catalogue import CATALOGUE
from bmsd.model.request import Connect, Power, Release, Request, Reserve, Reset, Role
from bmsd.model.row import Latch, Level
from bmsd.model.snapshot import Snapshot
from tests import rack

NAN, INF = float("nan"), float("inf")
CLOSING = (State.CLOSING_MINUS, State.PRECHARGE, State.CLOSING_PLUS)
MINUS, PRECHARGE, PLUS = range(3)
CODES = ("all", "trip", "contactors", "MOD-008", "CEL-007", "CON-001", "CUR-012", "CEL-012", "TMP-021")
ROLES = ((Role.OPERATOR, "seen"), (Role.SERVICE, "seen"), (Role.SERVICE, ""))
Odd = Callable[[dict[str, Any]], None]


def drawn_request(draw: random.Random) -> Request:
    if draw.random() < 0.6:  # else little would ever close
        return draw.choice(
            (Reset("all", Role.SERVICE, "seen"), Connect(closed=True), Reset("trip", Role.SERVICE, "seen"))
        )
    role, reason = draw.choice(ROLES)
    leases = (Reserve(draw.choice((0.3, 1.0)), 60.0), Power(draw.choice((-5000.0, -0.0, 500.0)), 60.0))
    return draw.choice(
        (
            Reset(draw.choice(CODES), role, reason),
            Connect(closed=True),
            Connect(closed=False),
            *leases,
            Release("power"),
        )
    )


class Story:
    """A rack of one to three strings and its units; the same seed tells the same story."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.count = self.draw.choice((1, 1, 2, 3))
        self.drive = rack.Drive(rack.plant(strings=self.count, modules=2, cells=4, sensors=2))
        self.coils = np.zeros((self.count, 3), dtype=bool)
        self.coils[:, [MINUS, PLUS]] = self.draw.random() < 0.4
        self.welded = np.zeros((self.count, 3), dtype=bool)
        self.current_a = np.zeros(self.count)
        self.odd: dict[str, Odd] = {}

    def step(self, dt_s: float) -> tuple[Memory, Outcome]:
        """One tick, of which the memory before it is returned, too."""
        if self.draw.random() < 0.03:
            self._happen()
        if self.draw.random() < 0.01:
            self._restart()
        asked = (drawn_request(self.draw),) if self.draw.random() < 0.08 else ()
        was = self.drive.memory
        outcome = self.drive.tick(dt_s, requests=asked, **self._values())
        self._obey(outcome)
        return was, outcome

    def _values(self) -> dict[str, Any]:
        contacts = self.coils | self.welded
        closed = contacts[:, MINUS] & contacts[:, PLUS]
        live = closed.any() or bool((contacts[:, MINUS] & contacts[:, PRECHARGE]).any())
        values: dict[str, Any] = {
            "minus": contacts[:, MINUS].astype(int), "plus": contacts[:, PLUS].astype(int),
            "precharge": contacts[:, PRECHARGE].astype(int), "minus_output": self.coils[:, MINUS].copy(),
            "precharge_output": self.coils[:, PRECHARGE].copy(), "plus_output": self.coils[:, PLUS].copy(),
            "bus_v": np.full(self.count, 26.4 if live else 0.0), "current_a": np.where(closed, self.current_a, 0.0),
        }  # fmt: skip
        for change in self.odd.values():
            change(values)
        return values

    def _happen(self) -> None:
        if self.odd and self.draw.random() < 0.7:
            del self.odd[self.draw.choice(sorted(self.odd))]
            return
        if self.draw.random() < 0.05:
            self.welded = np.zeros_like(self.welded) if self.welded.any() else self.coils.copy()
            return
        layout, string = self.drive.plant.layout, self.draw.randrange(self.count)
        cell, sensor, module = (string, 0, 1), (string, 1, 0), (string, self.draw.randrange(2))
        name, shape, usual, place, value = self.draw.choice((
            ("cell_v", layout.cell_shape, 3.3, cell, self.draw.choice((NAN, 3.56, 3.67, 3.8, 2.85, 2.75, 2.4))),
            ("cell_reading", layout.cell_shape, 0, cell, self.draw.choice((1, 3, 4))),
            ("cell_age_s", layout.module_shape, 0.1, module, self.draw.choice((0.7, 20.0, INF))),
            ("temperature_degc", layout.sensor_shape, 25.0, sensor, self.draw.choice((NAN, 57.0, 65.0, -1.0))),
            ("temperature_degc", layout.sensor_shape, 25.0, module, NAN),
            ("uid", layout.module_shape, 1001, module, self.draw.choice((-1, 0, 7))),
            ("cell_count", layout.module_shape, 4, module, 5),
            ("trip_active", layout.module_shape, False, module, True),
            ("string_v", (self.count,), 26.4, string, self.draw.choice((25.0, 29.0, INF))),
            ("current_a", (self.count,), 0.0, string, self.draw.choice((NAN, 1.9, 2.1, 30.0, -300.0))),
            ("current_age_s", (self.count,), 0.05, string, self.draw.choice((0.7, INF))),
            ("unit_state_age_s", (self.count,), 0.1, string, self.draw.choice((0.7, 9.0, INF))),
            ("unit_trip_code", (self.count,), 0, string, self.draw.choice((3, 6, 7))),
            ("inputs", (self.count, 6), 0, (string, self.draw.randrange(6)), self.draw.choice((1, 3))),
        ))  # fmt: skip

        def change(values: dict[str, Any]) -> None:
            values.setdefault(name, np.full(shape, usual))
            values[name][place] = value

        self.odd[f"{name} {place}"] = change

    def _restart(self) -> None:
        protections, utc_s = self.drive.protections, 1000.0
        saved = memories.durable(protections, self.drive.memory, utc_s, running=self.draw.random() < 0.2)
        again, notes = memories.restore(self.drive.plant, protections, saved, utc_s)
        assert not notes
        assert set(memories.durable(protections, again, utc_s).latches) == set(saved.latches)
        self.drive.memory = again

    def _obey(self, outcome: Outcome) -> None:
        told = outcome.command
        wanted = np.stack([told.close_minus, told.close_precharge, told.close_plus], axis=1)
        obeys = told.commanded & outcome.started
        self.coils = np.where(obeys[:, None], wanted, self.coils)
        amps = self.draw.choice((told.ccl_a, -told.dcl_a, 0.0))
        self.current_a = np.full(self.count, amps / max(int(told.close_plus.sum()), 1))


def strings_of(story: Story, subjects: Any, scope: Any, *, whole: bool) -> Any:
    """(strings,): those that have one of these subjects."""
    found = np.zeros(story.count, dtype=bool)
    where = story.drive.protections.string_of[scope][subjects]
    found[:] = len(where) > 0 and (whole or bool((where < 0).any()))
    found[where[where >= 0]] = True
    return found


def check_rows(story: Story, was: Memory, outcome: Outcome) -> None:
    """No string closes against a row, no limit flows against one, and no latch goes without its reset."""
    snap, command = outcome.snapshot, outcome.command
    states = [string.state for string in outcome.contactors]
    closing, closed = np.isin(states, CLOSING), np.isin(states, [State.CLOSED])
    for scope, rows in story.drive.protections.scopes.items():
        before, now = was.protection.faults[scope], outcome.memory.protection.faults[scope]
        for index in np.flatnonzero((before.raised | now.raised).any(axis=1)).tolist():
            row = rows.table[index]
            raised = strings_of(story, now.raised[index], scope, whole=row.whole_rack or row.opens_others)
            pressing = now.raised[index] & ~now.acknowledged[index]
            if row.level is Level.TRIP or row.open_after_s is not None or row.bars_closing:
                against = strings_of(story, pressing, scope, whole=row.whole_rack or row.opens_others)
                assert not (closing & against).any(), f"{row.code} stands against closing"
            assert not (row.stops_charge and command.ccl_a > 0.0 and (closed & raised).any()), row.code
            assert not (row.stops_discharge and command.dcl_a > 0.0 and (closed & raised).any()), row.code
            if (before.latched[index] & ~now.latched[index]).any():
                assert any(clears(row, reset) for reset in resets(snap, was, outcome)), f"{row.code} was unlatched"


def resets(snap: Snapshot, was: Memory, outcome: Outcome) -> list[Reset]:
    trip = outcome.memory.trip_reset or was.trip_reset
    asked = [request for request in snap.requests if isinstance(request, Reset)]
    return asked + ([replace(trip, code=row.code) for row in CATALOGUE if row.node_trip] if trip else [])


def clears(row: Any, reset: Reset) -> bool:
    entitled = row.latch is not Latch.SERVICE or (reset.role is Role.SERVICE and reset.reason != "")
    return entitled and reset.code in {row.code, row.reset_group, "all"} - {""}


def check_circuit(outcome: Outcome) -> None:
    """Limits rest on what is known of every closed string; who is not known is told nothing; one closes at a time."""
    snap, command = outcome.snapshot, outcome.command
    states = [string.state for string in outcome.contactors]
    closed = np.isin(states, [State.CLOSED])
    assert outcome.vetoes == (), "the guard is not what makes it safe"
    assert 0.0 <= command.ccl_a <= 140.0 * closed.sum()
    assert 0.0 <= command.dcl_a <= 200.0 * closed.sum()
    assert command.cvl_v is None or command.cvl_v <= 3.65 * 8
    assert command.commanded.tolist() == [state is not State.UNKNOWN for state in states]
    assert sum(state in CLOSING for state in states) <= 1
    if command.ccl_a > 0.0 or command.dcl_a > 0.0:
        assert np.isfinite(snap.modules.cell_v[closed]).all()
        assert np.isfinite(snap.modules.temperature_degc[closed]).any(axis=2).all()
        assert np.isfinite(snap.units.current_a[closed]).all()
        assert (snap.units.state_age_s[closed] <= 0.6).all()
        assert State.UNKNOWN not in states or snap.now_s > 106.0


@pytest.mark.parametrize("seed", range(24))
def test_no_story_closes_against_a_protection_or_lets_flow_what_is_not_known(seed: int) -> None:
    story = Story(seed)
    for _ in range(250):
        was, outcome = story.step(story.draw.choice((0.01, 0.1, 0.1, 0.1, 0.5, 5.0)))
        check_circuit(outcome)
        check_rows(story, was, outcome)
        if outcome.memory.leases:
            asked = tuple(r for r in outcome.snapshot.requests if not isinstance(r, (Reserve, Power, Release)))
            without = replace(outcome.snapshot, requests=asked)
            free = tick(story.drive.plant, story.drive.protections, replace(was, leases=()), without).command
            assert outcome.command.ccl_a <= free.ccl_a
            assert outcome.command.dcl_a <= free.dcl_a
