"""What control publishes of each tick: one record, one instant."""

from __future__ import annotations

from dataclasses import dataclass, field

from bmsd.model.bound import Bound
from bmsd.model.command import Command
from bmsd.model.estimate import Estimate
from bmsd.model.fault import Fault
from bmsd.model.request import Lease
from bmsd.model.snapshot import Snapshot

PROTOCOL = 4


@dataclass(frozen=True, slots=True)
class StringStatus:
    """Contactors of one string: state, time in it in s, why it is not closed (empty: it is, or may)."""

    state: str
    since_s: float
    reason: str


@dataclass(frozen=True, slots=True)
class BusStatus:
    """Counters of one bus since start: frames received, sent, dropped by kind; what its controller reported by kind."""

    name: str
    channel: str
    received: int
    sent: int
    dropped: dict[str, int]
    errors: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Hello:
    """First message on the link: who is there and what shape its rack has.

    `configuration` and `catalogue` are hashes of all settings and of all rows: the same for what means the same.
    """

    protocol: int
    boot_id: str
    name: str
    strings: int
    modules: int
    cells: int
    sensors: int
    version: str = ""
    configuration: str = ""
    catalogue: str = ""
    tick_s: float = 0.1


@dataclass(frozen=True, slots=True)
class Published:
    """One tick for readers. `lifecycle` is what a user sees; `missing` names what is not there, in sentences.

    `charge_bounds`, `discharge_bounds`: all bounds, the binding one first. `lateness_s` is how much later than
    its nominal time the tick began. `leases` are the set-points in force. `events_forgotten`: events since start that
    made room before the readers had them.
    """

    sequence: int
    lifecycle: str
    snapshot: Snapshot
    estimate: Estimate
    faults: tuple[Fault, ...]
    charge_bounds: tuple[Bound, ...]
    discharge_bounds: tuple[Bound, ...]
    command: Command
    vetoes: tuple[str, ...]
    strings: tuple[StringStatus, ...]
    buses: tuple[BusStatus, ...]
    missing: tuple[str, ...]
    lateness_s: float
    leases: tuple[Lease, ...] = ()
    events_forgotten: int = 0
