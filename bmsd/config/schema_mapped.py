"""The settings of boards that their own DBC describes: [fieldbus.mapped]."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from bmsd.config.fields import Section, number, setting
from bmsd.model.layout import MAX_CELLS, MAX_MODULES, MAX_STRINGS


class MappedValue(Section):
    """Which signals are one quantity. Names may hold places: `{module}`, `{cell:02d}`; see docs/mapped-boards.md."""

    quantity: Literal["cell_v", "temperature_degc", "module_v", "current_a", "string_v", "contactors"] = setting(
        "What the signals measure."
    )
    message: str = setting("Name of the message in the DBC, with places.", min_length=1, max_length=100)
    signals: list[str] = setting(
        "Name of the signal with places, or one name for each of `items`.", min_length=1, max_length=MAX_CELLS
    )
    strings: list[Annotated[int, Field(ge=1, le=MAX_STRINGS)]] = setting("Strings; empty: all.", [])
    modules: list[Annotated[int, Field(ge=1, le=MAX_MODULES)]] = setting(
        "Modules of each string, from its minus end; empty: all.", []
    )
    items: list[Annotated[int, Field(ge=1, le=MAX_CELLS)]] = setting("Cells or sensors of each module; empty: all.", [])
    per_message: int = number("Cells or sensors in one message, for the place {block}; 0: not used.", "", 0, 64, 0)
    select: str = setting("Signal that says which of several contents the frame has; empty: the DBC's multiplexer.", "")
    select_value: str = setting("Raw value of `select` for this content, a number or places such as {cell0}.", "")
    id_step: int = number(
        "Added to the message's identifier for each further board (or string): the DBC describes only the first.",
        "", 0, 0xFFFFFF, 0,
    )  # fmt: skip
    factor: float = number("Makes V, A or degC of what the DBC's own scaling gives, such as 0.001 for mV.",
                           "", -1000.0, 1000.0, 1.0)  # fmt: skip
    closed_value: int = number("Quantity contactors: the raw value that says closed.", "", 0, 255, 1)
    open_value: int = number(
        "Quantity contactors: the raw value that says open. Any other says neither: the string may be closed.",
        "", 0, 255, 0,
    )  # fmt: skip


class MappedRequest(Section):
    """A frame that makes the boards answer, sent every poll."""

    id: int = number("Identifier.", "", 0, 0x1FFFFFFF)
    extended: bool = setting("Whether it has 29 bits.", False)
    data: str = setting(
        "Its bytes, in hexadecimal.",
        "",
        pattern=r"^([0-9a-fA-F]{2} ?){0,8}$",
        form='0 to 8 bytes such as "01 FF"',
    )


class Mapped(Section):
    """Boards of another maker, told by their DBC. Only used with driver = "mapped"."""

    dbc: str = setting("File with their messages; a relative path starts at this file's folder.", "", max_length=4096)
    units: Literal["none", "slave"] = setting(
        "Contactor units: none, or those of bmsd's slave protocol on the same bus. None: monitor only.", "none"
    )
    accept_unenforced: bool = setting(
        "Tell the inverter limits although nothing but itself enforces them. Otherwise it is told zero.", False
    )
    current_sign: Literal["not_measured", "charge_positive", "discharge_positive"] = setting(
        "Which current the boards count positive.", "not_measured"
    )
    stale_s: float = number("A voltage or current older than this is unknown; at most 3 polls.", "s", 0.1, 0.75, 0.6)
    temperature_stale_s: float = number("A temperature older than this is unknown; at most 15 polls.",
                                        "s", 0.1, 3.75, 3.0)  # fmt: skip
    alive_signal: str = setting("Counter that moves while a board measures, in every message that has it.", "")
    checksum_signal: str = setting("Byte with a checksum, in every message that has it.", "")
    checksum: Literal["sum", "sum_with_id", "xor", "crc8_sae_j1850"] = setting(
        "What it is of all other bytes; sum_with_id: also of identifier and length.", "sum"
    )
    values: list[MappedValue] = setting("What measures what.", [], max_length=256)
    requests: list[MappedRequest] = setting("Frames that ask; empty: the boards send by themselves.", [], max_length=64)
