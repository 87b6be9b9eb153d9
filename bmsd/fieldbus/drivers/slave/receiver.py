"""From raw frames of the slave protocol to what the rack measured: polls open, fill, close and are published.

Theory of operation. A SYNC of phase 0 opens a poll. Frames that are exactly what is expected under that SYNC go
to their slots, many at once, by the order of the poll before or by their identifiers; a batch with anything else in
it is sorted frame by frame (as arrays). A poll closes
when everything asked for is there, 120 ms after its SYNC, or when the next one opens; only then do its values
show, a board's cells all or none. Currents answer every SYNC: they show when all units have answered, 20 ms after
their SYNC, or at the next one. Measurement time is the instant of the SYNC. A node that was silent for so long
that its values are held no more shows from its second answer on. Identification and trips count at once.
"""

from __future__ import annotations

import math
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from bmsd.fieldbus.drivers.slave import words as meaning
from bmsd.fieldbus.drivers.slave.absent import sentences
from bmsd.fieldbus.drivers.slave.arrivals import Arrivals
from bmsd.fieldbus.drivers.slave.counts import FrameCounts
from bmsd.fieldbus.drivers.slave.identity import Identities
from bmsd.fieldbus.drivers.slave.overheard import overheard
from bmsd.fieldbus.drivers.slave.readings import (
    BoardCounts,
    BoardIdentity,
    BoardReadings,
    Stamps,
    UnitReadings,
    Who,
)
from bmsd.fieldbus.drivers.slave.slots import MOST_AT_ONCE, UNIT_MESSAGES, Slots
from bmsd.fieldbus.drivers.slave.sorting import Kind, OpenSync, Sorted, sort
from bmsd.fieldbus.drivers.slave.trips import Trip, Trips
from bmsd.fieldbus.drivers.slave.twins import Twins
from bmsd.fieldbus.drivers.slave.words import PollPlan
from bmsd.model.frame import RawFrames
from bmsd.model.layout import Layout
from bmsd.model.plant import Timing
from bmsd.model.snapshot import Bools, Floats, Ints, Modules, Units

POLL_LASTS_S = 0.120
"""Longest time from a SYNC until its poll closes; nodes have answered after 0.100 s."""
CURRENTS_LAST_S = 0.020
"""Longest time that is waited for the currents of all units; they have answered after 0.004 s."""
_EARLY_S = 1e-6
_MOST_DISCOVERED = 64
_TEMPERATURES, _BOARD_STATE, _NODE_STATUS = 1, 2, 3

T = TypeVar("T", bound=np.generic)


class _Asked(NamedTuple):
    """What a poll of one slow group brings, with its currents: the slots (also as bytes), how many, and frames per
    board.
    """

    slots: Bools
    exactly: bytes
    total: int
    frames: Ints


class Receiver:
    """Measurements of a rack from the frames of its field bus; knows no socket and no clock.

    `listen_only`: somebody else polls the rack, and the SYNCs among the frames count as sent when they were drained.
    """

    def __init__(self, layout: Layout, timing: Timing, *, listen_only: bool = False) -> None:
        self._layout, self._listen_only = layout, listen_only
        self._hold_s, self._forget_after_s = timing.hold_s, timing.slow_hold_s
        self._slots = slots = Slots(layout)
        self._stamps = Stamps(layout, timing)
        self._boards = BoardReadings(layout, self._stamps)
        self._units = UnitReadings(layout, self._stamps)
        self._plain = PollPlan(slots, layout, temperatures=False)
        self._with_temperatures = PollPlan(slots, layout, temperatures=True)
        self.identities = Identities(slots)
        self._frame_counts = FrameCounts(layout, slots)
        self._arrivals = Arrivals(slots)
        self._trips = Trips(slots)
        self._twins = Twins(slots, layout)
        self.discovered: dict[int, int] = {}
        """Type of nodes that have no address, by unique number."""
        self._number: int | None = None
        self._phase: int | None = None
        self._group = 0
        self._sync = self._poll_sync = -1
        self._phase_at_s = self._poll_at_s = -math.inf
        self._poll_open = self._phase_open = False
        self._expected = slots.nothing()
        self._store: NDArray[np.uint64] = np.zeros(slots.count, dtype=np.uint64)
        self._got: Bools = np.zeros(slots.count, dtype=bool)
        self._spoilt: Bools = np.zeros(slots.count, dtype=bool)
        self._any_spoilt = False
        self._taken = 0
        self._last_got: Bools = np.zeros(slots.count, dtype=bool)
        self._unit_got = self._got[slots.unit_words].reshape(slots.units, len(UNIT_MESSAGES))
        self._current_got = self._unit_got[:, 0]
        self._is_poll = np.arange(slots.count) < slots.counted
        self._is_poll[slots.currents] = False
        self._asked = [self._asked_in(group) for group in range(16)]
        self._note_identities()

    def _asked_in(self, group: int) -> _Asked:
        slots = self._slots
        slow = {
            _TEMPERATURES: slots.temperatures,
            _BOARD_STATE: slots.board_state,
            _NODE_STATUS: slots.node_status,
        }
        wanted = np.zeros(slots.count, dtype=bool)
        wanted[slots.cells] = wanted[slots.unit_words] = True
        if group in slow:
            wanted[slow[group]] = True
        return _Asked(wanted, wanted.tobytes(), int(wanted.sum()), self._frame_counts.per_board(slots.node[wanted]))

    # SYNCs

    def sync_sent(self, number: int, phase: int, slow_group: int, at_s: float) -> None:
        """Note that a SYNC went out at `at_s`. Phase 0 closes the poll before and opens the next."""
        if self._phase_open:
            self._close_phase()
        self._sync += 1
        if self._poll_open and (phase == 0 or number != self._number):
            self._close_poll()
        if phase == 0:
            self._twins.poll_opened()
            self._got.fill(False)
            if self._any_spoilt:
                self._spoilt.fill(False)
                self._any_spoilt = False
            self._poll_open, self._poll_at_s, self._poll_sync = True, at_s, self._sync
            self._group, self._taken = slow_group, 0
        else:
            self._current_got[:] = False
            self._spoilt[self._slots.currents] = False
            self._taken = int(np.count_nonzero(self._got))
        self._number, self._phase, self._phase_at_s, self._phase_open = number, phase, at_s, True
        self._arrivals.opened(phase, slow_group)
        self._expected = self._slots.expected(number, phase, self._poll_open)

    def close(self, now_s: float) -> None:
        """Publish currents and close the poll when their time is over."""
        if self._phase_open and not now_s - self._phase_at_s < CURRENTS_LAST_S - _EARLY_S:
            self._close_phase()
        if self._poll_open and not now_s - self._poll_at_s < POLL_LASTS_S - _EARLY_S:
            self._close_poll()

    # frames

    def feed(self, frames: RawFrames, now_s: float) -> None:
        """Take the frames of one drain, in order of arrival; `now_s` is when they were drained.

        Never raises for what is in the frames. What came before this drain is taken as in time for its poll.
        """
        start = 0
        for heard in overheard(frames) if self._listen_only else ():
            self._take(frames[start : heard.place], now_s)
            self.sync_sent(heard.number, heard.phase, heard.slow_group, now_s)
            start = heard.place + 1
        self._take(frames[start:], now_s)

    def _take(self, frames: RawFrames, now_s: float) -> None:
        if len(frames):
            frames = np.ascontiguousarray(frames)
            if len(frames) > MOST_AT_ONCE or not self._take_expected(frames):
                sync = OpenSync(self._number, self._phase, self._poll_open)
                self._take_sorted(sort(frames, self._slots, sync), now_s)
            self._publish_what_is_complete()
        self.close(now_s)

    def _take_expected(self, frames: RawFrames) -> bool:
        """Take all frames if each is sound, expected under the open SYNC and the first of its kind; else none."""
        words = frames.view(np.uint64)
        data, headers = words[1::2].copy(), words[0::2].tobytes()
        known = self._arrivals.slots_of(headers, data, self._number or 0, poll_open=self._poll_open)
        slot = self._slots.matching(words, data, self._expected) if known is None else known
        if slot is None:
            return False
        before = self._got.copy()
        self._got[slot] = True
        taken = int(np.count_nonzero(self._got))
        if taken != self._taken + len(slot):
            self._got[:] = before
            return False
        self._taken = taken
        self._store[slot] = data
        self._arrivals.took(headers, slot, known=known is not None)
        return True

    def _take_sorted(self, found: Sorted, now_s: float) -> None:
        """Count what is wrong, by kind and node; take what is sound."""
        self._arrivals.disturbed()
        self._frame_counts.add_sorted(found)
        if self._number is not None:
            self._twins.look(found, self._got, self._store)
        sound = found.kind == Kind.SOUND
        measured = sound & (found.slot < self._slots.counted)
        if measured.any():
            self._take_measured(found.slot[measured], found.data[measured])
        if (sound & ~measured).any():
            self._take_identities(found.slot, found.data, sound & ~measured, now_s)
        if (found.kind == Kind.TRIP).any():
            self._take_trips(found, now_s)
        if (found.kind == Kind.DISCOVERY).any():
            self._take_discoveries(found.data[found.kind == Kind.DISCOVERY])

    def _take_measured(self, slot: Ints, data: NDArray[np.uint64]) -> None:
        """Keep the first frame of each slot. The same once more is a duplicate; another content spoils the slot:
        two nodes speak under one address, and neither can be believed.
        """
        first = np.zeros(len(slot), dtype=bool)
        first[np.unique(slot, return_index=True)[1]] = True
        first &= ~self._got[slot]
        self._store[slot[first]] = data[first]
        self._got[slot[first]] = True
        self._taken = int(np.count_nonzero(self._got))
        again = slot[~first]
        if len(again):
            conflict = data[~first] != self._store[again]
            self._spoilt[again[conflict]] = True
            self._any_spoilt = self._any_spoilt or bool(conflict.any())
            self._frame_counts.add_repeated(again, int(conflict.sum()))

    def _take_identities(self, slot: Ints, data: NDArray[np.uint64], chosen: Bools, now_s: float) -> None:
        node = self._slots.node[slot]
        uid = chosen & (slot < self._slots.identity_version.start)
        version = chosen & ~uid
        if uid.any():
            self._twins.note(self.identities.take_uids(node[uid], data[uid], now_s))
        if version.any():
            self.identities.take_versions(node[version], data[version], now_s)
        self._note_identities()

    def _take_trips(self, found: Sorted, now_s: float) -> None:
        chosen = found.kind == Kind.TRIP
        self._trips.take(found.address[chosen], found.data[chosen], now_s)
        self._boards.take_trips(self._trips.boards_since(now_s), self._trips.board_codes)
        heard = self._trips.units_since(now_s)
        if heard is not None:
            self._units.trip_code = np.where(heard[0], heard[1], self._units.trip_code)

    def _take_discoveries(self, words: NDArray[np.uint64]) -> None:
        uids, types = meaning.discoveries(words)
        for uid, board_type in zip(uids.tolist(), types.tolist(), strict=True):
            if uid in self.discovered or len(self.discovered) < _MOST_DISCOVERED:
                self.discovered[uid] = board_type

    # publishing

    def _publish_what_is_complete(self) -> None:
        asked = self._asked[self._group]
        whole = self._poll_open and self._phase_open and self._taken == asked.total and not self._any_spoilt
        whole = whole and self._stamps.all_steady(self._poll_at_s, temperatures=self._group == _TEMPERATURES)
        if whole and self._got.tobytes() == asked.exactly:
            self._publish_whole(asked)
            return
        if self._phase_open and np.count_nonzero(self._current_got) == self._slots.units:
            self._close_phase()
        without_currents = asked.total - self._slots.units
        if self._poll_open and self._taken >= without_currents and not self._any_spoilt:
            wanted = asked.slots & self._is_poll
            if np.count_nonzero(self._got & wanted) == without_currents:
                self._close_poll()

    def _publish_whole(self, asked: _Asked) -> None:
        """Publish a poll of which everything that was asked for has come, and nothing else."""
        group, stamps, at_s, sync = self._group, self._stamps, self._poll_at_s, self._poll_sync
        poll = (self._with_temperatures if group == _TEMPERATURES else self._plain).decode(self._store)
        self._boards.take_cells(poll, None)
        if group == _TEMPERATURES:
            self._boards.take_temperatures(poll, None)
        elif group:
            self._publish_slow(group, self._got)
        self._units.take_currents(poll, None, self._phase_at_s)
        self._units.take_voltages(poll, None)
        self._units.take_state(poll, None, self._trips.units_since(at_s))
        stamps.stamp_poll(at_s, sync, temperatures=group == _TEMPERATURES)
        if self._sync != sync:
            stamps.stamp(stamps.currents, None, self._phase_at_s, self._sync)
        self._frame_counts.frames = self._frame_counts.frames + asked.frames
        self._phase_open = False
        self._poll_closed()

    def _close_phase(self) -> None:
        """Publish the currents of the units that have answered."""
        self._phase_open = False
        answered = self._current_got & ~self._spoilt[self._slots.currents]
        who = _who(self._stamps.believed(self._stamps.currents, answered, self._phase_at_s))
        if who is None or who.any():
            self._units.take_currents(self._plain.decode(self._store), who, self._phase_at_s)
            self._stamps.stamp(self._stamps.currents, who, self._phase_at_s, self._sync)

    def _close_poll(self) -> None:
        """Publish what each node has answered completely."""
        slots, stamps, at_s, sync = self._slots, self._stamps, self._poll_at_s, self._poll_sync
        sound = self._got & ~self._spoilt
        poll = self._with_temperatures.decode(self._store)
        cells = self._of_boards(stamps.believed(stamps.cells, _whole(sound[slots.cells], slots.boards), at_s))
        self._boards.take_cells(poll, cells)
        stamps.stamp(stamps.cells, cells, at_s, sync)
        if slots.temperatures.stop > slots.temperatures.start:
            warm = _whole(sound[slots.temperatures], slots.boards)
            temperatures = self._of_boards(stamps.believed(stamps.temperatures, warm, at_s))
            self._boards.take_temperatures(poll, temperatures)
            stamps.stamp(stamps.temperatures, temperatures, at_s, sync)
        self._publish_slow(_BOARD_STATE, sound)
        self._publish_slow(_NODE_STATUS, sound)
        units = sound[slots.unit_words].reshape(slots.units, len(UNIT_MESSAGES))
        volts = stamps.believed(stamps.voltages, units[:, 1], at_s)
        self._units.take_voltages(poll, volts)
        stamps.stamp(stamps.voltages, volts, at_s, sync)
        states = stamps.believed(stamps.unit_state, units[:, 2], at_s)
        self._units.take_state(poll, states, self._trips.units_since(at_s))
        stamps.stamp(stamps.unit_state, states, at_s, sync)
        counts = self._frame_counts
        counts.frames = counts.frames + counts.per_board(slots.node[self._got & self._is_poll])
        self._poll_closed()

    def _poll_closed(self) -> None:
        self._last_got = self._got & ~self._spoilt if self._any_spoilt else self._got.copy()
        self._poll_open = False
        self._expected = self._slots.expected(self._number or 0, self._phase or 0, False)

    def _publish_slow(self, group: int, sound: Bools) -> None:
        """Publish the states or the status of the nodes that have sent it."""
        slots, stamps, at_s, sync = self._slots, self._stamps, self._poll_at_s, self._poll_sync
        boards = slots.boards
        if group == _BOARD_STATE and sound[slots.board_state].any():
            who = self._of_boards(stamps.believed(stamps.board_state, sound[slots.board_state], at_s))
            tripped = self._trips.boards_since(at_s)
            state = meaning.board_state(self._store[slots.board_state])
            self._boards.take_state(state, who, tripped, self._trips.board_codes)
            stamps.stamp(stamps.board_state, who, at_s, sync)
            self._note_identities()
        elif group == _NODE_STATUS and sound[slots.node_status].any():
            status = meaning.node_status(self._store[slots.node_status])
            who = self._of_boards(stamps.believed(stamps.board_status, sound[slots.node_status][:boards], at_s))
            self._boards.take_status(status.of(slice(0, boards)), who)
            stamps.stamp(stamps.board_status, who, at_s, sync)
            units = stamps.believed(stamps.unit_status, sound[slots.node_status][boards:], at_s)
            self._units.take_status(status.of(slice(boards, None)), units)
            stamps.stamp(stamps.unit_status, units, at_s, sync)

    def _of_boards(self, flat: NDArray[T]) -> NDArray[T]:
        return flat.reshape(self._layout.module_shape)

    # what is known

    @property
    def counts(self) -> Ints:
        """Frames that were not taken as a measurement, by `Kind`."""
        return self._frame_counts.kinds

    @property
    def foreign_frames(self) -> int:
        """Frames since start that only bmsd may send; where it only listens they are those of the rack's master."""
        return 0 if self._listen_only else int(self.counts[Kind.OWN])

    @property
    def trips(self) -> dict[int, Trip]:
        """Trip frames by address; also of nodes that this rack does not know."""
        return self._trips.by_address

    @property
    def charge_restarts(self) -> Ints:
        """Times that the charge counter of each unit started anew; what flowed meanwhile is not counted."""
        return self._units.charge_restarts

    def modules(self, now_s: float) -> Modules:
        """Return what the module boards measured, as known at `now_s`."""
        self.close(now_s)
        counts = self._frame_counts
        told = BoardCounts(counts.frames, counts.crc_errors, counts.counter_errors, self._twins.sightings)
        return self._boards.modules(now_s, self._identity, told)

    def units(self, now_s: float) -> Units:
        """Return what the contactor units measured, as known at `now_s`."""
        self.close(now_s)
        return self._units.units(now_s, self._units_identified, self._frame_counts.unit_crc_errors)

    def _note_identities(self) -> None:
        boards, said, who = self._slots.boards, self._boards.cell_count, self.identities
        counted = (who.cell_count, who.uid, who.field("BoardType"), who.field("Chemistry"))
        cell_count, uid, board_type, chemistry = (self._of_boards(values[:boards]) for values in counted)
        identified = self._of_boards(who.identified[:boards])
        cell_count = np.where(said < 0, cell_count, said)
        self._identity = BoardIdentity(identified, cell_count, uid, board_type, chemistry)
        self._units_identified = who.identified[boards:]

    def unidentified(self, now_s: float) -> tuple[int, ...]:
        """Return the addresses that must be asked who they are: never heard, silent for long, or not what they
        should be.
        """
        before_s = now_s - self._forget_after_s
        identified = self.identities.identified
        silent = identified & (self._heard_s() < before_s) & self.identities.heard_before(before_s)
        if silent.any():
            self.identities.forget(silent)
            self._note_identities()
        identified = self.identities.identified
        return tuple(address for node, address in enumerate(self._slots.addresses) if not identified[node])

    def missing(self, now_s: float) -> list[str]:
        """Return what is not there, one sentence per node, for a technician."""
        self.close(now_s)
        fresh = now_s - self._heard_s() <= self._hold_s
        return sentences(self._layout, self._slots, self.identities, fresh, self._last_got)

    def _heard_s(self) -> Floats:
        """Return when each node was last measured: cells of boards, currents of units; shape (nodes,)."""
        at_s = self._stamps.at_s
        return np.concatenate([at_s[self._stamps.cells], at_s[self._stamps.currents]])


def _who(answered: Bools) -> Who:
    """Return None when all have answered."""
    return None if np.count_nonzero(answered) == len(answered) else answered


def _whole(sound: Bools, nodes: int) -> Bools:
    """Return which nodes have sent all their slots of a part."""
    return np.asarray(sound.reshape(nodes, -1).all(axis=1))
