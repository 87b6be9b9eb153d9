"""The simulated rack on real buses: python-can, one loop, absolute times."""

from __future__ import annotations

import select
import signal
import threading
import time
from collections.abc import Callable, Iterable
from types import FrameType

import can

from bmsd.model.frame import Frame
from bmsd.sim.scenario import SimSettings
from bmsd.sim.world import SimWorld

LONGEST_WAIT_S = 0.005
SHORTEST_WAIT_S = 0.0005
_DRAIN = 500
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 2.0


class Port:
    """One bus: opened when it can be, closed on an error and opened again with growing pauses."""

    def __init__(self, interface: str, channel: str) -> None:
        self.interface, self.channel = interface, channel
        self.received = 0
        self.sent = 0
        self.dropped = 0
        """Frames that could not be sent."""
        self.error = "not opened yet"
        """Why the bus was not there the last time."""
        self._bus: can.BusABC | None = None
        self._pause_s = _FIRST_PAUSE_S
        self._retry_s = 0.0

    @property
    def up(self) -> bool:
        """Whether the bus is open."""
        return self._bus is not None

    def fileno(self) -> int | None:
        """Return the descriptor to wait on; None when the bus is closed or has none."""
        if self._bus is None:
            return None
        try:
            number = self._bus.fileno()
        except NotImplementedError:
            return None
        return number if number >= 0 else None

    def open(self, now_s: float) -> None:
        """Open the bus when its pause is over."""
        if self._bus is not None or now_s < self._retry_s:
            return
        try:
            self._bus = can.Bus(interface=self.interface, channel=self.channel)
            self._pause_s = _FIRST_PAUSE_S
        except (can.CanError, OSError) as error:
            self.error = getattr(error, "strerror", None) or str(error)
            self._wait(now_s)

    def read(self, now_s: float) -> list[Frame]:
        """Return the classic data frames that wait."""
        frames: list[Frame] = []
        try:
            while self._bus is not None and len(frames) < _DRAIN:
                message = self._bus.recv(0)
                if message is None:
                    break
                self.received += 1
                if not (message.is_error_frame or message.is_remote_frame or message.is_fd):
                    frames.append(Frame(message.arbitration_id, bytes(message.data), message.is_extended_id))
        except (can.CanError, OSError) as error:
            self._fail(now_s, error)
        return frames

    def write(self, frames: Iterable[Frame], now_s: float) -> None:
        """Send; a frame that the bus does not take is lost, as on a real one."""
        for frame in frames:
            if self._bus is None:
                self.dropped += 1
                continue
            message = can.Message(
                arbitration_id=frame.can_id, data=frame.data, is_extended_id=frame.extended, check=False
            )
            try:
                self._bus.send(message)
                self.sent += 1
            except can.CanOperationError:
                self.dropped += 1
            except (can.CanError, OSError) as error:
                self.dropped += 1
                self._fail(now_s, error)

    def close(self) -> None:
        """Close the bus."""
        if self._bus is not None:
            self._bus.shutdown()
            self._bus = None

    def _fail(self, now_s: float, error: Exception) -> None:
        self.error = str(error)
        self.close()
        self._wait(now_s)

    def _wait(self, now_s: float) -> None:
        self._retry_s = now_s + self._pause_s
        self._pause_s = min(2.0 * self._pause_s, _LONGEST_PAUSE_S)


def run(
    settings: SimSettings,
    field: tuple[str, str],
    inverter: tuple[str, str] | None = None,
    stop: threading.Event | None = None,
    watch: Callable[[SimWorld], None] | None = None,
    missing: Callable[[tuple[str, ...]], None] = lambda _: None,
) -> SimWorld:
    """Simulate until `stop` is set, SIGTERM or SIGINT; return the world as it was left.

    `field` and `inverter` are (interface, channel) of python-can. Without `inverter` nobody limits the
    rack's current and none flows. `watch` is called about ten times a second, `missing` with one sentence for
    each bus that is not there, whenever that changes. Signals are taken over only in the main thread, and given
    back at the end.
    """
    stop = stop or threading.Event()
    restore = _take_signals(stop)
    world = SimWorld(settings)
    ports = [Port(*field)] + ([Port(*inverter)] if inverter else [])
    absent: tuple[str, ...] = ()
    watch_s = 0.0
    try:
        while not stop.is_set():
            _wait(ports, world.next_due_s)
            now_s = time.monotonic()
            for port in ports:
                port.open(now_s)
            if absent != (absent := tuple(f"{port.channel}: {port.error}" for port in ports if not port.up)):
                missing(absent)
            heard = [port.read(now_s) for port in ports]
            said = world.step(now_s, *heard)
            for port, frames in zip(ports, said, strict=False):
                port.write(frames, now_s)
            if watch is not None and now_s >= watch_s:
                watch_s = now_s + 0.1
                watch(world)
    finally:
        for port in ports:
            port.close()
        restore()
    return world


def _wait(ports: list[Port], due_s: float) -> None:
    """Sleep until a frame arrives or is due, at most LONGEST_WAIT_S."""
    wait_s = min(max(due_s - time.monotonic(), SHORTEST_WAIT_S), LONGEST_WAIT_S)
    numbers = [number for port in ports if (number := port.fileno()) is not None]
    if numbers:
        select.select(numbers, [], [], wait_s)
    else:
        time.sleep(wait_s)


def _take_signals(stop: threading.Event) -> Callable[[], None]:
    if threading.current_thread() is not threading.main_thread():
        return lambda: None

    def leave(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGINT)}

    def restore() -> None:
        for number, what in before.items():
            signal.signal(number, what)

    return restore
