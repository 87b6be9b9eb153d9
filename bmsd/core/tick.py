"""One tick: everything measured and requested at one instant becomes one outcome."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bmsd.core import balancing, charge, commissioning, contactors, dispatch
from bmsd.core import limits as limiting
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
from bmsd.model.snapshot import Bools, Floats, Ints, Reading, Snapshot

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
    contactors: tuple[contactors.StringState, ...]
    started: bool


def tick(plant: Plant, protections: Protections, was: Memory, snapshot: Snapshot) -> Outcome:
    """Return the outcome of this snapshot. Valid for 10 ms to 60 s between ticks."""
    dt_s = 0.0 if was.now_s is None else max(snapshot.now_s - was.now_s, 0.0)
    snapshot = plausible(plant, snapshot)
    in_circuit = contactors.outputs(was.contactors).in_circuit
    known, estimate = estimators.step(plant, was.estimation, snapshot, dt_s, in_circuit)
    commissioned = commissioning.commissioned(was.commissioned, snapshot.modules.uid, snapshot.requests)
    evidence = _evidence(plant, was, snapshot, dt_s, commissioned)
    resets = tuple(request for request in snapshot.requests if isinstance(request, Reset))
    trip_reset, trip_reset_s = _trip_reset(was, resets, dt_s)
    protection, verdict = protect(protections, was.protection, evidence, (*resets, *_of_node_trips(trip_reset)))
    stopping = was.stopping or any(isinstance(request, Shutdown) for request in snapshot.requests)
    connect = next((r.closed for r in reversed(snapshot.requests) if isinstance(r, Connect)), was.connect)
    started, waiting_s = _started(plant, was, snapshot, dt_s)
    orders = contactors.Orders(
        opens=verdict.opens,
        opens_now=verdict.opens_now,
        opens_still=verdict.opens_still,
        why=verdict.why_open,
        barred=verdict.bars,
        wanted=connect and not stopping,
        stopping=stopping,
        started=started,
        interrupted=was.interrupted,
    )
    released = contactors.released(was.contactors, snapshot.requests)
    strings = contactors.step(plant, released, snapshot, orders, dt_s)
    outs = contactors.outputs(strings)
    pack_v = charge.pack_voltage(plant, snapshot, outs.connected)
    leases = dispatch.step(was.leases, snapshot.requests, snapshot.now_s)
    asked = dispatch.bounds(leases, estimate.soc_edge, pack_v, snapshot.now_s)
    limit_memory, limits = limiting.limits(
        plant,
        was.limits,
        snapshot,
        estimate,
        outs.connected,
        bool((outs.leaving | contactors.not_open(plant, strings, snapshot)).any()),
        (verdict.charge + asked[0], verdict.discharge + asked[1]),
        dt_s,
    )
    stopped = _charge_stopped(verdict, outs.connected)
    charge_memory, volts = charge.voltages(plant, was.charge, snapshot, pack_v, outs.connected, stopped, dt_s)
    force = _force_charge(plant, was.force_charge or verdict.force_charge, verdict, estimate)
    command = _command(
        plant,
        snapshot,
        estimate,
        verdict,
        limits,
        outs,
        volts,
        pack_v,
        force=force,
        started=started,
        trip_reset_s=trip_reset_s,
    )
    guarded = guard(plant, command, snapshot)
    command = guarded.command
    memory = Memory(
        now_s=snapshot.now_s,
        started=started,
        waiting_s=waiting_s,
        protection=protection,
        estimation=known,
        limits=limiting.settled(limit_memory, command.ccl_a, command.dcl_a),
        charge=charge_memory,
        contactors=strings,
        sent=was.sent.with_limits(snapshot.now_s, command.ccl_a, command.dcl_a),
        cell_sync=snapshot.modules.cell_sync,
        temperature_sync=snapshot.modules.temperature_sync,
        current_sync=snapshot.units.current_sync,
        state_sync=snapshot.units.state_sync,
        force_charge=force,
        stopping=stopping,
        connect=connect,
        interrupted=was.interrupted,
        trip_reset=trip_reset,
        trip_reset_s=trip_reset_s,
        commissioned=commissioned,
        leases=leases,
    )
    return Outcome(memory, snapshot, estimate, verdict.faults, limits, command, guarded.vetoes, strings, started)


def _evidence(plant: Plant, was: Memory, snapshot: Snapshot, dt_s: float, commissioned: Ints | None) -> Evidence:
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
        in_circuit=contactors.outputs(was.contactors).in_circuit,
        commissioned=commissioned,
        contactors=was.contactors,
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
    snapshot: Snapshot,
    estimate: Estimate,
    verdict: Verdict,
    limits: Limits,
    outs: contactors.Outputs,
    volts: charge.Voltages,
    pack_v: float | None,
    *,
    force: bool,
    started: bool,
    trip_reset_s: float,
) -> Command:
    fresh = (
        started and bool(outs.connected.any() | complete(snapshot).any()) and _fresh(plant, snapshot, outs.connected)
    )
    flows = fresh and bool(outs.connected.any())
    ccl_a = limits.charge_a if flows else 0.0
    dcl_a = limits.discharge_a if flows else 0.0
    degc = snapshot.modules.temperature_degc
    known = degc[np.isfinite(degc)]
    return Command(
        cvl_v=volts.cvl_v if started else None,
        dvl_v=volts.dvl_v if started else None,
        ccl_a=ccl_a,
        dcl_a=dcl_a,
        charge_enabled=ccl_a > 0.0,
        discharge_enabled=dcl_a > 0.0,
        close_minus=outs.close_minus,
        close_precharge=outs.close_precharge,
        close_plus=outs.close_plus,
        inverter_enable=outs.connected & ~outs.leaving,
        commanded=outs.commanded,
        balance=balancing.balance(plant, snapshot, outs.connected & ~verdict.opens),
        heartbeat=started and snapshot.host.period_s <= MOST_PERIOD_S and not _stalled(snapshot),
        force_charge=force,
        alarms=verdict.alarms,
        warnings=verdict.warnings,
        voltage_v=pack_v,
        current_a=_rack_current_a(snapshot.units.current_a, outs.in_circuit),
        temperature_degc=float(known.mean()) if known.size else None,
        soc=estimate.soc,
        soh=estimate.soh,
        modules_online=int((snapshot.modules.cell_age_s <= plant.timing.hold_s).sum()),
        fresh=fresh,
        trip_resets=_trip_resets(plant, snapshot, trip_reset_s),
    )


def _rack_current_a(current_a: Floats, in_circuit: Bools) -> float | None:
    """Sum of the strings in circuit (without one: of all), A, positive charges; None when one is unknown."""
    amps = current_a[in_circuit] if in_circuit.any() else current_a
    return float(amps.sum()) if np.isfinite(amps).all() else None


def _fresh(plant: Plant, snapshot: Snapshot, connected: Bools) -> bool:
    """Whether the closed strings (without one: any string) were measured within the hold time."""
    ages_s = np.maximum(snapshot.modules.cell_age_s.max(axis=1), snapshot.units.current_age_s)
    recent = ages_s <= plant.timing.hold_s
    return bool(recent[connected].all()) if connected.any() else bool(recent.any())


def _stalled(snapshot: Snapshot) -> bool:
    """Limits could not be sent for 1 s: boards and units must not think that all is well."""
    return not bool((snapshot.buses.send_stalled_s <= 1.0).all())


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
