"""All protections of the rack in one step, and what follows from those that are beyond or raised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bmsd.core.protection import detectors  # noqa: F401  (registers the detectors)
from bmsd.core.protection.evidence import DETECTORS, Evidence
from bmsd.core.protection.step import FaultState, Rows, step
from bmsd.model.bound import Bound
from bmsd.model.catalogue import CATALOGUE
from bmsd.model.fault import Fault
from bmsd.model.plant import Plant
from bmsd.model.request import Reset
from bmsd.model.row import Alarm, Level, Row, Scope
from bmsd.model.snapshot import Bools, Ints


@dataclass(frozen=True)
class Protections:
    """The catalogue compiled for one rack: columns per scope, and where each subject is."""

    scopes: Mapping[Scope, Rows]
    shapes: Mapping[Scope, tuple[int, ...]]
    string_of: Mapping[Scope, Ints]
    """String of each subject, -1: of the whole rack."""
    rated_a: tuple[float, float]
    """Highest charge and discharge current of a string, A."""

    @classmethod
    def of(cls, plant: Plant, buses: int, table: Sequence[Row] = CATALOGUE) -> Protections:
        """Compile these rows for this rack with this number of CAN buses."""
        layout = plant.layout
        shapes: dict[Scope, tuple[int, ...]] = {
            Scope.CELL: layout.cell_shape,
            Scope.SENSOR: layout.sensor_shape,
            Scope.MODULE: layout.module_shape,
            Scope.STRING: (layout.strings,),
            Scope.BUS: (buses,),
            Scope.RACK: (1,),
        }
        scopes, strings = {}, {}
        for scope, shape in shapes.items():
            rows = [row for row in table if row.scope is scope]
            if rows:
                scopes[scope] = Rows.of(rows, plant.thresholds)
            count = int(np.prod(shape))
            whole = scope in (Scope.BUS, Scope.RACK)
            strings[scope] = np.full(count, -1) if whole else np.arange(count) // (count // layout.strings)
        return cls(scopes, shapes, strings, (plant.string_charge_max_a, plant.string_discharge_max_a))

    def start(self) -> ProtectionMemory:
        """Nothing raised yet."""
        faults = {s: FaultState.start(len(r.table), int(np.prod(self.shapes[s]))) for s, r in self.scopes.items()}
        return ProtectionMemory(faults, {})


@dataclass(frozen=True)
class ProtectionMemory:
    """State of all rows, and what stateful detectors carry."""

    faults: Mapping[Scope, FaultState]
    detectors: Mapping[str, Any]


@dataclass(frozen=True)
class Verdict:
    """What the protections say of this tick."""

    faults: tuple[Fault, ...]
    charge: tuple[Bound, ...]
    discharge: tuple[Bound, ...]
    opens: Bools
    """(strings,): a raised fault wants the string open."""
    opens_now: Bools
    """(strings,): open without waiting for the current any longer."""
    bars: Bools
    """(strings,): a string that is open must not be closed: the row says so, or is about to open it."""
    opens_still: Bools
    """(strings,): open only without current: a string that does not open would carry all of it."""
    why_open: tuple[str, ...]
    """(strings,): the worst fault that wants the string open; empty: none does."""
    force_charge: bool

    alarms: frozenset[Alarm]
    """What inverters are told at alarm level."""
    warnings: frozenset[Alarm]
    """What inverters are told at warning level: warnings, and alarms of strings that are isolated from others."""


def protect(
    protections: Protections, was: ProtectionMemory, evidence: Evidence, resets: Sequence[Reset] = ()
) -> tuple[ProtectionMemory, Verdict]:
    """Run every row once; return the new memory and what follows."""
    carried: dict[str, Any] = dict(was.detectors)
    measured: dict[str, Any] = {}
    states: dict[Scope, FaultState] = {}
    for scope, rows in protections.scopes.items():
        readings = []
        for row in rows.table:
            if row.detector not in measured:
                measured[row.detector], memory = DETECTORS[row.detector](evidence, was.detectors.get(row.detector))
                if memory is not None:
                    carried[row.detector] = memory
            readings.append(measured[row.detector])
        states[scope] = step(rows, was.faults[scope], readings, evidence.dt_s, resets)
    return ProtectionMemory(states, carried), _conclude(protections, states, evidence.in_circuit)


def _conclude(protections: Protections, states: Mapping[Scope, FaultState], in_circuit: Bools) -> Verdict:
    """Follow from every row that is beyond or raised what strings, limits and inverter are told."""
    said = _Said(in_circuit, protections.rated_a)
    for scope, rows in protections.scopes.items():
        state = states[scope]
        for index in np.flatnonzero((state.beyond | state.raised).any(axis=1)).tolist():
            row, string_of = rows.table[index], protections.string_of[scope]
            if row.whole_rack:
                string_of = np.full_like(string_of, -1)
            said.bounds(row, state, index, string_of)
            if state.raised[index].any():
                said.faults.append(_fault(row, state, index, protections.shapes[scope]))
                said.raised(row, state, index, string_of)
    return said.verdict()


class _Said:
    """What the rows say together, row after row."""

    def __init__(self, in_circuit: Bools, rated_a: tuple[float, float]) -> None:
        self.in_circuit, self.strings, self.rated_a = in_circuit, len(in_circuit), rated_a
        self.faults: list[Fault] = []
        self.charge: list[Bound] = []
        self.discharge: list[Bound] = []
        self.opens, self.opens_now, self.opens_still, self.bars = np.zeros((4, self.strings), dtype=bool)
        self.why_open: list[tuple[Level, str]] = [(Level.INFO, "")] * self.strings
        self.force_charge = False
        self.alarms: set[Alarm] = set()
        self.warnings: set[Alarm] = set()

    def bounds(self, row: Row, state: FaultState, index: int, string_of: Ints) -> None:
        """What acts on limits and on closing: the fault, or for some rows its first sample."""
        acts = state.raised[index] | (state.beyond[index] & row.bound_at_once)
        if row.stops_charge:
            self.charge += _to(0.0, row, acts, string_of)
        if row.stops_discharge:
            self.discharge += _to(0.0, row, acts, string_of)
        if row.derates_to is not None:
            self.charge += _to(row.derates_to * self.rated_a[0], row, state.raised[index], string_of)
            self.discharge += _to(row.derates_to * self.rated_a[1], row, state.raised[index], string_of)
        if row.bars_closing:
            self.bars |= _strings_with(acts, string_of, self.strings)

    def raised(self, row: Row, state: FaultState, index: int, string_of: Ints) -> None:
        """What a raised fault tells the inverter, and which strings it opens."""
        where = _strings_with(state.raised[index], string_of, self.strings)
        if row.open_after_s is not None:
            # what is about to open is not closed first, nor for that time after a restart
            self.bars |= where
        # an isolated string is the technician's business: the inverter goes on with the others
        concerns = row.opens_others or not self.in_circuit.any() or bool((where & self.in_circuit).any())
        self.force_charge |= row.force_charge and concerns
        (self.alarms if row.level >= Level.ALARM and concerns else self.warnings).update(row.alarms)
        wanted, at_once = _openings(row, state, index)
        opened = _strings_with(wanted, string_of, self.strings)
        self.opens |= opened
        self.opens_now |= _strings_with(at_once, string_of, self.strings)
        if row.opens_others:
            self.opens_still |= ~where
            opened = opened | ~where
        for string in np.flatnonzero(opened):
            self.why_open[string] = max(self.why_open[string], (row.level, _why(row)), key=lambda why: why[0])

    def verdict(self) -> Verdict:
        return Verdict(
            faults=tuple(sorted(self.faults, key=lambda fault: (-fault.level, fault.code))),
            charge=tuple(self.charge),
            discharge=tuple(self.discharge),
            opens=self.opens,
            opens_now=self.opens_now,
            bars=self.bars,
            opens_still=self.opens_still,
            why_open=tuple(text for _, text in self.why_open),
            force_charge=self.force_charge,
            alarms=frozenset(self.alarms),
            warnings=frozenset(self.warnings),
        )


def _why(row: Row) -> str:
    return f"{row.code} {row.name.replace('_', ' ')}"


def _to(amps: float, row: Row, acts: Bools, string_of: Ints) -> list[Bound]:
    """Bounds of the strings (zero ones: or of the rack) whose subjects are concerned."""
    where = np.unique(np.where(row.opens_others, -1, string_of[acts]))
    return [Bound(amps, _why(row), row.code, None if string < 0 else int(string)) for string in where]


def _openings(row: Row, state: FaultState, index: int) -> tuple[Bools, Bools]:
    """Subjects that want their string open, and those whose notice is over."""
    raised, raised_s = state.raised[index], state.raised_s[index]
    if row.level is Level.TRIP:
        wanted = raised & ~state.acknowledged[index]
        return wanted, wanted & (raised_s >= row.notice_s)
    if row.open_after_s is None:
        nothing = np.zeros_like(raised)
        return nothing, nothing
    wanted = raised & (raised_s >= row.open_after_s)
    return wanted, wanted


def _strings_with(subjects: Bools, string_of: Ints, strings: int) -> Bools:
    """(strings,): strings that have one of these subjects; a subject of the whole rack is in all of them."""
    found = np.zeros(strings, dtype=bool)
    where = string_of[subjects]
    if (where < 0).any():
        found[:] = True
    found[where[where >= 0]] = True
    return found


def _fault(row: Row, state: FaultState, index: int, shape: tuple[int, ...]) -> Fault:
    raised = np.flatnonzero(state.raised[index])
    values = state.value[index][raised]
    signed = np.where(np.isnan(values), -np.inf, -values if row.below else values)
    worst = int(raised[int(np.argmax(signed))])
    place = [int(i) + 1 for i in np.unravel_index(worst, shape)]
    string = module = item = None
    if row.scope in (Scope.CELL, Scope.SENSOR):
        string, module, item = place
    elif row.scope is Scope.MODULE:
        string, module = place
    elif row.scope is Scope.STRING:
        (string,) = place
    elif row.scope is Scope.BUS:
        (item,) = place
    value = float(state.value[index][worst])
    return Fault(
        row.code, row.name, row.level, string, module, item,
        value if np.isfinite(value) else None,
        float(state.raised_s[index][raised].max()), len(raised), bool(state.latched[index].any()),
    )  # fmt: skip
