"""The web output of a gateway, for tests: the real server in a thread, fed from the real link."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import httpx

from bmsd.config.gateway import GatewaySettings
from bmsd.gateway.feed import STALE_S, Feed
from bmsd.gateway.standing import Standing
from bmsd.gateway.web.server import serve
from tests.gateway.control_end import wait_for
from tests.programs import free_port


def settings(link: Path, **web: Any) -> GatewaySettings:
    """Settings of a gateway that only serves web, on a free port."""
    return GatewaySettings.model_validate({
        "rack": {"name": "rack"},
        "link": {"socket": str(link)},
        "web": {"port": free_port(), **web},
    })  # fmt: skip


class WebEnd:
    """A gateway's feed and web output for as long as the block lasts. `client` asks it over real HTTP."""

    def __init__(self, link: Path, **web: Any) -> None:
        self.settings = settings(link, **web)
        self.late_s = 0.0
        """Moves the feed's clock on by hand: records look this much older."""
        self.feed = Feed(link, clock=lambda: time.monotonic() + self.late_s)
        self.base = f"http://127.0.0.1:{self.settings.web.port}"
        self.stream = f"ws://127.0.0.1:{self.settings.web.port}/api/v1/stream"

    def __enter__(self) -> WebEnd:
        self._thread = threading.Thread(target=asyncio.run, args=(self._run(),))
        self._thread.start()
        self.client = httpx.Client(base_url=self.base, timeout=20.0, trust_env=False)
        wait_for(self._listens)
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join()

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.create_task(self._both())
        await asyncio.wait([self._task])

    async def _both(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.feed.run())
            group.create_task(serve(self.settings, self.feed, Standing()))

    def _listens(self) -> bool:
        try:
            return self.client.get("/health/live").status_code == 200
        except httpx.TransportError:
            return False

    def until_good(self) -> None:
        """Wait until the record of control is good."""
        wait_for(lambda: self.client.get("/health").status_code == 200)

    def until_stale(self) -> None:
        """Make the record too old; control must not send another."""
        self.late_s = STALE_S
        wait_for(lambda: self.client.get("/health").status_code == 503)

    def get(self, path: str, status: int = 200, **parameters: Any) -> Any:
        """Return the JSON of an answer that must have this status."""
        answer = self.client.get(path, params=parameters)
        assert answer.status_code == status, answer.text
        return answer.json()
