"""The newest events, for those who ask later than they happened."""

from __future__ import annotations

from collections import deque
from dataclasses import asdict
from typing import Any

from bmsd.codec.plain import plain
from bmsd.gateway.feed import Feed
from bmsd.gateway.web.instant import utc
from bmsd.model.event import Event

MOST_KEPT = 1000


class Recent:
    """Keeps the newest events of all starts of control, each with the boot id of its start."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._kept: deque[tuple[str, Event]] = deque(maxlen=MOST_KEPT)
        self._lane = feed.lane()
        self._forgotten = 0

    async def run(self) -> None:
        """Take events until cancelled."""
        try:
            while True:
                self.keep(await self._lane.next())
        finally:
            self._feed.leave(self._lane)

    def keep(self, event: Event) -> None:
        """Add an event of control's present start."""
        assert self._feed.hello is not None
        self._forgotten += len(self._kept) == MOST_KEPT
        self._kept.append((self._feed.hello.boot_id, event))

    @property
    def dropped(self) -> int:
        """Events that are not here any more, or never were."""
        return self._forgotten + self._lane.dropped + self._feed.lost_events

    def after(self, number: int, most: int) -> tuple[list[dict[str, Any]], bool]:
        """Return the oldest events of control's present start after this number, and whether there are more."""
        boot_id = self._feed.hello.boot_id if self._feed.hello else ""
        found = [(boot, event) for boot, event in self._kept if boot == boot_id and event.number > number]
        return [_object(*one) for one in found[:most]], len(found) > most

    def newest(self, most: int) -> list[dict[str, Any]]:
        """Return the newest events of all starts, oldest first."""
        return [_object(*one) for one in list(self._kept)[-most:]]


def _object(boot_id: str, event: Event) -> dict[str, Any]:
    fields = plain(asdict(event))
    del fields["now_s"]
    return {"boot_id": boot_id, **fields, "utc": utc(fields.pop("utc_s"))}
