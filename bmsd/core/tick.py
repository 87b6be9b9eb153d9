"""One tick: everything measured and requested at one instant becomes one outcome."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from bmsd.core import balancing, charge, commissioning, contactors, dispatch
from bmsd.core import limits as limiting
from bmsd.core.contactors import StringState
from bmsd.core.estimation import estimators
from bmsd.core.guard import guard
from bmsd.core.limits import Limits
from bmsd.core.memory import Memory
from bmsd.core.plausibility import plausible
from bmsd.core.protection.evidence import Evidence
from bmsd.core.protection.protect import Protections, Verdict, protect
from bmsd.model.catalogue import CATALOGUE
from bmsd.model.command import Command
from bmsd.model.estimate import Estimate
from bmsd.model.fault import Fault
from bmsd.model.plant import Plant
from bmsd.model.request import Connect, Reset, Shutdown
from bmsd.model.snapshot import Bools, Floats, Reading, Snapshot

START_WAIT_S = 3.0
"""Without a complete string after this time, the inverter is told measured voltages and zero limits."""
TRIP_RESET_S = 2.0
"""A reset of trips is repeated for so long: boards must fall silent before units listen."""
NODE_TRIPS = tuple(row.code for row in CATALOGUE if row.node_trip)
MOST_PERIOD_S = 1.0
"""A tick later than this withholds the heartbeat."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """All that one tick decided. `snapshot` is the plausible one that the decisions used."""

    memory: Memory
    snapshot: Snapshot
    estimate: Estimate
    faults: tuple[Fault, ...]
    limits: Limits
    command: Command
    vetoes: tuple[str, ...]

    @property
    def contactors(self) -> tuple[StringState, ...]:
        return self.memory.contactors

    @property
    def started(self) -> bool:
        """Whether limits and commands may leave."""
        return self.memory.started


def tick(plant: Plant, protections: Protections, was: Memory, snapshot: Snapshot) -> Outcome:
    """Return the outcome of this snapshot. Valid for 10 ms to 60 s between ticks."""
    dt_s = 0.0 if was.now_s is None else max(snapshot.now_s - was.now_s, 0.0)
    snapshot = plausible(plant, snapshot)
    in_circuit = contactors.outputs(was.contactors).in_circuit
    known, estimate = estimators.step(plant, was.estimation, snapshot, dt_s, in_circuit)
    now = _asked(plant, replace(was, estimation=known), snapshot, dt_s)
    evidence = _evidence(plant, was, now, snapshot, estimate, dt_s, in_circuit)
    protection, verdict = protect(protections, was.protection, evidence, _resets(now, snapshot))
    released = contactors.released(plant, was.contactors, snapshot)
    strings = contactors.step(plant, released, snapshot, _orders(now, verdict), dt_s)
    now, limits, command = _decided(
        plant, replace(now, protection=protection, contactors=strings), snapshot, estimate, verdict, dt_s
    )
    guarded = guard(plant, command, snapshot)
    memory = _remembered(now, snapshot, guarded.command)
    return Outcome(memory, snapshot, estimate, verdict.faults, limits, guarded.command, guarded.vetoes)


def _asked(plant: Plant, was: Memory, snapshot: Snapshot, dt_s: float) -> Memory:
    """The memory with what people ask, and whether limits and commands may leave."""
    requests = snapshot.requests
    started, waiting_s = _started(plant, was, snapshot, dt_s)
    trip_reset, trip_reset_s = _trip_reset(was, tuple(r for r in requests if isinstance(r, Reset)), dt_s)
    leases = dispatch.step(was.leases, requests, snapshot.now_s)
    boards = commissioning.commissioned(was.commissioned, snapshot.modules.uid, requests, waiting_s)
    estimation = was.estimation
    if boards is not None and was.commissioned is not None and boards is not was.commissioned:
        estimation = estimators.exchanged(plant, estimation, boards != was.commissioned)
    return replace(
        was,
        estimation=estimation,
        started=started,
        waiting_s=waiting_s,
        trip_reset=trip_reset,
        trip_reset_s=trip_reset_s,
        stopping=was.stopping or any(isinstance(request, Shutdown) for request in requests),
        connect=next((r.closed for r in reversed(requests) if isinstance(r, Connect)), was.connect),
        commissioned=boards,
        leases=leases,
        set_point_lost=dispatch.lost(was.set_point_lost, was.leases, leases, requests),
    )


def _resets(now: Memory, snapshot: Snapshot) -> tuple[Reset, ...]:
    """What people acknowledge, and what the reset of trips that nodes are still told of acknowledges, too."""
    resets = tuple(request for request in snapshot.requests if isinstance(request, Reset))
    return (*resets, *_of_node_trips(now.trip_reset))


def _orders(now: Memory, verdict: Verdict) -> contactors.Orders:
    return contactors.Orders(
        opens=verdict.opens,
        opens_now=verdict.opens_now,
        opens_still=verdict.opens_still,
        why=verdict.why_open,
        barred=verdict.bars,
        wanted=now.connect and not now.stopping,
        stopping=now.stopping,
        started=now.started,
        interrupted=now.interrupted,
        unread=now.unread,
    )


def _decided(
    plant: Plant, now: Memory, snapshot: Snapshot, estimate: Estimate, verdict: Verdict, dt_s: float
) -> tuple[Memory, Limits, Command]:
    """Limits, voltages and the command of these strings; the memory with what they carry on."""
    outs = contactors.outputs(now.contactors)
    loose = outs.leaving | contactors.not_open(plant, now.contactors, snapshot) | contactors.in_doubt(now.contactors)
    pack_v = charge.pack_voltage(plant, snapshot, outs.connected)
    leased = dispatch.bounds(now.leases, estimate.soc_edge, pack_v)
    bounds = (verdict.charge + leased[0], verdict.discharge + leased[1])
    limit_memory, limits = limiting.limits(
        plant, now.limits, snapshot, estimate, outs.connected, bool(loose.any()), bounds, dt_s
    )
    stopped = _charge_stopped(verdict, outs.connected)
    charge_memory, volts = charge.voltages(plant, now.charge, snapshot, pack_v, outs.connected, stopped, dt_s)
    force = _force_charge(plant, now.force_charge or verdict.force_charge, verdict, estimate)
    now = replace(now, limits=limit_memory, charge=charge_memory, force_charge=force)
    return now, limits, _command(plant, now, snapshot, estimate, verdict, limits, outs, volts, pack_v)


def _remembered(now: Memory, snapshot: Snapshot, command: Command) -> Memory:
    """The memory with what left, and which measurements this tick has seen."""
    return replace(
        now,
        now_s=snapshot.now_s,
        estimation=estimators.told(now.estimation, command.balance),
        limits=limiting.settled(now.limits, command.ccl_a, command.dcl_a),
        sent=now.sent.with_limits(snapshot.now_s, command.ccl_a, command.dcl_a),
        cell_sync=snapshot.modules.cell_sync,
        temperature_sync=snapshot.modules.temperature_sync,
        current_sync=snapshot.units.current_sync,
        state_sync=snapshot.units.state_sync,
    )


def _evidence(
    plant: Plant, was: Memory, now: Memory, snapshot: Snapshot, estimate: Estimate, dt_s: float, in_circuit: Bools
) -> Evidence:
    return Evidence(
        plant=plant,
        snapshot=snapshot,
        dt_s=dt_s,
        new_cells=snapshot.modules.cell_sync != was.cell_sync,
        new_temperatures=snapshot.modules.temperature_sync != was.temperature_sync,
        new_currents=snapshot.units.current_sync != was.current_sync,
        new_states=snapshot.units.state_sync != was.state_sync,
        sent_charge_a=float(was.sent.charge_a.max()),
        sent_discharge_a=float(was.sent.discharge_a.max()),
        in_circuit=in_circuit,
        commissioned=now.commissioned,
        taken_over=was.commissioned is not now.commissioned and not commissioning.accepted(snapshot.requests),
        contactors=was.contactors,
        residuals=now.estimation.predictor.residuals,
        starts=was.starts,
        set_point_lost=was.set_point_lost,
        soh=math.nan if estimate.soh is None else estimate.soh,
        leaks=now.estimation.ledger.leaks,
    )


def complete(snapshot: Snapshot) -> Bools:
    """(strings,): strings of which every cell, a temperature of every module, and the unit are known."""
    modules, units = snapshot.modules, snapshot.units
    strings = len(units.current_a)
    answered = (modules.cell_reading != Reading.MISSING).reshape(strings, -1).all(axis=1)
    warm = np.logical_or.reduce(np.isfinite(modules.temperature_degc), axis=2)
    answered &= np.logical_and.reduce(warm, axis=1)
    return np.asarray(answered & np.isfinite(units.current_a + units.string_v + units.bus_v), dtype=bool)


def _started(plant: Plant, was: Memory, snapshot: Snapshot, dt_s: float) -> tuple[bool, float]:
    """Whether limits and commands may leave.

    After the first complete string once every unit has said where its contactors are (a command to one that has
    not could open a closed string), or after the wait with any voltage known.
    """
    waiting_s = was.waiting_s + dt_s
    reported = bool((snapshot.units.state_age_s <= plant.timing.hold_s).all())
    if was.started or (reported and complete(snapshot).any()):
        return True, waiting_s
    measured = bool(np.isfinite(snapshot.modules.cell_v).any() or np.isfinite(snapshot.units.string_v).any())
    return waiting_s >= START_WAIT_S and measured, waiting_s


def _charge_stopped(verdict: Verdict, connected: Bools) -> bool:
    """Whether a fault of the rack or of a closed string stops the charge; without a closed string, any fault."""
    return any(b.string is None or connected[b.string] or not connected.any() for b in verdict.charge)


def _force_charge(plant: Plant, was: bool, verdict: Verdict, estimate: Estimate) -> bool:
    """Force charge below its SoC or on a row that asks for it, until its release SoC."""
    if verdict.force_charge:
        return True
    if estimate.soc is None:
        return was
    if was:
        return estimate.soc < plant.charge.force_charge_release_soc
    return estimate.soc < plant.charge.force_charge_soc


def _command(
    plant: Plant,
    now: Memory,
    snapshot: Snapshot,
    estimate: Estimate,
    verdict: Verdict,
    limits: Limits,
    outs: contactors.Outputs,
    volts: charge.Voltages,
    pack_v: float | None,
) -> Command:
    measured = bool(outs.connected.any() | complete(snapshot).any())
    fresh = now.started and measured and _fresh(plant, snapshot, outs.connected)
    flows = fresh and bool(outs.connected.any())
    ccl_a = limits.charge_a if flows else 0.0
    dcl_a = limits.discharge_a if flows else 0.0
    degc = snapshot.modules.temperature_degc
    known = degc[np.isfinite(degc)]
    return Command(
        cvl_v=volts.cvl_v if now.started else None,
        dvl_v=volts.dvl_v if now.started else None,
        ccl_a=ccl_a,
        dcl_a=dcl_a,
        charge_enabled=ccl_a > 0.0,
        discharge_enabled=dcl_a > 0.0,
        close_minus=outs.close_minus,
        close_precharge=outs.close_precharge,
        close_plus=outs.close_plus,
        inverter_enable=outs.connected & ~outs.leaving,
        commanded=outs.commanded,
        balance=_balance(plant, now, snapshot, estimate, outs.connected & ~verdict.opens),
        heartbeat=now.started and snapshot.host.period_s <= MOST_PERIOD_S and not _cut_off(now, snapshot),
        force_charge=now.force_charge,
        alarms=verdict.alarms,
        warnings=verdict.warnings,
        voltage_v=pack_v,
        current_a=_rack_current_a(snapshot.units.current_a, outs.in_circuit),
        temperature_degc=float(known.mean()) if known.size else None,
        soc=estimate.soc,
        soh=estimate.soh,
        modules_online=int((snapshot.modules.cell_age_s <= plant.timing.hold_s).sum()),
        fresh=fresh,
        trip_resets=_trip_resets(plant, snapshot, now.trip_reset_s),
    )


def _balance(plant: Plant, now: Memory, snapshot: Snapshot, estimate: Estimate, healthy: Bools) -> Bools:
    emptier = estimate.cell_soc - estimate.cell_soc_sigma
    return balancing.balance(plant, snapshot, healthy, now.estimation.ledger.balancing, emptier, now.commissioned)


def _rack_current_a(current_a: Floats, in_circuit: Bools) -> float | None:
    """Sum of the strings in circuit (without one: of all), A, positive charges; None when one is unknown."""
    amps = current_a[in_circuit] if in_circuit.any() else current_a
    return float(amps.sum()) if np.isfinite(amps).all() else None


def _fresh(plant: Plant, snapshot: Snapshot, connected: Bools) -> bool:
    """Whether the closed strings (without one: any string) were measured within the hold time."""
    ages_s = np.maximum(snapshot.modules.cell_age_s.max(axis=1), snapshot.units.current_age_s)
    recent = ages_s <= plant.timing.hold_s
    return bool(recent[connected].all()) if connected.any() else bool(recent.any())


def _cut_off(now: Memory, snapshot: Snapshot) -> bool:
    """Whether nothing could be sent for 1 s on a bus: boards and units must not think that all is well.

    An inverter counts from when it was reached with a string closed: one that is supplied by the rack is silent until
    it is, and a heartbeat withheld for its sake would keep it so.
    """
    closed_s = max(
        (string.since_s for string in now.contactors if string.state is contactors.State.CLOSED), default=0.0
    )
    stalled_s = snapshot.buses.send_stalled_s
    counts = snapshot.buses.are_field | ~(stalled_s >= closed_s)
    return bool((~(stalled_s <= 1.0) & counts).any())


def _trip_reset(was: Memory, resets: tuple[Reset, ...], dt_s: float) -> tuple[Reset | None, float]:
    """The reset of "trip", or of "all" by service, that nodes are still told of, and the time left for it, s."""
    asked = next((reset for reset in reversed(resets) if reset.code == "trip" or reset.everything), None)
    if asked is not None:
        return asked, TRIP_RESET_S
    left_s = max(was.trip_reset_s - dt_s, 0.0)
    return was.trip_reset if left_s > 0.0 else None, left_s


def _of_node_trips(trip_reset: Reset | None) -> tuple[Reset, ...]:
    """The acknowledgements that a reset of trips is, too: nodes are released only while it stands."""
    return () if trip_reset is None else tuple(replace(trip_reset, code=code) for code in NODE_TRIPS)


def _trip_resets(plant: Plant, snapshot: Snapshot, left_s: float) -> tuple[tuple[int, int], ...]:
    """Nodes to release, boards before units: a unit releases only when it has heard no trip frame for 0.5 s."""
    if not left_s > 0.0:
        return ()
    boards = [address for string in plant.layout.module_addresses for address in string]
    codes = [*snapshot.modules.trip_code.reshape(-1).tolist(), *snapshot.units.trip_code.tolist()]
    nodes = zip((*boards, *plant.layout.unit_addresses), codes, strict=True)
    return tuple((address, code) for address, code in nodes if code > 0)
