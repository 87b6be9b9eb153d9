"""The control process: the loop that sleeps, drains, ticks and sends, and the way in and out of it.

Theory of operation. One thread, absolute times. Each turn of the loop drains both buses, lets the poller send
its SYNC, runs the tick when it is due, and lets the inverter's port send what is due. Heartbeat, contactor
commands and limits exist only as the product of a finished tick: a hung tick says nothing, and what it decided is
not sent once it speaks of the past (a process that was stopped in the middle of a tick goes on there).
"""

from __future__ import annotations

import math
import select
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType

from bmsd.clock import Steps, step_text, utc
from bmsd.control.composition import Checked, checked
from bmsd.control.computer import boot_id, reset_by_watchdog
from bmsd.control.heartbeat_output import Output
from bmsd.control.host import ComputerReader
from bmsd.control.journal import Journal
from bmsd.control.rack_io import RackIO
from bmsd.control.realtime import settle
from bmsd.control.records import Records
from bmsd.control.reload import REFUSED, Reloaded, Reloader, told
from bmsd.control.state_file import HISTORY, STATE, Saver, load
from bmsd.control.status_line import status_line
from bmsd.core import memory as memories
from bmsd.core.contactors import State
from bmsd.core.protection.protect import Protections
from bmsd.core.starts import Began, starts
from bmsd.core.tick import Outcome, tick
from bmsd.errors import DEFECT
from bmsd.fieldbus.bus import CanPort
from bmsd.inverters.port import TICK_EXPIRES_S
from bmsd.log import configure, set_level
from bmsd.model.durable import Durable, LatchRecord
from bmsd.model.host import Host
from bmsd.model.published import Published
from bmsd.model.request import Request, Shutdown
from bmsd.model.snapshot import Snapshot
from bmsd.systemd.notify import Notifier

STOP_WITHIN_S = 10.0
GATHER_S = 0.010
"""Frames that come within this time of one another are read together: each waits for so long at most."""
STOP_AGAIN_S = 0.25
"""After a defect a limit frame that came too soon after the one before is said once more; intervals are 0.2 s."""
TOLD_STEP_S = 2.0
LONGEST_TICK_S = TICK_EXPIRES_S
"""An outcome that is ready later than this after its snapshot is not sent."""
STATUS_EVERY_S = 1.0


class Control:
    """One rack under control: memory, the edges, and what is due when."""

    def __init__(
        self, rack: Checked, clock: Callable[[], float] = time.monotonic, manager: Notifier | None = None
    ) -> None:
        """`clock` gives the monotonic time in s, of which `turn` is told the reading at its start.

        `manager` is told how the process is; a sign of life is given only by a tick that was finished and sent.
        """
        self._rack = rack
        self._clock = clock
        self._manager = manager or Notifier({})
        self._reloader = Reloader()
        self._wrong_file = ""
        self._status_due_s = 0.0
        self._plant = rack.plant
        self._journal = Journal(clock)
        self.io = RackIO(rack)
        self._protections = Protections.of(self._plant, self.io.bus_count)
        self._memory = memories.start(self._plant, self._protections)
        self._restore()
        self._records = Records(rack, self.io, self._journal)
        self._saver = Saver(rack.state_directory, STATE)
        self._marks = self._memory.estimation.marks
        self._history_saver = Saver(rack.state_directory, HISTORY)
        self._computer = ComputerReader(rack.state_directory, clock=clock)
        self._clock_steps = Steps()
        relay = rack.settings.heartbeat_output
        self._heartbeat = Output(relay) if relay.chip else None
        self._saved = self._lasting(memories.durable(self._protections, self._memory, None))
        self._save_due_s = 0.0
        self._unsaved: str | None = None
        self._next_tick_s = 0.0
        self._last_tick_s: float | None = None
        self._stopping_since_s: float | None = None
        self.outcome: Outcome | None = None

    def open(self, now_s: float, settled: Sequence[str] = ()) -> None:
        """Open buses and the link; `settled` says how the process runs.

        BusError when the link cannot listen; a bus that is not there is tried again.
        """
        for note in self._rack.notes():
            self._journal.say("configuration.note", "alarm", note)
        self._records.open()
        self._computer.start()
        self.io.open(now_s)
        self._next_tick_s = now_s + self._plant.timing.tick_s
        self._save_due_s = now_s  # from the first tick on the file says that a process runs
        self._journal.say("control.running", "info", f"control of rack {self._plant.name} runs")
        if settled:
            self._journal.say("service.scheduling", "info", "; ".join(settled))
        self._manager.ready("the link listens, the first tick is to come")
        if self._manager.error:
            self._journal.say("service.not_told", "warning", self._manager.error)

    def stop(self, now_s: float) -> None:
        """Begin to leave: limits to zero, strings opened in order."""
        if self._stopping_since_s is None:
            self._stopping_since_s = now_s
            self._manager.stopping("asked to leave: limits to zero, strings open in order")
            self._journal.say(
                "control.stopping", "info", "control is asked to leave: limits to zero, strings open in order"
            )

    def reload(self) -> None:
        """Begin to read the configuration again; the turn that finds it read applies it between two ticks."""
        if self._stopping_since_s is None:
            self._manager.reloading()
            self._reloader.ask()

    def left(self, now_s: float) -> bool:
        """Whether the process may end: it was told to stop, and the strings are open or the time is over."""
        if self._stopping_since_s is None:
            return False
        if now_s - self._stopping_since_s > STOP_WITHIN_S:
            return True
        outcome = self.outcome
        if outcome is None or not outcome.memory.stopping:
            return False
        opening = self._plant.switches and any(string.state is State.OPENING for string in outcome.contactors)
        return not outcome.started or (not opening and self.io.may_end(outcome.snapshot))

    def due_s(self) -> float:
        """When the next turn is due at the latest."""
        return min(self._next_tick_s, self.io.due_s)

    def turn(self, now_s: float) -> None:
        """One turn of the loop at this monotonic time."""
        self.io.receive(now_s)
        self.io.poll(now_s)
        if found := self._reloader.step(self._rack):
            self._apply(found)
        if now_s >= self._next_tick_s:
            self._tick(now_s)
        # a tick takes its time: gaps between frames count from when they are really sent
        self.io.pace(self._clock())

    def fail(self, now_s: float) -> None:
        """The last act after a defect of ours: zero limits, save, close; nothing is sent afterwards."""
        try:
            if self.outcome is not None and self.outcome.started:
                last = self.outcome.command
                if not self.io.send_stop(now_s, last):
                    time.sleep(STOP_AGAIN_S)
                    self.io.send_stop(self._clock(), last)
        finally:
            text = "a defect of bmsd: limits to zero, control ends, the units open by themselves"
            self._manager.stopping(text)
            self._journal.say("control.defect", "trip", text, exc_info=True)
            self.close(in_order=False)

    def close(self, *, in_order: bool = True) -> None:
        """Save what lasts, say goodbye, close."""
        self._saver.save(memories.durable(self._protections, self._memory, utc()[0], running=not in_order))
        if not (self._saver.close(timeout_s=3.0) and self._history_saver.close(timeout_s=0.5)):
            self._not_saved("the disk did not finish in time")
        elif self._save_error:
            self._not_saved(self._save_error)
        self._journal.say("control.left", "info", "control leaves" + ("" if in_order else " after a defect"))
        self._records.close()
        self._computer.close()
        if self._heartbeat is not None:
            self._heartbeat.close()
        self.io.close()

    def _tick(self, now_s: float) -> None:
        period_s = self._plant.timing.tick_s if self._last_tick_s is None else now_s - self._last_tick_s
        lateness_s = now_s - self._next_tick_s
        requests: list[Request] = self._records.requests(now_s)
        if self._stopping_since_s is not None:
            requests.append(Shutdown())
        snapshot = self.io.snapshot(now_s, self._host(now_s, period_s), tuple(requests), utc())
        outcome = tick(self._plant, self._protections, self._memory, snapshot)
        self._memory = outcome.memory
        ready_s = self._clock()
        in_time = ready_s - now_s <= LONGEST_TICK_S
        if in_time:
            self.io.send(ready_s, outcome.command, started=outcome.started, stopping=outcome.memory.stopping)
        self._beat(ready_s, outcome, sent=in_time)
        self._last_tick_s = now_s
        # absolute times: lateness does not add up; after a stall the missed ticks are not made up for
        self._next_tick_s += self._plant.timing.tick_s
        if self._next_tick_s <= now_s:
            self._next_tick_s = now_s + self._plant.timing.tick_s
        published = self._records.tell(outcome, lateness_s)
        self.outcome = outcome
        self._save(outcome.snapshot)
        self._tell_manager(published, in_time=in_time)

    def _tell_manager(self, published: Published, *, in_time: bool) -> None:
        now_s = published.snapshot.now_s
        if in_time:
            self._manager.alive(now_s)
        if now_s >= self._status_due_s:
            self._status_due_s = now_s + STATUS_EVERY_S
            self._manager.status(status_line(published, self._wrong_file))

    def _apply(self, found: Reloaded) -> None:
        """Go on with the settings that were read. Memory stays: it has the shape of the rack, which cannot change."""
        self._rack, self._plant = found.rack, found.rack.plant
        self._protections = Protections.of(self._plant, self.io.bus_count)
        self._records.reconfigured(found.rack)
        set_level(found.rack.settings.log.level)
        for kind, severity, text, more in told(found):
            self._journal.say(kind, severity, text, **more)
            self._wrong_file = text if kind == REFUSED else ""
        if self._stopping_since_s is None:
            self._manager.ready(self._wrong_file or "the configuration was read again")
        self._status_due_s = 0.0

    def _host(self, now_s: float, period_s: float) -> Host:
        step_s = self._clock_steps.step_s()
        if abs(step_s) > TOLD_STEP_S:
            self._journal.say("clock.stepped", "info", step_text(step_s))
        return Host(
            period_s,
            self.io.blocked_frames,
            self._computer.now(now_s),
            self._saver.saving,
            step_s,
            math.nan if self._heartbeat is None else self._heartbeat.failed,
        )

    def _beat(self, now_s: float, outcome: Outcome, *, sent: bool) -> None:
        """Move the safety relay's line for a tick that was finished and sent, as the heartbeat on the bus."""
        if self._heartbeat is None:
            return
        before = self._heartbeat.error
        self._heartbeat.tick(now_s, wanted=sent and outcome.command.heartbeat, idle=_idle(outcome))
        if self._heartbeat.error and self._heartbeat.error != before:
            self._journal.say("heartbeat.output", "alarm", f"heartbeat output: {self._heartbeat.error}")

    def _save(self, now: Snapshot) -> None:
        """Save at once when a latch, the boards or the wish to connect changed, else every period."""
        self._say_unsaved()
        marks = self._memory.estimation.marks
        if any(new is not old for new, old in zip(marks, self._marks, strict=True)):
            self._marks = marks
            self._history_saver.save(memories.history(self._memory))
        durable = memories.durable(self._protections, self._memory, now.utc_s)
        lasting = self._lasting(durable)
        if lasting == self._saved and now.now_s < self._save_due_s:
            return
        self._saved = lasting
        self._save_due_s = now.now_s + self._rack.save_period_s
        self._saver.save(durable)

    @staticmethod
    def _lasting(durable: Durable) -> tuple[bool, frozenset[LatchRecord], list[list[int]]]:
        boards = [] if durable.commissioned is None else durable.commissioned.tolist()
        return durable.connect, frozenset(durable.latches), boards

    def _say_unsaved(self) -> None:
        """Say once when the disk begins to refuse, and once when it takes the state again: control goes on."""
        error = self._save_error
        if error != self._unsaved:
            self._unsaved = error
            if error:
                self._not_saved(error)
            else:
                self._journal.say("state.saved_again", "info", "the state is saved again")

    @property
    def _save_error(self) -> str | None:
        return self._saver.error or self._history_saver.error

    def _not_saved(self, error: str) -> None:
        text = f"latches, SoC and counters are not saved: {error}"
        self._journal.say("state.not_saved", "alarm", text)

    def _restore(self) -> None:
        began = Began(boot_id(), self._clock(), reset_by_watchdog())
        found, older = (load(self._rack.state_directory, kind) for kind in (STATE, HISTORY))
        for note in found.notes + older.notes:
            self._journal.say("state.unreadable", "alarm", note)
        if found.value is None:
            # a file that was there and cannot be read may have held latches: nothing closes by itself
            fresh = replace(self._memory, unread=bool(found.notes), starts=starts(None, began))
            self._memory, notes = memories.followed(self._plant, fresh, None, older.value)
            for note in notes:
                self._journal.say("state.partly_used", "warning", note)
            self._journal.say("state.new", "info", f"no saved state in {self._rack.state_directory}")
            return
        self._memory, notes = memories.restore(
            self._plant, self._protections, found.value, utc()[0], began, older.value
        )
        # the generation before the newest may lack its latches
        self._memory = replace(self._memory, unread=bool(found.notes))
        for note in notes:
            self._journal.say("state.partly_used", "warning", note)
        latches = ", ".join(latch.code for latch in found.value.latches) or "none"
        self._journal.say("state.restored", "info", f"state restored, latched: {latches}")


def run_file(path: Path) -> int:
    """Run the control process of this configuration until SIGTERM or SIGINT; return its exit code.

    ConfigError when the configuration is wrong, BusError when the link cannot listen.
    """
    rack = checked(path)
    writer = configure(rack.settings.log.level, rack.settings.log.format)
    try:
        return _run(Control(rack, manager=Notifier()))
    finally:
        writer.close()


def _run(control: Control) -> int:
    asked = _Signals()
    settled = list(settle())
    now_s = time.monotonic()
    control.open(now_s, settled)
    try:
        while not control.left(now_s):
            wait(control.io.readable, control.due_s(), silent=control.io.silent(time.monotonic()))
            now_s = time.monotonic()
            if asked.stop:
                control.stop(now_s)
            if asked.take_reload():
                control.reload()
            control.turn(now_s)
    except Exception:
        # ours: the safe command, then exit loudly; the heartbeat stops with us
        control.fail(time.monotonic())
        return DEFECT
    control.close()
    return 0


def _idle(outcome: Outcome) -> bool:
    """Whether no contactor is told or reported to be closed."""
    command, units = outcome.command, outcome.snapshot.units
    told = command.close_minus | command.close_precharge | command.close_plus
    return not bool((told | units.minus_output | units.precharge_output | units.plus_output).any())


def wait(buses: Sequence[CanPort], until_s: float, *, silent: bool) -> None:
    """Wait until then at the latest: on silent buses until a frame comes, else until those that come have gathered."""
    if silent and not select.select(buses, (), (), max(until_s - time.monotonic(), 0.0))[0]:
        return
    # also on a silent bus: error frames may come by the thousand where nobody answers
    time.sleep(max(min(until_s - time.monotonic(), GATHER_S), 0.0))


class _Signals:
    """SIGTERM and SIGINT ask to leave in order, SIGHUP to read the configuration again."""

    def __init__(self) -> None:
        self.stop = False
        self._reload = False
        signal.signal(signal.SIGTERM, self._on)
        signal.signal(signal.SIGINT, self._on)
        signal.signal(signal.SIGHUP, self._on)

    def take_reload(self) -> bool:
        """Whether a reload was asked for since the last call."""
        asked, self._reload = self._reload, False
        return asked

    def _on(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if number == signal.SIGHUP:
            self._reload = True
        else:
            self.stop = True
