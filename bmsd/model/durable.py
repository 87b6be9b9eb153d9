"""What survives a power cut."""

from __future__ import annotations

from dataclasses import dataclass

from bmsd.model.history import Singles, Wear
from bmsd.model.snapshot import Floats, Ints

SCHEMA = 5
"""2: with `commissioned`; 3: with `boot_id`, `now_s`, `starts_s`; 4: with `learned`; 5: with `wear` and `ledger`. An
older record is read as one without."""


@dataclass(frozen=True, slots=True)
class Ledger:
    """The balancing ledger of cells (strings, modules, cells): charge in excess with sigma (NaN: unknown), bled so far
    in Ah, and since all cells of the string were read; energy bled of strings (strings,).

    Its clock stood at `clock_s` when this was saved; `epoch_s`: UTC at the clock's zero, NaN: not known; `doubtful`: an
    unknown time has passed since the looks, which are in the history. What was bled over a week and a month.
    """

    excess_ah: Singles
    sigma_ah: Singles
    moved_ah: Singles
    blind_ah: Singles
    bled_wh: Floats
    clock_s: float
    epoch_s: float
    doubtful: bool
    week_bled_ah: Singles
    month_bled_ah: Singles


@dataclass(frozen=True, slots=True)
class Learned:
    """What estimators have learned beside the SoC.

    Of strings (strings,): offset of the current sensor in C with sigma, and hysteresis (-1..1). Of cells (strings,
    modules, cells): capacity over the nominal one as sums of weight and of weight times capacity, and resistance over
    that of the model as sums of predicted squared (strings,), predicted times seen, seen squared, events (strings,).
    `apart_variance`: the part of a cell's uncertain SoC that is of its difference to the string.
    """

    bias_c: Floats
    bias_sigma_c: Floats
    hysteresis: Floats
    capacity_weight: Floats
    capacity_product: Floats
    resistance_square: Floats
    resistance_product: Floats
    resistance_seen: Floats
    resistance_events: Floats
    ledger: Ledger | None = None
    apart_variance: Singles | None = None


@dataclass(frozen=True, slots=True)
class LatchRecord:
    """A latched fault: the row's code and the flat index of its subject."""

    code: str
    subject: int
    acknowledged: bool


@dataclass(frozen=True, slots=True)
class Durable:
    """Latches, and SoC with sigma per cell (strings, modules, cells; NaN: unknown), saved at `utc_s`.

    `commissioned` (strings, modules): unique numbers of the boards that belong to the rack, -1: nobody's place yet,
    None: none taken over yet.
    `running`: the process that saved this had not left in order. `connect`: strings are wanted closed.
    `boot_id` is that of the computer's start, whose monotonic clock stood at `now_s` when this was saved. `starts_s`:
    how long before that processes were started after an end out of order.
    """

    utc_s: float | None
    latches: tuple[LatchRecord, ...]
    soc: Floats
    soc_sigma: Floats
    running: bool = False
    connect: bool = True
    commissioned: Ints | None = None
    boot_id: str = ""
    now_s: float | None = None
    starts_s: tuple[float, ...] = ()
    learned: Learned | None = None
    wear: Wear | None = None
