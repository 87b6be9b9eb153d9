"""Everything that is carried from one tick to the next: one value. Its durable part survives a power cut."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bmsd.core import charge, contactors, limits
from bmsd.core.charge import ChargeMemory
from bmsd.core.contactors import State, StringState
from bmsd.core.estimation import estimators, soc
from bmsd.core.estimation.estimators import EstimationMemory
from bmsd.core.limits import LimitMemory
from bmsd.core.protection.protect import ProtectionMemory, Protections
from bmsd.core.starts import HOUR_S, NO_STARTS, Began, Starts, starts
from bmsd.model.durable import Durable, LatchRecord
from bmsd.model.history import History
from bmsd.model.plant import Plant
from bmsd.model.request import Lease, Reset
from bmsd.model.row import Scope
from bmsd.model.snapshot import Floats, Ints

LAG_SLOTS = 16
INTERRUPTED_ROW = "SYS-002"
"""It counts its raises within an hour, those of the processes before this one included."""
LONGEST_UNSAVED_S = 610.0
"""The longest period of saving, and a save that took its time: what flowed in it a killed process has not kept."""
NOWHERE = Began("", 0.0)


@dataclass(frozen=True, slots=True)
class SentLimits:
    """Highest limits commanded in each of the last seconds, A; the newest slot is `second` (None: none yet).

    At the start every slot holds the rated currents: what an earlier process allowed may still flow.
    """

    second: int | None
    charge_a: Floats
    discharge_a: Floats

    def with_limits(self, now_s: float, charge_a: float, discharge_a: float) -> SentLimits:
        """Return the window with these limits in the slot of now; slots that were skipped are cleared."""
        second = int(now_s)
        charge, discharge = self.charge_a.copy(), self.discharge_a.copy()
        last = second if self.second is None else self.second
        for slot in range(last + 1, min(second, last + LAG_SLOTS) + 1):
            charge[slot % LAG_SLOTS] = discharge[slot % LAG_SLOTS] = 0.0
        index = second % LAG_SLOTS
        charge[index] = max(charge[index], charge_a)
        discharge[index] = max(discharge[index], discharge_a)
        return SentLimits(max(second, last), charge, discharge)


@dataclass(frozen=True, slots=True)
class Memory:
    """State of every part of the core. `now_s` None: no tick yet; `started`: limits may leave.

    `interrupted`: the process before this one did not leave in order; `starts`: how those before it ended. `unread`:
    what it saved, or the newest of it, could not be read: latches may be missing.
    """

    now_s: float | None
    started: bool
    waiting_s: float
    protection: ProtectionMemory
    estimation: EstimationMemory
    limits: LimitMemory
    charge: ChargeMemory
    contactors: tuple[StringState, ...]
    sent: SentLimits
    cell_sync: Ints
    temperature_sync: Ints
    current_sync: Ints
    state_sync: Ints
    force_charge: bool = False
    stopping: bool = False
    connect: bool = True
    interrupted: bool = False
    unread: bool = False
    trip_reset: Reset | None = None
    trip_reset_s: float = 0.0
    commissioned: Ints | None = None
    leases: tuple[Lease, ...] = ()
    starts: Starts = NO_STARTS
    set_point_lost: bool = False


def start(plant: Plant, protections: Protections) -> Memory:
    """A process that has seen nothing."""
    shape, strings = plant.layout.module_shape, plant.layout.strings
    return Memory(
        now_s=None,
        started=False,
        waiting_s=0.0,
        protection=protections.start(),
        estimation=estimators.start(plant),
        limits=limits.start(plant),
        charge=charge.ChargeMemory(),
        contactors=contactors.start(plant),
        sent=SentLimits(
            None,
            np.full(LAG_SLOTS, plant.string_charge_max_a * strings),
            np.full(LAG_SLOTS, plant.string_discharge_max_a * strings),
        ),
        cell_sync=np.full(shape, -1, dtype=np.int64),
        temperature_sync=np.full(shape, -1, dtype=np.int64),
        current_sync=np.full(strings, -1, dtype=np.int64),
        state_sync=np.full(strings, -1, dtype=np.int64),
    )


def durable(protections: Protections, memory: Memory, utc_s: float | None, *, running: bool = True) -> Durable:
    """The part that survives a power cut. Not `running`: the process leaves in order."""
    latches = []
    for scope, rows in protections.scopes.items():
        state = memory.protection.faults[scope]
        for row, subject in np.argwhere(state.latched):
            acknowledged = bool(state.acknowledged[row, subject])
            latches.append(LatchRecord(rows.table[int(row)].code, int(subject), acknowledged))
    for number, string in enumerate(memory.contactors):
        if State.LOCKED in (string.state, string.then):
            latches.append(LatchRecord(contactors.LOCK_CODE, number, False))
        if string.isolated:
            latches.append(LatchRecord(contactors.ISOLATED_CODE, number, True))
    known = memory.estimation
    now_s = memory.starts.began_s if memory.now_s is None else memory.now_s
    return Durable(
        utc_s=utc_s,
        latches=tuple(latches),
        soc=known.soc.soc,
        soc_sigma=known.soc.sigma,
        running=running,
        connect=memory.connect,
        commissioned=memory.commissioned,
        boot_id=memory.starts.boot_id,
        now_s=now_s,
        starts_s=memory.starts.ages_s(now_s),
        learned=estimators.learned(known),
        wear=known.months.wear.wear,
    )


def restore(
    plant: Plant,
    protections: Protections,
    saved: Durable,
    utc_s: float | None,
    began: Began = NOWHERE,
    history: History | None = None,
) -> tuple[Memory, list[str]]:
    """A memory with what was saved, and sentences on what could not be used.

    A latch of a row or subject that no longer exists is named, not dropped in silence. The uncertainty of the
    SoC grows by what self-discharge may have done since; with an unknown time, by thirty days of it.
    """
    memory, notes = _latched(protections, start(plant, protections), saved.latches)
    before, shape = starts(saved, began), plant.layout.module_shape
    scope, index = _places(protections).get(INTERRUPTED_ROW, (None, 0))
    if scope is not None:
        memory.protection.faults[scope].raises[index] = max(before.within(HOUR_S, began.now_s) - 1, 0)
    memory = replace(memory, starts=before, connect=saved.connect, interrupted=saved.running)
    if saved.commissioned is not None and saved.commissioned.shape == shape:
        memory = replace(memory, commissioned=saved.commissioned)
    elif saved.commissioned is not None:
        notes.append(f"saved boards are of a rack of {saved.commissioned.shape}, not {shape}: not used")
    if saved.soc.shape != plant.layout.cell_shape:
        notes.append(f"saved SoC is of a rack of {saved.soc.shape}, not {plant.layout.cell_shape}: not used")
        return memory, notes
    memory, of_months = followed(plant, replace(memory, estimation=_known(plant, saved, utc_s, began)), saved, history)
    return memory, notes + of_months


def history(memory: Memory) -> History:
    """What is kept of months and years."""
    return estimators.history(memory.estimation)


def followed(plant: Plant, memory: Memory, saved: Durable | None, history: History | None) -> tuple[Memory, list[str]]:
    """The memory with what was saved of months and years, and sentences on what of it could not be used."""
    wear = None if saved is None else saved.wear
    estimation, notes = estimators.followed(plant, memory.estimation, wear, history)
    return replace(memory, estimation=estimation), notes


def _places(protections: Protections) -> dict[str, tuple[Scope, int]]:
    """Where the state of each row is: its scope, and its number in that."""
    return {row.code: (scope, i) for scope, rows in protections.scopes.items() for i, row in enumerate(rows.table)}


def _latched(protections: Protections, fresh: Memory, latches: tuple[LatchRecord, ...]) -> tuple[Memory, list[str]]:
    """The fresh memory, whose arrays nobody else has yet, with these latches; what has no place in it is named."""
    places, strings, notes = _places(protections), list(fresh.contactors), []
    for latch in latches:
        if latch.code in (contactors.LOCK_CODE, contactors.ISOLATED_CODE) and 0 <= latch.subject < len(strings):
            locked = {"then": State.LOCKED} if latch.code == contactors.LOCK_CODE else {"isolated": True}
            strings[latch.subject] = replace(strings[latch.subject], **locked)
            continue
        scope, index = places.get(latch.code, (None, 0))
        if scope is None or not 0 <= latch.subject < fresh.protection.faults[scope].raised.shape[1]:
            notes.append(f"saved latch {latch.code} of subject {latch.subject} has no place in this rack")
            continue
        state, place = fresh.protection.faults[scope], (index, latch.subject)
        state.raised[place] = state.latched[place] = True
        state.acknowledged[place] = latch.acknowledged
    return replace(fresh, contactors=tuple(strings)), notes


def _known(plant: Plant, saved: Durable, utc_s: float | None, began: Began) -> EstimationMemory:
    """What was saved of the cells, less sure by what has drained since, and by what a killed process did not save."""
    days = 30.0
    if saved.utc_s is not None and utc_s is not None and utc_s >= saved.utc_s:
        days = (utc_s - saved.utc_s) / 86400.0
    unsaved = 0.0
    if saved.running:
        unsaved_s = min(days * 86400.0, LONGEST_UNSAVED_S)
        unsaved = plant.string_max_a * unsaved_s / 3600.0 / plant.cell.capacity_ah
    drift = plant.estimation.self_discharge_sigma_per_day * days
    sigma = np.minimum(saved.soc_sigma + drift + unsaved, soc.LARGEST_SIGMA)
    apart = None if saved.learned is None else saved.learned.apart_variance
    if apart is not None and apart.shape != sigma.shape:
        apart = None
    known = estimators.of(plant, soc.stored(plant, saved.soc, sigma, apart))
    return estimators.relearned(plant, known, saved.learned, days, _off_s(saved, began))


def _off_s(saved: Durable, began: Began) -> float | None:
    """How long ago this was saved, s, by a clock that nobody sets; None: the computer was off in between."""
    if saved.now_s is None or not saved.boot_id or saved.boot_id != began.boot_id or not saved.now_s <= began.now_s:
        return None
    return began.now_s - saved.now_s
