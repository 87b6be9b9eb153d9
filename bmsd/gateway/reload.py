"""The configuration read again while the gateway runs: only the level of its log changes, the rest is named."""

from __future__ import annotations

import asyncio
from pathlib import Path

import structlog

from bmsd.config.changed import changes
from bmsd.config.gateway import GatewaySettings
from bmsd.config.load import load_gateway
from bmsd.errors import ConfigError
from bmsd.log import set_level
from bmsd.systemd.notify import Notifier

log = structlog.get_logger()


class Reload:
    """What is asked for by SIGHUP. `wrong` is what is wrong with the file as it was read last, in a sentence."""

    def __init__(self, path: Path, settings: GatewaySettings, manager: Notifier) -> None:
        self._path, self._settings, self._manager = path, settings, manager
        self._reading: asyncio.Task[None] | None = None
        self._done = False
        self.wrong = ""

    def ask(self) -> None:
        """Read the file, unless that is under way."""
        if self._reading is None or self._reading.done():
            self._manager.reloading()
            self._reading = asyncio.create_task(self._read())

    def take_done(self) -> bool:
        """Whether the file has been read since the last call."""
        done, self._done = self._done, False
        return done

    async def _read(self) -> None:
        try:
            read = await asyncio.to_thread(load_gateway, self._path)
        except Exception as error:  # the gateway goes on with what it has, whatever it was
            complaints = error.complaints if isinstance(error, ConfigError) else (repr(error),)
            self.wrong = f"the configuration file is wrong, the settings before hold: {'; '.join(complaints)}"
            log.error("configuration.refused", text=self.wrong, complaints=list(complaints))
        else:
            self.wrong = ""
            self._take(read)
        self._done = True

    def _take(self, read: GatewaySettings) -> None:
        found = list(changes(self._settings, read))
        level = read.log.level
        set_level(level)
        self._settings = self._settings.model_copy(
            update={"log": self._settings.log.model_copy(update={"level": level})}
        )
        applied = [str(change) for change in found if change.reloadable]
        waiting = [str(change) for change in found if not change.reloadable]
        if waiting:
            log.warning("configuration.waits", text="takes effect after a restart", settings=waiting)
        log.info("configuration.applied" if applied else "configuration.unchanged", settings=applied)
