"""What stands before every request."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from starlette.types import ASGIApp, Receive, Scope, Send

from bmsd.gateway.web.problem import problem


class Gate:
    """Lets one request into each turn of the loop, so that many at once do not hold up the gateway's other outputs.

    Requests with a body are refused before anything of it is read: nothing here takes one.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._turn = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._turn:
            await asyncio.sleep(0)
        if scope["type"] == "http" and _has_body(scope["headers"]):
            refusal = problem(413, "no request here has a body", {"connection": "close"})
            await refusal(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def _has_body(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    return any(name == b"transfer-encoding" or (name == b"content-length" and value != b"0") for name, value in headers)
