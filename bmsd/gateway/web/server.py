"""REST, WebSocket stream and metrics over HTTP."""

from __future__ import annotations

from bmsd.config.gateway import GatewaySettings
from bmsd.errors import BusError
from bmsd.gateway.feed import Feed


async def serve(settings: GatewaySettings, feed: Feed) -> None:  # noqa: ARG001
    """Serve until cancelled. BusError when it cannot listen."""
    raise BusError("web: not built yet")
