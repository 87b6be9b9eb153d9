"""How the outputs stand: sockets that are given to them, which of them serve, and what those that serve lack."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Mapping, Sequence

Lacks = Callable[[], str]
"""Returns what an output lacks now, in a sentence; empty: nothing."""


class Standing:
    """Every output says once that it serves: its port is taken, or its work has begun."""

    def __init__(self, outputs: Iterable[str] = (), given: Mapping[str, Sequence[socket.socket]] | None = None) -> None:
        """`given` are the sockets that the service manager has opened, by the output that is to serve there."""
        self._serving: dict[str, Lacks | None] = dict.fromkeys(outputs)
        self._given = given or {}

    def given(self, output: str) -> Sequence[socket.socket]:
        """Return the sockets that were opened for this output."""
        return self._given.get(output, ())

    def serves(self, output: str, lacks: Lacks = lambda: "") -> None:
        """This output serves from now on."""
        self._serving[output] = lacks

    @property
    def complete(self) -> bool:
        return None not in self._serving.values()

    def sentence(self, more: str = "") -> str:
        """Return in one sentence what is missing, this among it, and what serves."""
        missing = [more] if more else []
        for output, lacks in self._serving.items():
            lacking = lacks() if lacks else "does not serve yet"
            missing += [f"{output}: {lacking}"] if lacking else []
        serving = [output for output, lacks in self._serving.items() if lacks]
        words = [f"missing: {'; '.join(missing)}"] if missing else []
        return "; ".join([*words, f"serves {', '.join(serving) or 'nothing'}"])
