"""Something that happened: what readers must not miss between two records."""

from __future__ import annotations

from dataclasses import dataclass

from bmsd.model.host import ClockQuality


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened. `number` counts from 1 since control's start, without gaps; 0: not numbered yet.

    `kind` is such as fault.raised, fault.cleared, rack.state, string.state, request.taken, guard.veto;
    `severity` info, warning, alarm or trip; `text` a sentence. `code` is the fault's; string, module and item count
    from 1, None: not of one. `state` is the new one of a rack or string. `now_s` is monotonic; `utc_s` is wall time,
    None if unknown, `utc_quality` whether it may be believed.
    """

    number: int
    now_s: float
    utc_s: float | None
    kind: str
    severity: str
    text: str
    code: str = ""
    string: int | None = None
    module: int | None = None
    item: int | None = None
    value: float | None = None
    state: str = ""
    utc_quality: ClockQuality = ClockQuality.UNKNOWN
