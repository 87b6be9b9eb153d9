"""The gateway's end of the link against control's real one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

from bmsd.gateway.feed import ACKNOWLEDGE_AFTER_S, MOST_WAITING, STALE_S, Feed
from bmsd.link.wire import Asked
from tests.gateway.control_end import ControlEnd, event


@asynccontextmanager
async def following(feed: Feed) -> AsyncIterator[Feed]:
    task = asyncio.create_task(feed.run())
    try:
        yield feed
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until(what: Callable[[], object], within_s: float = 20.0) -> None:
    async with asyncio.timeout(within_s):
        while not what():
            await asyncio.sleep(0.01)


async def test_the_newest_record_is_good_while_it_is_young(tmp_path: Path) -> None:
    with ControlEnd(tmp_path) as control:
        async with following(Feed(control.link)) as feed:
            first = await feed.next()
            assert feed.good() is not None
            assert feed.age_s() < STALE_S
            assert (await feed.next()).sequence > first.sequence
            assert feed.hello == control.hello


async def test_a_record_that_is_too_old_is_not_good(tmp_path: Path) -> None:
    late_s = 0.0
    with ControlEnd(tmp_path) as control:
        async with following(Feed(control.link, clock=lambda: time.monotonic() + late_s)) as feed:
            await feed.next()
            control.publishing = False
            late_s = STALE_S + 0.01
            assert feed.good() is None
            assert feed.newest is not None


async def test_without_control_nothing_is_good_and_a_question_is_answered(tmp_path: Path) -> None:
    async with following(Feed(tmp_path / "link.sock")) as feed:
        assert feed.good() is None
        assert feed.age_s() == float("inf")
        answer = await feed.ask(Asked("reset", "all"))
        assert not answer.taken
        assert "does not answer" in answer.text


async def test_the_feed_comes_back_with_control(tmp_path: Path) -> None:
    async with following(Feed(tmp_path / "link.sock")) as feed:
        with ControlEnd(tmp_path):
            await until(lambda: feed.good())
        await until(lambda: not feed.connected)
        with ControlEnd(tmp_path, boot_id="boot-2"):
            await until(lambda: feed.hello is not None and feed.hello.boot_id == "boot-2" and feed.good())
        assert feed.connects >= 2


async def test_a_record_of_an_earlier_start_is_not_shown_as_one_of_this(tmp_path: Path) -> None:
    async with following(Feed(tmp_path / "link.sock")) as feed:
        with ControlEnd(tmp_path):
            await until(lambda: feed.good())
        with ControlEnd(tmp_path, boot_id="boot-2") as control:
            control.publishing = False
            await until(lambda: feed.hello is not None and feed.hello.boot_id == "boot-2")
            assert feed.newest is None


async def test_a_control_that_cannot_be_read_is_asked_ever_less_often(tmp_path: Path) -> None:
    with ControlEnd(tmp_path) as control:
        control.server.publish = lambda _: [peer.send(b"\x02?") for peer in control.server._clients]  # type: ignore
        async with following(Feed(control.link)) as feed:
            await until(lambda: feed.connects >= 2)
            await asyncio.sleep(2.0)
            assert feed.connects < 10, "0.1, 0.2, 0.4, ... s: not ten times a second"
            assert feed.good() is None


async def test_events_reach_every_lane_once_and_in_order(tmp_path: Path) -> None:
    with ControlEnd(tmp_path) as control:
        async with following(Feed(control.link)) as feed:
            lanes = [feed.lane(), feed.lane()]
            control.tell(event(number) for number in (1, 2, 3))
            for lane in lanes:
                async with asyncio.timeout(20):
                    assert [(await lane.next()).number for _ in range(3)] == [1, 2, 3]


async def test_events_that_were_not_acknowledged_are_there_for_the_next_gateway(tmp_path: Path) -> None:
    with ControlEnd(tmp_path) as control:
        control.tell(event(number) for number in (1, 2, 3))
        async with following(Feed(control.link)) as feed:
            lane = feed.lane(acknowledging=True)
            async with asyncio.timeout(20):
                lane.done(await lane.next())
            await until(lambda: len(control.server._events) == 2)
        async with following(Feed(control.link)) as feed:
            lane = feed.lane(acknowledging=True)
            async with asyncio.timeout(20):
                assert [(await lane.next()).number for _ in range(2)] == [2, 3]


async def test_what_is_done_for_an_ended_control_process_is_not_done_for_the_next(tmp_path: Path) -> None:
    async with following(Feed(tmp_path / "link.sock")) as feed:
        lane = feed.lane(acknowledging=True)
        with ControlEnd(tmp_path) as control:
            control.tell(event(number) for number in (1, 2, 3))
            await until(lambda: feed._heard_number == 3)
        with ControlEnd(tmp_path, boot_id="boot-2") as control:
            control.tell(event(number) for number in (1, 2, 3))
            await until(lambda: feed.hello.boot_id == "boot-2" and feed._heard_number == 3)
            for _ in range(3):
                lane.done(await lane.next())
            await asyncio.sleep(2.0 * ACKNOWLEDGE_AFTER_S)
            assert (lane.boot_id, feed._acknowledged) == ("boot-1", 0)
            lane.put_back(await lane.next())
            lane.done(await lane.next())
            await until(lambda: (lane.boot_id, feed._acknowledged) == ("boot-2", 1))


async def test_a_request_does_not_wait_behind_the_acknowledgements_of_many_events(tmp_path: Path) -> None:
    with ControlEnd(tmp_path) as control:
        async with following(Feed(control.link)) as feed:
            lane = feed.lane(acknowledging=True)
            control.tell(event(number) for number in range(1, 501))
            async with asyncio.timeout(20):
                for _ in range(500):
                    lane.done(await lane.next())
            assert (await feed.ask(Asked("reset", "all"))).text.startswith("not taken on this socket")
            await until(lambda: not control.server._events)


def heard(feed: Feed, number: int) -> bool:
    return feed._heard_number == number


async def test_a_lane_that_nobody_empties_drops_the_oldest_and_counts(tmp_path: Path) -> None:
    with ControlEnd(tmp_path) as control:
        async with following(Feed(control.link)) as feed:
            await until(lambda: feed.connected)
            lane = feed.lane()
            for start in (1, 601):
                control.tell(event(number) for number in range(start, start + 600))
                await until(partial(heard, feed, start + 599))
            assert lane.dropped == 1200 - MOST_WAITING
            assert (await lane.next()).number == 1201 - MOST_WAITING
