"""The demo's MQTT broker: `python -m bmsd.broker PORT`, on this computer only. A rack uses the broker of its site."""

from __future__ import annotations

import asyncio
import signal
import sys

from amqtt.broker import Broker


def settings(port: int) -> dict[str, object]:
    """Return the broker's configuration: local, anonymous, nothing kept on disk."""
    return {
        "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}", "max_connections": 32}},
        "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
    }


async def serve(port: int) -> None:
    """Serve until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    broker = Broker(settings(port))
    await broker.start()
    await stop.wait()
    await broker.shutdown()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
