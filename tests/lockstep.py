"""The core against the simulated rack on simulated time: real frames between them, no processes, no sleeping."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bmsd.core.tick import Outcome
from bmsd.fieldbus.drivers.slave.commands import Commands
from bmsd.fieldbus.poller import Poller
from bmsd.fieldbus.receive import Receiver
from bmsd.inverters.port import InverterPort
from bmsd.inverters.profile import load_profile
from bmsd.model.frame import Frame
from bmsd.model.plant import Plant
from bmsd.model.request import Request
from bmsd.model.snapshot import Buses, Host, Snapshot
from bmsd.sim.mishap import Mishap
from bmsd.sim.scenario import load_settings
from bmsd.sim.world import SimWorld
from tests import rack
from tests.slave_frames import raw

STEP_S = 0.01
TICK_STEPS = 10


class Lockstep:
    """A daemon's core and edges, without its buses, and a simulated rack of the same shape."""

    def __init__(self, plant: Plant, *, now_s: float = 0.0, world: SimWorld | None = None, **sim: Any) -> None:
        table = {"soc0_spread": 0.0, "resistance_spread": 0.0, "capacity_spread": 0.0, **sim}
        self.plant = plant
        self.world = world or SimWorld(load_settings(table, plant.layout, plant.cell.capacity_ah))
        self.drive = rack.Drive(plant, strange=True)
        self.now_s = now_s
        self.outcomes: list[Outcome] = []
        self._steps = 0
        self._receiver = Receiver(plant.layout, plant.timing)
        self._poller = Poller(plant.timing, plant.layout)
        self._commands = Commands(plant.layout, plant.balance.lease_s)
        self._port = InverterPort(load_profile(plant.inverter.profile, dict(plant.inverter.options)), plant.inverter)
        self._heard: list[Frame] = []

    @property
    def last(self) -> Outcome:
        return self.outcomes[-1]

    def run(self, seconds: float, *requests: Request) -> list[Outcome]:
        """Go on for this time; return the outcomes of its ticks. `requests` are asked at the first."""
        first, asked = len(self.outcomes), requests
        for _ in range(round(seconds / STEP_S)):
            if self._step(asked):
                asked = ()
        return self.outcomes[first:]

    def until(self, reached: Callable[[Outcome], bool], most_s: float) -> float:
        """Go on until an outcome is so; return after how long, s."""
        for count in range(round(most_s / (STEP_S * TICK_STEPS))):
            if any(reached(outcome) for outcome in self.run(STEP_S * TICK_STEPS)):
                return (count + 1) * STEP_S * TICK_STEPS
        said = [(string.state.value, string.reason) for string in self.last.contactors]
        raise AssertionError(f"not reached within {most_s} s: {said}, {sorted(rack.codes(self.last))}")

    def befall(self, *mishaps: Mishap) -> None:
        """From now on these mishaps and no others."""
        self.world.befall(mishaps)

    def _step(self, requests: tuple[Request, ...]) -> bool:
        """Both sides go on by one step; return whether a tick was made."""
        self.now_s = round(self.now_s + STEP_S, 6)
        self._steps += 1
        field = self._poller.step(self.now_s, self._receiver.unidentified(self.now_s))
        if self._poller.sync is not None:
            self._receiver.sync_sent(*self._poller.sync)
        ticks = self._steps % TICK_STEPS == 0
        command = None
        if ticks:
            outcome = self.drive.take(self._snapshot(requests))
            self.outcomes.append(outcome)
            command = outcome.command if outcome.started else None
            field += self._commands.frames(outcome.command, self.now_s) if outcome.started else []
        told = self._port.step(self.now_s, command, self._heard)
        said, self._heard = self.world.step(self.now_s, field, told)
        if said:
            self._receiver.feed(raw(*said), self.now_s)
        return ticks

    def _snapshot(self, requests: tuple[Request, ...]) -> Snapshot:
        return Snapshot(
            now_s=self.now_s,
            modules=self._receiver.modules(self.now_s),
            units=self._receiver.units(self.now_s),
            buses=Buses.well("field", "inverter"),
            host=Host(self.plant.timing.tick_s, 0),
            inverter_age_s=self._port.inverter_age_s(self.now_s),
            requests=requests,
        )


def all_closed(outcome: Outcome) -> bool:
    """Whether every string is closed."""
    return set(rack.states(outcome)) == {"closed"}
