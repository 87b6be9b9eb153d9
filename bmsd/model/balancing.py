"""What is known of the charge that cells have too much of, and of what balancing does about it."""

from __future__ import annotations

from dataclasses import dataclass

from bmsd.model.history import Singles
from bmsd.model.snapshot import Bools, Floats


@dataclass(frozen=True, slots=True)
class Balancing:
    """Of cells (strings, modules, cells) and of strings (strings,); NaN: unknown.

    `todo_ah`: charge above the emptiest cell of the string, counted from full, with its sigma. `wanted`: cells that the
    ledger would bleed now. `moved_ah`: charge that went through the cell's bleeder so far. `leak_ma`: what the cell
    drains itself by, more than the median of its string, with its sigma.
    `known` (strings,): the ledger knows all cells of the string well enough to decide by it. `time_s`: until nothing is
    left to bleed, at the share of the time (`duty`) in which bleeding went on in the last 24 h; 0: nothing is.
    `bled_wh`: energy that bleeders have turned into heat so far. `load`: share of the balancing current that the drift
    of the cells asks for; above 1 balancing does not keep up.
    """

    todo_ah: Singles
    todo_sigma_ah: Singles
    wanted: Bools
    moved_ah: Singles
    leak_ma: Singles
    leak_sigma_ma: Singles
    known: Bools
    time_s: Floats
    time_sigma_s: Floats
    duty: Floats
    bled_wh: Floats
    load: Floats
