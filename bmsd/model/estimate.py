"""What is thought of the cells, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass

from bmsd.model.snapshot import Floats


@dataclass(frozen=True, slots=True)
class Estimate:
    """State of charge 0..1 and its standard deviation per cell (strings, modules, cells), capacity in Ah.

    `string_soc` follows the weakest cell (shape (strings,)); `soc` is the rack's, None when unknown.
    """

    cell_soc: Floats
    cell_soc_sigma: Floats
    cell_capacity_ah: Floats
    string_soc: Floats
    soc: float | None
    soc_sigma: float | None
    soh: float | None
