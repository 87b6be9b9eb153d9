"""From an integrator's map and a DBC to what each identifier carries; everything that is wrong is told at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from cantools.database.can import Database, Message, Signal

from bmsd.codec.dbc import load_file
from bmsd.errors import ConfigError
from bmsd.fieldbus.drivers.mapped.columns import Bits, Columns
from bmsd.fieldbus.drivers.mapped.names import PlaceError, Target, close, count, expand, targets
from bmsd.fieldbus.drivers.mapped.suits import Reach, unsuited
from bmsd.model.board_map import BoardMap, Quantity, Source
from bmsd.model.frame import EXTENDED_FLAG
from bmsd.model.layout import MAX_CELLS, Layout

SECTION = "fieldbus.mapped"
MOST_PER_ENTRY = 4
"""Complaints of one kind that are told of one entry; more are counted."""
SLAVE_ID, SLAVE_MASK = 0x01B51000, 0x03FFF000
"""29-bit identifiers of bmsd's slave protocol, which contactor units speak on the same bus."""


@dataclass
class Heard:
    """What one identifier (with its flags) carries. `board`, `string`: whose frames these are; -1: a string's."""

    name: str
    length: int
    board: int
    string: int
    selector: Bits | None = None
    pages: dict[int | None, int] = field(default_factory=dict)
    """Slot by raw value of the selector; None: of what every frame carries."""
    known_pages: frozenset[int] = frozenset()
    """Values of the selector that the DBC defines: no mistake, mapped or not."""
    alive: Bits | None = None
    checksum_at: int | None = None


@dataclass(frozen=True)
class Plan:
    """A map that fits its DBC and its rack. `slots` names what is kept, one data word each."""

    board_map: BoardMap
    heard: Mapping[int, Heard]
    slots: tuple[str, ...]
    columns: Mapping[Quantity, Columns]
    closed: tuple[int, ...]
    """Raw value of each string's contactors that says closed."""
    opened: tuple[int, ...]
    """Raw value of each string's contactors that says open."""


@dataclass(frozen=True)
class _Place:
    """Where one target is: its slot and its bits there."""

    slot: int
    bits: Bits
    factor: float
    closed_value: int
    open_value: int


def plan(board_map: BoardMap, layout: Layout, reach: Reach) -> Plan:
    """Return the plan of this map. `reach`: what each quantity must at least be able to tell.

    Raises ConfigError with everything that is wrong.
    """
    return _Making(board_map, layout, reach, load_file(board_map.dbc)).plan()


class _Making:
    """A plan while it is made; complaints are gathered, not raised."""

    def __init__(self, board_map: BoardMap, layout: Layout, reach: Reach, database: Database) -> None:
        self._map, self._layout, self._reach = board_map, layout, reach
        self._messages: dict[str, Message] = {message.name: message for message in database.messages}
        self._heard: dict[int, Heard] = {}
        self._slots: list[str] = []
        self._places: dict[Quantity, dict[int, _Place]] = defaultdict(dict)
        self._taken: dict[tuple[Quantity, int, Bits], str] = {}
        self._suited: dict[tuple[str, str, Quantity, float], list[str]] = {}
        self._troubled: set[Quantity] = set()
        """Quantities with a complaint: what is not measured because of it is not told as well."""
        self._lines: list[str] = []

    def plan(self) -> Plan:
        for number, source in enumerate(self._map.sources, start=1):
            path = f"{SECTION}.values, entry {number}"
            told: dict[str, list[str]] = defaultdict(list)
            for setting, line in self._source(source):
                if line not in told[setting]:
                    told[setting].append(line)
            if told:
                self._troubled.add(source.quantity)
            for setting, lines in told.items():
                self._lines += [f"{path}.{setting}: {line}" for line in _shortened(lines)]
        self._unmeasured()
        self._guards()
        self._asks()
        if self._lines:
            raise ConfigError(self._lines)
        columns = {quantity: self._columns(quantity) for quantity in self._places}
        contactors = self._places.get(Quantity.CONTACTORS, {})
        closed = tuple(contactors[string].closed_value for string in sorted(contactors))
        opened = tuple(contactors[string].open_value for string in sorted(contactors))
        return Plan(self._map, self._heard, tuple(self._slots), columns, closed, opened)

    def _source(self, source: Source) -> Iterator[tuple[str, str]]:
        """Place everything that a source measures; yield (setting, complaint)."""
        for name, most in (("strings", self._layout.strings), ("modules", self._layout.modules)):
            beyond = [number for number in getattr(source, name) if number > most]
            if beyond:
                yield name, f"{beyond[0]}; the rack has {most} (layout)"
                return
        every = list(targets(source, self._layout))
        of_one = len({target.position for target in every})
        if len(source.signals) not in (1, of_one):
            yield "signals", f"{len(source.signals)} names; expected one with places, or {of_one}, one for each item"
            return
        items = {Quantity.CELL_V: self._layout.cells, Quantity.TEMPERATURE_DEGC: self._layout.sensors}
        if max(source.items, default=0) > items.get(source.quantity, MAX_CELLS):
            yield "items", f"{max(source.items)}; a module has {items[source.quantity]} (layout)"
            return
        for target in every:
            yield from self._target(source, target)

    def _target(self, source: Source, target: Target) -> Iterator[tuple[str, str]]:
        signal_pattern = source.signals[target.position if len(source.signals) > 1 else 0]
        names = {}
        for setting, pattern in (("message", source.message), ("signals", signal_pattern)):
            try:
                names[setting] = expand(pattern, target.numbers)
            except PlaceError as error:
                yield setting, str(error)
        if len(names) < 2:
            return
        message = self._messages.get(names["message"])
        if message is None:
            yield (
                "message",
                f"{names['message']} is not in {self._map.dbc.name}{close(names['message'], self._messages)}",
            )
            return
        signals = {signal.name: signal for signal in message.signals}
        signal = signals.get(names["signals"])
        if signal is None:
            yield "signals", f"{names['signals']} is not in {message.name}{close(names['signals'], signals)}"
            return
        unfit = self._unsuited(message, signal, source)
        if unfit:
            yield from (("signals", line) for line in unfit)
            return
        yield from self._place(source, target, message, signal, signals)

    def _unsuited(self, message: Message, signal: Signal, source: Source) -> list[str]:
        key = (message.name, signal.name, source.quantity, source.factor)
        if key not in self._suited:
            self._suited[key] = list(unsuited(message, signal, source, self._reach))
        return self._suited[key]

    def _place(
        self, source: Source, target: Target, message: Message, signal: Signal, signals: Mapping[str, Signal]
    ) -> Iterator[tuple[str, str]]:
        identifier = message.frame_id + source.id_step * target.repeat
        most = 0x1FFFFFFF if message.is_extended_frame else 0x7FF
        if identifier > most:
            yield "id_step", f"{target.name} would have the identifier {identifier:X}; expected at most {most:X}"
            return
        try:
            selector, page = _page(source, target, signal, signals)
        except PlaceError as error:
            yield "select", str(error)
            return
        can_id = identifier | (EXTENDED_FLAG if message.is_extended_frame else 0)
        heard = self._hear(can_id, message, target)
        if heard.name != message.name:
            yield "id_step", f"{target.name} would have the identifier {identifier:X} of {heard.name}"
            return
        selecting = Bits.of(selector) if selector is not None else None
        if selecting is not None and heard.selector not in (None, selecting):
            yield "select", f"{message.name} has two signals that say what a frame carries; expected one"
            return
        if selecting is not None and selector is not None:
            heard.selector = selecting
            heard.known_pages |= _pages_of(selector, signals.values())
        slot = heard.pages.setdefault(page, len(self._slots))
        if slot == len(self._slots):
            self._slots.append(f"{message.name} ({identifier:X}h{'' if page is None else f', page {page}'})")
        yield from self._take(source, target, signal, slot)

    def _take(self, source: Source, target: Target, signal: Signal, slot: int) -> Iterator[tuple[str, str]]:
        """Give a target its place, once, and a place its target, once."""
        bits = Bits.of(signal)
        if source.quantity is Quantity.CONTACTORS:
            bits = bits._replace(scale=1.0, offset=0.0, sign=0, low=0, high=bits.mask, named=frozenset())
        other = self._taken.setdefault((source.quantity, slot, bits), target.name)
        if other != target.name:
            where = f"{signal.name} in {self._slots[slot]}"
            yield "signals", f"{where} is both {other} and {target.name}; expected names that differ, or id_step"
        elif target.place in self._places[source.quantity]:
            yield "quantity", f"{target.name} is measured by another entry, too"
        else:
            factor = 1.0 if source.quantity is Quantity.CONTACTORS else source.factor
            if source.quantity is Quantity.CURRENT_A and self._map.discharge_positive:
                factor = -factor
            values = source.closed_value, source.open_value
            self._places[source.quantity][target.place] = _Place(slot, bits, factor, *values)

    def _hear(self, can_id: int, message: Message, target: Target) -> Heard:
        heard = self._heard.get(can_id)
        if heard is None:
            board = target.numbers["board"] - 1 if "board" in target.numbers else -1
            string = target.numbers["string"] - 1
            heard = self._heard[can_id] = Heard(message.name, message.length, board, string)
        return heard

    def _unmeasured(self) -> None:
        for quantity, places in self._places.items():
            if quantity in self._troubled:
                continue
            names = {t.place: t.name for t in targets(Source(quantity, "", ()), self._layout)}
            absent = [name for index, name in names.items() if index not in places]
            if absent:
                more = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
                self._lines.append(f"{SECTION}.values: {quantity}: nothing measures {absent[0]}{more}")

    def _guards(self) -> None:
        """Find counter and checksum of every message that has them."""
        for setting in ("alive_signal", "checksum_signal"):
            name = getattr(self._map, setting)
            if not name:
                continue
            holders = [h for h in self._heard.values() if self._has(h.name, name)]
            if not holders and self._heard:
                self._lines.append(f"{SECTION}.{setting}: {name} is in none of the messages that are used")
            for heard in holders:
                line = self._guard(setting, heard, self._messages[heard.name].get_signal_by_name(name))
                if line and line not in self._lines:
                    self._lines.append(line)

    def _has(self, message: str, signal: str) -> bool:
        return any(found.name == signal for found in self._messages[message].signals)

    def _guard(self, setting: str, heard: Heard, signal: Signal) -> str:
        """Note a counter or a checksum; return what is wrong with it."""
        path = f"{SECTION}.{setting}: {signal.name} in {heard.name}"
        if signal.multiplexer_ids or signal.is_float:
            return f"{path}: expected a whole number that is in every frame"
        bits = Bits.of(signal)
        if setting == "alive_signal":
            heard.alive = bits
            return ""
        if signal.length != 8 or bits.shift % 8:
            return f"{path}: expected a whole byte"
        heard.checksum_at = 7 - bits.shift // 8 if bits.big else bits.shift // 8
        return ""

    def _asks(self) -> None:
        for number, ask in enumerate(self._map.asks, start=1):
            path = f"{SECTION}.requests, entry {number}.id"
            if not ask.extended and ask.can_id > 0x7FF:
                self._lines.append(f"{path}: {ask.can_id:X}h; expected at most 7FFh, or extended = true")
            flagged = ask.can_id | (EXTENDED_FLAG if ask.extended else 0)
            if flagged in self._heard:
                name = self._heard[flagged].name
                self._lines.append(f"{path}: {ask.can_id:X}h is {name}, which the boards send; expected another")
            if self._map.contactor_units and _of_slave_protocol(flagged):
                self._lines.append(
                    f"{path}: {ask.can_id:X}h belongs to the contactor units' protocol; expected another"
                )
        if self._map.contactor_units:
            self._lines += [
                f"{SECTION}.units: {heard.name} has an identifier of the contactor units' own protocol"
                for can_id, heard in self._heard.items()
                if _of_slave_protocol(can_id)
            ]

    def _columns(self, quantity: Quantity) -> Columns:
        places = [self._places[quantity][index] for index in range(count(quantity, self._layout))]
        return Columns([p.bits for p in places], [p.slot for p in places], [p.factor for p in places])


def _shortened(lines: list[str]) -> list[str]:
    if len(lines) <= MOST_PER_ENTRY:
        return lines
    return [*lines[:MOST_PER_ENTRY], f"and {len(lines) - MOST_PER_ENTRY} more like these"]


def _page(
    source: Source, target: Target, signal: Signal, signals: Mapping[str, Signal]
) -> tuple[Signal | None, int | None]:
    """Return the signal that selects and its raw value; (None, None): every frame carries it. PlaceError if unclear."""
    ids = signal.multiplexer_ids or []
    if not source.select:
        if not ids:
            return None, None
        if len(ids) > 1:
            raise PlaceError(f"{signal.name} is there for {len(ids)} values of {signal.multiplexer_signal}; say which")
        selector, page = signals[str(signal.multiplexer_signal)], int(ids[0])
    else:
        if source.select not in signals:
            raise PlaceError(f"{source.select} is not in the message{close(source.select, signals)}")
        selector, value = signals[source.select], expand(source.select_value, target.numbers)
        if not value.isdecimal():
            raise PlaceError(f"select_value {value!r}; expected a whole number")
        page = int(value)
        if ids and (signal.multiplexer_signal != selector.name or page not in ids):
            raise PlaceError(f"{signal.name} is not there when {selector.name} is {page}")
    if selector.is_float or selector.multiplexer_ids or page >= 1 << selector.length:
        raise PlaceError(f"{selector.name} cannot say {page}, or is not in every frame itself")
    return selector, page


def _pages_of(selector: Signal, signals: Iterable[Signal]) -> frozenset[int]:
    return frozenset(
        int(page)
        for signal in signals
        if signal.multiplexer_signal == selector.name
        for page in signal.multiplexer_ids or ()
    )


def _of_slave_protocol(flagged: int) -> bool:
    return bool(flagged & EXTENDED_FLAG) and (flagged ^ SLAVE_ID) & SLAVE_MASK == 0
