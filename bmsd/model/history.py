"""How a rack was used and what its cells were like, over months and years."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bmsd.model.snapshot import Floats

Singles = NDArray[np.float32]

SCHEMA = 1
"""Of the file with the `History`."""


@dataclass(frozen=True, slots=True)
class Wear:
    """Use so far. `age_days`: time since the first tick, as far as it is known to have passed.

    Of strings (strings,): `warm_years`, the time at 25 degC that would age cells as much; `cycles`, equivalent full
    ones. The wall clock read `utc_s` (None: never) at `utc_age_days`; `exact`: it was synchronised. At `undated_days`
    (-inf: never) the rack was off for a time that nobody knows: it is not in the age.
    """

    age_days: float
    warm_years: Floats
    cycles: Floats
    utc_s: float | None = None
    utc_age_days: float = 0.0
    exact: bool = False
    undated_days: float = -np.inf


@dataclass(frozen=True, slots=True)
class Looks:
    """Looks of the balancing ledger at the drift over a week and a month, oldest first.

    Times by the ledger's clock in s (looks, strings), NaN: none; charge in Ah (looks, strings, modules, cells).
    """

    week_s: Floats
    week_ah: Floats
    month_s: Floats
    month_ah: Floats


@dataclass(frozen=True, slots=True)
class History:
    """Marks, oldest first: what was thought of the cells at `age_days` (marks,), and the wear by then (marks, strings).

    Of cells (marks, strings, modules, cells), NaN where nothing was learned since the mark before: capacity over the
    nominal one, resistance over that of the model, each with sigma. `wear` is that of the last mark. `looks`: those of
    the balancing ledger, in the file only.
    """

    wear: Wear
    age_days: Floats
    warm_years: Floats
    cycles: Floats
    capacity: Singles
    capacity_sigma: Singles
    resistance: Singles
    resistance_sigma: Singles
    looks: Looks | None = None
