"""What the gateway knows of control: its newest record and how old that is, its events, and the way to ask it.

One connection to the link for all outputs. Monotonic time is the same for all processes of a computer, so that the
age of a record is that of its measurement, however long it waited on the way.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import structlog

from bmsd.errors import BusError, FrameError
from bmsd.link.client import LinkClient
from bmsd.link.wire import Ack, Answer, Asked, Message
from bmsd.model.event import Event
from bmsd.model.published import Hello, Published

log = structlog.get_logger()

STALE_S = 2.0
"""An older record is never served as good."""
SILENT_S = 5.0
"""A link without a record for this long is opened anew."""
ACKNOWLEDGE_AFTER_S = 0.1
MOST_WAITING = 1024
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 2.0
SILENT = Answer(False, "control does not answer")


class Lane:
    """Events for one output, in order. The oldest are dropped and counted when it does not take them.

    An `acknowledging` lane holds back the acknowledgement to control until it is `done` with an event. Events of a
    control process that has ended meanwhile are still given; `boot_id` tells whose event was given last.
    """

    def __init__(self, acknowledging: bool, changed: Callable[[], None], control: str = "") -> None:
        self._waiting: deque[tuple[str, Event]] = deque()
        self._more = asyncio.Event()
        self._changed = changed
        self._control = control
        self.acknowledging = acknowledging
        self.boot_id = ""
        self.done_number = 0
        self.dropped = 0

    def begin(self, boot_id: str) -> None:
        """From now on events are those of this control process, which counts from 1."""
        self._control = boot_id
        self.done_number = 0

    def put(self, event: Event) -> None:
        """Add an event; never waits."""
        if len(self._waiting) >= MOST_WAITING:
            self._waiting.popleft()
            self.dropped += 1
        self._waiting.append((self._control, event))
        self._more.set()

    async def next(self) -> Event:
        """Wait for the next event and take it."""
        while not self._waiting:
            self._more.clear()
            await self._more.wait()
        self.boot_id, event = self._waiting.popleft()
        return event

    def put_back(self, event: Event) -> None:
        """Return the event that was given last and could not be delivered: it is the next one again."""
        self._waiting.appendleft((self.boot_id, event))
        self._more.set()

    def done(self, event: Event) -> None:
        """Say that the event given last and all before it are safe."""
        if self.boot_id == self._control:
            self.done_number = event.number
            self._changed()


class Feed:
    """The newest record of control for all outputs of the gateway. `clock` gives the monotonic time in s."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._client: LinkClient | None = None
        self._lanes: list[Lane] = []
        self._asked: deque[asyncio.Future[Answer]] = deque()
        self._ready = asyncio.Event()
        self._heard_number = 0
        self._acknowledged = 0
        self._acknowledging: asyncio.TimerHandle | None = None
        self.hello: Hello | None = None
        self.newest: Published | None = None
        self.records = 0
        """Records taken from the link since start."""
        self.connects = 0
        """Times that the link was opened since start."""
        self.lost_events = 0
        """Events that control had to forget before they were taken, since start."""

    @property
    def connected(self) -> bool:
        return self._client is not None

    def age_s(self) -> float:
        """Age of the newest record, s; inf when there is none."""
        return float("inf") if self.newest is None else self._clock() - self.newest.snapshot.now_s

    def good(self) -> Published | None:
        """Return the newest record, None when there is none or it is too old to be served as good."""
        return self.newest if self.age_s() <= STALE_S else None

    async def next(self) -> Published:
        """Wait for the next record."""
        self._ready.clear()
        await self._ready.wait()
        assert self.newest is not None
        return self.newest

    def lane(self, *, acknowledging: bool = False) -> Lane:
        """Return a lane of all events from now on and of those that wait in control."""
        lane = Lane(acknowledging, self._acknowledge, self.hello.boot_id if self.hello else "")
        self._lanes.append(lane)
        return lane

    def leave(self, lane: Lane) -> None:
        """Give no more events to this lane."""
        self._lanes.remove(lane)
        self._acknowledge()

    async def ask(self, asked: Asked, timeout_s: float = 2.0) -> Answer:
        """Send a request and return control's answer; one that says so when control does not answer in time."""
        if self._client is None:
            return SILENT
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        try:
            self._client.send(asked)
        except BusError:
            return SILENT
        self._asked.append(answer)
        try:
            async with asyncio.timeout(timeout_s):
                return await answer
        except TimeoutError:
            return SILENT

    async def run(self) -> None:
        """Keep the link open; with growing pauses while control is not there. Ends by cancellation only."""
        pause_s = FIRST_PAUSE_S
        while True:
            records = self.records
            try:
                await self._follow()
            except (BusError, FrameError) as error:
                if self.records > records:
                    pause_s = FIRST_PAUSE_S
                if pause_s == FIRST_PAUSE_S:
                    log.warning("link.lost", error=str(error))
            finally:
                self._close()
            await asyncio.sleep(pause_s)
            pause_s = min(2.0 * pause_s, LONGEST_PAUSE_S)

    async def _follow(self) -> None:
        """Follow one connection to its end, which is an error of it."""
        loop = asyncio.get_running_loop()
        client = await asyncio.to_thread(LinkClient, self._path)
        self._client = client
        self.connects += 1
        if self.hello is None or self.hello.boot_id != client.hello.boot_id:
            self._heard_number = self._acknowledged = 0
            self.newest = None  # that of an earlier start: not to be shown as one of this
            for lane in self._lanes:
                lane.begin(client.hello.boot_id)
        self.hello = client.hello
        client.send(Ack(0))
        log.info("link.open", rack=client.hello.name)
        readable = asyncio.Event()
        loop.add_reader(client.fileno(), readable.set)
        try:
            while True:
                async with asyncio.timeout(SILENT_S):  # wait_for may lose a cancellation
                    await readable.wait()
                readable.clear()
                for message in client.drain():
                    self._take(message)
        except TimeoutError:
            raise BusError(f"{self._path}: no record for {SILENT_S:g} s") from None
        finally:
            loop.remove_reader(client.fileno())

    def _take(self, message: Message) -> None:
        if isinstance(message, Published):
            self.newest = message
            self.records += 1
            self._ready.set()
        elif isinstance(message, Event):
            self._hear(message)
        elif isinstance(message, Answer) and self._asked:
            answer = self._asked.popleft()
            if not answer.done():
                answer.set_result(message)

    def _hear(self, event: Event) -> None:
        if event.number <= self._heard_number:
            return  # sent again after the link was opened anew
        self.lost_events += event.number - self._heard_number - 1 if self._heard_number else 0
        self._heard_number = event.number
        for lane in self._lanes:
            lane.put(event)
        self._acknowledge()

    def _acknowledge(self) -> None:
        """Tell control soon up to which event all lanes that matter are done: once for many, requests wait behind."""
        if self._acknowledging is None:
            loop = asyncio.get_running_loop()
            self._acknowledging = loop.call_later(ACKNOWLEDGE_AFTER_S, self._acknowledge_now)

    def _acknowledge_now(self) -> None:
        self._acknowledging = None
        done = [lane.done_number for lane in self._lanes if lane.acknowledging]
        number = min(done, default=self._heard_number)
        if number > self._acknowledged and self._client is not None:
            with suppress(BusError):
                self._client.send(Ack(number))
                self._acknowledged = number

    def _close(self) -> None:
        if self._acknowledging is not None:
            self._acknowledging.cancel()
            self._acknowledge_now()
        if self._client is not None:
            self._client.close()
        self._client = None
        while self._asked:
            answer = self._asked.popleft()
            if not answer.done():
                answer.set_result(SILENT)
