"""From raw frames of the slave protocol to what the rack measured: polls open, fill, close and are published.

Theory of operation. A SYNC of phase 0 opens a poll. Frames that are exactly what is expected under that SYNC go
to their slots, many at once; a batch with anything else in it is sorted frame by frame (as arrays). A poll closes
when everything asked for is there, 120 ms after its SYNC, or when the next one opens; only then do its values
show, a board's cells all or none. Currents answer every SYNC: they show when all units have
answered, 20 ms after their SYNC or at the next one. Measurement time is the instant of the SYNC. Identification and trips count at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bmsd.fieldbus.drivers.slave import words as meaning
from bmsd.fieldbus.drivers.slave.identity import Identities
from bmsd.fieldbus.drivers.slave.readings import BoardReadings, UnitReadings, Who
from bmsd.fieldbus.drivers.slave.slots import UNIT_MESSAGES, Slots, fold_tables
from bmsd.fieldbus.drivers.slave.sorting import KINDS, Kind, OpenSync, Sorted, sort
from bmsd.model.frame import RawFrames
from bmsd.model.layout import Layout
from bmsd.model.plant import Timing
from bmsd.model.snapshot import Bools, Floats, Ints, Modules, Units

POLL_LASTS_S = 0.120
"""Longest time from a SYNC until its poll closes; nodes have answered after 0.100 s."""
CURRENTS_LAST_S = 0.020
"""Longest time that is waited for the currents of all units; they have answered after 0.004 s."""
_MOST_DISCOVERED = 64
_EARLY_S = 1e-6

_TABLES = fold_tables()
_WORD_OFFSETS = np.arange(4, dtype=np.int64) * 65536


@dataclass(frozen=True, slots=True)
class Trip:
    """Trip frames of one address: what the newest says, when the first and the newest were heard."""

    code: int
    cell: int
    first_s: float
    last_s: float


class _Asked(NamedTuple):
    """What a poll of one slow group brings: its slots, how many, and how many frames per node."""

    slots: Bools
    total: int
    frames: Ints


class Receiver:
    """Measurements of a rack from the frames of its field bus; knows no socket and no clock."""

    def __init__(self, layout: Layout, timing: Timing) -> None:
        self._layout = layout
        self._hold_s, self._forget_after_s = timing.hold_s, timing.slow_hold_s
        self._slots = slots = Slots(layout)
        self._boards = BoardReadings(layout, timing)
        self._units = UnitReadings(layout, timing)
        self.identities = Identities(slots)
        self.counts: Ints = np.zeros(KINDS, dtype=np.int64)
        """Frames that were not taken as a measurement, by `Kind`."""
        self.trips: dict[int, Trip] = {}
        """By address; also of nodes that this rack does not know."""
        self.discovered: dict[int, int] = {}
        """Type of nodes that have no address, by unique number."""
        self._tripped_s: Floats = np.full(slots.nodes, -math.inf)
        self._trip_code: Ints = np.zeros(slots.nodes, dtype=np.int64)
        self._number: int | None = None
        self._phase: int | None = None
        self._sync = -1
        self._phase_at_s = self._poll_at_s = -math.inf
        self._poll_sync = -1
        self._poll_open = self._phase_open = False
        self._expected = slots.nothing()
        self._store: NDArray[np.uint64] = np.zeros(slots.count, dtype=np.uint64)
        self._got: Bools = np.zeros(slots.count, dtype=bool)
        self._conflict: Bools = np.zeros(slots.count, dtype=bool)
        self._taken = 0
        self._last_got: Bools = np.zeros(slots.count, dtype=bool)
        self._make_views()
        self._make_asked()
        self._group = 0
        shape = layout.module_shape
        nodes = np.zeros(slots.nodes, dtype=np.int64)
        self._frames, self._crc_errors, self._counter_errors = nodes, nodes, nodes
        self._board_counts = (nodes[: slots.boards].reshape(shape),) * 3
        self._unit_crc_errors = nodes[slots.boards :]
        self._note_identities()

    def _make_views(self) -> None:
        """Name the parts of the store; the arrays themselves are never replaced."""
        slots = self._slots
        self._cell_words = self._store[slots.cells]
        self._temperature_words = self._store[slots.temperatures]
        self._unit_words = self._store[slots.unit_words].reshape(slots.units, len(UNIT_MESSAGES))
        self._unit_got = self._got[slots.unit_words].reshape(slots.units, len(UNIT_MESSAGES))
        self._current_got = self._unit_got[:, 0]
        self._is_poll = np.arange(slots.count) < slots.counted
        self._is_poll[slots.currents] = False
        self._optional = np.zeros(slots.count, dtype=bool)
        for part in (slots.temperatures, slots.board_state, slots.node_status):
            self._optional[part] = True

    def _make_asked(self) -> None:
        """Prepare, for each slow group, what a complete poll brings."""
        slots = self._slots
        slow = {1: slots.temperatures, 2: slots.board_state, 3: slots.node_status}
        self._asked: list[_Asked] = []
        for group in range(16):
            wanted = np.zeros(slots.count, dtype=bool)
            wanted[slots.cells] = wanted[slots.unit_words] = True
            wanted[slots.currents] = False
            if group in slow:
                wanted[slow[group]] = True
            frames = np.bincount(slots.node[wanted], minlength=slots.nodes)
            self._asked.append(_Asked(wanted, int(wanted.sum()), frames))

    # SYNCs

    def sync_sent(self, number: int, phase: int, slow_group: int, at_s: float) -> None:
        """Note that a SYNC went out at `at_s`. Phase 0 closes the poll before and opens the next."""
        self._close_phase()
        self._sync += 1
        if phase == 0:
            self._close_poll()
            self._got[:] = False
            self._poll_open, self._poll_at_s, self._poll_sync = True, at_s, self._sync
            self._group, self._taken = slow_group, 0
            self._conflict[:] = False
        else:
            self._current_got[:] = False
            self._taken = int(np.count_nonzero(self._got))
        self._number, self._phase, self._phase_at_s, self._phase_open = number, phase, at_s, True
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
        if len(frames):
            frames = np.ascontiguousarray(frames)
            if not self._take_expected(frames):
                self._take_sorted(sort(frames, self._slots, self._open_sync()), now_s)
            self._publish_what_is_complete()
        self.close(now_s)

    def _open_sync(self) -> OpenSync:
        return OpenSync(self._number, self._phase, self._poll_open)

    def _take_expected(self, frames: RawFrames) -> bool:
        """Take all frames if each is sound, expected under the open SYNC and the first of its kind; else none.

        Per frame one word must vanish: bits 0..39 identifier, flags and length, 48..63 CRC, counter and phase.
        """
        quarters, halves = frames.view(np.uint16), frames.view(np.uint64)
        slot = self._slots.slot_of.take(quarters[0::8])
        parts = _TABLES.take(quarters.reshape(-1, 8)[:, 4:] + _WORD_OFFSETS).view(np.uint32)
        folded = (parts[:, 0] ^ parts[:, 1]).view(np.uint16)
        differs = self._expected.take(slot)
        differs ^= halves[0::2]
        top = differs.view(np.uint16)[3::4]
        top ^= folded[0::2]
        top ^= folded[1::2]
        differs &= self._slots.mask.take(slot)
        if np.count_nonzero(differs):
            return False
        before = self._got.copy()
        self._got[slot] = True
        taken = int(np.count_nonzero(self._got))
        if taken != self._taken + len(frames):
            self._got[:] = before
            return False
        self._taken = taken
        self._store[slot] = halves[1::2]
        return True

    def _take_sorted(self, found: Sorted, now_s: float) -> None:
        """Count what is wrong, by kind and node; take what is sound."""
        kind, slots = found.kind, self._slots
        self._count_nodes(found)
        sound = kind == Kind.SOUND
        self._take_measured(found.slot[sound & (found.slot < slots.counted)], found.data, sound, found.slot)
        named = sound & (found.slot >= slots.counted)
        uid = named & (found.slot < slots.identity_version.start)
        version = named & ~uid
        if uid.any():
            self.identities.take_uids(slots.node[found.slot[uid]], found.data[uid], now_s)
        if version.any():
            self.identities.take_versions(slots.node[found.slot[version]], found.data[version], now_s)
        if named.any():
            self._note_identities()
        if (kind == Kind.TRIP).any():
            self._note_trips(found, now_s)
        if (kind == Kind.DISCOVERY).any():
            self._note_discoveries(found.data[kind == Kind.DISCOVERY])
        self.counts = self.counts + np.bincount(kind[~sound], minlength=KINDS)

    def _count_nodes(self, found: Sorted) -> None:
        """Count frames, CRC and counter errors of nodes; sound measurements are counted when their poll closes."""
        node = self._slots.node[found.slot]
        ours = (node >= 0) & np.isin(found.kind, (Kind.CRC, Kind.COUNTER, Kind.LATE, Kind.LENGTH))
        identifying = (found.kind == Kind.SOUND) & (found.slot >= self._slots.counted)
        self._frames = self._frames + self._per_node(node[ours | identifying])
        self._crc_errors = self._crc_errors + self._per_node(node[ours & (found.kind == Kind.CRC)])
        self._counter_errors = self._counter_errors + self._per_node(node[ours & (found.kind == Kind.COUNTER)])
        self._shape_counts()

    def _per_node(self, nodes: Ints) -> Ints:
        return np.bincount(nodes, minlength=self._slots.nodes)

    def _shape_counts(self) -> None:
        boards, shape = self._slots.boards, self._layout.module_shape
        frames, crc, counter = self._frames[:boards], self._crc_errors[:boards], self._counter_errors[:boards]
        self._board_counts = (frames.reshape(shape), crc.reshape(shape), counter.reshape(shape))
        self._unit_crc_errors = self._crc_errors[boards:]

    def _take_measured(self, slot: Ints, data: NDArray[np.uint64], sound: Bools, all_slots: Ints) -> None:
        """Keep the first frame of each slot. The same once more is a duplicate; another content spoils the slot:
        two nodes speak under one address, and neither can be believed.
        """
        if not len(slot):
            return
        words = data[sound & (all_slots < self._slots.counted)]
        first = np.zeros(len(slot), dtype=bool)
        first[np.unique(slot, return_index=True)[1]] = True
        first &= ~self._got[slot]
        self._store[slot[first]] = words[first]
        self._got[slot[first]] = True
        self._taken = int(np.count_nonzero(self._got))
        again = slot[~first]
        if len(again):
            conflict = words[~first] != self._store[again]
            self._conflict[again[conflict]] = True
            self.counts[Kind.CONFLICT] += int(conflict.sum())
            self.counts[Kind.DUPLICATE] += int((~conflict).sum())
            self._frames = self._frames + self._per_node(self._slots.node[again])
            self._shape_counts()

    def _note_trips(self, found: Sorted, now_s: float) -> None:
        chosen = found.kind == Kind.TRIP
        addresses = found.address[chosen]
        codes, cells = meaning.trips(found.data[chosen])
        for address, code, cell in zip(addresses.tolist(), codes.tolist(), cells.tolist(), strict=True):
            first_s = self.trips[address].first_s if address in self.trips else now_s
            self.trips[address] = Trip(code, cell, first_s, now_s)
            if address in self._slots.addresses:
                node = self._slots.addresses.index(address)
                self._tripped_s[node], self._trip_code[node] = now_s, code
        boards, heard = self._slots.boards, self._tripped_s == now_s
        self._boards.trip_active = self._boards.trip_active | heard[:boards].reshape(self._layout.module_shape)
        self._units.trip_code = np.where(heard[boards:], self._trip_code[boards:], self._units.trip_code)

    def _note_discoveries(self, words: NDArray[np.uint64]) -> None:
        uids, types = meaning.discoveries(words)
        for uid, board_type in zip(uids.tolist(), types.tolist(), strict=True):
            if uid in self.discovered or len(self.discovered) < _MOST_DISCOVERED:
                self.discovered[uid] = board_type

    # publishing

    def _publish_what_is_complete(self) -> None:
        currents = int(np.count_nonzero(self._current_got))
        phase_done = self._phase_open and currents == self._slots.units
        asked = self._asked[self._group]
        if self._poll_open and self._taken >= asked.total and self._complete(asked):
            self._publish_units(phase_done, True)
            self._publish_boards(exact=self._taken == asked.total + currents)
        elif phase_done:
            self._publish_units(True, False)

    def _complete(self, asked: _Asked) -> bool:
        """Whether everything that the poll asked for is there, and nothing is spoilt."""
        return np.count_nonzero(self._got & asked.slots) == asked.total and not np.count_nonzero(self._conflict)

    def _close_phase(self) -> None:
        if self._phase_open:
            self._publish_units(True, False)
        self._conflict[self._slots.currents] = False

    def _close_poll(self) -> None:
        if self._poll_open:
            self._publish_units(False, True)
            self._publish_boards()

    def _publish_units(self, currents: bool, poll: bool) -> None:
        """Publish what units have answered: their currents, or voltages and states, or both."""
        raw = meaning.units_raw(self._unit_words)
        physical = meaning.units_physical(raw)
        sound, units = self._unit_got, self._units
        if np.count_nonzero(self._conflict):
            sound = sound & ~self._conflict[self._slots.unit_words].reshape(sound.shape)
        if currents:
            who = _who(sound[:, 0])
            units.take_currents(raw, physical, who, self._phase_at_s, self._sync)
            self._phase_open = False
            self._frames = self._frames + self._per_unit(self._current_got)
            self._shape_counts()
        if poll:
            boards = self._slots.boards
            trip = (self._tripped_s[boards:], self._trip_code[boards:])
            units.take_voltages(physical, _who(sound[:, 1]), self._poll_at_s, self._poll_sync)
            units.take_state(raw, _who(sound[:, 2]), self._poll_at_s, self._poll_sync, trip)

    def _per_unit(self, who: Bools) -> Ints:
        return np.concatenate([np.zeros(self._slots.boards, dtype=np.int64), who])

    def _publish_boards(self, exact: bool = False) -> None:
        """Publish what boards have answered completely. `exact`: just what was asked for has come, from all."""
        slots = self._slots
        if exact:
            self._publish_cells(None)
            self._publish_slow(self._group, None)
            self._frames = self._frames + self._asked[self._group].frames
        else:
            sound = self._got & ~self._conflict
            self._publish_cells(_who(_whole(sound[slots.cells], slots.boards)))
            for group in (1, 2, 3):
                self._publish_slow(group, sound)
            self._frames = self._frames + self._per_node(slots.node[self._got & self._is_poll])
        self._shape_counts()
        self._last_got = self._got & ~self._conflict
        self._poll_open = False
        self._expected = slots.expected(self._number or 0, self._phase or 0, False)

    def _publish_cells(self, who: Who) -> None:
        self._boards.take_cells(self._cell_words, self._of_boards(who), self._poll_at_s, self._poll_sync)

    def _publish_slow(self, group: int, sound: Bools | None) -> None:
        """Publish one slow group of the nodes that have sent it whole; `sound` None: all have."""
        slots, at_s, sync = self._slots, self._poll_at_s, self._poll_sync
        if group == 1:
            who = self._answered(slots.temperatures, slots.boards, sound)
            self._boards.take_temperatures(self._temperature_words, self._of_boards(who), at_s, sync)
        elif group == 2:
            who = self._of_boards(self._answered(slots.board_state, slots.boards, sound))
            tripped_s = self._tripped_s[: slots.boards]
            self._boards.take_state(self._store[slots.board_state], who, at_s, sync, tripped_s)
        elif group == 3:
            who = self._answered(slots.node_status, slots.nodes, sound)
            words = self._store[slots.node_status]
            boards = self._of_boards(None if who is None else who[: slots.boards])
            self._boards.take_status(words[: slots.boards], boards, at_s, sync)
            units = None if who is None else who[slots.boards :]
            self._units.take_status(words[slots.boards :], units, at_s, sync)

    def _answered(self, part: slice, nodes: int, sound: Bools | None) -> Who:
        """Return which nodes have sent all their slots of a part; with no slot there is nothing to publish."""
        if part.start == part.stop:
            return np.zeros(nodes, dtype=bool)
        return None if sound is None else _who(_whole(sound[part], nodes))

    def _of_boards(self, who: Who) -> Who:
        return None if who is None else who.reshape(self._layout.module_shape)

    # what is known

    def _note_identities(self) -> None:
        boards, shape = self._slots.boards, self._layout.module_shape
        identified = self.identities.identified
        self._identified = (identified[:boards].reshape(shape), identified[boards:])

    def modules(self, now_s: float) -> Modules:
        """Return what the module boards measured, as known at `now_s`."""
        self.close(now_s)
        said = self._boards.cell_count
        if np.count_nonzero(said < 0):
            said = np.where(said < 0, self.identities.cell_count[: self._slots.boards].reshape(said.shape), said)
        return self._boards.modules(now_s, self._identified[0], said, self._board_counts)

    def units(self, now_s: float) -> Units:
        """Return what the contactor units measured, as known at `now_s`."""
        self.close(now_s)
        return self._units.units(now_s, self._identified[1], self._unit_crc_errors)

    @property
    def charge_restarts(self) -> Ints:
        """Times that the charge counter of each unit started anew; what flowed meanwhile is not counted."""
        return self._units.charge_restarts

    def unidentified(self, now_s: float) -> tuple[int, ...]:
        """Return the addresses that must be asked who they are: never heard, silent for long, or not what they
        should be.
        """
        heard_s = np.concatenate([self._boards.at_s[0].reshape(-1), self._units.at_s[0]])
        before_s = now_s - self._forget_after_s
        silent = self.identities.identified & (heard_s < before_s) & self.identities.heard_before(before_s)
        if silent.any():
            self.identities.forget(silent)
            self._note_identities()
        identified = self.identities.identified
        return tuple(address for node, address in enumerate(self._slots.addresses) if not identified[node])

    def missing(self, now_s: float) -> list[str]:
        """Return what is not there, one sentence per node, for a technician."""
        self.close(now_s)
        age_s = now_s - np.concatenate([self._boards.at_s[0].reshape(-1), self._units.at_s[0]])
        complaints = []
        for node in range(self._slots.nodes):
            complaint = self._complaint(node, bool(age_s[node] <= self._hold_s))
            if complaint:
                complaints.append(f"{self.name_of(node)}: {complaint}")
        return complaints

    def _complaint(self, node: int, fresh: bool) -> str:
        slots, identities = self._slots, self.identities
        board = node < slots.boards
        if not fresh:
            mine = (slots.node == node) & self._is_poll & ~self._optional
            absent = [slots.message_names[slot] for slot in np.flatnonzero(mine & ~self._last_got)]
            if len(absent) == np.count_nonzero(mine):
                return "no answer"
            if not absent:
                return "no current" if not board else "answers no longer"
            return f"answers without {', '.join(absent)}"
        if identities.wrong_type(node):
            return f"is no {'module board' if board else 'contactor unit'}"
        if not identities.identified[node]:
            return "not identified"
        cells = int(identities.cell_count[node])
        if board and cells != self._layout.cells:
            return f"measures {cells} cells, {self._layout.cells} are configured"
        return ""

    def name_of(self, node: int) -> str:
        """Return what a technician calls a node."""
        address = self._slots.addresses[node]
        if node >= self._slots.boards:
            return f"contactor unit of string {node - self._slots.boards + 1} (address {address})"
        string, module = divmod(node, self._layout.modules)
        return f"module {module + 1} of string {string + 1} (address {address})"


def _who(answered: Bools) -> Who:
    """Return None when all have answered."""
    return None if np.count_nonzero(answered) == len(answered) else answered


def _whole(sound: Bools, nodes: int) -> Bools:
    """Return which nodes have sent all their slots of a part."""
    return np.asarray(sound.reshape(nodes, -1).all(axis=1))
