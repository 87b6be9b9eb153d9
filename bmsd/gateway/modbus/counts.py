"""What the Modbus server counts since its start."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Counts:
    """`connections` are those open now; all others only grow. `exceptions` by code."""

    connections: int = 0
    accepted: int = 0
    refused: int = 0
    """Connections over a limit."""
    idle: int = 0
    """Connections dropped for their silence, or because they did not take their answers."""
    malformed: int = 0
    """Connections closed for what is no Modbus."""
    requests: int = 0
    writes_taken: int = 0
    writes_refused: int = 0
    exceptions: Counter[int] = field(default_factory=Counter)
