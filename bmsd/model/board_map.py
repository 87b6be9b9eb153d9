"""How the signals of a board's DBC become measurements of a rack: what the integrator wrote, checked elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class Quantity(StrEnum):
    """What a signal may measure, in the unit of its name."""

    CELL_V = "cell_v"
    TEMPERATURE_DEGC = "temperature_degc"
    MODULE_V = "module_v"
    CURRENT_A = "current_a"
    STRING_V = "string_v"
    CONTACTORS = "contactors"
    """Whether the contactors of a string are closed."""


@dataclass(frozen=True)
class Source:
    """Which signals of which messages are one quantity: names with places such as `{module}` in them.

    `signals` is one pattern, or one name for each of the `items` (cells or sensors of a module, from 1). Empty
    `strings`, `modules`, `items`: all. `per_message`: items in one message, for `{block}`; 0: not used. `select`
    names the signal whose raw value must be `select_value` for the message to be meant. `id_step` is added to the
    identifier for each further board (of a string's value: for each further string).
    """

    quantity: Quantity
    message: str
    signals: tuple[str, ...]
    strings: tuple[int, ...] = ()
    modules: tuple[int, ...] = ()
    items: tuple[int, ...] = ()
    per_message: int = 0
    select: str = ""
    select_value: str = ""
    id_step: int = 0
    factor: float = 1.0
    closed_value: int = 1
    open_value: int = 0


@dataclass(frozen=True)
class Ask:
    """A frame that makes boards answer, always the same."""

    can_id: int
    extended: bool
    data: bytes


@dataclass(frozen=True)
class BoardMap:
    """The boards of a rack in the words of their DBC. Times in s.

    `alive_signal`, `checksum_signal`: names in every message that has them; empty: none. `discharge_positive`: the
    boards count the current of a discharge positive.
    """

    dbc: Path
    sources: tuple[Source, ...]
    asks: tuple[Ask, ...] = ()
    discharge_positive: bool = False
    alive_signal: str = ""
    checksum_signal: str = ""
    checksum: str = "sum"
    stale_s: float = 0.6
    temperature_stale_s: float = 3.0
    contactor_units: bool = False
    """Contactor units of the slave protocol are on the same bus: they measure the current and switch."""
