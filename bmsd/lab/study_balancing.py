"""`bmsd study balancing`: what balancing is worth, over years of daily solar cycling, strategy beside strategy.

Every strategy has a string of the same cells: same capacities, states of charge, self-discharge, pace of ageing. They
are the strings of one twin, computed side by side, but not connected: each has its own current. What is whose:

* the core's: which cells bleed (`core.balancing.balance` by `core.estimation.ledger`), how much current a cell voltage
  allows (the curves of its configuration, with the ratchet of `core.limits`: inside the taper the charge limit may only
  fall), its absorption voltage;
* the study's: sun and load, a charger that holds the absorption voltage, the active channels (`sim.balancer`: voltage
  driven, one per module, acting by themselves while their string is charged).

Nothing of it is measured with an error; the ledger reads what is missing in a cell where its voltage would tell it, and
only there. It is asked what a strategy can reach, not what a poor sensor spoils.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from bmsd.config.load import checked, plant
from bmsd.core import balancing
from bmsd.core.derate import share
from bmsd.core.estimation import ledger
from bmsd.core.estimation.anchors import SHAPE_SIGMA, Anchor
from bmsd.core.estimation.soc import RELEASE_V, TOP_V
from bmsd.lab.observe import calm
from bmsd.model.layout import Layout
from bmsd.model.plant import Plant
from bmsd.model.snapshot import Bools, Floats, Snapshot
from bmsd.sim.ageing import DAY_S, AgeingParameters
from bmsd.sim.balancer import BalancerParameters, Balancers
from bmsd.sim.cell import CellParameters
from bmsd.sim.cells import Cells
from bmsd.sim.heat import Enclosure

STEP_S = 60.0
SLOW_S = 300.0
DAYS_A_YEAR = 365.0
BALANCED_SHARE = 0.01
"""Balanced: the charge that is missing to full differs by less than this share of the capacity."""
EARLY_CHARGE, EARLY_DISCHARGE = 0.03, 0.06
"""An end of charge (discharge) by one cell is early when the mean cell still lacks (has) more than this share."""
FREE_V = 0.03
ANCHOR_V, STEEP_SOC = TOP_V - RELEASE_V, 0.94
"""The ledger reads cells with the highest above this, and only those beyond this: the curve is flat below."""
_LATE_SUN_H = 12.0


@dataclass(frozen=True)
class Strategy:
    """How one string is balanced."""

    name: str
    passive: bool = False
    active_a: float = 0.0

    @property
    def title(self) -> str:
        """The name with its current."""
        return f"{self.name} {self.active_a:g} A" if self.active_a > 0.0 else self.name


STRATEGIES = (
    Strategy("none"),
    Strategy("passive", passive=True),
    Strategy("active", active_a=1.0),
    Strategy("active", active_a=2.0),
    Strategy("hybrid", passive=True, active_a=1.0),
)


@dataclass(frozen=True)
class Question:
    """What is asked: size of the string, how the cells differ, how it is used."""

    years: float = 2.0
    capacity_ah: float = 100.0
    modules: int = 8
    cells: int = 16
    strategies: tuple[Strategy, ...] = STRATEGIES
    soc0: float = 0.5
    soc0_spread: float = 0.02
    capacity_spread: float = 0.01
    resistance_spread: float = 0.05
    self_discharge_per_month: float = 0.01
    self_discharge_spread: float = 0.3
    ageing_spread: float = 0.1
    bleeder_ohm: float = 33.0
    active_efficiency: float = 0.85
    sun_peak_c: float = 0.22
    load_c: float = 0.06
    seed: int = 1


@dataclass
class Answer:
    """What became of one strategy. Energies in Wh of the string, charges in Ah of a cell."""

    strategy: Strategy
    usable_share: float
    """Charge that the string can give from full to empty, by its weakest cells, over the mean capacity now."""
    usable_ah: float
    delivered_wh: float
    wasted_wh: float
    bled_wh: float
    active_loss_wh: float
    spread_ah: float
    """Largest minus smallest missing charge of the string's cells at the end."""
    module_spread_ah: float
    """The same within the worst module: what a channel of a module can even out."""
    balanced_day: float | None
    """First day on which all modules are balanced, each for itself."""
    string_balanced_day: float | None
    early_charge_days: int
    early_discharge_days: int
    capacity_share: float
    """Mean capacity at the end over the capacity when new."""
    day: list[float] = field(default_factory=list)
    daily_usable: list[float] = field(default_factory=list)
    daily_spread_ah: list[float] = field(default_factory=list)
    daily_module_spread_ah: list[float] = field(default_factory=list)
    daily_wasted_wh: list[float] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Everything but the strategy's object."""
        plain = {name: value for name, value in vars(self).items() if name != "strategy"}
        return {"strategy": self.strategy.name, "active_a": self.strategy.active_a, **plain}


class Study:
    """The strings of all strategies, in progress."""

    def __init__(self, question: Question) -> None:
        self.question = q = question
        self.count = len(q.strategies)
        self.plant = _plant(q, self.count)
        shape = self.plant.layout.cell_shape
        self.cells = _cells(q, shape)
        self.balancers = Balancers(
            shape, BalancerParameters(active_a=1.0, active_efficiency=q.active_efficiency), _room_degc(0.0)
        )
        self._active_a = np.array([s.active_a for s in q.strategies]).reshape(-1, 1, 1)
        self._passive = np.array([s.passive for s in q.strategies])
        self._off = np.zeros(shape, dtype=np.bool_)
        self._off_a = np.zeros(shape)
        self.ledger = ledger.start(self.plant)
        self._bleeding = self._off
        self._on_bus = np.ones(self.count, dtype=np.bool_)
        self._charge_share = np.ones(self.count)
        self._sun = np.random.default_rng([q.seed, 0x50]).beta(3.0, 1.5, size=math.ceil(q.years * DAYS_A_YEAR) + 1)
        self._sight = _sight(self.plant, self.cells)
        self.delivered_j = np.zeros(self.count)
        self.bled_j = np.zeros(self.count)
        self.active_j = np.zeros(self.count)
        self.early_charge = np.zeros(self.count, dtype=np.bool_)
        self.early_discharge = np.zeros(self.count, dtype=np.bool_)
        self.time_s = 0.0

    def step(self) -> None:
        """One step: what the sun gives and the house takes, as far as the cells allow."""
        cells, dt_s = self.cells, STEP_S
        cells.ambient_degc = _room_degc(self.time_s)
        wanted_a = self._wanted_a()
        current_a = self._charge_a(wanted_a) if wanted_a > 0.0 else -self._discharge_a(-wanted_a)
        bleeding = self._balance(current_a)
        cells.step(dt_s, current_a, self._on_bus, bleeding)
        if wanted_a < 0.0:
            self.delivered_j -= dt_s * current_a * cells.cell_v.sum(axis=(1, 2))
        self.time_s += dt_s

    def _wanted_a(self) -> float:
        q = self.question
        day, hour = divmod(self.time_s / 3600.0, 24.0)
        if hour < _LATE_SUN_H:
            season = 1.0 - 0.35 * math.cos(2.0 * math.pi * day / DAYS_A_YEAR)
            peak_a = q.sun_peak_c * q.capacity_ah * min(season, 1.0)
            return peak_a * float(self._sun[int(day)]) * math.sin(math.pi * hour / _LATE_SUN_H)
        return -q.load_c * q.capacity_ah

    def _charge_a(self, wanted_a: float) -> Floats:
        """What the highest cell allows, and what holds the absorption voltage."""
        curve = self.plant.limits.charge_by_cell_v
        highest_v = self.cells.cell_v.max(axis=(1, 2))
        allowed = share(curve, highest_v)
        free = highest_v <= curve.x[0] - FREE_V
        self._charge_share = np.where(free, allowed, np.minimum(allowed, self._charge_share))
        emf_v, ohm = self.cells.thevenin(STEP_S)
        cvl_v = self.plant.charge.absorption_v * self.plant.layout.cells_in_series
        held_a = np.maximum((cvl_v - emf_v) / ohm, 0.0)
        limit_a = self._charge_share * self.plant.string_charge_max_a
        self._note_full(limit_a < wanted_a)
        return np.minimum(wanted_a, np.minimum(limit_a, held_a))

    def _discharge_a(self, wanted_a: float) -> Floats:
        self._charge_share = np.ones(self.count)
        lowest_v = self.cells.cell_v.min(axis=(1, 2))
        limit_a = share(self.plant.limits.discharge_by_cell_v, lowest_v) * self.plant.string_discharge_max_a
        ended = limit_a < 0.5 * wanted_a
        if ended.any():
            self.early_discharge |= ended & (self.cells.soc.mean(axis=(1, 2)) > EARLY_DISCHARGE)
        return np.minimum(wanted_a, limit_a)

    def _note_full(self, limited: Bools) -> None:
        """A single cell ended the charge: was that early for the others?"""
        if limited.any():
            ended = limited & (self._charge_share <= 0.06)
            self.early_charge |= ended & (self.cells.soc.mean(axis=(1, 2)) < 1.0 - EARLY_CHARGE)

    def _balance(self, current_a: Floats) -> Bools:
        """Let the boards balance; return the bleeders that conduct."""
        self._act(current_a > self.plant.balance.min_charge_a)
        if not self._passive.any():
            return self._off
        self.ledger = ledger.counted(self.plant, self.ledger, self._seen(current_a), STEP_S)
        if self.ledger.pending_s >= SLOW_S - 1e-6:
            self._bleeding = self._decided(current_a)
        if self._bleeding.any():
            power_w = np.where(self._bleeding, self.cells.cell_v**2 / self.question.bleeder_ohm, 0.0)
            self.bled_j += STEP_S * power_w.sum(axis=(1, 2))
        return self._bleeding

    def _act(self, charging: Bools) -> None:
        """The channels move what they move."""
        cells, boards = self.cells, self.balancers
        if not charging.any() or not float(cells.cell_v.max()) > boards.parameters.active_above_v:
            cells.move(self._off_a)
            return
        moved_a = boards.moved_a(cells.cell_v, charging[:, None]) * self._active_a
        cells.move(moved_a)
        self.active_j -= STEP_S * (moved_a * cells.cell_v).sum(axis=(1, 2))

    def _decided(self, current_a: Floats) -> Bools:
        """What the core bleeds from now on, by a ledger that reads cells at the top, and only where voltage tells."""
        known = self.ledger = ledger.step(self.plant, self.ledger, self.cells.cell_v, self._anchor(current_a))
        snapshot = self._seen(current_a)
        return balancing.balance(self.plant, snapshot, self._passive & self._on_bus, known.balancing, self.cells.soc)

    def _anchor(self, current_a: Floats) -> Anchor | None:
        cells = self.cells
        top = (cells.cell_v.max(axis=(1, 2)) >= ANCHOR_V) & (current_a > 0.0)
        if not top.any():
            return None
        steep = cells.soc >= STEEP_SOC
        missing_ah = np.minimum(cells.capacity_as - cells.charge_as, (1.0 - STEEP_SOC) * cells.capacity_as) / 3600.0
        sigma_ah = np.full(missing_ah.shape, SHAPE_SIGMA * self.question.capacity_ah)
        there = top[:, None, None]
        return Anchor(-missing_ah, sigma_ah, steep & there, ~steep & there, top, top)

    def _seen(self, current_a: Floats) -> Snapshot:
        return self._sight(self.cells.cell_v, current_a, self._bleeding)


def answer(question: Question, told: Callable[[float], None] = lambda _share: None) -> list[Answer]:
    """Return what became of every strategy; `told` hears the share done, now and then."""
    study = Study(question)
    days = max(round(question.years * DAYS_A_YEAR), 1)
    record = [Record(study, number) for number in range(study.count)]
    steps_a_day = round(DAY_S / STEP_S)
    for day in range(1, days + 1):
        for _ in range(steps_a_day):
            study.step()
        for one in record:
            one.take(day)
        study.early_charge[:] = False
        study.early_discharge[:] = False
        told(day / days)
    return [one.answer() for one in record]


class Record:
    """What one strategy's string was like, day by day."""

    def __init__(self, study: Study, number: int) -> None:
        self._study, self._number = study, number
        self._new_as = float(study.cells.capacity_as[number].mean())
        self._days: list[float] = []
        self._usable: list[float] = []
        self._spread: list[float] = []
        self._module: list[float] = []
        self._wasted: list[float] = []
        self._early = [0, 0]
        self.take(0)

    def take(self, day: int) -> None:
        """Note the end of a day."""
        study, n = self._study, self._number
        charge_ah = study.cells.charge_as[n] / 3600.0
        missing_ah = study.cells.capacity_as[n] / 3600.0 - charge_ah
        self._days.append(float(day))
        self._usable.append(float(charge_ah.min() + missing_ah.min()))
        self._spread.append(float(np.ptp(missing_ah)))
        self._module.append(float(np.ptp(missing_ah, axis=1).max()))
        self._wasted.append(float(study.bled_j[n] + study.active_j[n]) / 3600.0)
        self._early[0] += bool(study.early_charge[n])
        self._early[1] += bool(study.early_discharge[n])

    def answer(self) -> Answer:
        """Sum it up."""
        study, n = self._study, self._number
        capacity_as = float(study.cells.capacity_as[n].mean())
        enough_ah = BALANCED_SHARE * study.question.capacity_ah
        return Answer(
            strategy=study.question.strategies[n],
            usable_share=self._usable[-1] * 3600.0 / capacity_as,
            usable_ah=self._usable[-1],
            delivered_wh=float(study.delivered_j[n]) / 3600.0,
            wasted_wh=self._wasted[-1],
            bled_wh=float(study.bled_j[n]) / 3600.0,
            active_loss_wh=float(study.active_j[n]) / 3600.0,
            spread_ah=self._spread[-1],
            module_spread_ah=self._module[-1],
            balanced_day=_first_below(self._days, self._module, enough_ah),
            string_balanced_day=_first_below(self._days, self._spread, enough_ah),
            early_charge_days=self._early[0],
            early_discharge_days=self._early[1],
            capacity_share=capacity_as / self._new_as,
            day=self._days,
            daily_usable=self._usable,
            daily_spread_ah=self._spread,
            daily_module_spread_ah=self._module,
            daily_wasted_wh=self._wasted,
        )


def _first_below(days: list[float], values: list[float], bound: float) -> float | None:
    return next((day for day, value in zip(days, values, strict=True) if value <= bound), None)


def _room_degc(time_s: float) -> float:
    """A cellar or garage of the temperate zone: the year from 8 to 24 degC, the day by 3 K."""
    day = time_s / DAY_S
    return 16.0 - 8.0 * math.cos(2.0 * math.pi * day / DAYS_A_YEAR) + 3.0 * math.sin(2.0 * math.pi * (day - 0.125))


def _cells(q: Question, shape: tuple[int, int, int]) -> Cells:
    """The same cells for every strategy: those of the first string, copied."""
    p = replace(
        CellParameters.scaled(q.capacity_ah, q.capacity_spread, q.resistance_spread),
        self_discharge_per_month=q.self_discharge_per_month,
        self_discharge_spread=q.self_discharge_spread,
        coulombic_efficiency=0.9995,
        heat_transfer_spread=0.1,
        bleeder_ohm=q.bleeder_ohm,
    )
    cells = Cells(
        shape, p, q.soc0, q.soc0_spread, _room_degc(0.0), q.seed,
        enclosure=Enclosure(), ageing=AgeingParameters(spread=q.ageing_spread), slow_s=SLOW_S,
    )  # fmt: skip
    cells.make_alike()
    return cells


def _plant(q: Question, strings: int) -> Plant:
    """The configuration that the core's part works with: its defaults for a string of this size."""
    amps = 0.5 * q.capacity_ah
    data = {
        "rack": {"name": "study"},
        "layout": {"strings": 1, "modules_per_string": q.modules, "cells_per_module": q.cells, "sensors_per_module": 1},
        "cell": {
            "chemistry": "lfp", "capacity_ah": q.capacity_ah, "max_v": 3.65, "min_v": 2.5, "charge_max_a": amps,
            "discharge_max_a": amps, "charge_min_degc": 0.0, "charge_max_degc": 55.0, "discharge_min_degc": -20.0,
            "discharge_max_degc": 60.0, "resistance_ohm": 0.1 / q.capacity_ah,
        },
        "string": {"fuse_a": 2.0 * amps, "contactor_a": 2.0 * amps, "contactor_break_a": 4.0 * amps},
        "fieldbus": {"interface": "unix", "channel": "/nowhere/field"},
        "inverter": {
            "interface": "unix", "channel": "/nowhere/inverter", "profile": "pylontech_lv",
            "options": {"voltage_scale": 0.1},
        },
    }  # fmt: skip
    return replace(plant(checked(data)), layout=Layout(strings, q.modules, q.cells, 1))


def _sight(rack: Plant, cells: Cells) -> Callable[[Floats, Floats, Bools], Snapshot]:
    """Return what makes a snapshot of cell voltages, currents and bleeders, everything else calm."""
    still = calm(rack, cells.cell_v)

    def see(cell_v: Floats, current_a: Floats, bleeding: Bools) -> Snapshot:
        return replace(
            still,
            modules=replace(still.modules, cell_v=cell_v, balancing=bleeding),
            units=replace(still.units, current_a=current_a),
        )

    return see
