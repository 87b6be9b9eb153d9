"""Random stories of a real circuit: contacts, currents, an inverter, units that fall silent, hang or lose their supply.

Control sees only what units report, is killed and started again from state files old and new, and people ask it things.
What must hold is said of the circuit, not of what control believes.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from bmsd.core import memory as memories
from bmsd.core.contactors import State
from bmsd.core.contactors.connecting import allowed_v
from bmsd.core.tick import Outcome
from bmsd.model.request import Connect, Request, Reset, Role
from bmsd.model.row import Level
from bmsd.model.snapshot import OPEN_REASONS, Feedback
from tests import rack

NAN, INF = float("nan"), float("inf")
DT_S, OHM, PRECHARGE_OHM, FARAD = 0.1, 0.005, 50.0, 0.048
MINUS, PRECHARGE, PLUS = range(3)
LEASE_S, UNIT_WAITS_S, STILL_A = 1.0, 5.0, 2.0
MODES = ("ok", "ok", "mute", "hung", "off")
"""mute: obeys and says nothing; hung: contacts stay where they are, whatever happens; off: contacts fall open."""
SERVICE = tuple(Reset(code, Role.SERVICE, "seen") for code in ("all", "trip", "MOD-008", "CON-015"))
ASKED: tuple[Request, ...] = (*SERVICE[:3], Connect(True), Connect(True), Connect(False), Reset("all", Role.OPERATOR))


class Circuit:
    """Strings, their contacts, the bus with its capacitor, and an inverter that follows its limits late."""

    def __init__(self, draw: random.Random, count: int) -> None:
        self.draw, self.count = draw, count
        self.emf_v = 52.8 + np.array([draw.choice((0.0, 0.1, -0.2, 0.9)) for _ in range(count)])
        self.contacts = np.zeros((count, 3), dtype=bool)
        self.contacts[:, [MINUS, PLUS]] = draw.random() < 0.4
        self.modes = ["ok"] * count
        self.unheard_s = np.zeros(count)
        self.inverter_a, self.obeys, self.holds_bus = 0.0, True, False
        self.bus_v, self.current_a = 0.0, np.zeros(count)

    @property
    def closed(self) -> Any:
        return self.contacts[:, MINUS] & self.contacts[:, PLUS]

    def step(self, wanted: Any, told: Any, limits: tuple[float, float]) -> None:
        """Units act, then currents settle. `wanted` (strings, 3) for those that are `told`."""
        if self.obeys and self.draw.random() < 0.3:
            self.inverter_a = self.draw.choice((limits[0], -limits[1], 0.0))
        for i, mode in enumerate(self.modes):
            self.unheard_s[i] = 0.0 if told[i] else self.unheard_s[i] + DT_S
            still = abs(self.current_a[i]) < STILL_A
            left = self.unheard_s[i] > LEASE_S and (still or self.unheard_s[i] > UNIT_WAITS_S)
            if mode == "off" or (mode != "hung" and left):
                self.contacts[i] = False
            elif mode != "hung" and told[i]:
                self.contacts[i] = wanted[i]
        self._settle()

    def _settle(self) -> None:
        closed = self.closed
        if closed.any():
            self.bus_v = float(self.emf_v[closed].mean() + self.inverter_a * OHM / closed.sum())
            self.current_a = np.where(closed, (self.bus_v - self.emf_v) / OHM, 0.0)
            return
        self.inverter_a, self.current_a = 0.0, np.zeros(self.count)
        if self.holds_bus:
            self.bus_v = max(self.bus_v, 30.0)
        charging = np.flatnonzero(self.contacts[:, MINUS] & self.contacts[:, PRECHARGE])
        for i in charging:
            self.bus_v += (self.emf_v[i] - self.bus_v) * (1.0 - np.exp(-DT_S / (PRECHARGE_OHM * FARAD)))
        if not charging.size and not self.holds_bus:
            self.bus_v *= 0.9

    def happen(self) -> None:
        """Something changes."""
        kind = self.draw.random()
        if kind < 0.7:
            self.modes[self.draw.randrange(self.count)] = self.draw.choice(MODES)
        elif kind < 0.85:
            self.obeys = not self.obeys
        else:
            self.holds_bus = not self.holds_bus


class Reports:
    """What a process has heard of the units since it started: every 0.2 s what each has to say."""

    def __init__(self, count: int) -> None:
        self.heard_s = np.full(count, -INF)
        self.said: list[dict[str, Any]] = [{} for _ in range(count)]

    def hear(self, circuit: Circuit, now_s: float, open_reason: int) -> None:
        for i, mode in enumerate(circuit.modes):
            if mode == "ok":
                self.heard_s[i] = now_s
                self.said[i] = {
                    "contacts": circuit.contacts[i].copy(), "current_a": circuit.current_a[i], "bus_v": circuit.bus_v,
                    "string_v": circuit.emf_v[i] + OHM * circuit.current_a[i], "open_reason": open_reason,
                }  # fmt: skip

    def values(self, now_s: float) -> dict[str, Any]:
        age_s = now_s - self.heard_s
        contacts = np.array([said.get("contacts", np.zeros(3, bool)) for said in self.said])
        feedback = np.where(np.isinf(age_s)[:, None], int(Feedback.UNKNOWN), contacts.astype(int))
        unknown: dict[str, float] = dict.fromkeys(("current_a", "bus_v", "string_v"), NAN) | {"open_reason": -1}
        return {
            **{name: np.array([said.get(name, value) for said in self.said]) for name, value in unknown.items()},
            **{name: feedback[:, i] for i, name in enumerate(("minus", "precharge", "plus"))},
            **{f"{name}_output": contacts[:, i] for i, name in enumerate(("minus", "precharge", "plus"))},
            "unit_state_age_s": age_s, "current_age_s": age_s, "voltage_age_s": age_s,
            "inputs": np.where(np.isinf(age_s)[:, None], 3, np.zeros((len(age_s), 6), dtype=int)),
            "unit_trip_code": np.where(np.isinf(age_s), -1, 0),
        }  # fmt: skip


class Story:
    """A circuit and the control of it; the same seed tells the same story."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.circuit = Circuit(self.draw, self.draw.choice((1, 2, 2, 3)))
        self.drive = rack.Drive(rack.plant(strings=self.circuit.count))
        self.reports = Reports(self.circuit.count)
        self.files = [self._file(running=False)]
        self.open_reason = OPEN_REASONS.index("power on")
        self.silence_s, self.zero_s, self.hot = 0.0, 0.0, False
        self.told = np.zeros((self.circuit.count, 3), dtype=bool)

    def _file(self, *, running: bool) -> Any:
        return memories.durable(self.drive.protections, self.drive.memory, 1000.0, running=running)

    def restart(self) -> None:
        """The process is killed, or leaves; another begins after a while from a state file that may be an old one."""
        self.files.append(self._file(running=self.draw.random() < 0.5))
        saved = self.draw.choice(self.files)
        self.drive.memory, _ = memories.restore(self.drive.plant, self.drive.protections, saved, 1000.0)
        self.reports = Reports(self.circuit.count)
        self.open_reason, self.zero_s = OPEN_REASONS.index("heartbeat lost"), 0.0
        for _ in range(self.draw.choice((1, 8, 30, 80))):
            self._wait()

    def _wait(self) -> None:
        nobody = np.zeros(self.circuit.count, dtype=bool)
        self.circuit.step(self.told, nobody, (0.0, 0.0))
        self.drive.now_s = round(self.drive.now_s + DT_S, 6)

    def step(self, *requests: Request) -> Outcome:
        """One tick; what it decides is judged before the circuit follows."""
        now_s = round(self.drive.now_s + DT_S, 6)
        if round(now_s / DT_S) % 2 == 0:
            self.reports.hear(self.circuit, now_s, self.open_reason)
        cell_v = np.broadcast_to((self.circuit.emf_v / 16)[:, None, None], self.drive.plant.layout.cell_shape).copy()
        cell_v += (OHM * self.circuit.current_a / 16)[:, None, None]
        values = self.reports.values(now_s) | {"cell_v": cell_v, "temperature_degc": 65.0 if self.hot else 25.0}
        outcome = self.drive.tick(DT_S, requests=requests, **values)
        command, told = outcome.command, outcome.command.commanded & outcome.started
        wanted = np.stack([command.close_minus, command.close_precharge, command.close_plus], axis=1)
        self.zero_s = self.zero_s + DT_S if command.ccl_a == command.dcl_a == 0.0 and outcome.started else 0.0
        self.judge(outcome, wanted, told)
        self.told = np.where(told[:, None], wanted, self.told)
        self.circuit.step(wanted, told, (command.ccl_a, command.dcl_a))
        return outcome

    def judge(self, outcome: Outcome, wanted: Any, told: Any) -> None:
        """What must hold of the circuit whatever happens."""
        circuit, command = self.circuit, outcome.command
        states = [string.state for string in outcome.contactors]
        obey = np.array([mode in ("ok", "mute") for mode in circuit.modes]) & told
        parts = obey & circuit.closed & ~(wanted[:, MINUS] & wanted[:, PLUS])
        at_once = any(fault.level is Level.TRIP for fault in outcome.faults)
        for i in np.flatnonzero(parts & (np.abs(circuit.current_a) > STILL_A)):
            assert at_once or self.zero_s >= 4.9, f"string {i} parts {circuit.current_a[i]:.0f} A unasked: {states}"
        for i in np.flatnonzero(obey & wanted[:, MINUS]):
            others = circuit.closed & (np.arange(circuit.count) != i)
            resists = wanted[i, PRECHARGE] and not wanted[i, PLUS]
            assert not (resists and others.any()), f"string {i} precharges onto a live bus: {states}"
            if others.any() and wanted[i, PLUS] and not circuit.contacts[i, PLUS]:
                live_v = circuit.emf_v[others].mean() + OHM * circuit.inverter_a / others.sum()
                off_v = abs(circuit.emf_v[i] - live_v)
                assert off_v <= allowed_v(self.drive.plant, int(others.sum())) + 0.3, f"string {i} joins {off_v:.2f} V"
        if command.ccl_a > 0.0 or command.dcl_a > 0.0:
            assert not (circuit.closed & ~command.close_plus).any(), (
                f"current in a string that nobody watches: {states}"
            )
        for string in outcome.contactors:
            waits = string.state in (State.OPEN, State.WAITING, State.LOCKED) and string.since_s > 0.5
            assert string.reason or not waits, f"{string.state} without saying why"


def heal(story: Story) -> None:
    """Everything works again and people do what the faults ask for."""
    circuit = story.circuit
    circuit.modes, circuit.obeys, circuit.holds_bus = ["ok"] * circuit.count, True, False
    circuit.inverter_a, story.hot = 0.0, False
    circuit.emf_v = np.full(circuit.count, 52.8)


@pytest.mark.parametrize("seed", range(8))
def test_whatever_happens_to_units_and_control_the_circuit_is_safe_and_comes_back(seed: int) -> None:
    story = Story(seed)
    for _ in range(500):
        if story.draw.random() < 0.015:
            story.circuit.happen()
        if story.draw.random() < 0.004:
            story.restart()
        if story.draw.random() < 0.002:
            story.hot = not story.hot
        asked = (story.draw.choice(ASKED),) if story.draw.random() < 0.03 else ()
        story.step(*asked)
    heal(story)
    for second in range(240):
        cure: tuple[Request, ...] = (*SERVICE, Connect(True)) if second % 20 == 0 else ()
        for part in range(10):
            outcome = story.step(*(cure if part == 0 else ()))
        if all(state == "closed" for state in rack.states(outcome)) and outcome.command.ccl_a > 0.0:
            return
    reasons = [string.reason for string in outcome.contactors]
    raise AssertionError(f"healthy, and {rack.states(outcome)}: {reasons}, {sorted(rack.codes(outcome))}")
