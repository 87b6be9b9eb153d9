"""From raw frames of boards that a DBC describes to what the rack measured.

Theory of operation. Every identifier that the plan knows leads to the slot of its frame, a selector (multiplexer)
to one of several. A slot keeps its newest data word. When all slots of a module's cells have come anew, the set is
complete: it is decoded at once and shows, all cells or none. There is no SYNC: a frame was measured when it came,
or when the boards were asked before, and never later than the last move of its alive counter; a set is as old as
its oldest frame. What is wrong is counted by kind and dropped; nothing raises for what is in a frame.

Without contactor units nobody can be told to open or close. A string counts as closed when its boards say so; a single
string whose boards do not say so counts as closed as long as its current is known: what flows, flows through it.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np

from bmsd.fieldbus.drivers.mapped.checksums import checksum
from bmsd.fieldbus.drivers.mapped.names import OF_STRINGS
from bmsd.fieldbus.drivers.mapped.plan import Heard, Plan
from bmsd.fieldbus.drivers.mapped.sets import Sets, Store
from bmsd.model.board_map import Quantity
from bmsd.model.frame import ERROR_FLAG, REMOTE_FLAG, RawFrames
from bmsd.model.layout import Layout
from bmsd.model.plant import Timing
from bmsd.model.snapshot import INPUTS, Bools, Feedback, Floats, Input, Ints, Modules, Units

KINDS = ("error", "remote", "foreign", "length", "checksum", "selector", "frozen")
"""Why a frame was dropped; a frozen one is only not believed to be new."""
WORDS = {
    Quantity.CELL_V: "cells",
    Quantity.TEMPERATURE_DEGC: "temperatures",
    Quantity.MODULE_V: "voltage",
    Quantity.CURRENT_A: "current",
    Quantity.STRING_V: "voltage",
    Quantity.CONTACTORS: "contactors",
}
SILENT_S = 3.0
"""What has not come for so long is absent, not late."""
MOST_NAMED = 4
_ID_MASK = 0x1FFFFFFF


@dataclass(slots=True)
class _Alive:
    """Counter of one identifier, since when it says this, and when it moved last: never, if it was seen once."""

    value: int
    since_s: float
    moved_s: float


class Receiver:
    """Measurements of a rack from the frames of its boards; knows no socket and no clock."""

    def __init__(self, layout: Layout, timing: Timing, plan: Plan) -> None:
        del timing  # the map says how long values are held
        self._layout, self._plan = layout, plan
        self._store = Store(len(plan.slots))
        self._sets = {quantity: Sets(columns, _sets(quantity, layout)) for quantity, columns in plan.columns.items()}
        self._asked_s = math.inf
        self._alive: dict[int, _Alive] = {}
        self.counts: Counter[str] = Counter(dict.fromkeys(KINDS, 0))
        """Frames that were dropped or not believed, by kind."""
        boards = layout.strings * layout.modules
        self._frames: Ints = np.zeros(boards, dtype=np.int64)
        self._damaged: Ints = np.zeros(boards, dtype=np.int64)
        self._frozen: Ints = np.zeros(boards, dtype=np.int64)
        self._unit_damaged: Ints = np.zeros(layout.strings, dtype=np.int64)
        self._charge_as: Floats = np.zeros(layout.strings)

    def sync_sent(self, number: int, phase: int, slow_group: int, at_s: float) -> None:
        """Note that the boards were asked at `at_s`. Without requests in the plan it means nothing."""
        del number, phase, slow_group
        if self._plan.board_map.asks:
            self._asked_s = at_s

    def close(self, now_s: float) -> None:
        """Do nothing: sets close when they are complete."""

    # frames

    def feed(self, frames: RawFrames, now_s: float) -> None:
        """Take the frames of one drain, in order of arrival. Never raises for what is in them."""
        if not len(frames):
            return
        taken = False
        for can_id, length, _, word in frames.tolist():
            heard = self._plan.heard.get(can_id)
            kind = _not_ours(can_id) if heard is None else self._take(can_id, heard, length, word, now_s)
            if kind:
                self.counts[kind] += 1
            taken = taken or not kind
        if taken:
            self._complete()

    def _take(self, can_id: int, heard: Heard, length: int, word: int, now_s: float) -> str:
        """Keep a frame; return why not, empty when it was kept."""
        if heard.board >= 0:
            self._frames[heard.board] += 1
        if length != heard.length:
            return self._damage(heard, "length")
        if heard.checksum_at is not None and not self._sound(can_id, heard, word):
            return self._damage(heard, "checksum")
        page = None if heard.selector is None else heard.selector.raw(word)
        if page is not None and page not in heard.pages and page not in heard.known_pages:
            return self._damage(heard, "selector")
        at_s = self._measured_s(can_id, heard, word, now_s)
        for key in {None, page}:
            slot = heard.pages.get(key)
            if slot is not None:
                self._store.put(slot, word, at_s)
        return ""

    def _damage(self, heard: Heard, kind: str) -> str:
        if heard.board >= 0:
            self._damaged[heard.board] += 1
        else:
            self._unit_damaged[heard.string] += 1
        return kind

    def _sound(self, can_id: int, heard: Heard, word: int) -> bool:
        data = word.to_bytes(8, "little")[: heard.length]
        at = heard.checksum_at or 0
        rest, kind = data[:at] + data[at + 1 :], self._plan.board_map.checksum
        return data[at] == checksum(kind, can_id & _ID_MASK, heard.length, rest)

    def _measured_s(self, can_id: int, heard: Heard, word: int, now_s: float) -> float:
        """Return when a frame was measured at the latest."""
        at_s = min(now_s, self._asked_s)
        if heard.alive is None:
            return at_s
        value = heard.alive.raw(word)
        alive = self._alive.get(can_id)
        if alive is None or value != alive.value:
            alive = self._alive[can_id] = _Alive(value, at_s, -math.inf if alive is None else at_s)
        if now_s - alive.since_s > self._plan.board_map.stale_s:
            self.counts["frozen"] += 1
            if heard.board >= 0:
                self._frozen[heard.board] += 1
        return min(at_s, alive.moved_s)

    def _complete(self) -> None:
        for quantity, sets in self._sets.items():
            was = sets.values
            whole = sets.take(self._store)
            if whole is not None and quantity is Quantity.CURRENT_A:
                self._count_charge(sets, was[:, 0], whole)

    def _count_charge(self, sets: Sets, was_a: Floats, whole: Bools) -> None:
        """Add what flowed between two measurements of the current; a longer gap is not guessed."""
        with np.errstate(invalid="ignore"):
            passed_s = sets.at_s - sets.before_s
            moved_as = 0.5 * (sets.values[:, 0] + was_a) * passed_s
            counts = whole & (passed_s <= self._plan.board_map.stale_s) & np.isfinite(moved_as)
        self._charge_as = np.where(counts, self._charge_as + np.nan_to_num(moved_as), self._charge_as)

    # what is known

    def modules(self, now_s: float) -> Modules:
        """Return what the module boards measured, as known now."""
        layout, shape, board_map = self._layout, self._layout.module_shape, self._plan.board_map
        cells, sensors = self._sets[Quantity.CELL_V], self._sets[Quantity.TEMPERATURE_DEGC]
        cell_v, cell_reading = cells.shown(now_s, board_map.stale_s)
        degc, degc_reading = sensors.shown(now_s, board_map.temperature_stale_s)
        module_v, module_age_s = self._one(Quantity.MODULE_V, now_s, layout.strings * layout.modules)
        nothing = np.zeros(shape, dtype=np.int64)
        never = np.zeros(shape, dtype=bool)
        return Modules(
            cell_v=cell_v.reshape(layout.cell_shape),
            cell_reading=cell_reading.reshape(layout.cell_shape),
            cell_age_s=(now_s - cells.at_s).reshape(shape),
            cell_sync=cells.sync.reshape(shape),
            temperature_degc=degc.reshape(layout.sensor_shape),
            temperature_reading=degc_reading.reshape(layout.sensor_shape),
            temperature_age_s=(now_s - sensors.at_s).reshape(shape),
            temperature_sync=sensors.sync.reshape(shape),
            module_v=module_v.reshape(shape),
            balancing=np.zeros(layout.cell_shape, dtype=bool),
            state_age_s=module_age_s.reshape(shape),
            board_degc=np.full(shape, np.nan),
            self_test=nothing - 1,
            trip_active=never,
            trip_code=nothing,
            heartbeat_lost=never,
            identified=(self._frames > 0).reshape(shape),
            uid=nothing - 1,
            board_type=nothing - 1,
            chemistry=nothing - 1,
            cell_count=nothing - 1,
            duplicates=nothing,
            frames=self._frames.reshape(shape).copy(),
            crc_errors=self._damaged.reshape(shape).copy(),
            counter_errors=self._frozen.reshape(shape).copy(),
        )

    def units(self, now_s: float) -> Units:
        """Return the strings' currents and voltages, as known now; see the module's head for contactors.

        Without a measured string voltage it is the sum of the cells. The bus is at the string's voltage while it is
        closed; what it is otherwise, nobody measures.
        """
        strings, stale_s = self._layout.strings, self._plan.board_map.stale_s
        current_a, current_age_s = self._one(Quantity.CURRENT_A, now_s, strings)
        current = self._sets.get(Quantity.CURRENT_A)
        current_sync = np.full(strings, -1, dtype=np.int64) if current is None else current.sync
        string_v, voltage_age_s = self._string_v(now_s)
        closed, state_age_s, state_sync = self._contactors(now_s, current_age_s, current_sync)
        closed = closed & (state_age_s <= stale_s)
        nothing, never = np.zeros(strings, dtype=np.int64), np.zeros(strings, dtype=bool)
        feedback = np.where(state_age_s <= stale_s, int(Feedback.NOT_FITTED), int(Feedback.UNKNOWN))
        return Units(
            current_a=current_a,
            charge_as=np.where(np.isnan(current_a), np.nan, self._charge_as),
            current_age_s=current_age_s,
            current_sync=current_sync,
            bus_v=np.where(closed, string_v, np.nan),
            string_v=string_v,
            coil_v=np.full(strings, np.nan),
            voltage_age_s=voltage_age_s,
            minus=feedback,
            plus=feedback,
            precharge=feedback,
            minus_output=closed,
            plus_output=closed,
            precharge_output=never,
            enable_output=never,
            inputs=np.full((strings, len(INPUTS)), int(Input.NOT_FITTED), dtype=np.int64),
            heartbeat_lost=never,
            self_test=nothing - 1,
            trip_code=nothing,
            open_reason=nothing - 1,
            state_age_s=state_age_s,
            state_sync=state_sync,
            identified=np.isfinite(current_age_s),
            crc_errors=self._unit_damaged.copy(),
        )

    def _one(self, quantity: Quantity, now_s: float, size: int) -> tuple[Floats, Floats]:
        """Return values and ages of a quantity with one value in each set; unknown where it is not mapped."""
        sets = self._sets.get(quantity)
        if sets is None:
            return np.full(size, np.nan), np.full(size, math.inf)
        return sets.shown(now_s, self._plan.board_map.stale_s)[0][:, 0], now_s - sets.at_s

    def _string_v(self, now_s: float) -> tuple[Floats, Floats]:
        if Quantity.STRING_V in self._sets:
            return self._one(Quantity.STRING_V, now_s, self._layout.strings)
        cells = self._sets[Quantity.CELL_V]
        cell_v, _ = cells.shown(now_s, self._plan.board_map.stale_s)
        ages_s = (now_s - cells.at_s).reshape(self._layout.module_shape)
        return cell_v.reshape(self._layout.strings, -1).sum(axis=1), ages_s.max(axis=1)

    def _contactors(self, now_s: float, current_age_s: Floats, current_sync: Ints) -> tuple[Bools, Floats, Ints]:
        """Return which strings are closed, with ages and running numbers; neither open nor closed is no word of it."""
        sets = self._sets.get(Quantity.CONTACTORS)
        if sets is not None:
            value, closed = sets.values[:, 0], np.array(self._plan.closed)
            said = (value == closed) | (value == np.array(self._plan.opened))
            return value == closed, np.where(said, now_s - sets.at_s, math.inf), sets.sync
        alone = self._layout.strings == 1
        return np.full(self._layout.strings, alone), np.where(alone, current_age_s, math.inf), current_sync

    def missing(self, now_s: float) -> list[str]:
        """Return what is not there, one sentence per set, for a technician."""
        return [
            f"{_name(quantity, index, self._layout)}: {self._why(sets, index, now_s, stale_s)}"
            for quantity, sets in self._sets.items()
            for stale_s in [self._stale_s(quantity)]
            for index in np.flatnonzero(~sets.known(now_s, stale_s)).tolist()
        ]

    def _stale_s(self, quantity: Quantity) -> float:
        board_map = self._plan.board_map
        return board_map.temperature_stale_s if quantity is Quantity.TEMPERATURE_DEGC else board_map.stale_s

    def _why(self, sets: Sets, index: int, now_s: float, stale_s: float) -> str:
        """Say why a set is not known; the words change only when the reason does."""
        slots = np.unique(sets.slots[index]).tolist()
        absent = [slot for slot in slots if not now_s - self._store.at_s[slot] <= SILENT_S]
        if not absent:
            return f"its frames come too rarely: a set of {len(slots)} must not be older than {stale_s:g} s"
        if len(absent) < len(slots):
            return "without " + ", ".join(self._plan.slots[slot] for slot in absent[:MOST_NAMED])
        never = not self._store.count[slots].any()
        return f"{'never heard' if never else 'no longer heard'}: {self._plan.slots[slots[0]]}"


def _sets(quantity: Quantity, layout: Layout) -> int:
    return layout.strings if quantity in OF_STRINGS else layout.strings * layout.modules


def _name(quantity: Quantity, index: int, layout: Layout) -> str:
    if quantity in OF_STRINGS:
        return f"{WORDS[quantity]} of string {index + 1}"
    string, module = divmod(index, layout.modules)
    return f"{WORDS[quantity]} of module {module + 1} of string {string + 1}"


def _not_ours(can_id: int) -> str:
    return "error" if can_id & ERROR_FLAG else "remote" if can_id & REMOTE_FLAG else "foreign"
