"""A control process that answers requests as a test wants: the link's messages on a real socket, nothing behind."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from bmsd.link import wire
from bmsd.link.wire import Answer, Asked
from bmsd.model.published import PROTOCOL, Hello
from bmsd.model.request import Lease
from tests.gateway.control_end import STEP_S, record

TAKEN = Answer(True, "taken")


class ScriptedControl:
    """One reader at a time. `answer` says what each request gets, None: nothing; `asked` are those that came."""

    def __init__(self, folder: Path, answer: Callable[[Asked], Answer | None] = lambda asked: TAKEN) -> None:  # noqa: ARG005
        self.link = folder / "scripted.sock"
        self.answer = answer
        self.asked: list[Asked] = []
        self.boot_id = "boot-1"
        self.clock: Callable[[], float] = time.monotonic
        """What the leases that it publishes are measured with."""
        self._leases: dict[str, Lease] = {}
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(self.link))
        self._listener.listen(1)
        self._listener.settimeout(STEP_S)
        self._stop = threading.Event()
        self._restart = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def restart(self) -> None:
        """Leave, and come back as a process that was started anew."""
        self.boot_id = "boot-2"
        self._restart.set()

    def __enter__(self) -> ScriptedControl:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._listener.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            with suppress(TimeoutError):
                reader, _ = self._listener.accept()
                with reader, suppress(OSError):
                    self._serve(reader)

    def _serve(self, reader: socket.socket) -> None:
        self._restart.clear()
        self._leases.clear()
        reader.settimeout(STEP_S)
        shape = record().snapshot.modules
        sizes = (*shape.cell_v.shape, shape.temperature_degc.shape[2])
        reader.send(wire.pack(Hello(PROTOCOL, self.boot_id, "rack", *sizes)))
        published, sequence = record(), 0
        while not self._stop.is_set() and not self._restart.is_set():
            sequence += 1
            snapshot = replace(published.snapshot, now_s=time.monotonic())
            newest = replace(published, sequence=sequence, snapshot=snapshot, leases=self._in_force())
            reader.send(wire.pack(newest), socket.MSG_DONTWAIT)
            with suppress(TimeoutError):
                if not (data := reader.recv(wire.MOST_REQUEST_BYTES)):
                    return
                self._take(reader, wire.unpack(data))

    def _take(self, reader: socket.socket, message: wire.Message) -> None:
        if isinstance(message, Asked):
            self.asked.append(message)
            if (answer := self.answer(message)) is None:
                return
            if answer.taken and message.value is not None and message.lease_s is not None:
                until_s = self.clock() + message.lease_s
                self._leases[message.what] = Lease(message.what, message.value, until_s, message.source)
            reader.send(wire.pack(answer))

    def _in_force(self) -> tuple[Lease, ...]:
        return tuple(lease for lease in self._leases.values() if self.clock() < lease.until_s)
