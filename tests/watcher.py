"""Reads every record of a running control process, to see afterwards whether anything moved its ticks."""

from __future__ import annotations

import threading
from pathlib import Path

from bmsd.errors import BusError
from bmsd.link.client import LinkClient
from bmsd.model.published import Published


class Watcher:
    """All records of the block, in order; `lateness_s` is how late each tick began."""

    def __init__(self, link: Path) -> None:
        self._client = LinkClient(link)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.sequences: list[int] = []
        self.lateness_s: list[float] = []
        self.codes: set[str] = set()

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._client.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._keep(self._client.next(timeout_s=1.0))
            except BusError:
                return

    def _keep(self, record: Published) -> None:
        self.sequences.append(record.sequence)
        self.lateness_s.append(record.lateness_s)
        self.codes |= {fault.code for fault in record.faults}
