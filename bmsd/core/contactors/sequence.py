"""One step of all strings: facts become events, events move the state machine of each string.

Theory of operation. Every tick the facts of a string are gathered into a set of events; the first row of its state
in the table whose event is present decides. What the unit is told follows from the state alone. A restarted process
adopts what the unit reports: a closed string stays closed, a half closed one is opened, and one that was to stay open
is opened in order. Until a unit has reported, its string is UNKNOWN: it is sent no command, which could only be one to
open under load. After a process that did not leave in order an open string stays open until somebody asks to connect,
unless its unit has just been powered on: that is a start of the rack, not of the process. After a state that could not
be read it stays open in any case: latches may be missing.

A string that should be open is `in_doubt` until a report, or a dead bus, has shown it open since it was last told to
close: meanwhile no other closes, and the rack's limits are zero. Of a unit that stays silent service may say that its
string is isolated.

What a try to be closed failed by is only told (`StringState.failed`): the rows CON-002, CON-004 and CON-008 keep the
string open for a pause, count the tries and latch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from bmsd.core.contactors import connecting, reasons
from bmsd.core.contactors.circuit import in_doubt, not_open, shown, where
from bmsd.core.contactors.connecting import Bus
from bmsd.core.contactors.follow import followed
from bmsd.core.contactors.reasons import Orders, Others
from bmsd.core.contactors.table import LIVE, MOVING, TOLD_OPEN, Event, State, StringState, move
from bmsd.model.plant import Plant
from bmsd.model.request import Connect, Request, Reset
from bmsd.model.snapshot import OPEN_REASONS, Bools, Feedback, Snapshot, named

STILL_A = 2.0
"""Below this current contacts part without an arc worth counting."""
FEEDBACK_S = 0.5
RETRY_PAUSE_S = 30.0
TOLD_OPEN_S = 0.25
"""A unit obeys a command to close only after one to open: it gets that for so long, should a frame be lost."""
OPENED_BY_POWER_ON = OPEN_REASONS.index("power on")
"""Value of the unit's open reason: it has just been switched on."""
OPEN_LATEST_S = 5.0
FUSE_WAIT_S = 3.0
LONGEST_PRECHARGE_S = 15.0

LOCK_CODE = "contactors"
"""What to reset so that a locked string may close; also how a lock is saved."""
ISOLATED_CODE = "CON-015"
"""What service resets, with a reason, to say that strings in doubt are isolated; also how that is saved."""

S, E = State, Event


def start(plant: Plant) -> tuple[StringState, ...]:
    """Nothing known of the contactors."""
    return tuple(StringState() for _ in range(plant.layout.strings))


def released(plant: Plant, states: tuple[StringState, ...], snapshot: Snapshot) -> tuple[StringState, ...]:
    """Return the states after what people said of them.

    Strings left open may close after a request to connect, a reset of "contactors", or of "all" by service. Service
    may say that strings in doubt, whose units are silent, are isolated.
    """
    unlocked = any(_unlocks(request) for request in snapshot.requests)
    isolated = any(_isolates(request) for request in snapshot.requests)
    silent = ~(snapshot.units.state_age_s <= plant.timing.hold_s)
    may_be = silent & (where(states, S.UNKNOWN, *TOLD_OPEN) | (not plant.switches))
    return tuple(
        _released(string, unlocked=unlocked, isolated=isolated and bool(may_be[i])) for i, string in enumerate(states)
    )


def _unlocks(request: Request) -> bool:
    if isinstance(request, Reset):
        return request.code == LOCK_CODE or request.everything
    return isinstance(request, Connect) and request.closed


def _isolates(request: Request) -> bool:
    return isinstance(request, Reset) and request.of_service(ISOLATED_CODE)


def _released(string: StringState, *, unlocked: bool, isolated: bool) -> StringState:
    if unlocked and string.state is S.LOCKED:
        string = StringState(S.OPEN, shown_open=string.shown_open, isolated=string.isolated)
    elif unlocked and string.then is S.LOCKED:
        string = replace(string, then=S.OPEN)
    return replace(string, isolated=True) if isolated else string


def step(
    plant: Plant, was: tuple[StringState, ...], snapshot: Snapshot, orders: Orders, dt_s: float
) -> tuple[StringState, ...]:
    """Return the states of all strings; they move one after the other, the first that may close first."""
    if not plant.switches:
        return followed(plant, was, snapshot, orders, dt_s)
    states = list(was)
    unasked = not_open(plant, was, snapshot) | in_doubt(was)
    leader = _leader(plant, was, snapshot, orders, unasked)
    for string, state in enumerate(was):
        others = _others(states, string, snapshot, unasked)
        facts = _Facts.of(plant, state, snapshot, string, orders, others, leader, dt_s)
        opened_by = named(int(snapshot.units.open_reason[string]), OPEN_REASONS)
        moved = move(state, facts.events(), facts.reason, dt_s, opened_by)
        joule = state.precharge_j + facts.resistor_w * dt_s if moved.state is S.PRECHARGE is state.state else 0.0
        waits = moved.state is S.OPEN and facts.reason != ""
        moved = replace(moved, precharge_j=joule, equalising=facts.equalising if waits else 0.0)
        # before the start nothing is sent: neither unit nor inverter has been told yet
        untold = moved.state in (S.OPEN, S.OPENING) and not orders.started
        states[string] = replace(moved, since_s=0.0) if untold else moved
    return shown(plant, was, states, snapshot, dt_s)


def _others(states: Sequence[StringState], string: int, snapshot: Snapshot, unasked: Bools) -> Others:
    """What the strings but this one are at."""
    rest = [i for i in range(len(states)) if i != string]
    live = [i for i in rest if states[i].state in LIVE]
    return Others(
        bus=Bus.of(live, snapshot.units.current_a),
        current_a=float(snapshot.units.current_a[[i for i in rest if i in live or unasked[i]]].sum()),
        move=any(states[i].state in MOVING for i in rest),
        not_open=bool(unasked[rest].any()),
    )


def _leader(
    plant: Plant, states: tuple[StringState, ...], snapshot: Snapshot, orders: Orders, unasked: Bools
) -> int | None:
    """Which of several strings that may close does so first onto a dead bus."""
    waiting = [i for i, string in enumerate(states) if string.state is S.OPEN]
    if len(waiting) < 2 or any(string.state in LIVE for string in states):
        return None
    ready = [i for i in waiting if not reasons.unfit(plant, snapshot, i, orders, _others(states, i, snapshot, unasked))]
    return connecting.first(plant, ready, snapshot.units.string_v)


@dataclass(frozen=True, slots=True)
class _Facts:
    """What is known of one string now. `outs`: driven minus, plus, precharge; `reason`: why it may not close."""

    plant: Plant
    state: State
    since_s: float
    reported: bool
    outs: tuple[bool, bool, bool]
    minus: int
    plus: int
    string_v: float
    bus_v: float
    current_a: float
    current_s: float
    report_s: float
    locked: bool
    left_open: bool
    stop: bool
    stop_now: bool
    only_still: bool
    bus: Bus
    rack_a: float
    unfit: bool
    reason: str
    joins: bool
    equalising: float

    @classmethod
    def of(
        cls,
        plant: Plant,
        was: StringState,
        snapshot: Snapshot,
        string: int,
        orders: Orders,
        others: Others,
        leader: int | None,
        dt_s: float,
    ) -> _Facts:
        units = snapshot.units
        reason = reasons.unfit(plant, snapshot, string, orders, others)
        joining = others.live and was.state not in LIVE
        away, equalising = reasons.out_of_reach(plant, snapshot, string, others) if joining else ("", 0.0)
        if was.state is S.OPEN:
            away = away or reasons.bus_not_agreed(snapshot, string)
        if not reason and not others.live and leader not in (None, string):
            reason = f"string {(leader or 0) + 1} closes first: most strings can follow it"
        own = bool(orders.opens[string] or orders.opens_now[string])
        return cls(
            plant=plant,
            state=was.state,
            since_s=was.since_s + dt_s,
            reported=bool(units.state_age_s[string] <= plant.timing.hold_s),
            outs=(
                bool(units.minus_output[string]),
                bool(units.plus_output[string]),
                bool(units.precharge_output[string]),
            ),
            minus=int(units.minus[string]),
            plus=int(units.plus[string]),
            string_v=float(units.string_v[string]),
            bus_v=float(units.bus_v[string]),
            current_a=float(units.current_a[string]),
            current_s=float(units.current_age_s[string]),
            report_s=float(units.state_age_s[string]),
            locked=was.then is S.LOCKED,
            left_open=orders.unread or (orders.interrupted and int(units.open_reason[string]) != OPENED_BY_POWER_ON),
            stop=own or bool(orders.opens_still[string]) or not orders.wanted,
            stop_now=bool(orders.opens_now[string]),
            only_still=bool(orders.opens_still[string]) and not own,
            bus=others.bus,
            rack_a=float(units.current_a[string]) + others.current_a,
            unfit=reason != "",
            reason=reason or away,
            joins=joining and not away,
            equalising=0.0 if reason else equalising,
        )

    @property
    def resistor_w(self) -> float:
        """Power in the precharge resistor, W. Where a voltage is unknown the precharge is broken off."""
        return (self.string_v - self.bus_v) ** 2 / self.plant.ratings.precharge_ohm

    def events(self) -> set[Event]:
        """Everything that is true now."""
        present = {
            E.PRECHARGED: abs(self.string_v - self.bus_v) <= max(1.0, 0.02 * self.string_v),
            E.OPEN_NOW: self.stop_now,
            E.STOP: self.stop,
            E.PAUSE_OVER: self.since_s >= RETRY_PAUSE_S,
            E.MAY_OPEN: self._may_open(),
            E.UNFIT: self.unfit,
            E.MAY_CLOSE: not self.reason and self.since_s >= TOLD_OPEN_S,
        }
        late = self.since_s >= _time_out_s(self.plant, self.state)
        moved = self.state is S.CLOSING_MINUS and self._minus_closed and self.bus.strings > 0
        present[E.BUS_MOVED if moved else E.TIME_OUT] = late
        present |= self._reports()
        ends = self.stop_now or self.stop or self.unfit or (late and not present.get(E.PLUS_CLOSED))
        present[E.LOADED] = self.state is S.CLOSING_PLUS and ends and self._may_carry
        return {event for event, is_true in present.items() if is_true}

    def _reports(self) -> dict[Event, bool]:
        """Events that only a report that is not old can tell."""
        if not self.reported:
            return {}
        minus, plus, _ = self.outs
        both = minus and plus
        return {
            E.REPORTS_CLOSED: both,
            E.REPORTS_PART: any(self.outs) and not both,
            E.REPORTS_OPEN: not any(self.outs),
            E.FELL_OPEN: not both and (self.state is not S.OPENING or self.report_s <= self.since_s),
            E.LOCKED_CLOSED: both and self.locked,
            E.LEFT_OPEN: not both and (self.left_open or self.locked),
            E.CONTACT_OPEN: Feedback.OPEN in (self.minus, self.plus) and self.since_s > FEEDBACK_S,
            E.MINUS_ON_DEAD_BUS: self._minus_closed and not self.bus.strings,
            E.MAY_JOIN: self._minus_closed and self.joins,
            E.PLUS_CLOSED: both and self._minus_closed and _is_closed(self.plus, plus),
        }

    @property
    def _minus_closed(self) -> bool:
        return self.reported and _is_closed(self.minus, self.outs[0])

    @property
    def _may_carry(self) -> bool:
        """Whether current may flow since the last contact was told to close: what was measured before tells nothing."""
        return not (abs(self.current_a) < STILL_A and self.current_s <= self.since_s)

    def _may_open(self) -> bool:
        """Whether the contacts may part: without current; else after the time for it, or for the fuse."""
        if abs(self.current_a) < STILL_A:
            return not self.only_still or abs(self.rack_a) < STILL_A
        if self.only_still:
            return False
        if abs(self.current_a) > self.plant.ratings.break_a(charging=self.current_a > 0.0):
            return self.since_s >= FUSE_WAIT_S
        return self.stop_now or self.since_s >= OPEN_LATEST_S


def _is_closed(feedback: int, output: bool) -> bool:
    """Whether a contactor is closed; without an auxiliary contact its output must do."""
    if feedback == Feedback.NOT_FITTED:
        return output
    return feedback == Feedback.CLOSED


def _time_out_s(plant: Plant, state: State) -> float:
    if state is S.PRECHARGE:
        # five time constants, and the time in which the relay acts and the voltage is reported
        constant_s = plant.ratings.precharge_ohm * plant.ratings.bus_capacitance_f
        return min(5.0 * constant_s + 2.0 * FEEDBACK_S, LONGEST_PRECHARGE_S)
    return 2.0 * FEEDBACK_S
